//! What the operator chooses about the dispatcher.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::routing::Cidr;

/// How a destination is chosen. The numbers are those of Kamailio's `ds_select_dst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// 0: hash over the Call-ID.
    CallId,
    /// 1: hash over the user of From.
    FromUser,
    /// 2: hash over the user of To.
    ToUser,
    /// 4: one after the other.
    #[default]
    RoundRobin,
    /// 8: the highest priority, the others when it fails.
    Priority,
    /// 9: by `weight`.
    Weight,
    /// 10: fewest calls first.
    CallLoad,
}

impl Algorithm {
    /// All, with their names in the configuration and their numbers in Kamailio.
    pub const ALL: [(Self, &'static str, u8); 7] = [
        (Self::CallId, "call-id", 0),
        (Self::FromUser, "from-user", 1),
        (Self::ToUser, "to-user", 2),
        (Self::RoundRobin, "round-robin", 4),
        (Self::Priority, "priority", 8),
        (Self::Weight, "weight", 9),
        (Self::CallLoad, "call-load", 10),
    ];

    /// By its name or its number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.parse::<u8>().ok();
        Self::ALL.into_iter().find(|(_, name, n)| *name == text || Some(*n) == number).map(|(a, _, _)| a)
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(a, _, _)| *a == self).map_or("", |(_, name, _)| name)
    }
}

/// What the operator chooses. The defaults are Kamailio's where it has one that does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatchConfig {
    /// Set for requests to our domains that nothing else has a target for.
    pub default_set: Option<u32>,
    /// Whether strangers may call by the default set where others have to prove who they are. Off: they get what there is
    /// without one.
    pub default_open: bool,
    /// Who may call by it all the same.
    pub default_sources: Vec<Cidr>,
    /// For sets that name none.
    pub algorithm: Algorithm,
    /// By set.
    pub algorithms: BTreeMap<u32, Algorithm>,
    /// Time between probes of a destination (`ds_ping_interval`); zero: none are sent.
    pub probe_interval: Duration,
    /// A probe without a final answer by then has failed.
    pub probe_timeout: Duration,
    /// From URI of the probes (`ds_ping_from`).
    pub probe_from: String,
    /// Probe all that do not refuse it (`ds_probing_mode` 1), or only those that are marked or have failed (0).
    pub probe_all: bool,
    /// Answers that say a destination is alive, as ranges of status codes (`ds_ping_reply_codes`).
    pub alive: Vec<(u16, u16)>,
    /// Failures in a row that make a destination inactive (`ds_probing_threshold`).
    pub failures: u32,
    /// Successes in a row that make it active again (`ds_inactive_threshold`).
    pub successes: u32,
    /// A destination that has not answered a call with anything by then is followed by the next one.
    pub patience: Duration,
    /// Failures of a destination after which the next one is tried, as ranges of status codes.
    pub failover: Vec<(u16, u16)>,
    /// Whether calls that fail for want of an answer, and 503, count as failed probes do.
    pub passive: bool,
}

impl Default for DispatchConfig {
    fn default() -> Self {
        Self {
            default_set: None,
            default_open: false,
            default_sources: Vec::new(),
            algorithm: Algorithm::RoundRobin,
            algorithms: BTreeMap::new(),
            probe_interval: Duration::from_secs(10),
            probe_timeout: Duration::from_secs(4),
            probe_from: String::from("sip:dispatcher@localhost"),
            probe_all: true,
            alive: vec![(200, 299)],
            failures: 1,
            successes: 1,
            patience: Duration::from_secs(3),
            failover: vec![(500, 599)],
            passive: true,
        }
    }
}

impl DispatchConfig {
    /// How a destination of this set is chosen.
    #[must_use]
    pub fn algorithm_of(&self, set: u32) -> Algorithm {
        self.algorithms.get(&set).copied().unwrap_or(self.algorithm)
    }

    /// Whether an answer with this status says that a destination is alive.
    #[must_use]
    pub fn is_alive(&self, status: u16) -> bool {
        self.alive.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}
