//! Media proxies (rtpengine): which one a call uses, and which ones the operator has put aside.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::{DialogId, InviteState, PendingInvite, ServerKey};
use crate::time::WallTime;

/// The media proxy of a call, and what it is told about the two sides: all that a node needs that takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct MediaSession {
    /// Where its `ng` protocol is spoken.
    #[cbor(n(0), with = "crate::wire::addr")]
    pub node: SocketAddr,
    /// The set it was chosen from, and another one would be.
    #[n(1)]
    pub set: u32,
    /// What SDP for the one who asked (of a dialog: the caller) has to be like, in the words of Kamailio's
    /// `rtpengine_manage`.
    #[n(2)]
    pub to_caller: String,
    /// The same for the other side.
    #[n(3)]
    pub to_callee: String,
    /// What the phones have agreed on last; of an INVITE that has brought an offer: that, without an answer. `None` if
    /// that is not known, or larger than [`MAX_AGREED_BYTES`](super::limits::MAX_AGREED_BYTES).
    #[cbor(n(4), with = "crate::wire::opt", has_nil)]
    pub agreed: Option<Box<Agreed>>,
}

impl MediaSession {
    /// Seen from the other side.
    #[must_use]
    pub fn turned(&self) -> Self {
        let (to_caller, to_callee) = (self.to_callee.clone(), self.to_caller.clone());
        let agreed = self.agreed.as_deref().map(|agreed| Box::new(agreed.turned()));
        Self { node: self.node, set: self.set, to_caller, to_callee, agreed }
    }
}

/// SDP as a phone has said it, before any media proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Spoken {
    /// The SDP.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub sdp: Vec<u8>,
    /// Where it came from, if the address in it could not be reached.
    #[cbor(n(1), with = "crate::wire::opt_ip", has_nil)]
    pub source: Option<IpAddr>,
}

/// An offer and its answer (RFC 3264). A media proxy is told them again when a later offer is refused: the phones then
/// go on with these (RFC 3261 §14.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Agreed {
    /// The one who asked (of a dialog: the caller) has made the offer.
    #[n(0)]
    pub by_caller: bool,
    /// The offer.
    #[n(1)]
    pub offer: Spoken,
    /// The answer, once it is known.
    #[cbor(n(2), with = "crate::wire::opt", has_nil)]
    pub answer: Option<Spoken>,
}

impl Agreed {
    /// Seen from the other side.
    #[must_use]
    pub fn turned(&self) -> Self {
        Self { by_caller: !self.by_caller, ..self.clone() }
    }

    /// Bytes of SDP.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.offer.sdp.len() + self.answer.as_ref().map_or(0, |answer| answer.sdp.len())
    }
}

/// What has been said of media with one callee before the 2xx (RFC 3262 §5, RFC 3311).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct EarlyMedia {
    /// The callee, by the To tag of its responses.
    #[n(0)]
    pub to_tag: String,
    /// The RSeq of the response whose offer a PRACK has answered: SDP of a later PRACK is an offer.
    #[n(1)]
    pub settled_by: Option<u32>,
    /// What the two have agreed on, if it is not what INVITE and response say. Seen from the caller.
    #[cbor(n(2), with = "crate::wire::opt", has_nil)]
    pub agreed: Option<Box<Agreed>>,
}

/// What is known of media proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct MediaNodes {
    /// Those that get no new calls, since when.
    #[cbor(n(0), with = "crate::wire::addr_table", has_nil)]
    pub disabled: BTreeMap<SocketAddr, WallTime>,
    /// Those that have not answered the active node, since when: who takes over does not begin with them.
    #[cbor(n(1), with = "crate::wire::addr_table", has_nil)]
    pub dead: BTreeMap<SocketAddr, WallTime>,
}

/// A change that concerns media proxies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum MediaCommand {
    /// The operator puts one aside, or takes it back.
    #[n(0)]
    SetDisabled {
        /// Which.
        #[cbor(n(0), with = "crate::wire::addr")]
        node: SocketAddr,
        /// No new calls for it.
        #[n(1)]
        disabled: bool,
        /// Wall time of the proposer.
        #[n(2)]
        at: WallTime,
    },
    /// The two of a dialog have agreed on other media, perhaps through another one.
    #[n(1)]
    Agreed {
        /// Which dialog.
        #[n(0)]
        id: DialogId,
        /// Where its media are now.
        #[cbor(n(1), with = "crate::wire::addr")]
        node: SocketAddr,
        /// On what, as [`MediaSession::agreed`].
        #[cbor(n(2), with = "crate::wire::opt", has_nil)]
        agreed: Option<Box<Agreed>>,
    },
    /// One has not answered the active node in time, or answers again.
    #[n(2)]
    Health {
        /// Which.
        #[cbor(n(0), with = "crate::wire::addr")]
        node: SocketAddr,
        /// It does not answer.
        #[n(1)]
        dead: bool,
        /// Wall time of the proposer.
        #[n(2)]
        at: WallTime,
    },
    /// The two have settled or changed media before the 2xx.
    #[n(3)]
    Early {
        /// Of which INVITE.
        #[n(0)]
        key: ServerKey,
        /// Where its media are now.
        #[cbor(n(1), with = "crate::wire::addr")]
        node: SocketAddr,
        /// With whom, and how.
        #[n(2)]
        early: EarlyMedia,
    },
}

/// Bytes of text in what is known of the media of a call.
pub(super) fn media_bytes(session: Option<&MediaSession>) -> usize {
    session.map_or(0, |s| s.to_caller.len() + s.to_callee.len() + agreed_bytes(s.agreed.as_deref()))
}

fn agreed_bytes(agreed: Option<&Agreed>) -> usize {
    agreed.map_or(0, Agreed::bytes)
}

/// Bytes of text in what was said before the 2xx.
pub(super) fn early_bytes(list: &[EarlyMedia]) -> usize {
    list.iter().map(|early| early.to_tag.len() + agreed_bytes(early.agreed.as_deref())).sum()
}

/// The media proxy that an INVITE uses while it is not decided; then its dialogs do. One within a dialog adds nothing.
pub(super) fn media_of_pending(record: &PendingInvite) -> Option<SocketAddr> {
    let undecided = matches!(record.state, InviteState::Proceeding | InviteState::Cancelled);
    let session = record.media.as_ref().filter(|_| undecided && record.facts.is_some());
    session.map(|s| s.node)
}
