//! Invariant 13: of calls whose media go through an rtpengine.
//!
//! | what leaves the proxy | is right if |
//! |---|---|
//! | an INVITE with SDP | the SDP is an rtpengine's; one that does not answer is not waited for |
//! | the 2xx that the caller hears first, of a call with a session | the same |
//!
//! When all is over, no rtpengine holds a call that had a committed session there and is over. One may if datagrams of
//! the deletion were lost, and the node that would have repeated them went before it did: rtpengine ends by itself what
//! is silent.
//!
//! Another fork's 2xx is hung up on, and goes on as it is. While an rtpengine is away, and until it is known to be back,
//! SDP may go on as it is: that is what was configured. So may the answer of a call that it has forgotten meanwhile, when it
//! says so; and what is repeated of a call that is over, in which nobody is any more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proxy_core::state::{InviteState, MediaCommand, SipCommand, SipState};
use raft_store::node::Place;

use crate::sim::base::MS;
use crate::sim::rtp::{MARK, RtpEngines};
use crate::sim::sip;

/// A question may have been under way for so long when one is lost, ns.
const BEFORE: u64 = 1_500 * MS;
/// So long may it take until one counts as back, ns.
const AFTER: u64 = 6_000 * MS;
/// So long is a question repeated, and a little more, ns: clocks differ.
const ASKS: u64 = 1_100 * MS;

