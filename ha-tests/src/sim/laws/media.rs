//! Invariant 13: of calls whose media go through an rtpengine.
//!
//! | what leaves the proxy | is right if |
//! |---|---|
//! | an INVITE with SDP | the SDP is an rtpengine's; one that does not answer is not waited for |
//! | the first 2xx of a call with a session | the same |
//!
//! When all is over, no rtpengine holds a call that had a committed session there and is over.
//!
//! Another fork's 2xx is hung up on, and goes on as it is. While an rtpengine is away, and until it is known to be back,
//! SDP may go on as it is: that is what was configured.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proxy_core::state::{InviteState, MediaCommand, SipCommand, SipState};

use crate::sim::base::MS;
use crate::sim::rtp::{MARK, RtpEngines};
use crate::sim::sip;

/// A question may have been under way for so long when one is lost, ns.
const BEFORE: u64 = 1_500 * MS;
/// So long may it take until one counts as back, ns.
const AFTER: u64 = 6_000 * MS;

/// What is committed of sessions.
#[derive(Debug, Default)]
pub struct Law {
    /// The rtpengine of each call.
    nodes: BTreeMap<String, SocketAddr>,
    /// Who has answered first.
    answered: BTreeMap<String, String>,
    /// When one was away, from and until, ns.
    pub away: Option<(u64, u64)>,
}

impl Law {
    /// A change is committed.
    pub fn learn(&mut self, command: &SipCommand) {
        match command {
            SipCommand::InviteReceived(invite) => {
                if let Some(media) = invite.media.as_ref().filter(|_| invite.facts.is_some()) {
                    self.nodes.insert(invite.call_id.clone(), media.node);
                }
            }
            SipCommand::Media(MediaCommand::Agreed { id, node, .. }) => {
                self.nodes.insert(id.call_id.clone(), *node);
            }
            _ => {}
        }
    }

    /// The proxy sends this, of a transaction of INVITE, at `now`: what is wrong with it.
    pub fn sent(&mut self, text: &str, now: u64) -> Option<&'static str> {
        let body = sip::body(text);
        let is_bare = !body.is_empty() && !body.contains(MARK);
        let is_troubled = self.away.is_some_and(|(from, until)| from <= now + BEFORE && now <= until + AFTER);
        let call = sip::header(text, "Call-ID").unwrap_or_default();
        match sip::status(text) {
            Some(200..=299) => {
                let tag = sip::to_tag(text);
                let is_first = *self.answered.entry(call.clone()).or_insert_with(|| tag.clone()) == tag;
                let is_wrong = is_bare && is_first && !is_troubled && self.nodes.contains_key(&call);
                is_wrong.then_some("passes an answer without that of the rtpengine")
            }
            None if text.starts_with("INVITE ") => {
                (is_bare && !is_troubled).then_some("passes an offer without that of the rtpengine")
            }
            _ => None,
        }
    }

    /// What is wrong when all is over.
    #[must_use]
    pub fn at_the_end(&self, state: &SipState, engines: &RtpEngines) -> Option<String> {
        let is_live = |call: &str| {
            let is_open = |s: &InviteState| matches!(s, InviteState::Proceeding | InviteState::Cancelled);
            state.dialogs().any(|d| d.id.call_id == call)
                || state.pending_invites().any(|p| p.call_id == call && is_open(&p.state))
        };
        engines.all.iter().find_map(|engine| {
            let mut held = engine.held.iter();
            let left = held.find(|call| self.nodes.get(*call) == Some(&engine.at) && !is_live(call))?;
            Some(format!("{left} is over, and the rtpengine at {} has not heard of it", engine.at))
        })
    }
}
