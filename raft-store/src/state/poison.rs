//! Commands that cannot be applied. A panic in `apply` is a fault of this program, and comes to every node at the same
//! entry: without this a committed command would end one node after the other, for ever.
//!
//! The command is answered with [`Response::Poisoned`], what it had changed until then is taken back, and the next one is
//! applied. That is decided by the entry alone, so that every node of a version does the same.

use proxy_core::state::Changes;

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

/// What came of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// One answer for each command.
    pub responses: Vec<Response>,
    /// Those that were poison.
    pub poisoned: Vec<Poisoned>,
    /// The records that it has changed.
    pub changes: Changes,
}

/// In a debug build [`Command::Drain`] of this place is a command that cannot be applied: to try out what comes of it.
pub const DRILL_PLACE: crate::node::Place = crate::node::Place::MAX;

/// Fails at [`DRILL_PLACE`], in a debug build.
pub(super) fn drill(place: crate::node::Place) {
    assert!(!cfg!(debug_assertions) || place != DRILL_PLACE, "a death on order");
}

impl ClusterState {
    /// Applies the commands of the entry at `index`, in order.
    ///
    /// # Panics
    /// A command cannot be applied, and what it has changed cannot be taken back: it has broken a map. The process must
    /// end, and begin again with what is on the disk.
    pub fn apply_all(&mut self, index: u64, commands: &[Command]) -> Applied {
        let before = self.watch();
        let mut poisoned: Vec<Poisoned> = Vec::new();
        let mut responses = Vec::with_capacity(commands.len());
        for (number, command) in commands.iter().enumerate() {
            let response = contained(|| self.apply(index, command)).unwrap_or_else(|why| {
                let taken_back = self.take_back(&before);
                assert!(taken_back.is_ok(), "entry {index} has broken the state: {why}");
                // Those before it once more: they could be applied, and can again.
                for (earlier, command) in commands.iter().enumerate().take(number) {
                    if poisoned.iter().all(|p| p.number != earlier) {
                        self.apply(index, command);
                    }
                }
                poisoned.push(Poisoned { number, why });
                Response::Poisoned
            });
            responses.push(response);
        }
        Applied { responses, poisoned, changes: self.sip.changes() }
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
        let Applied { responses: answers, poisoned, .. } =
            state.apply_all(7, &[drain(1), drain(DRILL_PLACE), drain(2)]);
        assert_eq!(answers, [Response::Done, Response::Poisoned, Response::Done]);
        assert_eq!(poisoned, [Poisoned { number: 1, why: String::from("a death on order") }]);
        twin.apply_all(7, &[drain(1), drain(2)]);
        assert_eq!(state, twin, "it has changed nothing, though it fails in the midst of a change");
        state.apply_all(8, &[drain(DRILL_PLACE), drain(3), drain(DRILL_PLACE), drain(4)]);
        twin.apply_all(8, &[drain(3), drain(4)]);
        assert_eq!(state, twin, "nor do two of them");
    }
}
