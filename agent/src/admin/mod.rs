//! The admin socket: one line of JSON in, one line of JSON out, on a unix socket that only the owner may open.
//!
//! Request: `{"command":"status"}`, `{"command":"switchover","node":2}`, `{"command":"ul_show","aor":"sip:a@b"}`,
//! `{"command":"ul_rm","aor":"sip:a@b","contact":"sip:a@10.0.0.1"}`, `{"command":"dlg_list"}`.
//! Reply: `{"ok":…}` or `{"error":"what and why","cure":"what mends it"}`.

pub mod ban;
pub mod cdr;
pub mod client;
pub mod dispatcher;
pub mod dlg;
pub mod maintenance;
pub mod members;
pub mod provision;
pub mod route;
pub mod rtpengine;
pub mod server;
pub mod trace;
pub mod trunk;
pub mod trunk_style;
pub mod views;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest request, bytes.
pub const MAX_REQUEST_BYTES: u64 = 64 << 10;
/// Longest reply, bytes.
pub const MAX_REPLY_BYTES: u64 = 64 << 20;
/// Connections served at a time; more are told so and closed.
pub const MAX_CONNECTIONS: usize = 16;
/// Records in a list; a longer one is cut and says so.
pub const MAX_RECORDS: usize = 20_000;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Everything `relevo status` shows.
    Status {},
    /// What has happened to the service.
    History {
        /// So many of the newest events; all if absent.
        #[serde(default)]
        last: Option<usize>,
    },
    /// A planned hand-over.
    Switchover {
        /// To whom; the best other appliance if absent.
        #[serde(default)]
        node: Option<u16>,
    },
    /// Bindings of one AOR, or all.
    UlShow {
        /// Which AOR.
        #[serde(default)]
        aor: Option<String>,
    },
    /// Removes the bindings of an AOR, or one.
    UlRm {
        /// Which AOR.
        aor: String,
        /// Which contact; all if absent.
        #[serde(default)]
        contact: Option<String>,
    },
    /// The confirmed dialogs and the pending INVITEs.
    DlgList {},
    /// What would become of a request.
    RouteExplain {
        /// Which.
        ask: route::Ask,
    },
    /// Subscribers, domains, aliases, access lists.
    Provision {
        /// What of them.
        ask: provision::Ask,
    },
    /// Sets of backends.
    Dispatcher {
        /// What of them.
        ask: dispatcher::Ask,
    },
    /// One call.
    Dlg {
        /// What of it.
        ask: dlg::Ask,
    },
    /// Messages heard and said.
    Trace {
        /// Which.
        ask: trace::Ask,
    },
    /// Records of calls.
    Cdr {
        /// What of them.
        ask: cdr::Ask,
    },
    /// Accounts at other registrars.
    Trunk {
        /// What of them.
        ask: trunk::Ask,
    },
    /// Media proxies.
    Rtpengine {
        /// What of them.
        ask: rtpengine::Ask,
    },
    /// Sources that are ignored.
    Ban {
        /// What of them.
        ask: ban::Ask,
    },
    /// This node becomes the whole cluster.
    Promote {
        /// All other nodes that vote: somebody has cut their power.
        fenced: Vec<u16>,
        /// Do it; otherwise only check, and say what would come of it.
        #[serde(default)]
        sure: bool,
    },
    /// Who is in the cluster.
    Members {
        /// What of them.
        ask: members::Ask,
    },
    /// Drain marks, pauses, planned switchovers.
    Maintenance {
        /// What of them.
        ask: maintenance::Ask,
    },
    /// The configuration file is read again.
    Reload {},
    /// A copy of the replicated state in a file.
    Backup {
        /// Its absolute path on the node's machine.
        file: std::path::PathBuf,
        /// A file that is there is replaced.
        #[serde(default)]
        force: bool,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// It worked.
    Ok {
        /// The answer.
        ok: Value,
    },
    /// It did not.
    Error {
        /// What is wrong and why.
        error: String,
        /// What mends it.
        cure: String,
    },
}

impl Reply {
    /// A refusal.
    #[must_use]
    pub fn error(error: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Error { error: error.into(), cure: cure.into() }
    }
}

/// Who answers. Called on the thread of the connection; it may wait, within seconds.
pub trait Backend: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Request) -> Reply;
}
