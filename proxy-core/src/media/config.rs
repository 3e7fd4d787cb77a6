//! Which rtpengines there are, and for which calls.

use std::net::SocketAddr;
use std::time::Duration;

/// Most rtpengines of a configuration.
pub const MAX_NODES: usize = 64;

/// What Kamailio's default configuration tells its media proxy.
pub const DEFAULT_FLAGS: &str = "replace-origin replace-session-connection";

/// For which calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Usage {
    /// For none.
    Off,
    /// For those with a side behind a NAT, as Kamailio's NATMANAGE.
    #[default]
    Natted,
    /// For all.
    Always,
}

impl Usage {
    /// As the configuration writes it.
    pub const WORDS: [(&'static str, Self); 3] =
        [("off", Self::Off), ("natted", Self::Natted), ("always", Self::Always)];
}

/// What becomes of a request whose SDP no rtpengine takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It goes on as it is, as in Kamailio.
    #[default]
    Pass,
    /// 488 if they refuse it, 503 if none answers.
    Reject,
}

/// An rtpengine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where its `ng` protocol is spoken, UDP.
    pub address: SocketAddr,
    /// Its share of the calls, from 1.
    pub weight: u32,
    /// Its set.
    pub set: u32,
}

/// rtpengine. `Default` is without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaConfig {
    /// In the order of the configuration.
    pub nodes: Vec<Node>,
    /// For which calls, where no route says otherwise.
    pub usage: Usage,
    /// From which set, where no route says otherwise.
    pub set: u32,
    /// What SDP for the caller has to be like ([`super::flags`]).
    pub caller: String,
    /// What SDP for the callee has to be like.
    pub callee: String,
    /// How long one of them is waited for, with retransmissions.
    pub timeout: Duration,
    /// How long one may be silent before it is pinged. Zero: only those are that did not answer.
    pub ping: Duration,
    /// What becomes of a request that none takes.
    pub on_failure: OnFailure,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            usage: Usage::Natted,
            set: 0,
            caller: String::from(DEFAULT_FLAGS),
            callee: String::from(DEFAULT_FLAGS),
            timeout: Duration::from_secs(1),
            ping: Duration::from_secs(10),
            on_failure: OnFailure::Pass,
        }
    }
}

/// What a route says, in place of the whole proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteMedia {
    /// For its calls.
    pub usage: Option<Usage>,
    /// From which set.
    pub set: Option<u32>,
    /// What SDP for the caller has to be like.
    pub caller: Option<String>,
    /// What SDP for the callee has to be like.
    pub callee: Option<String>,
}
