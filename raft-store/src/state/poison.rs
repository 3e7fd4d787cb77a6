//! Commands that cannot be applied. A panic in `apply` is a fault of this program, and comes to every node at the same
//! entry: without this a committed command would end one node after the other, for ever.
//!
//! The command is answered with [`Response::Poisoned`] and the next one is applied. That is decided by the entry alone,
//! so that every node of a version does the same.

use super::ClusterState;
use crate::command::{Command, Response};
use crate::contain::contained;

/// A command that was refused because `apply` has panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poisoned {
    /// Its number in the entry, from 0.
    pub number: usize,
    /// What the panic said.
    pub why: String,
}

/// In a debug build [`Command::Drain`] of this place is a command that cannot be applied: to try out what comes of it.
pub const DRILL_PLACE: crate::node::Place = crate::node::Place::MAX;

/// Fails at [`DRILL_PLACE`], in a debug build.
pub(super) fn drill(place: crate::node::Place) {
    assert!(!cfg!(debug_assertions) || place != DRILL_PLACE, "a death on order");
}

impl ClusterState {
    /// Applies the commands of the entry at `index`, in order; one answer for each, and which of them were poison.
    pub fn apply_all(&mut self, index: u64, commands: &[Command]) -> (Vec<Response>, Vec<Poisoned>) {
        let mut poisoned = Vec::new();
        let mut one = |(number, command): (usize, &Command)| {
            contained(|| self.apply(index, command)).unwrap_or_else(|why| {
                // The records are what they are, and the same everywhere; what is derived from them must fit again.
                self.sip.mend();
                poisoned.push(Poisoned { number, why });
                Response::Poisoned
            })
        };
        let responses = commands.iter().enumerate().map(&mut one).collect();
        (responses, poisoned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(debug_assertions)]
    #[test]
    fn a_command_that_cannot_be_applied_is_refused_and_those_around_it_are_applied() {
        let drain = |place| Command::Drain { place, drained: true };
        let (mut state, mut twin) = (ClusterState::default(), ClusterState::default());
        let (answers, poisoned) = state.apply_all(7, &[drain(1), drain(DRILL_PLACE), drain(2)]);
        assert_eq!(answers, [Response::Done, Response::Poisoned, Response::Done]);
        assert_eq!(poisoned, [Poisoned { number: 1, why: String::from("a death on order") }]);
        twin.apply_all(7, &[drain(1), drain(2)]);
        assert_eq!(state, twin, "it has changed nothing");
    }
}
