//! `relevo dlg show` and `relevo dlg end`.

use proxy_core::state::{DialogId, EndedBy, SipCommand, SipResponse};
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

    /// Marks all dialogs of a call; the active node sends the BYEs, whichever it is then.
    fn dlg_end(&self, call_id: &str) -> Reply {
        let (ids, rings) = self.cluster.read(|s| {
            let ids: Vec<DialogId> = s.dialogs_of_call(call_id).map(|d| d.id.clone()).collect();
            (ids, s.pending_invites().any(|p| p.call_id == call_id))
        });
        if ids.is_empty() {
            return if rings {
                Reply::error(
                    format!("call {call_id} is not answered yet"),
                    "wait until it is answered, or for its end: relevo dlg list",
                )
            } else {
                nobody(call_id)
            };
        }
        let mut marked = 0;
        for id in ids {
            match self.commit(SipCommand::DialogEnding { id, by: EndedBy::Operator }) {
                Ok(SipResponse::NotFound) => {}
                Ok(_) => marked += 1,
                Err(reply) => return reply,
            }
        }
        if marked == 0 {
            nobody(call_id)
        } else {
            Reply::Ok { ok: json!({ "call_id": call_id, "ending": marked }) }
        }
    }
}

fn nobody(call_id: &str) -> Reply {
    Reply::error(format!("there is no call {call_id}"), "see what there is: relevo dlg list")
}
