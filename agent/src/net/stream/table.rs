//! The connections by their flow, and how many there are of each source.
//!
//! | a connection more than there may be | then |
//! |---|---|
//! | of a source that has as many as one may have | refused |
//! | in all, and some source has at least two more than the newcomer's | one of that source gives way: one that has never sent a message, else the newest |
//! | in all, and the places are shared as evenly as can be | refused |
//!
//! So a few addresses that hold all places keep nobody out. One customer of IPv6 has a /64, which is one source.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proxy_core::routing::counted_as;
use proxy_core::state::Flow;
use tokio::sync::{Notify, mpsc};

use super::{Limits, MAX_QUEUED_BYTES, MAX_QUEUED_MESSAGES};

/// What others know of a connection.
#[derive(Debug)]
pub(super) struct Entry {
    id: u64,
    outbox: mpsc::Sender<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    slow: Arc<Notify>,
    spoke: Arc<AtomicBool>,
    leave: Arc<Notify>,
}

/// What the connection itself has.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) id: u64,
    pub(super) messages: mpsc::Receiver<Vec<u8>>,
    /// For what the connection says itself.
    pub(super) sender: mpsc::WeakSender<Vec<u8>>,
    /// Bytes that wait.
    pub(super) queued: Arc<AtomicUsize>,
    /// The peer does not read what is sent.
    pub(super) slow: Arc<Notify>,
    /// A message has come by it, or it was made here.
    pub(super) spoke: Arc<AtomicBool>,
    /// Its place is somebody else's now.
    pub(super) leave: Arc<Notify>,
}

