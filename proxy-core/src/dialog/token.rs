//! What proves that a request is within a dialog that has begun through us: a token in our Record-Route.
//!
//! Of a call there is a replicated record besides; of a subscription, a REFER, or a call that is not answered yet, nothing
//! else is kept. Each side gets a token of its own, which it brings back in Route with whatever it sends later:
//!
//! | token for | written into | says |
//! |---|---|---|
//! | who gets a request | our Record-Route in its copy | the sender's tag, Contact and route set |
//! | who gets the response to it | our Record-Route in the response (RFC 3261 §16.7 step 8) | the answerer's |
//!
//! So a token names the dialog by Call-ID and by the tag of the side that is *sent to*, which stands in To of every later
//! request, and holds where that side was when it was written. Branches of a fork do not disturb each other: each answer
//! brings a token for its own To tag.
//!
//! The two halves of a token are MACs (HMAC-SHA-256, cut to 72 bits) with a key that all nodes derive from the cluster
//! key: a node that takes over knows the tokens of all others. Nothing is written in clear, and nothing expires: a token is
//! worth no more than the dialog whose tags it names.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::digest::same;
use crate::engine::keys::Keys;
use crate::engine::settings::Settings;
use crate::msg::{Message, Uri};
use crate::nat::alias;
use crate::route::withindlg::Approach;

/// Parameter of our Record-Route URI.
const PARAM: &str = "rlv";
/// Bytes of each half: nobody guesses 72 bits by sending requests.
const HALF: usize = 9;
/// Characters of a half in base64url.
const HALF_CHARS: usize = HALF / 3 * 4;
/// Characters of a token.
const CHARS: usize = 2 * HALF_CHARS;
/// Separates the two uses of the key from each other and from any other.
const DIALOG: &[u8] = b"relevo dialog token";
/// The same, of the place.
const PLACE: &[u8] = b"relevo dialog place";
/// Route values of which a place is made; of a longer set the rest does not count.
const MAX_ROUTES: usize = 16;

/// What the token of a request proves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The dialog has begun through us.
    pub(crate) dialog: bool,
    /// And the request goes where the other side was when the token was written.
    pub(crate) place: bool,
}

/// What a Record-Route of ours carries in the copy of a request: with `;` in front, or nothing where no dialog can begin.
pub(crate) fn parameter(settings: &Settings, request: &Message<'_>) -> String {
    let (Some(call_id), Some(tag)) = (request.call_id(), request.from_tag()) else { return String::new() };
    let contact = contact_of(request);
    let routes: Vec<&str> = request.record_routes().flatten().map(|r| r.uri).collect();
    let own = half(settings.keys, DIALOG, &[call_id.as_bytes(), tag.as_bytes()]);
    let own = own.as_str();
    // In a spiral it has been here before, and the way back leaves that out.
    let beyond = routes.iter().copied().skip_while(|uri| is_made_with(uri, &[own]));
    let token = made(settings.keys, call_id, tag, contact, beyond);
    format!(";{PARAM}={token}")
}

/// The response with tokens for whoever has asked, in place of those for whoever has answered. It stays as it is where no
/// dialog begins, or nothing of ours stands in it.
pub(crate) fn for_asker(settings: &Settings, mut bytes: Vec<u8>) -> Vec<u8> {
    for (old, new) in changes(settings, &bytes).unwrap_or_default() {
        let from = format!(";{PARAM}={old}");
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
        let place = at.and_then(|at| bytes.get_mut(at + from.len() - CHARS..at + from.len()));
        if let Some(place) = place.filter(|p| p.len() == new.len()) {
            place.copy_from_slice(new.as_bytes());
        }
    }
    bytes
}

/// The Record-Route values that stay in a response from which no dialog follows: a failure, or one without To tag. Some phones
/// copy all of them into it, and would hand the asker the token that was theirs. `None`: it has no token, and stays as it is.
pub(crate) fn routes_without_dialog<'m>(response: &Message<'m>) -> Option<Vec<&'m str>> {
    let makes_none = response.status().is_some_and(|s| s >= 300) || response.to_tag().is_none();
    let is_with_token = |uri: &str| Uri::parse(uri).is_ok_and(|uri| uri.params.value(PARAM).is_some());
    if !makes_none || !response.record_routes().flatten().any(|r| is_with_token(r.uri)) {
        return None;
    }
    let others = response.record_routes().flatten().filter(|r| !is_with_token(r.uri));
    Some(others.filter_map(|r| std::str::from_utf8(r.raw).ok()).collect())
}

