//! What a copy of a request says of its caller that the request itself does not: other names in From and To, the
//! identity that the proxy asserts (RFC 3325).
//!
//! Fixed when the request is admitted and replicated with its branch, and then with the dialog: whichever node passes
//! the answer back, or a request within the dialog on, puts the same names in and takes them out again.

use serde::{Deserialize, Serialize};

/// Of a branch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dress {
    /// Names in From and To.
    pub renamed: Renamed,
    /// P-Asserted-Identity.
    pub asserted: Asserted,
    /// `Privacy: id` is added: the caller is anonymous, and only the next hop may know who it is (RFC 3325 §9.3).
    pub private: bool,
}

/// Other names for the two sides of a dialog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    /// In From.
    pub from: Option<Swap>,
    /// In To.
    pub to: Option<Swap>,
}

/// A From or To value without its header parameters, on both sides of the proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// As the request came.
    pub came: String,
    /// As it goes on.
    pub goes: String,
}

/// What a copy says in P-Asserted-Identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asserted {
    /// What came, if anything.
    #[default]
    Kept,
    /// Nothing: the caller wants to be private, and the next hop is not trusted (RFC 3325 §7).
    Removed,
    /// This value.
    Set(String),
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
