//! `[routing]`, `[flood]`, `[voicemail]`, `[speed_dial]` and the `[[route]]` tables.

use proxy_core::routing::RoutingConfig;

use super::table::{Reader, Table};

/// What the stages and routes are configured to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// As the engines take it.
    pub engine: RoutingConfig,
}

/// Reads and checks the sections.
pub(super) fn read(_root: &mut Table<'_, '_>, _reader: &mut Reader<'_>) -> Routing {
    Routing::default()
}