impl Inbox {
    /// Queues a message of the connection itself.
    pub(super) fn say(&self, bytes: Vec<u8>) {
        let length = bytes.len();
        self.queued.fetch_add(length, Ordering::Relaxed);
        if self.sender.upgrade().is_none_or(|sender| sender.try_send(bytes).is_err()) {
            self.queued.fetch_sub(length, Ordering::Relaxed);
        }
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Table {
    connections: BTreeMap<Flow, Entry>,
    sources: BTreeMap<IpAddr, usize>,
    next: u64,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Queues a message for a connection; gives it back if there is none. To a slow peer it is lost, and the
    /// connection with it.
    pub(super) fn push(&mut self, flow: Flow, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let Some(entry) = self.connections.get(&flow) else { return Some(bytes) };
        let length = bytes.len();
        let full = entry.queued.fetch_add(length, Ordering::Relaxed) + length > MAX_QUEUED_BYTES;
        if full || entry.outbox.try_send(bytes).is_err() {
            entry.queued.fetch_sub(length, Ordering::Relaxed);
            entry.slow.notify_one();
        }
        None
    }

    /// Adds a connection; `None` when there are too many, or one of that name.
    pub(super) fn insert(&mut self, flow: Flow, limits: &Limits) -> Option<Inbox> {
        let source = source_of(&flow);
        let of_source = self.sources.get(&source).copied().unwrap_or(0);
        let crowded = of_source >= limits.per_source || self.connections.contains_key(&flow);
        if crowded || (self.connections.len() >= limits.connections && !self.make_room(of_source)) {
            return None;
        }
        *self.sources.entry(source).or_default() += 1;
        self.next += 1;
        let (outbox, messages) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let sender = outbox.downgrade();
        let (queued, slow): (Arc<AtomicUsize>, Arc<Notify>) = Default::default();
        let (spoke, leave): (Arc<AtomicBool>, Arc<Notify>) = Default::default();
        let inbox = Inbox {
            id: self.next,
            messages,
            sender,
            queued: Arc::clone(&queued),
            slow: Arc::clone(&slow),
            spoke: Arc::clone(&spoke),
            leave: Arc::clone(&leave),
        };
        self.connections.insert(flow, Entry { id: self.next, outbox, queued, slow, spoke, leave });
        Some(inbox)
    }

    /// Has a connection of the source that has the most give way to one whose source has `of_newcomer` so far. `false`: the
    /// places are shared evenly already.
    fn make_room(&mut self, of_newcomer: usize) -> bool {
        let most = self.sources.iter().max_by_key(|(_, count)| **count);
        let Some((source, _)) = most.filter(|(_, count)| **count > of_newcomer + 1) else { return false };
        let source = *source;
        let of_source = self.connections.iter().filter(|(flow, _)| source_of(flow) == source);
        let gives_way = of_source.max_by_key(|(_, e)| (!e.spoke.load(Ordering::Relaxed), e.id));
        let Some((flow, id)) = gives_way.map(|(flow, entry)| (*flow, entry.id)) else { return false };
        if let Some(entry) = self.connections.get(&flow) {
            entry.leave.notify_one();
        }
        self.remove(&flow, id);
        true
    }

    /// Removes a connection if it still is that one.
    pub(super) fn remove(&mut self, flow: &Flow, id: u64) {
        if self.connections.get(flow).is_none_or(|entry| entry.id != id) {
            return;
        }
        self.connections.remove(flow);
        let source = source_of(flow);
        if let Some(count) = self.sources.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

/// What the connections of a peer are counted under.
fn source_of(flow: &Flow) -> IpAddr {
    counted_as(flow.remote.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn flow(host: u8, port: u16) -> Flow {
        super::super::flow(
            SocketAddr::from(([127, 0, 0, 1], 5060)),
            SocketAddr::from(([10, 0, 0, host], port)),
        )
    }

    #[test]
    fn connections_are_bounded_in_all_and_per_source_and_make_room_when_they_end() {
        let limits = Limits { connections: 3, per_source: 2, ..Limits::default() };
        let mut table = Table::default();
        let first = table.insert(flow(1, 1), &limits).expect("room");
        assert!(table.insert(flow(1, 2), &limits).is_some());
        assert!(table.insert(flow(1, 3), &limits).is_none(), "two of one source");
        assert!(table.insert(flow(2, 1), &limits).is_some());
        assert!(table.insert(flow(2, 2), &limits).is_none(), "three in all");
        table.remove(&flow(1, 1), first.id + 100);
        assert_eq!(table.len(), 3, "another of that name is not meant");
        table.remove(&flow(1, 1), first.id);
        assert!(table.insert(flow(1, 3), &limits).is_some());
    }

    #[test]
    fn a_few_sources_that_hold_all_places_keep_nobody_out() {
        let limits = Limits { connections: 8, per_source: 4, ..Limits::default() };
        let mut table = Table::default();
        let held: Vec<Inbox> =
            (0..8).map(|n| table.insert(flow(1 + n % 2, u16::from(n)), &limits).expect("room")).collect();
        // Of the first of the two, all but one have sent a message: that one gives way.
        held.iter()
            .filter(|inbox| inbox.id != 3)
            .for_each(|inbox| inbox.spoke.store(true, Ordering::Relaxed));
        for host in 3..9 {
            assert!(table.insert(flow(host, 1), &limits).is_some(), "host {host}");
            assert_eq!(table.len(), 8);
        }
        assert!(!table.connections.contains_key(&flow(1, 2)), "it had said nothing");
        assert!(table.connections.contains_key(&flow(1, 0)), "the oldest ones stay");
        assert!(table.insert(flow(9, 1), &limits).is_none(), "eight sources have one place each");
    }

    #[test]
    fn one_customer_of_ipv6_is_one_source() {
        let limits = Limits { connections: 9, per_source: 2, ..Limits::default() };
        let mut table = Table::default();
        let from = |net: u16, host: u16| {
            let remote = SocketAddr::from(([0x2001, 0xdb8, 0, net, 0, 0, 0, host], 5060));
            super::super::flow(SocketAddr::from(([0xfd77, 0, 0, 0, 0, 0, 0, 1], 5060)), remote)
        };
        let admitted: Vec<bool> = (1..5).map(|host| table.insert(from(1, host), &limits).is_some()).collect();
        assert_eq!(admitted, [true, true, false, false]);
        assert!(table.insert(from(2, 1), &limits).is_some());
    }

    #[test]
    fn a_peer_that_does_not_read_is_noticed_before_it_fills_the_memory() {
        let mut table = Table::default();
        let inbox = table.insert(flow(1, 1), &Limits::default()).expect("room");
        for _ in 0..20 {
            assert_eq!(table.push(flow(1, 1), vec![0; 64 * 1024]), None);
        }
        assert!(inbox.queued.load(Ordering::Relaxed) <= MAX_QUEUED_BYTES);
        assert!(table.push(flow(2, 1), vec![1]).is_some(), "no such connection");
    }
}
