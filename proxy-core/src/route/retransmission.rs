//! Kamailio's `t_check_trans`: what is known already is absorbed, and gets its last answer again.

use super::passage::{Passage, Step};
use crate::engine::{Cx, Engine};
use crate::msg::{Message, Method};
use crate::proxy::exchange::ExchangeKey;
use crate::state::ServerKey;

/// What is known of the INVITE transaction that a request names.
pub(super) enum Known {
    Call(u64),
    /// Its branch is that of another call: a client that does not draw its branches well, or somebody who guesses.
    Other,
    Nothing,
}

impl Engine {
    /// Absorbs what belongs to a transaction that is known. ACK has rules of its own, in WITHINDLG.
    pub(super) fn stage_retransmission(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        if self.is_parked(&passage.key, passage.method) {
            self.counters.retransmissions_in += 1;
            return Step::Answered;
        }
        match passage.method {
            Method::Ack => Step::Next,
            Method::Invite => match self.known_call(cx, &passage.key, passage.message) {
                Known::Call(id) => {
                    self.explain("absorbs it", || {
                        String::from("the call is known; its last answer is sent again")
                    });
                    self.caller_is_at(cx, id, passage.flow);
                    self.on_invite_again(cx, id);
                    Step::Answered
                }
                Known::Other => Step::Reject(400, "Branch In Use"),
                Known::Nothing => Step::Next,
            },
            _ => match self.exchange_of(&ExchangeKey::new(passage.key.clone(), passage.message)) {
                Some(id) => {
                    self.explain("absorbs it", || {
                        String::from("the request is known; its last answer is sent again")
                    });
                    self.on_request_again(cx, id);
                    Step::Answered
                }
                None if self.is_message_taken(cx, passage) => Step::Answered,
                None => Step::Next,
            },
        }
    }

    /// In place of it: what came before is no new request all the same, and gets no word.
    pub(super) fn drop_retransmission(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> Step {
        let is_known = match passage.method {
            Method::Ack => false,
            _ if self.is_parked(&passage.key, passage.method) => true,
            Method::Invite => match self.known_call(cx, &passage.key, passage.message) {
                Known::Call(id) => {
                    self.caller_is_at(cx, id, passage.flow);
                    true
                }
                Known::Other => return Step::Reject(400, "Branch In Use"),
                Known::Nothing => false,
            },
            _ => self.exchange_of(&ExchangeKey::new(passage.key.clone(), passage.message)).is_some(),
        };
        if !is_known {
            return Step::Next;
        }
        self.counters.retransmissions_in += 1;
        self.explain("drops it", || String::from("the request is known"));
        Step::Answered
    }

    /// Looks for the INVITE transaction of a request: here, then among the replicated ones. Those are found that were
    /// committed and forgotten here, because the verdict was lost or another node had it.
    pub(super) fn known_call(&mut self, cx: Cx<'_>, key: &ServerKey, message: &Message<'_>) -> Known {
        let call_id = message.call_id().unwrap_or_default();
        if self.call_of_key(key).is_none()
            && let Some(record) = cx.state.pending(key)
        {
            if record.call_id != call_id {
                return Known::Other;
            }
            self.rebuild(cx, record);
        }
        match self.call_of_key(key) {
            Some(id) if self.is_of_call(id, call_id) => Known::Call(id),
            Some(_) => Known::Other,
            None => Known::Nothing,
        }
    }
}
