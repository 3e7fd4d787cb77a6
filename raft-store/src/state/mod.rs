//! The replicated state of a cluster: the SIP state, and who may serve. Pure and deterministic.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::iter_over_hash_type)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minicbor::{CborLen, Decode, Encode};
use proxy_core::state::{Counts, Lost, SipState};
use proxy_core::time::WallTime;
use serde::{Deserialize, Serialize};

mod fitness;
mod history;
mod maintenance;
mod poison;
mod suspects;

pub use fitness::{AILMENTS, Ailment, Fitness};
pub use history::{Event, EventKind, MAX_EVENTS, MAX_WORDS};
pub use maintenance::{MAX_AHEAD_MS, MAX_PAUSE_MS, MAX_REASON_BYTES, Pause, Planned};
pub use poison::{Applied, DRILL_PLACE, Poisoned};
pub use suspects::{DEATHS_THAT_PROVE, MAX_SUSPECTS, Suspect};

use crate::command::{Command, GrantReason, Response, Versions};
use crate::node::Place;
use crate::time::Stamp;
use crate::wire::{FIRST_VERSION, HISTORY_VERSION, TIME_VERSION};

/// Most places about which marks are kept.
pub const MAX_PLACES: usize = 64;

/// Who holds the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Grant {
    /// The node named.
    #[n(0)]
    pub holder: Place,
    /// Fence token: the log index of the grant, so that a later one is always larger.
    #[n(1)]
    pub token: u64,
    /// Why.
    #[n(2)]
    pub reason: GrantReason,
    /// When it was decided.
    #[n(3)]
    pub at: WallTime,
}

/// What is known of a node beyond the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Marks {
    /// The operator wants it to hold nothing.
    #[n(0)]
    pub drained: bool,
    /// It says that it could serve.
    #[n(1)]
    pub healthy: bool,
    /// What it says of itself beyond that.
    #[cbor(n(2), with = "proxy_core::wire::added", has_nil)]
    pub own: Fitness,
    /// An operator has removed it from the cluster.
    #[cbor(n(20), with = "proxy_core::wire::added", has_nil)]
    pub removed: bool,
}

impl Marks {
    /// All that makes it a worse choice.
    #[must_use]
    pub fn fitness(self) -> Fitness {
        self.own.set(Ailment::Unhealthy, !self.healthy).set(Ailment::Drained, self.drained)
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self { drained: false, healthy: true, own: Fitness::FIT, removed: false }
    }
}

/// The replicated state. Only [`ClusterState::apply`] changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct ClusterState {
    #[n(0)]
    sip: SipState,
    #[cbor(n(1), with = "proxy_core::wire::opt", has_nil)]
    grant: Option<Grant>,
    #[cbor(n(2), with = "proxy_core::wire::map", has_nil)]
    marks: BTreeMap<Place, Marks>,
    #[cbor(n(3), with = "proxy_core::wire::list", has_nil)]
    suspects: Vec<Suspect>,
    /// Which format versions nodes have said that they read.
    #[cbor(n(4), with = "proxy_core::wire::map", has_nil)]
    reads: BTreeMap<Place, Versions>,
    #[cbor(n(5), with = "proxy_core::wire::opt", has_nil)]
    stamp: Option<Stamp>,
    /// Shared: every entry keeps what was there before it.
    #[cbor(n(6), with = "history::shared", has_nil)]
    #[serde(with = "history::shared")]
    history: Arc<Vec<Event>>,
    /// No automatic takeover.
    #[cbor(n(25), with = "proxy_core::wire::opt", has_nil)]
    pause: Option<Pause>,
    #[cbor(n(26), with = "proxy_core::wire::opt", has_nil)]
    planned: Option<Planned>,
}

/// What was there before an entry, but for the records that maps have noted.
struct Kept {
    sip: proxy_core::state::Kept,
    grant: Option<Grant>,
    marks: BTreeMap<Place, Marks>,
    suspects: Vec<Suspect>,
    reads: BTreeMap<Place, Versions>,
    stamp: Option<Stamp>,
    history: Arc<Vec<Event>>,
    pause: Option<Pause>,
    planned: Option<Planned>,
}

