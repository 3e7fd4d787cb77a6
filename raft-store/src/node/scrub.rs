//! The scrub: the log of a running node is read again from its disk, slowly and behind everything else.
//!
//! What does not verify any more is replaced from the node's own applied state: the segment is left if it is the present
//! one, a snapshot is written that holds all its entries, and the entries up to there are purged, which removes the file.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::types::Raft;
use crate::log::{LogWriter, Rot, WeakWriter};

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

/// Starts the scrub of a node; it ends with `raft`. `first` is called on its thread: the place to step back.
pub(super) fn start(raft: Raft, log: &LogWriter, pace: Pace, first: Option<fn()>) -> io::Result<()> {
    let (found, mut to_replace) = tokio::sync::mpsc::channel(MAX_FOUND);
    let (running, stop) = mpsc::channel::<()>();
    let (weak, of_thread) = (log.downgrade(), log.downgrade());
    std::thread::Builder::new().name("relevo-scrub".into()).spawn(move || {
        if let Some(first) = first {
            first();
        }
        rounds(&of_thread, pace, &stop, &found);
    })?;
    tokio::spawn(async move {
        let _running = running;
        let mut metrics = raft.metrics();
        loop {
            tokio::select! {
                rot = to_replace.recv() => match rot {
                    Some(rot) => replace(&raft, &weak, &rot).await,
                    None => return,
                },
                changed = metrics.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    });
    Ok(())
}

/// Round after round, until the other end of `stop` has gone.
fn rounds(log: &WeakWriter, pace: Pace, stop: &mpsc::Receiver<()>, found: &tokio::sync::mpsc::Sender<Rot>) {
    let goes_on = |pause| matches!(stop.recv_timeout(pause), Err(mpsc::RecvTimeoutError::Timeout));
    while goes_on(pace.every) {
        let Some(stretches) = log.upgrade().map(|log| log.with(|log| log.stretches())) else { return };
        for stretch in stretches {
            let mut slowly = |bytes: usize| {
                goes_on(Duration::from_secs_f64(bytes as f64 / f64::from(pace.bytes_per_second.max(1))))
            };
            match stretch.verify(&mut slowly) {
                Ok(None) => {}
                // Full: the next round finds it again.
                Ok(Some(rot)) => drop(found.try_send(rot)),
                Err(e) => {
                    tracing::warn!(file = stretch.name, error = %e, "a part of the log cannot be read again")
                }
            }
        }
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
