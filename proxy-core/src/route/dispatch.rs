//! Kamailio's `ds_select_dst`: a backend of a dispatcher set, and the others for when it fails.
//!
//! | request | goes to |
//! |---|---|
//! | of any method, by a rule that names a set | that set |
//! | a call (INVITE) to a user of ours who cannot be reached | the default set, if there is one and he who calls may use it |
//! | the same of a stranger, where others prove who they are | nobody, unless `dispatcher.open` or `dispatcher.source` lets him in |
//! | anything else to him | nobody: what is no call is for phones (MESSAGE, OPTIONS …) or for the proxy (SUBSCRIBE, PUBLISH) |
//!
//! The Request-URI stays, as with `ds_select_dst`: a PBX sees what was dialled.

use std::collections::BTreeMap;

use super::passage::{Passage, Step, Targets, Way};
use crate::dispatch::{Algorithm, Choice, order};
use crate::engine::limits::MAX_FAILOVERS;
use crate::engine::{Cx, Engine};
use crate::msg::{Message, Method, NameAddr};
use crate::state::dispatcher::Destination;
use crate::state::{Backend, Branch, NextStep, When};

/// What is answered when no destination of a set is alive, unless voicemail takes the call.
pub(crate) const NO_DESTINATION: (u16, &str) = (503, "No Destination Available");

impl Engine {
    /// Chooses, where this request goes to a set.
    pub(super) fn stage_dispatch(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        let set = match (&passage.found.way, self.settings.config.dispatch.default_set) {
            (Some(Way::Dispatcher(set)), _) => *set,
            (None, Some(set)) if passage.found.targets.is_none() && is_nobody_here(passage) => {
                if !self.starts_call(passage.method) {
                    self.explain("next", || {
                        format!("default_set = {set} is for calls, not for {}", passage.method.as_str())
                    });
                    return Step::Next;
                }
                if !self.may_use_default_set(passage) {
                    self.explain("next", || {
                        format!("default_set = {set} is not for strangers: dispatcher.open would let them in")
                    });
                    return Step::Next;
                }
                set
            }
            _ => return Step::Next,
        };
        let targets = self.targets_of_set(cx, passage, set);
        if targets.branches.is_empty() {
            self.explain("no target", || why_nobody(cx, set));
            passage.found.failing = Some(NO_DESTINATION);
            return Step::Next;
        }
        Step::Targets(targets)
    }

    /// Whether the sender may call by the default set. Who asks for it is taken by a backend for somebody whom we let in.
    fn may_use_default_set(&self, passage: &Passage<'_, '_>) -> bool {
        let config = &self.settings.config.dispatch;
        let source = passage.flow.remote.ip();
        config.default_open
            || !passage.found.sender.is_stranger()
            || config.default_sources.iter().any(|c| c.contains(source))
    }

    /// Whether a request is a call, or goes the way of one because nothing is known of it.
    fn starts_call(&self, method: Method<'_>) -> bool {
        match method {
            Method::Invite => true,
            Method::Cancel => self.passes_cancels(),
            Method::Ack => self.is_stateless(),
            _ => false,
        }
    }

    fn targets_of_set(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>, set: u32) -> Targets {
        let algorithm = self.settings.config.dispatch.algorithm_of(set);
        let key = hash_key(passage.message, algorithm);
        // Engines of one node take turns of their own; they do not all begin with the same destination.
        let turn = self.dispatch.turn(set).wrapping_add(u64::from(self.settings.config.shard));
        let ahead = match algorithm {
            Algorithm::CallLoad => self.calls_on_their_way(set),
            _ => BTreeMap::new(),
        };
        let choice = Choice { algorithm, key, turn, ahead: &ahead };
        let uris: Vec<String> = order(cx.state, set, choice).iter().map(|d| d.uri.clone()).collect();
        self.explain("chooses", || format!("by {} of set {set}: {}", algorithm.name(), uris.join(", then ")));
        let mut rounds = uris.into_iter().take(MAX_FAILOVERS).enumerate().filter_map(|(number, uri)| {
            self.branch_to_destination(cx, passage, set, uri, u16::try_from(number).ok()?)
        });
        let Some(first) = rounds.next() else { return Targets::default() };
        let mut when = When::backend_down(&[]);
        when.statuses.extend(&self.settings.config.dispatch.failover);
        let after = passage.found.ring;
        let plan =
            rounds.map(|branch| NextStep { when: when.clone(), branches: vec![branch], after }).collect();
        Targets { branches: vec![first], after, plan }
    }

