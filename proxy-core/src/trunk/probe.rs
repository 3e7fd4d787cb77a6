//! OPTIONS to the trunks that the operator wants probed, and what becomes of calls in the air at one that is not there.
//!
//! | a trunk with `--probe on` | then |
//! |---|---|
//! | its turn has come (`dispatcher.probe_interval_s`), by the engine of the first shard | it is asked |
//! | a call there has said 100 and nothing more for `failover.doubt`, or its flow has failed | it is asked now |
//! | it has not answered so many times in a row (`dispatcher.inactive_after`) | it is down: replicated |
//! | it is down | it is tried after the others; calls that wait there go on as their plan says, or fail with 408 |
//! | it has answered so many times in a row (`dispatcher.active_after`) | it is up again |
//! | it is down, and probes have been switched off since (`dispatcher.probe_interval_s` = 0) | it is up again: replicated |
//!
//! Whatever it answers shows that it is there, but for 408 and 503. With 503 it refuses new calls (RFC 3261 §21.5.4): it is
//! down for them, and keeps those that it has.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::dispatch::voices::{Whose, is_voice};
use crate::engine::limits::{MAX_PROBES_PER_TICK, MAX_TRUNKS_PER_TICK};
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::state::trunk::TrunkCommand;
use crate::state::{Backend, Branch, BranchState, SipCommand};
use crate::time::MonoTime;
use crate::uac::{Originated, Outcome, OwnRequest, Purpose};

/// What an engine knows of the trunks that are probed.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    by_trunk: BTreeMap<String, Probed>,
    /// Number of the last probe.
    count: u32,
    /// What the calls have been looked through for: see [`crate::state::SipState::trunk_losses`], and what was heard.
    watched: (u64, u64),
}

#[derive(Debug, Default)]
struct Probed {
    next_at: MonoTime,
    /// Not asked again on account of a call before.
    doubt_after: MonoTime,
    failures: u32,
    successes: u32,
}

impl Engine {
    /// Probes what is due, and looks for calls in the air at trunks that are down.
    pub(crate) fn trunk_probe_tick(&mut self, cx: Cx<'_>) {
        self.watch_trunks(cx);
        let interval = self.settings.config.dispatch.probe_interval;
        if !cx.state.has_trunks() || interval.is_zero() {
            self.probes.by_trunk.clear();
            self.trust_trunks(cx);
            return;
        }
        let is_probed = |uuid: &str| cx.state.trunk(uuid).is_some_and(|t| t.is_probed());
        self.probes.by_trunk.retain(|uuid, _| is_probed(uuid));
        if !self.is_first_shard() {
            return;
        }
        let now = cx.now.mono;
        let by_trunk = &self.probes.by_trunk;
        let due: Vec<String> = cx
            .state
            .trunks()
            .filter(|t| t.is_probed())
            .map(|t| &t.account.uuid)
            .filter(|uuid| by_trunk.get(*uuid).is_none_or(|p| p.next_at <= now))
            .take(MAX_PROBES_PER_TICK)
            .cloned()
            .collect();
        for uuid in due {
            self.probes.by_trunk.entry(uuid.clone()).or_default().next_at = now + interval;
            self.contain_each(
                || format!("the probes of trunk {uuid}"),
                |engine| engine.probe_trunk(cx, &uuid),
            );
        }
    }

    /// What probes have found counts no longer when nobody probes: a trunk that is down would stay so for good.
    fn trust_trunks(&mut self, cx: Cx<'_>) {
        if !self.is_first_shard() {
            return;
        }
        let down = cx.state.trunks().filter(|t| t.down).take(MAX_TRUNKS_PER_TICK);
        let down: Vec<String> = down.map(|t| t.account.uuid.clone()).collect();
        for uuid in down {
            // Said again until it is so.
            self.propose(SipCommand::Trunk(TrunkCommand::Probed { uuid, up: true }), Awaiting::Nothing);
        }
    }

    /// A call waits at this trunk, and there is reason to ask whether it is there.
    pub(crate) fn doubt_trunk(&mut self, cx: Cx<'_>, uuid: &str) {
        let config = &self.settings.config.dispatch;
        let pause = config.probe_timeout;
        if config.probe_interval.is_zero() || !cx.state.trunk(uuid).is_some_and(|t| t.is_probed()) {
            return;
        }
        let known = self.probes.by_trunk.entry(uuid.to_owned()).or_default();
        if known.doubt_after <= cx.now.mono {
            known.doubt_after = cx.now.mono + pause;
            self.probe_trunk(cx, uuid);
        }
    }

