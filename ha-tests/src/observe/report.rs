//! Words and JSON for what the observer saw.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::timeline::{KINDS, Timeline};
use crate::lab::net::{Mac, mac_of, mac_text};
use crate::lab::state::LabState;

/// Which node has which MAC address.
#[derive(Debug, Clone, Default)]
pub struct Names(BTreeMap<Mac, u64>);

impl Names {
    /// The nodes of a lab.
    #[must_use]
    pub fn of(lab: &LabState) -> Names {
        Names(lab.nodes.iter().map(|n| (mac_of(n.host), n.id)).collect())
    }

    /// The node with that MAC address.
    #[must_use]
    pub fn node(&self, mac: &Mac) -> Option<u64> {
        self.0.get(mac).copied()
    }

    /// `node 2`, or the MAC address of a stranger.
    #[must_use]
    pub fn text(&self, mac: &Mac) -> String {
        self.node(mac).map_or_else(|| mac_text(mac), |id| format!("node {id}"))
    }
}

fn ms(ns: u64) -> f64 {
    // Microseconds are enough, and 53 bits hold them for centuries.
    (ns / 1_000) as f64 / 1_000.0
}

/// The document that `observe --json` prints. Times are ms since the observer started.
#[must_use]
pub fn json(t: &Timeline, names: &Names, length: u64) -> Value {
    let evidence = t.two_owners();
    json!({
        "seconds": ms(length) / 1_000.0,
        "probes": KINDS.iter().map(|k| {
            let (sent, answered) = t.counts(*k);
            (k.name().to_owned(), json!({"sent": sent, "answered": answered}))
        }).collect::<serde_json::Map<_, _>>(),
        "owners": t.tenures().iter().map(|o| json!({
            "node": names.node(&o.mac), "mac": mac_text(&o.mac),
            "from_ms": ms(o.first_sent), "to_ms": ms(o.last_at), "answers": o.answers,
        })).collect::<Vec<_>>(),
        "gaps": t.gaps(0, u64::MAX).iter().map(|g| json!({
            "kind": g.kind.name(), "from_ms": ms(g.from), "to_ms": ms(g.to), "ms": ms(g.to - g.from), "open": g.open,
        })).collect::<Vec<_>>(),
        "two_owners": !evidence.is_empty(),
        "evidence": evidence.iter().map(|e| json!({
            "at_ms": ms(e.at), "nodes": e.macs.map(|m| names.node(&m)), "macs": e.macs.map(|m| mac_text(&m)),
            "text": e.text,
        })).collect::<Vec<_>>(),
        "truncated": t.truncated(),
    })
}

/// Prints a line for each owner that is new since `told` owners; returns how many there are.
#[must_use]
pub fn tell_new(t: &Timeline, names: &Names, told: usize) -> usize {
    let tenures = t.tenures();
    for o in tenures.iter().skip(told) {
        say!("{:>12.3} ms  {} answers", ms(o.first_sent), names.text(&o.mac));
    }
    tenures.len()
}

/// The closing words for people.
#[must_use]
pub fn summary(t: &Timeline, names: &Names) -> String {
    let mut text = String::new();
    for kind in KINDS {
        let (sent, answered) = t.counts(kind);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>5}: {sent} probes, {answered} answered", kind.name());
    }
    for g in t.gaps(0, u64::MAX) {
        let open = if g.open { ", still silent" } else { "" };
        let _ = writeln!(
            text,
            "{:>5}: silent for {:.1} ms from {:.3} ms{open}",
            g.kind.name(),
            ms(g.to - g.from),
            ms(g.from)
        );
    }
    let evidence = t.two_owners();
    if evidence.is_empty() {
        text += "never two owners\n";
    }
    for e in evidence {
        let [a, b] = e.macs.map(|m| names.text(&m));
        let _ = writeln!(text, "TWO OWNERS, {a} and {b}: {}", e.text);
    }
    text
}
