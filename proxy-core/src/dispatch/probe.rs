//! OPTIONS to the destinations, by the engine of the first shard: what they answer moves their state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::DispatchConfig;
use super::voices::{self, Whose};
use crate::engine::limits::MAX_PROBES_PER_TICK;
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::location::{Hop, hop_of_uri};
use crate::msg::Uri;
use crate::state::dispatcher::{Destination, DispatcherCommand};
use crate::state::{Flow, SipCommand, SipState};
use crate::time::MonoTime;
use crate::transaction::TimerQueue;
use crate::uac::{Originated, Outcome, OwnRequest, Purpose};

/// How long a probe waits for the DNS before it looks again.
const NAME_PAUSE: Duration = Duration::from_millis(500);

/// Names a destination.
pub(super) type Key = (u32, String);

/// What an engine knows of the dispatcher besides what is replicated.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// When each destination is probed next.
    next: TimerQueue<Key>,
    /// Number of the last probe.
    probes: u32,
    /// Revision of the sets that `next` is of.
    planned: Option<u64>,
    /// Revisions of the sets, and of what was heard of them, that the calls have been looked through for.
    pub(super) watched: (u64, u64),
    /// Until when each destination is not asked again on account of a call.
    doubted: BTreeMap<Key, MonoTime>,
    /// Turns of each set so far.
    turns: BTreeMap<u32, u64>,
    /// Addresses of the destinations, and the revision of the sets that they are of.
    pub(crate) addresses: (Option<u64>, BTreeSet<IpAddr>),
    /// Calls to sets that go by load which may still wait for their commit. Looked through with each choice by load;
    /// the calls of this engine are its bound.
    pub(crate) on_their_way: BTreeSet<u64>,
}

impl Memory {
    /// A number that is higher by one each time.
    pub(crate) fn turn(&mut self, set: u32) -> u64 {
        let turn = self.turns.entry(set).or_default();
        let now = *turn;
        *turn = turn.wrapping_add(1);
        now
    }

    /// Whether a destination may be asked now on account of a call; if so, not again for a while.
    pub(super) fn may_doubt(&mut self, key: &Key, now: MonoTime, pause: Duration) -> bool {
        // Bounded by the destinations that calls have been sent to lately.
        self.doubted.retain(|_, until| *until > now);
        if self.doubted.contains_key(key) {
            return false;
        }
        self.doubted.insert(key.clone(), now + pause);
        true
    }

    /// Takes up destinations that are new, probed at once, and drops those that are not probed any more. Whether the sets
    /// have changed.
    fn plan(&mut self, state: &SipState, config: &DispatchConfig, now: MonoTime) -> bool {
        let dispatcher = state.dispatcher();
        if self.planned == Some(dispatcher.revision) {
            return false;
        }
        self.planned = Some(dispatcher.revision);
        let mut next = TimerQueue::new();
        for (set, list) in &dispatcher.sets {
            for destination in list.iter().filter(|d| d.is_probed(config.probe_all)) {
                let key = (*set, destination.uri.clone());
                let at = self.next.get(&key).unwrap_or(now);
                next.set(key, Some(at));
            }
        }
        self.next = next;
        self.turns.retain(|set, _| dispatcher.sets.contains_key(set));
        true
    }
}

impl Engine {
    /// Probes what is due.
    pub(crate) fn dispatch_tick(&mut self, cx: Cx<'_>) {
        self.watch_destinations(cx);
        if !self.is_first_shard() || self.settings.config.dispatch.probe_interval.is_zero() {
            return;
        }
        if self.dispatch.plan(cx.state, &self.settings.config.dispatch, cx.now.mono) {
            self.together.voices.retain(|whose| match whose {
                Whose::Destination(set, uri) => destination(cx.state, *set, uri).is_some(),
                Whose::Trunk(uuid) => cx.state.trunk(uuid).is_some(),
            });
        }
        for _ in 0..MAX_PROBES_PER_TICK {
            let Some(key) = self.dispatch.next.pop_due(cx.now.mono) else { return };
            let again = cx.now.mono + self.settings.config.dispatch.probe_interval;
            self.dispatch.next.set(key.clone(), Some(again));
            let (set, uri) = key.clone();
            self.contain_each(
                || format!("the probes of destination {uri} of set {set}"),
                |engine| engine.probe(cx, key),
            );
        }
    }

