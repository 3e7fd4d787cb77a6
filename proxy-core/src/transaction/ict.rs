//! INVITE client transaction: RFC 3261 §17.1.1, with the Accepted state of RFC 6026 §7.2.
//!
//! | state | event | action | next |
//! |---|---|---|---|
//! | Calling | made | (the maker sends the INVITE) arm A = T1, B = 64*T1 | Calling |
//! | Calling | timer A | send INVITE, A doubles | Calling |
//! | Calling | timer B | Timeout | Terminated |
//! | Calling, Proceeding | 1xx | Pass, disarm A and B | Proceeding |
//! | Calling, Proceeding | 2xx | Pass, arm M = 64*T1 | Accepted |
//! | Calling, Proceeding | 300-699 | Pass, arm D | Completed |
//! | Proceeding | cancelled, 64*T1 without a final (§9.1) | Timeout | Terminated |
//! | Completed | ACK handed in | send it, keep it; reliable: Terminated | Completed |
//! | Completed | 300-699 | send ACK again; nothing while there is none | Completed |
//! | Completed | 1xx, 2xx | nothing | Completed |
//! | Completed | timer D | nothing | Terminated |
//! | Accepted | 2xx | Pass | Accepted |
//! | Accepted | 1xx, 300-699 | nothing | Accepted |
//! | Accepted | timer M | nothing | Terminated |
//! | Calling, Proceeding, Completed | transport error | TransportError | Terminated |
//!
//! Unlike in the RFC the ACK of a 300-699 is not made here and does not leave at once: it ends the callee's
//! retransmissions, so it may only go when the final response is safe on a majority. Until the owner hands it
//! in, repeated finals are swallowed.

use std::time::Duration;

use super::{SharedBytes, TimerConfig};
use crate::time::MonoTime;

/// States of RFC 6026 Figure 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IctState {
    /// INVITE sent, nothing heard.
    Calling,
    /// A provisional response came. Only timer C of the proxy and a CANCEL end it.
    Proceeding,
    /// A 300-699 came.
    Completed,
    /// A 2xx came.
    Accepted,
    /// To be dropped.
    Terminated,
}

/// What is to be done after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IctAction {
    /// Nothing.
    None,
    /// Send these bytes (again).
    Transmit(SharedBytes),
    /// The response is news: hand it to the proxy.
    Pass,
    /// Timer B, or no final response within 64*T1 of a CANCEL: counts as a 408 (§16.8).
    Timeout,
    /// The transport failed: counts as a 503 (§16.9).
    TransportError,
}

/// One INVITE client transaction.
#[derive(Debug, Clone)]
pub struct Ict {
    state: IctState,
    timers: TimerConfig,
    reliable: bool,
    request: SharedBytes,
    ack: Option<SharedBytes>,
    /// Timer A: when, and the interval that led there.
    retransmit: Option<(MonoTime, Duration)>,
    /// Timer B, D or M, or the end of a cancelled transaction.
    deadline: Option<MonoTime>,
    cancelled: bool,
}

impl Ict {
    /// Starts in Calling. The caller sends `request` now.
    #[must_use]
    pub fn new(now: MonoTime, timers: &TimerConfig, reliable: bool, request: SharedBytes) -> Self {
        Self {
            state: IctState::Calling,
            timers: *timers,
            reliable,
            request,
            ack: None,
            retransmit: (!reliable).then(|| (now + timers.t1(), timers.t1())),
            deadline: Some(now + timers.t1_64()),
            cancelled: false,
        }
    }

    /// Starts in Completed after a takeover: the final response is known and safe, its repetitions are to be
    /// answered with `ack`. The caller sends `ack` now, as nobody knows whether it has ever left.
    #[must_use]
    pub fn resume_completed(
        now: MonoTime,
        timers: &TimerConfig,
        reliable: bool,
        request: SharedBytes,
        ack: SharedBytes,
    ) -> Self {
        let mut this = Self::new(now, timers, reliable, request);
        this.enter(IctState::Completed, Some(now + timers.t1_64()));
        this.ack = Some(ack);
        this
    }

