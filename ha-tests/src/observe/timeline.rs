//! Who answered when: the pure half of the observer. No sockets, no clock; times come in as nanoseconds since start.
//!
//! What counts as **two owners**:
//!
//! | evidence | why it is one |
//! |---|---|
//! | one broadcast probe, answered by two MAC addresses | both held the address when it passed |
//! | X answered; then Y answered a probe; then X answered a probe that was sent after Y's answer had arrived, and Y's tenure was shorter than [`MIN_TENURE_NS`] | an old owner that speaks after the new one. Ownership that really goes X → Y → X takes a grant, an election or a transfer each way, and Y keeps it for longer than that |
//!
//! `sent` is stamped before the probe leaves and `at` after its answer arrived, so a slow observer can only make two
//! answers look further apart in time, never turn a proper hand-over into an overlap.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::lab::net::Mac;

/// Shortest time a node is taken to have owned the address between two tenures of another node, ns.
pub const MIN_TENURE_NS: u64 = 100_000_000;
/// Shortest silence that is reported as a gap, ns.
pub const MIN_GAP_NS: u64 = 10_000_000;
/// Most probes that are remembered (some hours); later ones are not recorded and the report says so.
pub const MAX_PROBES: usize = 8_000_000;
/// Most pieces of evidence that a report lists.
const MAX_EVIDENCE: usize = 20;

/// How the address was probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// ARP who-has, broadcast.
    Arp,
    /// IPv6 neighbour solicitation, multicast.
    Ns,
    /// ICMP echo in a broadcast frame.
    Icmp,
    /// SIP OPTIONS over UDP, sent the way a phone sends it.
    Sip,
}

/// All kinds.
pub const KINDS: [Kind; 4] = [Kind::Arp, Kind::Ns, Kind::Icmp, Kind::Sip];

impl Kind {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Arp => "arp",
            Kind::Ns => "ns",
            Kind::Icmp => "icmp",
            Kind::Sip => "sip",
        }
    }
}

#[derive(Debug, Clone)]
struct Probe {
    kind: Kind,
    sent: u64,
    /// The first answer.
    first: Option<(u64, Mac)>,
    /// The first answer by somebody else.
    other: Option<(u64, Mac)>,
}

/// Everything seen so far.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    probes: Vec<Probe>,
    /// Newest probe of each kind and id; ids are used again, only the newest can be meant.
    open: BTreeMap<(Kind, u32), usize>,
    truncated: bool,
}

/// A time during which one node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenure {
    /// Who.
    pub mac: Mac,
    /// When the first probe it answered was sent, ns.
    pub first_sent: u64,
    /// When its answer to that probe arrived, ns.
    pub first_at: u64,
    /// When the last probe it answered was sent, ns.
    pub last_sent: u64,
    /// When its last answer arrived, ns.
    pub last_at: u64,
    /// Answers.
    pub answers: u64,
}

/// A time during which probes of one kind were not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Kind of probe.
    pub kind: Kind,
    /// When the first unanswered probe was sent, ns.
    pub from: u64,
    /// When the next answered probe was sent, ns; of the last probe if none was answered any more.
    pub to: u64,
    /// True if no later probe was answered.
    pub open: bool,
}

/// Two owners: what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// When (the probe that proves it was sent), ns.
    pub at: u64,
    /// The two MAC addresses.
    pub macs: [Mac; 2],
    /// What happened, in words with times in ms.
    pub text: String,
}

impl Timeline {
    /// A probe leaves.
    pub fn sent(&mut self, kind: Kind, id: u32, now: u64) {
        if self.probes.len() >= MAX_PROBES {
            self.truncated = true;
            return;
        }
        self.open.insert((kind, id), self.probes.len());
        self.probes.push(Probe { kind, sent: now, first: None, other: None });
    }

    /// An answer to probe `id` arrived in a frame from `mac`. An answer to nothing that was asked is ignored.
    pub fn answered(&mut self, kind: Kind, id: u32, now: u64, mac: Mac) {
        let Some(probe) = self.open.get(&(kind, id)).and_then(|i| self.probes.get_mut(*i)) else { return };
        match probe.first {
            None => probe.first = Some((now, mac)),
            Some((_, first)) if first != mac && probe.other.is_none() => probe.other = Some((now, mac)),
            Some(_) => {}
        }
    }

    /// True if there were more than [`MAX_PROBES`].
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Probes sent and answered of a kind.
    #[must_use]
    pub fn counts(&self, kind: Kind) -> (u64, u64) {
        let of_kind = self.probes.iter().filter(|p| p.kind == kind);
        of_kind.fold((0, 0), |(s, a), p| (s + 1, a + u64::from(p.first.is_some())))
    }

