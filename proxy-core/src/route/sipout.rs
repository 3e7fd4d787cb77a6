//! Kamailio's SIPOUT: requests for domains of others.
//!
//! | asked by | then |
//! |---|---|
//! | somebody who has authenticated, or whose address AUTH trusts | relayed |
//! | an address of `routing.relay_from`, or a rule with the action `relay` | relayed |
//! | a trunk | 403: it brings calls for our users, and no others |
//! | anybody else | 403: no open relay |
//!
//! Routes of others in a request that starts something are ignored, as in Kamailio.

use super::passage::{Passage, Step, Targets, Way};
use super::target::NoTarget;
use crate::engine::{Cx, Engine};
use crate::msg::{Method, Uri};

impl Engine {
    /// Lets through what is for us, relays what may be relayed, refuses the rest.
    pub(super) fn stage_sipout(&mut self, _cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        // A rule that names a trunk, a set, or voicemail has its own idea of where the request goes.
        let is_sent = matches!(passage.found.way, Some(Way::Trunk(_) | Way::Dispatcher(_) | Way::Voicemail));
        if is_sent || passage.method == Method::Register {
            return Step::Next;
        }
        self.relay_out(passage)
    }

    /// The same for a URI that an alias or a short number has become.
    pub(super) fn relay_out(&mut self, passage: &mut Passage<'_, '_>) -> Step {
        let local = passage.flow.local;
        let Ok(uri) = Uri::parse(&passage.found.uri) else {
            return Step::Reject(400, "Malformed Request-URI");
        };
        let wants_relay = passage.found.way == Some(Way::Relay);
        if self.settings.is_for_us(&uri, local) && !wants_relay {
            return Step::Next;
        }
        let source = passage.flow.remote.ip();
        let config = &self.settings.config.routing;
        let by_address = config.relay_from.iter().any(|c| c.contains(source));
        // A trunk brings calls to us; calls that it would send elsewhere are not our users'.
        let sender = &passage.found.sender;
        let trusted = sender.is_trusted() && sender.trunk().is_none();
        let may = wants_relay || by_address || sender.user().is_some() || trusted;
        if !may {
            self.explain("no relay", || {
                String::from("the domain is foreign, and the sender is neither authenticated nor trusted")
            });
            return Step::Reject(403, "Not relaying");
        }
        if config.p_hint {
            passage.found.headers.push((String::from("P-Hint"), String::from("outbound")));
        }
        let uri = passage.found.uri.clone();
        match self.branch_to_uri(passage, &uri, 0) {
            Ok(branch) => Step::Targets(Targets::now(vec![branch])),
            Err(NoTarget(status, reason)) => Step::Reject(status, reason),
        }
    }
}
