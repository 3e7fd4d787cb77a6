//! What can be asked about records of calls.
//!
//! `{"command":"cdr","ask":{"list":{"last":20}}}`, `{"command":"cdr","ask":{"status":{}}}`.

use serde::{Deserialize, Serialize};

/// One question or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// The newest records.
    List {
        /// How many.
        last: usize,
        /// Only of this kind.
        #[serde(default)]
        kind: Option<String>,
    },
    /// How far every place has written.
    Status {},
    /// A node that is no more: nobody waits for it.
    Forget {
        /// Which.
        node: u16,
    },
}
