//! Pauses and planned switchovers keep their bytes: every command, and the state they make.
//! `RELEVO_GOLDEN=write` regenerates the files.

#[path = "common/golden.rs"]
mod common;

use common::golden;
use proxy_core::time::WallTime;
use raft_store::codec::Kind;
use raft_store::command::{Batch, Command};
use raft_store::state::{ClusterState, Pause};

fn pause() -> Command {
    Command::Pause(Pause { at: WallTime(1_000), until: WallTime(1_801_000), reason: "new switch".into() })
}

#[test]
fn commands_and_state_of_maintenance_keep_their_bytes() {
    let plan = Command::Plan { to: 2, at: WallTime(9_000) };
    let commands = vec![pause(), Command::Resume, plan.clone(), Command::Unplan { id: 7 }];
    golden("maintenance_commands", Kind::Command, &Batch(commands));
    let mut state = ClusterState::default();
    state.apply(6, &pause());
    state.apply(7, &plan);
    golden("maintenance_state", Kind::Snapshot, &state);
}
