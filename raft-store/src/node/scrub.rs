//! The scrub: the store of a running node is read again from its disk, slowly and behind everything else. What does not
//! verify any more is replaced from what the node has in memory.
//!
//! | damaged | then |
//! |---|---|
//! | a segment of the log | it is left if it is the present one, a snapshot is written that holds all its entries, and the entries up to there are purged, which removes the file |
//! | a snapshot | it is set aside, and another one is written |
//! | `META`, its copy, the seal, `store/id` | written anew |

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::store::Kept;
use super::types::Raft;
use crate::log::{self, LogWriter, Rot, WeakWriter};
use crate::snap::SledSnaps;

/// Replacements that wait; what is found beyond them is found again by the next round.
const MAX_FOUND: usize = 16;
/// Longest time to wait for a snapshot, and for a purge (10 min): a large state is written at leisure.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks whether a snapshot has come.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How fast a scrub goes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Pause before the first round, and between two.
    pub every: Duration,
    /// Bytes read a second at most.
    pub bytes_per_second: u32,
}

impl Default for Pace {
    /// A round an hour, at a MiB a second: a log of 100 MB takes less than two minutes of it.
    fn default() -> Self {
        Self { every: Duration::from_secs(3_600), bytes_per_second: 1 << 20 }
    }
}

/// What is read again.
pub(super) struct Parts {
    pub(super) log: LogWriter,
    pub(super) snaps: Arc<SledSnaps>,
    pub(super) id: Kept,
}

/// What is to be replaced by a snapshot.
enum Found {
    Segment(Rot),
    /// Set aside already; the number of the newest that is left is smaller than this one's.
    Snapshots(Vec<(PathBuf, String)>),
}

/// A scrub at work. It ends when this is dropped.
pub(super) struct Scrub {
    running: mpsc::Sender<()>,
    ended: futures::channel::oneshot::Receiver<()>,
}

impl Scrub {
    /// Ends it; on return it touches nothing any more. That takes as long as it reads one snapshot.
    pub(super) async fn end(self) {
        drop(self.running);
        // The other end is dropped with the thread.
        let _ = self.ended.await;
    }
}

