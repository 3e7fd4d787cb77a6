//! Byte helpers shared by the parsers: white space, tokens, numbers, line ends.

/// Linear white space. CR and LF count, because a folded line (RFC 3261 §7.3.1) is kept as it came.
#[inline]
pub(crate) fn is_lws(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// `bytes` without white space at either end.
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_lws(*first)
    {
        bytes = rest;
    }
    trim_end(bytes)
}

/// `bytes` without white space at the end.
#[inline]
pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_lws(*last)
    {
        bytes = rest;
    }
    bytes
}

/// `text` without white space at either end (folds included).
#[inline]
pub(crate) fn trim_str(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

/// Whether `b` may stand in a token, RFC 3261 §25.1.
#[inline]
pub(crate) fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// Whether `bytes` is a token (not empty).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token_byte(b))
}

/// A decimal number that fits in 32 bits; digits only.
pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u32, |n, &b| {
        if !b.is_ascii_digit() {
            return None;
        }
        n.checked_mul(10)?.checked_add(u32::from(b - b'0'))
    })
}

/// Where `inner`, a subslice of `outer`, starts in it. An `inner` from elsewhere gives a clamped position.
pub(crate) fn offset_in(outer: &[u8], inner: &[u8]) -> usize {
    (inner.as_ptr() as usize).saturating_sub(outer.as_ptr() as usize).min(outer.len())
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Bit 7 of each byte of `word` that equals `byte` (exact up to and including the first one).
#[inline]
fn marks(word: u64, byte: u8) -> u64 {
    let x = word ^ (LOW * u64::from(byte));
    x.wrapping_sub(LOW) & !x & HIGH
}

/// The first CR or LF in `bytes` at or after `from`; eight bytes at a time, as this is the inner loop of parsing.
#[inline]
pub(crate) fn find_line_break(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..at + 8) {
        let mut word = [0u8; 8];
        word.copy_from_slice(chunk);
        let word = u64::from_le_bytes(word);
        let found = marks(word, b'\n') | marks(word, b'\r');
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let tail = bytes.get(at..)?;
    tail.iter().position(|&b| b == b'\n' || b == b'\r').map(|p| at + p)
}

/// The index just behind the quoted string that starts at `at` (which holds the opening quote), backslash escapes
/// respected; `None` when it never closes.
pub(crate) fn skip_quoted(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    loop {
        match bytes.get(i)? {
            b'\\' => i += 2,
            b'"' => return Some(i + 1),
            _ => i += 1,
        }
    }
}

/// Appends `n` in decimal without going through the formatting machinery.
pub(crate) fn push_number(out: &mut Vec<u8>, mut n: u32) {
    let mut digits = [0u8; 10];
    let mut at = digits.len();
    loop {
        at -= 1;
        if let Some(slot) = digits.get_mut(at) {
            *slot = b'0' + (n % 10) as u8;
        }
        n /= 10;
        if n == 0 || at == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_are_found_at_every_offset() {
        for at in 0..40 {
            for byte in [b'\r', b'\n'] {
                let mut text = vec![b'x'; 40];
                text[at] = byte;
                assert_eq!(find_line_break(&text, 0), Some(at));
                assert_eq!(find_line_break(&text, at + 1), None);
            }
        }
        assert_eq!(find_line_break(&[0x8d, 0x8a, 0x0b, 0x0c, 0xff, 0, 1, 2, 3], 0), None);
    }

    #[test]
    fn numbers_are_digits_only_and_fit_32_bits() {
        assert_eq!(number(b"0068"), Some(68));
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        assert_eq!(number(b"4294967296"), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(b""), None);
        let mut out = Vec::new();
        push_number(&mut out, u32::MAX);
        push_number(&mut out, 0);
        assert_eq!(out, b"42949672950");
    }
}
