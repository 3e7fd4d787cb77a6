//! SDP as one part of a `multipart/mixed` body (RFC 5621, RFC 2046 §5.1): where it is, so that it can be replaced and
//! the other parts, and the boundaries, stay byte for byte as they are.
//!
//! | part | counts |
//! |---|---|
//! | `application/sdp`, disposition `session` or none | the first of them |
//! | the same with another disposition, encoded, or empty | no |
//! | a `multipart/…` within | no |
//!
//! A body that breaks the rules, or has more than [`MAX_PARTS`] parts, has no SDP.

use std::ops::Range;

use crate::msg::Params;

/// Parts that are looked at.
pub(super) const MAX_PARTS: usize = 16;
/// Longest boundary (RFC 2046 §5.1.1), in bytes.
const MAX_BOUNDARY_BYTES: usize = 70;

/// Where the SDP of a body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The SDP itself. Its last line may end with the line break that belongs to the boundary.
    pub(super) sdp: Range<usize>,
    /// The number in a Content-Length of its part, which some gateways write.
    pub(super) length: Option<Range<usize>>,
}

/// Looks for the SDP in a body with this Content-Type.
pub(super) fn find(content_type: &str, body: &[u8]) -> Option<Place> {
    let (kind, rest) = content_type.split_at(content_type.find(';')?);
    if !kind.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let boundary = Params::new(rest).get("boundary")?.value?;
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES {
        return None;
    }
    let delimiter = format!("--{boundary}").into_bytes();
    // Of the part at hand: where it begins.
    let mut open: Option<usize> = None;
    let mut parts = 0;
    let mut at = 0;
    while at < body.len() {
        let end = line_end(body, at);
        let line = body.get(at..end)?;
        if let Some(tail) = line.strip_prefix(delimiter.as_slice()) {
            let closes = tail.starts_with(b"--");
            let tail = if closes { tail.get(2..).unwrap_or_default() } else { tail };
            if tail.iter().all(u8::is_ascii_whitespace) {
                let place = open.and_then(|from| place_in(body, from..at));
                if place.is_some() || closes {
                    return place;
                }
                parts += 1;
                if parts > MAX_PARTS {
                    return None;
                }
                open = Some(end);
            }
        }
        at = end;
    }
    // The boundary that closes the last part is missing.
    None
}

/// Behind the line feed of the line that begins at `at`.
fn line_end(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    rest.iter().position(|b| *b == b'\n').map_or(body.len(), |n| at + n + 1)
}

