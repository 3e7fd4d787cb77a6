//! `relevo backup` and `relevo restore`: the replicated state in a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use raft_store::backup::{self, Backup, Head};
use raft_store::log::Durability;
use raft_store::node::{Member, Position, Role, Store, StoreError};
use serde_json::{Value, json};

use super::ask::{Problem, show, tell};
use super::print::text;
use super::{Common, EXIT_FAILED, EXIT_USAGE, print};
use crate::admin::Request;
use crate::config::{self, Config};
use crate::run::process::STORE;

/// What `relevo restore` takes.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The file that relevo backup has made
    file: PathBuf,
    /// Only say what it holds
    #[arg(long)]
    check: bool,
    /// Set the store of this node aside, if there is one
    #[arg(long)]
    replace: bool,
    /// Take the state of a cluster of another name
    #[arg(long)]
    other_cluster: bool,
}

pub(super) fn backup(common: &Common, file: &Path, force: bool) -> ExitCode {
    // The node has another working folder.
    let file = match std::path::absolute(file) {
        Ok(file) => file,
        Err(e) => {
            print::complain(&format!("{}: {e}", file.display()), "name a file");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    show(common, &Request::Backup { file, force }, |v| {
        format!(
            "{}: {} bytes, the state of cluster {} at entry {} or later",
            text(&v["file"]),
            text(&v["bytes"]),
            text(&v["cluster"]),
            text(&v["applied"])
        )
    })
}

pub(super) fn restore(common: &Common, asked: &Restore) -> ExitCode {
    tell(common, restored(common, asked), |v| {
        let holds = format!(
            "{}: cluster {}, entry {}, made by node {} with relevo {}: {} registered contacts, {} calls, {} subscribers",
            text(&v["file"]),
            text(&v["cluster"]),
            text(&v["applied"]),
            text(&v["made_by"]),
            text(&v["release"]),
            text(&v["counts"]["bindings"]),
            text(&v["counts"]["dialogs"]),
            text(&v["counts"]["subscribers"]),
        );
        if v["restored"] != json!(true) {
            return holds;
        }
        format!(
            "{holds}\nrestored: start this node (relevo run), which begins the cluster with it; then start the others, which join and \
             set what they have aside"
        )
    })
}

fn restored(common: &Common, asked: &Restore) -> Result<Value, Problem> {
    let file = &asked.file;
    let Backup { head, state } = backup::read(file).map_err(|e| Problem {
        code: EXIT_FAILED,
        error: e.to_string(),
        cure: e.cure().to_owned(),
    })?;
    let counts = state.counts();
    let Head { cluster, place, made_at, term, applied, release, .. } = head;
    let mut said = json!({
        "file": file.display().to_string(),
        "cluster": cluster,
        "made_by": place,
        "made_at_ms": made_at.0,
        "applied": applied,
        "release": release,
        "counts": {
            "bindings": counts.bindings,
            "dialogs": counts.dialogs,
            "subscribers": counts.subscribers,
        },
        "restored": false,
    });
    if asked.check {
        return Ok(said);
    }
    let config = common.load().map_err(|e| Problem {
        code: EXIT_USAGE,
        error: e.to_string(),
        cure: String::from("mend the file, or name another one with --config FILE (or --data DIR)"),
    })?;
    if cluster != config.cluster && !asked.other_cluster {
        return Err(Problem {
            code: EXIT_FAILED,
            error: format!("the backup is of cluster {cluster:?}, this node belongs to {:?}", config.cluster),
            cure: String::from("name a backup of this cluster, or say --other-cluster"),
        });
    }
    let own = own_member(&config)?;
    let data = config.data.join(STORE);
    let durability = match config.durability {
        config::Durability::Disk => Durability::Disk,
        config::Durability::Memory => Durability::Memory,
    };
    let failed = |e: StoreError, cure: &str| Problem {
        code: EXIT_FAILED,
        error: e.to_string(),
        cure: cure.to_owned(),
    };
    let store = Store::lock(&data, &config.cluster, config.id, durability)
        .map_err(|e| failed(e, "stop the node first (systemctl stop relevo)"))?;
    if store.is_there() && !asked.replace {
        return Err(Problem {
            code: EXIT_FAILED,
            error: format!("{} holds a store", data.display()),
            cure: String::from(
                "start the node instead, if that store is whole; or say --replace: it is set aside, and the cluster \
                 begins anew with the backup",
            ),
        });
    }
    let id = store
        .begin_from(&state, Position { term, index: applied }, own)
        .map_err(|e| failed(e, "look at the permissions and the free space of the data folder"))?;
    said["restored"] = json!(true);
    said["data"] = json!(data.display().to_string());
    said["raft_id"] = json!(id);
    Ok(said)
}

fn own_member(config: &Config) -> Result<Member, Problem> {
    let own = config.nodes.iter().find(|node| node.id == config.id).ok_or_else(|| Problem {
        code: EXIT_USAGE,
        error: format!("node {} is not among the nodes of the configuration", config.id),
        cure: String::from("see relevo config check"),
    })?;
    let role = match own.role {
        config::Role::Appliance => Role::Appliance,
        config::Role::Witness => Role::Witness,
    };
    Ok(Member { addr: own.addr, role })
}