impl ClusterState {
    /// A copy to be written down, which costs next to nothing however large the state is; see [`SipState::frozen`].
    #[must_use]
    pub fn frozen(&self) -> Self {
        let Self { sip, grant, marks, suspects, reads, stamp, history, pause, planned } = self;
        Self {
            sip: sip.frozen(),
            grant: *grant,
            marks: marks.clone(),
            suspects: suspects.clone(),
            reads: reads.clone(),
            stamp: *stamp,
            history: history.clone(),
            pause: pause.clone(),
            planned: *planned,
        }
    }

    /// Begins to note what is changed, so that it can be told and taken back.
    fn watch(&mut self) -> Kept {
        let Self { sip, grant, marks, suspects, reads, stamp, history, pause, planned } = self;
        let (marks, suspects, reads) = (marks.clone(), suspects.clone(), reads.clone());
        let (history, pause, planned) = (history.clone(), pause.clone(), *planned);
        Kept {
            sip: sip.watch(),
            grant: *grant,
            marks,
            suspects,
            reads,
            stamp: *stamp,
            history,
            pause,
            planned,
        }
    }

    /// Makes it what it was at [`ClusterState::watch`], and goes on noting.
    fn take_back(&mut self, kept: &Kept) -> Result<(), Lost> {
        let Kept { sip, grant, marks, suspects, reads, stamp, history, pause, planned } = kept;
        (self.grant, self.stamp, self.planned) = (*grant, *stamp, *planned);
        self.pause.clone_from(pause);
        (self.marks, self.suspects, self.reads) = (marks.clone(), suspects.clone(), reads.clone());
        self.history.clone_from(history);
        self.sip.take_back(sip)
    }

    /// Applies one command of the entry at `index`. Total: every command has an answer, none panics.
    pub fn apply(&mut self, index: u64, command: &Command) -> Response {
        match command {
            Command::Sip(command) => Response::Sip(self.sip.apply(command)),
            Command::Grant { holder, reason, at } => {
                let forbids = |g: Grant| {
                    self.pause.as_ref().is_some_and(|p| p.forbids(g.holder, *holder, *reason, *at))
                };
                if self.grant.is_some_and(forbids) {
                    return Response::Done;
                }
                self.grant = Some(Grant { holder: *holder, token: index, reason: *reason, at: *at });
                Response::Granted { token: index }
            }
            Command::Drain { place, drained } => {
                self.mark(*place, |m| m.drained = *drained);
                poison::drill(*place);
                Response::Done
            }
            Command::Health { place, healthy } => {
                self.mark(*place, |m| m.healthy = *healthy);
                Response::Done
            }
            Command::Fitness { place, own } => {
                self.mark(*place, |m| m.own = *own);
                Response::Done
            }
            Command::Suspect { fingerprint, place, moment } => {
                suspects::add(&mut self.suspects, *fingerprint, *place, *moment);
                Response::Done
            }
            Command::Reads { place, versions } => {
                if *versions == Versions::FIRST {
                    // What is so by itself takes no room.
                    self.reads.remove(place);
                } else if self.reads.contains_key(place) || self.reads.len() < MAX_PLACES {
                    self.reads.insert(*place, *versions);
                }
                Response::Done
            }
            Command::Event(told) => {
                history::note(Arc::make_mut(&mut self.history), index, told);
                Response::Done
            }
            Command::Removed { place, removed } => {
                self.mark(*place, |m| m.removed = *removed);
                Response::Done
            }
            Command::Stamp(stamp) => {
                // A leader that was deposed may still have said something; time does not go back.
                if self.stamp.is_none_or(|known| known.time <= stamp.time) {
                    let before = self.stamp.replace(*stamp);
                    // An outage is told more than once; it was before the first stamp of its teller.
                    if let Some(before) = before.filter(|b| stamp.skipped_ms > 0 && b.boot != stamp.boot) {
                        self.sip.bridge_outage(before.time, stamp.time);
                    }
                    self.sip.set_wall_offset(stamp.wall_offset());
                    self.pause.take_if(|pause| !pause.holds(stamp.time));
                }
                Response::Done
            }
            Command::Pause(pause) => {
                self.pause = pause.bounded();
                Response::Done
            }
            Command::Resume => {
                self.pause = None;
                Response::Done
            }
            Command::Plan { to, at } => {
                self.planned = Some(Planned { id: index, to: *to, at: *at });
                Response::Done
            }
            Command::Unplan { id } => {
                self.planned.take_if(|planned| planned.id == *id);
                Response::Done
            }
        }
    }

