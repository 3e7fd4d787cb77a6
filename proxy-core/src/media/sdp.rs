//! The SDP of a message: whether there is some, which address it names, and other SDP in its place.

use std::net::IpAddr;

use super::multipart::{self, Place};
use crate::msg::{Forward, HeaderName, Message};
use crate::nat::detect::is_private;

/// The SDP of a message: its body, or one part of it.
pub(crate) fn of<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    message.body().get(place(message)?.sdp)
}

fn place(message: &Message<'_>) -> Option<Place> {
    let kind = message.header_str(HeaderName::ContentType)?;
    let body = message.body();
    if body.is_empty() || message.has(HeaderName::ContentEncoding) {
        return None;
    }
    if kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/sdp") {
        return Some(Place { sdp: 0..body.len(), length: None });
    }
    multipart::find(kind, body)
}

/// The message with other SDP, and the lengths that come of it. A message without goes on as it is.
pub(crate) fn replaced(message: &Message<'_>, sdp: &[u8]) -> Vec<u8> {
    let Some(place) = place(message) else { return message.raw().to_vec() };
    let body = message.body();
    let mut new = Vec::with_capacity(body.len() + sdp.len());
    let mut at = 0;
    if let Some(length) = place.length {
        new.extend_from_slice(body.get(..length.start).unwrap_or_default());
        new.extend_from_slice(sdp.len().to_string().as_bytes());
        at = length.end;
    }
    new.extend_from_slice(body.get(at..place.sdp.start).unwrap_or_default());
    new.extend_from_slice(sdp);
    let rest = body.get(place.sdp.end..).unwrap_or_default();
    if rest.starts_with(b"--") && !sdp.ends_with(b"\n") {
        // A boundary begins its line.
        new.extend_from_slice(b"\r\n");
    }
    new.extend_from_slice(rest);
    let mut out = Vec::with_capacity(message.raw().len() + sdp.len());
    Forward::new(message).body(&new).write(&mut out);
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
        let mixed = "--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--x--\r\n";
        assert_eq!(found("multipart/mixed;boundary=x", mixed), Some(b"v=0\r\n".to_vec()));
    }

    #[test]
    fn the_length_is_that_of_the_new_body_and_nothing_else_changes() {
        let old = message("application/sdp", "v=0\r\n");
        let new = replaced(&Message::parse(&old).expect("message"), b"v=0\r\no=longer than before\r\n");
        assert_eq!(new, message("application/sdp", "v=0\r\no=longer than before\r\n"));
    }

    #[test]
    fn of_several_parts_only_the_sdp_changes_rfc5621() {
        let kind = "multipart/mixed;boundary=x";
        let body = |sdp: &str| {
            format!(
                "--x\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}\r\n--x\r\n\
                 Content-Type: application/isup\r\n\r\n\u{1}\u{2}\r\n--x--\r\n",
                sdp.len()
            )
        };
        let old = message(kind, &body("v=0\r\n"));
        let new = replaced(&Message::parse(&old).expect("message"), b"v=0\r\no=longer\r\n");
        assert_eq!(new, message(kind, &body("v=0\r\no=longer\r\n")));
        // One whose last line ends with the line break of the boundary, and one that does not end at all.
        let tight = "--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--x--";
        let old = message(kind, tight);
        let new = replaced(&Message::parse(&old).expect("message"), b"v=1");
        assert_eq!(new, message(kind, &tight.replace("v=0", "v=1")));
    }

    #[test]
    fn addresses_of_private_networks_are_seen() {
        assert!(is_private_sdp(b"v=0\r\nc=IN IP4 192.168.1.5\r\nm=audio 9 RTP/AVP 0\r\n"));
        assert!(is_private_sdp(b"c=IN IP4 10.0.0.1/127\n") && is_private_sdp(b"c=IN IP6 fd00::1\r\n"));
        assert!(!is_private_sdp(b"c=IN IP4 203.0.113.5\r\n") && !is_private_sdp(b"c=IN IP4 0.0.0.0\r\n"));
        assert!(!is_private_sdp(b"c=IN IP4 host.example\r\n") && !is_private_sdp(b"c=IN IP"));
    }
}
