//! What a copy of a request says of its caller that the request itself does not: other names in From and To, the
//! identity that the proxy asserts (RFC 3325).
//!
//! Fixed when the request is admitted and replicated with its branch, and then with the dialog: whichever node passes
//! the answer back, or a request within the dialog on, puts the same names in and takes them out again.

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

/// Of a branch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Dress {
    /// Names in From and To.
    #[n(0)]
    pub renamed: Renamed,
    /// P-Asserted-Identity.
    #[n(1)]
    pub asserted: Asserted,
    /// `Privacy: id` is added: the caller is anonymous, and only the next hop may know who it is (RFC 3325 §9.3).
    #[n(2)]
    pub private: bool,
}

/// Other names for the two sides of a dialog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Renamed {
    /// In From.
    #[cbor(n(0), with = "crate::wire::opt", has_nil)]
    pub from: Option<Swap>,
    /// In To.
    #[cbor(n(1), with = "crate::wire::opt", has_nil)]
    pub to: Option<Swap>,
}

/// A From or To value without its header parameters, on both sides of the proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Swap {
    /// As the request came.
    #[n(0)]
    pub came: String,
    /// As it goes on.
    #[n(1)]
    pub goes: String,
}

/// What a copy says in P-Asserted-Identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum Asserted {
    /// What came, if anything.
    #[default]
    #[n(0)]
    Kept,
    /// Nothing: the caller wants to be private, and the next hop is not trusted (RFC 3325 §7).
    #[n(1)]
    Removed,
    /// This value.
    #[n(2)]
    Set(#[n(0)] String),
}

impl Renamed {
    /// Whether nothing is renamed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// The names in requests of the other side of the dialog: what went to it comes back, From and To change places.
    #[must_use]
    pub fn reversed(&self) -> Self {
        let turn =
            |swap: &Option<Swap>| swap.as_ref().map(|s| Swap { came: s.goes.clone(), goes: s.came.clone() });
        Self { from: turn(&self.to), to: turn(&self.from) }
    }

    /// Bytes of text.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.from.iter().chain(&self.to).map(|s| s.came.len() + s.goes.len()).sum()
    }
}

impl Dress {
    /// Whether the copy says what the request says.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.renamed.is_empty() && self.asserted == Asserted::Kept && !self.private
    }

    /// Bytes of text.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let asserted = match &self.asserted {
            Asserted::Set(value) => value.len(),
            Asserted::Kept | Asserted::Removed => 0,
        };
        self.renamed.bytes() + asserted
    }
}