    /// Which format versions a node reads, as far as it was noted: the first one always.
    #[must_use]
    pub fn reads(&self, place: Place) -> Versions {
        self.reads.get(&place).copied().unwrap_or(Versions::FIRST)
    }

    fn mark(&mut self, place: Place, f: impl FnOnce(&mut Marks)) {
        let mut marks = self.marks(place);
        f(&mut marks);
        if marks == Marks::default() {
            // The usual case takes no room, and equal states stay equal bytes.
            self.marks.remove(&place);
        } else if self.marks.contains_key(&place) || self.marks.len() < MAX_PLACES {
            self.marks.insert(place, marks);
        }
    }

    /// Bindings, pending INVITEs and dialogs.
    #[must_use]
    pub fn sip(&self) -> &SipState {
        &self.sip
    }

    /// The format version from which on it is read.
    #[must_use]
    pub fn since_version(&self) -> u8 {
        let newer = self.stamp.is_some() || self.marks.values().any(|m| m.removed);
        match () {
            () if !self.history.is_empty() => HISTORY_VERSION,
            () if newer || self.pause.is_some() || self.planned.is_some() => TIME_VERSION,
            () => FIRST_VERSION,
        }
    }

    /// The newest stamp.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// The newest grant.
    #[must_use]
    pub fn grant(&self) -> Option<Grant> {
        self.grant
    }

    /// What is known of a node.
    #[must_use]
    pub fn marks(&self, place: Place) -> Marks {
        self.marks.get(&place).copied().unwrap_or_default()
    }

    /// The places from which an operator has removed the node.
    #[must_use]
    pub fn removed(&self) -> BTreeSet<Place> {
        self.marks.iter().filter(|(_, marks)| marks.removed).map(|(place, _)| *place).collect()
    }

    /// The places that something ails.
    #[must_use]
    pub fn fitness(&self) -> Vec<(Place, Fitness)> {
        self.marks.iter().map(|(place, marks)| (*place, marks.fitness())).collect()
    }

    /// No automatic takeover, by an operator's order.
    #[must_use]
    pub fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// The switchover that is to come.
    #[must_use]
    pub fn planned(&self) -> Option<Planned> {
        self.planned
    }

    /// The messages that engines have died with, the oldest first.
    #[must_use]
    pub fn suspects(&self) -> &[Suspect] {
        &self.suspects
    }

    /// What has happened to the service, the oldest first.
    #[must_use]
    pub fn history(&self) -> &[Event] {
        &self.history
    }

    /// How many records there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.sip.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, Kind};

    fn grant(holder: Place) -> Command {
        Command::Grant { holder, reason: GrantReason::Elected, at: WallTime(5) }
    }

    #[test]
    fn while_a_pause_holds_only_an_operator_moves_the_service_and_it_ends_by_the_time_of_the_cluster() {
        let grant = |holder, reason, at| Command::Grant { holder, reason, at: WallTime(at) };
        let mut state = ClusterState::default();
        let pause = |until| {
            Command::Pause(Pause { at: WallTime(100), until: WallTime(until), reason: "disk".into() })
        };
        state.apply(1, &pause(1_000));
        assert_eq!(
            state.apply(2, &grant(1, GrantReason::Elected, 200)),
            Response::Granted { token: 2 },
            "nobody held it"
        );
        for reason in [GrantReason::Elected, GrantReason::Unfit] {
            assert_eq!(state.apply(3, &grant(2, reason, 300)), Response::Done);
            assert_eq!(state.grant().map(|g| (g.holder, g.token)), Some((1, 2)), "nothing has changed");
        }
        assert_eq!(state.apply(4, &grant(1, GrantReason::Elected, 300)), Response::Granted { token: 4 });
        assert_eq!(state.apply(5, &grant(2, GrantReason::Switchover, 300)), Response::Granted { token: 5 });
        assert_eq!(
            state.apply(6, &grant(1, GrantReason::Elected, 1_000)),
            Response::Granted { token: 6 },
            "over"
        );
        state.apply(7, &Command::Resume);
        assert_eq!(state.pause(), None);
        state.apply(8, &pause(u64::MAX));
        assert_eq!(state.pause().map(|p| p.until), Some(WallTime(100 + MAX_PAUSE_MS)), "none is for ever");
        state.apply(9, &pause(100));
        assert_eq!(state.pause(), None, "none that is over at once");
    }

