//! INVITE server transaction: RFC 3261 §17.2.1, with the Accepted state of RFC 6026 §7.1.
//!
//! | state | event | action | next |
//! |---|---|---|---|
//! | Proceeding | made | nothing: the 100 leaves when the INVITE is safe on a majority | Proceeding |
//! | Proceeding | INVITE again | send the last provisional, nothing while there is none | Proceeding |
//! | Proceeding | 1xx from the proxy | send it, keep it | Proceeding |
//! | Proceeding | 2xx from the proxy | send it, arm L = 64*T1 | Accepted |
//! | Proceeding | 300-699 from the proxy | send it, keep it, arm G = T1 (reliable: none), H = 64*T1 | Completed |
//! | Accepted | 2xx from the proxy | send it | Accepted |
//! | Accepted | INVITE again | nothing | Accepted |
//! | Accepted | ACK | Pass (it goes to the callee) | Accepted |
//! | Accepted | timer L | nothing | Terminated |
//! | Completed | INVITE again | send the final | Completed |
//! | Completed | timer G | send the final, G doubles up to T2 | Completed |
//! | Completed | ACK | arm I = T4 (reliable: 0) | Confirmed |
//! | Completed | timer H | Timeout | Terminated |
//! | Confirmed | ACK, INVITE again | nothing | Confirmed |
//! | Confirmed | timer I | nothing | Terminated |
//! | Proceeding, Completed, Accepted | transport error | TransportError | the same |

use std::time::Duration;

use super::{SharedBytes, TimerConfig};
use crate::time::MonoTime;

/// States of RFC 6026 Figure 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IstState {
    /// No final response sent.
    Proceeding,
    /// A 300-699 was sent, its ACK is awaited.
    Completed,
    /// The ACK of a 300-699 came.
    Confirmed,
    /// A 2xx was sent.
    Accepted,
    /// To be dropped.
    Terminated,
}

/// What is to be done after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IstAction {
    /// Nothing.
    None,
    /// Send these bytes (again).
    Transmit(SharedBytes),
    /// The ACK of a 2xx: hand it to the proxy.
    Pass,
    /// Timer H: nobody acknowledged the 300-699.
    Timeout,
    /// The transport failed.
    TransportError,
}

/// One INVITE server transaction.
#[derive(Debug, Clone)]
pub struct Ist {
    state: IstState,
    timers: TimerConfig,
    reliable: bool,
    /// The last provisional, or the 300-699.
    last: Option<SharedBytes>,
    /// Timer G: when, and the interval that led there.
    retransmit: Option<(MonoTime, Duration)>,
    /// Timer H, I or L.
    deadline: Option<MonoTime>,
}

impl Ist {
    /// Starts in Proceeding.
    #[must_use]
    pub fn new(timers: &TimerConfig, reliable: bool) -> Self {
        Self {
            state: IstState::Proceeding,
            timers: *timers,
            reliable,
            last: None,
            retransmit: None,
            deadline: None,
        }
    }

    /// The INVITE came again.
    pub fn on_request_retransmit(&self) -> IstAction {
        match (self.state, &self.last) {
            (IstState::Proceeding | IstState::Completed, Some(last)) => IstAction::Transmit(last.clone()),
            _ => IstAction::None,
        }
    }

    /// An ACK that matches this transaction came.
    pub fn on_ack(&mut self, now: MonoTime) -> IstAction {
        match self.state {
            IstState::Completed => {
                self.last = None;
                self.retransmit = None;
                if self.reliable {
                    self.terminate();
                } else {
                    self.state = IstState::Confirmed;
                    self.deadline = Some(now + self.timers.t4());
                }
                IstAction::None
            }
            IstState::Accepted => IstAction::Pass,
            IstState::Proceeding | IstState::Confirmed | IstState::Terminated => IstAction::None,
        }
    }

    /// The proxy responds. A response that the state does not allow (a 180 after the 200, a second 486) is
    /// not sent.
    pub fn send_response(&mut self, now: MonoTime, status: u16, bytes: SharedBytes) -> IstAction {
        match (self.state, status) {
            (IstState::Proceeding, 100..=199) => {
                self.last = Some(bytes.clone());
            }
            (IstState::Proceeding | IstState::Accepted, 200..=299) => {
                // Timer L runs from the first 2xx (RFC 6026 §8.7).
                if self.state == IstState::Proceeding {
                    self.deadline = Some(now + self.timers.t1_64());
                }
                self.state = IstState::Accepted;
                // The callee repeats the 2xx, not this machine.
                self.last = None;
            }
            (IstState::Proceeding, 300..=699) => {
                self.state = IstState::Completed;
                self.last = Some(bytes.clone());
                self.retransmit = (!self.reliable).then(|| (now + self.timers.t1(), self.timers.t1()));
                self.deadline = Some(now + self.timers.t1_64());
            }
            _ => return IstAction::None,
        }
        IstAction::Transmit(bytes)
    }

    /// Sending failed. RFC 6026: only the proxy is told, for a retransmission may find the way.
    pub fn on_transport_error(&self) -> IstAction {
        match self.state {
            IstState::Proceeding | IstState::Completed | IstState::Accepted => IstAction::TransportError,
            IstState::Confirmed | IstState::Terminated => IstAction::None,
        }
    }

    /// When [`Ist::on_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<MonoTime> {
        let retransmit = self.retransmit.map(|(at, _)| at);
        match (retransmit, self.deadline) {
            (Some(g), Some(h)) => Some(g.min(h)),
            (g, h) => g.or(h),
        }
    }

    /// Fires what is due. Nothing is sent when the transaction ends at the same time.
    pub fn on_timeout(&mut self, now: MonoTime) -> IstAction {
        if self.deadline.is_some_and(|at| at <= now) {
            let unacknowledged = self.state == IstState::Completed;
            self.terminate();
            return if unacknowledged { IstAction::Timeout } else { IstAction::None };
        }
        match (self.retransmit, &self.last) {
            (Some((at, interval)), Some(last)) if at <= now => {
                let interval = self.timers.doubled_up_to_t2(interval);
                self.retransmit = Some((now + interval, interval));
                IstAction::Transmit(last.clone())
            }
            _ => IstAction::None,
        }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> IstState {
        self.state
    }

    /// Whether a final response may still be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == IstState::Proceeding
    }

    /// Whether the machine is to be dropped.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state == IstState::Terminated
    }

    fn terminate(&mut self) {
        self.state = IstState::Terminated;
        self.last = None;
        self.retransmit = None;
        self.deadline = None;
    }
}