    /// Who answered, in the order in which the probes were sent.
    #[must_use]
    pub fn tenures(&self) -> Vec<Tenure> {
        let mut all: Vec<Tenure> = Vec::new();
        for p in &self.probes {
            let Some((at, mac)) = p.first else { continue };
            match all.last_mut() {
                Some(t) if t.mac == mac => {
                    t.last_sent = p.sent;
                    t.last_at = t.last_at.max(at);
                    t.answers += 1;
                }
                _ => all.push(Tenure {
                    mac,
                    first_sent: p.sent,
                    first_at: at,
                    last_sent: p.sent,
                    last_at: at,
                    answers: 1,
                }),
            }
        }
        all
    }

    /// Every proof of two owners (the first `MAX_EVIDENCE`).
    #[must_use]
    pub fn two_owners(&self) -> Vec<Evidence> {
        let ms = |ns: u64| format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000);
        let mut found = Vec::new();
        for p in &self.probes {
            if let (Some((at, a)), Some((later, b))) = (p.first, p.other) {
                let text = format!(
                    "one {} probe sent at {} was answered by two: at {} and at {}",
                    p.kind.name(),
                    ms(p.sent),
                    ms(at),
                    ms(later)
                );
                found.push(Evidence { at: p.sent, macs: [a, b], text });
            }
        }
        for w in self.tenures().windows(3) {
            let [old, new, back] = w else { continue };
            let short = new.last_sent.saturating_sub(new.first_sent) < MIN_TENURE_NS
                && back.first_sent.saturating_sub(new.first_sent) < MIN_TENURE_NS;
            if old.mac == back.mac && short && back.first_sent >= new.first_at {
                let text = format!(
                    "the old owner (until {}) answered a probe sent at {}, after another node had answered at {} \
                     the probe of {}",
                    ms(old.last_sent),
                    ms(back.first_sent),
                    ms(new.first_at),
                    ms(new.first_sent)
                );
                found.push(Evidence { at: back.first_sent, macs: [old.mac, new.mac], text });
            }
        }
        found.sort_by_key(|e| e.at);
        found.truncate(MAX_EVIDENCE);
        found
    }

    /// Silences of at least [`MIN_GAP_NS`] that touch `from..to`, by kind and time.
    #[must_use]
    pub fn gaps(&self, from: u64, to: u64) -> Vec<Gap> {
        let mut found = Vec::new();
        for kind in KINDS {
            let mut silent: Option<(u64, u64)> = None;
            for p in self.probes.iter().filter(|p| p.kind == kind) {
                match (p.first, silent) {
                    (None, None) => silent = Some((p.sent, p.sent)),
                    (None, Some((start, _))) => silent = Some((start, p.sent)),
                    (Some(_), Some((start, _))) => {
                        found.push(Gap { kind, from: start, to: p.sent, open: false });
                        silent = None;
                    }
                    (Some(_), None) => {}
                }
            }
            if let Some((start, last)) = silent {
                found.push(Gap { kind, from: start, to: last, open: true });
            }
        }
        found.retain(|g| g.to - g.from >= MIN_GAP_NS && g.from <= to && g.to >= from);
        found
    }

    /// The first hand-over seen by probes of a kind that were sent from `after` on: when the old owner's last answer
    /// arrived, and when the new owner's first did (ns). Unlike a gap it also exists when not one probe was lost.
    #[must_use]
    pub fn hand_over(&self, kind: Kind, after: u64) -> Option<(u64, u64)> {
        let mut old: Option<(u64, Mac)> = None;
        for p in self.probes.iter().filter(|p| p.kind == kind) {
            let Some((at, mac)) = p.first else { continue };
            match old {
                Some((last, owner)) if owner != mac && p.sent >= after => return Some((last, at)),
                _ => old = Some((at, mac)),
            }
        }
        None
    }

    /// The longest silence of a kind that touches `from..to`, ns; 0 if there was none.
    #[must_use]
    pub fn longest_gap(&self, kind: Kind, from: u64, to: u64) -> u64 {
        self.gaps(from, to).iter().filter(|g| g.kind == kind).map(|g| g.to - g.from).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];
    const MS: u64 = 1_000_000;

    /// Probes every 5 ms; each item is who answers it (after 0.1 ms), if anybody.
    fn line(answers: &[Option<Mac>]) -> Timeline {
        let mut t = Timeline::default();
        for (i, who) in (0u32..).zip(answers) {
            let sent = u64::from(i) * 5 * MS;
            t.sent(Kind::Arp, i % 64, sent);
            if let Some(mac) = who {
                t.answered(Kind::Arp, i % 64, sent + MS / 10, *mac);
            }
        }
        t
    }

    fn repeat(who: Option<Mac>, n: usize) -> Vec<Option<Mac>> {
        vec![who; n]
    }

    #[test]
    fn a_hand_over_after_a_silence_is_one_gap_and_no_second_owner() {
        let t = line(&[repeat(Some(A), 100), repeat(None, 50), repeat(Some(B), 100)].concat());
        assert_eq!(t.two_owners(), []);
        let gaps = t.gaps(0, u64::MAX);
        assert_eq!(gaps, [Gap { kind: Kind::Arp, from: 500 * MS, to: 750 * MS, open: false }]);
        assert_eq!(t.longest_gap(Kind::Arp, 0, u64::MAX), 250 * MS);
        assert_eq!(t.tenures().len(), 2);
    }

    #[test]
    fn a_hand_over_without_any_silence_is_no_second_owner() {
        let t = line(&[repeat(Some(A), 30), repeat(Some(B), 30)].concat());
        assert_eq!(t.two_owners(), []);
        assert_eq!(t.gaps(0, u64::MAX), []);
    }

    #[test]
    fn one_answer_of_the_old_owner_after_the_new_one_is_two_owners() {
        let t = line(&[repeat(Some(A), 30), vec![Some(B), Some(A)], repeat(Some(B), 30)].concat());
        let found = t.two_owners();
        assert!(!found.is_empty());
        assert_eq!(found[0].macs, [A, B]);
        assert_eq!(found[0].at, 31 * 5 * MS);
    }

    #[test]
    fn one_stray_answer_of_another_node_in_the_middle_is_two_owners() {
        let t = line(&[repeat(Some(A), 30), vec![Some(B)], repeat(Some(A), 30)].concat());
        assert_eq!(t.two_owners().len(), 1);
    }

    #[test]
    fn two_answers_to_one_broadcast_probe_are_two_owners() {
        let mut t = line(&repeat(Some(A), 10));
        t.answered(Kind::Arp, 4, 21 * MS, B);
        let found = t.two_owners();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].at, found[0].macs), (20 * MS, [A, B]));
    }

    #[test]
    fn a_second_answer_of_the_same_node_is_nothing() {
        let mut t = line(&repeat(Some(A), 10));
        t.answered(Kind::Arp, 4, 21 * MS, A);
        assert_eq!(t.two_owners(), []);
    }

    #[test]
    fn a_switchover_and_back_after_a_proper_tenure_is_allowed() {
        let t = line(&[repeat(Some(A), 40), repeat(Some(B), 40), repeat(Some(A), 40)].concat());
        assert_eq!(t.two_owners(), []);
    }

    #[test]
    fn a_late_answer_to_a_probe_sent_before_the_hand_over_is_no_proof() {
        let mut t = Timeline::default();
        t.sent(Kind::Sip, 1, 0);
        t.answered(Kind::Sip, 1, MS, A);
        t.sent(Kind::Arp, 1, 5 * MS);
        t.sent(Kind::Sip, 2, 6 * MS);
        t.answered(Kind::Arp, 1, 7 * MS, B);
        // The old owner's answer to a probe that was sent before the new owner was heard.
        t.answered(Kind::Sip, 2, 9 * MS, A);
        assert_eq!(t.two_owners(), []);
    }

    #[test]
    fn an_answer_nobody_asked_for_is_ignored() {
        let mut t = line(&repeat(Some(A), 3));
        t.answered(Kind::Icmp, 1, 6 * MS, B);
        assert_eq!(t.two_owners(), []);
        assert_eq!(t.counts(Kind::Icmp), (0, 0));
        assert_eq!(t.counts(Kind::Arp), (3, 3));
    }

    #[test]
    fn silence_at_the_end_is_an_open_gap() {
        let t = line(&[repeat(Some(A), 10), repeat(None, 10)].concat());
        assert_eq!(t.gaps(0, u64::MAX), [Gap { kind: Kind::Arp, from: 50 * MS, to: 95 * MS, open: true }]);
        assert_eq!(t.gaps(0, 40 * MS), [], "outside of the asked time");
    }

    #[test]
    fn a_hand_over_is_measured_from_the_last_answer_to_the_first_of_the_new_owner() {
        let t = line(&[repeat(Some(A), 10), repeat(None, 3), repeat(Some(B), 10)].concat());
        assert_eq!(t.hand_over(Kind::Arp, 0), Some((45 * MS + MS / 10, 65 * MS + MS / 10)));
        assert_eq!(t.hand_over(Kind::Arp, 80 * MS), None, "before the asked time");
        assert_eq!(t.hand_over(Kind::Sip, 0), None);
    }

    #[test]
    fn kinds_have_gaps_of_their_own() {
        let mut t = Timeline::default();
        for i in 0..20u32 {
            let now = u64::from(i) * 5 * MS;
            t.sent(Kind::Arp, i, now);
            t.sent(Kind::Sip, i, now);
            t.answered(Kind::Arp, i, now + 1, A);
            if !(5..15).contains(&i) {
                t.answered(Kind::Sip, i, now + 2, A);
            }
        }
        assert_eq!(t.longest_gap(Kind::Arp, 0, u64::MAX), 0);
        assert_eq!(t.longest_gap(Kind::Sip, 0, u64::MAX), 50 * MS);
    }
}
