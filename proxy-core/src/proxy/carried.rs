//! The names of a subscription that goes through here (RFC 6665), carried by its own messages: of a call they are in the
//! replicated dialog, of a subscription nothing is kept. A SUBSCRIBE or REFER to a trunk that calls its sides otherwise
//! takes both names of each along in our Record-Route, as Kamailio's `uac` does (`rr_from_store_param`), and whatever
//! comes later in its dialog brings them back in Route, to whichever node.
//!
//! | a request with what is carried | From and To go on as |
//! |---|---|
//! | has the tag of the subscriber in From | the trunk knows them |
//! | any other: NOTIFY | the subscriber knows them |
//! | has it forged, or of another dialog | they came |

use crate::engine::settings::Settings;
use crate::msg::{Message, Method, Uri};
use crate::routing::Stage;
use crate::state::{Renamed, Swap};

/// Parameter of our Record-Route URI.
const PARAM: &str = "rlv-names";
/// Longest value of it, in bytes: a SUBSCRIBE with more keeps the names that it has.
const MAX_VALUE: usize = 768;
/// Between the parts of a value; escaped in them.
const BETWEEN: char = '~';

/// Whether this request begins a dialog of which nothing is kept.
fn begins(request: &Message<'_>) -> bool {
    matches!(request.method(), Some(Method::Subscribe | Method::Refer)) && request.to_tag().is_none()
}

/// Whether the names of the dialog that this request begins, if it begins one of which nothing is kept, can be taken back
/// later.
pub(crate) fn fits(settings: &Settings, request: &Message<'_>, names: &Renamed) -> bool {
    !begins(request)
        || names.is_empty()
        || (settings.config.routing.has(Stage::Withindlg) && value_for(settings, request, names).is_some())
}

/// What our Record-Route carries in the copy of a request: with `;` in front, or nothing.
pub(super) fn parameter(settings: &Settings, request: &Message<'_>, names: Option<&Renamed>) -> String {
    let value = if begins(request) {
        names.filter(|n| !n.is_empty()).and_then(|names| value_for(settings, request, names))
    } else {
        // For those who take their routes from the newest request.
        brought(settings, request).map(|(value, _)| value.to_owned())
    };
    value.map_or_else(String::new, |value| format!(";{PARAM}={value}"))
}

/// The names for a request that has brought them back.
pub(crate) fn names_of(settings: &Settings, request: &Message<'_>) -> Option<Renamed> {
    let (_, parts) = brought(settings, request)?;
    let [tag, from_came, from_goes, to_came, to_goes] = parts;
    let swap = |came: String, goes: String| (!goes.is_empty()).then_some(Swap { came, goes });
    let names = Renamed { from: swap(from_came, from_goes), to: swap(to_came, to_goes) };
    Some(if request.from_tag() == Some(tag.as_str()) { names } else { names.reversed() })
}

fn value_for(settings: &Settings, request: &Message<'_>, names: &Renamed) -> Option<String> {
    let swap = |swap: &Option<Swap>| swap.clone().unwrap_or_default();
    let (from, to) = (swap(&names.from), swap(&names.to));
    let parts = [request.from_tag().unwrap_or_default(), &from.came, &from.goes, &to.came, &to.goes];
    let text = parts.map(escaped).join(&BETWEEN.to_string());
    let value = format!("{text}{BETWEEN}{:016x}", seal(settings, request, &text));
    (value.len() <= MAX_VALUE).then_some(value)
}

/// What is carried in a request within a dialog, if we have written it for that.
fn brought<'m>(settings: &Settings, request: &Message<'m>) -> Option<(&'m str, [String; 5])> {
    let in_uri = |uri: &'m str| Uri::parse(uri).ok().and_then(|uri| uri.params.value(PARAM));
    // A strict router has it in the Request-URI.
    let in_route = || request.routes().flatten().find_map(|route| in_uri(route.uri));
    let value = in_route().or_else(|| in_uri(request.request_uri_str()))?;
    let (text, sealed) = value.rsplit_once(BETWEEN)?;
    if value.len() > MAX_VALUE || sealed != format!("{:016x}", seal(settings, request, text)) {
        return None;
    }
    let mut parts = text.split(BETWEEN).map(plain);
    let mut next = || parts.next().flatten();
    Some((value, [next()?, next()?, next()?, next()?, next()?]))
}

/// Nobody else can write it, and it is worth nothing in another dialog.
fn seal(settings: &Settings, request: &Message<'_>, text: &str) -> u64 {
    let call_id = request.call_id().unwrap_or_default();
    settings.keys.own_number("carried-names", &[call_id.as_bytes(), text.as_bytes()])
}

/// With all but letters, digits, `-`, `_` and `.` as `%xx`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'-' | b'_' | b'.' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out
}

fn plain(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |b: &u8| char::from(*b).to_digit(16);
        out.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
        rest = tail;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_as_it_was() {
        for name in ["", "\"Ä ~ %41;\" <sip:a@h;x=\"y\">", "sip:a@h"] {
            let text = escaped(name);
            assert_eq!(plain(&text).as_deref(), Some(name));
            assert!(!text.contains([BETWEEN, ';', '@', ',', '<', '"', ' ']), "{text}");
        }
        assert_eq!((plain("%4"), plain("%zz"), plain("%ff")), (None, None, None));
    }
}
