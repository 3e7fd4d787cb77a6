//! The bounded queue in front of one engine thread. Orders and verdicts go before datagrams: a flood of SIP must
//! not keep an engine from hearing that it is no longer active. Datagrams beyond the bound are dropped and counted;
//! verdicts are bounded by the engine's own limit of open proposals, orders by the number of activations.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proxy_core::dns::{Answer, Question};
use proxy_core::io::{EngineConfig, Refusal, Ticket};
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
    /// The DNS has answered a question asked in activation number `epoch`.
    Resolved {
        /// As in a verdict.
        epoch: u64,
        /// What was asked.
        question: Question,
        /// What is known of it.
        answer: Answer,
    },
    /// Another configuration counts from here on.
    Settings(Box<EngineConfig>),
    /// The thread ends.
    Stop,
}

/// What comes from the network, in the order in which it came.
#[derive(Debug)]
pub enum Arrival {
    /// A message: a datagram, or one out of a stream.
    Message(Flow, Vec<u8>),
    /// Nothing can be sent by this flow (any more).
    Failed(Flow),
    /// What a media proxy says.
    Media(SocketAddr, Vec<u8>),
}

impl Arrival {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(_, bytes) | Self::Media(_, bytes) => bytes.len(),
            Self::Failed(_) => 0,
        }
    }
}

/// What an engine does in one turn: orders first.
#[derive(Debug, Default)]
pub struct Turn {
    /// Orders and verdicts in the order in which they came.
    pub orders: Vec<Order>,
    /// What came from the network, in its order.
    pub arrivals: Vec<Arrival>,
}

#[derive(Debug, Default)]
struct Inner {
    orders: VecDeque<Order>,
    arrivals: VecDeque<Arrival>,
    bytes: usize,
    dropped: u64,
    /// Since when there is something to do, or the last turn began.
    since: Option<Instant>,
}

impl Inner {
    fn push(&mut self, arrival: Arrival) -> Option<Arrival> {
        let bytes = arrival.bytes();
        if self.arrivals.len() >= MAX_QUEUED_DATAGRAMS || self.bytes + bytes > MAX_QUEUED_BYTES {
            return Some(arrival);
        }
        self.bytes += bytes;
        self.arrivals.push_back(arrival);
        self.since.get_or_insert_with(Instant::now);
        None
    }
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
        let mut inner = self.lock();
        inner.orders.push_back(order);
        inner.since.get_or_insert_with(Instant::now);
        drop(inner);
        self.filled.notify_one();
    }

    /// Queues what came; what is beyond the bounds is dropped and counted.
    pub fn arrivals(&self, list: impl IntoIterator<Item = Arrival>) {
        let mut inner = self.lock();
        for arrival in list {
            if inner.push(arrival).is_some() {
                inner.dropped += 1;
            }
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// Queues one if there is room, and gives it back if not.
    pub fn offer(&self, arrival: Arrival) -> Option<Arrival> {
        let back = self.lock().push(arrival);
        if back.is_none() {
            self.filled.notify_one();
        }
        back
    }

    /// Datagrams dropped so far because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// For how long the engine has had something to do, in this queue or in the turn that it took last, and has not come
    /// back for more.
    #[must_use]
    pub fn waits(&self) -> Option<Duration> {
        self.lock().since.map(|since| since.elapsed())
    }

    /// Waits until there is something to do or `longest` has passed, and takes at most [`MAX_TURN`] of each kind.
    #[must_use]
    pub fn take(&self, longest: Duration) -> Turn {
        let mut inner = self.lock();
        if inner.orders.is_empty() && inner.arrivals.is_empty() {
            inner.since = None;
        }
        let (mut inner, _) = self
            .filled
            .wait_timeout_while(inner, longest, |i| i.orders.is_empty() && i.arrivals.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let orders = inner.orders.len().min(MAX_TURN);
        let orders: Vec<Order> = inner.orders.drain(..orders).collect();
        let arrivals = inner.arrivals.len().min(MAX_TURN);
        let arrivals: Vec<Arrival> = inner.arrivals.drain(..arrivals).collect();
        inner.bytes -= arrivals.iter().map(Arrival::bytes).sum::<usize>();
        inner.since = Some(Instant::now());
        Turn { orders, arrivals }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_core::state::Transport;

    fn datagram(n: u32) -> Arrival {
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 5060));
        let flow = Flow { transport: Transport::Udp, local: any, remote: any };
        Arrival::Message(flow, n.to_be_bytes().to_vec())
    }

    #[test]
    fn an_engine_has_something_to_do_from_the_first_arrival_until_it_comes_back_and_finds_nothing() {
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.waits(), None);
        mailbox.arrivals([datagram(1)]);
        assert!(mailbox.waits().is_some());
        assert_eq!(mailbox.take(Duration::ZERO).arrivals.len(), 1);
        assert!(mailbox.waits().is_some(), "the turn is under way");
        let (seen, inside) = std::sync::mpsc::channel();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let turn = mailbox.take(Duration::from_secs(20));
                seen.send(turn.orders.len()).expect("heard");
            });
            while mailbox.waits().is_some() {
                std::thread::yield_now();
            }
            mailbox.order(Order::Stop);
        });
        assert_eq!(inside.recv(), Ok(1));
    }

    #[test]
    fn a_flood_of_datagrams_is_dropped_and_counted_and_does_not_hold_up_an_order() {
        let mailbox = Mailbox::default();
        mailbox.arrivals((0..MAX_QUEUED_DATAGRAMS as u32 + 7).map(datagram));
        mailbox.order(Order::Deactivate { number: 1 });
        assert_eq!(mailbox.dropped(), 7);
        let turn = mailbox.take(Duration::ZERO);
        assert!(matches!(turn.orders.as_slice(), [Order::Deactivate { number: 1 }]));
        assert_eq!(turn.arrivals.len(), MAX_TURN);
        assert!(matches!(&turn.arrivals[0], Arrival::Message(_, bytes) if *bytes == 0u32.to_be_bytes()));
        mailbox.arrivals([datagram(9)]);
        assert_eq!(mailbox.dropped(), 7, "what was taken made room");
    }

    #[test]
    fn large_datagrams_are_bounded_by_their_bytes() {
        let mailbox = Mailbox::default();
        let large = |_| match datagram(0) {
            Arrival::Message(flow, _) => Arrival::Message(flow, vec![0; 65_000]),
            other => other,
        };
        mailbox.arrivals((0..300).map(large));
        assert_eq!(mailbox.dropped(), 300 - (MAX_QUEUED_BYTES / 65_000) as u64);
    }

    #[test]
    fn an_empty_mailbox_returns_after_the_given_time_with_nothing() {
        let turn = Mailbox::default().take(Duration::from_millis(1));
        assert!(turn.orders.is_empty() && turn.arrivals.is_empty());
    }
}
