//! What a request of our own is for.

use crate::state::{DialogId, ServerKey};

/// One variant per feature, with what the feature needs to know again when the outcome comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// OPTIONS to a destination of the dispatcher.
    Probe {
        /// Set that it is in.
        set: u32,
        /// Its URI.
        destination: String,
    },
    /// REGISTER at the registrar of a trunk.
    TrunkRegister {
        /// Which attempt, as the engine numbers them.
        attempt: u64,
    },
    /// OPTIONS to a trunk.
    TrunkProbe {
        /// Its name.
        uuid: String,
    },
    /// OPTIONS that keeps a NAT binding open.
    NatPing {
        /// Address of record.
        aor: String,
        /// Key of the contact.
        contact_key: String,
    },
    /// BYE to one side of a dialog.
    DialogBye {
        /// Which dialog.
        id: DialogId,
        /// Whether to the caller's side.
        to_caller: bool,
    },
    /// NOTIFY of a subscription.
    Notify {
        /// Its number; none for the last one of a subscription, of which nothing follows.
        attempt: Option<u64>,
    },
    /// BYE to a callee whose 2xx nobody waits for any more.
    LateBye {
        /// Transaction of the caller.
        key: ServerKey,
        /// Index of the branch.
        branch: usize,
        /// Tag of the 2xx.
        to_tag: String,
    },
    /// A MESSAGE that was kept for its receiver.
    StoredMessage {
        /// Number of the try.
        attempt: u64,
    },
}

impl Purpose {
    /// Label that keeps the branches of different features apart.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Probe { .. } => "probe",
            Self::TrunkRegister { .. } => "trunk",
            Self::TrunkProbe { .. } => "trunk-probe",
            Self::NatPing { .. } => "natping",
            Self::DialogBye { to_caller: true, .. } => "bye-caller",
            Self::DialogBye { to_caller: false, .. } => "bye-callee",
            Self::Notify { .. } => "notify",
            Self::LateBye { .. } => "late-bye",
            Self::StoredMessage { .. } => "message",
        }
    }
}
