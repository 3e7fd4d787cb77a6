//! Requests that a client transaction derives from its INVITE: CANCEL (RFC 3261 §9.1) and the ACK to a final response
//! other than 2xx (§17.1.1.3).

use super::end_line;
use crate::msg::iter::ListItems;
use crate::msg::scan::push_number;
use crate::msg::{DEFAULT_MAX_FORWARDS, Fault, HeaderName, Message, Method};

/// Writes the CANCEL of an INVITE at the end of `out`. `invite` is the request as it was sent, with our own Via on top;
/// `extra` are header lines to add (a Reason, say).
///
/// # Errors
/// A [`Fault`] if `invite` is no INVITE with the headers that are to be copied; `out` then holds what it held.
pub fn build_cancel(invite: &[u8], extra: &[(&str, &str)], out: &mut Vec<u8>) -> Result<(), Fault> {
    derive(invite, None, Method::Cancel, extra, out)
}

/// Writes the ACK for `response`, a final one other than 2xx, at the end of `out`. `invite` is the request as it was
/// sent; To is that of the response.
///
/// # Errors
/// A [`Fault`] if either cannot be read or lacks a header that is to be copied; `out` then holds what it held.
pub fn build_ack_for_failure(invite: &[u8], response: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    derive(invite, Some(response), Method::Ack, &[], out)
}

fn derive(
    invite: &[u8],
    response: Option<&[u8]>,
    method: Method<'_>,
    extra: &[(&str, &str)],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let parse = |bytes| Message::parse(bytes).map_err(|_| Fault::StartLine);
    let invite = parse(invite)?;
    if invite.method() != Some(Method::Invite) || !invite.is_request() {
        return Err(Fault::StartLine);
    }
    let missing = Fault::Missing;
    let via = invite.header(HeaderName::Via).and_then(|v| ListItems::new(v).next());
    let via = via.ok_or(missing(HeaderName::Via))?;
    let response = response.map(parse).transpose()?;
    let to = response.as_ref().unwrap_or(&invite).header(HeaderName::To).ok_or(missing(HeaderName::To))?;
    let from = invite.header(HeaderName::From).ok_or(missing(HeaderName::From))?;
    let call_id = invite.header(HeaderName::CallId).ok_or(missing(HeaderName::CallId))?;
    let cseq = invite.cseq()?.number;

    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(invite.request_uri_str().as_bytes());
    out.extend_from_slice(b" SIP/2.0\r\n");
    line(out, "Via", via);
    for slot in invite.slots.iter().filter(|s| s.name == HeaderName::Route) {
        let range = usize::from(slot.start)..usize::from(slot.end);
        out.extend_from_slice(invite.raw.get(range).unwrap_or_default());
        end_line(out);
    }
    out.extend_from_slice(b"Max-Forwards: ");
    push_number(out, DEFAULT_MAX_FORWARDS.into());
    out.extend_from_slice(b"\r\n");
    line(out, "From", from);
    line(out, "To", to);
    line(out, "Call-ID", call_id);
    out.extend_from_slice(b"CSeq: ");
    push_number(out, cseq);
    out.push(b' ');
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b"\r\n");
    extra.iter().for_each(|(name, value)| line(out, name, value.as_bytes()));
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    Ok(())
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
