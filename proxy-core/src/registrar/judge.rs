//! From a REGISTER to a command, or to a refusal.

use std::time::Duration;

use super::contact::{contact_key, delta_seconds, granted_expires};
use super::{
    MAX_AOR_BYTES, MAX_CONTACT_BYTES, MAX_CONTACTS_PER_REGISTER, MAX_INSTANCE_BYTES, MAX_PATH_BYTES,
    MAX_PATH_HOPS, MAX_USER_AGENT_BYTES, OutboundMode, PathMode, methods,
};
use crate::io::EngineConfig;
use crate::location::canonical_aor;
use crate::msg::{HeaderName, Message, NameAddr, Uri};
use crate::nat::detect::is_natted;
use crate::state::{Binding, Flow, RegisterChange, RegisterCommand};
use crate::time::Now;

/// Why a REGISTER is refused before anything is asked of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterRejection {
    /// 400 with this reason phrase.
    Bad(&'static str),
    /// 420: what it requires and is not known here, for the Unsupported header (§8.2.2.3).
    Extension(String),
    /// 415: it has a body that it wants to be understood (§8.2.3).
    Content,
    /// 421: it has to support this option, for the Require header.
    Required(&'static str),
    /// 439: the first proxy on its way does not support outbound (RFC 5626 §6).
    FirstHop,
    /// 423: it asks for less than this, in seconds, for the Min-Expires header.
    TooBrief(u32),
}

/// Judges a REGISTER that [`Message::check_request`] has let pass, and whose domain is ours.
///
/// # Errors
/// [`RegisterRejection`], for [`super::answer_refusal`].
pub fn judge(
    request: &Message<'_>,
    config: &EngineConfig,
    flow: Flow,
    now: Now,
) -> Result<RegisterCommand, RegisterRejection> {
    let bad = RegisterRejection::Bad;
    let unsupported: Vec<&str> = request
        .tokens(HeaderName::Require)
        .filter(|tag| !config.registrar.supported().any(|s| s.eq_ignore_ascii_case(tag)))
        .collect();
    if !unsupported.is_empty() {
        return Err(RegisterRejection::Extension(unsupported.join(", ")));
    }
    let knows_path = request.has_token(HeaderName::Supported, "path");
    if config.registrar.path == PathMode::Strict && request.has(HeaderName::Path) && !knows_path {
        return Err(RegisterRejection::Extension(String::from("path")));
    }
    if config.registrar.outbound == OutboundMode::Required
        && !request.has_token(HeaderName::Supported, "outbound")
    {
        return Err(RegisterRejection::Required("outbound"));
    }
    if uses_outbound(request, config) && !first_hop_knows_outbound(request) {
        return Err(RegisterRejection::FirstHop);
    }
    if config.registrar.refuse_content && request.has_required_content() {
        return Err(RegisterRejection::Content);
    }
    let to = request.to().and_then(|to| to.parse_uri()).map_err(|_| bad("Bad To"))?;
    let aor = canonical_aor(&to).filter(|_| to.is_sip()).ok_or(bad("Address of Record Is No SIP URI"))?;
    if aor.len() > MAX_AOR_BYTES {
        return Err(bad("Address of Record Too Long"));
    }
    let call_id = request.call_id().ok_or(bad("Bad Call-ID"))?.to_owned();
    let cseq = request.cseq().map_err(|_| bad("Bad CSeq"))?.number;
    let change = change(request, config, flow, now, (&call_id, cseq))?;
    Ok(RegisterCommand { aor, call_id, cseq, change, max_contacts: config.max_contacts, at: now.wall })
}

fn change(
    request: &Message<'_>,
    config: &EngineConfig,
    flow: Flow,
    now: Now,
    (call_id, cseq): (&str, u32),
) -> Result<RegisterChange, RegisterRejection> {
    let bad = RegisterRejection::Bad;
    let expires = request.header(HeaderName::Expires);
    match request.contact_count() {
        0 => return Ok(RegisterChange::Query),
        n if n > MAX_CONTACTS_PER_REGISTER => return Err(bad("Too Many Contacts")),
        n if request.has_contact_star() => {
            // §10.3 step 6: alone, and with Expires: 0.
            return if n > 1 {
                Err(bad("Contact * With Other Contacts"))
            } else if expires.and_then(delta_seconds) != Some(0) {
                Err(bad("Contact * Without Expires 0"))
            } else {
                Ok(RegisterChange::RemoveAll)
            };
        }
        _ => {}
    }
    let via = request.top_via().map_err(|_| bad("Bad Via"))?;
    let path = path(request)?;
    let user_agent = user_agent(request);
    let with_outbound = uses_outbound(request, config);
    let mut bindings: Vec<Binding> = Vec::new();
    for contact in request.contacts() {
        let contact = contact.map_err(|_| bad("Bad Contact"))?;
        let uri = contact.parse_uri().map_err(|_| bad("Bad Contact"))?;
        if contact.uri.len() > MAX_CONTACT_BYTES {
            return Err(bad("Contact Too Long"));
        }
        let granted = granted_expires(&contact, expires, config)
            .map_err(|_| RegisterRejection::TooBrief(config.min_expires_s))?;
        let (instance, reg_id) = outbound(&contact)?;
        let by_outbound = with_outbound && reg_id.is_some();
        if by_outbound && granted > 0 && bindings.iter().any(|b| b.outbound && b.expires_at > now.wall) {
            // RFC 5626 §6: a flow has one contact.
            return Err(bad("More Than One reg-id"));
        }
        let binding = Binding {
            contact: contact.uri.to_owned(),
            contact_key: contact_key(&uri),
            flow,
            natted: path.is_empty() && is_natted(&uri, &via, flow.remote),
            path: path.clone(),
            q: contact.q().map_err(|_| bad("Bad q"))?,
            expires_at: now.wall + Duration::from_secs(granted.into()),
            call_id: call_id.to_owned(),
            cseq,
            instance,
            reg_id,
            user_agent: user_agent.clone(),
            updated_at: now.wall,
            methods: methods::of_contact(request, &contact),
            outbound: by_outbound,
            gruu: None,
        };
        // The same contact twice in one request: the last word counts, or a retransmission of it would be judged
        // by what its first word says.
        bindings.retain(|b| {
            b.contact_key != binding.contact_key
                || (&b.instance, b.reg_id) != (&binding.instance, binding.reg_id)
        });
        bindings.push(binding);
    }
    Ok(RegisterChange::Contacts(bindings))
}

/// Whether client and registrar both do outbound: the client supports it and names a flow.
pub(super) fn uses_outbound(request: &Message<'_>, config: &EngineConfig) -> bool {
    config.registrar.outbound != OutboundMode::Off
        && request.has_token(HeaderName::Supported, "outbound")
        && request.contacts().flatten().any(|c| c.instance().is_some() && c.reg_id().is_some())
}

/// Whether the first proxy that the client came to, which is this one if there was no other, keeps its flow: it has
/// put `ob` into its Path, the last one (RFC 5626 §5.1, §6).
fn first_hop_knows_outbound(request: &Message<'_>) -> bool {
    if request.values(HeaderName::Via).count() < 2 {
        return true;
    }
    let first = request.paths().flatten().last();
    first.and_then(|path| path.parse_uri().ok()).is_some_and(|uri| uri.params.has("ob"))
}

/// `+sip.instance` and `reg-id`; the latter counts only beside the former (RFC 5626 §4.2.1, §6).
fn outbound(contact: &NameAddr<'_>) -> Result<(Option<String>, Option<u32>), RegisterRejection> {
    let bad = RegisterRejection::Bad;
    let Some(instance) = contact.instance() else { return Ok((None, None)) };
    // It is repeated in responses, in quotes.
    let fits = |b: u8| (0x21..0x7f).contains(&b) && !matches!(b, b'"' | b'\\');
    if instance.is_empty() || instance.len() > MAX_INSTANCE_BYTES || !instance.bytes().all(fits) {
        return Err(bad("Bad Instance"));
    }
    if contact.params.has("reg-id") && contact.reg_id().is_none() {
        return Err(bad("Bad reg-id"));
    }
    Ok((Some(instance.to_owned()), contact.reg_id()))
}

fn path(request: &Message<'_>) -> Result<Vec<String>, RegisterRejection> {
    let bad = RegisterRejection::Bad("Bad Path");
    let mut path = Vec::new();
    let mut bytes = 0;
    for value in request.paths() {
        let value = value.map_err(|_| bad.clone())?;
        Uri::parse(value.uri).ok().filter(Uri::is_sip).ok_or(bad.clone())?;
        // It goes into Route headers as it is; a fold inside would be a line of its own there.
        let text = std::str::from_utf8(value.raw).map_err(|_| bad.clone())?;
        if text.bytes().any(|b| b < b' ' && b != b'\t') {
            return Err(bad);
        }
        bytes += text.len();
        path.push(text.to_owned());
        if path.len() > MAX_PATH_HOPS || bytes > MAX_PATH_BYTES {
            return Err(RegisterRejection::Bad("Path Too Long"));
        }
    }
    Ok(path)
}

/// The User-Agent as an operator may see it on a terminal.
fn user_agent(request: &Message<'_>) -> String {
    let raw = request.header(HeaderName::UserAgent).unwrap_or_default();
    let mut text: String = String::from_utf8_lossy(raw.get(..MAX_USER_AGENT_BYTES).unwrap_or(raw))
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.truncate(text.trim_end().len());
    text
}
