//! Bencoding, as rtpengine's `ng` protocol uses it: byte strings, integers, lists, dictionaries with sorted keys.

use std::collections::BTreeMap;

/// Lists and dictionaries within one another that are read.
const MAX_DEPTH: usize = 32;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A byte string.
    Text(Vec<u8>),
    /// An integer.
    Number(i64),
    /// A list.
    List(Vec<Value>),
    /// A dictionary.
    Dict(Dict),
}

/// A dictionary.
pub type Dict = BTreeMap<Vec<u8>, Value>;

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Value {
    fn from(text: &[u8]) -> Self {
        Self::Text(text.to_vec())
    }
}

impl Value {
    /// The bytes of a string.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_text(text, out),
            Self::Number(number) => out.extend_from_slice(format!("i{number}e").as_bytes()),
            Self::List(list) => {
                out.push(b'l');
                list.iter().for_each(|value| value.write(out));
                out.push(b'e');
            }
            Self::Dict(dict) => write_dict(dict, out),
        }
    }

    /// Reads one value that takes all the bytes; `None` if they are something else.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (value, rest) = read_value(bytes, 0)?;
        rest.is_empty().then_some(value)
    }
}

/// Writes a dictionary.
pub fn write_dict(dict: &Dict, out: &mut Vec<u8>) {
    out.push(b'd');
    for (key, value) in dict {
        write_text(key, out);
        value.write(out);
    }
    out.push(b'e');
}

fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(text.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(text);
}

fn read_value(bytes: &[u8], depth: usize) -> Option<(Value, &[u8])> {
    if depth > MAX_DEPTH {
        return None;
    }
    match bytes.split_first()? {
        (b'i', rest) => {
            let (number, rest) = split_at_byte(rest, b'e')?;
            Some((Value::Number(integer(number)?), rest))
        }
        (b'l', mut rest) => {
            let mut list = Vec::new();
            loop {
                if let Some((b'e', rest)) = rest.split_first() {
                    return Some((Value::List(list), rest));
                }
                let (value, after) = read_value(rest, depth + 1)?;
                list.push(value);
                rest = after;
            }
        }
        (b'd', mut rest) => {
            let mut dict = Dict::new();
            loop {
                if let Some((b'e', rest)) = rest.split_first() {
                    return Some((Value::Dict(dict), rest));
                }
                let (key, after) = read_text(rest)?;
                let (value, after) = read_value(after, depth + 1)?;
                dict.insert(key.to_vec(), value);
                rest = after;
            }
        }
        _ => read_text(bytes).map(|(text, rest)| (Value::Text(text.to_vec()), rest)),
    }
}

fn read_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = split_at_byte(bytes, b':')?;
    if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
    rest.split_at_checked(length)
}

fn integer(digits: &[u8]) -> Option<i64> {
    let bare = digits.strip_prefix(b"-").unwrap_or(digits);
    if bare.is_empty() || !bare.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn split_at_byte(bytes: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == end)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let text = prop::collection::vec(any::<u8>(), 0..20);
        let leaf = prop_oneof![text.clone().prop_map(Value::Text), any::<i64>().prop_map(Value::Number)];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
                prop::collection::btree_map(text.clone(), inner, 0..6).prop_map(Value::Dict),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in value()) {
            let mut bytes = Vec::new();
            value.write(&mut bytes);
            prop_assert_eq!(Value::read(&bytes), Some(value));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Value::read(&bytes);
        }

        #[test]
        fn nothing_cut_short_or_longer_is_read(value in value(), cut in 1usize..20, more: u8) {
            let mut bytes = Vec::new();
            value.write(&mut bytes);
            let short = bytes.get(..bytes.len().saturating_sub(cut)).unwrap_or_default();
            prop_assert_eq!(Value::read(short), None);
            bytes.push(more);
            prop_assert_eq!(Value::read(&bytes), None);
        }
    }

    #[test]
    fn lengths_and_numbers_that_are_none_are_refused() {
        for bad in [
            &b"5:abc"[..],
            b"-1:a",
            b"+1:a",
            b":",
            b"i e",
            b"ie",
            b"i-e",
            b"i99999999999999999999e",
            b"l",
            b"di1e1:ae",
            b"99999999999999999999:a",
            b"",
        ] {
            assert_eq!(Value::read(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn lists_within_lists_end_somewhere() {
        let deep = |n: usize| ["l".repeat(n), "e".repeat(n)].concat();
        assert!(Value::read(deep(MAX_DEPTH + 1).as_bytes()).is_some());
        assert_eq!(Value::read(deep(MAX_DEPTH + 2).as_bytes()), None);
        assert_eq!(Value::read("l".repeat(60_000).as_bytes()), None);
    }
}
