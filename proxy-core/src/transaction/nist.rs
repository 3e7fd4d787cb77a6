//! Non-INVITE server transaction: RFC 3261 §17.2.2.
//!
//! | state | event | action | next |
//! |---|---|---|---|
//! | Trying | request again | nothing | Trying |
//! | Trying, Proceeding | 1xx from the proxy | send it, keep it | Proceeding |
//! | Trying, Proceeding | 200-699 from the proxy | send it, keep it, arm J = 64*T1 (reliable: 0) | Completed |
//! | Proceeding | request again | send the last provisional | Proceeding |
//! | Completed | request again | send the final | Completed |
//! | Completed | any response from the proxy | nothing | Completed |
//! | Completed | timer J | nothing | Terminated |
//! | Proceeding, Completed | transport error | TransportError | Terminated |
//!
//! A request without a final response has no timer here: its owner ends it (client timer F, or a refused
//! proposal).

use super::{SharedBytes, TimerConfig};
use crate::time::MonoTime;

/// States of RFC 3261 Figure 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NistState {
    /// Nothing sent.
    Trying,
    /// A provisional response was sent.
    Proceeding,
    /// The final response was sent.
    Completed,
    /// To be dropped.
    Terminated,
}

/// What is to be done after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NistAction {
    /// Nothing.
    None,
    /// Send these bytes (again).
    Transmit(SharedBytes),
    /// The transport failed.
    TransportError,
}

/// One non-INVITE server transaction.
#[derive(Debug, Clone)]
pub struct Nist {
    state: NistState,
    timers: TimerConfig,
    reliable: bool,
    /// The last response.
    last: Option<SharedBytes>,
    /// Timer J.
    deadline: Option<MonoTime>,
}

impl Nist {
    /// Starts in Trying.
    #[must_use]
    pub fn new(timers: &TimerConfig, reliable: bool) -> Self {
        Self { state: NistState::Trying, timers: *timers, reliable, last: None, deadline: None }
    }

    /// The request came again.
    pub fn on_request_retransmit(&self) -> NistAction {
        self.last.clone().map_or(NistAction::None, NistAction::Transmit)
    }

    /// The proxy responds. What comes after the final response is not sent.
    pub fn send_response(&mut self, now: MonoTime, status: u16, bytes: SharedBytes) -> NistAction {
        match (self.state, status) {
            (NistState::Trying | NistState::Proceeding, 100..=199) => {
                self.state = NistState::Proceeding;
                self.last = Some(bytes.clone());
            }
            (NistState::Trying | NistState::Proceeding, 200..=699) => {
                if self.reliable {
                    self.terminate();
                } else {
                    self.state = NistState::Completed;
                    self.last = Some(bytes.clone());
                    self.deadline = Some(now + self.timers.t1_64());
                }
            }
            _ => return NistAction::None,
        }
        NistAction::Transmit(bytes)
    }

    /// Sending failed for good.
    pub fn on_transport_error(&mut self) -> NistAction {
        match self.state {
            NistState::Proceeding | NistState::Completed => {
                self.terminate();
                NistAction::TransportError
            }
            NistState::Trying | NistState::Terminated => NistAction::None,
        }
    }

    /// When [`Nist::on_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<MonoTime> {
        self.deadline
    }

    /// Fires timer J if it is due.
    pub fn on_timeout(&mut self, now: MonoTime) -> NistAction {
        if self.deadline.is_some_and(|at| at <= now) {
            self.terminate();
        }
        NistAction::None
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> NistState {
        self.state
    }

    /// Whether a final response may still be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, NistState::Trying | NistState::Proceeding)
    }

    /// Whether the machine is to be dropped.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state == NistState::Terminated
    }

    fn terminate(&mut self) {
        self.state = NistState::Terminated;
        self.last = None;
        self.deadline = None;
    }
}
