//! Who calls whom, as an INVITE says it when it has passed all stages: for accounting and for limits.

use crate::engine::{Cx, Engine};
use crate::msg::{Message, Uri};
use crate::route::dispatch::NO_DESTINATION;
use crate::route::passage::{Passage, Targets};
use crate::state::{Backend, CallFacts, CallLimit, CountKey, account_text};

impl Engine {
    /// Of an INVITE that starts a call and goes to these targets.
    pub(crate) fn facts_of(&self, passage: &Passage<'_, '_>, targets: &Targets) -> CallFacts {
        let message = passage.message;
        let from = message.from().ok().and_then(|f| Uri::parse(f.uri).ok());
        let to = message.to().ok().and_then(|t| Uri::parse(t.uri).ok());
        let dialled = Uri::parse(&passage.found.uri).ok();
        let sender = &passage.found.sender;
        let mut facts = CallFacts {
            from_tag: account_text(message.from_tag().unwrap_or_default()),
            cseq: message.cseq().map_or(0, |c| c.number),
            src_user: user_in(from.as_ref()),
            src_domain: host_in(from.as_ref()),
            src_ip: passage.flow.remote.ip().to_canonical(),
            dst_ouser: user_in(to.as_ref()),
            dst_user: user_in(dialled.as_ref()),
            dst_domain: host_in(dialled.as_ref()),
            caller: sender.aor().map(|aor| account_text(&aor)),
            from_trunk: sender.trunk().map(account_text),
            counted: Vec::new(),
        };
        facts.counted = self.counted_under(&facts, targets);
        facts
    }

    /// The limits that hold for a call. Without limits nothing is counted.
    fn counted_under(&self, facts: &CallFacts, targets: &Targets) -> Vec<CallLimit> {
        let limits = &self.settings.config.dialog.limits;
        let mut list = Vec::new();
        let mut add = |key: CountKey, most: Option<u32>| {
            if let Some(most) = most
                && !list.iter().any(|known: &CallLimit| known.key == key)
            {
                list.push(CallLimit { key, most });
            }
        };
        if let Some(caller) = facts.caller.as_ref().filter(|_| facts.from_trunk.is_none()) {
            add(CountKey::Caller(caller.clone()), limits.caller);
        }
        for called in targets.branches.iter().filter_map(|b| b.backing.called.as_ref()) {
            add(CountKey::Callee(called.clone()), limits.callee);
        }
        let out = targets.branches.iter().filter_map(|b| match &b.backing.backend {
            Some(Backend::Trunk { uuid }) => Some(uuid),
            _ => None,
        });
        for uuid in facts.from_trunk.iter().chain(out.take(1)) {
            add(CountKey::Trunk(uuid.clone()), limits.trunks.get(uuid).copied().or(limits.trunk));
        }
        if facts.from_trunk.is_none() {
            add(CountKey::Source(facts.src_ip), limits.source);
        }
        list.truncate(crate::state::limits::MAX_COUNT_KEYS);
        list
    }

    /// There are as many calls as are allowed: the caller hears of it.
    pub(crate) fn refuse_for_limit(
        &mut self,
        cx: Cx<'_>,
        flow: crate::state::Flow,
        request: &[u8],
        facts: Option<&CallFacts>,
        key: &CountKey,
    ) {
        let limits = &self.settings.config.dialog.limits;
        let (status, reason) = match key {
            CountKey::Caller(_) => (limits.caller_status, "Too Many Calls"),
            CountKey::Callee(_) => (limits.callee_status, ""),
            CountKey::Trunk(_) => (limits.trunk_status, "Too Many Calls"),
            CountKey::Source(_) => (limits.source_status, "Too Many Calls"),
            CountKey::Destination { .. } => NO_DESTINATION,
        };
        self.counters.limited += 1;
        if let Ok(message) = Message::parse(request) {
            if let Some(facts) = facts {
                self.record_refused(cx, &message, facts.clone(), status, reason);
            }
            self.reject_with(flow, &message, status, reason, &[]);
        }
    }
}

fn user_in(uri: Option<&Uri<'_>>) -> String {
    account_text(uri.and_then(|u| u.user).unwrap_or_default())
}

fn host_in(uri: Option<&Uri<'_>>) -> String {
    account_text(&uri.map_or_else(String::new, |u| u.host.to_string().to_ascii_lowercase()))
}
