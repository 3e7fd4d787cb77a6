//! When openraft's timer runs. While it does, the node wakes up at each fifth of a heartbeat interval, and nearly always
//! for nothing.
//!
//! | this node | the timer |
//! |---|---|
//! | leads | stands still; a heartbeat is asked for at each interval |
//! | was sent something by the leader within [`quiet`] | stands still: no election can be due |
//! | was not | runs, as long as that lasts: openraft stands when its time has come |
//!
//! What counts is when a message of the leader came, and not when it was dealt with: openraft cannot have heard the
//! leader any earlier, so that the timer always runs for the second half of a timeout.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::client::Transport;
use super::core::{Core, CoreConfig};

/// When the leader was heard.
pub(super) struct Pace(Mutex<Option<Instant>>);

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl Pace {
    /// A message of the leader that counts came at `at`.
    pub(super) fn heard(&self, at: Instant) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = (*heard).max(Some(at));
    }

    /// How much of `quiet` is left at `now`.
    fn left(&self, quiet: Duration, now: Instant) -> Option<Duration> {
        let heard = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map(|at| (at + quiet).saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

/// How long after a word of the leader nobody can have to stand: half of the shortest election timeout.
fn quiet(config: &CoreConfig) -> Duration {
    config.election_min / 2
}

/// Sets the timer and asks for heartbeats, as long as Raft lives.
pub(super) async fn keep<T: Transport>(core: Core<T>) {
    let (heartbeat, quiet) = (core.config().heartbeat, quiet(core.config()));
    let (metrics, mut state) = (core.raft().metrics(), core.raft().server_metrics());
    loop {
        let leads = {
            let metrics = metrics.borrow_watched();
            if metrics.running_state.is_err() {
                return;
            }
            metrics.state.is_leader()
        };
        let pause = if leads {
            core.raft().runtime_config().tick(false);
            if core.raft().trigger().heartbeat().await.is_err() {
                return;
            }
            heartbeat
        } else {
            let left = core.pace().left(quiet, Instant::now());
            core.raft().runtime_config().tick(left.is_none());
            left.unwrap_or(heartbeat)
        };
        tokio::select! {
            // Who becomes the leader is heard at once.
            changed = state.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_stands_still_for_a_while_after_each_word_of_the_leader() {
        let (pace, began, ms) = (Pace::default(), Instant::now(), Duration::from_millis);
        assert_eq!(pace.left(ms(40), began), None, "nobody was heard yet");
        pace.heard(began + ms(10));
        pace.heard(began);
        assert_eq!(pace.left(ms(40), began + ms(20)), Some(ms(30)), "the later one counts");
        assert_eq!(pace.left(ms(40), began + ms(50)), None);
    }
}