    /// Calls that have been given to the destinations of a set and wait for their commit: no load counts them yet.
    fn calls_on_their_way(&mut self, set: u32) -> BTreeMap<String, u32> {
        let mut ahead = BTreeMap::new();
        let mut on_their_way = std::mem::take(&mut self.dispatch.on_their_way);
        on_their_way.retain(|id| {
            let Some(call) = self.admitting(*id) else { return false };
            for (of, uri) in call.branches.iter().filter_map(|branch| destination_of(&branch.record)) {
                if of == set {
                    *ahead.entry(uri.to_owned()).or_default() += 1;
                }
            }
            true
        });
        self.dispatch.on_their_way = on_their_way;
        ahead
    }

    /// Has a call counted by [`Engine::calls_on_their_way`], should its set go by load.
    pub(super) fn is_on_its_way(&mut self, id: u64) {
        let Some(call) = self.admitting(id) else { return };
        let config = &self.settings.config.dispatch;
        let mut sets = call.branches.iter().filter_map(|branch| destination_of(&branch.record));
        let by_load = sets.any(|(set, _)| config.algorithm_of(set) == Algorithm::CallLoad);
        if by_load {
            self.dispatch.on_their_way.insert(id);
        }
    }

    fn branch_to_destination(
        &self,
        cx: Cx<'_>,
        passage: &Passage<'_, '_>,
        set: u32,
        uri: String,
        round: u16,
    ) -> Option<Branch> {
        let mut branch = self.branch_to_uri(passage, &uri, round).ok()?;
        branch.target.clone_from(&passage.found.uri);
        let patience = self.settings.config.dispatch.patience.as_millis();
        branch.backing.patience_ms = u32::try_from(patience).ok().filter(|ms| *ms > 0);
        if self.settings.config.dispatch.algorithm_of(set) == Algorithm::CallLoad {
            let destination =
                cx.state.dispatcher().sets.get(&set).into_iter().flatten().find(|d| d.uri == uri);
            branch.backing.most_calls = destination.map(|d| d.attrs.max_load).filter(|most| *most > 0);
        }
        // A backend is one of us.
        branch.backing.dress = None;
        branch.backing.backend = Some(Backend::Destination { set, uri });
        Some(branch)
    }
}

/// Whether what LOCATION has found is that no user of ours can be reached: a URI without a user, and a method that no
/// phone of his takes, are not for the default set either.
fn is_nobody_here(passage: &Passage<'_, '_>) -> bool {
    passage.found.failing.is_none_or(|(status, _)| matches!(status, 404 | 480))
}

/// Why a set has nobody who takes a call.
fn why_nobody(cx: Cx<'_>, set: u32) -> String {
    match cx.state.dispatcher().sets.get(&set) {
        None => format!("there is no set {set}: relevo dispatcher add {set} URI"),
        Some(list) if list.iter().any(Destination::is_eligible) => {
            format!("each destination of set {set} that is alive has as many calls as its maxload")
        }
        Some(_) => format!("set {set} has no destination that is alive"),
    }
}

/// The destination that a copy is for.
fn destination_of(branch: &Branch) -> Option<(u32, &str)> {
    match &branch.backing.backend {
        Some(Backend::Destination { set, uri }) => Some((*set, uri)),
        _ => None,
    }
}

/// What is hashed. A user that cannot be read is the same for all who write such things.
fn hash_key<'a>(message: &Message<'a>, algorithm: Algorithm) -> &'a str {
    let user = |addr: Option<NameAddr<'a>>| addr.and_then(|a| a.parse_uri().ok()?.user).unwrap_or_default();
    match algorithm {
        Algorithm::FromUser => user(message.from().ok()),
        Algorithm::ToUser => user(message.to().ok()),
        _ => message.call_id().unwrap_or_default(),
    }
}
