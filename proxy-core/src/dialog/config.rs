//! Configuration of dialogs: session timers, and how many calls there may be at a time.

use std::collections::BTreeMap;
use std::time::Duration;

/// What the engine is told about dialogs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogConfig {
    /// Smallest `Session-Expires` that is accepted, in seconds (RFC 4028 §5: at least 90).
    pub min_se_s: u32,
    /// `Session-Expires` that is asked for where the caller asks for none, in seconds; 0: none is asked for.
    pub session_expires_s: u32,
    /// How long an answered call may wait for its ACK until it is ended (Kamailio's `noack_timeout`); `None`: for as long
    /// as a call may last.
    pub no_ack: Option<Duration>,
    /// Most calls at a time.
    pub limits: CallLimits,
}

impl Default for DialogConfig {
    fn default() -> Self {
        Self {
            min_se_s: 90,
            session_expires_s: 0,
            no_ack: Some(Duration::from_secs(60)),
            limits: CallLimits::default(),
        }
    }
}

/// Most calls at a time, under way and answered together; `None` is no limit. The statuses are what the caller of one
/// call too many hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallLimits {
    /// Of one of our users.
    pub caller: Option<u32>,
    /// To one of our users.
    pub callee: Option<u32>,
    /// By one trunk, in and out together.
    pub trunk: Option<u32>,
    /// By these trunks (`l_uuid`), in place of `trunk`.
    pub trunks: BTreeMap<String, u32>,
    /// From one source address that is not a trunk's.
    pub source: Option<u32>,
    /// What a caller hears who has too many.
    pub caller_status: u16,
    /// What the caller of somebody hears who has too many.
    pub callee_status: u16,
    /// What is heard when a trunk has too many.
    pub trunk_status: u16,
    /// What is heard from a source that has too many.
    pub source_status: u16,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            caller: None,
            callee: None,
            trunk: None,
            trunks: BTreeMap::new(),
            source: None,
            caller_status: 403,
            callee_status: 486,
            trunk_status: 503,
            source_status: 503,
        }
    }
}
