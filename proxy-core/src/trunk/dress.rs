//! What a trunk is told about a call: the number as its provider writes it, the caller in From and P-Asserted-Identity.
//!
//! | the caller | From, where it is not `caller` | P-Asserted-Identity, where the trunk is told |
//! |---|---|---|
//! | is known: proved, or asserted by a trusted source | as chosen | as chosen |
//! | is a stranger (a call that is passed on) | as chosen | the account, or nothing |
//! | is anonymous, and the trunk is told who it is | stays anonymous, with `Privacy: id` | as chosen |
//! | is anonymous, and the trunk is told nothing | as chosen, with `Privacy: id` | – |
//!
//! A trunk that is not told is not trusted either: what somebody else asserts passes unless `Privacy: id` keeps it,
//! whether it came or is added here (RFC 3325 §7).

use crate::msg::{Message, Method, NameAddr, Uri};
use crate::proxy::rename::name_of;
use crate::state::dress::{Asserted, Dress, Renamed, Swap};
use crate::state::trunk::Account;
use crate::state::trunk_style::Identity;

/// The header of RFC 3325 §9.1.
pub(crate) const ASSERTED: &str = "P-Asserted-Identity";
/// The header of RFC 3325 §9.2.
pub(crate) const PREFERRED: &str = "P-Preferred-Identity";
/// The header of RFC 3323 §4.2.
pub(crate) const PRIVACY: &str = "Privacy";

/// What is known of a caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// Who he has proved to be: `user@domain`.
    pub(crate) proved: Option<&'a str>,
    /// From may be believed.
    pub(crate) believed: bool,
}

/// What the copy for a trunk says that the request does not. `target` is its Request-URI.
pub(crate) fn dressed(account: &Account, message: &Message<'_>, caller: Caller<'_>, target: &str) -> Dress {
    let style = &account.style;
    let told = style.asserted.as_ref();
    let from = message.from().ok();
    let anonymous = is_anonymous(message);
    let own = account.identity();
    let known = identity_of(message, caller);
    let known_user = known.as_deref().and_then(|uri| Uri::parse(uri).ok()?.user);
    let from_user = || from.and_then(|f| f.parse_uri().ok()?.user).filter(|_| !anonymous);
    let new_from =
        if anonymous && told.is_some() { None } else { style.from.uri(known_user.or_else(from_user), &own) };
    let display = |f: &NameAddr<'_>| match std::str::from_utf8(f.display) {
        Ok(name) if !anonymous && !name.is_empty() => format!("{} ", name.replace(char::is_control, " ")),
        _ => String::new(),
    };
    let from = from.and_then(|f| Some(swap(&f, &format!("{}<{}>", display(&f), new_from?))));
    let to = message.to().ok().filter(|_| style.to_number);
    let to = to.map(|t| swap(&t, &format!("<{target}>")));
    let private = anonymous && message.header_named(PRIVACY).is_none();
    let asserted = match told {
        None if private || wants_id_kept(message) => Asserted::Removed,
        None => Asserted::Kept,
        Some(Identity::Caller) => match known {
            // A name and a second number may stand beside it.
            Some(_) if message.header_named(ASSERTED).is_some() => Asserted::Kept,
            Some(uri) => Asserted::Set(format!("<{uri}>")),
            None => Asserted::Removed,
        },
        Some(identity) => match identity.uri(known_user, &own) {
            Some(uri) => Asserted::Set(format!("<{uri}>")),
            None => Asserted::Removed,
        },
    };
    // CANCEL and ACK name nobody (RFC 3325 §9.1): their INVITE did. Where there is no state they pass as they come.
    let asserted = match (asserted, message.method()) {
        (Asserted::Set(_), Some(Method::Ack | Method::Cancel)) => Asserted::Removed,
        (asserted, _) => asserted,
    };
    Dress { renamed: Renamed { from, to }, asserted, private }
}

/// Whether the caller wants only those to know him who are trusted.
pub(crate) fn wants_id_kept(message: &Message<'_>) -> bool {
    let value = message.header_named(PRIVACY).and_then(|v| std::str::from_utf8(v).ok());
    value.is_some_and(|v| v.split([';', ',']).any(|word| word.trim().eq_ignore_ascii_case("id")))
}

/// The anonymous URI of RFC 3323 §4.1.1.3, or one like it.
pub(crate) fn is_anonymous(message: &Message<'_>) -> bool {
    message.from().and_then(|from| from.parse_uri()).is_ok_and(|uri| {
        uri.host.to_string().eq_ignore_ascii_case("anonymous.invalid")
            || uri.user.is_some_and(|u| u.eq_ignore_ascii_case("anonymous"))
    })
}

/// Who it is: asserted by somebody trusted (what others assert is gone by now), proved, or believed.
fn identity_of(message: &Message<'_>, caller: Caller<'_>) -> Option<String> {
    let asserted = message.header_named(ASSERTED).and_then(|v| NameAddr::parse(first_of(v)).ok());
    if let Some(asserted) = asserted {
        return Some(asserted.uri.to_owned());
    }
    if let Some(user) = caller.proved {
        return Some(format!("sip:{user}"));
    }
    let from = message.from().ok().filter(|_| caller.believed && !is_anonymous(message))?;
    Some(from.uri.to_owned())
}

/// The first value of a list; there may be a `sip:` and a `tel:` one.
fn first_of(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|b| *b == b'>').map(|at| at + 1);
    let end = end.or_else(|| value.iter().position(|b| *b == b','));
    end.and_then(|at| value.get(..at)).unwrap_or(value)
}

/// A display name that is not UTF-8 does not come back: only the tags tell what a response belongs to.
fn swap(came: &NameAddr<'_>, goes: &str) -> Swap {
    Swap { came: name_of(came).unwrap_or_else(|| format!("<{}>", came.uri)), goes: goes.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::trunk_style::TrunkStyle;

    #[test]
    fn a_display_name_that_is_no_utf8_does_not_keep_the_caller_from_being_renamed() {
        let request = b"INVITE sip:1@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
            From: \"M\xfcller\" <sip:201@lab.test>;tag=1\r\nTo: \"M\xfcller\" <sip:1@h>\r\n\
            Call-ID: c\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
        let message = Message::parse(request).expect("a message");
        let style = TrunkStyle { from: Identity::Account, to_number: true, ..TrunkStyle::default() };
        let account = Account {
            remote_user: String::from("49"),
            remote_domain: String::from("carrier.test"),
            style,
            ..Account::default()
        };
        let caller = Caller { proved: None, believed: true };
        let Renamed { from, to } = dressed(&account, &message, caller, "sip:1@carrier.test").renamed;
        let swap = |came: &str, goes: &str| Some(Swap { came: came.into(), goes: goes.into() });
        assert_eq!(from, swap("<sip:201@lab.test>", "<sip:49@carrier.test>"));
        assert_eq!(to, swap("<sip:1@h>", "<sip:1@carrier.test>"));
    }
}
