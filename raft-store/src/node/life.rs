//! The life of a node on its thread: the core starts, with a store that exists or a new one, and is watched until it
//! fails, or has to come back under a new id.
//!
//! ```text
//!            ┌──────────── Empty: find out whether the cluster begins or goes on
//!  open ─────┼──────────── Whole: the core starts, silent for one lease
//!            └─► Damaged: wait for a leader that a majority follows; then the store is set aside, and a new one made;
//!                   ▲      or, where a majority is in doubt and nobody has more: begin anew with what verifies
//!                   └───── a core that must not go on under its id ([`Retired`])
//! ```

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::anew;
use super::core::{Core, CoreConfig, CoreError, start_core};
use super::door::Standing;
use super::handle::Shared;
use super::join::{self, Beginning, Entered, Way};
use super::net::TcpTransport;
use super::retire::Retired;
use super::scrub;
use super::start::{NodeConfig, StartError};
use super::store::{CURES, Damage, Found, Opened, Store, StoreError, later_than};
use super::types::{Vote, raft_id};
use crate::codec::{self, Kind};
use crate::disk::lacks_room;
use crate::log::{LogWriter, Mode};

/// A disk without room for a new store is asked again after this time (1 s).
const ROOM_PAUSE: Duration = Duration::from_secs(1);

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
        boot: config.boot,
    }
}

/// What a core ended with.
enum End {
    /// The node cannot go on; its handles know why.
    Failed,
    /// It comes back under a new id.
    Retired(Retired),
    /// Its store is not whole.
    Damaged(Damage),
}

/// Starts the core, with a store that exists or a new one, and reports on it for ever.
pub(super) async fn live(
    config: &NodeConfig,
    store: &Arc<Store>,
    found: Found,
    shared: &Arc<Shared>,
) -> Result<(), StartError> {
    let mut found = found;
    loop {
        let (opened, silent) = match found {
            Found::Whole(opened) => (opened, true),
            Found::Empty => (create(config, store, shared).await?, false),
            Found::Damaged(damage) => (go_on(config, store, shared, &damage, 0).await?, false),
        };
        found = match run(config, store, opened, silent, shared).await? {
            End::Failed => return Ok(()),
            End::Damaged(damage) => Found::Damaged(damage),
            End::Retired(retired) => {
                let file = store.data().join("store");
                let damage = Damage::new(file, 0, retired.why);
                let begun = match &retired.begins {
                    Some(begins) => anew::begin(config, store, &damage, begins).await.map(Some),
                    None => Ok(None),
                };
                let reach = retired.begins.map(|begins| begins.own);
                Found::Whole(match begun {
                    Ok(Some(opened)) => opened,
                    Ok(None) => go_on(config, store, shared, &damage, retired.incarnation).await?,
                    Err(e) => {
                        tracing::error!(error = %e, "the cluster cannot be begun anew here yet");
                        // Nobody reaches further, so that the others go on waiting for this node.
                        let damage = Damage { reach, ..damage };
                        go_on(config, store, shared, &damage, retired.incarnation).await?
                    }
                })
            }
        };
    }
}

/// One core, from its start to its end.
async fn run(
    config: &NodeConfig,
    store: &Arc<Store>,
    opened: Opened,
    silent: bool,
    shared: &Arc<Shared>,
) -> Result<End, StartError> {
    let writer = opened.log.writer().clone();
    if let Some(threads) = config.on_threads {
        writer.on_thread(threads.log);
    }
    if let Some(term) = newborn_term(&writer) {
        shared.stand(Standing::Newborn { id: opened.id, term });
        join::wait_as_newborn(&shared.transport, config.place, &config.places, term).await;
    }
    let started = start_core(
        core_config(config, opened.id, silent),
        shared.transport.clone(),
        config.clock.clone(),
        opened.log,
        Box::new(opened.snaps.clone()),
    );
    let core = match started.await {
        Ok(core) => core,
        Err(CoreError::Incomplete(why)) => {
            let file = store.data().join("store").join("snap");
            return Ok(End::Damaged(Damage::new(file, 0, why)));
        }
        Err(e) => return Err(e.into()),
    };
    let parts = scrub::Parts { log: writer.clone(), snaps: opened.snaps, id: store.kept_id(opened.id) };
    let first = config.on_threads.map(|t| t.scrub);
    let scrub = scrub::start(core.raft().clone(), parts, config.scrub, first)
        .inspect_err(|e| tracing::warn!(error = %e, "the store is not read again in the background"));
    shared.set_core(Some(core.clone()));
    let end = watch(store, &core, writer, shared).await;
    if let End::Retired(retired) = &end {
        shared.stand(match retired.begins {
            Some(_) => Standing::Beginning,
            None => Standing::Damaged { reach: None },
        });
        shared.set_core(None);
        core.shutdown().await;
        if let Ok(scrub) = scrub {
            // It writes by name, and another store gets these names.
            scrub.end().await;
        }
    }
    Ok(end)
}

