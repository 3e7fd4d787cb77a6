//! A route of the configuration: what it matches and what it does.

use std::net::IpAddr;
use std::time::Duration;

use super::{Cidr, Pattern, Voicemail};

/// What a request has to be. An empty list asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// Methods, upper case.
    pub methods: Vec<String>,
    /// Domains of the Request-URI, lower case, without port.
    pub domains: Vec<String>,
    /// User of the Request-URI, as it is when the rule is reached. Any of them.
    pub users: Vec<Pattern>,
    /// Where it came from. Any of them.
    pub sources: Vec<Cidr>,
    /// Headers, name and value; all of them. A header that comes several times fits if one of its values does.
    pub headers: Vec<(String, Pattern)>,
}

/// What a request is compared by.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its method.
    pub method: &'a str,
    /// Host of the Request-URI, lower case.
    pub domain: &'a str,
    /// User of the Request-URI.
    pub user: Option<&'a str>,
    /// Where it came from.
    pub source: IpAddr,
}

impl Match {
    /// `None` if the request fits, or what does not. `header` says whether a header has a value that fits.
    pub fn misfit(
        &self,
        subject: &Subject<'_>,
        header: impl Fn(&str, &Pattern) -> bool,
    ) -> Option<&'static str> {
        if !self.methods.is_empty() && !self.methods.iter().any(|m| m == subject.method) {
            return Some("method");
        }
        if !self.domains.is_empty() && !self.domains.iter().any(|d| d == subject.domain) {
            return Some("domain");
        }
        if !self.users.is_empty() && !self.users.iter().any(|p| subject.user.is_some_and(|u| p.matches(u))) {
            return Some("user");
        }
        if !self.sources.is_empty() && !self.sources.iter().any(|c| c.contains(subject.source)) {
            return Some("source");
        }
        (!self.headers.iter().all(|(name, pattern)| header(name, pattern))).then_some("header")
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The next rule is looked at, with what this one has changed.
    Continue,
    /// To our user, wherever that one is.
    Location,
    /// To a backend of this dispatcher set.
    Dispatcher(u32),
    /// Out by the first of these trunks, by the next one when it fails.
    Trunk(Vec<String>),
    /// 302 with these contacts (301 with `permanent`).
    Redirect {
        /// Contact URIs; `{user}` in them stands for the user of the Request-URI.
        contacts: Vec<String>,
        /// 301 instead of 302.
        permanent: bool,
    },
    /// An answer.
    Reject {
        /// 300..=699.
        status: u16,
        /// Reason phrase; the usual one if empty.
        reason: String,
    },
    /// To the domain of the Request-URI, also if it is foreign. Only with `sources` or `require_auth`.
    Relay,
    /// To voicemail at once.
    Voicemail,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name, for `relevo route explain`.
    pub name: String,
    /// What it is for.
    pub matching: Match,
    /// Characters taken from the front of the user.
    pub strip: usize,
    /// Put in front of the user, after stripping.
    pub prefix: String,
    /// The sender has to authenticate, whatever `[auth]` says in general.
    pub require_auth: bool,
    /// What becomes of the request.
    pub action: Action,
    /// When unanswered calls go to voicemail, in place of what `[voicemail]` says in general; `server` counts, too.
    pub voicemail: Option<Voicemail>,
    /// How long the targets may ring.
    pub ring: Option<Duration>,
    /// What is special about the media of its calls.
    pub media: Option<crate::media::RouteMedia>,
}
