//! Abdication: a leader that cannot commit falls silent, so that the others elect one that can.
//!
//! A transfer of leadership is no help there: it ends the followers' promises, and the grant that goes before it is an entry
//! that would have to be committed. Silence breaks no promise. Whoever has been silent leads on afterwards in the same
//! term, if nobody else was elected: those who acknowledge it then have promised it again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proxy_core::time::MonoTime;

use super::client::Transport;
use super::core::Core;

/// Shortest pause until it is looked again whether an abdication is over.
const TICK: Duration = Duration::from_millis(1);

impl<T: Transport> Core<T> {
    /// Says nothing as a leader (no heartbeats, no entries) and does not stand, for this time. Follows and votes as
    /// ever, and says to whoever leads then that it would not lead. To be called inside the node's runtime, when the
    /// service is down here.
    pub fn abdicate(&self, lasts: Duration) {
        let clients = self.clients();
        let until = (clients.clock)().mono + lasts;
        clients.mute_until.fetch_max(until.0, Ordering::SeqCst);
        self.raft().runtime_config().elect(false);
        let core = self.clone();
        tokio::spawn(async move {
            // Perhaps once more: it may have been prolonged, and the two clocks do not tick as one.
            while let Some(until) = core.mute_until((core.clients().clock)().mono) {
                let left = until.since((core.clients().clock)().mono);
                tokio::time::sleep(left.max(TICK)).await;
            }
            if !core.silent() {
                core.raft().runtime_config().elect(true);
            }
        });
    }

    /// Until when this node has abdicated.
    pub(super) fn mute_until(&self, now: MonoTime) -> Option<MonoTime> {
        let until = MonoTime(self.clients().mute_until.load(Ordering::SeqCst));
        (now < until).then_some(until)
    }
}
