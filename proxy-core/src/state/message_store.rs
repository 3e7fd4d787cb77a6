//! Messages (RFC 3428) for users who have no phone at the moment, until they register again.
//!
//! | command | nothing there | there |
//! |---|---|---|
//! | Keep | `Done`, `Full` | the same message, or a receipt of it: `Done` |
//! | Failed, Forget | `NotFound` | `Done` |
//! | Remove | `NotFound` | `Done` |
//!
//! A message has a number in the order of arrival. All that a delivery is made of is replicated, so that another node
//! sends the same request again, which the phone knows if it has had it.
//!
//! Of each message that was taken there is a receipt for a while, also when it has been delivered: a sender whose 202
//! was lost sends it again, and gets 202 without a second copy.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::Binding;
use super::limits::RECEIPT_BYTES;
use super::pmap::PMap;
use crate::time::WallTime;

/// All messages that are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct MessageStore {
    /// Number of the next one.
    #[n(0)]
    pub(super) next: u64,
    /// By address of record and number.
    #[cbor(n(1), with = "crate::wire::map_of_maps", has_nil)]
    pub(super) users: PMap<String, BTreeMap<u64, StoredMessage>>,
    /// Receipts of messages that were taken, with the end of each.
    #[cbor(n(2), with = "crate::wire::map", has_nil)]
    pub(super) receipts: PMap<u64, WallTime>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct StoredMessage {
    /// Digest of what is the same in all repetitions of the MESSAGE as it came, and in no other: see
    /// [`StoredMessage::receipt_ends`].
    #[n(0)]
    pub receipt: u64,
    /// Until when it may be repeated by its sender: so long its receipt is kept, whether or not it was delivered.
    #[n(1)]
    pub receipt_ends: WallTime,
    /// From value without tag.
    #[n(2)]
    pub from: String,
    /// URI in To.
    #[n(3)]
    pub to: String,
    /// Further headers, name and value, in order.
    #[cbor(n(4), with = "crate::wire::list", has_nil)]
    pub headers: Vec<(String, String)>,
    /// Content-Type, if there was one.
    #[n(5)]
    pub content_type: Option<String>,
    /// Body.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub body: Vec<u8>,
    /// When it came.
    #[n(7)]
    pub received_at: WallTime,
    /// When it is given up.
    #[n(8)]
    pub expires_at: WallTime,
    /// CSeq number of its delivery where it was not tried yet: higher by one after each answer that refused it.
    #[n(9)]
    pub cseq: u32,
    /// The registrations that it was tried at in vain, by name ([`registration`]). One more than the user has contacts,
    /// at most.
    #[cbor(n(10), with = "crate::wire::map", has_nil)]
    pub tries: BTreeMap<String, Tries>,
}

/// What came of a message at one registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Tries {
    /// How often it has failed.
    #[n(0)]
    pub failures: u16,
    /// CSeq number of the next try: the same again where there was no answer.
    #[n(1)]
    pub cseq: u32,
    /// When it is tried there again; `None`: it was refused for good.
    #[n(2)]
    pub next_at: Option<WallTime>,
}

impl Tries {
    /// Whether it is tried there again by now.
    #[must_use]
    pub fn is_due(&self, now: WallTime) -> bool {
        self.next_at.is_some_and(|at| at <= now)
    }
}

/// A change of the messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum MessageCommand {
    /// One more: before its 202 leaves.
    #[n(0)]
    Keep {
        /// For whom: address of record.
        #[n(0)]
        aor: String,
        /// The message.
        #[n(1)]
        message: Box<StoredMessage>,
        /// Most messages of one user, from the configuration of the proposer.
        #[n(2)]
        max_per_user: u32,
        /// Most messages of all users, from there, too.
        #[n(3)]
        max_total: u64,
    },
    /// It could not be delivered to a registration.
    #[n(1)]
    Failed {
        /// For whom.
        #[n(0)]
        aor: String,
        /// Its number.
        #[n(1)]
        number: u64,
        /// Name of the registration.
        #[n(2)]
        registration: String,
        /// What came of it there so far.
        #[n(3)]
        tries: Tries,
    },
    /// Registrations that it was tried at are no more.
    #[n(2)]
    Forget {
        /// For whom.
        #[n(0)]
        aor: String,
        /// Its number.
        #[n(1)]
        number: u64,
        /// Their names.
        #[cbor(n(2), with = "crate::wire::list", has_nil)]
        registrations: Vec<String>,
    },
    /// It was delivered, or refused for good by all phones there are.
    #[n(3)]
    Remove {
        /// For whom.
        #[n(0)]
        aor: String,
        /// Its number.
        #[n(1)]
        number: u64,
    },
}

/// The name of a registration, for the tries at it: another one as soon as the phone has been started again, or has
/// another address. Several contacts may be of one REGISTER, and several flows of one contact (RFC 5626).
#[must_use]
pub fn registration(binding: &Binding) -> String {
    let Binding { call_id, contact_key, reg_id, .. } = binding;
    match reg_id {
        Some(reg_id) => format!("{call_id} {contact_key} {reg_id}"),
        None => format!("{call_id} {contact_key}"),
    }
}

/// Derived from the messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MessageIndex {
    /// How many there are.
    pub(super) count: u64,
    /// End of each.
    pub(super) ends: BTreeSet<(WallTime, String, u64)>,
    /// Those that are tried again at some time.
    pub(super) due: BTreeSet<(WallTime, String)>,
    /// End of each receipt.
    pub(super) receipts: BTreeSet<(WallTime, u64)>,
}

impl MessageIndex {
    pub(super) fn add(&mut self, aor: &str, messages: &BTreeMap<u64, StoredMessage>) {
        self.count += messages.len() as u64;
        for (number, message) in messages {
            self.ends.insert((message.expires_at, aor.to_owned(), *number));
        }
        if let Some(at) = first_due(messages) {
            self.due.insert((at, aor.to_owned()));
        }
    }

    pub(super) fn remove(&mut self, aor: &str, messages: &BTreeMap<u64, StoredMessage>) {
        self.count = self.count.saturating_sub(messages.len() as u64);
        for (number, message) in messages {
            self.ends.remove(&(message.expires_at, aor.to_owned(), *number));
        }
        if let Some(at) = first_due(messages) {
            self.due.remove(&(at, aor.to_owned()));
        }
    }

    pub(super) fn next_end(&self) -> Option<WallTime> {
        let message = self.ends.first().map(|(end, _, _)| *end);
        let receipt = self.receipts.first().map(|(end, _)| *end);
        message.into_iter().chain(receipt).min()
    }
}

/// Bytes counted for receipts.
pub(super) fn receipts_bytes(count: usize) -> u64 {
    (count * RECEIPT_BYTES) as u64
}

/// They are delivered in order: the first one decides.
fn first_due(messages: &BTreeMap<u64, StoredMessage>) -> Option<WallTime> {
    messages.first_key_value().and_then(|(_, m)| m.tries.values().filter_map(|t| t.next_at).min())
}

/// Bytes of text in the messages of a user.
pub(super) fn messages_bytes(aor: &str, messages: &BTreeMap<u64, StoredMessage>) -> usize {
    if messages.is_empty() { 0 } else { aor.len() + messages.values().map(message_bytes).sum::<usize>() }
}

/// Bytes of text in a message.
pub(super) fn message_bytes(m: &StoredMessage) -> usize {
    let headers: usize = m.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    m.from.len()
        + m.to.len()
        + headers
        + m.content_type.as_ref().map_or(0, String::len)
        + m.body.len()
        + m.tries.keys().map(String::len).sum::<usize>()
}
