//! Parameters: `;name=value;name;name="quoted"`, as they follow a URI, a Via or a name-addr.

use super::MAX_PARAMS;
use super::scan::{is_token, skip_quoted, trim_str};

/// One parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'a> {
    /// Name, as it came; compare it without regard to case.
    pub name: &'a str,
    /// Value without its quotes (escapes inside are left), `None` when there is no `=`.
    pub value: Option<&'a str>,
}

/// A run of parameters, read on demand. Empty parameters (`;;`) are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a> {
    text: &'a str,
}

impl<'a> Params<'a> {
    /// Takes the text that starts at the first semicolon (or is empty).
    pub fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// The text as it came.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// All parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        Segments { rest: Some(self.text) }.map(trim_str).filter(|s| !s.is_empty()).map(split)
    }

    /// The first parameter of that name (case-insensitive).
    pub fn get(&self, name: &str) -> Option<Param<'a>> {
        self.iter().find(|p| p.name.eq_ignore_ascii_case(name))
    }

    /// Whether there is such a parameter, with or without value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value of the first parameter of that name, if it has one.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.get(name)?.value
    }

    /// Whether every parameter has a token for its name and, behind an `=`, a value: the grammar of RFC 3261 §25.1,
    /// lenient about the characters of a value. More than [`MAX_PARAMS`] are not well-formed either.
    pub fn is_well_formed(&self) -> bool {
        let text = trim_str(self.text);
        if text.is_empty() {
            return true;
        }
        let Some(text) = text.strip_prefix(';') else { return false };
        if (Segments { rest: Some(text) }).nth(MAX_PARAMS).is_some() {
            return false;
        }
        Segments { rest: Some(text) }.map(trim_str).all(|segment| {
            let (name, value) = match segment.split_once('=') {
                Some((name, value)) => (trim_str(name), Some(trim_str(value))),
                None => (segment, None),
            };
            is_token(name.as_bytes())
                && value.is_none_or(|v| {
                    if v.starts_with('"') {
                        skip_quoted(v.as_bytes(), 0) == Some(v.len())
                    } else {
                        !v.is_empty()
                            && !v.bytes().any(|b| {
                                matches!(b, b'"' | b'<' | b'>' | b',' | b' ' | b'\t' | b'\r' | b'\n')
                            })
                    }
                })
        })
    }
}

fn split(segment: &str) -> Param<'_> {
    match segment.split_once('=') {
        None => Param { name: segment, value: None },
        Some((name, value)) => {
            let value = trim_str(value);
            let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            Param { name: trim_str(name), value: Some(inner) }
        }
    }
}

/// Pieces between semicolons, quoted strings kept whole.
struct Segments<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let bytes = rest.as_bytes();
        let mut i = 0;
        while let Some(&b) = bytes.get(i) {
            match b {
                b';' => break,
                b'"' => i = skip_quoted(bytes, i).unwrap_or(bytes.len()),
                _ => i += 1,
            }
        }
        // Semicolons and quotes are ASCII, so the cut is always on a character boundary.
        let piece = rest.get(..i).unwrap_or(rest);
        self.rest = rest.get(i + 1..);
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_may_hold_semicolons_and_escaped_quotes() {
        let p = Params::new(r#"; a = "x;y\";z" ;b;C=1"#);
        assert_eq!(p.value("a"), Some(r#"x;y\";z"#));
        assert!(p.has("B") && p.value("b").is_none());
        assert_eq!(p.value("c"), Some("1"));
        assert!(p.is_well_formed());
    }

    #[test]
    fn empty_parameters_are_read_past_but_not_well_formed() {
        let p = Params::new(";;branch=x;");
        assert_eq!(p.value("branch"), Some("x"));
        assert!(!p.is_well_formed());
        assert!(!Params::new(";=x").is_well_formed());
        assert!(!Params::new(";a=").is_well_formed());
        assert!(!Params::new(";a=\"x").is_well_formed());
        assert!(Params::new("").is_well_formed());
    }
}
