//! A request on its way through the stages, and what a stage says about it.

use std::time::Duration;

use crate::auth::Sender;
use crate::media::RouteMedia;
use crate::msg::{HeaderName, Message, Method};
use crate::state::{Branch, Flow, MediaSession, NextStep, ServerKey};

/// A request on its way. Stages read the message and leave what they find for those that follow.
pub(crate) struct Passage<'m, 'a> {
    /// With `received` and `rport` on its top Via.
    pub(crate) message: &'m Message<'a>,
    pub(crate) method: Method<'a>,
    /// Where it came from and to.
    pub(crate) flow: Flow,
    /// Its server transaction.
    pub(crate) key: ServerKey,
    /// What the stages have found.
    pub(crate) found: Found,
}

/// What the stages have found so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// The Request-URI that counts: after strict routing (RFC 3261 §16.4), aliases, rules. Copies to a trunk or a
    /// backend are made of it; copies to a user have the contact.
    pub(crate) uri: String,
    /// It belongs to a dialog that goes through us: no authentication, no plan, no voicemail.
    pub(crate) in_dialog: bool,
    /// Who sends it, and what proves it.
    pub(crate) sender: Sender,
    /// AUTH: credentials that were accepted, to be taken out of the message.
    pub(crate) spent: Option<Spent>,
    /// A rule wants authentication, whatever `[auth]` says in general.
    pub(crate) auth_required: bool,
    /// Where a rule sends it.
    pub(crate) way: Option<Way>,
    /// The rule that decided, for voicemail and for who asks.
    pub(crate) rule: Option<usize>,
    /// It is for the Contact user of this trunk, which takes calls by name; nothing proves that it came from there.
    pub(crate) by_name: Option<String>,
    /// How long the targets may ring; only timer C if `None`.
    pub(crate) ring: Option<Duration>,
    /// Headers for all copies, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// Address of record of our user who is called.
    pub(crate) called: Option<String>,
    /// Where it goes. Once this is set, only TOVOICEMAIL and RELAY are left.
    pub(crate) targets: Option<Targets>,
    /// What is answered if no later stage knows a target.
    pub(crate) failing: Option<(u16, &'static str)>,
    /// What a rule says of media proxies.
    pub(crate) media_rule: Option<RouteMedia>,
    /// Its SDP has been through a media proxy, or need not.
    pub(crate) media: MediaStep,
    /// It names a dialog that nothing shows it to belong to.
    pub(crate) foreign: bool,
    /// It has been shown to belong to its dialog, and goes where that goes.
    pub(crate) admitted: bool,
    /// An ACK that has had its verdict: it goes on, and waits for no other.
    pub(crate) confirmed: bool,
}

/// How far a request is with media proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum MediaStep {
    /// Nobody has looked.
    #[default]
    Open,
    /// The one that the call uses from now on, if there is one.
    Settled(Option<Box<MediaSession>>),
}

impl MediaStep {
    /// What is kept with the call.
    pub(crate) fn session(&self) -> Option<Box<MediaSession>> {
        match self {
            Self::Open => None,
            Self::Settled(session) => session.clone(),
        }
    }
}

/// Credentials that were accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spent {
    /// In headers of this name.
    pub(crate) header: HeaderName,
    /// For this realm.
    pub(crate) realm: String,
}

/// Where a rule sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// To our user.
    Location,
    /// To a backend of this dispatcher set.
    Dispatcher(u32),
    /// Out by the first of these trunks, by the next one when it fails.
    Trunk(Vec<String>),
    /// To the domain of the Request-URI, whosever it is.
    Relay,
    /// To voicemail.
    Voicemail,
}

/// Where a request goes: the copies that leave now, and what is tried when they fail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) branches: Vec<Branch>,
    /// How long they may ring; only timer C if `None`.
    pub(crate) after: Option<Duration>,
    pub(crate) plan: Vec<NextStep>,
}

impl Targets {
    /// These copies and nothing after them.
    pub(crate) fn now(branches: Vec<Branch>) -> Self {
        Self { branches, after: None, plan: Vec::new() }
    }
}

/// What a stage says.
pub(crate) enum Step {
    /// The next stage.
    Next,
    /// All is done: answered, dropped, absorbed, or kept until something comes.
    Answered,
    /// It is answered with this status, and this reason or the usual one.
    Reject(u16, &'static str),
    /// It goes there.
    Targets(Targets),
    /// It is within its dialog after all, and looks like this: WITHINDLG and all stages after it see these bytes.
    Again(Vec<u8>),
    /// The message has changed (Contact alias, credentials taken away): the stages after this one, and the copies,
    /// see these bytes. What decides the transaction (top Via, Call-ID, CSeq, tags) must be as it was.
    Rewritten(Vec<u8>),
}
