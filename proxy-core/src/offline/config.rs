//! Settings of the messages that are kept.

use std::time::Duration;

/// MESSAGE for users without a phone. `Default` is Kamailio without `msilo`: none is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageStoreConfig {
    /// Whether messages are kept.
    pub enabled: bool,
    /// Most messages that wait for one user.
    pub max_per_user: u32,
    /// Most messages that wait for all users.
    pub max_total: u64,
    /// How long a message waits, at most.
    pub life: Duration,
    /// Largest body, in bytes; a larger message is refused as if there were no store.
    pub max_bytes: usize,
}

impl Default for MessageStoreConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            max_per_user: 50,
            max_total: 100_000,
            life: Duration::from_secs(7 * 86_400),
            max_bytes: 8 * 1024,
        }
    }
}
