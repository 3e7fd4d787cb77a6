//! What waits for the verdict on a proposal.

/// What is to be done when the verdict comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaiting {
    /// The response to a REGISTER.
    Register { exchange: u64 },
    /// The 100 to an INVITE, and its copies.
    Invite { call: u64 },
    /// The 200 to a CANCEL, and the CANCELs of the branches.
    Cancel { call: u64, exchange: u64 },
    /// A 2xx for the caller.
    Answer { call: u64, branch: usize, answer: u64 },
    /// The ACK of a branch that failed.
    BranchFinal { call: u64, branch: usize },
    /// The failure for the caller.
    Failed { call: u64 },
    /// A branch that goes on at another address.
    Moved { call: u64, branch: usize },
    /// The next round of branches.
    Step { call: u64 },
    /// The 2xx of a BYE.
    Bye { exchange: u64 },
    /// A request within a dialog, once more, with credentials.
    Credentials { exchange: u64, branch: usize },
    /// The REGISTER of a trunk with its new CSeq.
    Trunk { attempt: u64 },
    /// The answer to a SUBSCRIBE.
    Subscribe { exchange: u64 },
    /// A NOTIFY with its number.
    Notify { attempt: u64 },
    /// The last NOTIFY of a subscription.
    SubscriptionEnd { attempt: u64 },
    /// The 202 to a MESSAGE that is kept.
    Keep { exchange: u64 },
    /// What came of the delivery of a message.
    Delivered { attempt: u64 },
    /// The first ACK of a dialog.
    Ack { ack: u64 },
    /// The record of a refused call.
    Refused,
    /// The next `Expire`: one at a time.
    Expire,
    /// Nothing: it was worth remembering, and if it was not remembered, calls go on all the same.
    Nothing,
}
