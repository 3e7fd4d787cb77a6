//! `relevo dlg show` and `relevo dlg end`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proxy_core::state::{
    DialogId, EndedBy, InviteState, PendingInvite, ServerKey, SipCommand, SipResponse, SipState,
};
use serde_json::json;

use crate::admin::Reply;
use crate::admin::dlg::{Ask, call};
use crate::bridge::Cluster;
use crate::run::backend::{COMMIT_LIMIT, Desk};

/// How often it is looked whether this node has learnt how an INVITE has ended.
const LOOK: Duration = Duration::from_millis(5);

impl<C: Cluster> Desk<C> {
    pub(crate) fn dlg(&self, ask: &Ask) -> Reply {
        match ask {
            Ask::Show { call_id } => {
                let now = self.now().wall;
                match self.cluster.read(|s| call(s, call_id, now)) {
                    Some(ok) => Reply::Ok { ok },
                    None => nobody(call_id),
                }
            }
            Ask::End { call_id } => self.dlg_end(call_id),
        }
    }

    fn dlg_end(&self, call_id: &str) -> Reply {
        let found = || self.cluster.read(|s| Found::of(s, call_id));
        let rings = |key: &ServerKey| self.cluster.read(|s| s.pending(key).is_some_and(rings));
        match end_call(found, rings, |command| self.commit(command)) {
            Ok(Ended { dialogs: 0, ringing: 0, crossed: false }) => nobody(call_id),
            Ok(Ended { dialogs: 0, ringing: 0, crossed: true }) => Reply::error(
                format!("the call {call_id} has come to its end by itself in the same moment"),
                "nothing is left to be done; relevo dlg list shows the calls there are",
            ),
            Ok(Ended { dialogs, ringing, .. }) => {
                Reply::Ok { ok: json!({ "call_id": call_id, "ending": dialogs, "ending_ringing": ringing }) }
            }
            Err(reply) => reply,
        }
    }
}

/// What there is of a call.
#[derive(Debug, Clone, Default)]
struct Found {
    /// Its dialogs.
    dialogs: Vec<DialogId>,
    /// Its INVITEs that nobody has answered. Within a dialog there is no call that rings.
    ringing: Vec<ServerKey>,
}

impl Found {
    fn of(state: &SipState, call_id: &str) -> Self {
        let of_call = state.pending_invites().filter(|p| p.call_id == call_id && rings(p));
        Self {
            dialogs: state.dialogs_of_call(call_id).map(|d| d.id.clone()).collect(),
            ringing: of_call.map(|p| p.key.clone()).collect(),
        }
    }
}

fn rings(p: &PendingInvite) -> bool {
    matches!(p.state, InviteState::Proceeding | InviteState::Cancelled) && p.facts.is_some()
}

/// What has become of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ended {
    /// Dialogs that are being ended.
    dialogs: u64,
    /// INVITEs that are being failed.
    ringing: u64,
    /// One was answered, or has failed, before the cluster heard of its end.
    crossed: bool,
}

/// Marks all dialogs of a call, and its INVITEs that nobody has answered; the active node does the rest, whichever it is
/// then. An INVITE that was answered in between has made a dialog: as soon as this node knows of it, that is ended.
fn end_call(
    found: impl Fn() -> Found,
    rings: impl Fn(&ServerKey) -> bool,
    mut commit: impl FnMut(SipCommand) -> Result<SipResponse, Reply>,
) -> Result<Ended, Reply> {
    let by = EndedBy::Operator;
    let begun = Instant::now();
    let mut ended = Ended::default();
    let mut known: BTreeSet<DialogId> = BTreeSet::new();
    loop {
        let now = found();
        for id in now.dialogs {
            if known.insert(id.clone()) && commit(SipCommand::DialogEnding { id, by })? == SipResponse::Done {
                ended.dialogs += 1;
            }
        }
        let mut crossed = Vec::new();
        for key in now.ringing {
            if commit(SipCommand::InviteEnding { key: key.clone(), by })? == SipResponse::Done {
                ended.ringing += 1;
            } else {
                crossed.push(key);
            }
        }
        if crossed.is_empty() {
            return Ok(ended);
        }
        ended.crossed = true;
        // This node may learn it later than the one that leads.
        while crossed.iter().any(&rings) && begun.elapsed() < COMMIT_LIMIT {
            std::thread::sleep(LOOK);
        }
        if begun.elapsed() >= COMMIT_LIMIT {
            return Ok(ended);
        }
    }
}

fn nobody(call_id: &str) -> Reply {
    Reply::error(format!("there is no call {call_id}"), "see what there is: relevo dlg list")
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn key() -> ServerKey {
        ServerKey { branch: "z9hG4bK1".into(), sent_by: "192.0.2.1:5060".into() }
    }

    fn dialog() -> DialogId {
        DialogId { call_id: "c1".into(), from_tag: "a".into(), to_tag: "b".into() }
    }

    /// What is asked of a cluster where the INVITE has ended before the command came; this node learns it after two looks.
    fn crossing(dialogs: &[DialogId]) -> (Ended, Vec<SipCommand>) {
        let looks = Cell::new(0);
        let asked = RefCell::new(Vec::new());
        let found = || match looks.get() {
            0 => Found { ringing: vec![key()], ..Found::default() },
            _ => Found { dialogs: dialogs.to_vec(), ..Found::default() },
        };
        let rings = |_: &ServerKey| {
            looks.set(looks.get() + 1);
            looks.get() < 3
        };
        let ended = end_call(found, rings, |command| {
            let answer = match command {
                SipCommand::InviteEnding { .. } => SipResponse::Superseded,
                _ => SipResponse::Done,
            };
            asked.borrow_mut().push(command);
            Ok(answer)
        });
        (ended.unwrap_or_else(|reply| panic!("{reply:?}")), asked.into_inner())
    }

    #[test]
    fn a_call_that_is_answered_in_the_moment_of_its_end_is_ended_all_the_same() {
        let by = EndedBy::Operator;
        let (ended, asked) = crossing(&[dialog()]);
        assert_eq!(ended, Ended { dialogs: 1, ringing: 0, crossed: true });
        let invite = SipCommand::InviteEnding { key: key(), by };
        assert_eq!(asked, [invite, SipCommand::DialogEnding { id: dialog(), by }]);
    }

    #[test]
    fn a_call_that_fails_in_the_moment_of_its_end_is_not_taken_for_one_that_never_was() {
        let (ended, asked) = crossing(&[]);
        assert_eq!((ended, asked.len()), (Ended { dialogs: 0, ringing: 0, crossed: true }, 1));
    }

    #[test]
    fn a_dialog_is_marked_once_however_often_it_is_looked() {
        let first = Cell::new(true);
        let found = || Found {
            dialogs: vec![dialog()],
            ringing: if first.take() { vec![key()] } else { Vec::new() },
        };
        let mut asked = 0;
        let ended = end_call(
            found,
            |_| false,
            |command| {
                asked += 1;
                let rings = matches!(command, SipCommand::InviteEnding { .. });
                Ok(if rings { SipResponse::NotFound } else { SipResponse::Done })
            },
        );
        assert_eq!(ended.ok(), Some(Ended { dialogs: 1, ringing: 0, crossed: true }));
        assert_eq!(asked, 2);
    }
}
