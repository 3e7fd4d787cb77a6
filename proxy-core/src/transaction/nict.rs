//! Non-INVITE client transaction: RFC 3261 §17.1.2.
//!
//! | state | event | action | next |
//! |---|---|---|---|
//! | Trying | made | (the maker sends the request) arm E = T1, F = 64*T1 | Trying |
//! | Trying | timer E | send request, E doubles up to T2 | Trying |
//! | Proceeding | timer E | send request, E = T2 | Proceeding |
//! | Trying, Proceeding | timer F | Timeout | Terminated |
//! | Trying, Proceeding | 1xx | Pass | Proceeding |
//! | Trying, Proceeding | 200-699 | Pass, arm K = T4 (reliable: 0) | Completed |
//! | Trying, Proceeding | transport error | TransportError | Terminated |
//! | Completed | any response | nothing | Completed |
//! | Completed | timer K | nothing | Terminated |

use std::time::Duration;

use super::{SharedBytes, TimerConfig};
use crate::time::MonoTime;

/// States of RFC 3261 Figure 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NictState {
    /// Request sent, nothing heard.
    Trying,
    /// A provisional response came.
    Proceeding,
    /// A final response came; repetitions are swallowed.
    Completed,
    /// To be dropped.
    Terminated,
}

/// What is to be done after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NictAction {
    /// Nothing.
    None,
    /// Send these bytes again.
    Transmit(SharedBytes),
    /// The response is news: hand it to the proxy.
    Pass,
    /// Timer F: no final response.
    Timeout,
    /// The transport failed.
    TransportError,
}

/// One non-INVITE client transaction.
#[derive(Debug, Clone)]
pub struct Nict {
    state: NictState,
    timers: TimerConfig,
    reliable: bool,
    /// Gone once a final response came.
    request: Option<SharedBytes>,
    /// Timer E: when, and the interval that led there.
    retransmit: Option<(MonoTime, Duration)>,
    /// Timer F or K.
    deadline: Option<MonoTime>,
}

impl Nict {
    /// Starts in Trying. The caller sends `request` now.
    #[must_use]
    pub fn new(now: MonoTime, timers: &TimerConfig, reliable: bool, request: SharedBytes) -> Self {
        Self {
            state: NictState::Trying,
            timers: *timers,
            reliable,
            request: Some(request),
            retransmit: (!reliable).then(|| (now + timers.t1(), timers.t1())),
            deadline: Some(now + timers.t1_64()),
        }
    }

    /// A response with this status came.
    pub fn on_response(&mut self, now: MonoTime, status: u16) -> NictAction {
        match (self.state, status) {
            (NictState::Trying | NictState::Proceeding, 100..=199) => {
                self.state = NictState::Proceeding;
                NictAction::Pass
            }
            (NictState::Trying | NictState::Proceeding, 200..=699) => {
                self.request = None;
                self.retransmit = None;
                if self.reliable {
                    self.terminate();
                } else {
                    self.state = NictState::Completed;
                    self.deadline = Some(now + self.timers.t4());
                }
                NictAction::Pass
            }
            _ => NictAction::None,
        }
    }

    /// Sending failed for good.
    pub fn on_transport_error(&mut self) -> NictAction {
        match self.state {
            NictState::Trying | NictState::Proceeding => {
                self.terminate();
                NictAction::TransportError
            }
            NictState::Completed | NictState::Terminated => NictAction::None,
        }
    }

    /// When [`Nict::on_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<MonoTime> {
        let retransmit = self.retransmit.map(|(at, _)| at);
        match (retransmit, self.deadline) {
            (Some(e), Some(f)) => Some(e.min(f)),
            (e, f) => e.or(f),
        }
    }

    /// Fires what is due. Nothing is sent when the transaction ends at the same time.
    pub fn on_timeout(&mut self, now: MonoTime) -> NictAction {
        if self.deadline.is_some_and(|at| at <= now) {
            let unanswered = self.is_open();
            self.terminate();
            return if unanswered { NictAction::Timeout } else { NictAction::None };
        }
        match (self.retransmit, &self.request) {
            (Some((at, interval)), Some(request)) if at <= now => {
                let interval = match self.state {
                    NictState::Proceeding => self.timers.t2(),
                    _ => self.timers.doubled_up_to_t2(interval),
                };
                self.retransmit = Some((now + interval, interval));
                NictAction::Transmit(request.clone())
            }
            _ => NictAction::None,
        }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> NictState {
        self.state
    }

    /// Whether a final response is still awaited.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, NictState::Trying | NictState::Proceeding)
    }

    /// Whether the machine is to be dropped.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state == NictState::Terminated
    }

    fn terminate(&mut self) {
        self.state = NictState::Terminated;
        self.request = None;
        self.retransmit = None;
        self.deadline = None;
    }
}
