//! A switchover that was planned for a time. The plan is in the replicated state, so that it survives a change of leader;
//! whoever is active when its time comes carries it out.
//!
//! | the active node | does |
//! |---|---|
//! | is the one that was named | strikes the plan out: it has come true, whoever brought it about |
//! | is another one, the time has come | hands over as planned; where that cannot begin, again after [`RETRY`] |
//! | the same, [`APPOINTMENT_GRACE`] after the time | strikes the plan out, and says why it did not come true |

use std::time::Duration;

use proxy_core::time::MonoTime;

use super::{CannotSwitch, Control, Facts, Goal, Place, Planned};

/// A planned switchover that has not come true by then is given up: who planned it for three in the morning does not
/// want it at nine.
pub const APPOINTMENT_GRACE: Duration = Duration::from_secs(60);
/// Pause between two tries, and between two proposals to strike the plan out.
const RETRY: Duration = Duration::from_secs(1);

/// What the active node has done about a plan.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Appointment {
    /// For which plan, and when.
    tried: Option<(u64, MonoTime)>,
}

/// What has come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// The hand-over has begun.
    Begun {
        /// To whom.
        to: Place,
    },
    /// It cannot begin yet. Told once for each plan.
    NotYet {
        /// Why.
        why: CannotSwitch,
    },
    /// The plan is to be struck out.
    Over {
        /// Which.
        id: u64,
        /// It has come true.
        kept: bool,
    },
}

impl Control {
    /// Looks whether a planned switchover is due. `goal` is what was decided a moment ago.
    pub fn appointment(&mut self, now: MonoTime, facts: &Facts, goal: Goal) -> Option<Turn> {
        let Planned { id, to, at } = facts.planned.filter(|p| goal != Goal::Down && facts.time >= p.at)?;
        let is_soon = |(of, when): (u64, MonoTime)| of == id && now.since(when) < RETRY;
        if self.hand_over.is_some() || self.appointment.tried.is_some_and(is_soon) {
            return None;
        }
        let is_first = self.appointment.tried.is_none_or(|(of, _)| of != id);
        self.appointment.tried = Some((id, now));
        if to == self.settings.place {
            return Some(Turn::Over { id, kept: true });
        }
        if at.until(facts.time) > APPOINTMENT_GRACE {
            return Some(Turn::Over { id, kept: false });
        }
        match self.switchover(now, Some(to), facts) {
            Ok(to) => Some(Turn::Begun { to }),
            Err(why) => is_first.then_some(Turn::NotYet { why }),
        }
    }
}
