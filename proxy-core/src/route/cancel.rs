//! Kamailio's CANCEL block, corrected: a CANCEL that matches no transaction in memory is looked up among the
//! replicated INVITEs, so that it works after a takeover (RFC 3261 §9.2, §16.10).

use super::{Incoming, Known};
use crate::engine::{Cx, Engine};
use crate::proxy::exchange::ExchangeKey;

impl Engine {
    /// A CANCEL came.
    pub(super) fn on_cancel(&mut self, cx: Cx<'_>, incoming: &Incoming<'_, '_>) {
        let key = ExchangeKey::new(incoming.key.clone(), incoming.message);
        if let Some(id) = self.exchange_of(&key) {
            self.on_request_again(cx, id);
            return;
        }
        let Known::Call(call) = self.known_call(cx, incoming) else {
            self.reject(incoming, 481, "");
            return;
        };
        let Some(exchange) =
            self.open_exchange(cx, incoming.key.clone(), incoming.flow, incoming.message, &[], true)
        else {
            self.reject_overload(incoming.flow, incoming.message.raw());
            return;
        };
        self.cancel_call(cx, call, exchange);
    }
}
