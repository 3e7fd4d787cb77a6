//! Dialogs as a proxy sees them (RFC 3261 §12): made of an INVITE and its 2xx, changed by target refreshes.

pub mod config;
pub(crate) mod confirm;
pub(crate) mod end;
mod facts;
pub(crate) mod session;
pub(crate) mod token;

use crate::engine::settings::Settings;
use crate::msg::{Message, Uri};
use crate::state::{
    DialogBacking, DialogId, DialogRecord, EndedBy, Ending, Flow, Renamed, SipCommand, SipState,
};
use crate::time::WallTime;

/// The dialog that the 2xx `response` to `invite` makes, between the flows of its two sides. `None` if either lacks
/// what names a dialog.
pub(crate) fn made(
    settings: &Settings,
    invite: &Message<'_>,
    response: &Message<'_>,
    caller_flow: Flow,
    callee_flow: Flow,
    backing: DialogBacking,
    now: WallTime,
) -> Option<DialogRecord> {
    let from = invite.from().ok()?;
    let to = invite.to().ok()?;
    let contact = |m: &Message<'_>| {
        m.contacts().next().and_then(Result::ok).map_or_else(String::new, |c| c.uri.to_owned())
    };
    let route = |m: &Message<'_>| -> Vec<String> {
        m.record_routes().flatten().filter_map(|r| String::from_utf8(r.raw.to_vec()).ok()).collect()
    };
    let is_ours = |value: &str| {
        let uri = value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(value, |(u, _)| u);
        Uri::parse(uri).is_ok_and(|u| settings.is_own_hop(&u, caller_flow.local))
    };
    // The callee's side stands above our own values, nearest to the callee first.
    let mut callee_route: Vec<String> = route(response).into_iter().take_while(|v| !is_ours(v)).collect();
    callee_route.reverse();
    Some(DialogRecord {
        id: DialogId {
            call_id: invite.call_id()?.to_owned(),
            from_tag: from.tag().unwrap_or_default().to_owned(),
            to_tag: response.to_tag().unwrap_or_default().to_owned(),
        },
        from_uri: from.uri.to_owned(),
        to_uri: to.uri.to_owned(),
        request_uri: invite.request_uri_str().to_owned(),
        caller_target: contact(invite),
        callee_target: contact(response),
        caller_route: route(invite),
        callee_route,
        caller_cseq: invite.cseq().ok()?.number,
        callee_cseq: 0,
        invited_at: now,
        caller_flow,
        callee_flow,
        started_at: now,
        expires_at: now + settings.config.dialog_lifetime,
        backing,
        facts: None,
        session: session::timer_of(response, now),
        ending: None,
        media: None,
        ack_until: settings.config.dialog.no_ack.map(|wait| now + wait),
    })
}

/// The dialog that a message belongs to, and whether the caller's tag is the one in From.
pub(crate) fn of<'s>(state: &'s SipState, message: &Message<'_>) -> Option<(&'s DialogRecord, bool)> {
    let from_tag = message.from_tag().unwrap_or_default();
    let dialog = state.dialog_of(message.call_id()?, from_tag, message.to_tag()?)?;
    Some((dialog, dialog.id.from_tag == from_tag))
}

/// Other names in From and To of requests of one side.
pub(crate) fn names_of(dialog: &DialogRecord, from_caller: bool) -> Option<Box<Renamed>> {
    let names = dialog.backing.renamed.clone()?;
    Some(if from_caller { names } else { Box::new(names.reversed()) })
}

/// A BYE of one side ends a dialog, and was answered so.
pub(crate) fn ended_by_bye(
    dialog: &DialogRecord,
    from_caller: bool,
    status: u16,
    at: WallTime,
) -> SipCommand {
    let by = if from_caller { EndedBy::Caller } else { EndedBy::Callee };
    SipCommand::DialogEnded { id: dialog.id.clone(), ending: Ending { at, by, bye: Some(status) } }
}

/// A BYE of one side was not taken: the proxy ends the dialog.
pub(crate) fn to_be_ended(dialog: &DialogRecord, from_caller: bool) -> SipCommand {
    let by = if from_caller { EndedBy::Caller } else { EndedBy::Callee };
    SipCommand::DialogEnding { id: dialog.id.clone(), by }
}

/// What the 2xx to a re-INVITE or UPDATE changes (§12.2.1.2, §12.2.2): the targets of both sides, if they moved.
pub(crate) fn refreshed(
    state: &SipState,
    request: &Message<'_>,
    response: &Message<'_>,
    now: WallTime,
) -> Option<SipCommand> {
    let (dialog, from_caller) = of(state, request)?;
    let contact = |m: &Message<'_>| m.contacts().next().and_then(Result::ok).map(|c| c.uri.to_owned());
    let (asking, answering) = (contact(request), contact(response));
    let (caller, callee) = if from_caller { (asking, answering) } else { (answering, asking) };
    let caller_target = caller.filter(|c| *c != dialog.caller_target);
    let callee_target = callee.filter(|c| *c != dialog.callee_target);
    let timer = session::timer_of(response, now);
    let session = (timer.is_some() || dialog.session.is_some()).then_some(timer);
    if caller_target.is_none() && callee_target.is_none() && session.is_none() {
        return None;
    }
    Some(SipCommand::DialogUpdated {
        id: dialog.id.clone(),
        caller_target,
        callee_target,
        expires_at: None,
        caller_cseq: None,
        callee_cseq: None,
        session,
    })
}
