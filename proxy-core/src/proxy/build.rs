//! Messages as they are sent: copies of requests (RFC 3261 §16.6) and responses passed back (§16.7).
//!
//! A copy is a function of the request as received, of the branch's record and of the configuration, so that a node
//! that takes over sends the same bytes.

use std::net::SocketAddr;

use super::carried;
use super::rename::Names;
use crate::dialog::token;
use crate::engine::settings::Settings;
use crate::msg::{DEFAULT_MAX_FORWARDS, Forward, HeaderName, MAX_CSEQ, Message, Method, Response, ViaStamp};
use crate::route::breadth::MAX_BREADTH;
use crate::route::withindlg::Approach;
use crate::routing::Stage;
use crate::state::{Asserted, Branch, Dress, Flow, Renamed, Transport};
use crate::trunk::{ASSERTED, PREFERRED, PRIVACY};

/// Bytes that Via and Record-Route may add to a request.
pub(crate) const GROWTH: usize = 512;

/// The request with `received` and `rport` on its top Via. Answers always go back where the request came from, as
/// with Kamailio's `force_rport`.
pub(crate) fn stamped(request: &Message<'_>, source: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.raw().len() + 64);
    Forward::new(request).stamp_via(ViaStamp::forced(source)).write(&mut out);
    out
}

/// The copy of `request` (stamped) for one branch. `flow` is where it came in.
pub(crate) fn copy(settings: &Settings, request: &Message<'_>, flow: Flow, branch: &Branch) -> Vec<u8> {
    let approach = Approach::of(settings, request, flow.local);
    let transport = branch.flow.transport.via_name();
    let via = format!("SIP/2.0/{transport} {};branch={}", branch.flow.local, branch.via_branch);
    let is_routed = settings.config.routing.has(Stage::Withindlg) && is_record_routed(request, &approach);
    let mut carried = match is_routed && request.method() != Some(Method::Invite) {
        true => carried::parameter(settings, request, branch.backing.renamed()),
        false => String::new(),
    };
    if is_routed {
        carried.push_str(&token::parameter(settings, request));
    }
    let outer = record_route_value(branch.flow, &carried);
    let inner = record_route_value(flow, &carried);
    let names = Names::out(request, branch.backing.renamed());
    let mut forward = Forward::new(request);
    if branch.target != request.request_uri_str() {
        forward.request_uri(&branch.target);
    }
    forward.push_via(&via);
    if is_routed {
        // Each side must find an address of its own family and transport; requests within the dialog bring both back.
        forward.record_route(&outer);
        if inner != outer {
            forward.record_route(&inner);
        }
    }
    let hops = request.max_forwards().ok().flatten();
    let own = settings.config.routing.screen.max_forwards;
    // A stranger may ask for fewer hops than usual, not for more: he pays for none of them.
    let most = own.max(DEFAULT_MAX_FORWARDS);
    forward.max_forwards(hops.map_or(own, |n| n.saturating_sub(1).min(most)));
    let displaced = format!("<{}>", approach.uri);
    if approach.in_dialog {
        for _ in 0..approach.own_routes + usize::from(approach.next_is_strict) {
            forward.remove_first_route();
        }
        if approach.from_strict {
            forward.remove_last_route();
        }
        if approach.next_is_strict {
            forward.append_route(&displaced);
        }
    } else {
        forward.remove_header("Route");
    }
    for value in &branch.route {
        forward.prepend_route(value);
    }
    for (name, value) in &branch.headers {
        match name.as_str() {
            MAX_BREADTH => forward.set_header(name, value),
            _ => forward.add_header(name, value),
        };
    }
    let shift = branch.backing.cseq_shift;
    let cseq = request.cseq().ok().filter(|_| shift > 0);
    let cseq = cseq.map(|c| format!("{} {}", shifted(c.number, shift), c.method.as_str()));
    let rack = (shift > 0).then(|| shifted_rack(request, shift)).flatten();
    if let Some(value) = &cseq {
        forward.set_header("CSeq", value);
    }
    if let Some(value) = &rack {
        forward.set_header("RAck", value);
    }
    state_length(&mut forward, request, branch.flow);
    names.put(&mut forward);
    if let Some(dress) = &branch.backing.dress {
        assert_identity(&mut forward, dress);
    }
    let mut out = Vec::with_capacity(request.raw().len() + GROWTH);
    forward.write(&mut out);
    out
}