    /// Starts in Accepted after a takeover: repetitions of the 2xx, and 2xx of other forks, are passed on.
    #[must_use]
    pub fn resume_accepted(
        now: MonoTime,
        timers: &TimerConfig,
        reliable: bool,
        request: SharedBytes,
    ) -> Self {
        let mut this = Self::new(now, timers, reliable, request);
        this.enter(IctState::Accepted, Some(now + timers.t1_64()));
        this
    }

    /// A response with this status came.
    pub fn on_response(&mut self, now: MonoTime, status: u16) -> IctAction {
        match (self.state, status) {
            (IctState::Calling | IctState::Proceeding, 100..=199) => {
                self.retransmit = None;
                if self.state == IctState::Calling && !self.cancelled {
                    self.deadline = None;
                }
                self.state = IctState::Proceeding;
                IctAction::Pass
            }
            (IctState::Calling | IctState::Proceeding, 200..=299) => {
                self.enter(IctState::Accepted, Some(now + self.timers.t1_64()));
                IctAction::Pass
            }
            (IctState::Calling | IctState::Proceeding, 300..=699) => {
                // On a reliable transport timer D is zero, yet the ACK is still owed: the deadline only bounds
                // the wait for it.
                self.enter(IctState::Completed, Some(now + self.timers.t1_64()));
                IctAction::Pass
            }
            (IctState::Completed, 300..=699) => self.ack.clone().map_or(IctAction::None, IctAction::Transmit),
            (IctState::Accepted, 200..=299) => IctAction::Pass,
            _ => IctAction::None,
        }
    }

    /// The final response is safe: send this ACK, now and for each repetition of the response. Nothing
    /// happens in other states than Completed.
    pub fn acknowledge(&mut self, ack: SharedBytes) -> IctAction {
        if self.state != IctState::Completed {
            return IctAction::None;
        }
        if self.reliable {
            self.enter(IctState::Terminated, None);
        } else {
            self.ack = Some(ack.clone());
        }
        IctAction::Transmit(ack)
    }

    /// A CANCEL for this INVITE leaves (§9.1): without a final response within 64*T1 the transaction ends.
    /// Called again it moves nothing.
    pub fn on_cancel_sent(&mut self, now: MonoTime) {
        if self.cancelled {
            return;
        }
        self.cancelled = true;
        if self.state == IctState::Proceeding {
            self.deadline = Some(now + self.timers.t1_64());
        }
    }

    /// Sending failed for good.
    pub fn on_transport_error(&mut self) -> IctAction {
        match self.state {
            IctState::Calling | IctState::Proceeding | IctState::Completed => {
                self.enter(IctState::Terminated, None);
                IctAction::TransportError
            }
            IctState::Accepted | IctState::Terminated => IctAction::None,
        }
    }

    /// When [`Ict::on_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<MonoTime> {
        let retransmit = self.retransmit.map(|(at, _)| at);
        match (retransmit, self.deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Fires what is due. Nothing is sent when the transaction ends at the same time.
    pub fn on_timeout(&mut self, now: MonoTime) -> IctAction {
        if self.deadline.is_some_and(|at| at <= now) {
            let unanswered = matches!(self.state, IctState::Calling | IctState::Proceeding);
            self.enter(IctState::Terminated, None);
            return if unanswered { IctAction::Timeout } else { IctAction::None };
        }
        match self.retransmit {
            Some((at, interval)) if at <= now => {
                let interval = interval.saturating_mul(2);
                self.retransmit = Some((now + interval, interval));
                IctAction::Transmit(self.request.clone())
            }
            _ => IctAction::None,
        }
    }

    /// The INVITE as sent; CANCEL and ACK are made of it.
    #[must_use]
    pub fn request(&self) -> &SharedBytes {
        &self.request
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> IctState {
        self.state
    }

    /// Whether a final response is still awaited.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, IctState::Calling | IctState::Proceeding)
    }

    /// Whether a CANCEL has been sent.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Whether the machine is to be dropped.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state == IctState::Terminated
    }

    fn enter(&mut self, state: IctState, deadline: Option<MonoTime>) {
        self.state = state;
        self.retransmit = None;
        self.deadline = deadline;
    }
}
