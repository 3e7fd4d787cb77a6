//! What this node has heard and said: a short memory for `relevo trace`, and copies for a Homer collector (HEPv3).
//!
//! ```text
//! engine thread ─ Tap::see ─┬► ring of its shard (bounded bytes) ◄─ admin socket: relevo trace
//!                           └► filter, sample ─► bounded queue ─► thread relevo-hep ─ UDP ─► collector
//! ```
//! SIP never waits for either: the ring is locked for the copy of one message, and by a reader for the copy of one
//! ring; a full queue drops and counts. Only messages that an engine handled are seen, so a standby sees nothing.

pub mod hep;
pub mod ring;
mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proxy_core::msg::call_id_of;
use proxy_core::routing::Cidr;
use proxy_core::state::Flow;
use proxy_core::time::RealTime;

pub use ring::Entry;
use ring::Ring;
use send::Sender;

/// Bytes of messages that all rings of a node keep together.
pub const MAX_RING_BYTES: usize = 16 << 20;
/// Messages that all rings of a node keep together.
pub const MAX_RING_MESSAGES: usize = 16_384;

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To this proxy.
    In,
    /// From this proxy.
    Out,
}

/// Where copies go, and of what: `[hep]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HepConfig {
    /// The collector (UDP).
    pub collector: std::net::SocketAddr,
    /// Number of this capture agent (chunk 12).
    pub capture_id: u32,
    /// Name of this node (chunk 19).
    pub node: String,
    /// What the collector asks of its clients (chunk 14).
    pub password: Option<String>,
    /// Methods (that of CSeq, so that responses go with their requests); empty: all.
    pub methods: Vec<String>,
    /// Addresses of the other side; empty: all.
    pub peers: Vec<Cidr>,
    /// Calls of 10000 that are copied.
    pub sample: u32,
}

impl HepConfig {
    /// Whether a message is copied. Decided by what all messages of a call have in common, and by the same rule on
    /// every node, so that a call is copied as a whole, also across a takeover.
    #[must_use]
    pub fn wants(&self, flow: &Flow, bytes: &[u8]) -> bool {
        (self.peers.is_empty() || self.peers.iter().any(|net| net.contains(flow.remote.ip())))
            && (self.sample >= WHOLE || share_of(call_id_of(bytes).unwrap_or_default()) < self.sample)
            && (self.methods.is_empty()
                || cseq_method(bytes).is_some_and(|m| self.methods.iter().any(|w| w.as_bytes() == m)))
    }
}

/// [`HepConfig::sample`] of all calls.
pub const WHOLE: u32 = 10_000;

/// A number below [`WHOLE`] that is always the same for the same Call-ID (FNV-1a).
fn share_of(call_id: &[u8]) -> u32 {
    let hash = call_id
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    // The low bits of FNV are the weak ones for short texts.
    u32::try_from((hash >> 32) % u64::from(WHOLE)).unwrap_or(0)
}

/// The method in CSeq, without reading the message as a whole.
fn cseq_method(bytes: &[u8]) -> Option<&[u8]> {
    let line = bytes.split(|b| *b == b'\n').take_while(|l| !l.is_empty() && *l != b"\r").find(|l| {
        let (name, rest) = l.split_at(l.len().min(4));
        name.eq_ignore_ascii_case(b"cseq") && rest.trim_ascii_start().first() == Some(&b':')
    })?;
    let value = line.split(|b| *b == b':').nth(1)?;
    value.split(u8::is_ascii_whitespace).rfind(|word| !word.is_empty())
}

/// The capture of one node.
#[derive(Debug)]
pub struct Capture {
    rings: Vec<Ring>,
    numbers: AtomicU64,
    hep: Option<(HepConfig, Sender)>,
}

impl Capture {
    /// For so many engines. Without `hep` only the ring works.
    #[must_use]
    pub fn new(engines: u16, hep: Option<HepConfig>) -> Arc<Self> {
        let n = usize::from(engines.max(1));
        let rings = (0..n).map(|_| Ring::new(MAX_RING_BYTES / n, MAX_RING_MESSAGES / n)).collect();
        let hep = hep.and_then(|config| match Sender::start(config.collector) {
            Ok(sender) => Some((config, sender)),
            Err(why) => {
                // Telephony goes on without its copies.
                tracing::error!("no HEP capture: {} cannot be sent to: {why}", config.collector);
                None
            }
        });
        Arc::new(Self { rings, numbers: AtomicU64::new(0), hep })
    }

