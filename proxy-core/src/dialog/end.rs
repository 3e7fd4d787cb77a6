//! Ends dialogs: BYE to both sides, by the active node.
//!
//! | dialog | then |
//! |---|---|
//! | somebody has asked for its end (`dlg end`) | BYE to both sides |
//! | one side has hung up, and the other did not take its BYE | BYE to both sides |
//! | its longest duration is reached, or its session has expired (RFC 4028 §10) | BYE to both sides |
//! | nobody has acknowledged its 2xx (RFC 3261 §13.3.1.4) | BYE to both sides |
//! | both BYEs are over, whatever came of them | its end is proposed, until it is gone |
//! | the node is lost in between | the next one sends the same BYEs: for a phone that is a retransmission |
//!
//! The BYE to a side looks as if the other side had sent it (RFC 3261 §12.2.1.1). Its CSeq has to be above all that the
//! other side has used, and not every request within a dialog is worth a commit. So the BYE takes a number far above the
//! one that is remembered, and numbers are remembered when they have come half that far.

use std::collections::BTreeMap;

use crate::engine::limits::MAX_ENDS_PER_TICK;
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::{Method, Uri};
use crate::proxy::build::shifted;
use crate::route::passage::Passage;
use crate::state::{DialogId, DialogRecord, EndedBy, Ending, SipCommand};
use crate::time::WallTime;
use crate::uac::{Originated, OwnRequest, Purpose};

/// By how much the CSeq of a BYE of ours is above the newest that is remembered.
const CSEQ_JUMP: u32 = 1 << 16;

/// Ends under way: dialogs with the BYEs that have no answer yet, and when the first was sent.
#[derive(Debug, Default)]
pub(crate) struct Ends(BTreeMap<DialogId, UnderWay>);

#[derive(Debug)]
struct UnderWay {
    at: WallTime,
    by: EndedBy,
    /// To the caller, to the callee.
    open: [bool; 2],
}

impl Engine {
    /// Begins what is due and tells what is over.
    pub(crate) fn dialog_tick(&mut self, cx: Cx<'_>) {
        self.end_marked_calls(cx);
        self.ends.0.retain(|id, _| cx.state.dialog(id).is_some());
        let over: Vec<SipCommand> = self
            .ends
            .0
            .iter()
            .filter(|(_, end)| end.open == [false; 2])
            .map(|(id, end)| SipCommand::DialogEnded {
                id: id.clone(),
                ending: Ending { at: end.at, by: end.by, bye: None },
            })
            .collect();
        for command in over {
            // Said again until the dialog is gone.
            self.propose(command, Awaiting::Nothing);
        }
        let due: Vec<(&DialogRecord, EndedBy)> = cx
            .state
            .dialogs_ending()
            .chain(cx.state.dialogs_due(cx.now.wall))
            .filter(|d| self.is_own_shard(&d.id.call_id) && !self.ends.0.contains_key(&d.id))
            .filter(|d| !self.is_left_out(|| name_of(&d.id)))
            .map(|d| (d, reason_of(d, cx.now.wall)))
            .take(MAX_ENDS_PER_TICK)
            .collect();
        for (dialog, by) in due {
            self.contain_each(|| name_of(&dialog.id), |engine| engine.end_dialog(cx, dialog, by));
        }
    }

    fn end_dialog(&mut self, cx: Cx<'_>, dialog: &DialogRecord, by: EndedBy) {
        if self.ends.0.contains_key(&dialog.id) {
            return;
        }
        self.drill("dialog", &dialog.id.call_id);
        let mut open = [false; 2];
        for (side, to_caller) in open.iter_mut().zip([true, false]) {
            let purpose = Purpose::DialogBye { id: dialog.id.clone(), to_caller };
            let flow = if to_caller { dialog.caller_flow } else { dialog.callee_flow };
            let request = bye(dialog, to_caller);
            *side = self.originate(cx, Originated { flow, request, purpose, patience: None });
        }
        if open != [false; 2] {
            self.end_media(cx, dialog);
            self.ends.0.insert(dialog.id.clone(), UnderWay { at: cx.now.wall, by, open });
        }
    }

    /// A BYE of ours is over. A side that does not answer, or knows of no dialog, is not in one.
    pub(crate) fn on_bye_over(&mut self, id: &DialogId, to_caller: bool) {
        let Some(end) = self.ends.0.get_mut(id) else { return };
        if let Some(open) = end.open.get_mut(usize::from(!to_caller)) {
            *open = false;
        }
        if end.open == [false; 2] {
            let ending = Ending { at: end.at, by: end.by, bye: None };
            self.propose(SipCommand::DialogEnded { id: id.clone(), ending }, Awaiting::Nothing);
        }
    }

