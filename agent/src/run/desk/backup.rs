//! `relevo backup`: a copy of the replicated state in a file.

use std::path::Path;

use proxy_core::time::WallTime;
use raft_store::backup::Head;
use raft_store::command::Versions;
use serde_json::json;

use crate::admin::Reply;
use crate::bridge::Cluster;
use crate::run::backend::Desk;

impl<C: Cluster> Desk<C> {
    pub(in crate::run) fn backup(&self, file: &Path, force: bool) -> Reply {
        if !file.is_absolute() {
            return Reply::error(
                "a backup needs an absolute path: the node has a folder of its own",
                "name it so",
            );
        }
        // Before the state is read: what is applied by now is in it.
        let facts = self.cluster.facts();
        let head = Head {
            cluster: self.config.cluster.clone(),
            place: self.config.id,
            made_at: WallTime((self.clock)().real.0),
            term: facts.term,
            applied: facts.applied,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            reads: Versions::OURS,
        };
        match self.cluster.backup(file, &head, force) {
            Some(Ok(bytes)) => Reply::Ok {
                ok: json!({ "file": file.display().to_string(), "bytes": bytes, "applied": head.applied, "cluster": head.cluster }),
            },
            Some(Err(e)) => Reply::error(format!("no backup was made: {e}"), e.cure()),
            None => Reply::error("this node keeps no state", "ask a node of the cluster"),
        }
    }
}
