//! Who campaigns when the leader is known to be gone, so that nobody waits for a lease that nobody holds any more. Only
//! the moment of a campaign is decided here; who may win is decided by the votes, as ever.
//!
//! | what is known | who campaigns |
//! |---|---|
//! | the dead leader's guard names an heir ([`Core::leader_is_dead`]) | the heir, with a vote that leases do not hold up |
//! | the heir's log is shorter than this voter's, which therefore refuses it | this voter, at once ([`Core::stand_instead`]) |
//! | nobody has won after a while | whoever is told to ([`Core::campaign`]), after a round of pre-votes |

use std::sync::PoisonError;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::raft::{
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use tokio::time::Instant;

use super::client::Transport;
use super::core::Core;
use super::types::{Place, RaftId, TypeConfig, Vote, place_of};

/// Between one voter that stands instead of the heir and the next one, in the order of the configuration: of four or
/// more left, several may have to refuse the heir. An election takes less where it is fast.
const STAGGER: Duration = Duration::from_millis(10);

/// Times that a node waits for its disk before it stands; each takes the shortest election timeout at most. By then the
/// others' election timeouts have run out.
const FLUSHES: u32 = 4;

/// Time that the target of a transfer waits for its disk.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);

/// The vote of the leader that is gone, if `reply` refuses only because the candidate's log is shorter than the one here.
///
/// A vote marked as a transfer of leadership is asked for in the term after that of a leader that has given up, or whose
/// guard has: such a leader is not active any more. If its vote is the one that binds this node, too, then nothing does.
fn given_up(me: RaftId, asked: &VoteRequest<TypeConfig>, reply: &VoteResponse<TypeConfig>) -> Option<Vote> {
    let leader = reply.vote.leader_id;
    let shorter = !reply.vote_granted && asked.last_log_id < reply.last_log_id;
    let theirs =
        reply.vote.committed && leader.term + 1 == asked.vote.leader_id.term && leader.voted_for != me;
    (asked.leadership_transfer && shorter && theirs).then_some(reply.vote)
}

impl<T: Transport> Core<T> {
    /// The guard of `dead`, which led in `term`, says that it has killed its agent and taken the floating IP down:
    /// nobody needs to wait for the lease, and `heir` shall campaign.
    pub async fn leader_is_dead(&self, dead: Place, term: u64, heir: Place) {
        let vote = self.raft().metrics().borrow_watched().vote;
        let voted_for = place_of(vote.leader_id.voted_for);
        let led = vote.committed && vote.leader_id.term == term && voted_for == dead;
        let other = vote.leader_id.voted_for != self.config().id;
        if !led || !other || self.silent() {
            return tracing::info!(dead, term, "a notice of death that is not about the present leader");
        }
        *self.0.told_dead.lock().unwrap_or_else(PoisonError::into_inner) = Some((dead, self.now()));
        tracing::info!(dead, term, heir, "the leader is dead, says its guard");
        self.release(vote).await;
        if self.voter_at(heir) == Some(self.config().id) {
            self.campaign_after(vote).await;
        }
    }

    /// A leader asks that another node (or this one) leads after it. This one does so when its disk has the log.
    /// Why it cannot, if it cannot.
    pub(super) async fn lead_after(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<Option<String>, String> {
        let begun = Instant::now();
        loop {
            let heard =
                self.raft().handle_transfer_leader(request.clone()).await.map_err(|e| e.to_string())?;
            match heard {
                Err(TransferLeaderError::LogNotFlushed { .. }) if begun.elapsed() < FLUSH_LIMIT => {}
                Err(e) => {
                    tracing::info!(error = %e, "a transfer of leadership that does not fit");
                    return Ok(Some(e.to_string()));
                }
                Ok(()) => return Ok(None),
            }
        }
    }

    /// Releases this node from its promise to the leader that `vote` elected, if that is still the vote here. At once,
    /// even where it cannot stand itself: whoever stands instead needs its vote.
    async fn release(&self, vote: Vote) {
        // That another one shall follow is all that openraft takes from this.
        self.follow(vote, vote.leader_id.voted_for).await;
    }

    /// Campaigns as the successor of the leader that `vote` elected, if that is still the vote here.
    async fn campaign_after(&self, vote: Vote) {
        for _ in 0..FLUSHES {
            match self.follow(vote, self.config().id).await {
                Some(Err(e @ TransferLeaderError::LogNotFlushed { .. })) => {
                    tracing::info!(error = %e, "the disk is slow: standing when it has written the log");
                }
                Some(Err(e)) => return tracing::info!(error = %e, "too late to stand"),
                Some(Ok(())) | None => return,
            }
        }
    }

    /// "`to` shall lead after `vote`"; `None` if Raft has ended.
    async fn follow(&self, vote: Vote, to: RaftId) -> Option<TransferLeaderResponse<TypeConfig>> {
        let last = self.raft().with_raft_state(|state| state.log_ids.last().cloned()).await.ok()?;
        let answer = self.raft().handle_transfer_leader(TransferLeaderRequest::new(vote, to, last)).await;
        answer.inspect_err(|e| tracing::warn!(error = %e, "the notice was not heard")).ok()
    }

    /// The heir of a leader that is gone has asked for a vote, and may have been refused because its log is shorter:
    /// then it cannot win without this node, and this node stands itself. Otherwise an election timeout would pass.
    pub(super) fn stand_instead(&self, asked: &VoteRequest<TypeConfig>, reply: &VoteResponse<TypeConfig>) {
        let me = self.config().id;
        let Some(gone) = given_up(me, asked, reply) else { return };
        let heir = asked.vote.leader_id.voted_for;
        let away = [place_of(heir), place_of(gone.leader_id.voted_for)];
        let mut left = self.config().places.iter().filter(|p| !away.contains(&p.place));
        let rank = left.position(|p| p.place == place_of(me)).and_then(|rank| u32::try_from(rank).ok());
        let wait = STAGGER * rank.unwrap_or(0);
        let core = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            tracing::info!(heir = place_of(heir), "the heir lacks entries that are here: standing instead");
            // In the heir's term, in which it has voted for itself; so this does not win yet where it is needed.
            core.release(gone).await;
            core.campaign_after(gone).await;
            // In the next one: nobody who follows somebody by now is disturbed.
            core.campaign().await;
        });
    }

    /// Campaigns now and not at the next election timeout, after a round of pre-votes: this node's own promise to a
    /// living leader binds it like its voters' do. Without that round it would vote for itself in spite of it, and with
    /// one more vote lead while the other's lease still holds.
    pub async fn campaign(&self) {
        if self.silent() {
            return;
        }
        if let Err(e) = self.raft().trigger().elect(true).await {
            tracing::warn!(error = %e, "no campaign");
        }
    }
}
