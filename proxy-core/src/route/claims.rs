//! Who somebody says he is, besides From: P-Asserted-Identity is believed only from those who are trusted (RFC 3325 §5), and
//! told only to those (§7).
//!
//! | it comes from | in a request | in an answer |
//! |---|---|---|
//! | a source of a trunk, or somebody on the access list | believed | believed |
//! | a trunk or a destination that we have sent the request to | – | believed |
//! | somebody else | taken out | taken out |
//! | anybody, with `Privacy: id` | see [`crate::trunk`] | taken out, but for a caller who is trusted with it |
//!
//! Without authentication nobody is told from anybody, and all of it is believed.

use crate::engine::{Client, Cx, Engine};
use crate::msg::{Forward, Message};
use crate::state::{Backing, Flow};
use crate::trunk::{ASSERTED, PREFERRED, wants_id_kept};

/// The header of a draft that providers still read.
const REMOTE_PARTY: &str = "Remote-Party-ID";

/// What says who somebody is.
const CLAIMS: [&str; 3] = [ASSERTED, PREFERRED, REMOTE_PARTY];

impl Engine {
    /// The request without the claims of somebody who is not trusted; `None` if there are none, or he is.
    pub(super) fn without_claims(&self, cx: Cx<'_>, flow: Flow, stamped: &[u8]) -> Option<Vec<u8>> {
        if !self.settings.config.auth.enabled {
            return None;
        }
        let message = Message::parse(stamped).ok()?;
        (claims(&message) && !self.is_believed(cx, flow)).then(|| without(&message, &CLAIMS))
    }

    /// The response without the claims of somebody who is not trusted, or those that are not for the caller; `None` if it may
    /// stay as it is. `client` is what it answers, if that is in memory.
    pub(super) fn without_claims_of_answer(
        &self,
        cx: Cx<'_>,
        client: Option<Client>,
        flow: Flow,
        response: &Message<'_>,
    ) -> Option<Vec<u8>> {
        if !claims(response) {
            return None;
        }
        let (asked, caller) = match client {
            Some(Client::Call(id, index)) => {
                let call = self.call(id)?;
                (call.branches.get(index).map(|b| &b.record.backing), Some(call.flow))
            }
            Some(Client::Exchange(id, index)) => {
                let exchange = self.exchange(id)?;
                (exchange.branches.get(index).map(|b| &b.record.backing), Some(exchange.flow))
            }
            // It ends here.
            Some(Client::Errand(_)) => return None,
            None => (None, None),
        };
        let sent_there = asked.is_some_and(|backing| backing.backend.is_some());
        if self.settings.config.auth.enabled && !sent_there && !self.is_believed(cx, flow) {
            return Some(without(response, &CLAIMS));
        }
        let is_told = || self.is_told(cx, asked) || caller.is_some_and(|flow| self.is_believed(cx, flow));
        let hides = wants_id_kept(response) && response.header_named(ASSERTED).is_some();
        (hides && !is_told()).then(|| without(response, &[ASSERTED]))
    }

    /// Whether the access list or a trunk vouches for whoever is there.
    pub(super) fn is_believed(&self, cx: Cx<'_>, flow: Flow) -> bool {
        let (address, port) = (flow.remote.ip(), flow.remote.port());
        let group = self.settings.config.auth.trusted_group;
        group.is_some_and(|group| cx.state.acl_match(group, address, port).is_some())
            || cx.state.trunks_with_source(address).any(|t| !t.account.disabled)
    }

    /// Whether the call came by a trunk that is told who somebody is.
    fn is_told(&self, cx: Cx<'_>, asked: Option<&Backing>) -> bool {
        let trunk = asked.and_then(|b| b.from_trunk.as_deref()).and_then(|uuid| cx.state.trunk(uuid));
        trunk.is_some_and(|t| t.account.style.asserted.is_some())
    }
}

fn claims(message: &Message<'_>) -> bool {
    CLAIMS.iter().any(|name| message.header_named(name).is_some())
}

fn without(message: &Message<'_>, names: &[&str]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.raw().len());
    let mut forward = Forward::new(message);
    for name in names {
        forward.remove_header(name);
    }
    forward.write(&mut out);
    out
}
