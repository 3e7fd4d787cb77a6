//! What users and header values are compared with: globs, and regular expressions that run in linear time.

use regex::{Regex, RegexBuilder};

/// Longest pattern in bytes.
const MAX_PATTERN: usize = 512;
/// Largest compiled regular expression in bytes, so that a configuration cannot take the memory of the node.
const MAX_COMPILED: usize = 256 * 1024;

/// A pattern.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// `*` stands for any text, also none; `?` for any one character; everything else for itself.
    Glob(String),
    /// A regular expression of the `regex` crate: searched for, so that `^` and `$` matter.
    Regex(Regex),
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Glob(a), Self::Glob(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Eq for Pattern {}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Longer than 512 bytes.
    #[error("it is longer than {MAX_PATTERN} bytes")]
    TooLong,
    /// Not a regular expression, or one that is too large.
    #[error("{0}")]
    Regex(String),
}

impl Pattern {
    /// A glob.
    ///
    /// # Errors
    /// It is too long.
    pub fn glob(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN { Err(PatternError::TooLong) } else { Ok(Self::Glob(text.to_owned())) }
    }

    /// A regular expression.
    ///
    /// # Errors
    /// It is too long, too large once compiled, or no regular expression.
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN {
            return Err(PatternError::TooLong);
        }
        let built = RegexBuilder::new(text).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build();
        built.map(Self::Regex).map_err(|why| {
            // The last line says what; those before point into the pattern.
            let text = why.to_string();
            PatternError::Regex(text.lines().last().unwrap_or("it cannot be read").to_owned())
        })
    }

    /// Whether a text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Glob(glob) => glob_matches(glob.as_bytes(), text.as_bytes()),
            Self::Regex(regex) => regex.is_match(text),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Glob(glob) => glob,
            Self::Regex(regex) => regex.as_str(),
        }
    }
}

/// The usual two-pointer walk: back to the last star when something does not fit. Costs at most the product of the
/// lengths, both of which are bounded.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(b) if *b == b'?' || Some(b) == text.get(t) => {
                g += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (g, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    glob.get(g..).is_none_or(|rest| rest.iter().all(|b| *b == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(pattern: &str, text: &str) -> bool {
        Pattern::glob(pattern).expect("a glob").matches(text)
    }

    #[test]
    fn a_glob_is_an_exact_text_a_prefix_or_more() {
        assert!(glob("112", "112") && !glob("112", "1120") && !glob("112", "11"));
        assert!(glob("00*", "0049123") && glob("00*", "00") && !glob("00*", "0"));
        assert!(glob("*99", "1299") && !glob("*99", "990"));
        assert!(glob("2??", "215") && !glob("2??", "21") && !glob("2??", "2155"));
        assert!(glob("a*b*c", "axxbyyc") && !glob("a*b*c", "axxbyy"));
        assert!(glob("*", "") && glob("", "") && !glob("", "x"));
        assert!(!glob("Bob", "bob"), "users differ by case (RFC 3261 §19.1.4)");
    }

    #[test]
    fn a_regex_is_linear_and_bounded() {
        let pattern = Pattern::regex(r"^\+49[1-9]\d{3,20}$").expect("a regex");
        assert!(pattern.matches("+4930123456") && !pattern.matches("+490"));
        assert!(matches!(Pattern::regex("("), Err(PatternError::Regex(_))));
        assert!(matches!(Pattern::regex(r"\w{1000}{1000}"), Err(PatternError::Regex(_))), "too large");
        assert_eq!(Pattern::regex(&"x".repeat(513)), Err(PatternError::TooLong));
        let hard = Pattern::regex("(a+)+$").expect("a regex");
        assert!(!hard.matches(&format!("{}b", "a".repeat(5000))), "and it ends");
    }
}
