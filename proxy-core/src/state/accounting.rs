//! Records for billing, and the outbox in which they wait until every place has written them.
//!
//! A record is made in `apply`, as a consequence of a command that is committed anyway: so there is exactly one, however
//! often the node that serves is lost. It has a number; every place (a node that keeps files) writes the records in the
//! order of their numbers, says how far it has come, and what all have written leaves the outbox.
//!
//! | kind | made by | Kamailio |
//! |---|---|---|
//! | Invite | the first 2xx of each dialog | `acc`, INVITE |
//! | Failed | the failure of an INVITE that starts a call; its refusal by the proxy (`Refused`) | `acc`, INVITE, with the code of the failure |
//! | Bye | the end of a dialog by the BYE of a side | `acc`, BYE |
//! | Missed | the end of a call, for each of our users who was called and did not get it | `missed_calls` |
//! | Cdr | the end of each dialog, and of a call without one | `acc_cdrs` |

use std::collections::BTreeMap;
use std::net::IpAddr;

use imbl::Vector;
use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::backing::Backend;
use super::parties::{CallFacts, EndedBy};
use super::pmap::PMap;
use crate::time::{RealTime, WallOffset, WallTime};

/// Names a place where records are written.
pub type PlaceId = u16;

/// What a record says.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[cbor(context_bound = "crate::wire::Room", index_only)]
pub enum RecordKind {
    /// An INVITE was answered.
    #[n(0)]
    Invite,
    /// An INVITE failed.
    #[n(1)]
    Failed,
    /// A BYE ended a dialog.
    #[n(2)]
    Bye,
    /// A user of ours was called and did not get the call.
    #[n(3)]
    Missed,
    /// A call with its times.
    #[n(4)]
    Cdr,
}

impl RecordKind {
    /// The word of it in files and lists.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Invite => "answered",
            Self::Failed => "failed",
            Self::Bye => "bye",
            Self::Missed => "missed",
            Self::Cdr => "cdr",
        }
    }

    /// The method it speaks of.
    #[must_use]
    pub fn method(self) -> &'static str {
        if self == Self::Bye { "BYE" } else { "INVITE" }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct AccountRecord {
    /// Its number; they have no gaps, unless the outbox was full.
    #[n(0)]
    pub seq: u64,
    /// Names what it speaks of: the same event has the same one, whoever makes the record.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub id: [u8; 16],
    /// What it says.
    #[n(2)]
    pub kind: RecordKind,
    /// When that was.
    #[n(3)]
    pub at: WallTime,
    /// Call-ID.
    #[n(4)]
    pub call_id: String,
    /// From tag of the INVITE.
    #[n(5)]
    pub from_tag: String,
    /// To tag of its answer; may be empty.
    #[n(6)]
    pub to_tag: String,
    /// Final status: of the INVITE, of the BYE.
    #[n(7)]
    pub code: u16,
    /// Reason phrase.
    #[n(8)]
    pub reason: String,
    /// User in From.
    #[n(9)]
    pub src_user: String,
    /// Host in From.
    #[n(10)]
    pub src_domain: String,
    /// Where the INVITE came from.
    #[cbor(n(11), with = "crate::wire::opt_ip", has_nil)]
    pub src_ip: Option<IpAddr>,
    /// User in To.
    #[n(12)]
    pub dst_ouser: String,
    /// User of the Request-URI that counted.
    #[n(13)]
    pub dst_user: String,
    /// Its host.
    #[n(14)]
    pub dst_domain: String,
    /// The trunk that the call came from.
    #[n(15)]
    pub from_trunk: Option<String>,
    /// The trunk or the destination of the dispatcher that it went to.
    #[cbor(n(16), with = "crate::wire::opt", has_nil)]
    pub to: Option<Backend>,
    /// Our user who was called (missed: who missed it).
    #[n(17)]
    pub called: Option<String>,
    /// Of a CDR.
    #[cbor(n(18), with = "crate::wire::opt", has_nil)]
    pub times: Option<CallTimes>,
    /// How the wall clock stood to the time of the cluster when the record was made: all its times are read by it, so that
    /// they agree with the durations even if the clock was set during the call.
    #[cbor(n(19), with = "crate::wire::added", has_nil)]
    pub wall_offset: WallOffset,
}

impl AccountRecord {
    /// What people read for one of its times.
    #[must_use]
    pub fn real(&self, time: WallTime) -> RealTime {
        self.wall_offset.real(time)
    }
}

/// The times of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct CallTimes {
    /// The INVITE came.
    #[n(0)]
    pub started_at: WallTime,
    /// Its 2xx came.
    #[n(1)]
    pub answered_at: Option<WallTime>,
    /// It ended.
    #[n(2)]
    pub ended_at: WallTime,
    /// Who ended it.
    #[n(3)]
    pub ended_by: EndedBy,
}