/// What is committed of sessions.
#[derive(Debug, Default)]
pub struct Law {
    /// The rtpengine of each call.
    nodes: BTreeMap<String, SocketAddr>,
    /// Whose 2xx the caller has heard first.
    heard: BTreeMap<String, String>,
    /// Calls whose 2xx went on as it was while an rtpengine was away: it is repeated like that.
    passed: BTreeSet<String>,
    /// Calls of which an rtpengine that was away has said that it does not know them, or may have.
    forgotten: BTreeSet<String>,
    /// Calls with a dialog that has ended.
    over: BTreeSet<String>,
    /// When one was away, from and until, ns.
    pub away: Option<(u64, u64)>,
    /// Deletions of which a datagram was lost, and none has arrived: who asks, where, of which call, and since when, ns.
    unheard: BTreeMap<(Place, SocketAddr, String), u64>,
    /// Those whose node went while it asked: where, of which call.
    gone: BTreeSet<(SocketAddr, String)>,
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
            SipCommand::DialogEnded { id, .. } => {
                self.over.insert(id.call_id.clone());
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
                let is_first = *self.heard.entry(call.clone()).or_insert_with(|| tag.clone()) == tag;
                if !(is_bare && is_first && self.nodes.contains_key(&call)) || self.over.contains(&call) {
                    return None;
                }
                if is_troubled || self.forgotten.contains(&call) {
                    self.passed.insert(call);
                    return None;
                }
                (!self.passed.contains(&call)).then_some("passes an answer without that of the rtpengine")
            }
            None if text.starts_with("INVITE ") => {
                (is_bare && !is_troubled).then_some("passes an offer without that of the rtpengine")
            }
            _ => None,
        }
    }

    /// Whether a 2xx of this call went on as it was, and may: it is not, to the byte, what is committed.
    #[must_use]
    pub fn has_passed(&self, call: &str) -> bool {
        self.passed.contains(call)
    }

    /// An rtpengine that was away is asked about a call which it held before.
    pub fn forgotten(&mut self, call: String) {
        self.forgotten.insert(call);
    }

    /// A datagram by which `place` has a call deleted is lost at `now`.
    pub fn unheard(&mut self, place: Place, at: SocketAddr, call: String, now: u64) {
        self.unheard.entry((place, at, call)).or_insert(now);
    }

    /// Such a datagram has arrived.
    pub fn heard(&mut self, at: SocketAddr, call: &str) {
        self.unheard.retain(|(_, of, lost), _| *of != at || lost != call);
        self.gone.remove(&(at, call.to_owned()));
    }

    /// Time goes on; which nodes serve now.
    pub fn tick(&mut self, now: u64, serves: impl Fn(Place) -> bool) {
        let gone = &mut self.gone;
        self.unheard.retain(|(place, at, call), since| {
            let asks = now <= *since + ASKS;
            if asks && !serves(*place) {
                gone.insert((*at, call.clone()));
                return false;
            }
            asks
        });
    }

    /// Calls that an rtpengine is left with because their deletion went with its node.
    #[must_use]
    pub fn excused(&self, engines: &RtpEngines) -> u64 {
        let holds = |at, call| engines.all.iter().any(|e| e.at == at && e.held.contains(call));
        self.gone.iter().filter(|(at, call)| holds(*at, call)).count() as u64
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
            let is_excused = |call: &String| self.gone.contains(&(engine.at, call.clone()));
            let is_left = |call: &String| {
                self.nodes.get(call) == Some(&engine.at) && !is_live(call) && !is_excused(call)
            };
            let left = held.find(|call| is_left(call))?;
            Some(format!("{left} is over, and the rtpengine at {} has not heard of it", engine.at))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::setup::RTPENGINES;

    /// An rtpengine that holds a call which is over, and the law that knows of it.
    fn left() -> (Law, RtpEngines, SocketAddr) {
        let (mut law, mut engines) = (Law::default(), RtpEngines::default());
        let [at, _] = RTPENGINES;
        law.nodes.insert(String::from("c"), at);
        engines.all[0].held.insert(String::from("c"));
        (law, engines, at)
    }

    #[test]
    fn a_deletion_may_be_missing_only_if_its_node_went_while_it_asked() {
        let (mut law, engines, at) = left();
        let state = SipState::default();
        assert!(law.at_the_end(&state, &engines).is_some(), "nobody has asked");
        law.unheard(1, at, String::from("c"), 0);
        law.tick(ASKS, |place| place == 1);
        law.tick(ASKS + 1, |_| false);
        assert!(law.at_the_end(&state, &engines).is_some(), "its node had all the time");
        law.unheard(1, at, String::from("c"), 2 * ASKS);
        law.tick(2 * ASKS + MS, |_| false);
        assert!(law.at_the_end(&state, &engines).is_none() && law.excused(&engines) == 1);
    }

    #[test]
    fn a_call_that_is_held_anew_after_its_deletion_is_left() {
        let (mut law, engines, at) = left();
        law.unheard(1, at, String::from("c"), 0);
        law.tick(MS, |_| false);
        law.heard(at, "c");
        assert!(law.at_the_end(&SipState::default(), &engines).is_some());
    }

    #[test]
    fn sdp_of_a_phone_passes_only_while_an_rtpengine_is_away() {
        let mut law = Law::default();
        let invite = "INVITE sip:u@x SIP/2.0\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContent-Length: 12\r\n\r\nv=0\r\ns=phone\r\n";
        let treated = invite.replace("s=phone", MARK);
        assert!(law.sent(invite, 0).is_some() && law.sent(&treated, 0).is_none());
        law.away = Some((10 * BEFORE, 11 * BEFORE));
        assert!(law.sent(invite, 0).is_some() && law.sent(invite, 10 * BEFORE).is_none());
        assert!(law.sent(invite, 11 * BEFORE + AFTER + 1).is_some());
    }

    #[test]
    fn an_answer_goes_on_as_it_is_only_of_a_call_that_the_rtpengine_has_forgotten() {
        let mut law = Law::default();
        law.nodes.insert(String::from("c"), RTPENGINES[0]);
        let ok = "SIP/2.0 200 OK\r\nTo: <sip:u@x>;tag=t\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContent-Length: 12\r\n\r\nv=0\r\ns=phone\r\n";
        law.forgotten(String::from("another"));
        assert!(law.sent(ok, 0).is_some());
        law.forgotten(String::from("c"));
        assert!(law.sent(ok, 0).is_none());
    }
}