    fn probe_trunk(&mut self, cx: Cx<'_>, uuid: &str) {
        let Some(trunk) = cx.state.trunk(uuid) else { return };
        let account = &trunk.account;
        let flow = match self.flow_to(cx, &account.next_hop()) {
            Some(Some(flow)) => flow,
            Some(None) => {
                self.together.voices.note(Whose::Trunk(uuid.to_owned()), false);
                return self.observe_trunk(cx, uuid, false);
            }
            // The DNS has been asked: the next turn finds the answer.
            None => {
                if let Some(known) = self.probes.by_trunk.get_mut(uuid) {
                    known.next_at = cx.now.mono + Duration::from_millis(500);
                }
                return;
            }
        };
        self.probes.count = self.probes.count.wrapping_add(1);
        let parts: [&[u8]; 3] =
            [uuid.as_bytes(), &cx.now.wall.0.to_be_bytes(), &self.probes.count.to_be_bytes()];
        let call_id = self.call_id_here("trunk-probe", &parts);
        let tag = self.settings.keys.own_tag("trunk-probe", &parts);
        let uri = format!("sip:{}", account.remote_domain);
        let request = OwnRequest::new("OPTIONS", &uri, &account.identity(), &tag, &uri)
            .numbered(&call_id, 10)
            .header("User-Agent", self.settings.config.server.as_str());
        let patience = Some(self.settings.config.dispatch.probe_timeout);
        let purpose = Purpose::TrunkProbe { uuid: uuid.to_owned() };
        self.originate(cx, Originated { flow, request, purpose, patience });
    }

    /// A probe has ended.
    pub(crate) fn on_trunk_probed(&mut self, cx: Cx<'_>, uuid: &str, outcome: &Outcome<'_, '_>) {
        let up = matches!(outcome, Outcome::Final(status, _) if !matches!(status, 408 | 503));
        let spoke = matches!(outcome, Outcome::Final(status, _) if is_voice(*status));
        self.together.voices.note(Whose::Trunk(uuid.to_owned()), spoke);
        self.observe_trunk(cx, uuid, up);
    }

    /// Counts what was seen, and has it remembered when it is news.
    pub(crate) fn observe_trunk(&mut self, cx: Cx<'_>, uuid: &str, up: bool) {
        let Some(trunk) = cx.state.trunk(uuid).filter(|t| t.is_probed()) else { return };
        let config = &self.settings.config.dispatch;
        let (failures, successes) = (config.failures, config.successes);
        let known = self.probes.by_trunk.entry(uuid.to_owned()).or_default();
        if up {
            known.failures = 0;
            known.successes = known.successes.saturating_add(1);
        } else {
            known.successes = 0;
            known.failures = known.failures.saturating_add(1);
        }
        let is_news =
            if trunk.down { known.successes >= successes.max(1) } else { known.failures >= failures.max(1) };
        if is_news && trunk.down == up {
            let command = TrunkCommand::Probed { uuid: uuid.to_owned(), up };
            self.propose(SipCommand::Trunk(command), Awaiting::Nothing);
        }
    }

    /// Costs nothing unless a trunk has been lost since.
    fn watch_trunks(&mut self, cx: Cx<'_>) {
        let seen = (cx.state.trunk_losses(), self.together.voices.revision());
        if std::mem::replace(&mut self.probes.watched, seen) == seen {
            return;
        }
        let voices = self.together.voices.clone();
        // One that answers has refused what is new, and keeps the calls that it has (RFC 3261 §21.5.4).
        let has_lost = |uuid: &str, branch: &Branch| match voices.of(&Whose::Trunk(uuid.to_owned())) {
            Some(spoke) => !spoke,
            // Nobody has asked since this node answers: what rings waits for that.
            None => !matches!(branch.state, BranchState::Proceeding { .. }),
        };
        let too_late = !self.settings.config.failover.ringing;
        self.abandon_branches(cx, |branch| match &branch.backing.backend {
            Some(_) if too_late && matches!(branch.state, BranchState::Proceeding { .. }) => false,
            Some(Backend::Trunk { uuid }) => {
                cx.state.trunk(uuid).is_some_and(|t| t.down && t.is_probed()) && has_lost(uuid, branch)
            }
            _ => false,
        });
    }
}