impl CallTimes {
    /// Milliseconds from the answer to the end; 0 if nobody answered.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        self.answered_at.map_or(0, |at| self.ended_at.0.saturating_sub(at.0))
    }

    /// Milliseconds until the answer, or until the end if there was none.
    #[must_use]
    pub fn setup_ms(&self) -> u64 {
        self.answered_at.unwrap_or(self.ended_at).0.saturating_sub(self.started_at.0)
    }
}

/// What places say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum AccountingCommand {
    /// The place writes records: from now on none goes before it has written it. Nothing happens if it is known.
    #[n(0)]
    Open {
        /// Which.
        #[n(0)]
        place: PlaceId,
        /// It says so itself, so that an earlier [`AccountingCommand::Close`] of its own is undone.
        #[n(1)]
        itself: bool,
    },
    /// The place writes none; nobody waits for it.
    #[n(1)]
    Close {
        /// Which.
        #[n(0)]
        place: PlaceId,
    },
    /// The place is no more.
    #[n(2)]
    Forget {
        /// Which.
        #[n(0)]
        place: PlaceId,
    },
    /// The place has written all records up to this one, and they are safe there.
    #[n(3)]
    Written {
        /// Which.
        #[n(0)]
        place: PlaceId,
        /// Number of the last one.
        #[n(1)]
        up_to: u64,
    },
    /// A call was refused, and nobody called.
    #[n(4)]
    Refused(#[n(0)] Box<RefusedCall>),
}

/// A call that the proxy has refused by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct RefusedCall {
    /// Call-ID.
    #[n(0)]
    pub call_id: String,
    /// Who calls whom.
    #[n(1)]
    pub facts: CallFacts,
    /// To tag of the answer.
    #[n(2)]
    pub to_tag: String,
    /// Status of the answer.
    #[n(3)]
    pub code: u16,
    /// Its reason phrase.
    #[n(4)]
    pub reason: String,
    /// When.
    #[n(5)]
    pub at: WallTime,
}

/// How far places have come, and how much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxFigures {
    /// Records that wait.
    pub waiting: u64,
    /// Bytes of text in them.
    pub bytes: u64,
    /// Number of the newest record ever made; 0 if there is none.
    pub newest: u64,
    /// Records that went before every place had written them, as there was no more room.
    pub lost: u64,
    /// When the oldest record that waits was made.
    pub oldest_at: Option<WallTime>,
}

/// The records that wait. Field order is the serialised form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Outbox {
    #[n(0)]
    pub(super) newest: u64,
    #[cbor(n(1), with = "crate::wire::map", has_nil)]
    pub(super) records: PMap<u64, AccountRecord>,
    /// Up to where a place has written; `None`: it writes nothing.
    #[cbor(n(2), with = "crate::wire::map", has_nil)]
    pub(super) places: BTreeMap<PlaceId, Option<u64>>,
    #[n(3)]
    pub(super) lost: u64,
    /// Names of the refused calls that were recorded last, oldest first: each may be repeated.
    #[cbor(n(4), with = "crate::wire::digests", has_nil)]
    pub(super) refused: Vector<[u8; 16]>,
}

impl Outbox {
    /// The records after number `after`, in order.
    pub fn after(&self, after: u64) -> impl DoubleEndedIterator<Item = &AccountRecord> {
        self.records.range(after.saturating_add(1)..).map(|(_, record)| record)
    }

    /// Number of the newest record ever made; 0 if there is none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Records that went before every place had written them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Known places, and up to where each has written; `None`: it writes nothing.
    pub fn places(&self) -> impl Iterator<Item = (PlaceId, Option<u64>)> {
        self.places.iter().map(|(place, up_to)| (*place, *up_to))
    }

    /// Up to where a place has written. `None` if it is not known; `Some(None)` if it writes nothing.
    #[must_use]
    pub fn place(&self, place: PlaceId) -> Option<Option<u64>> {
        self.places.get(&place).copied()
    }

    /// Up to where every place has written; `None` if nobody writes.
    pub(super) fn written_by_all(&self) -> Option<u64> {
        self.places.values().flatten().min().copied()
    }
}

/// Bytes of text in a record.
pub(super) fn record_bytes(r: &AccountRecord) -> usize {
    let texts = [
        &r.call_id,
        &r.from_tag,
        &r.to_tag,
        &r.reason,
        &r.src_user,
        &r.src_domain,
        &r.dst_ouser,
        &r.dst_user,
        &r.dst_domain,
    ];
    let names = [r.from_trunk.as_ref(), r.called.as_ref()];
    // What has no text has its size, too: there may be very many.
    std::mem::size_of::<AccountRecord>()
        + texts.into_iter().chain(names.into_iter().flatten()).map(String::len).sum::<usize>()
        + super::backing::backend_bytes(r.to.as_ref())
}
