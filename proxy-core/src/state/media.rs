//! Media proxies (rtpengine): which one a call uses, and which ones the operator has put aside.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{DialogId, InviteState, PendingInvite};
use crate::time::WallTime;

/// The media proxy of a call, and what it is told about the two sides: all that a node needs that takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaSession {
    /// Where its `ng` protocol is spoken.
    pub node: SocketAddr,
    /// The set it was chosen from, and another one would be.
    pub set: u32,
    /// What SDP for the one who asked (of a dialog: the caller) has to be like, in the words of Kamailio's
    /// `rtpengine_manage`.
    pub to_caller: String,
    /// The same for the other side.
    pub to_callee: String,
}

impl MediaSession {
    /// Seen from the other side.
    #[must_use]
    pub fn turned(&self) -> Self {
        let (to_caller, to_callee) = (self.to_callee.clone(), self.to_caller.clone());
        Self { node: self.node, set: self.set, to_caller, to_callee }
    }
}

/// What is known of media proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaNodes {
    /// Those that get no new calls, since when.
    pub disabled: BTreeMap<SocketAddr, WallTime>,
    /// Those that have not answered the active node, since when: who takes over does not begin with them.
    pub dead: BTreeMap<SocketAddr, WallTime>,
}

/// A change that concerns media proxies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaCommand {
    /// The operator puts one aside, or takes it back.
    SetDisabled {
        /// Which.
        node: SocketAddr,
        /// No new calls for it.
        disabled: bool,
        /// Wall time of the proposer.
        at: WallTime,
    },
    /// The media of a dialog go through another one from now on.
    Moved {
        /// Which dialog.
        id: DialogId,
        /// Where its media are now.
        node: SocketAddr,
    },
    /// One has not answered the active node in time, or answers again.
    Health {
        /// Which.
        node: SocketAddr,
        /// It does not answer.
        dead: bool,
        /// Wall time of the proposer.
        at: WallTime,
    },
}

/// Bytes of text in what is known of the media of a call.
pub(super) fn media_bytes(session: Option<&MediaSession>) -> usize {
    session.map_or(0, |s| s.to_caller.len() + s.to_callee.len())
}

/// The media proxy that an INVITE uses while it is not decided; then its dialogs do. One within a dialog adds nothing.
pub(super) fn media_of_pending(record: &PendingInvite) -> Option<SocketAddr> {
    let undecided = matches!(record.state, InviteState::Proceeding | InviteState::Cancelled);
    let session = record.media.as_ref().filter(|_| undecided && record.facts.is_some());
    session.map(|s| s.node)
}
