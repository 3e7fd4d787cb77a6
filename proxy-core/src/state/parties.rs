//! Who calls whom: what accounting, limits and the lamps of other phones need to know of a call.

use std::net::IpAddr;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::limits::{MAX_ACCOUNT_TEXT, MAX_COUNT_KEYS};
use super::{Backend, Branch};
use crate::time::WallTime;

/// Of an INVITE that starts a call. Taken at admission and handed on to the dialogs that come of it. No text is longer
/// than [`MAX_ACCOUNT_TEXT`]. Names as in Kamailio's `log_extra`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct CallFacts {
    /// From tag.
    #[n(0)]
    pub from_tag: String,
    /// CSeq number.
    #[n(1)]
    pub cseq: u32,
    /// User in From.
    #[n(2)]
    pub src_user: String,
    /// Host in From.
    #[n(3)]
    pub src_domain: String,
    /// Where it came from.
    #[cbor(n(4), with = "crate::wire::ip")]
    pub src_ip: IpAddr,
    /// User in To: who was dialled.
    #[n(5)]
    pub dst_ouser: String,
    /// User of the Request-URI that counted: after rules, short numbers and aliases.
    #[n(6)]
    pub dst_user: String,
    /// Its host.
    #[n(7)]
    pub dst_domain: String,
    /// Address of record of our user who calls: proved by password, said by somebody trusted who is no trunk, or, where nobody
    /// is asked, as in From.
    #[n(8)]
    pub caller: Option<String>,
    /// The trunk that it came from, proved by its address.
    #[n(9)]
    pub from_trunk: Option<String>,
    /// Under what it counts as one call at a time.
    #[cbor(n(10), with = "crate::wire::list", has_nil)]
    pub counted: Vec<CallLimit>,
}

impl CallFacts {
    /// The call goes out by the trunks of these copies, and by no other any more: it counts under them. The trunk that it came
    /// by counts it all the same.
    pub(crate) fn count_under_trunk_of(&mut self, branches: &[Branch]) {
        let came_by = self.from_trunk.as_ref();
        self.counted.retain(|limit| match &limit.key {
            CountKey::Trunk(uuid) => came_by == Some(uuid),
            _ => true,
        });
        for branch in branches {
            if let (Some(Backend::Trunk { uuid }), Some(most)) =
                (&branch.backing.backend, branch.backing.most_calls)
            {
                let key = CountKey::Trunk(uuid.clone());
                let is_known = self.counted.iter().any(|limit| limit.key == key);
                if !is_known && self.counted.len() < MAX_COUNT_KEYS {
                    self.counted.push(CallLimit { key, most });
                }
            }
        }
    }
}

/// Under what calls are counted: those that are under way and those that are answered.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum CountKey {
    /// Calls of our user with this address of record.
    #[n(0)]
    Caller(#[n(0)] String),
    /// Calls to our user with this address of record.
    #[n(1)]
    Callee(#[n(0)] String),
    /// Calls in and out by this trunk.
    #[n(2)]
    Trunk(#[n(0)] String),
    /// Calls from this address.
    #[n(3)]
    Source(#[cbor(n(0), with = "crate::wire::ip")] IpAddr),
    /// Calls at this destination of the dispatcher. Counted by what the call is at, not by a limit of its own
    /// ([`crate::state::SipState::load_of`]).
    #[n(4)]
    Destination {
        /// Its set.
        #[n(0)]
        set: u32,
        /// Its URI.
        #[n(1)]
        uri: String,
    },
}

impl CountKey {
    /// Bytes of text in it.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Caller(name) | Self::Callee(name) | Self::Trunk(name) => name.len(),
            Self::Source(_) => 16,
            Self::Destination { uri, .. } => uri.len(),
        }
    }
}

/// Most calls at a time under a key, from the configuration of the proposer. Judged in `apply`, so that two engines
/// cannot both take the last place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct CallLimit {
    /// What is counted.
    #[n(0)]
    pub key: CountKey,
    /// Most calls, the new one included.
    #[n(1)]
    pub most: u32,
}

/// Who ended a call.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[cbor(context_bound = "crate::wire::Room", index_only)]
pub enum EndedBy {
    /// The caller: BYE, or CANCEL before an answer.
    #[n(0)]
    Caller,
    /// The callee: BYE, or a refusal before an answer.
    #[n(1)]
    Callee,
    /// The proxy: the longest duration was reached, or nobody answered in time.
    #[n(2)]
    Timeout,
    /// The proxy: nobody has refreshed the session (RFC 4028 §10).
    #[n(3)]
    SessionTimer,
    /// The proxy, on the word of an operator.
    #[n(4)]
    Operator,
    /// Nobody knows: it was forgotten long after its time, or there was no room for its dialog.
    #[n(5)]
    Lost,
    /// The proxy: the caller has never acknowledged the answer.
    #[n(6)]
    NoAck,
}

impl EndedBy {
    /// The word of it in records and lists.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
            Self::Timeout => "timeout",
            Self::SessionTimer => "session timer",
            Self::Operator => "operator",
            Self::Lost => "lost",
            Self::NoAck => "no ack",
        }
    }
}

/// How a dialog ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Ending {
    /// When.
    #[n(0)]
    pub at: WallTime,
    /// Who ended it.
    #[n(1)]
    pub by: EndedBy,
    /// Final status of the BYE of a side; none if there was no such BYE.
    #[n(2)]
    pub bye: Option<u16>,
}

/// What a dialog's session timer came to (RFC 4028).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct SessionTimer {
    /// `Session-Expires` of the last 2xx, in seconds.
    #[n(0)]
    pub interval_s: u32,
    /// End of the session, if nobody refreshes it.
    #[n(1)]
    pub expires_at: WallTime,
}

/// As much of a text as is kept.
#[must_use]
pub fn account_text(text: &str) -> String {
    let mut end = text.len().min(MAX_ACCOUNT_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Bytes of text in the facts of a call.
pub(super) fn facts_bytes(facts: Option<&CallFacts>) -> usize {
    facts.map_or(0, |f| {
        let texts = [&f.from_tag, &f.src_user, &f.src_domain, &f.dst_ouser, &f.dst_user, &f.dst_domain];
        let names = [f.caller.as_ref(), f.from_trunk.as_ref()];
        texts.into_iter().chain(names.into_iter().flatten()).map(String::len).sum::<usize>()
            + f.counted.iter().map(|limit| limit.key.bytes()).sum::<usize>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        let long = "ñ".repeat(MAX_ACCOUNT_TEXT);
        let kept = account_text(&long);
        assert!(kept.len() <= MAX_ACCOUNT_TEXT && kept.len() >= MAX_ACCOUNT_TEXT - 1);
        assert!(kept.chars().all(|c| c == 'ñ'));
        assert_eq!(account_text("short"), "short");
    }
}
