//! Invariant 11: of messages that are kept.
//!
//! | what leaves the proxy | is right if |
//! |---|---|
//! | 202 to a MESSAGE | the message is committed as kept |
//! | the MESSAGE itself, passed on | it is not kept: the reader would have two |
//! | a MESSAGE of the proxy's own | it is kept, and it is not committed that it was delivered |
//!
//! When all is over, each MESSAGE that got a 2xx was taken by a phone of the user, and by none twice.

use std::collections::{BTreeMap, BTreeSet};

use proxy_core::state::message_store::MessageCommand;
use proxy_core::state::{SipResponse, SipState};

use crate::sim::notes::Notes;
use crate::sim::sip;

/// What is committed of messages, by their bodies.
#[derive(Debug, Default)]
pub struct Law {
    numbers: BTreeMap<(String, u64), String>,
    kept: BTreeSet<String>,
    gone: BTreeSet<String>,
}

impl Law {
    /// A change is committed; `state` has it.
    pub fn learn(&mut self, command: &MessageCommand, response: &SipResponse, state: &SipState) {
        if *response != SipResponse::Done {
            return;
        }
        match command {
            MessageCommand::Keep { aor, message, .. } => {
                let body = String::from_utf8_lossy(&message.body).into_owned();
                if let Some((number, _)) = state.messages_of(aor).find(|(_, m)| m.body == message.body) {
                    self.numbers.insert((aor.clone(), number), body.clone());
                }
                self.kept.insert(body);
            }
            MessageCommand::Remove { aor, number } => {
                self.gone.extend(self.numbers.get(&(aor.clone(), *number)).cloned());
            }
            MessageCommand::Failed { .. } | MessageCommand::Forget { .. } => {}
        }
    }

    /// Messages kept so far.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.kept.len() as u64
    }

    /// The proxy sends this, of a transaction of MESSAGE: what is wrong with it.
    #[must_use]
    pub fn sent(&self, text: &str) -> Option<&'static str> {
        let call = sip::header(text, "Call-ID").unwrap_or_default();
        let body = sip::body(text);
        match sip::status(text) {
            Some(202) if !self.kept.contains(&call) => Some("takes a message that is not committed"),
            Some(_) => None,
            None if call == body => self.kept.contains(body).then_some("passes on a message that it keeps"),
            None if !self.kept.contains(body) => Some("delivers a message that is not committed"),
            None => self.gone.contains(body).then_some("delivers again what is committed as delivered"),
        }
    }
}

/// What is wrong when all is over.
#[must_use]
pub fn at_the_end(notes: &Notes) -> Option<String> {
    let twice = notes.readers.iter().flat_map(|r| &r.taken).find(|(_, by)| by.len() > 1);
    if let Some((body, by)) = twice {
        return Some(format!("{body} was delivered twice at one phone: {by:?}"));
    }
    for note in &notes.all {
        if note.told.is_some_and(|s| (200..300).contains(&s)) && !notes.is_taken(note) {
            return Some(format!("{} was taken, and nobody has it: {note:?} {:?}", note.id, notes.readers));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(call: &str, body: &str) -> String {
        format!(
            "MESSAGE sip:m0@x SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\n\
             To: <sip:m0@x>\r\nCall-ID: {call}\r\nCSeq: 1 MESSAGE\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn what_is_committed_decides_what_may_leave() {
        let mut law = Law::default();
        let (own, passed) = (message("own", "note1"), message("note1", "note1"));
        let accepted = sip::respond(&passed, 202, "t", None);
        assert!(law.sent(&accepted).is_some() && law.sent(&own).is_some() && law.sent(&passed).is_none());
        law.kept.insert(String::from("note1"));
        assert!(law.sent(&accepted).is_none() && law.sent(&own).is_none() && law.sent(&passed).is_some());
        law.gone.insert(String::from("note1"));
        assert!(law.sent(&own).is_some());
    }
}