/// Which tokens of a response become which. All have one length, so that nothing else in it moves.
fn changes(settings: &Settings, bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let response = Message::parse(bytes).ok()?;
    if !response.status().is_some_and(|s| (101..300).contains(&s)) {
        return None;
    }
    let (call_id, tag) = (response.call_id()?, response.to_tag()?);
    let of = |tag: &str| half(settings.keys, DIALOG, &[call_id.as_bytes(), tag.as_bytes()]);
    // Of the request; or in a spiral of this response, when it was here before.
    let own = [of(response.from_tag()?), of(tag)];
    let own = own.each_ref().map(String::as_str);
    let contact = contact_of(&response);
    let routes: Vec<&str> = response.record_routes().flatten().map(|r| r.uri).collect();
    let mut changes = Vec::new();
    for (number, uri) in routes.iter().enumerate().filter(|(_, uri)| is_made_with(uri, &own)) {
        let Some(old) = carried(uri) else { continue };
        // What stands above it is nearer to the answerer; the asker turns it round.
        let beyond = routes.get(..number).unwrap_or_default().iter().rev().copied();
        let beyond = beyond.skip_while(|uri| is_made_with(uri, &own));
        changes.push((old.to_owned(), made(settings.keys, call_id, tag, contact, beyond)));
    }
    Some(changes)
}

/// What the token that a request brings back proves, if it brings one.
pub(crate) fn proof(settings: &Settings, request: &Message<'_>, approach: &Approach<'_>) -> Proof {
    let (Some(call_id), Some(tag)) = (request.call_id(), request.to_tag()) else { return Proof::default() };
    let dialog = half(settings.keys, DIALOG, &[call_id.as_bytes(), tag.as_bytes()]);
    let own = approach.own(request);
    let Some((_, place)) = own
        .iter()
        .filter_map(|uri| carried(uri)?.split_at_checked(HALF_CHARS))
        .find(|(known, _)| same(known.as_bytes(), dialog.as_bytes()))
    else {
        return Proof::default();
    };
    let beyond = approach.beyond(request);
    let expected = place_half(settings.keys, call_id, tag, approach.uri, beyond.iter().copied());
    Proof { dialog: true, place: same(place.as_bytes(), expected.as_bytes()) }
}

/// The parameter of a Contact of ours in a dialog whose other end is the proxy: with `;` in front. Who brings it back in
/// the Request-URI has seen our answer.
pub(crate) fn of_own_contact(keys: Keys, call_id: &str, own_tag: &str) -> String {
    format!(";{PARAM}={}", half(keys, DIALOG, &[call_id.as_bytes(), own_tag.as_bytes()]))
}

/// Whether a Request-URI brings that back.
pub(crate) fn is_own_contact(keys: Keys, uri: &Uri<'_>, call_id: &str, own_tag: &str) -> bool {
    let expected = half(keys, DIALOG, &[call_id.as_bytes(), own_tag.as_bytes()]);
    uri.params.value(PARAM).is_some_and(|known| same(known.as_bytes(), expected.as_bytes()))
}

/// Where a URI leads, in one form: the address that an `alias` names, else host, port and transport. Who it is for there
/// does not count.
pub(crate) fn place_of(uri: &str) -> String {
    let Ok(parsed) = Uri::parse(uri) else { return uri.to_owned() };
    if !parsed.is_sip() {
        return uri.to_owned();
    }
    if let Some((remote, transport)) = alias::place(&parsed.params) {
        return format!("{}:{} {}", remote.ip().to_canonical(), remote.port(), transport.uri_name());
    }
    let host = match parsed.params.value("maddr") {
        Some(maddr) => maddr.to_ascii_lowercase(),
        None => match parsed.host.ip() {
            Some(ip) => ip.to_canonical().to_string(),
            None => parsed.host.to_string().trim_end_matches('.').to_ascii_lowercase(),
        },
    };
    let transport = parsed.transport().unwrap_or("udp").to_ascii_lowercase();
    format!("{host}:{} {transport}", parsed.port_or_default())
}

