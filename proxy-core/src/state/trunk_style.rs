//! How calls out by a trunk look there: what the provider wants to read in From, To, P-Asserted-Identity and as number.

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

/// What an operator puts into an identity for the user of the caller.
pub const USER: &str = "{user}";

/// Most characters that are taken off a number.
pub const MAX_STRIP: u8 = 20;

/// How calls out look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct TrunkStyle {
    /// Who is in From.
    #[n(0)]
    pub from: Identity,
    /// To has the number and the domain of the trunk instead of what the caller dialled.
    #[n(1)]
    pub to_number: bool,
    /// Who is in P-Asserted-Identity (RFC 3325). `None`: the trunk is not told, and not trusted with what others say.
    #[cbor(n(2), with = "crate::wire::opt", has_nil)]
    pub asserted: Option<Identity>,
    /// Characters that are taken off the number first.
    #[n(3)]
    pub strip: u8,
    /// Then: the way in which international numbers are written.
    #[n(4)]
    pub plus: Plus,
    /// Then: what is put in front.
    #[n(5)]
    pub prefix: String,
    /// It is asked by OPTIONS whether it is there.
    #[n(6)]
    pub probe: bool,
    /// What becomes of its 3xx.
    #[n(7)]
    pub redirects: Redirects,
}

/// Where a trunk may send a call by a 3xx.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", index_only)]
pub enum Redirects {
    /// As `routing.follow_redirects` says for everybody.
    #[default]
    #[n(0)]
    Routing,
    /// Its 3xx goes to the caller.
    #[n(1)]
    Pass,
    /// To its own domain, proxy and sources, with its credentials; other contacts are left out.
    #[n(2)]
    Own,
    /// To any contact.
    #[n(3)]
    Any,
}

/// A caller, as a trunk is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum Identity {
    /// As he says himself; in P-Asserted-Identity: as he has proved.
    #[default]
    #[n(0)]
    Caller,
    /// The account of the trunk.
    #[n(1)]
    Account,
    /// This URI, with [`USER`] for his user.
    #[n(2)]
    Uri(#[n(0)] String),
}

/// How an international number begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", index_only)]
pub enum Plus {
    /// As it was dialled.
    #[default]
    #[n(0)]
    AsDialled,
    /// `+49…` (E.164), also where 00 was dialled.
    #[n(1)]
    Plus,
    /// `0049…`, also where + was dialled.
    #[n(2)]
    Zeros,
    /// `49…`, whichever was dialled.
    #[n(3)]
    Bare,
}

impl TrunkStyle {
    /// The number as the trunk wants it. `None` if nothing is left of it.
    #[must_use]
    pub fn number(&self, dialled: &str) -> Option<String> {
        // What stands before a number is a digit, + or the like; a user with other characters is none.
        let rest = dialled.get(usize::from(self.strip)..)?;
        let international = rest.strip_prefix('+').or_else(|| rest.strip_prefix("00"));
        let number = match (self.plus, international) {
            (Plus::AsDialled, _) | (_, None) => rest.to_owned(),
            (Plus::Plus, Some(digits)) => format!("+{digits}"),
            (Plus::Zeros, Some(digits)) => format!("00{digits}"),
            (Plus::Bare, Some(digits)) => digits.to_owned(),
        };
        Some(format!("{}{number}", self.prefix)).filter(|_| !number.is_empty())
    }

    /// Bytes of text.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = |identity: &Identity| match identity {
            Identity::Uri(uri) => uri.len(),
            Identity::Caller | Identity::Account => 0,
        };
        text(&self.from) + self.asserted.as_ref().map_or(0, text) + self.prefix.len()
    }
}

impl Identity {
    /// The URI for a caller with this user, or for an account there. `None` for [`Identity::Caller`], and without a user
    /// where one is asked for.
    #[must_use]
    pub fn uri(&self, user: Option<&str>, account: &str) -> Option<String> {
        match self {
            Self::Caller => None,
            Self::Account => Some(account.to_owned()),
            Self::Uri(uri) if uri.contains(USER) => Some(uri.replace(USER, user?)),
            Self::Uri(uri) => Some(uri.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_stripped_then_written_as_the_trunk_wants_then_prefixed() {
        let style = |strip, plus, prefix: &str| TrunkStyle {
            strip,
            plus,
            prefix: prefix.to_owned(),
            ..TrunkStyle::default()
        };
        let number = |s: &TrunkStyle, dialled| s.number(dialled);
        assert_eq!(number(&style(0, Plus::AsDialled, ""), "0049301").as_deref(), Some("0049301"));
        assert_eq!(number(&style(1, Plus::Plus, ""), "90049301").as_deref(), Some("+49301"));
        assert_eq!(number(&style(0, Plus::Plus, ""), "+49301").as_deref(), Some("+49301"));
        assert_eq!(number(&style(0, Plus::Zeros, ""), "+49301").as_deref(), Some("0049301"));
        assert_eq!(number(&style(0, Plus::Bare, "77"), "0049301").as_deref(), Some("7749301"));
        assert_eq!(number(&style(1, Plus::Plus, "+49"), "030123").as_deref(), Some("+4930123"));
        assert_eq!(number(&style(3, Plus::Plus, "+49"), "112"), None, "nothing is left of it");
        assert_eq!(number(&style(4, Plus::Plus, ""), "112"), None);
        assert_eq!(number(&style(1, Plus::Bare, ""), "é1"), None, "no character is cut in two");
    }
}