    #[test]
    fn a_planned_switchover_is_cancelled_by_its_number_only() {
        let mut state = ClusterState::default();
        state.apply(5, &Command::Plan { to: 2, at: WallTime(9_000) });
        state.apply(6, &Command::Plan { to: 1, at: WallTime(8_000) });
        state.apply(7, &Command::Unplan { id: 5 });
        assert_eq!(state.planned(), Some(Planned { id: 6, to: 1, at: WallTime(8_000) }));
        assert_eq!(state.since_version(), TIME_VERSION);
        state.apply(8, &Command::Unplan { id: 6 });
        assert_eq!((state.planned(), state.since_version()), (None, FIRST_VERSION));
    }

    #[test]
    fn the_newest_grant_holds_and_its_token_is_the_log_index() {
        let mut state = ClusterState::default();
        assert_eq!(state.apply(7, &grant(1)), Response::Granted { token: 7 });
        assert_eq!(state.apply(9, &grant(2)), Response::Granted { token: 9 });
        let grant = state.grant().expect("granted");
        assert_eq!((grant.holder, grant.token), (2, 9));
    }

    #[test]
    fn a_mark_taken_back_leaves_no_trace() {
        let mut state = ClusterState::default();
        state.apply(1, &Command::Drain { place: 2, drained: true });
        assert!(state.marks(2).drained);
        state.apply(2, &Command::Drain { place: 2, drained: false });
        assert_eq!(state, ClusterState::default());
    }

    #[test]
    fn a_place_that_was_removed_is_remembered_until_it_is_used_again() {
        let mut state = ClusterState::default();
        state.apply(1, &Command::Removed { place: 3, removed: true });
        let bytes = codec::encode(Kind::Snapshot, &state).expect("encodes");
        let read: ClusterState = codec::decode(Kind::Snapshot, &bytes).expect("decodes");
        assert_eq!((read.removed(), read == state), ([3].into(), true));
        state.apply(2, &Command::Removed { place: 3, removed: false });
        assert_eq!(state, ClusterState::default());
    }

    #[test]
    fn a_frozen_copy_has_the_bytes_of_the_moment_whatever_is_applied_since() {
        let mut state = ClusterState::default();
        state.apply(7, &grant(1));
        state.apply(8, &Command::Drain { place: 2, drained: true });
        let bytes = |state: &ClusterState| codec::encode(Kind::Snapshot, state).expect("encodes");
        let (frozen, then) = (state.frozen(), bytes(&state));
        state.apply(9, &grant(2));
        let mut written = Vec::new();
        codec::encode_to(Kind::Snapshot, &frozen, &mut written).expect("writes");
        assert_eq!((bytes(&frozen), written), (then.clone(), then));
    }

    #[test]
    fn time_does_not_go_back_and_wall_clocks_are_told_apart_from_it() {
        let stamp = |time, real| Stamp {
            time: WallTime(time),
            real: proxy_core::time::RealTime(real),
            boot: 1,
            mono_ms: 0,
            skipped_ms: 0,
        };
        let mut state = ClusterState::default();
        state.apply(1, &Command::Stamp(stamp(1_000, 1_000)));
        state.apply(2, &Command::Stamp(stamp(2_000, 3_602_000)));
        state.apply(3, &Command::Stamp(stamp(1_500, 1_500)));
        assert_eq!(state.stamp().map(|s| s.time), Some(WallTime(2_000)));
        assert_eq!(state.sip().real(WallTime(2_500)).0, 3_602_500);
    }

    #[test]
    fn marks_are_bounded() {
        let mut state = ClusterState::default();
        for place in 1..=200 {
            state.apply(1, &Command::Health { place, healthy: false });
        }
        assert_eq!(state.marks.len(), MAX_PLACES);
    }
}
