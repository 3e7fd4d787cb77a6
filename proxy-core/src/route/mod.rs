//! What happens to a message, stage by stage, in the order of Kamailio's default configuration.
//!
//! | stage | Kamailio | does |
//! |---|---|---|
//! | `reqinit` | REQINIT | bad requests, loops, Max-Forwards, Proxy-Require; OPTIONS to the proxy itself |
//! | `cancel` | CANCEL | finds the INVITE: in memory, then among the replicated ones, else 481 |
//! | `ack` | WITHINDLG | ends failures, passes on to who answered |
//! | `retransmission` | t_check_trans | what is known already is absorbed |
//! | `registrar` | REGISTRAR | REGISTER of our domains |
//! | `withindlg` | WITHINDLG | requests in dialogs that go through us: loose and strict routing |
//! | `location` | LOCATION | our users; 403 for domains of others |
//! | `relay` | RELAY | copies, branches, what is proposed before |
//! | `reply` | reply_route, MANAGE_REPLY | responses find their branch |
//!
//! Failures and timers of branches (MANAGE_FAILURE) are in [`crate::proxy`]. Errors found before a request has been
//! forwarded are answered statelessly: the same request gets the same answer again, and its ACK is known by its tag.

mod ack;
mod cancel;
mod location;
mod registrar;
mod relay;
mod reply;
mod reqinit;
pub(crate) mod withindlg;

use crate::engine::limits::RETRY_AFTER_S;
use crate::engine::{Cx, Engine};
use crate::msg::{Message, Method};
use crate::proxy::build;
use crate::proxy::exchange::ExchangeKey;
use crate::state::{Flow, ServerKey};
use withindlg::Approach;

/// A request on its way through the stages.
pub(crate) struct Incoming<'m, 'a> {
    /// With `received` and `rport` on its top Via.
    pub(crate) message: &'m Message<'a>,
    pub(crate) method: Method<'a>,
    pub(crate) flow: Flow,
    pub(crate) key: ServerKey,
}

/// What is known of the INVITE transaction that a request names.
enum Known {
    Call(u64),
    /// Its branch is that of another call: a client that does not draw its branches well, or somebody who guesses.
    Other,
    Nothing,
}

impl Engine {
    /// A request came.
    pub(crate) fn on_request(&mut self, cx: Cx<'_>, flow: Flow, request: &Message<'_>) {
        if !self.accept_request(flow, request) {
            return;
        }
        let Some(key) = self.settings.keys.server_key(request) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        let stamped = build::stamped(request, flow.remote);
        let Ok(message) = Message::parse(&stamped) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        let Some(method) = message.method() else { return };
        let incoming = Incoming { message: &message, method, flow, key };
        match method {
            Method::Cancel => self.on_cancel(cx, &incoming),
            Method::Ack => self.route_ack(cx, &incoming),
            _ if self.is_repeated(cx, &incoming) => {}
            _ => self.route_new(cx, &incoming),
        }
    }

    /// Whether the request belongs to a transaction that is known; then all is done that is to be done.
    fn is_repeated(&mut self, cx: Cx<'_>, incoming: &Incoming<'_, '_>) -> bool {
        if incoming.method == Method::Invite {
            return match self.known_call(cx, incoming) {
                Known::Call(id) => {
                    self.on_invite_again(cx, id);
                    true
                }
                Known::Other => {
                    self.reject(incoming, 400, "Branch In Use");
                    true
                }
                Known::Nothing => false,
            };
        }
        let key = ExchangeKey::new(incoming.key.clone(), incoming.message);
        match self.exchange_of(&key) {
            Some(id) => {
                self.on_request_again(cx, id);
                true
            }
            None => false,
        }
    }

    /// Looks for the INVITE transaction of a request: here, then among the replicated ones. Those are found that were
    /// committed and forgotten here, because the verdict was lost or another node had it.
    fn known_call(&mut self, cx: Cx<'_>, incoming: &Incoming<'_, '_>) -> Known {
        let call_id = incoming.message.call_id().unwrap_or_default();
        if self.call_of_key(&incoming.key).is_none()
            && let Some(record) = cx.state.pending(&incoming.key)
        {
            if record.call_id != call_id {
                return Known::Other;
            }
            self.rebuild(cx, record);
        }
        match self.call_of_key(&incoming.key) {
            Some(id) if self.is_of_call(id, call_id) => Known::Call(id),
            Some(_) => Known::Other,
            None => Known::Nothing,
        }
    }

    /// A request that nobody has seen before.
    fn route_new(&mut self, cx: Cx<'_>, incoming: &Incoming<'_, '_>) {
        if incoming.method == Method::Register {
            self.route_register(cx, incoming);
            return;
        }
        let approach = Approach::of(&self.settings, incoming.message, incoming.flow.local);
        if approach.in_dialog {
            self.route_in_dialog(cx, incoming, &approach);
        } else if incoming.message.to_tag().is_some() {
            // Kamailio's answer to who speaks of a dialog that does not go through us.
            self.reject(incoming, 404, "Not here");
        } else {
            self.route_initial(cx, incoming, &approach);
        }
    }

    /// Answers with an error made here, statelessly.
    pub(crate) fn reject(&mut self, incoming: &Incoming<'_, '_>, status: u16, reason: &str) {
        self.reject_with(incoming.flow, incoming.message, status, reason, &[]);
    }

    /// The same with further headers. An ACK is never answered.
    pub(crate) fn reject_with(
        &mut self,
        flow: Flow,
        stamped: &Message<'_>,
        status: u16,
        reason: &str,
        extra: &[(&str, &str)],
    ) {
        if stamped.method() == Some(Method::Ack) {
            return;
        }
        self.counters.rejected += 1;
        let tag = self.settings.keys.local_tag(stamped);
        let bytes = build::response(&self.settings, stamped, status, reason, &tag, extra);
        self.transmit(flow, &bytes);
    }

    /// No room: 503 with Retry-After.
    pub(crate) fn reject_overload(&mut self, flow: Flow, stamped: &[u8]) {
        self.counters.dropped_overload += 1;
        if let Ok(message) = Message::parse(stamped) {
            self.reject_with(flow, &message, 503, "", &[("Retry-After", RETRY_AFTER_S)]);
        }
    }
}
