//! Kamailio's CANCEL block, corrected: a CANCEL that matches no transaction in memory is looked up among the
//! replicated INVITEs, so that it works after a takeover (RFC 3261 §9.2, §16.10).
//!
//! | CANCEL | the stage is on | switched off |
//! |---|---|---|
//! | of a call that is known | ends it | ends it |
//! | of nothing known | 481 | the way of its INVITE, without state (§16.10), as in stateless mode; 481 where that was redirected |

use super::passage::{Passage, Step};
use super::retransmission::Known;
use crate::engine::{Cx, Engine};
use crate::msg::Method;
use crate::proxy::exchange::ExchangeKey;
use crate::routing::Mode;

impl Engine {
    /// A CANCEL ends its INVITE; everything else goes on.
    pub(super) fn stage_cancel(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        match self.cancel_what_is_known(cx, passage) {
            // §16.11: without state it goes the way of its INVITE.
            Step::Next if passage.method == Method::Cancel && !self.is_stateless() => Step::Reject(481, ""),
            step => step,
        }
    }

    /// The stage is switched off: a CANCEL of nothing that is known goes the way of its INVITE, where that has gone one.
    pub(super) fn cancel_without_stage(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        let redirects = self.settings.config.routing.mode == Mode::Redirect;
        let begins = passage.message.to_tag().is_none();
        match self.cancel_what_is_known(cx, passage) {
            // A redirect server has answered the INVITE itself (§8.3), and has nothing to cancel (§9.2).
            Step::Next if passage.method == Method::Cancel && redirects && begins => Step::Reject(481, ""),
            step => step,
        }
    }

    /// The same, but for a CANCEL of nothing that is known here.
    fn cancel_what_is_known(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        if passage.method != Method::Cancel {
            return Step::Next;
        }
        let key = ExchangeKey::new(passage.key.clone(), passage.message);
        if let Some(id) = self.exchange_of(&key) {
            self.on_request_again(cx, id);
            return Step::Answered;
        }
        let Known::Call(call) = self.known_call(cx, &passage.key, passage.message) else {
            if !self.is_stateless() && self.cancel_parked(cx, passage) {
                return Step::Answered;
            }
            return Step::Next;
        };
        let Some(exchange) =
            self.open_exchange(cx, passage.key.clone(), passage.flow, passage.message, Vec::new(), true)
        else {
            self.reject_overload(passage.flow, passage.message.raw());
            return Step::Answered;
        };
        self.caller_is_at(cx, call, passage.flow);
        self.cancel_call(cx, call, exchange);
        Step::Answered
    }
}
