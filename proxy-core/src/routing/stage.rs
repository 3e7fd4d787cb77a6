//! The stages of the way of a request, in Kamailio's order.

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

    /// Its name in the configuration, if it may be switched off there: what is left is a proxy all the same.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Natdetect => "natdetect",
            Self::Auth => "auth",
            Self::Policy => "routes",
            Self::Sipout => "sipout",
            Self::Presence => "presence",
            Self::Registrar => "registrar",
            Self::Trunk => "trunk",
            Self::Location => "location",
            Self::Dispatch => "dispatch",
            Self::Voicemail => "voicemail",
            _ => return None,
        })
    }

    /// Whether the configuration may switch it off.
    #[must_use]
    pub fn can_be_off(self) -> bool {
        self.name().is_some()
    }

    /// The stage with this name in the configuration.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::REQUEST.into_iter().find(|s| s.name() == Some(name))
    }

    /// All names that the configuration may switch off.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::REQUEST.into_iter().filter_map(Self::name)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}
