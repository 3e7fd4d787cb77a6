//! The connections by their flow, and how many there are of each source.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
        let of_source = self.sources.get(&flow.remote.ip()).copied().unwrap_or(0);
        let full = self.connections.len() >= limits.connections || of_source >= limits.per_source;
        if full || self.connections.contains_key(&flow) {
            return None;
        }
        *self.sources.entry(flow.remote.ip()).or_default() += 1;
        self.next += 1;
        let (outbox, messages) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let sender = outbox.downgrade();
        let (queued, slow): (Arc<AtomicUsize>, Arc<Notify>) = Default::default();
        let inbox =
            Inbox { id: self.next, messages, sender, queued: Arc::clone(&queued), slow: Arc::clone(&slow) };
        self.connections.insert(flow, Entry { id: self.next, outbox, queued, slow });
        Some(inbox)
    }

    /// Removes a connection if it still is that one.
    pub(super) fn remove(&mut self, flow: &Flow, id: u64) {
        if self.connections.get(flow).is_none_or(|entry| entry.id != id) {
            return;
        }
        self.connections.remove(flow);
        if let Some(count) = self.sources.get_mut(&flow.remote.ip()) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.sources.remove(&flow.remote.ip());
            }
        }
    }
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
        assert!(table.insert(flow(3, 1), &limits).is_none(), "three in all");
        table.remove(&flow(1, 1), first.id + 100);
        assert_eq!(table.len(), 3, "another of that name is not meant");
        table.remove(&flow(1, 1), first.id);
        assert!(table.insert(flow(1, 3), &limits).is_some());
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
