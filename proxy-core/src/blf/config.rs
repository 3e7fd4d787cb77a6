//! Settings of the subscriptions to calls.

/// Who may watch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Watchers {
    /// Who has authenticated, comes from a trusted source, or has a From of a domain of ours (where nobody has to
    /// authenticate, that is a claim).
    #[default]
    Users,
    /// Anybody.
    Anyone,
}

/// PUBLISH, SUBSCRIBE, and who watches calls. `Default` is Kamailio without a presence server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceConfig {
    /// Whether this proxy answers SUBSCRIBE to our users itself: `Event: dialog` with what they do, other packages
    /// with 489. If not, SUBSCRIBE goes to their phones.
    pub enabled: bool,
    /// Who may watch calls.
    pub watchers: Watchers,
    /// Shortest subscription, in seconds (423 below).
    pub min_expires_s: u32,
    /// Longest subscription, and the one given if none is asked for, in seconds.
    pub max_expires_s: u32,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self { enabled: false, watchers: Watchers::Users, min_expires_s: 60, max_expires_s: 3600 }
    }
}
