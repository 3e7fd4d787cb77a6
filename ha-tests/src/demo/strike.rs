//! The loss itself.

use nix::sys::signal::Signal;

use crate::lab::fault::Blow;
use crate::lab::proc::Proc;

/// What strikes.
pub(super) enum Strike {
    /// Power loss.
    Power(Blow, Proc),
    /// A signal to the agent.
    Signal(Proc, Signal),
}

impl Strike {
    /// The loss itself: a few system calls.
    pub(super) fn now(&self) {
        match self {
            Strike::Power(blow, switch) => blow.strike(*switch),
            Strike::Signal(agent, signal) => {
                agent.signal(*signal);
            }
        }
    }
}