fn contact_of<'m>(message: &Message<'m>) -> &'m str {
    message.contacts().next().and_then(Result::ok).map_or("", |contact| contact.uri)
}

/// Whether a Record-Route value was written here: its token begins with one of these. Other proxies may be of our kind, and
/// have another key.
fn is_made_with(uri: &str, halves: &[&str]) -> bool {
    let half = carried(uri).and_then(|token| token.get(..HALF_CHARS));
    half.is_some_and(|half| halves.iter().any(|own| same(own.as_bytes(), half.as_bytes())))
}

fn carried(uri: &str) -> Option<&str> {
    let value = Uri::parse(uri).ok()?.params.value(PARAM)?;
    (value.len() == CHARS && value.is_ascii()).then_some(value)
}

fn made<'r>(
    keys: Keys,
    call_id: &str,
    tag: &str,
    target: &'r str,
    beyond: impl Iterator<Item = &'r str>,
) -> String {
    let mut token = half(keys, DIALOG, &[call_id.as_bytes(), tag.as_bytes()]);
    token.push_str(&place_half(keys, call_id, tag, target, beyond));
    token
}

fn place_half<'r>(
    keys: Keys,
    call_id: &str,
    tag: &str,
    target: &'r str,
    beyond: impl Iterator<Item = &'r str>,
) -> String {
    let places: Vec<String> = std::iter::once(target).chain(beyond.take(MAX_ROUTES)).map(place_of).collect();
    let fixed = [call_id.as_bytes(), tag.as_bytes()];
    let parts: Vec<&[u8]> = fixed.into_iter().chain(places.iter().map(String::as_bytes)).collect();
    half(keys, PLACE, &parts)
}

/// Parts go in with their lengths, so that no two lists of parts are the same bytes.
fn half(keys: Keys, label: &[u8], parts: &[&[u8]]) -> String {
    let mut out = String::with_capacity(CHARS);
    // HMAC takes keys of any length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(keys.bytes()) {
        mac.update(label);
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let bytes = mac.finalize().into_bytes();
        for three in bytes.get(..HALF).unwrap_or_default().chunks(3) {
            push_base64url(&mut out, three);
        }
    }
    out
}

/// Three bytes as four characters (RFC 4648 §5).
fn push_base64url(out: &mut String, three: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = three.iter().fold(0_usize, |all, b| all << 8 | usize::from(*b));
    for shift in [18, 12, 6, 0] {
        let digit = DIGITS.get(number >> shift & 63).copied().unwrap_or_default();
        out.push(char::from(digit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(byte: u8) -> Keys {
        Keys::new([byte; 16])
    }

    #[test]
    fn a_token_is_short_fits_into_a_uri_and_is_the_same_on_every_node() {
        let token = |key, call| made(keys(key), call, "t", "sip:b@h", std::iter::empty());
        assert_eq!(token(7, "c").len(), CHARS);
        assert!(token(7, "c").bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
        assert_eq!(token(7, "c"), token(7, "c"));
        assert_ne!(token(7, "c"), token(8, "c"));
        assert_ne!(token(7, "c"), token(7, "d"));
    }

    #[test]
    fn a_place_is_host_port_and_transport_however_they_are_written() {
        for (a, b) in [
            ("sip:b@H.test", "sip:other@h.test.:5060;transport=UDP;x=y"),
            ("sip:b@10.0.0.1", "sip:[::ffff:10.0.0.1]:5060"),
            ("sip:b@10.0.0.9;alias=1.2.3.4~5~2", "sip:1.2.3.4:5;transport=tcp"),
            ("sip:b@h;maddr=1.2.3.4", "sip:1.2.3.4"),
        ] {
            assert_eq!(place_of(a), place_of(b));
        }
        let other = ["sip:h:5061", "sip:h;transport=tcp", "sip:i", "sip:h;maddr=i", "sips:h", "tel:1"];
        for uri in other {
            assert_ne!(place_of(uri), place_of("sip:h"), "{uri}");
        }
    }

    #[test]
    fn base64url_is_that_of_rfc4648_5() {
        let mut out = String::new();
        push_base64url(&mut out, &[0xfb, 0xff, 0xbf]);
        push_base64url(&mut out, b"foo");
        assert_eq!(out, "-_-_Zm9v");
    }
}
