//! Responses to REGISTER.

use std::fmt::Write as _;

use super::date::http_date;
use super::judge::uses_outbound;
use super::{PathMode, RETRY_AFTER_FULL_S, RegisterRejection, gruu};
use crate::engine::keys::Keys;
use crate::io::EngineConfig;
use crate::msg::{HeaderName, Message, Response, ViaStamp};
use crate::state::{Binding, RegisterRefusal, SipResponse};
use crate::time::{Now, RealTime};

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
    (now, date): (Now, RealTime),
    to_tag: &str,
    stamp: ViaStamp,
    out: &mut Vec<u8>,
) -> u16 {
    let (status, reason) = match outcome {
        SipResponse::Registered(bindings) => {
            accept(request, bindings, config, (now, date), to_tag, stamp, out);
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
        RegisterRejection::Content => (415, ""),
        RegisterRejection::Required(_) => (421, ""),
        RegisterRejection::FirstHop => (439, ""),
        RegisterRejection::TooBrief(_) => (423, ""),
    };
    let mut response = Response::new(request, status, reason);
    response.to_tag(to_tag).stamp_via(stamp);
    match why {
        RegisterRejection::Bad(_) | RegisterRejection::FirstHop => {}
        RegisterRejection::Content => {
            // No type at all is taken (§20.1).
            response.header("Accept", "");
        }
        RegisterRejection::Required(tag) => {
            response.header("Require", tag);
        }
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
    (now, date): (Now, RealTime),
    to_tag: &str,
    stamp: ViaStamp,
    out: &mut Vec<u8>,
) {
    let wants_gruu = config.registrar.gruu && request.has_token(HeaderName::Supported, "gruu");
    let to = request.to().and_then(|to| to.parse_uri()).ok().filter(|_| wants_gruu);
    let aor = to.and_then(|uri| config.aor(&uri, None));
    let contacts: Vec<String> =
        bindings.iter().map(|b| contact_value(b, config, aor.as_deref(), now)).collect();
    let supported = config.registrar.supported().collect::<Vec<_>>().join(", ");
    let outbound = uses_outbound(request, config);
    let date = http_date(date);
    let mut response = Response::new(request, 200, "");
    response.to_tag(to_tag).stamp_via(stamp);
    contacts.iter().for_each(|c| {
        response.header("Contact", c);
    });
    // A client that knows nothing of Path would not know what it reads (RFC 3327 §5.3).
    if config.registrar.path != PathMode::Silent && request.has_token(HeaderName::Supported, "path") {
        for path in request.paths().flatten() {
            if let Ok(text) = std::str::from_utf8(path.raw)
                && !text.bytes().any(|b| b < b' ' && b != b'\t')
            {
                response.header("Path", text);
            }
        }
    }
    for route in &config.registrar.service_route {
        response.header("Service-Route", route);
    }
    if outbound {
        response.header("Require", "outbound");
        if let Some(seconds) = config.registrar.flow_timer_s {
            response.header_number("Flow-Timer", seconds);
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
fn contact_value(binding: &Binding, config: &EngineConfig, gruu_of: Option<&str>, now: Now) -> String {
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
    // RFC 5627 §5.3: of each contact with an instance, whoever asks.
    if let (Some(aor), Some(instance), Some(name)) = (gruu_of, &binding.instance, binding.gruu) {
        if let Some(public) = gruu::public(aor, instance) {
            let _ = write!(value, ";pub-gruu=\"{public}\"");
        }
        let salt = binding.updated_at.0 ^ u64::from(binding.cseq);
        if let Some(temporary) = gruu::temporary(Keys::new(config.key), aor, name, salt) {
            let _ = write!(value, ";temp-gruu=\"{temporary}\"");
        }
    }
    value
}
