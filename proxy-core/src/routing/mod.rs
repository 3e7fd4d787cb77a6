//! How requests are routed: the configuration of the stages in `route`, and what a walk through them tells.
//!
//! | file | what |
//! |---|---|
//! | `stage` | the stages, their order and names, what is left of each when it is switched off |
//! | `screen` | what REQINIT lets in: floods, scanners, sizes |
//! | `rule` | a route of the configuration: what it matches, what it does |
//! | `pattern`, `cidr` | what users, headers and sources are matched with |
//! | `voicemail` | where unanswered calls go |
//! | `explain` | what each stage decided, for `relevo route explain` |

mod cidr;
mod explain;
mod pattern;
mod rule;
mod screen;
mod stage;
mod voicemail;

pub use crate::route::flood::{Ban, Bans, NewBans, counted_as};
pub use crate::route::strangers::{Refused, Strangers};
pub use cidr::Cidr;
pub use explain::{Explain, Line};
pub use pattern::{Pattern, PatternError};
pub use rule::{Action, Match, Rule, Subject};
pub use screen::{FloodLimit, Screen};
pub use stage::Stage;
pub use voicemail::Voicemail;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most rules of a configuration: each request may be compared with all of them.
pub const MAX_RULES: usize = 1000;
/// Most entries of the speed dial table.
pub const MAX_SPEED_DIALS: usize = 10_000;

/// What the proxy is for requests that start something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// A stateful proxy (RFC 3261 §16): the default.
    #[default]
    Proxy,
    /// A redirect server (§8.3): 302 with the places where the user is.
    Redirect,
    /// A stateless proxy (§16.11): one target, nothing remembered, no takeover of calls either.
    Stateless,
}

/// In which order the contacts of a user are called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fork {
    /// All at once, as Kamailio's default configuration does.
    #[default]
    Parallel,
    /// By descending q, those of equal q at once (RFC 3261 §16.6).
    ByQ,
}

/// Routing of one engine. `Default` is what the proxy does without a `[routing]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingConfig {
    /// Proxy, redirect server or stateless proxy.
    pub mode: Mode,
    /// Stages that are switched off; what is left of them then is in the table of [`Stage`]'s file.
    pub off: BTreeSet<Stage>,
    /// What REQINIT lets in.
    pub screen: Screen,
    /// The routes of the configuration: the first match decides.
    pub rules: Vec<Rule>,
    /// Sources that may send requests for foreign domains through us without authentication. Empty by default: no open
    /// relay.
    pub relay_from: Vec<Cidr>,
    /// Put `P-Hint: outbound` into what goes to foreign domains, as Kamailio does.
    pub p_hint: bool,
    /// Short numbers and the URIs they stand for (Kamailio's `speed_dial`).
    pub speed_dial: BTreeMap<String, String>,
    /// Order of the contacts of a user.
    pub fork: Fork,
    /// How long the contacts of one q are called before the next lower q is tried ([`Fork::ByQ`] only).
    pub fork_after: Duration,
    /// Follow the contacts of a 3xx here, in place of passing it on (RFC 3261 §16.5 allows it for our own users).
    pub follow_redirects: bool,
    /// Where unanswered calls of our users go.
    pub voicemail: Option<Voicemail>,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Proxy,
            off: BTreeSet::new(),
            screen: Screen::default(),
            rules: Vec::new(),
            relay_from: Vec::new(),
            p_hint: true,
            speed_dial: BTreeMap::new(),
            fork: Fork::Parallel,
            fork_after: Duration::from_secs(30),
            follow_redirects: false,
            voicemail: None,
        }
    }
}

impl RoutingConfig {
    /// Whether a stage runs.
    #[must_use]
    pub fn has(&self, stage: Stage) -> bool {
        !self.off.contains(&stage)
    }

    /// Whether new calls may use an rtpengine: what one of these stages asks of it, another has to follow up.
    #[must_use]
    pub fn has_media(&self) -> bool {
        [Stage::Withindlg, Stage::ManageBranch, Stage::ManageReply].into_iter().all(|stage| self.has(stage))
    }
}
