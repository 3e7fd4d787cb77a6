//! The methods that a contact takes, as it said in its `methods` parameter (RFC 3840 §10.4) or in Allow.

use crate::msg::{HeaderName, Message, Method, NameAddr};

/// Known methods, in the order of their bits. Append only: the bits are replicated.
const KNOWN: [&str; 14] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "REGISTER",
    "OPTIONS",
    "INFO",
    "UPDATE",
    "MESSAGE",
    "NOTIFY",
    "SUBSCRIBE",
    "REFER",
    "PRACK",
    "PUBLISH",
];
/// Any other method.
const OTHER: u32 = 1 << 31;

fn bit(method: &str) -> u32 {
    KNOWN.iter().position(|k| *k == method).map_or(OTHER, |n| 1 << n)
}

/// The methods of a contact: its own parameter, else Allow; `None` if nothing is said, which means all.
pub(super) fn of_contact(message: &Message<'_>, contact: &NameAddr<'_>) -> Option<u32> {
    let named = contact.params.value("methods").map(|list| {
        list.split(',').map(str::trim).filter(|m| !m.is_empty()).fold(0, |bits, m| bits | bit(m))
    });
    let named = named.filter(|bits| *bits != 0);
    named.or_else(|| {
        message
            .has(HeaderName::Allow)
            .then(|| message.tokens(HeaderName::Allow).fold(0, |bits, m| bits | bit(m)))
    })
}

/// Whether a contact with these methods takes a request.
#[must_use]
pub fn takes(methods: Option<u32>, method: Method<'_>) -> bool {
    methods.is_none_or(|bits| bits & bit(method.as_str()) != 0)
}

/// The names of the methods of a contact, for Allow and for lists.
#[must_use]
pub fn names(methods: u32) -> Vec<&'static str> {
    KNOWN.iter().enumerate().filter(|(n, _)| methods & (1 << n) != 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_takes_what_it_has_listed_rfc3840_10_4() {
        let bits = bit("INVITE") | bit("MESSAGE");
        assert!(takes(Some(bits), Method::Message) && !takes(Some(bits), Method::Subscribe));
        assert!(!takes(Some(bits), Method::Other("DO")) && takes(Some(OTHER), Method::Other("DO")));
        assert!(takes(None, Method::Other("DO")));
        assert_eq!(names(bits), ["INVITE", "MESSAGE"]);
    }
}