    /// What engine `shard` reports to.
    #[must_use]
    pub fn tap(self: &Arc<Self>, shard: u16) -> Tap {
        Tap { capture: Arc::clone(self), shard: usize::from(shard) % self.rings.len() }
    }

    /// What is remembered, oldest first: messages with a number above `after`, of one call or of all.
    #[must_use]
    pub fn recall(&self, call_id: Option<&str>, after: u64, most: usize) -> Vec<Entry> {
        let mut all: Vec<Entry> = self.rings.iter().flat_map(|r| r.recall(call_id, after, most)).collect();
        all.sort_by_key(|e| e.number);
        all.drain(..all.len().saturating_sub(most));
        all
    }

    /// Copies sent to the collector, dropped because the queue was full, and not taken by the network; `None` where
    /// there is no collector.
    #[must_use]
    pub fn figures(&self) -> Option<[u64; 3]> {
        self.hep.as_ref().map(|(_, sender)| sender.figures())
    }
}

/// One engine's way to report.
#[derive(Debug, Clone)]
pub struct Tap {
    capture: Arc<Capture>,
    shard: usize,
}

impl Tap {
    /// Remembers a message, and has it copied.
    pub fn see(&self, direction: Direction, flow: Flow, bytes: &[u8], at: RealTime) {
        let number = self.capture.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some((config, sender)) = &self.capture.hep
            && config.wants(&flow, bytes)
        {
            sender.send(|| hep::encode(config, direction, &flow, bytes, at));
        }
        if let Some(ring) = self.capture.rings.get(self.shard) {
            ring.add(Entry { number, at, direction, flow, bytes: bytes.to_vec() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_core::state::Transport;

    fn flow(remote: &str) -> Flow {
        Flow {
            transport: Transport::Udp,
            local: "10.0.0.1:5060".parse().expect("address"),
            remote: remote.parse().expect("address"),
        }
    }

    fn config() -> HepConfig {
        HepConfig {
            collector: "127.0.0.1:9060".parse().expect("address"),
            capture_id: 7,
            node: String::from("n1"),
            password: None,
            methods: Vec::new(),
            peers: Vec::new(),
            sample: WHOLE,
        }
    }

    fn message(call: usize, cseq: &str) -> Vec<u8> {
        format!("SIP/2.0 200 OK\r\nCall-ID: call-{call}\r\n{cseq}\r\n\r\nCSeq: 9 BYE\r\n").into_bytes()
    }

    #[test]
    fn responses_go_with_the_method_of_their_request_and_the_body_is_not_asked() {
        let invites = HepConfig { methods: vec![String::from("INVITE")], ..config() };
        let udp = flow("10.0.0.9:5060");
        for cseq in ["CSeq: 1 INVITE", "cseq : 1  INVITE ", "CSEQ:1\tINVITE"] {
            assert!(invites.wants(&udp, &message(1, cseq)), "{cseq}");
        }
        for cseq in ["CSeq: 1 BYE", "CSeq: 1 invite", "X-CSeq: 1 INVITE", "CSeq", ""] {
            assert!(!invites.wants(&udp, &message(1, cseq)), "{cseq}");
        }
    }

    #[test]
    fn a_sample_takes_whole_calls_and_about_as_many_as_asked_for() {
        let third = HepConfig { sample: 3333, ..config() };
        let udp = flow("10.0.0.9:5060");
        let taken = (0..3000).filter(|n| third.wants(&udp, &message(*n, "CSeq: 1 INVITE")));
        assert!((800..1200).contains(&taken.count()));
        for n in 0..200 {
            let first = third.wants(&udp, &message(n, "CSeq: 1 INVITE"));
            assert_eq!(third.wants(&flow("10.0.0.8:1"), &message(n, "CSeq: 2 BYE")), first);
        }
    }

    #[test]
    fn only_the_peers_that_are_named_are_copied() {
        let some = HepConfig { peers: vec!["10.9.0.0/16".parse().expect("block")], ..config() };
        assert!(some.wants(&flow("10.9.4.1:5060"), &message(1, "CSeq: 1 INVITE")));
        assert!(!some.wants(&flow("10.8.4.1:5060"), &message(1, "CSeq: 1 INVITE")));
    }
}
