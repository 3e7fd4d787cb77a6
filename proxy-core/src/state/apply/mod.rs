//! The one function that changes the replicated SIP state.
//!
//! | command | nothing there | there | too late |
//! |---|---|---|---|
//! | Register | `Registered` | `Registered`, `RegisterRefused` | |
//! | Unregister | `NotFound` | `Done` | |
//! | InviteReceived | `Done`, `Full`, `LimitReached` | `Duplicate` | |
//! | BranchProgress | `NotFound` | `Done` | branch further on already: `Superseded` |
//! | BranchesAdded | `NotFound` | `Done`, `Full` | not Proceeding, or a later or another round: `Superseded` |
//! | InviteCancelled | `NotFound` | `Done` | answered, failed: `Superseded` |
//! | InviteAnswered | `NotFound` | `Done` | answered by another 2xx: dialog kept, `Superseded`; failed: `Superseded` |
//! | InviteFailed | `NotFound` | `Done` | answered, failed otherwise: `Superseded` |
//! | InviteDone | `NotFound` | `Done` | |
//! | DialogUpdated | `NotFound` | `Done`, `Full` | |
//! | DialogEnded | `NotFound` | `Done` | |
//! | Expire | `Expired` | `Expired` | |
//! | Dispatcher | `NotFound`; `Put`: `Done`, `Full` | `Done`, `Full` | |
//! | Trunk | `NotFound`; `Put`: `Done`, `Full` | `Done`, `Full` | a CSeq that is not the newest: `Superseded` |
//! | LegShifted | `NotFound` | `Done` | not more than before: `Superseded` |
//! | Provision | see the `provision` module | | |
//! | BranchMoved | `NotFound` | `Done` | not Proceeding, branch final or elsewhere: `Superseded` |
//! | Accounting | `NotFound`; `Open`, `Close`, `Refused`: `Done`, `Full` | `Done` | written already, recorded already: `Superseded` |
//! | DialogEnding | `NotFound` | `Done` | |
//! | Subscription, Message | see [`crate::state::subscriptions`], [`crate::state::message_store`] | | |
//! | DialogAcked | `NotFound` | `Done` | its end is due: `Superseded` |
//! | InviteEnding | `NotFound` | `Done` | answered, failed: `Superseded` |
//! | Media | `SetDisabled`, `Health`: `Done`, `Full`; `Moved`: `NotFound` | `Done` | |
//! | Counted | as its command; without one `Done` | | |
//!
//! Everything but `Done`, `Registered`, `Expired` and the second 2xx leaves the state as it was, but for the nonce
//! counts that came with it. A command that comes twice in a row changes nothing the second time: who does not know
//! whether a proposal went through may repeat it.

mod accounting;
mod dialog;
mod dispatcher;
mod expire;
mod grace;
mod invite;
mod media;
mod message_store;
mod moved;
mod nonces;
mod provision;
mod register;
mod subscriptions;
mod trunk;

use super::{SipCommand, SipResponse, SipState};

impl SipState {
    /// Applies one command and says what came of it. Total: there is an answer to every command in every state.
    /// Deterministic: nothing counts but the state and the command.
    pub fn apply(&mut self, command: &SipCommand) -> SipResponse {
        match command {
            SipCommand::Register(register) => self.register(register),
            SipCommand::Unregister { aor, contact } => self.unregister(aor, contact.as_deref()),
            SipCommand::InviteReceived(record) => self.invite_received(record),
            SipCommand::BranchProgress { key, branch, state, timer_c_at } => {
                self.branch_progress(key, *branch, state, *timer_c_at)
            }
            SipCommand::BranchesAdded { key, branches, round, steps_used, no_answer_at, timer_c_at } => {
                let times = (*no_answer_at, *timer_c_at);
                self.branches_added(key, branches, *round, *steps_used, times)
            }
            SipCommand::InviteCancelled { key } => self.invite_cancelled(key),
            SipCommand::InviteAnswered { key, branch, response, dialog, forget_at } => {
                self.invite_answered(key, *branch, response, dialog.as_deref(), *forget_at)
            }
            SipCommand::InviteFailed { key, response, to_tag, at, forget_at } => {
                self.invite_failed(key, response, to_tag, *at, *forget_at)
            }
            SipCommand::InviteDone { key } => {
                if self.remove_pending(key) {
                    SipResponse::Done
                } else {
                    SipResponse::NotFound
                }
            }
            SipCommand::DialogUpdated { .. } => self.dialog_updated(command),
            SipCommand::DialogEnded { id, ending } => self.dialog_ended(id, ending),
            SipCommand::Expire { up_to } => self.expire(*up_to),
            SipCommand::Dispatcher(command) => self.dispatcher_changed(command),
            SipCommand::Trunk(command) => self.trunk_changed(command),
            SipCommand::LegShifted { id, to_caller, shift } => self.leg_shifted(id, *to_caller, *shift),
            SipCommand::Provision(command) => self.provision_change(command),
            SipCommand::BranchMoved { key, branch, from, via_branch } => {
                self.branch_moved(key, *branch, *from, via_branch)
            }
            SipCommand::Accounting(command) => self.accounting_changed(command),
            SipCommand::DialogEnding { id, by } => self.dialog_ending(id, *by),
            SipCommand::Subscription(command) => self.subscription_changed(command),
            SipCommand::Message(command) => self.message_changed(command),
            SipCommand::Media(command) => self.media_changed(command),
            SipCommand::DialogAcked { id, at } => self.dialog_acked(id, *at),
            SipCommand::InviteEnding { key, by } => self.invite_ending(key, *by),
            SipCommand::Counted { counts, then } => self.counted(counts, then.as_deref()),
        }
    }
}
