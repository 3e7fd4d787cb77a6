//! The few SIP messages that simulated phones write and read.

use std::fmt::Write;
use std::net::SocketAddr;

use proxy_core::msg::{Message, reason_phrase};

/// The domain of all users.
pub const DOMAIN: &str = "sim.test";

/// All values of a header, joined as a list.
#[must_use]
pub fn header(message: &str, name: &str) -> Option<String> {
    let message = Message::parse(message.as_bytes()).ok()?;
    let all: Vec<String> = message
        .header_lines()
        .filter(|l| l.raw_name.eq_ignore_ascii_case(name.as_bytes()))
        .map(|l| String::from_utf8_lossy(l.value).into_owned())
        .collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Status of a response.
#[must_use]
pub fn status(message: &str) -> Option<u16> {
    message.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
}

/// Number and method of CSeq.
#[must_use]
pub fn cseq(message: &str) -> Option<(u32, String)> {
    let value = header(message, "CSeq")?;
    let (number, method) = value.split_once(' ')?;
    Some((number.trim().parse().ok()?, method.trim().to_owned()))
}

/// The To tag, empty if there is none.
#[must_use]
pub fn to_tag(message: &str) -> String {
    header(message, "To").and_then(|to| Some(to.rsplit_once("tag=")?.1.to_owned())).unwrap_or_default()
}

/// Branch of the top Via.
#[must_use]
pub fn branch(message: &str) -> String {
    let via = header(message, "Via").unwrap_or_default();
    let value = via.split("branch=").nth(1).unwrap_or_default();
    value.split([';', ',']).next().unwrap_or_default().to_owned()
}

/// A REGISTER of one contact, a Contact value with its parameters.
#[must_use]
pub fn register(user: &str, at: SocketAddr, number: u32, contact: &str) -> String {
    format!(
        "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKr{user}{}n{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@{DOMAIN}>;tag=r{user}\r\nTo: <sip:{user}@{DOMAIN}>\r\n\
         Call-ID: reg-{user}-{}\r\nCSeq: {number} REGISTER\r\nContact: {contact}\r\nExpires: 3600\r\n\
         Content-Length: 0\r\n\r\n",
        at.port(),
        at.port()
    )
}

/// `method` of a call outside of its dialog: INVITE, its CANCEL and its ACK differ in the method alone.
#[must_use]
pub fn of_call(method: &str, user: &str, at: SocketAddr, call: &str, to_tag: &str) -> String {
    let tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    format!(
        "{method} sip:{user}@{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{call};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@{DOMAIN}>;tag=a{call}\r\nTo: <sip:{user}@{DOMAIN}>{tag}\r\n\
         Call-ID: {call}\r\nCSeq: 1 {method}\r\nContact: <sip:caller@{at}>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// A request of the caller in the dialog that the 2xx `response` made.
#[must_use]
pub fn in_dialog(method: &str, number: u32, response: &str, at: SocketAddr) -> String {
    let get = |name| header(response, name).unwrap_or_default();
    let contact = get("Contact");
    let target = contact.trim_start_matches('<').split('>').next().unwrap_or_default();
    let mut routes = String::new();
    for route in get("Record-Route").rsplit(", ").filter(|r| !r.is_empty()) {
        // Writing to a String does not fail.
        let _ = write!(routes, "Route: {route}\r\n");
    }
    let tag = to_tag(response);
    format!(
        "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{method}{number}{}{tag};rport\r\n{routes}\
         Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\n\
         Content-Length: 0\r\n\r\n",
        get("Call-ID"),
        get("From"),
        get("To"),
        get("Call-ID"),
    )
}

/// A response; `tag` goes to To if there is none, `contact` makes a Contact.
#[must_use]
pub fn respond(request: &str, status: u16, tag: &str, contact: Option<SocketAddr>) -> String {
    let contact = contact.map(|at| format!("Contact: <sip:callee@{at}>\r\n")).unwrap_or_default();
    respond_with(request, status, tag, &contact)
}

/// A response with further header lines.
#[must_use]
pub fn respond_with(request: &str, status: u16, tag: &str, extra: &str) -> String {
    let mut out = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
    let Ok(message) = Message::parse(request.as_bytes()) else { return String::new() };
    for line in message.header_lines() {
        let name = String::from_utf8_lossy(line.raw_name);
        let value = String::from_utf8_lossy(line.value);
        // Writing to a String does not fail.
        let _ = match &*name {
            "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => write!(out, "{name}: {value}\r\n"),
            "To" if message.to_tag().is_none() => write!(out, "To: {value};tag={tag}\r\n"),
            "To" => write!(out, "To: {value}\r\n"),
            _ => Ok(()),
        };
    }
    out.push_str(extra);
    out.push_str("Content-Length: 0\r\n\r\n");
    out
}

/// The message with SDP in place of no body.
#[must_use]
pub fn with_sdp(message: &str, sdp: &str) -> String {
    let length = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
    message.replacen("Content-Length: 0\r\n\r\n", &length, 1)
}

/// What follows the headers.
#[must_use]
pub fn body(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// First line and what it belongs to, for the trace.
#[must_use]
pub fn short(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default().trim_end_matches(" SIP/2.0");
    let (number, method) = cseq(message).unwrap_or_default();
    format!("{first} [{} {number} {method}]", header(message, "Call-ID").unwrap_or_default())
}
