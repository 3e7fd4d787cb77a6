//! `relevo dlg show` and `relevo dlg end`.

use proxy_core::state::{EndedBy, InviteState, PendingInvite, SipCommand, SipResponse};
use serde_json::json;

use crate::admin::Reply;
use crate::admin::dlg::{Ask, call};
use crate::bridge::Cluster;
use crate::run::backend::Desk;

impl<C: Cluster> Desk<C> {
    pub(crate) fn dlg(&self, ask: &Ask) -> Reply {
        match ask {
            Ask::Show { call_id } => {
                let now = (self.clock)().wall;
                match self.cluster.read(|s| call(s, call_id, now)) {
                    Some(ok) => Reply::Ok { ok },
                    None => nobody(call_id),
                }
            }
            Ask::End { call_id } => self.dlg_end(call_id),
        }
    }

    /// Marks all dialogs of a call, or its INVITEs if nobody has answered; the active node does the rest, whichever it is
    /// then.
    fn dlg_end(&self, call_id: &str) -> Reply {
        let by = EndedBy::Operator;
        let (dialogs, ringing): (Vec<SipCommand>, Vec<SipCommand>) = self.cluster.read(|s| {
            let dialogs = s.dialogs_of_call(call_id);
            // Within a dialog there is no call that rings.
            let rings = |p: &&PendingInvite| {
                let undecided = matches!(p.state, InviteState::Proceeding | InviteState::Cancelled);
                p.call_id == call_id && undecided && p.facts.is_some()
            };
            (
                dialogs.map(|d| SipCommand::DialogEnding { id: d.id.clone(), by }).collect(),
                s.pending_invites()
                    .filter(rings)
                    .map(|p| SipCommand::InviteEnding { key: p.key.clone(), by })
                    .collect(),
            )
        });
        let (ended, failed) = match (self.mark(dialogs), self.mark(ringing)) {
            (Ok(ended), Ok(failed)) => (ended, failed),
            (Err(reply), _) | (_, Err(reply)) => return reply,
        };
        if ended + failed == 0 {
            nobody(call_id)
        } else {
            Reply::Ok { ok: json!({ "call_id": call_id, "ending": ended, "ending_ringing": failed }) }
        }
    }

    /// How many of them there were still.
    fn mark(&self, commands: Vec<SipCommand>) -> Result<u64, Reply> {
        let mut marked = 0;
        for command in commands {
            if self.commit(command)? == SipResponse::Done {
                marked += 1;
            }
        }
        Ok(marked)
    }
}

fn nobody(call_id: &str) -> Reply {
    Reply::error(format!("there is no call {call_id}"), "see what there is: relevo dlg list")
}
