//! The life of a node on its thread: the core starts, with a store that exists or a new one, and is watched until it
//! fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use openraft::async_runtime::WatchReceiver;

use super::core::{CoreConfig, CoreError, start_core};
use super::handle::Shared;
use super::join::{self, Beginning};
use super::start::{NodeConfig, StartError};
use super::store::{Opened, Store};
use super::types::raft_id;
use crate::log::Mode;

fn core_config(config: &NodeConfig, id: u64, silent: bool) -> CoreConfig {
    CoreConfig {
        id,
        places: config.places.clone(),
        heartbeat: config.heartbeat,
        election_min: config.election_min,
        election_max: config.election_max,
        silent,
        mode: Mode::Thread,
        on_apply_thread: config.on_threads.map(|t| t.apply),
        on_background_thread: config.on_background_thread,
        snapshots: config.snapshots,
    }
}

/// Starts the core, with a store that exists or a new one, and reports on it for ever.
pub(super) async fn live(
    config: &NodeConfig,
    store: &Store,
    opened: Option<Opened>,
    shared: &Arc<Shared>,
) -> Result<(), StartError> {
    let mut old = opened;
    let (core, writer) = loop {
        let silent = old.is_some();
        let opened = match old.take() {
            Some(opened) => opened,
            None => create(config, store, shared).await?,
        };
        let writer = opened.log.writer().clone();
        if let Some(threads) = config.on_threads {
            writer.on_thread(threads.log);
        }
        let core = core_config(config, opened.id, silent);
        let started = start_core(
            core,
            shared.transport.clone(),
            config.clock.clone(),
            opened.log,
            Box::new(opened.snaps),
        );
        match started.await {
            Ok(core) => break (core, writer),
            Err(CoreError::Incomplete(why)) if silent => {
                drop(writer);
                store.set_aside(&why)?;
                shared.blank.store(true, Ordering::SeqCst);
            }
            Err(e) => return Err(e.into()),
        }
    };
    // Set once, here.
    drop(shared.core.set(core.clone()));
    shared.wake();
    let entering = core.clone();
    tokio::spawn(async move { join::enter(&entering).await });
    let mut disk = writer.fatal();
    drop(writer);
    let mut metrics = core.raft().metrics();
    let mut grant = core.view().grant();
    let mut last = None;
    loop {
        let now = {
            let m = metrics.borrow_watched();
            if let Err(e) = &m.running_state {
                shared.fail(e.to_string());
                return Ok(());
            }
            let acknowledged = m.last_quorum_acked.is_some();
            (m.current_term, m.current_leader, m.state, acknowledged, *m.membership_config.log_id())
        };
        if last.as_ref() != Some(&now) {
            last = Some(now);
            shared.wake();
        }
        tokio::select! {
            changed = metrics.changed() => {
                if changed.is_err() {
                    shared.fail("Raft has ended".into());
                    return Ok(());
                }
            }
            changed = grant.changed() => {
                if changed.is_ok() {
                    shared.wake();
                }
            }
            Ok(()) = disk.changed() => {
                let why = disk.borrow_and_update().clone();
                if let Some(why) = why {
                    shared.fail(format!("the disk failed: {why}"));
                    return Ok(());
                }
            }
        }
    }
}

/// An empty store: find out whether the cluster begins or goes on, and choose the id accordingly.
async fn create(config: &NodeConfig, store: &Store, shared: &Arc<Shared>) -> Result<Opened, StartError> {
    let beginning = join::find_beginning(&shared.transport, config.place, &config.places).await;
    let incarnation = match beginning {
        Beginning::First => 0,
        Beginning::Exists => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(now.as_millis()).unwrap_or(1).max(1)
        }
    };
    let id = raft_id(incarnation, config.place);
    tracing::info!(id, ?beginning, "a new store");
    Ok(store.create(id)?)
}
