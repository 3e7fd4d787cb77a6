//! What the control thread shows to the admin socket.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proxy_core::time::MonoTime;

use super::amends::Amended;
use super::pulse::Shown;
use crate::control::{Fitness, Goal, Place, Resources};

/// The newest picture.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// What the resources shall reach.
    pub goal: Goal,
    /// How far they are.
    pub resources: Resources,
    /// End of the lease, while the goal is up.
    pub lease_until: Option<MonoTime>,
    /// Who should follow if this node dies.
    pub heir: Option<Place>,
    /// What ails whom, as far as this node knows.
    pub fitness: Vec<(Place, Fitness)>,
    /// The threads that calls need, and whether they get on.
    pub pulses: Vec<Shown>,
    /// The last thing that went wrong with a resource, until it goes right.
    pub trouble: Option<String>,
    /// What others have changed on this machine, and was put right.
    pub amended: Vec<Amended>,
    /// Why the node that leadership was transferred to last did not take it, by its own word.
    pub refused: Option<String>,
    /// Times this node became active since it started.
    pub takeovers: u64,
    /// Longest time between two rounds of the control thread.
    pub longest_round: Duration,
    /// The node is ending.
    pub ending: bool,
}

impl Picture {
    /// Whether the service is answered here now.
    #[must_use]
    pub fn active(&self, now: MonoTime) -> bool {
        matches!(self.goal, Goal::Up { .. })
            && self.resources == Resources::Started
            && self.lease_until.is_some_and(|end| now < end)
    }
}

/// Shared between the control thread (writes) and the admin threads (read).
#[derive(Debug, Default)]
pub struct Live(Mutex<Picture>);

impl Live {
    /// A copy.
    #[must_use]
    pub fn picture(&self) -> Picture {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces it.
    pub fn show(&self, picture: Picture) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = picture;
    }
}
