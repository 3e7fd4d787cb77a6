//! Heartbeats are answered before the disk has done what it was told before them.
//!
//! openraft answers an append, with entries or without, when all that it has accepted is flushed. For a heartbeat that is
//! too much: on a disk whose sync takes longer than the lease, the lease would end with each sync. What the leader takes
//! from the answer to a heartbeat is one thing only: that this node refuses its vote to others for one lease.
//!
//! | an append | is answered |
//! |---|---|
//! | with entries, or by the lane of entries | by openraft, when they are flushed: the leader counts them as kept |
//! | without, by the control lane, under a vote that is not flushed here | by openraft, when the vote is |
//! | without, by the control lane, under a flushed vote, refused or in conflict | by openraft, at once |
//! | without, by the control lane, under a flushed vote that still binds openraft | here, when the promise is renewed |
//!
//! The promise has been renewed when openraft's core has handled the append. That is known without its answer: a question
//! about its state, queued behind the append, is answered after it. The promise itself lives in memory; a node that starts
//! again is silent for one lease.
//!
//! What follows for a leader whose disk, or whose followers' disks, do nothing any more: it goes on leading. So this comes
//! with the watch over the oldest proposal (`agent::control`), which ends that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use futures::channel::oneshot;
use futures::future::{Either, select};
use openraft::RaftState;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::sync::Semaphore;
use tokio::task::unconstrained;

use super::client::{Lane, Transport};
use super::core::Core;
use super::types::{LogId, TypeConfig};

/// Heartbeats that were answered here while openraft's own answer waits for the disk. With one in 30 ms that is two
/// minutes: a disk that has done nothing for so long is one that does not come back, and the node is not heard any more.
const MAX_EARLY: usize = 4096;

/// How many of them there may be.
pub(super) struct Early(Arc<Semaphore>);

impl Default for Early {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_EARLY)))
    }
}

/// Whether `prev` is where the log here is not in conflict with the leader's.
fn fits(state: &RaftState<TypeConfig>, prev: Option<LogId>) -> bool {
    let Some(prev) = prev else { return true };
    let committed = state.local_committed().map(|id| id.index);
    committed >= Some(prev.index) || state.log_ids.get(prev.index) == Some(prev)
}

impl<T: Transport> Core<T> {
    /// Answers AppendEntries that came by `lane`, and remembers when a leader was heard.
    pub(super) async fn append(
        &self,
        lane: Lane,
        rpc: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, String> {
        let came = self.now();
        let answer = self.append_as_told(lane, rpc).await;
        if !matches!(answer, Err(_) | Ok(AppendEntriesResponse::HigherVote(_))) {
            self.0.led_at.fetch_max(came.0, Ordering::Relaxed);
        }
        answer
    }

    /// See the table of the module.
    async fn append_as_told(
        &self,
        lane: Lane,
        rpc: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, String> {
        let raft = self.raft();
        let (vote, prev) = (rpc.vote, rpc.prev_log_id);
        let is_heartbeat = lane == Lane::Control && rpc.entries.is_empty();
        if !is_heartbeat || !vote.committed || raft.watch_vote_progress().get() != Some(vote) {
            return raft.append_entries(rpc).await.map_err(|e| e.to_string());
        }
        let Ok(permit) = self.early().0.clone().try_acquire_owned() else {
            return Err("its disk has done nothing for minutes".into());
        };
        let core = raft.clone();
        // Without tokio's budget, which could end just then: the first poll is what puts the append into openraft's queue,
        // and the question must stand behind it.
        let mut appended = Box::pin(unconstrained(async move { core.append_entries(rpc).await }));
        if let Poll::Ready(answer) = futures::poll!(appended.as_mut()) {
            return answer.map_err(|e| e.to_string());
        }
        let (tell, told) = oneshot::channel();
        let look = move |state: &RaftState<TypeConfig>| {
            let renewed = *state.vote_ref() == vote && fits(state, prev);
            // Nobody listens any more where openraft's own answer came first.
            let _ = tell.send(renewed);
        };
        raft.external_request(look).await.map_err(|e| e.to_string())?;
        let (renewed, mut appended) = match select(appended, told).await {
            Either::Left((answer, _)) => return answer.map_err(|e| e.to_string()),
            Either::Right((renewed, appended)) => (renewed, appended),
        };
        // A refusal or a conflict is told by openraft at once, so that it is there by now.
        if let Poll::Ready(answer) = futures::poll!(appended.as_mut()) {
            return answer.map_err(|e| e.to_string());
        }
        if renewed != Ok(true) {
            return appended.await.map_err(|e| e.to_string());
        }
        tokio::spawn(async move {
            let _ = appended.await;
            drop(permit);
        });
        Ok(AppendEntriesResponse::Success)
    }
}
