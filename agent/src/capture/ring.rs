//! The last messages of one engine, bounded in number and bytes: the oldest go first.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use proxy_core::msg::call_id_of;
use proxy_core::state::Flow;
use proxy_core::time::RealTime;

use super::Direction;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Grows by one with every message of the node.
    pub number: u64,
    /// When it was handled.
    pub at: RealTime,
    /// Which way it went.
    pub direction: Direction,
    /// Between whom.
    pub flow: Flow,
    /// The message.
    pub bytes: Vec<u8>,
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    kept: Mutex<Kept>,
    max_bytes: usize,
    max_messages: usize,
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Ring {
    /// Empty, with these bounds.
    #[must_use]
    pub fn new(max_bytes: usize, max_messages: usize) -> Self {
        Self { kept: Mutex::default(), max_bytes, max_messages }
    }

    /// Remembers one. What is larger than the whole ring is not remembered.
    pub fn add(&self, entry: Entry) {
        let size = entry.bytes.len();
        if size > self.max_bytes {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.bytes + size > self.max_bytes || kept.entries.len() >= self.max_messages {
            let Some(oldest) = kept.entries.pop_front() else { break };
            kept.bytes -= oldest.bytes.len();
        }
        kept.bytes += size;
        kept.entries.push_back(entry);
    }

    /// The newest `most` of what has a number above `after` and, if one is given, this Call-ID; oldest first.
    #[must_use]
    pub fn recall(&self, call_id: Option<&str>, after: u64, most: usize) -> Vec<Entry> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Entry> = kept
            .entries
            .iter()
            .rev()
            .take_while(|e| e.number > after)
            .filter(|e| call_id.is_none_or(|id| call_id_of(&e.bytes) == Some(id.as_bytes())))
            .take(most)
            .cloned()
            .collect();
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_core::state::Transport;

    fn entry(number: u64, call: &str, filler: usize) -> Entry {
        let addr = "10.0.0.1:5060".parse().expect("address");
        Entry {
            number,
            at: RealTime(number),
            direction: Direction::In,
            flow: Flow { transport: Transport::Udp, local: addr, remote: addr },
            bytes: format!("OPTIONS sip:x SIP/2.0\r\nCall-ID: {call}\r\nX: {}\r\n\r\n", "x".repeat(filler))
                .into_bytes(),
        }
    }

    fn numbers(found: &[Entry]) -> Vec<u64> {
        found.iter().map(|e| e.number).collect()
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let ring = Ring::new(1000, 3);
        (1..=5).for_each(|n| ring.add(entry(n, "a", 10)));
        assert_eq!(numbers(&ring.recall(None, 0, 100)), [3, 4, 5]);
        ring.add(entry(6, "a", 880));
        assert_eq!(numbers(&ring.recall(None, 0, 100)), [5, 6]);
        ring.add(entry(7, "a", 5000));
        assert_eq!(numbers(&ring.recall(None, 0, 100)), [5, 6], "too large for the ring");
    }

    #[test]
    fn one_call_is_found_and_what_came_since_and_the_newest_of_many() {
        let ring = Ring::new(100_000, 100);
        (1..=20).for_each(|n| ring.add(entry(n, if n % 2 == 0 { "even" } else { "odd" }, 0)));
        assert_eq!(numbers(&ring.recall(Some("even"), 15, 100)), [16, 18, 20]);
        assert_eq!(numbers(&ring.recall(Some("odd"), 0, 2)), [17, 19]);
        assert!(ring.recall(Some("eve"), 0, 100).is_empty());
    }
}