/// The SDP of a part that ends where its closing boundary begins.
fn place_in(body: &[u8], part: Range<usize>) -> Option<Place> {
    let mut length = None;
    let mut is_sdp = false;
    let mut at = part.start;
    loop {
        if at >= part.end {
            return None;
        }
        let end = line_end(body, at).min(part.end);
        let line = std::str::from_utf8(body.get(at..end)?).ok()?;
        if line.trim_end_matches(['\r', '\n']).is_empty() {
            at = end;
            break;
        }
        if line.starts_with([' ', '\t']) {
            // What is folded here are parameters, and none of them matters.
            at = end;
            continue;
        }
        let (name, value) = line.split_once(':')?;
        let word = value.split(';').next().unwrap_or_default().trim();
        match name.trim_end().to_ascii_lowercase().as_str() {
            "content-type" | "c" => is_sdp = word.eq_ignore_ascii_case("application/sdp"),
            "content-disposition" if !word.eq_ignore_ascii_case("session") => return None,
            "content-encoding" | "e" => return None,
            "content-transfer-encoding"
                if !["7bit", "8bit", "binary"].iter().any(|k| word.eq_ignore_ascii_case(k)) =>
            {
                return None;
            }
            "content-length" | "l" => {
                let digits = value.trim();
                let from = at + line.len() - value.trim_start().len();
                let fine = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                length = fine.then(|| from..from + digits.len());
            }
            _ => {}
        }
        at = end;
    }
    let content = body.get(at..part.end)?;
    // The line break before a boundary belongs to the boundary (RFC 2046 §5.1.1). With most senders it also ends the
    // last line of the SDP; where there is one more, that one does.
    let bare = content.strip_suffix(b"\r\n").or_else(|| content.strip_suffix(b"\n"))?;
    let sdp = if bare.ends_with(b"\n") { bare } else { content };
    (is_sdp && !bare.is_empty()).then(|| Place { sdp: at..at + sdp.len(), length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIXED: &str = "multipart/mixed;boundary=\"x y\"";

    fn found(content_type: &str, body: &str) -> Option<String> {
        let place = find(content_type, body.as_bytes())?;
        body.get(place.sdp).map(str::to_owned)
    }

    fn body(head: &str, sdp: &str) -> String {
        format!(
            "preamble\r\n--x y\r\nContent-Type: a/b\r\n\r\n--x\r\n\r\n--x y\r\n{head}\r\n{sdp}\r\n--x y--\r\nepilogue"
        )
    }

    #[test]
    fn the_part_with_sdp_is_found_between_its_boundaries_rfc2046() {
        let text = body("Content-Type: application/sdp\r\n", "v=0\r\ns=-\r\n");
        assert_eq!(found(MIXED, &text).as_deref(), Some("v=0\r\ns=-\r\n"));
        // The line break of the boundary ends its last line, too.
        let text = body("c : application/sdp ;x=y\r\nX: y\r\n\tfolded\r\n", "v=0\r\ns=-");
        assert_eq!(found(MIXED, &text).as_deref(), Some("v=0\r\ns=-\r\n"));
        let text = text.replace("--x y", "--a");
        assert_eq!(found("Multipart/Mixed; a=b; BOUNDARY=a", &text).as_deref(), Some("v=0\r\ns=-\r\n"));
    }

    #[test]
    fn the_disposition_decides_among_parts_rfc5621() {
        for (head, wanted) in [
            ("Content-Type: application/sdp\r\nContent-Disposition: session;handling=required\r\n", true),
            ("Content-Type: application/sdp\r\nContent-Disposition: icon\r\n", false),
            ("Content-Type: application/sdp\r\nContent-Transfer-Encoding: binary\r\n", true),
            ("Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n", false),
            ("Content-Type: application/isup\r\n", false),
            ("", false),
        ] {
            assert_eq!(found(MIXED, &body(head, "v=0\r\n")).is_some(), wanted, "{head}");
        }
    }

    #[test]
    fn the_length_of_the_part_is_seen() {
        let text = body("Content-Type: application/sdp\r\nContent-Length:  5\r\n", "v=0\r\n");
        let place = find(MIXED, text.as_bytes()).expect("SDP");
        assert_eq!(place.length.and_then(|r| text.get(r)), Some("5"));
    }

    #[test]
    fn what_breaks_the_rules_or_has_too_many_parts_has_none() {
        let good = body("Content-Type: application/sdp\r\n", "v=0\r\n");
        for kind in
            ["multipart/mixed", "multipart/mixed;boundary=", "multipart/alternative;boundary=\"x y\"", ""]
        {
            assert_eq!(found(kind, &good), None, "{kind}");
        }
        assert_eq!(found(MIXED, good.trim_end_matches("--x y--\r\nepilogue")), None, "not closed");
        let many = format!("{}{good}", "--x y\r\n\r\n\r\n".repeat(MAX_PARTS));
        assert_eq!(found(MIXED, &many), None);
        assert_eq!(found(MIXED, "--x y\r\nContent-Type: application/sdp\r\n--x y--"), None, "no body");
        assert_eq!(found(MIXED, "--x y\r\nContent-Type: application/sdp\r\n\r\n\r\n--x y--"), None, "empty");
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic_and_what_is_found_is_within(
            lines in prop::collection::vec(
                prop_oneof![
                    Just("--b\r\n"), Just("--b--\r\n"), Just("\r\n"), Just("Content-Type: application/sdp\r\n"),
                    Just("v=0\r\n"), Just("l: 7\r\n"), Just("x"), Just("\n"), Just("--b"),
                ],
                0..40,
            )
        ) {
            let body = lines.concat();
            if let Some(place) = find("multipart/mixed;boundary=b", body.as_bytes()) {
                let sdp = body.get(place.sdp.clone());
                prop_assert!(sdp.is_some_and(|s| s.ends_with('\n')));
                prop_assert!(place.length.is_none_or(|l| l.end < place.sdp.start));
            }
        }
    }
}
