//! The SDP of a message: whether there is some, which address it names, and other SDP in its place.

use std::net::IpAddr;

use crate::msg::{Forward, HeaderName, Message};
use crate::nat::detect::is_private;

/// The body, if it is SDP and nothing else. One among several parts goes on as it is.
pub(crate) fn of<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let kind = message.header_str(HeaderName::ContentType)?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let body = message.body();
    let is_sdp = kind.eq_ignore_ascii_case("application/sdp") && !message.has(HeaderName::ContentEncoding);
    (is_sdp && !body.is_empty()).then_some(body)
}

/// The message with another body, and the Content-Length of that one.
pub(crate) fn replaced(message: &Message<'_>, sdp: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.raw().len() + sdp.len());
    Forward::new(message).body(sdp).write(&mut out);
    out
}

/// Whether the SDP names an address for media that only its own network can reach (test 8 of Kamailio's
/// `nat_uac_test`).
pub(crate) fn is_private_sdp(sdp: &[u8]) -> bool {
    sdp.split(|b| *b == b'\n').any(|line| {
        let Some(rest) = line.strip_prefix(b"c=IN IP") else { return false };
        let address = rest.get(2..).and_then(|a| std::str::from_utf8(a).ok()).unwrap_or_default();
        let address = address.trim().split('/').next().unwrap_or_default();
        address.parse::<IpAddr>().is_ok_and(|ip| is_private(ip) && !ip.is_unspecified())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, body: &str) -> Vec<u8> {
        format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=a\r\nTo: <sip:b@h>;tag=b\r\n\
             Call-ID: c\r\nCSeq: 1 INVITE\r\nc: {kind}\r\nContent-Length: {}\r\nX: y\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    #[test]
    fn only_a_body_that_is_sdp_counts() {
        let found = |kind, body| {
            let bytes = message(kind, body);
            of(&Message::parse(&bytes).expect("message")).map(<[u8]>::to_vec)
        };
        assert_eq!(found("application/sdp", "v=0\r\n"), Some(b"v=0\r\n".to_vec()));
        assert_eq!(found("Application/SDP ; charset=x", "v=0\r\n"), Some(b"v=0\r\n".to_vec()));
        assert_eq!(found("application/sdp", ""), None);
        assert_eq!(found("multipart/mixed;boundary=x", "v=0\r\n"), None);
    }

    #[test]
    fn the_length_is_that_of_the_new_body_and_nothing_else_changes() {
        let old = message("application/sdp", "v=0\r\n");
        let new = replaced(&Message::parse(&old).expect("message"), b"v=0\r\no=longer than before\r\n");
        assert_eq!(new, message("application/sdp", "v=0\r\no=longer than before\r\n"));
    }

    #[test]
    fn addresses_of_private_networks_are_seen() {
        assert!(is_private_sdp(b"v=0\r\nc=IN IP4 192.168.1.5\r\nm=audio 9 RTP/AVP 0\r\n"));
        assert!(is_private_sdp(b"c=IN IP4 10.0.0.1/127\n") && is_private_sdp(b"c=IN IP6 fd00::1\r\n"));
        assert!(!is_private_sdp(b"c=IN IP4 203.0.113.5\r\n") && !is_private_sdp(b"c=IN IP4 0.0.0.0\r\n"));
        assert!(!is_private_sdp(b"c=IN IP4 host.example\r\n") && !is_private_sdp(b"c=IN IP"));
    }
}
