//! The bounded queue in front of one engine thread. Orders and verdicts go before datagrams: a flood of SIP must
//! not keep an engine from hearing that it is no longer active. Datagrams beyond the bound are dropped and counted;
//! verdicts are bounded by the engine's own limit of open proposals, orders by the number of activations.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proxy_core::io::{Refusal, Ticket};
use proxy_core::state::{Flow, SipResponse};

use super::{MAX_QUEUED_BYTES, MAX_QUEUED_DATAGRAMS, MAX_TURN};

/// What an engine thread is told outside of SIP.
#[derive(Debug)]
pub enum Order {
    /// The service is here now, under this fence token.
    Activate {
        /// The fence token.
        token: u64,
        /// Number of this order.
        number: u64,
    },
    /// The service is not here.
    Deactivate {
        /// Number of this order.
        number: u64,
    },
    /// The outcome of a proposal made in activation number `epoch`.
    Verdict {
        /// Activations so far when it was proposed; an answer from an earlier one is for nobody.
        epoch: u64,
        /// Which proposal.
        ticket: Ticket,
        /// What became of it.
        outcome: Result<SipResponse, Refusal>,
    },
    /// The thread ends.
    Stop,
}

/// What an engine does in one turn: orders first.
#[derive(Debug, Default)]
pub struct Turn {
    /// Orders and verdicts in the order in which they came.
    pub orders: Vec<Order>,
    /// Datagrams in the order in which they came.
    pub datagrams: Vec<(Flow, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Inner {
    orders: VecDeque<Order>,
    datagrams: VecDeque<(Flow, Vec<u8>)>,
    bytes: usize,
    dropped: u64,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    filled: Condvar,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that runs under this lock can panic half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an order.
    pub fn order(&self, order: Order) {
        self.lock().orders.push_back(order);
        self.filled.notify_one();
    }

    /// Queues datagrams; those beyond the bounds are dropped and counted.
    pub fn datagrams(&self, list: impl IntoIterator<Item = (Flow, Vec<u8>)>) {
        let mut inner = self.lock();
        for (flow, bytes) in list {
            if inner.datagrams.len() >= MAX_QUEUED_DATAGRAMS || inner.bytes + bytes.len() > MAX_QUEUED_BYTES {
                inner.dropped += 1;
                continue;
            }
            inner.bytes += bytes.len();
            inner.datagrams.push_back((flow, bytes));
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// Datagrams dropped so far because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits until there is something to do or `longest` has passed, and takes at most [`MAX_TURN`] of each kind.
    #[must_use]
    pub fn take(&self, longest: Duration) -> Turn {
        let inner = self.lock();
        let (mut inner, _) = self
            .filled
            .wait_timeout_while(inner, longest, |i| i.orders.is_empty() && i.datagrams.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let orders = inner.orders.len().min(MAX_TURN);
        let orders: Vec<Order> = inner.orders.drain(..orders).collect();
        let datagrams = inner.datagrams.len().min(MAX_TURN);
        let datagrams: Vec<(Flow, Vec<u8>)> = inner.datagrams.drain(..datagrams).collect();
        inner.bytes -= datagrams.iter().map(|(_, b)| b.len()).sum::<usize>();
        Turn { orders, datagrams }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_core::state::Transport;

    fn datagram(n: u32) -> (Flow, Vec<u8>) {
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 5060));
        (Flow { transport: Transport::Udp, local: any, remote: any }, n.to_be_bytes().to_vec())
    }

    #[test]
    fn a_flood_of_datagrams_is_dropped_and_counted_and_does_not_hold_up_an_order() {
        let mailbox = Mailbox::default();
        mailbox.datagrams((0..MAX_QUEUED_DATAGRAMS as u32 + 7).map(datagram));
        mailbox.order(Order::Deactivate { number: 1 });
        assert_eq!(mailbox.dropped(), 7);
        let turn = mailbox.take(Duration::ZERO);
        assert!(matches!(turn.orders.as_slice(), [Order::Deactivate { number: 1 }]));
        assert_eq!(turn.datagrams.len(), MAX_TURN);
        assert_eq!(turn.datagrams[0].1, 0u32.to_be_bytes());
        mailbox.datagrams([datagram(9)]);
        assert_eq!(mailbox.dropped(), 7, "what was taken made room");
    }

    #[test]
    fn large_datagrams_are_bounded_by_their_bytes() {
        let mailbox = Mailbox::default();
        let (flow, _) = datagram(0);
        mailbox.datagrams((0..300).map(|_| (flow, vec![0; 65_000])));
        assert_eq!(mailbox.dropped(), 300 - (MAX_QUEUED_BYTES / 65_000) as u64);
    }

    #[test]
    fn an_empty_mailbox_returns_after_the_given_time_with_nothing() {
        let turn = Mailbox::default().take(Duration::from_millis(1));
        assert!(turn.orders.is_empty() && turn.datagrams.is_empty());
    }
}
