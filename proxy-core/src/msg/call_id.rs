//! A cheap look for the Call-ID: it chooses the engine before the message is parsed.
//! Other headers that count before that are found in the same way.

use super::scan::{find_line_break, is_lws, trim};

/// The Call-ID of the message in `bytes` without parsing it, or `None`. Agrees with
/// [`super::Message::call_id`] for every message that has exactly one Call-ID.
pub fn call_id_of(bytes: &[u8]) -> Option<&[u8]> {
    value_of(bytes, b"call-id", Some(b'i'))
}

/// The value of the first header line with this name (lower case; a letter for its compact form), trimmed and not empty.
pub(super) fn value_of<'a>(bytes: &'a [u8], name: &[u8], compact: Option<u8>) -> Option<&'a [u8]> {
    let bytes = bytes.get(..bytes.len().min(super::MAX_MESSAGE_BYTES))?;
    let mut at = bytes.iter().position(|&b| b != b'\r' && b != b'\n')?;
    loop {
        at = next_line(bytes, at)?;
        let line = bytes.get(at..)?;
        let name_len = match line {
            // The empty line: what follows is the body.
            [b'\r' | b'\n', ..] => return None,
            [first, ..] if compact == Some(first.to_ascii_lowercase()) => 1,
            [first, ..] if name.first() == Some(&first.to_ascii_lowercase()) => {
                match line.get(..name.len())?.eq_ignore_ascii_case(name) {
                    true => name.len(),
                    false => continue,
                }
            }
            _ => continue,
        };
        let rest = line.get(name_len..)?;
        let colon = rest.iter().position(|&b| b != b' ' && b != b'\t')?;
        if rest.get(colon) != Some(&b':') {
            continue;
        }
        let start = at + name_len + colon + 1;
        let mut end = line_end(bytes, start);
        // Folded: the value goes on in the next line.
        while bytes.get(end).is_some_and(|&b| is_lws(b))
            && let Some(next) = next_line(bytes, end)
            && bytes.get(next).is_some_and(|&b| b == b' ' || b == b'\t')
        {
            end = line_end(bytes, next);
        }
        return Some(trim(bytes.get(start..end)?)).filter(|id| !id.is_empty());
    }
}

/// Where the line that holds `at` ends: at its CR or LF, or at the end of the bytes.
fn line_end(bytes: &[u8], at: usize) -> usize {
    find_line_break(bytes, at).unwrap_or(bytes.len())
}

/// Start of the line after the one that holds `at`.
fn next_line(bytes: &[u8], at: usize) -> Option<usize> {
    let mut end = find_line_break(bytes, at)?;
    while bytes.get(end) == Some(&b'\r') {
        if bytes.get(end + 1) == Some(&b'\n') {
            return Some(end + 2);
        }
        end = find_line_break(bytes, end + 1)?;
    }
    Some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_id_is_found_in_long_compact_spaced_and_folded_form() {
        for head in ["Call-ID: a@b", "i:a@b", "I : a@b ", "CALL-ID\t:\r\n a@b", "call-id: a@b\n"] {
            let text =
                format!("\r\nINVITE sip:x SIP/2.0\r\nCSeq: 1 INVITE\r\nInfo: z\r\n{head}\r\nTo: x\r\n\r\n");
            assert_eq!(call_id_of(text.as_bytes()), Some(&b"a@b"[..]), "{head}");
        }
    }

    #[test]
    fn a_call_id_in_the_body_is_not_taken() {
        assert_eq!(call_id_of(b"INVITE sip:x SIP/2.0\r\nTo: x\r\n\r\nCall-ID: a\r\n"), None);
        assert_eq!(call_id_of(b"INVITE sip:x SIP/2.0\r\nCall-ID:\r\n\r\n"), None);
        assert_eq!(call_id_of(b""), None);
        assert_eq!(call_id_of(b"\r\n\r\n"), None);
    }
}