    /// A request within a dialog passes: its CSeq is remembered when it has come far from the one that is.
    pub(crate) fn remember_cseq(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) {
        if matches!(passage.method, Method::Ack | Method::Bye | Method::Cancel) {
            return;
        }
        let Some((dialog, from_caller)) = crate::dialog::of(cx.state, passage.message) else { return };
        let Ok(cseq) = passage.message.cseq() else { return };
        let known = if from_caller { dialog.caller_cseq } else { dialog.callee_cseq };
        let is_news = known == 0 || cseq.number > known.saturating_add(CSEQ_JUMP / 2);
        if !is_news || cseq.number <= known {
            return;
        }
        let number = Some(cseq.number);
        let (caller_cseq, callee_cseq) = if from_caller { (number, None) } else { (None, number) };
        let command = SipCommand::DialogUpdated {
            id: dialog.id.clone(),
            caller_target: None,
            callee_target: None,
            expires_at: None,
            caller_cseq,
            callee_cseq,
            session: None,
        };
        self.propose(command, Awaiting::Nothing);
    }
}

/// How a dialog is called.
fn name_of(id: &DialogId) -> String {
    format!(
        "the end of the dialog with Call-ID {} (From tag {}, To tag {})",
        id.call_id, id.from_tag, id.to_tag
    )
}

/// Why a dialog that is due has to end.
fn reason_of(dialog: &DialogRecord, now: WallTime) -> EndedBy {
    // What was due first.
    let ends = [
        (Some(dialog.expires_at), EndedBy::Timeout),
        (dialog.session.map(|s| s.expires_at), EndedBy::SessionTimer),
        (dialog.ack_until, EndedBy::NoAck),
    ];
    let due = ends.into_iter().filter_map(|(at, by)| Some((at.filter(|at| *at <= now)?, by)));
    dialog.ending.or_else(|| due.min().map(|(_, by)| by)).unwrap_or(EndedBy::Timeout)
}

/// The BYE to the callee's side of a dialog that the caller knows nothing of, and the ACK of its 2xx.
pub(crate) fn bye_and_ack(dialog: &DialogRecord) -> (OwnRequest, OwnRequest) {
    let bye = bye(dialog, false);
    let cseq = shifted(dialog.caller_cseq, dialog.backing.towards_callee.cseq_shift);
    let ack = OwnRequest { method: "ACK", cseq, ..bye.clone() };
    (bye, ack)
}

/// The BYE to one side.
fn bye(dialog: &DialogRecord, to_caller: bool) -> OwnRequest {
    let id = &dialog.id;
    let caller = (&dialog.from_uri, &id.from_tag);
    let callee = (&dialog.to_uri, &id.to_tag);
    let ((from, from_tag), (to, to_tag)) = if to_caller { (callee, caller) } else { (caller, callee) };
    let (target, route, cseq, leg) = if to_caller {
        (&dialog.caller_target, &dialog.caller_route, dialog.callee_cseq, &dialog.backing.towards_caller)
    } else {
        (&dialog.callee_target, &dialog.callee_route, dialog.caller_cseq, &dialog.backing.towards_callee)
    };
    let cseq = shifted(cseq, CSEQ_JUMP.saturating_add(leg.cseq_shift));
    let mut request = OwnRequest::new("BYE", target, from, from_tag, to).numbered(&id.call_id, cseq);
    let renamed = dialog.backing.renamed.as_deref().filter(|_| !to_caller);
    if let Some(from) = renamed.and_then(|r| r.from.as_ref()) {
        request.from = format!("{};tag={from_tag}", from.goes);
    }
    let to = renamed.and_then(|r| r.to.as_ref()).map_or_else(|| format!("<{to}>"), |to| to.goes.clone());
    request.to = if to_tag.is_empty() { to } else { format!("{to};tag={to_tag}") };
    request.routes.clone_from(route);
    if let Some(first) = route.first().map(|r| uri_in(r))
        && Uri::parse(first).is_ok_and(|u| !u.is_loose_router())
    {
        // A strict router (§12.2.1.1): it becomes the Request-URI, and the target goes to the end.
        request.uri = first.to_owned();
        request.routes.remove(0);
        request.routes.push(format!("<{target}>"));
    }
    request
}

/// The URI in a Route value.
fn uri_in(value: &str) -> &str {
    value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(value, |(uri, _)| uri)
}