/// Starts the scrub of a node. `first` is called on its thread: the place to step back.
pub(super) fn start(raft: Raft, parts: Parts, pace: Pace, first: Option<fn()>) -> io::Result<Scrub> {
    let Parts { log, snaps, id } = parts;
    let (found, mut to_replace) = tokio::sync::mpsc::channel(MAX_FOUND);
    let (running, stop) = mpsc::channel::<()>();
    let (ends, ended) = futures::channel::oneshot::channel::<()>();
    let (weak, of_thread) = (log.downgrade(), log.downgrade());
    drop(log);
    let of_thread = Reader { log: of_thread, snaps: snaps.clone(), id, found };
    std::thread::Builder::new().name("relevo-scrub".into()).spawn(move || {
        if let Some(first) = first {
            first();
        }
        of_thread.rounds(pace, &stop);
        drop(ends);
    })?;
    tokio::spawn(async move {
        let mut metrics = raft.metrics();
        loop {
            tokio::select! {
                rot = to_replace.recv() => match rot {
                    Some(Found::Segment(rot)) => replace(&raft, &weak, &rot).await,
                    Some(Found::Snapshots(aside)) => write_another(&raft, &snaps, &aside).await,
                    None => return,
                },
                changed = metrics.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    });
    Ok(Scrub { running, ended })
}

/// What the thread has.
struct Reader {
    log: WeakWriter,
    snaps: Arc<SledSnaps>,
    id: Kept,
    found: tokio::sync::mpsc::Sender<Found>,
}

impl Reader {
    /// Round after round, until the other end of `stop` has gone.
    fn rounds(&self, pace: Pace, stop: &mpsc::Receiver<()>) {
        let goes_on = |pause| matches!(stop.recv_timeout(pause), Err(mpsc::RecvTimeoutError::Timeout));
        while goes_on(pace.every) {
            let Some(stretches) = self.log.upgrade().map(|log| log.with(|log| log.stretches())) else {
                return;
            };
            for stretch in stretches {
                let mut slowly = |bytes: usize| {
                    goes_on(Duration::from_secs_f64(bytes as f64 / f64::from(pace.bytes_per_second.max(1))))
                };
                match stretch.verify(&mut slowly) {
                    Ok(None) => {}
                    // Full: the next round finds it again.
                    Ok(Some(rot)) => drop(self.found.try_send(Found::Segment(rot))),
                    Err(e) => unreadable(&stretch.name, &e),
                }
            }
            if !goes_on(Duration::ZERO) {
                return;
            }
            self.small_files();
            match self.snaps.verify() {
                Ok(aside) if aside.is_empty() => {}
                Ok(aside) => drop(self.found.try_send(Found::Snapshots(aside))),
                Err(e) => unreadable("snap", &e),
            }
        }
    }

    fn small_files(&self) {
        let anew = |file: &str, why: &str| {
            tracing::error!(
                file,
                why,
                "the file is damaged on the disk, and was written anew; look at the disk"
            );
        };
        match log::renew(&self.log) {
            Ok(renewed) => renewed.iter().for_each(|r| anew(r.file, &r.why)),
            Err(e) => unreadable("META, META.copy or SEAL", &e),
        }
        match self.id.renew() {
            Ok(false) => {}
            Ok(true) => anew("id", "it does not say whose store this is"),
            Err(e) => unreadable("id", &e),
        }
    }
}

fn unreadable(file: &str, e: &io::Error) {
    tracing::warn!(file, error = %e, "a part of the store cannot be read again");
}

/// Snapshots were set aside: another one is written.
async fn write_another(raft: &Raft, snaps: &Arc<SledSnaps>, aside: &[(PathBuf, String)]) {
    for (path, why) in aside {
        tracing::error!(path = %path.display(), why, "the snapshot is damaged on the disk, and set aside; another one is written");
    }
    let number = || snaps.newest_number().ok().flatten();
    let before = number();
    let written = async {
        while number() <= before {
            raft.trigger().snapshot().await.map_err(|e| e.to_string())?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok::<(), String>(())
    };
    match tokio::time::timeout(PATIENCE, written).await {
        Ok(Ok(())) => tracing::warn!("the damaged snapshot was replaced; look at the disk"),
        Ok(Err(why)) => tracing::error!(%why, "the damaged snapshot could not be replaced"),
        Err(_) => tracing::error!("no snapshot came in place of the damaged one"),
    }
}

async fn replace(raft: &Raft, log: &WeakWriter, rot: &Rot) {
    let left = log.upgrade().map(|log| log.with(|log| log.leave(&rot.file)));
    let last = match left {
        // It was purged meanwhile.
        None | Some(Ok(None)) => return,
        Some(Ok(Some(last))) => last,
        Some(Err(e)) => {
            tracing::error!(file = rot.file, error = %e, "a damaged part of the log cannot be left");
            return;
        }
    };
    tracing::error!(
        file = rot.file,
        byte = rot.offset,
        why = rot.why,
        last_entry = last,
        "the log is damaged on the disk; this node still has all that was in it, and replaces it by a new snapshot"
    );
    let done = tokio::time::timeout(PATIENCE, snapshot_and_purge(raft, log, &rot.file, last)).await;
    match done {
        Ok(Ok(())) => {
            tracing::warn!(file = rot.file, "the damaged part of the log was replaced; look at the disk")
        }
        Ok(Err(why)) => {
            tracing::error!(file = rot.file, %why, "the damaged part of the log could not be replaced")
        }
        Err(_) => tracing::error!(
            file = rot.file,
            "no snapshot came that would replace the damaged part of the log"
        ),
    }
}

/// Returns once the file has gone.
async fn snapshot_and_purge(raft: &Raft, log: &WeakWriter, file: &str, last: u64) -> Result<(), String> {
    let mut asked = false;
    loop {
        let (snapshot, applied, purged) = {
            let metrics = raft.metrics();
            let m = metrics.borrow_watched();
            let index = |id: Option<super::types::LogId>| id.map(|id| id.index);
            (index(m.snapshot), index(m.last_applied), index(m.purged))
        };
        let Some(gone) = log.upgrade().map(|log| log.with(|log| !log.has(file))) else {
            return Err("the node has ended".into());
        };
        if gone {
            return Ok(());
        }
        if snapshot >= Some(last) {
            if purged < Some(last) {
                raft.trigger().purge_log(last).await.map_err(|e| e.to_string())?;
            }
        } else if applied >= Some(last) && !asked {
            // One that is being written already may hold less: then another is asked for below.
            raft.trigger().snapshot().await.map_err(|e| e.to_string())?;
            asked = true;
        } else {
            asked = false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
