//! What the proxy does by itself, twice a second while this node is active: so on exactly one node.
//!
//! Each feature has a `…_tick`, called by every engine. One that concerns the whole proxy does its work on
//! [`Engine::is_first_shard`]; one that concerns a call, a trunk or whatever else has a Call-ID on the engine of that
//! ([`Engine::is_own_shard`]), as the responses come there. A tick looks at an index by time and takes what is due:
//! it costs nothing when nothing is, and at most a bounded batch when all is.

use super::{Cx, Engine, Timer, shard_of};
use crate::engine::limits::CHORES_INTERVAL;

/// A chore, with what it is called where it fails.
type Chore = (&'static str, fn(&mut Engine, Cx<'_>));

impl Engine {
    /// Fires the chores and sets their next time.
    pub(super) fn on_chores(&mut self, cx: Cx<'_>) {
        // In the order of what hurts first when it is late. One line per feature.
        let all: [Chore; 9] = [
            ("the key of challenges", Self::auth_tick),
            ("the chore for destinations", Self::dispatch_tick),
            ("the chore for trunks", Self::trunk_tick),
            ("the probes of trunks", Self::trunk_probe_tick),
            ("the chore for media proxies", Self::media_tick),
            ("the pings through NATs", Self::nat_tick),
            ("the ends of dialogs", Self::dialog_tick),
            ("the chore for subscriptions", Self::presence_tick),
            ("the chore for stored messages", Self::messages_tick),
        ];
        // First: it fires again, whatever comes of one of them.
        self.timers.set(Timer::Chores, Some(cx.now.mono + CHORES_INTERVAL));
        for (name, tick) in all {
            self.contain(|| name.to_owned(), |engine| tick(engine, cx));
        }
        // Last: what was proposed before has taken them along.
        self.tell_counts();
    }

    /// Whether chores that concern the whole proxy are this engine's.
    pub(crate) fn is_first_shard(&self) -> bool {
        self.settings.config.shard == 0
    }

    /// Whether messages with this Call-ID come to this engine.
    pub(crate) fn is_own_shard(&self, call_id: &str) -> bool {
        shard_of(call_id.as_bytes(), self.settings.config.shards) == self.settings.config.shard
    }

    /// A Call-ID for `parts`, derived with the cluster key, whose messages come to this engine: equal on all nodes with
    /// equally many engines. For what has to have one Call-ID whatever the number of engines, take
    /// [`crate::engine::keys::Keys::own_call_id`] and [`Engine::is_own_shard`].
    pub(crate) fn call_id_here(&self, label: &str, parts: &[&[u8]]) -> String {
        // Half of all tries fit with two engines, one in n with n; the bound is only there for form's sake.
        let mut call_id = String::new();
        for salt in 0..u32::from(self.settings.config.shards).saturating_mul(64).max(1) {
            call_id = self.settings.keys.own_call_id(label, parts, salt);
            if self.is_own_shard(&call_id) {
                break;
            }
        }
        call_id
    }
}
