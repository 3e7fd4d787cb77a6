//! Invariant 12: of those who watch calls.
//!
//! | what leaves the proxy | is right if |
//! |---|---|
//! | 200 to a SUBSCRIBE | the subscription is committed |
//! | a NOTIFY with a number that was there | it is the same NOTIFY, byte for byte |
//! | another one | its number is higher than all before, and committed (the last one of a subscription: the next) |
//!
//! When all is over, a subscription that was accepted is there until its end, and its watcher was shown last what the
//! replicated dialogs say.

use std::collections::{BTreeMap, BTreeSet};

use proxy_core::state::subscriptions::SubscriptionCommand;
use proxy_core::state::{InviteState, SipResponse, SipState};

use crate::sim::base::{MS, hash};
use crate::sim::lamps::{Seen, Watcher};
use crate::sim::sip;

/// By how much wall clocks of two nodes may differ, and a little more, ns.
const CLOCK_ERROR: u64 = 2_500 * MS;

/// What is committed of subscriptions, by Call-ID.
#[derive(Debug, Default)]
pub struct Law {
    /// Numbers of SUBSCRIBEs.
    accepted: BTreeSet<(String, u32)>,
    /// Highest number of a NOTIFY.
    numbered: BTreeMap<String, u32>,
    /// What was sent under each number.
    sent: BTreeMap<String, BTreeMap<u32, u64>>,
}

impl Law {
    /// A change is committed.
    pub fn learn(&mut self, command: &SubscriptionCommand, response: &SipResponse) {
        if *response != SipResponse::Done {
            return;
        }
        match command {
            SubscriptionCommand::Subscribe(s) => {
                self.accepted.insert((s.id.call_id.clone(), s.remote_cseq));
            }
            SubscriptionCommand::Notifying { id, cseq, .. } => {
                self.numbered.insert(id.call_id.clone(), *cseq);
            }
            SubscriptionCommand::Remove { .. } => {}
        }
    }

    /// NOTIFYs sent so far, without repetitions.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.sent.values().map(|by_number| by_number.len() as u64).sum()
    }

    /// The proxy sends this, of a transaction of SUBSCRIBE or NOTIFY: what is wrong with it.
    pub fn sent(&mut self, text: &str) -> Option<String> {
        let call = sip::header(text, "Call-ID").unwrap_or_default();
        let (number, method) = sip::cseq(text)?;
        match (sip::status(text), method.as_str()) {
            (Some(200), "SUBSCRIBE") => {
                let is_committed = self.accepted.contains(&(call, number));
                (!is_committed).then(|| String::from("accepts a subscription that is not committed"))
            }
            (None, "NOTIFY") => self.notified(call, number, text),
            _ => None,
        }
    }

    fn notified(&mut self, call: String, number: u32, text: &str) -> Option<String> {
        let state = sip::header(text, "Subscription-State").unwrap_or_default();
        let committed = self.numbered.get(&call).copied().unwrap_or_default();
        let allowed = committed + u32::from(state.starts_with("terminated"));
        let sent = self.sent.entry(call).or_default();
        let (newest, this) = (sent.keys().next_back().copied().unwrap_or_default(), hash(text.as_bytes()));
        match sent.get(&number) {
            Some(before) if *before == this => None,
            Some(_) => Some(format!("says two things in NOTIFY {number}")),
            None if number <= newest => Some(format!("sends NOTIFY {number} after {newest}")),
            None if number > allowed => Some(format!("sends NOTIFY {number}, which is not committed")),
            None => {
                sent.insert(number, this);
                None
            }
        }
    }
}

/// What is true of the calls of a user, and the Call-IDs of those that nobody can be sure of.
fn truth(state: &SipState, user: &str) -> (BTreeSet<Seen>, BTreeSet<String>) {
    let aor = format!("{user}@{}", sip::DOMAIN);
    let is_it =
        |who: Option<&str>| who.is_some_and(|who| who == aor || who.strip_prefix("sip:") == Some(&aor));
    let mut calls = BTreeSet::new();
    for dialog in state.dialogs() {
        let mut add = |direction: &str| {
            calls.insert((dialog.id.call_id.clone(), direction.to_owned(), String::from("confirmed")));
        };
        if is_it(dialog.facts.as_ref().and_then(|f| f.caller.as_deref())) {
            add("initiator");
        }
        if is_it(dialog.backing.called.as_deref()) {
            add("recipient");
        }
    }
    let is_open = |s: &InviteState| matches!(s, InviteState::Proceeding | InviteState::Cancelled);
    let open = state.pending_invites().filter(|p| is_open(&p.state)).map(|p| p.call_id.clone());
    (calls, open.collect())
}

/// What is wrong with one watcher when calls are over.
#[must_use]
pub fn of_watcher(state: &SipState, watcher: &Watcher) -> Option<String> {
    let may_end = watcher.may_end()?;
    if watcher.ended.is_some_and(|at| at + CLOCK_ERROR < may_end) {
        return Some(format!("is told too early that it is over: {watcher:?}"));
    }
    if !watcher.stays() {
        return None;
    }
    if !state.subscriptions().any(|s| s.id.call_id == watcher.call) {
        return Some(format!("is lost: {watcher:?}"));
    }
    if watcher.refused.contains(&481) {
        return Some(format!("is not known any more when it is refreshed: {watcher:?}"));
    }
    let (calls, open) = truth(state, &watcher.user);
    let differ = watcher.shown.symmetric_difference(&calls).find(|(call, ..)| !open.contains(call));
    differ.map(|of| format!("shows something else than there is, see {of:?}: {watcher:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(number: u32, body: &str) -> String {
        format!(
            "NOTIFY sip:w@x SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.0.1;branch=z9hG4bK{number}\r\nFrom: <sip:a@x>;tag=1\r\n\
             To: <sip:w@x>;tag=2\r\nCall-ID: c\r\nCSeq: {number} NOTIFY\r\nSubscription-State: active\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn numbers_rise_and_say_one_thing_each() {
        let mut law = Law::default();
        assert!(law.sent(&notify(1, "a")).is_some(), "not committed");
        law.numbered.insert(String::from("c"), 3);
        assert!(law.sent(&notify(2, "a")).is_none() && law.sent(&notify(2, "a")).is_none());
        assert!(law.sent(&notify(2, "b")).is_some() && law.sent(&notify(1, "a")).is_some());
        assert!(law.sent(&notify(3, "b")).is_none() && law.sent(&notify(2, "a")).is_none());
        assert_eq!(law.told(), 2);
    }
}
