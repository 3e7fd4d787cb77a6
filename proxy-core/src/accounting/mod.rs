//! Records of calls that the proxy refuses itself: nobody was called, and an operator still wants to know.
//!
//! | an INVITE that starts a call | record |
//! |---|---|
//! | refused before or by AUTH: flood, scanner, bad request, challenge, 403 for strangers | none |
//! | refused by a stage after AUTH, but for a challenge (401, 407) | `failed` |
//! | one call too many (limits) | `failed` |
//! | refused for want of room, or by the cluster | none |
//! | repeated | none: the first one has it |
//! | more than [`AccountingConfig::refused_per_s`] in a second | none; they are counted |
//! | of a stranger for whom as much is kept as may be ([`crate::routing::Strangers`]) | none; they are counted |
//!
//! That is what Kamailio's `acc` writes with `failed_transaction_flag`. The answer does not wait for the record.

use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::{Message, Method, reason_phrase};
use crate::route::passage::{Passage, Targets};
use crate::state::{AccountingCommand, CallFacts, RefusedCall, SipCommand, SipResponse};
use crate::time::MonoTime;

/// What the engine is told about records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccountingConfig {
    /// Refused calls that leave a record, at most so many in a second over all engines of a node; 0: none does. At most
    /// [`MAX_REFUSED_PER_S`](crate::state::limits::MAX_REFUSED_PER_S).
    pub refused_per_s: u32,
}

/// How many have left a record in the second at hand.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    since: MonoTime,
    recorded: u32,
}

/// The span over which they are counted.
const SPAN: std::time::Duration = std::time::Duration::from_secs(1);

impl Engine {
    /// A stage after AUTH has refused a request.
    pub(crate) fn account_refused(
        &mut self,
        cx: Cx<'_>,
        passage: &Passage<'_, '_>,
        status: u16,
        reason: &str,
    ) {
        let starts_call = passage.method == Method::Invite && passage.message.to_tag().is_none();
        if !starts_call || self.settings.config.accounting.refused_per_s == 0 || self.is_explaining() {
            return;
        }
        if !self.keeps_for_stranger(cx, passage, 0) {
            self.counters.refused_unrecorded += 1;
            return;
        }
        let facts = self.facts_of(passage, &Targets::default());
        self.record_refused(cx, passage.message, facts, status, reason);
    }

    /// The same with what is known of the call.
    pub(crate) fn record_refused(
        &mut self,
        cx: Cx<'_>,
        request: &Message<'_>,
        facts: CallFacts,
        status: u16,
        reason: &str,
    ) {
        let per_s = self.settings.config.accounting.refused_per_s;
        if per_s == 0 || !(300..700).contains(&status) || matches!(status, 401 | 407) {
            return;
        }
        let share = per_s.div_ceil(u32::from(self.settings.config.shards).max(1));
        if cx.now.mono.since(self.refusals.since) >= SPAN {
            self.refusals = Refusals { since: cx.now.mono, recorded: 0 };
        }
        if self.refusals.recorded >= share {
            self.counters.refused_unrecorded += 1;
            return;
        }
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        let call = RefusedCall {
            call_id: request.call_id().unwrap_or_default().to_owned(),
            facts,
            to_tag: self.settings.keys.local_tag(request),
            code: status,
            reason: reason.to_owned(),
            at: cx.now.wall,
        };
        let command = SipCommand::Accounting(AccountingCommand::Refused(Box::new(call)));
        if self.propose(command, Awaiting::Refused) {
            self.refusals.recorded += 1;
        } else {
            self.counters.refused_unrecorded += 1;
        }
    }

    /// Verdict on the record of a refused call; `None` if the cluster did not take it.
    pub(crate) fn on_refused_recorded(&mut self, response: Option<&SipResponse>) {
        if !matches!(response, Some(SipResponse::Done | SipResponse::Superseded)) {
            self.counters.refused_unrecorded += 1;
        }
    }
}
