//! The replicated SIP state: location bindings, pending INVITEs, dialogs, and the one function that changes
//! them. Deterministic and total: equal commands in equal order give equal states on every node.

mod command;
mod types;

pub use command::{RegisterChange, RegisterCommand, RegisterRefusal, SipCommand, SipResponse};
pub use types::{
    Binding, Branch, BranchState, CallId, Contact, DialogId, DialogRecord, Flow, InviteState, PendingInvite,
    ServerKey, Transport,
};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The replicated SIP state. Only [`SipState::apply`] changes it; engines read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipState {
    bindings: BTreeMap<String, Vec<Binding>>,
    pending: BTreeMap<ServerKey, PendingInvite>,
    dialogs: BTreeMap<DialogId, DialogRecord>,
}

/// How many records there are, for `relevo status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Contacts, over all AORs.
    pub bindings: u64,
    /// Dialogs.
    pub dialogs: u64,
    /// INVITEs without an end.
    pub pending_invites: u64,
}

impl SipState {
    /// The contacts of an AOR, highest q first, then newest first; may hold expired ones (compare with `now`).
    #[must_use]
    pub fn bindings(&self, aor: &str) -> &[Binding] {
        self.bindings.get(aor).map_or(&[], Vec::as_slice)
    }

    /// All AORs in order.
    pub fn aors(&self) -> impl Iterator<Item = (&str, &[Binding])> {
        self.bindings.iter().map(|(a, b)| (a.as_str(), b.as_slice()))
    }

    /// A pending INVITE.
    #[must_use]
    pub fn pending(&self, key: &ServerKey) -> Option<&PendingInvite> {
        self.pending.get(key)
    }

    /// All pending INVITEs in order.
    pub fn pending_invites(&self) -> impl Iterator<Item = &PendingInvite> {
        self.pending.values()
    }

    /// A dialog.
    #[must_use]
    pub fn dialog(&self, id: &DialogId) -> Option<&DialogRecord> {
        self.dialogs.get(id)
    }

    /// All dialogs in order.
    pub fn dialogs(&self) -> impl Iterator<Item = &DialogRecord> {
        self.dialogs.values()
    }

    /// How many records there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            bindings: self.bindings.values().map(|b| b.len() as u64).sum(),
            dialogs: self.dialogs.len() as u64,
            pending_invites: self.pending.len() as u64,
        }
    }
}
