//! The stages of the way of a request, in Kamailio's order, and what is left of each when it is switched off:
//!
//! | stage | switched off | what happens all the same |
//! |---|---|---|
//! | REQINIT | no flood limit, scanners, sizes, keepalive | syntax, 483, 420, 482: RFC 3261 §16.3 |
//! | CANCEL | one of nothing known here goes the way of its INVITE without state (§16.10), in place of a 481; a redirect server says 481 | a known call ends |
//! | RETRANSMISSION | what came before is dropped | it is never taken for a new request |
//! | WITHINDLG | no Record-Route, no dialog; To with a tag: 404 | ACKs of failures, subscriptions at the proxy itself |
//! | RELAY | 403 for what has a target | redirects |
//! | MANAGE_BRANCH | no rtpengine for new calls | calls that have one keep it |
//! | MANAGE_REPLY | no alias in Contacts of callees, no rtpengine for new calls | the same |
//! | MANAGE_FAILURE | the first round decides | other addresses of one target, credentials for trunks |
//! | any other | skipped | |

use std::fmt;

/// One stage. The order of the variants is the order in which requests meet them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Floods, scanners, sizes, syntax, loops, Max-Forwards, OPTIONS to the proxy.
    Reqinit,
    /// Clients behind a NAT.
    Natdetect,
    /// CANCEL finds its INVITE.
    Cancel,
    /// What is known already is absorbed.
    Retransmission,
    /// Requests in dialogs, ACK among them.
    Withindlg,
    /// Digest authentication and address ACLs.
    Auth,
    /// The `[[route]]` tables of the configuration.
    Policy,
    /// Domains of others.
    Sipout,
    /// PUBLISH and SUBSCRIBE.
    Presence,
    /// REGISTER.
    Registrar,
    /// Calls to and from trunks (Kamailio's PSTN).
    Trunk,
    /// Aliases, speed dial, and where our users are.
    Location,
    /// Sets of backends.
    Dispatch,
    /// Voicemail for users who cannot be reached.
    Voicemail,
    /// Copies leave.
    Relay,
    /// Each copy before it leaves (Kamailio's MANAGE_BRANCH).
    ManageBranch,
    /// Each response (MANAGE_REPLY).
    ManageReply,
    /// A round of copies has failed (MANAGE_FAILURE).
    ManageFailure,
}

impl Stage {
    /// Those that a request walks through, in order. The others are met by its copies and their responses.
    pub const REQUEST: [Self; 15] = [
        Self::Reqinit,
        Self::Natdetect,
        Self::Cancel,
        Self::Retransmission,
        Self::Withindlg,
        Self::Auth,
        Self::Policy,
        Self::Sipout,
        Self::Presence,
        Self::Registrar,
        Self::Trunk,
        Self::Location,
        Self::Dispatch,
        Self::Voicemail,
        Self::Relay,
    ];

    /// Its place in [`Stage::REQUEST`]; 0 for those that are not there.
    pub(crate) fn number(self) -> usize {
        Self::REQUEST.iter().position(|s| *s == self).unwrap_or(0)
    }

    /// Its name in Kamailio's habit, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Reqinit => "REQINIT",
            Self::Natdetect => "NATDETECT",
            Self::Cancel => "CANCEL",
            Self::Retransmission => "RETRANSMISSION",
            Self::Withindlg => "WITHINDLG",
            Self::Auth => "AUTH",
            Self::Policy => "ROUTE",
            Self::Sipout => "SIPOUT",
            Self::Presence => "PRESENCE",
            Self::Registrar => "REGISTRAR",
            Self::Trunk => "TRUNK",
            Self::Location => "LOCATION",
            Self::Dispatch => "DISPATCH",
            Self::Voicemail => "TOVOICEMAIL",
            Self::Relay => "RELAY",
            Self::ManageBranch => "MANAGE_BRANCH",
            Self::ManageReply => "MANAGE_REPLY",
            Self::ManageFailure => "MANAGE_FAILURE",
        }
    }

    /// Those that the copies of a request and their responses meet, in order.
    pub const COPIES: [Self; 3] = [Self::ManageBranch, Self::ManageReply, Self::ManageFailure];

    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reqinit => "reqinit",
            Self::Natdetect => "natdetect",
            Self::Cancel => "cancel",
            Self::Retransmission => "retransmission",
            Self::Withindlg => "withindlg",
            Self::Auth => "auth",
            Self::Policy => "routes",
            Self::Sipout => "sipout",
            Self::Presence => "presence",
            Self::Registrar => "registrar",
            Self::Trunk => "trunk",
            Self::Location => "location",
            Self::Dispatch => "dispatch",
            Self::Voicemail => "voicemail",
            Self::Relay => "relay",
            Self::ManageBranch => "manage_branch",
            Self::ManageReply => "manage_reply",
            Self::ManageFailure => "manage_failure",
        }
    }

    /// What of the cluster's promises, or of what an operator expects, is lost while it is switched off; `None` if only what
    /// its name says is.
    #[must_use]
    pub fn cost(self) -> Option<&'static str> {
        Some(match self {
            Self::Reqinit => {
                "floods, scanners and requests of any size come in, and OPTIONS to the proxy is no keepalive"
            }
            Self::Retransmission => {
                "an answer that is lost on the way is not said again when the client asks again"
            }
            Self::Withindlg => {
                "the proxy leaves the path of calls: answered ones have no dialog here, so no CDR, no limit, no session \
                 timer, no rtpengine, and a trunk that asks for a password cannot be used"
            }
            Self::Relay => "no request and no call goes through: only what is answered here is answered",
            Self::ManageBranch => "no rtpengine for new calls: phones behind NATs may hear nothing",
            Self::ManageReply => {
                "phones behind NATs that are called cannot be reached within their calls, and no rtpengine for new calls"
            }
            Self::ManageFailure => {
                "who is called first decides: no voicemail, no other contact, backend or trunk after a failure, also when a \
                 backend dies while a call rings there"
            }
            _ => return None,
        })
    }

    /// The stage with this name in the configuration.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().find(|s| s.name() == name)
    }

    /// All names, as the configuration may switch them off.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::all().map(Self::name)
    }

    fn all() -> impl Iterator<Item = Self> {
        Self::REQUEST.into_iter().chain(Self::COPIES)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}
