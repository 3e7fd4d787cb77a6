//! Responses to REGISTER.

use std::fmt::Write as _;

use super::date::http_date;
use super::{RETRY_AFTER_FULL_S, RegisterRejection, SUPPORTED};
use crate::io::EngineConfig;
use crate::msg::{HeaderName, Message, Response, ViaStamp};
use crate::state::{Binding, RegisterRefusal, SipResponse};
use crate::time::Now;

/// Writes the response to a REGISTER whose command came back with `outcome`, and says its status.
///
/// | outcome | status |
/// |---|---|
/// | `Registered` | 200 with all current contacts (§10.3 step 8) |
/// | out of order | 500 |
/// | too many contacts, `Full` | 503 with Retry-After |
/// | anything else | 500 |
pub fn answer(
    request: &Message<'_>,
    outcome: &SipResponse,
    config: &EngineConfig,
    now: Now,
    to_tag: &str,
    stamp: ViaStamp,
    out: &mut Vec<u8>,
) -> u16 {
    let (status, reason) = match outcome {
        SipResponse::Registered(bindings) => {
            accept(request, bindings, config, now, to_tag, stamp, out);
            return 200;
        }
        SipResponse::RegisterRefused(RegisterRefusal::OutOfOrder) => (500, "CSeq Out Of Order"),
        SipResponse::RegisterRefused(RegisterRefusal::TooManyContacts) => (503, "Too Many Contacts"),
        SipResponse::Full => (503, "Location Service Full"),
        _ => (500, ""),
    };
    let mut response = Response::new(request, status, reason);
    response.to_tag(to_tag).stamp_via(stamp);
    if status == 503 {
        response.header_number("Retry-After", RETRY_AFTER_FULL_S);
    }
    finish(&mut response, config, out);
    status
}

/// Writes the response to a REGISTER that [`super::judge`] refused, and says its status.
pub fn answer_refusal(
    request: &Message<'_>,
    why: &RegisterRejection,
    config: &EngineConfig,
    to_tag: &str,
    stamp: ViaStamp,
    out: &mut Vec<u8>,
) -> u16 {
    let (status, reason) = match why {
        RegisterRejection::Bad(reason) => (400, *reason),
        RegisterRejection::Extension(_) => (420, ""),
        RegisterRejection::TooBrief(_) => (423, ""),
    };
    let mut response = Response::new(request, status, reason);
    response.to_tag(to_tag).stamp_via(stamp);
    match why {
        RegisterRejection::Bad(_) => {}
        RegisterRejection::Extension(tags) => {
            response.header("Unsupported", tags);
        }
        RegisterRejection::TooBrief(seconds) => {
            response.header_number("Min-Expires", *seconds);
        }
    }
    finish(&mut response, config, out);
    status
}

fn accept(
    request: &Message<'_>,
    bindings: &[Binding],
    config: &EngineConfig,
    now: Now,
    to_tag: &str,
    stamp: ViaStamp,
    out: &mut Vec<u8>,
) {
    let contacts: Vec<String> = bindings.iter().map(|b| contact_value(b, config, now)).collect();
    let supported = SUPPORTED.join(", ");
    let date = http_date(now.wall);
    let mut response = Response::new(request, 200, "");
    response.to_tag(to_tag).stamp_via(stamp);
    contacts.iter().for_each(|c| {
        response.header("Contact", c);
    });
    // A client that knows nothing of Path would not know what it reads (RFC 3327 §5.3).
    if request.has_token(HeaderName::Supported, "path") {
        for path in request.paths().flatten() {
            if let Ok(text) = std::str::from_utf8(path.raw)
                && !text.bytes().any(|b| b < b' ' && b != b'\t')
            {
                response.header("Path", text);
            }
        }
    }
    response.header("Supported", &supported).header("Date", &date);
    finish(&mut response, config, out);
}

fn finish<'e>(response: &mut Response<'_, '_, 'e>, config: &'e EngineConfig, out: &mut Vec<u8>) {
    if !config.server.is_empty() {
        response.header("Server", &config.server);
    }
    response.write(out);
}

/// `<sip:…>;expires=…;q=…` and what names the flow (RFC 5626 §6).
fn contact_value(binding: &Binding, config: &EngineConfig, now: Now) -> String {
    // No more than the maximum, should the clock have been set back: the client then comes early, not late.
    let expires = now.wall.secs_until(binding.expires_at).min(config.max_expires_s);
    let mut value = format!("<{}>;expires={expires}", binding.contact);
    // Writing to a String cannot fail.
    if binding.q < 1000 {
        let _ = write!(value, ";q=0.{:03}", binding.q);
        // 0.5 for 0.500, and 0.0 for nothing at all.
        while value.ends_with("00") || (value.ends_with('0') && !value.ends_with(".0")) {
            value.pop();
        }
    }
    if let Some(instance) = &binding.instance {
        let _ = write!(value, ";+sip.instance=\"{instance}\"");
    }
    if let Some(reg_id) = binding.reg_id {
        let _ = write!(value, ";reg-id={reg_id}");
    }
    value
}
