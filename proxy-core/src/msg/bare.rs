//! An answer made without parsing the request: for one that the parser, or what comes after it, may not survive.

use super::scan::find_line_break;

/// Most bytes of header lines that go back.
const MAX_BYTES: usize = 8 << 10;
/// The names of the lines that an answer repeats (RFC 3261 §8.2.6.2), and their compact forms.
const REPEATED: [&[u8]; 9] = [b"via", b"v", b"from", b"f", b"to", b"t", b"call-id", b"i", b"cseq"];

/// `500` with the lines of the request that an answer repeats; `None` for a response, an ACK, and what is no SIP.
#[must_use]
pub fn bare_refusal(request: &[u8]) -> Option<Vec<u8>> {
    let start = request.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let mut lines = lines(request.get(start..)?);
    let first = lines.next()?;
    if !first.ends_with(b" SIP/2.0") || first.starts_with(b"ACK ") {
        return None;
    }
    let mut out = b"SIP/2.0 500 Server Internal Error\r\n".to_vec();
    let mut repeats = false;
    for line in lines.take_while(|line| !line.is_empty()) {
        let is_folded = matches!(line.first(), Some(b' ' | b'\t'));
        let name = line.split(|b| *b == b':').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        repeats = if is_folded { repeats } else { REPEATED.contains(&name.as_slice()) };
        if !repeats {
            continue;
        }
        out.extend_from_slice(line);
        let is_to = matches!(name.as_slice(), b"to" | b"t");
        if is_to && !line.windows(4).any(|w| w.eq_ignore_ascii_case(b"tag=")) {
            out.extend_from_slice(b";tag=refused");
        }
        out.extend_from_slice(b"\r\n");
        if out.len() > MAX_BYTES {
            return None;
        }
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    Some(out)
}

/// The lines of a text, without their ends.
fn lines(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = find_line_break(rest, 0).unwrap_or(rest.len());
        let (line, behind) = rest.split_at(end);
        let skip = if behind.starts_with(b"\r\n") { 2 } else { 1 };
        rest = behind.get(skip..).unwrap_or_default();
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_repeats_what_an_answer_must_and_gives_the_to_a_tag() {
        let request = b"\r\nINVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP a;\r\n branch=z9\r\nv: SIP/2.0/UDP b\r\n\
                        Max-Forwards: 70\r\nFrom: <sip:a@x>;tag=1\r\nt: <sip:b@x>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
                        Content-Length: 7\r\n\r\nVia: x\n";
        let answer = String::from_utf8(bare_refusal(request).expect("answered")).expect("text");
        let expected = "SIP/2.0 500 Server Internal Error\r\nVia: SIP/2.0/UDP a;\r\n branch=z9\r\nv: SIP/2.0/UDP b\r\n\
                        From: <sip:a@x>;tag=1\r\nt: <sip:b@x>;tag=refused\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
                        Content-Length: 0\r\n\r\n";
        assert_eq!(answer, expected);
        assert!(crate::msg::Message::parse(answer.as_bytes()).is_ok());
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        for text in ["SIP/2.0 200 OK\r\nVia: x\r\n\r\n", "ACK sip:b@x SIP/2.0\r\n\r\n", "garbage", "", "\r\n"]
        {
            assert_eq!(bare_refusal(text.as_bytes()), None, "{text}");
        }
        let long = format!("OPTIONS sip:b@x SIP/2.0\r\n{}\r\n", "Via: x\r\n".repeat(2_000));
        assert_eq!(bare_refusal(long.as_bytes()), None);
    }
}
