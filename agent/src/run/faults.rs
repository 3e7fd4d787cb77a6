//! What a fault of this program (a panic) comes to, by where it happens:
//!
//! | thread | then |
//! |---|---|
//! | an engine, at a message | the engine begins anew from the replicated state ([`crate::net::engine`]) |
//! | an engine, at a record, a timer, a verdict or a chore | that one is left out (`proxy_core::engine`) |
//! | the one that applies, at a command | the command is refused on every node (`raft_store::node`) |
//! | one that serves one connection, one operator, or looks after one thing that can be missed | that thread ends |
//! | any other | the process ends at once, and the guard acts |

use std::panic::{PanicHookInfo, set_hook};
use std::path::Path;

use raft_store::contain::{call_witness, is_contained};

use crate::net::poison::{FOLDER, keep};

/// Threads without which a node still does what it must, by the beginnings of their names.
const EXPENDABLE: [&str; 5] = ["relevo-admin", "relevo-net", "relevo-second", "relevo-hep", "relevo-health"];

/// From here on a panic that nobody contains ends the process: a node that has lost a thread must not look like one
/// that works.
pub fn end_on_panic() {
    set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        tracing::error!("a fault of relevo in thread {name}: {info}");
        if !is_contained() && !is_expendable(name) {
            std::process::abort();
        }
    }));
}

/// From here on a command that cannot be applied is kept in the data folder, to be sent in.
pub fn keep_poison(data: &Path) {
    let folder = data.join(FOLDER);
    call_witness(Box::new(move |index, text| {
        if let Some(path) = keep(&folder, &format!("command-{index}"), text.as_bytes()) {
            tracing::error!("the command that cannot be applied is in {}: please send it in", path.display());
        }
    }));
}

fn is_expendable(name: &str) -> bool {
    EXPENDABLE.iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_needs_is_not_expendable() {
        for name in [
            "main",
            "relevo-raft",
            "relevo-log",
            "relevo-apply",
            "relevo-control",
            "relevo-sip-0",
            "relevo-udp",
        ] {
            assert!(!is_expendable(name), "{name}");
        }
        assert!(is_expendable("relevo-admin-c"));
    }
}