/// Passes on what changes, until the core ends.
async fn watch(store: &Store, core: &Core<TcpTransport>, writer: LogWriter, shared: &Arc<Shared>) -> End {
    let mut entering = std::pin::pin!(join::enter(core));
    let mut entered = false;
    let mut disk = writer.fatal();
    drop(writer);
    let mut metrics = core.raft().metrics();
    let mut grant = core.view().grant();
    let mut retired = core.retired();
    let mut leaderless = core.leaderless();
    let mut last = None;
    loop {
        let now = {
            let m = metrics.borrow_watched();
            if let Err(e) = &m.running_state {
                shared.fail(e.to_string());
                return End::Failed;
            }
            let acknowledged = m.last_quorum_acked.is_some();
            (m.current_term, m.current_leader, m.state, acknowledged, *m.membership_config.log_id())
        };
        if last.as_ref() != Some(&now) {
            last = Some(now);
            shared.wake();
        }
        tokio::select! {
            how = &mut entering, if !entered => {
                entered = true;
                match how {
                    Entered::Voter => store.forget_old_asides(),
                    Entered::Renumber(retired) => return End::Retired(retired),
                }
            }
            changed = metrics.changed() => {
                if changed.is_err() {
                    shared.fail("Raft has ended".into());
                    return End::Failed;
                }
            }
            changed = grant.changed() => {
                if changed.is_ok() {
                    shared.wake();
                }
            }
            Ok(()) = leaderless.changed() => {
                shared.wait_for(leaderless.borrow_and_update().clone());
            }
            Ok(()) = retired.changed() => {
                let why = retired.borrow_and_update().clone();
                if let Some(why) = why {
                    return End::Retired(why);
                }
            }
            Ok(()) = disk.changed() => {
                let why = disk.borrow_and_update().clone();
                if let Some(why) = why {
                    shared.fail(format!("the disk failed: {why}"));
                    return End::Failed;
                }
            }
        }
    }
}

/// The term of a store from which the cluster was begun anew, and which has not been used yet.
fn newborn_term(writer: &LogWriter) -> Option<u64> {
    let (vote, untouched) = writer.with(|log| {
        let vote = log.vote().and_then(|bytes| codec::decode::<Vote>(Kind::Vote, bytes).ok());
        (vote, log.entries().is_empty())
    });
    let term = vote?.leader_id.term;
    (untouched && super::rebirth::birth_of(term) > 0).then_some(term)
}

/// An empty store: find out whether the cluster begins or goes on, and choose the id accordingly.
async fn create(config: &NodeConfig, store: &Store, shared: &Arc<Shared>) -> Result<Opened, StartError> {
    shared.stand(Standing::Empty);
    let beginning = join::find_beginning(&shared.transport, config.place, &config.places).await;
    let incarnation = match beginning {
        Beginning::First => 0,
        Beginning::Exists { incarnation } => later_than(incarnation),
    };
    let id = raft_id(incarnation, config.place);
    tracing::info!(id, ?beginning, "a new store");
    make(store, shared, id).await
}

/// A store that cannot be used, or must not be used any more: the node comes back with an empty one under a new id, as
/// soon as there is a cluster that can give it the state. `beyond` is the latest incarnation that it must not take again.
/// Where a majority is in doubt it may be the one that begins anew.
async fn go_on(
    config: &NodeConfig,
    store: &Arc<Store>,
    shared: &Arc<Shared>,
    damage: &Damage,
    beyond: u64,
) -> Result<Opened, StartError> {
    shared.stand(Standing::Damaged { reach: damage.reach });
    if config.places.len() == 1 {
        return Err(StoreError::Damaged(damage.clone()).into());
    }
    shared.wait_for(Some(format!(
        "the store cannot be used: {damage}; no other node leads a majority yet. {CURES}"
    )));
    let mut said = String::new();
    let incarnation = loop {
        match join::find_way(&shared.transport, config.place, &config.places, damage).await {
            Way::Rejoin { incarnation } => break incarnation,
            Way::Begin(begins) => match anew::begin(config, store, damage, &begins).await {
                Ok(opened) => {
                    shared.wait_for(None);
                    return Ok(opened);
                }
                // Nobody else has as much: the others go on waiting for this node, and it tries again.
                Err(e) if e.to_string() != said => {
                    said = e.to_string();
                    tracing::error!(error = %e, "the cluster cannot be begun anew here, and no other node has as much; trying again");
                    shared
                        .wait_for(Some(format!("the cluster cannot be begun anew here: {e}; trying again")));
                }
                Err(_) => {}
            },
        }
    };
    shared.wait_for(None);
    if store.data().join("store").exists() {
        with_room(store, shared, || store.set_aside(&damage.to_string())).await?;
    }
    let id = raft_id(later_than(incarnation.max(beyond)), config.place);
    tracing::warn!(id, "the node comes back as a new member, with an empty store");
    make(store, shared, id).await
}

/// Makes a store as soon as the disk has room for one: an error would end the node until a person comes.
async fn make(store: &Store, shared: &Arc<Shared>, id: u64) -> Result<Opened, StartError> {
    with_room(store, shared, || store.create(id)).await
}

/// Does it again as long as the disk has no room.
async fn with_room<T>(
    store: &Store,
    shared: &Arc<Shared>,
    work: impl Fn() -> Result<T, StoreError>,
) -> Result<T, StartError> {
    let data = store.data().display();
    let mut waits = false;
    loop {
        match work() {
            Err(StoreError::Io { path, why }) if lacks_room(&why) => {
                if !std::mem::replace(&mut waits, true) {
                    let path = path.display();
                    tracing::error!(
                        "{path}: no room for a new store ({why}); make room there (df -h {data})"
                    );
                    shared.wait_for(Some(format!("{path}: no room for a new store: {why}")));
                }
                tokio::time::sleep(ROOM_PAUSE).await;
            }
            done => {
                if waits {
                    shared.wait_for(None);
                }
                return Ok(done?);
            }
        }
    }
}
