//! What stands behind a copy of an INVITE and behind a dialog: a destination of the dispatcher, or a trunk.

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::dress::{Dress, Renamed};

/// Who was chosen for a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum Backend {
    /// A destination of the dispatcher.
    #[n(0)]
    Destination {
        /// Its set.
        #[n(0)]
        set: u32,
        /// Its URI.
        #[n(1)]
        uri: String,
    },
    /// A trunk.
    #[n(1)]
    Trunk {
        /// Its `l_uuid`.
        #[n(0)]
        uuid: String,
    },
}

/// Of a branch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Backing {
    /// Who was chosen.
    #[cbor(n(0), with = "crate::wire::opt", has_nil)]
    pub backend: Option<Backend>,
    /// Milliseconds without any response after which the branch counts as failed with 408: a backend answers at once
    /// or not at all. `None`: 64*T1, as for a phone.
    #[n(1)]
    pub patience_ms: Option<u32>,
    /// By how much the CSeq of the copy is higher than that of the request as received: one for each time that it was
    /// sent again with credentials.
    #[n(2)]
    pub cseq_shift: u32,
    /// The trunk that the call came from.
    #[n(3)]
    pub from_trunk: Option<String>,
    /// Address of record of our user whose phone this is.
    #[n(4)]
    pub called: Option<String>,
    /// What the copy says that the request does not.
    #[cbor(n(5), with = "crate::wire::opt", has_nil)]
    pub dress: Option<Box<Dress>>,
    /// Calls that its trunk or its destination may have at a time, where they are counted.
    #[n(6)]
    pub most_calls: Option<u32>,
}

impl Backing {
    /// Other names in From and To.
    #[must_use]
    pub fn renamed(&self) -> Option<&Renamed> {
        self.dress.as_ref().map(|d| &d.renamed)
    }

    /// What a dialog inherits from the branch that answered.
    #[must_use]
    pub fn of_dialog(&self) -> DialogBacking {
        let trunk = match &self.backend {
            Some(Backend::Trunk { uuid }) => Some(uuid.clone()),
            _ => None,
        };
        DialogBacking {
            backend: self.backend.clone(),
            called: self.called.clone(),
            towards_caller: Leg { trunk: self.from_trunk.clone(), cseq_shift: 0 },
            towards_callee: Leg { trunk, cseq_shift: self.cseq_shift },
            renamed: self.renamed().filter(|r| !r.is_empty()).cloned().map(Box::new),
        }
    }
}

/// Of a dialog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct DialogBacking {
    /// Who serves the call: what its load counts for.
    #[cbor(n(0), with = "crate::wire::opt", has_nil)]
    pub backend: Option<Backend>,
    /// Address of record of our user who answered.
    #[n(1)]
    pub called: Option<String>,
    /// Requests that go to the caller.
    #[n(2)]
    pub towards_caller: Leg,
    /// Requests that go to the callee.
    #[n(3)]
    pub towards_callee: Leg,
    /// Other names in From and To of requests of the caller.
    #[cbor(n(4), with = "crate::wire::opt", has_nil)]
    pub renamed: Option<Box<Renamed>>,
}

/// One side of a dialog, as far as it is a trunk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Leg {
    /// The trunk whose credentials it may ask for.
    #[n(0)]
    pub trunk: Option<String>,
    /// By how much the CSeq of requests to this side is higher than the other side wrote it.
    #[n(1)]
    pub cseq_shift: u32,
}

/// Bytes of text in what was chosen.
pub(super) fn backend_bytes(backend: Option<&Backend>) -> usize {
    match backend {
        Some(Backend::Destination { uri, .. }) => uri.len(),
        Some(Backend::Trunk { uuid }) => uuid.len(),
        None => 0,
    }
}
