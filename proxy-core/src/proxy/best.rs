//! Which response goes back when no branch is left: RFC 3261 §16.7 steps 6 and 7.
//!
//! A 6xx wins, then the lowest class. Within 4xx those that tell the caller how to succeed come first, as §16.7 asks;
//! a response that was made here (408) comes after any that a phone sent. A 503 of a phone is not the caller's
//! affair and becomes a 500. Challenges of all branches are put together, as the caller may answer them all.

use super::call::Final;
use crate::msg::{Forward, HeaderName, Message};

/// What goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Best {
    /// This response of a phone, perhaps with challenges added.
    Received(u16, Vec<u8>),
    /// One of this status, to be made here.
    Made(u16),
}

pub(crate) fn best<'f>(finals: impl Iterator<Item = &'f Final> + Clone) -> Best {
    let Some(chosen) = winner(finals.clone()) else { return Best::Made(408) };
    if chosen.status == 503 {
        return Best::Made(500);
    }
    if !chosen.can_be_passed() {
        return Best::Made(chosen.status);
    }
    if matches!(chosen.status, 401 | 407) {
        return Best::Received(chosen.status, with_challenges(chosen, finals));
    }
    Best::Received(chosen.status, chosen.response.clone())
}

/// The best of several.
pub(crate) fn winner<'f>(finals: impl Iterator<Item = &'f Final>) -> Option<&'f Final> {
    finals.min_by_key(|f| rank(f))
}

/// The lower, the better.
fn rank(f: &Final) -> (u16, bool, u16) {
    let class = match f.status {
        200..=299 => 0,
        600.. => 1,
        status => status / 100,
    };
    let preference = match f.status {
        401 | 407 | 415 | 420 | 484 => 0,
        503 => 2,
        _ => 1,
    };
    (class, f.response.is_empty(), preference)
}

/// Adds the challenges of the other branches (§16.7 step 7), each where its header says.
fn with_challenges<'f>(chosen: &Final, finals: impl Iterator<Item = &'f Final>) -> Vec<u8> {
    let Ok(message) = Message::parse(&chosen.response) else { return chosen.response.clone() };
    let mut lines: Vec<(&'static str, String)> = Vec::new();
    for other in finals.filter(|f| matches!(f.status, 401 | 407) && !std::ptr::eq(*f, chosen)) {
        let Ok(other) = Message::parse(&other.response) else { continue };
        for line in other.header_lines() {
            let name = match line.name {
                HeaderName::WwwAuthenticate => "WWW-Authenticate",
                HeaderName::ProxyAuthenticate => "Proxy-Authenticate",
                _ => continue,
            };
            if let Ok(value) = std::str::from_utf8(line.value) {
                lines.push((name, value.to_owned()));
            }
        }
    }
    let mut forward = Forward::new(&message);
    for (name, value) in &lines {
        forward.add_header(name, value);
    }
    let mut out = Vec::with_capacity(chosen.response.len() + 256);
    forward.write(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(status: u16) -> Final {
        Final { status, response: format!("SIP/2.0 {status} x\r\nVia: SIP/2.0/UDP h\r\n\r\n").into_bytes() }
    }

    fn status(finals: &[Final]) -> u16 {
        match best(finals.iter()) {
            Best::Received(s, _) | Best::Made(s) => s,
        }
    }

    #[test]
    fn a_6xx_wins_and_then_the_lowest_class_rfc3261_16_7_6() {
        assert_eq!(status(&[f(486), f(603), f(302)]), 603);
        assert_eq!(status(&[f(500), f(486)]), 486);
        assert_eq!(status(&[f(404), f(302)]), 302);
        assert_eq!(status(&[f(486), f(401)]), 401);
    }

    #[test]
    fn a_503_becomes_a_500_unless_there_is_better_rfc3261_16_7_6() {
        assert_eq!(best([f(503)].iter()), Best::Made(500));
        assert_eq!(status(&[f(503), f(502)]), 502);
    }

    #[test]
    fn a_timeout_here_gives_way_to_what_a_phone_said() {
        let made = Final { status: 408, response: Vec::new() };
        assert_eq!(status(&[made.clone(), f(486)]), 486);
        assert_eq!(best([made].iter()), Best::Made(408));
        assert_eq!(best([].iter()), Best::Made(408));
    }

    #[test]
    fn challenges_are_put_together_rfc3261_16_7_7() {
        let a = Final {
            status: 407,
            response: b"SIP/2.0 407 x\r\nVia: SIP/2.0/UDP h\r\nProxy-Authenticate: Digest a\r\n\r\n".into(),
        };
        let b =
            Final { status: 401, response: b"SIP/2.0 401 x\r\nWWW-Authenticate: Digest b\r\n\r\n".into() };
        let Best::Received(407, bytes) = best([a, b].iter()) else { panic!("one of them is passed on") };
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.contains("Proxy-Authenticate: Digest a\r\n"), "{text}");
        assert!(text.contains("WWW-Authenticate: Digest b\r\n"), "{text}");
    }
}
