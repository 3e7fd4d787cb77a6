//! What else listens on this machine: databases, admin ports, a backend. A phone names its Contact as it likes, and the other
//! side, or somebody who has rung it up for that, would have the proxy send there what he cannot send himself.
//!
//! | a target within a dialog is | then |
//! |---|---|
//! | at an address of the proxy and a port of its own | it is for the proxy |
//! | at such an address or on loopback, at another port | nowhere, but for the rows below |
//! | the same, where its side of the call has been from the beginning | it goes there |
//! | the same, a backend, a trunk, voicemail, or where the user in To is registered | it goes there |
//! | the same, and the proxy listens on loopback itself: a test on one machine | it goes there |

use super::standing::{is_registered_at, place_of_flow};
use crate::dialog::token::place_of;
use crate::engine::{Cx, Engine};
use crate::msg::{Message, Uri};
use crate::state::Flow;

impl Engine {
    /// Whether a flow leads to something on this machine that has no part in SIP.
    pub(super) fn leads_beside(&self, cx: Cx<'_>, came: Flow, message: &Message<'_>, flow: Flow) -> bool {
        let (ip, port) = (flow.remote.ip().to_canonical(), flow.remote.port());
        let own = || self.settings.config.listen.iter().chain([&came.local]);
        let is_here = ip.is_loopback() || own().any(|a| a.ip().to_canonical() == ip);
        if !is_here || own().any(|a| a.ip().is_loopback() || a.port() == port) {
            return false;
        }
        let of_dialog = crate::dialog::of(cx.state, message)
            .is_some_and(|(d, _)| [d.caller_flow, d.callee_flow].iter().any(|f| f.remote == flow.remote));
        !of_dialog && !self.is_server_of_ours(cx, flow) && !self.is_phone_of_to(cx, came, message, flow)
    }

    fn is_server_of_ours(&self, cx: Cx<'_>, flow: Flow) -> bool {
        let place = place_of_flow(flow);
        let is_there = |uri: &str| place_of(uri) == place;
        let voicemail = self.settings.config.routing.voicemail.as_ref().and_then(|v| v.target("x"));
        cx.state.dispatcher().sets.values().flatten().any(|d| is_there(&d.uri))
            || cx.state.trunks().any(|t| is_there(&t.account.proxy))
            || voicemail.is_some_and(|uri| is_there(&uri))
    }

    fn is_phone_of_to(&self, cx: Cx<'_>, came: Flow, message: &Message<'_>, flow: Flow) -> bool {
        let to = message.to().ok().and_then(|to| Uri::parse(to.uri).ok());
        let aor = to.and_then(|to| self.settings.config.aor(&to, Some(came.local)));
        aor.is_some_and(|aor| is_registered_at(cx, &aor, &place_of_flow(flow)))
    }
}