    pub(super) fn probe(&mut self, cx: Cx<'_>, (set, uri): Key) {
        let flow = match self.flow_to(cx, &uri) {
            Some(Some(flow)) => flow,
            Some(None) => {
                // A name that leads nowhere, or a transport that there is not.
                self.heard(set, &uri, false);
                self.observe(cx, set, &uri, false);
                return;
            }
            None => {
                self.dispatch.next.set((set, uri), Some(cx.now.mono + NAME_PAUSE));
                return;
            }
        };
        let config = &self.settings.config;
        let patience = Some(config.dispatch.probe_timeout);
        // Probes are not continued by a successor, so their number may start anew there: the time keeps them apart.
        self.dispatch.probes = self.dispatch.probes.wrapping_add(1);
        let parts: [&[u8]; 4] = [
            &set.to_be_bytes(),
            uri.as_bytes(),
            &cx.now.wall.0.to_be_bytes(),
            &self.dispatch.probes.to_be_bytes(),
        ];
        let call_id = self.call_id_here("probe", &parts);
        let tag = self.settings.keys.own_tag("probe", &parts);
        let request = OwnRequest::new("OPTIONS", &uri, &config.dispatch.probe_from, &tag, &uri)
            .numbered(&call_id, 10)
            .header("User-Agent", config.server.as_str());
        let purpose = Purpose::Probe { set, destination: uri };
        self.originate(cx, Originated { flow, request, purpose, patience });
    }

    /// The way to a URI that the operator has named, if there is one. None if its name has to be resolved first: the DNS
    /// is asked then, and the next tick finds the answer.
    pub(crate) fn flow_to(&mut self, cx: Cx<'_>, uri: &str) -> Option<Option<Flow>> {
        let hop = Uri::parse(uri).map_or(Hop::None, |uri| hop_of_uri(&uri, &self.settings.config.listen));
        // Of equal servers of a name always the same one is asked.
        Some(self.flows_or_ask(cx, &hop, 0)?.first().copied())
    }

    /// A probe has ended.
    pub(crate) fn on_probed(&mut self, cx: Cx<'_>, set: u32, uri: &str, outcome: &Outcome<'_, '_>) {
        let (up, spoke) = match outcome {
            Outcome::Final(status, _) => {
                (self.settings.config.dispatch.is_alive(*status), voices::is_voice(*status))
            }
            Outcome::Timeout | Outcome::Transport => (false, false),
        };
        // Before the news: who looks at the one finds the other.
        self.heard(set, uri, spoke);
        self.observe(cx, set, uri, up);
    }

    fn heard(&self, set: u32, uri: &str, spoke: bool) {
        self.together.voices.note(Whose::Destination(set, uri.to_owned()), spoke);
    }

    /// Proposes what was seen of a destination, if that is news.
    pub(super) fn observe(&mut self, cx: Cx<'_>, set: u32, uri: &str, up: bool) {
        let config = &self.settings.config.dispatch;
        let (failures, successes) = (config.failures, config.successes);
        let Some(known) = destination(cx.state, set, uri) else { return };
        if known.is_news(up, failures, successes) {
            let uri = uri.to_owned();
            let command = DispatcherCommand::Observed { set, uri, up, failures, successes, at: cx.now.wall };
            self.propose(SipCommand::Dispatcher(command), Awaiting::Nothing);
        }
    }
}

/// A destination by its names.
pub(super) fn destination<'s>(state: &'s SipState, set: u32, uri: &str) -> Option<&'s Destination> {
    state.dispatcher().sets.get(&set)?.iter().find(|d| d.uri == uri)
}
