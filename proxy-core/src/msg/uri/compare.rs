//! Comparison of URIs (RFC 3261 §19.1.4) and the canonical key of an address of record (§10.3 step 5).

use super::{Scheme, Uri};
use crate::msg::Params;
use std::fmt::Write as _;

/// Parameters that must stand in both URIs or in none (§19.1.4).
const STRICT_PARAMS: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

/// Most parameters, or headers, of a URI that are compared: each is looked up in the other URI, and a datagram has room
/// for thousands.
const MAX_COMPARED: usize = 32;

impl Uri<'_> {
    /// Whether both name the same resource by the rules of §19.1.4. The relation is not transitive. Schemes other than
    /// sip and sips: tel by its number without visual separators and its parameters, any other byte for byte. URIs with
    /// more than 32 parameters or headers are equal only byte for byte.
    pub fn equivalent(&self, other: &Uri<'_>) -> bool {
        if self.raw == other.raw {
            return true;
        }
        if self.is_excessive() || other.is_excessive() {
            return false;
        }
        match (self.scheme, other.scheme) {
            (Scheme::Sip, Scheme::Sip) | (Scheme::Sips, Scheme::Sips) => {
                same_option(self.user, other.user, same_exact)
                    && same_option(self.password, other.password, same_exact)
                    && self.host == other.host
                    && self.port == other.port
                    && same_params(self.params, other.params)
                    && same_headers(self.headers, other.headers)
            }
            (Scheme::Tel, Scheme::Tel) => {
                digits(self.user).eq(digits(other.user))
                    && one_sided(self.params, other.params)
                    && one_sided(other.params, self.params)
            }
            (Scheme::Other(_), Scheme::Other(_)) => self.raw == other.raw,
            _ => false,
        }
    }

    fn is_excessive(&self) -> bool {
        let params = self.params.iter().nth(MAX_COMPARED).is_some();
        params || self.headers.is_some_and(|h| h.split('&').nth(MAX_COMPARED).is_some())
    }

    /// The key of an address of record: `user@host` or `host` for sip and sips, the bare number for tel, the URI itself
    /// for others. Scheme, port, password, parameters and headers do not count; the user is unescaped where that
    /// cannot change its meaning, the host is in lower case.
    pub fn aor_key(&self) -> String {
        let mut key = String::new();
        match self.scheme {
            Scheme::Sip | Scheme::Sips => {
                if let Some(user) = self.user {
                    canonical(user).for_each(|c| match c {
                        // What would end the URI where it is written between brackets or quotes stays escaped.
                        Unit::Plain(b) if (0x21..0x7f).contains(&b) && !b"%<>\"".contains(&b) => {
                            key.push(char::from(b));
                        }
                        Unit::Plain(b) | Unit::Escaped(b) => {
                            // Writing to a String cannot fail.
                            let _ = write!(key, "%{b:02X}");
                        }
                    });
                    key.push('@');
                }
                let _ = write!(key, "{}", self.host);
            }
            Scheme::Tel => key.extend(digits(self.user)),
            Scheme::Other(_) => key.push_str(self.raw),
        }
        key
    }
}

/// One character of an escaped text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Stands for itself: written plainly, or escaped without need.
    Plain(u8),
    /// A reserved character (or the percent sign) that is escaped, which differs from the plain one.
    Escaped(u8),
}

/// Reads `%61` as `a`, but keeps `%40` apart from `@`.
fn canonical(text: &str) -> impl Iterator<Item = Unit> + '_ {
    let mut bytes = text.bytes();
    std::iter::from_fn(move || {
        let b = bytes.next()?;
        if b != b'%' {
            return Some(Unit::Plain(b));
        }
        let mut ahead = bytes.clone();
        let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (hex(ahead.next()), hex(ahead.next())) else {
            return Some(Unit::Escaped(b'%'));
        };
        bytes = ahead;
        let decoded = (high * 16 + low) as u8;
        let reserved = b";/?:@&=+$,%".contains(&decoded);
        Some(if reserved { Unit::Escaped(decoded) } else { Unit::Plain(decoded) })
    })
}

fn same_exact(a: &str, b: &str) -> bool {
    canonical(a).eq(canonical(b))
}

fn same_any_case(a: &str, b: &str) -> bool {
    let lower = |u: Unit| match u {
        Unit::Plain(b) => Unit::Plain(b.to_ascii_lowercase()),
        escaped => escaped,
    };
    canonical(a).map(lower).eq(canonical(b).map(lower))
}

fn same_option(a: Option<&str>, b: Option<&str>, same: fn(&str, &str) -> bool) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => same(a, b),
        _ => false,
    }
}

fn same_params(a: Params<'_>, b: Params<'_>) -> bool {
    STRICT_PARAMS.iter().all(|name| a.has(name) == b.has(name))
        && a.iter().all(|p| find(b, p.name).is_none_or(|other| same_option(p.value, other, same_any_case)))
}

/// Whether each parameter of `a` stands in `b`, too, with the same value (RFC 3966 §4).
fn one_sided(a: Params<'_>, b: Params<'_>) -> bool {
    a.iter().all(|p| find(b, p.name).is_some_and(|other| same_option(p.value, other, same_any_case)))
}

/// The value of the parameter whose (possibly escaped) name is `name`.
fn find<'a>(params: Params<'a>, name: &str) -> Option<Option<&'a str>> {
    params.iter().find(|p| same_any_case(p.name, name)).map(|p| p.value)
}

/// Headers must be the same set, in any order.
fn same_headers(a: Option<&str>, b: Option<&str>) -> bool {
    let parts = |t: Option<&'_ str>| t.map_or(0, |t| t.split('&').count());
    parts(a) == parts(b) && holds(a, b) && holds(b, a)
}

fn holds(a: Option<&str>, b: Option<&str>) -> bool {
    let name_end = |h: &str| h.find('=').unwrap_or(h.len());
    a.into_iter().flat_map(|t| t.split('&')).all(|x| {
        b.into_iter().flat_map(|t| t.split('&')).any(|y| {
            let ((xn, xv), (yn, yv)) = (x.split_at(name_end(x)), y.split_at(name_end(y)));
            same_any_case(xn, yn) && same_exact(xv, yv)
        })
    })
}

/// A number without visual separators (RFC 3966 §5.1.1).
fn digits(number: Option<&str>) -> impl Iterator<Item = char> + '_ {
    number
        .unwrap_or_default()
        .chars()
        .filter(|c| !matches!(c, '-' | '.' | '(' | ')'))
        .map(|c| c.to_ascii_lowercase())
}
