//! Who watches the calls of whom (RFC 6665, RFC 4235), and what he was told last.
//!
//! | command | nothing there | there | too late |
//! |---|---|---|---|
//! | Subscribe | `Done`, `Full` | `Done` | a lower CSeq: `Superseded` |
//! | Notifying | `NotFound` | `Done` | a CSeq that is not the next: `Superseded` |
//! | Remove | `NotFound` | `Done` | |
//!
//! The CSeq of a NOTIFY, which also counts the versions of the document, is replicated before it is sent, together with
//! what it shows: a node that takes over goes on counting, and knows which calls have ended that the watcher still sees.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::pmap::PMap;
use super::{DialogId, Flow};
use crate::time::WallTime;

/// Milliseconds past its end after which a subscription goes even if nobody has said so to the watcher.
pub const SUBSCRIPTION_GRACE_MS: u64 = 60_000;

/// All subscriptions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Subscriptions {
    /// By dialog: the tag of the watcher is `from_tag`, ours is `to_tag`.
    #[cbor(n(0), with = "crate::wire::map", has_nil)]
    pub(super) all: PMap<DialogId, Subscription>,
}

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Subscription {
    /// The dialog that SUBSCRIBE has made: the watcher's tag is `from_tag`, ours is `to_tag`.
    #[n(0)]
    pub id: DialogId,
    /// Address of record whose calls are watched.
    #[n(1)]
    pub watched: String,
    /// How the watcher called it.
    #[n(2)]
    pub entity: String,
    /// `id` of the Event header, if any.
    #[n(3)]
    pub event_id: Option<String>,
    /// URI in From of the SUBSCRIBE.
    #[n(4)]
    pub remote_uri: String,
    /// URI in To of the SUBSCRIBE.
    #[n(5)]
    pub local_uri: String,
    /// Contact of the watcher.
    #[n(6)]
    pub contact: String,
    /// Route set, nearest first (RFC 3261 §12.1.1).
    #[cbor(n(7), with = "crate::wire::list", has_nil)]
    pub routes: Vec<String>,
    /// How the last SUBSCRIBE came.
    #[n(8)]
    pub flow: Flow,
    /// The Contact cannot be reached from here: requests go by `flow`.
    #[n(9)]
    pub by_flow: bool,
    /// CSeq number of the last SUBSCRIBE.
    #[n(10)]
    pub remote_cseq: u32,
    /// Its end.
    #[n(11)]
    pub expires_at: WallTime,
    /// CSeq number of the last NOTIFY; 0 before the first. The version of its document is one less.
    #[n(12)]
    pub notify_cseq: u32,
    /// The calls that the last NOTIFY showed, in order of their names.
    #[cbor(n(13), with = "crate::wire::list", has_nil)]
    pub shown: Vec<Shown>,
}

/// A call as a watcher was told of it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Shown {
    /// Its name in the document.
    #[n(0)]
    pub name: u64,
    /// How it stood.
    #[n(1)]
    pub phase: CallPhase,
    /// The one who is watched made the call.
    #[n(2)]
    pub outgoing: bool,
}

/// State of a dialog (RFC 4235 §3.7.1), in the order of its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[cbor(context_bound = "crate::wire::Room", index_only)]
pub enum CallPhase {
    /// An INVITE without an answer.
    #[n(0)]
    Trying,
    /// A provisional response without tag.
    #[n(1)]
    Proceeding,
    /// A provisional response with tag: it rings.
    #[n(2)]
    Early,
    /// A 2xx.
    #[n(3)]
    Confirmed,
    /// It is over.
    #[n(4)]
    Terminated,
}

impl CallPhase {
    /// The word of it in documents.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Trying => "trying",
            Self::Proceeding => "proceeding",
            Self::Early => "early",
            Self::Confirmed => "confirmed",
            Self::Terminated => "terminated",
        }
    }
}

/// A change of the subscriptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum SubscriptionCommand {
    /// A SUBSCRIBE was accepted, the first or a later one: before its 200 leaves.
    #[n(0)]
    Subscribe(#[n(0)] Box<Subscription>),
    /// A NOTIFY is about to be sent.
    #[n(1)]
    Notifying {
        /// Of which subscription.
        #[n(0)]
        id: DialogId,
        /// Its CSeq number.
        #[n(1)]
        cseq: u32,
        /// What it shows.
        #[cbor(n(2), with = "crate::wire::list", has_nil)]
        shown: Vec<Shown>,
    },
    /// It is over.
    #[n(2)]
    Remove {
        /// Which.
        #[n(0)]
        id: DialogId,
    },
}

/// Derived from the subscriptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SubscriptionIndex {
    /// Watchers of each address of record.
    pub(super) watchers: BTreeMap<String, BTreeSet<DialogId>>,
    /// End of each.
    pub(super) ends: BTreeSet<(WallTime, DialogId)>,
}

impl SubscriptionIndex {
    pub(super) fn add(&mut self, s: &Subscription) {
        self.watchers.entry(s.watched.clone()).or_default().insert(s.id.clone());
        self.ends.insert((s.expires_at, s.id.clone()));
    }

    pub(super) fn remove(&mut self, s: &Subscription) {
        self.ends.remove(&(s.expires_at, s.id.clone()));
        if let Some(watchers) = self.watchers.get_mut(&s.watched) {
            watchers.remove(&s.id);
            if watchers.is_empty() {
                self.watchers.remove(&s.watched);
            }
        }
    }

    /// Whether somebody watches.
    pub(super) fn is_watched(&self, aor: &str) -> bool {
        !self.watchers.is_empty() && self.watchers.contains_key(aor)
    }

    /// When the first one may be forgotten without a word.
    pub(super) fn next_end(&self) -> Option<WallTime> {
        self.ends.first().map(|(end, _)| WallTime(end.0.saturating_add(SUBSCRIPTION_GRACE_MS)))
    }
}

/// Bytes of text in a subscription.
pub(super) fn subscription_bytes(s: &Subscription) -> usize {
    let texts = [
        &s.id.call_id,
        &s.id.from_tag,
        &s.id.to_tag,
        &s.watched,
        &s.entity,
        &s.remote_uri,
        &s.local_uri,
        &s.contact,
    ];
    texts.into_iter().chain(&s.routes).chain(&s.event_id).map(String::len).sum::<usize>()
        + s.shown.len() * size_of::<Shown>()
}