/// Says who the caller is, or does not (RFC 3325 §5).
fn assert_identity<'e>(forward: &mut Forward<'_, '_, 'e>, dress: &'e Dress) {
    match &dress.asserted {
        Asserted::Kept => {}
        Asserted::Removed => {
            forward.remove_header(PREFERRED);
            forward.remove_header(ASSERTED);
        }
        Asserted::Set(value) => {
            forward.remove_header(PREFERRED);
            forward.set_header(ASSERTED, value);
        }
    }
    if dress.private {
        forward.set_header(PRIVACY, "id");
    }
}

/// What came as a datagram may lack Content-Length; in a stream it says where the message ends (§18.3).
fn state_length<'e>(forward: &mut Forward<'_, '_, 'e>, message: &Message<'e>, flow: Flow) {
    if flow.transport.is_reliable() && !message.has(HeaderName::ContentLength) {
        forward.body(message.body());
    }
}

/// UDP is what a SIP URI means without a word (§19.1.2). `more` are further parameters.
pub(crate) fn record_route_value(flow: Flow, more: &str) -> String {
    let local = flow.local;
    match flow.transport {
        Transport::Udp => format!("<sip:{local};lr{more}>"),
        other => format!("<sip:{local};transport={};lr{more}>", other.uri_name()),
    }
}

/// The CSeq of a request that goes on with a shift. At the end of the range it stays: no dialog gets there.
pub(crate) fn shifted(number: u32, shift: u32) -> u32 {
    number.saturating_add(shift).min(MAX_CSEQ)
}

/// RAck names the CSeq of the INVITE as the other side knows it (RFC 3262 §7.2).
fn shifted_rack(request: &Message<'_>, shift: u32) -> Option<String> {
    let value = std::str::from_utf8(request.header_named("RAck")?).ok()?;
    let mut words = value.split_ascii_whitespace();
    let (response, cseq, method) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    Some(format!("{response} {} {method}", shifted(cseq, shift)))
}

/// What makes a dialog, and what may make one within another (Kamailio's choice). Also an INVITE within a dialog, as
/// §16.6 step 4 recommends: a client that takes its routes from the last answer stays on the path.
fn is_record_routed(request: &Message<'_>, approach: &Approach<'_>) -> bool {
    match request.method() {
        Some(Method::Invite | Method::Subscribe | Method::Refer) => true,
        Some(Method::Notify) => approach.in_dialog,
        _ => false,
    }
}

/// A response as it goes on to whom it is for (`to`): without our Via, and with the CSeq number and the names that the
/// request came with, as a trunk may have been sent others. `None` if there is no other Via.
pub(crate) fn passed_back(
    response: &Message<'_>,
    to: Flow,
    cseq: u32,
    renamed: Option<&Renamed>,
) -> Option<Vec<u8>> {
    response.values(HeaderName::Via).nth(1)?;
    Some(without_via(response, to, cseq, renamed))
}

/// The same, also if no Via is left. There are phones that answer the INVITE with the Via of the CANCEL: their failure
/// has to be acknowledged, and another response made for the caller.
pub(crate) fn without_via(response: &Message<'_>, to: Flow, cseq: u32, renamed: Option<&Renamed>) -> Vec<u8> {
    let mut out = Vec::with_capacity(response.raw().len() + 32);
    let other = response.cseq().ok().filter(|c| c.number != cseq);
    let original = other.map(|c| format!("{cseq} {}", c.method.as_str()));
    let names = Names::back(response, renamed);
    let others = token::routes_without_dialog(response);
    let mut forward = Forward::new(response);
    forward.pop_via();
    if let Some(others) = &others {
        forward.remove_header("Record-Route");
        for value in others {
            forward.add_header("Record-Route", value);
        }
    }
    names.put(&mut forward);
    if let Some(value) = &original {
        forward.set_header("CSeq", value);
    }
    state_length(&mut forward, response, to);
    forward.write(&mut out);
    out
}

/// A response made here to a stamped request. A 100 has no tag.
pub(crate) fn response(
    settings: &Settings,
    request: &Message<'_>,
    status: u16,
    reason: &str,
    tag: &str,
    extra: &[(&str, &str)],
) -> Vec<u8> {
    let mut response = Response::new(request, status, reason);
    if status > 100 {
        response.to_tag(tag);
    }
    if (200..300).contains(&status) && request.method() == Some(Method::Subscribe) {
        // It makes a dialog (RFC 3261 §12.1.1): the watcher learns his routes from it.
        response.copy_record_route();
    }
    for (name, value) in extra {
        response.header(name, value);
    }
    if !settings.config.server.is_empty() {
        response.header("Server", &settings.config.server);
    }
    let mut out = Vec::with_capacity(GROWTH);
    response.write(&mut out);
    out
}
