//! How calls out by a trunk look, as the operator says it.

use proxy_core::msg::Uri;
use proxy_core::state::trunk_style::{Identity, MAX_STRIP, Plus, Redirects, TrunkStyle, USER};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Changes of the style; `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Style {
    /// `account`, `caller`, or a URI with `{user}`.
    pub from: Option<String>,
    /// `number` or `dialled`.
    pub to: Option<String>,
    /// `none`, `account`, `caller`, or a URI with `{user}`.
    pub pai: Option<String>,
    /// Characters.
    pub strip: Option<u8>,
    /// `as-dialled`, `plus`, `zeros`, `bare`.
    pub plus: Option<String>,
    /// Digits and the like.
    pub prefix: Option<String>,
    /// `on` or `off`.
    pub probe: Option<String>,
    /// `routing`, `pass`, `own`, `any`.
    pub redirects: Option<String>,
}

/// Words of an option, and what they mean.
type Words<T> = &'static [(&'static str, T)];

const TO: Words<bool> = &[("dialled", false), ("number", true)];
const SWITCH: Words<bool> = &[("off", false), ("on", true)];
const PLUS: Words<Plus> =
    &[("as-dialled", Plus::AsDialled), ("plus", Plus::Plus), ("zeros", Plus::Zeros), ("bare", Plus::Bare)];
const REDIRECTS: Words<Redirects> = &[
    ("routing", Redirects::Routing),
    ("pass", Redirects::Pass),
    ("own", Redirects::Own),
    ("any", Redirects::Any),
];

/// Why a style is refused: what is wrong, and the cure.
pub type Refused = (String, String);

impl Style {
    /// The style with these changes.
    ///
    /// # Errors
    /// What is wrong, and the cure.
    pub fn applied(&self, old: TrunkStyle) -> Result<TrunkStyle, Refused> {
        let mut new = old;
        if let Some(text) = &self.from {
            new.from = identity("from", text)?;
        }
        if let Some(text) = &self.to {
            new.to_number = word("to", TO, text)?;
        }
        if let Some(text) = &self.pai {
            new.asserted = if text == "none" { None } else { Some(identity("pai", text)?) };
        }
        if let Some(strip) = self.strip {
            if strip > MAX_STRIP {
                let cure = format!("strip at most {MAX_STRIP} characters");
                return Err((format!("no number is left when {strip} characters are taken off"), cure));
            }
            new.strip = strip;
        }
        if let Some(text) = &self.plus {
            new.plus = word("plus", PLUS, text)?;
        }
        if let Some(text) = &self.prefix {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'*' | b'-' | b'_' | b'.');
            if text.len() > usize::from(MAX_STRIP) || !text.bytes().all(fits) {
                let cure = format!("write at most {MAX_STRIP} letters, digits, and + * - _ .");
                return Err((format!("{text:?} cannot stand before a number"), cure));
            }
            new.prefix.clone_from(text);
        }
        if let Some(text) = &self.probe {
            new.probe = word("probe", SWITCH, text)?;
        }
        if let Some(text) = &self.redirects {
            new.redirects = word("redirects", REDIRECTS, text)?;
        }
        Ok(new)
    }
}

/// A style as JSON, in the words of [`Style`].
#[must_use]
pub fn style(s: &TrunkStyle) -> Value {
    json!({
        "from": identity_text(&s.from),
        "to": text_of(TO, s.to_number),
        "pai": s.asserted.as_ref().map_or("none", identity_text),
        "strip": s.strip,
        "plus": text_of(PLUS, s.plus),
        "prefix": s.prefix,
        "probe": text_of(SWITCH, s.probe),
        "redirects": text_of(REDIRECTS, s.redirects),
    })
}

fn word<T: Copy>(option: &str, words: Words<T>, text: &str) -> Result<T, Refused> {
    let known = words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    known.ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        (format!("{text:?} is no value of --{option}"), format!("write one of: {}", names.join(", ")))
    })
}

fn text_of<T: Copy + PartialEq>(words: Words<T>, value: T) -> &'static str {
    words.iter().find(|(_, v)| *v == value).map_or("", |(name, _)| name)
}

fn identity(option: &str, text: &str) -> Result<Identity, Refused> {
    match text {
        "account" => return Ok(Identity::Account),
        "caller" => return Ok(Identity::Caller),
        _ => {}
    }
    let example = text.replace(USER, "201");
    let fits =
        Uri::parse(&example).is_ok_and(|uri| uri.user.is_some()) && !example.contains(['{', '}', '<', '>']);
    if fits {
        return Ok(Identity::Uri(text.to_owned()));
    }
    let cure = "write account, caller, or a URI such as sip:+4930555{user}@carrier.example";
    Err((format!("{text:?} is no value of --{option}"), cure.to_owned()))
}

fn identity_text(identity: &Identity) -> &str {
    match identity {
        Identity::Caller => "caller",
        Identity::Account => "account",
        Identity::Uri(uri) => uri,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays_and_what_is_said_reads_back() {
        let first = Style {
            from: Some(String::from("account")),
            pai: Some(String::from("sip:+4930{user}@carrier.test")),
            plus: Some(String::from("bare")),
            strip: Some(1),
            ..Style::default()
        };
        let one = first.applied(TrunkStyle::default()).expect("fits");
        let second = Style { redirects: Some(String::from("own")), ..Style::default() };
        let two = second.applied(one).expect("fits");
        let shown = style(&two);
        assert_eq!(shown["from"], "account");
        assert_eq!(shown["pai"], "sip:+4930{user}@carrier.test");
        assert_eq!(
            (&shown["plus"], &shown["strip"], &shown["redirects"]),
            (&json!("bare"), &json!(1), &json!("own"))
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_cure() {
        let refused = |s: Style| s.applied(TrunkStyle::default()).expect_err("refused").1;
        let from = |t: &str| Style { from: Some(t.to_owned()), ..Style::default() };
        assert!(refused(from("carrier")).contains("sip:+4930555{user}@"));
        assert!(refused(from("sip:{user")).contains("account"));
        assert!(refused(from("sip:a@b>\r\nX: y")).contains("account"));
        assert!(refused(Style { strip: Some(21), ..Style::default() }).contains("20"));
        assert!(
            refused(Style { plus: Some(String::from("e164")), ..Style::default() }).contains("as-dialled")
        );
        assert!(refused(Style { prefix: Some(String::from("1@2")), ..Style::default() }).contains("digits"));
    }
}
