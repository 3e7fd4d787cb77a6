//! openraft's calls, carried by a [`Transport`]; notes which of them a follower acknowledged, and when they were sent.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::OptionalSend;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use proxy_core::time::Clocks;
use tokio::time::Instant;

use super::ack::{Acks, Conflict};
use super::entries::Entries;
use super::inbound::{Rpc, RpcReply};
use super::net::Path;
use super::polls::{Polls, VOTE_PATIENCE};
use super::runtime::patient;
use super::snapshot::Data;
use super::types::{Member, Place, RaftId, TypeConfig, Vote, place_of};
use crate::command::Versions;
use crate::log::{Gauge, Mode};

/// Bytes of a snapshot sent at once.
pub const SNAPSHOT_PART_BYTES: usize = 512 << 10;

/// Time a part of a snapshot may take. One that was lost on the way keeps the peer from all entries that long, and the
/// cluster from its second copy.
const SNAPSHOT_PART_LIMIT: Duration = Duration::from_secs(3);

/// The last part is answered only when the whole is on disk, which may take a second more for so many bytes (8 MiB).
const SNAPSHOT_BYTES_PER_SECOND: u64 = 8 << 20;

/// Time that entries may take to be answered: the follower's disk is in it, which openraft's heartbeat interval does
/// not foresee. Sent again earlier, they would only make a slow disk slower.
const ENTRIES_LIMIT: Duration = Duration::from_millis(500);

/// Time that a heartbeat has to be answered at least; where the lease is longer, it has as long as that.
const LATE_LIMIT: Duration = Duration::from_millis(250);

/// Time beyond openraft's own for the answer to a transfer of leadership.
const TRANSFER_GRACE: Duration = Duration::from_millis(50);

/// Which connection a call takes, so that a heartbeat never waits behind a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Heartbeats, votes, transfers, questions.
    Control,
    /// Entries and snapshots, and proposals made on another node than the leader.
    Bulk,
    /// Nothing but packets that show whether they pass.
    Probe,
}

/// Why a peer gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("node {target} gave no answer: {why}")]
pub struct NoAnswer {
    /// Which peer.
    pub target: RaftId,
    /// Why not.
    pub why: String,
}

/// Carries a question to a peer and brings its answer: TCP in an agent, a simulation in tests.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Asks `target`. Gives up after `limit` at the latest.
    fn call(
        &self,
        target: RaftId,
        member: Member,
        lane: Lane,
        rpc: Rpc,
        limit: Duration,
    ) -> impl Future<Output = Result<RpcReply, NoAnswer>> + Send;

    /// What is known of the way between this node and `place`.
    fn path(&self, _place: Place) -> Path {
        Path::default()
    }

    /// Which format versions `place` has said that it reads, if it has said so to this process.
    fn reads(&self, place: Place) -> Option<Versions> {
        let _ = place;
        Some(Versions::OURS)
    }
}

/// The clocks of this machine: CLOCK_BOOTTIME, on which acknowledgements are counted, and the wall clock.
pub type Clock = Arc<dyn Fn() -> Clocks + Send + Sync>;

/// Makes the clients of one node.
#[derive(Clone)]
pub struct Clients<T> {
    pub(super) transport: T,
    pub(super) acks: Arc<Acks>,
    /// How entries fare.
    pub(super) entries: Arc<Entries>,
    /// Votes that this node asks for and gives.
    pub(super) polls: Arc<Polls>,
    /// The vote of this node, once Raft runs.
    pub(super) vote: Arc<OnceLock<OwnVote>>,
    /// How long syncs take here.
    pub(super) gauge: Arc<Gauge>,
    /// Until when this node says nothing as a leader or candidate, ns of the clock: it has abdicated.
    pub(super) mute_until: Arc<AtomicU64>,
    /// The last term in which this node told a peer that another shall lead; 0: never.
    pub(super) transferred_in: Arc<AtomicU64>,
    pub(super) refused: Arc<Refused>,
    pub(super) clock: Clock,
    /// Whether there are threads for what waits for the disk.
    pub(super) mode: Mode,
}

/// What the node said that was to lead next, if it refused: the term that was to end, and why.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<Option<(u64, String)>>);

impl Refused {
    fn note(&self, term: u64, why: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((term, why));
    }

    /// Why nobody followed in `term`, if that is known.
    pub(super) fn of(&self, term: u64) -> Option<String> {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().filter(|(of, _)| *of == term).map(|(_, why)| why.clone())
    }
}

impl<T> Clients<T> {
    /// Whether this node may still speak under `vote`: it has given no later one, and has told nobody that another shall
    /// lead.
    fn leads_on(&self, vote: &Vote) -> bool {
        let term = vote.leader_id.term;
        self.transferred_in.load(Ordering::SeqCst) < term && self.vote.get().is_none_or(|own| own() == *vote)
    }
}

impl<T: Transport> RaftNetworkFactory<TypeConfig> for Clients<T> {
    type Network = Client<T>;

    async fn new_client(&mut self, target: RaftId, node: &Member) -> Client<T> {
        Client { shared: self.clone(), target, member: *node, lane: Lane::Bulk }
    }

    async fn new_heartbeat_client(&mut self, target: RaftId, node: &Member) -> Client<T> {
        Client { shared: self.clone(), target, member: *node, lane: Lane::Control }
    }
}

/// Says how this node votes now.
pub(super) type OwnVote = Box<dyn Fn() -> Vote + Send + Sync>;

/// The client of one peer.
pub struct Client<T> {
    shared: Clients<T>,
    target: RaftId,
    member: Member,
    lane: Lane,
}

type CallError = RPCError<TypeConfig>;

fn unreachable(e: &(impl std::error::Error + 'static)) -> CallError {
    RPCError::Unreachable(Unreachable::new(e))
}

impl<T: Transport> Client<T> {
    async fn call(&self, lane: Lane, rpc: Rpc, limit: Duration) -> Result<RpcReply, NoAnswer> {
        match self.reply(lane, rpc, limit).await? {
            RpcReply::Unavailable(why) => Err(NoAnswer { target: self.target, why }),
            reply => Ok(reply),
        }
    }

    /// The same, where it counts whether the peer itself says that it cannot.
    async fn reply(&self, lane: Lane, rpc: Rpc, limit: Duration) -> Result<RpcReply, NoAnswer> {
        if (self.shared.clock)().mono.0 < self.shared.mute_until.load(Ordering::SeqCst) {
            return Err(NoAnswer { target: self.target, why: "this node has abdicated and is mute".into() });
        }
        self.shared.transport.call(self.target, self.member, lane, rpc, limit).await
    }

    async fn append(
        &self,
        rpc: AppendEntriesRequest<TypeConfig>,
        limit: Duration,
    ) -> Result<AppendEntriesResponse<TypeConfig>, NoAnswer> {
        let term = rpc.vote.leader_id.term;
        let sent = (self.shared.clock)().mono;
        let has_entries = !rpc.entries.is_empty();
        self.shared.polls.decided(term);
        if has_entries {
            self.shared.entries.sent(term, self.target, sent);
        }
        let names = rpc.prev_log_id.map(|id| id.index);
        let offers = rpc.entries.last().map(|entry| entry.log_id.index).or(names);
        // Before it is sent: an answer to an earlier question, which comes late, proves nothing about this moment.
        let acknowledged = self.shared.acks.index(term, self.target);
        let (reply, silent) = match self.call(self.lane, Rpc::Append(rpc), limit).await? {
            RpcReply::Append(reply) => (reply, false),
            RpcReply::SilentAppend(reply) => (reply, true),
            RpcReply::Forgotten { last } => {
                return Err(self.backwards(term, names, Some(last)));
            }
            other => return Err(self.odd(&other)),
        };
        if self.shared.acks.is_lost(term, self.target) {
            // Its next conflict names what it has lost, and nobody knows any more that it had it.
            return Err(self.backwards(term, names, None));
        }
        if has_entries {
            self.shared.entries.answered(term, self.target, (self.shared.clock)().mono);
        }
        if matches!(reply, AppendEntriesResponse::Conflict)
            && let Some(named) = names
        {
            match Conflict::of(named, acknowledged, self.shared.acks.index(term, self.target)) {
                Conflict::Backwards => return Err(self.backwards(term, names, None)),
                Conflict::Overtaken => {
                    self.shared.acks.record(term, self.target, sent, silent);
                    let why = format!("it lacked entry {named} when it was asked, and has it by now");
                    return Err(NoAnswer { target: self.target, why });
                }
                Conflict::Lacks => {}
            }
        }
        if !matches!(reply, AppendEntriesResponse::HigherVote(_)) {
            self.shared.acks.record(term, self.target, sent, silent);
        }
        if let (AppendEntriesResponse::Success, Some(index)) = (&reply, offers) {
            self.shared.acks.has(term, self.target, index, sent);
        }
        Ok(reply)
    }

    async fn transfer(
        &self,
        req: TransferLeaderRequest<TypeConfig>,
        limit: Duration,
    ) -> Result<TransferLeaderResponse<TypeConfig>, NoAnswer> {
        let term = req.from_leader().leader_id.term;
        let chosen = *req.to_node_id() == self.target;
        match self.call(Lane::Control, Rpc::TransferLeader(req), limit).await? {
            RpcReply::TransferLeader => Ok(Ok(())),
            RpcReply::CannotLead(why) => {
                if chosen {
                    self.shared.refused.note(term, why.clone());
                }
                Err(NoAnswer { target: self.target, why })
            }
            other => Err(self.odd(&other)),
        }
    }

    /// The peer lacks what it had acknowledged. openraft must not hear of it: it would count the entries as they were, or
    /// take the peer's log back, and the peer would vote as if it knew them. The peer comes back under a new id.
    fn backwards(&self, term: u64, acknowledged: Option<u64>, last: Option<u64>) -> NoAnswer {
        let place = place_of(self.target);
        let named = acknowledged.unwrap_or(0);
        let why = match last {
            Some(last) => format!(
                "node {place} went backwards: it had acknowledged entry {named}, and now ends at {last}"
            ),
            None => {
                format!("node {place} went backwards: it had acknowledged entry {named}, and now lacks it")
            }
        };
        if self.shared.acks.lost(term, self.target) {
            tracing::warn!("{why}; it does not count until it is taken in again under a new id");
        }
        NoAnswer { target: self.target, why }
    }

    fn odd(&self, reply: &RpcReply) -> NoAnswer {
        NoAnswer { target: self.target, why: format!("it answered something else: {reply:?}") }
    }

    async fn ask_vote(&self, rpc: Rpc, option: &RPCOption) -> Result<VoteResponse<TypeConfig>, CallError> {
        match self.reply(Lane::Control, rpc, option.hard_ttl()).await.map_err(|e| unreachable(&e))? {
            RpcReply::Vote(reply) => Ok(reply),
            RpcReply::Unavailable(why) => {
                self.shared.polls.cannot(self.target);
                Err(unreachable(&NoAnswer { target: self.target, why }))
            }
            other => Err(unreachable(&self.odd(&other))),
        }
    }

    /// Asks for a vote until it is answered, or this node does not stand in that term any more. The same question finds
    /// the same answer: a connection that breaks, or a voter that waits for its disk, costs nothing but time.
    async fn poll(
        &self,
        rpc: VoteRequest<TypeConfig>,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, CallError> {
        let asking = self.shared.polls.ask(rpc.vote.leader_id.term, self.target);
        loop {
            let answered = self.ask_vote(Rpc::Vote(rpc.clone()), option).await;
            if answered.is_err() {
                tokio::time::sleep(UNREACHABLE_PAUSE).await;
            }
            // A node that has voted in a later term asks for no votes in an earlier one.
            let is_late =
                self.shared.vote.get().is_some_and(|own| own().leader_id.term > rpc.vote.leader_id.term);
            if answered.is_ok() || !asking.stands() || is_late {
                return answered;
            }
        }
    }

    /// Appends in a task of its own: openraft may drop the question earlier, but an answer that comes later is an
    /// acknowledgement of the time when the question was sent all the same.
    async fn ask(
        &self,
        rpc: AppendEntriesRequest<TypeConfig>,
        limit: Duration,
    ) -> Result<AppendEntriesResponse<TypeConfig>, CallError> {
        let asked =
            Self { shared: self.shared.clone(), target: self.target, member: self.member, lane: self.lane };
        match tokio::spawn(async move { asked.append(rpc, limit).await }).await {
            Ok(result) => result.map_err(|e| unreachable(&e)),
            Err(e) => Err(unreachable(&e)),
        }
    }

    /// A heartbeat, said again in each interval until it is answered. openraft would give up after the first, and count no
    /// answer that comes later: with answers that are always late, its lease would be over though all follow. What it
    /// counts is dated by the first question, so that an answer to any of them proves as much.
    async fn heartbeat(
        &self,
        rpc: AppendEntriesRequest<TypeConfig>,
        every: Duration,
    ) -> Result<AppendEntriesResponse<TypeConfig>, CallError> {
        let limit = every.max(LATE_LIMIT).max(self.shared.polls.election());
        let mut asked = FuturesUnordered::new();
        let answered = async {
            loop {
                if asked.is_empty() || self.shared.leads_on(&rpc.vote) {
                    asked.push(self.ask(rpc.clone(), limit));
                }
                tokio::select! {
                    biased;
                    Some(answer) = asked.next() => return answer,
                    () = tokio::time::sleep(every) => {}
                }
            }
        };
        patient(limit, answered).await
    }

    /// The next part of a snapshot, read from the disk beside the Raft thread (which a simulation does not have).
    async fn part(&self, data: &Data, offset: u64) -> Result<Vec<u8>, NoAnswer> {
        let no_answer = |why: String| NoAnswer { target: self.target, why };
        let data = data.clone();
        let read = move || data.read(offset, SNAPSHOT_PART_BYTES);
        let part = match self.shared.mode {
            Mode::Inline => read(),
            Mode::Thread => tokio::task::spawn_blocking(read).await.map_err(|e| no_answer(e.to_string()))?,
        };
        part.map_err(|e| no_answer(format!("the snapshot here cannot be read: {e}")))
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, Data>,
    ) -> Result<SnapshotResponse<TypeConfig>, NoAnswer> {
        let transfer = (self.shared.clock)().mono.0;
        let mut offset = 0;
        loop {
            let data = self.part(&snapshot.snapshot, offset).await?;
            let end = offset + data.len() as u64;
            let last = end == snapshot.snapshot.bytes();
            let rpc = Rpc::Snapshot { vote, meta: snapshot.meta.clone(), transfer, offset, data, last };
            let to_disk = if last { end / SNAPSHOT_BYTES_PER_SECOND } else { 0 };
            let limit = SNAPSHOT_PART_LIMIT + Duration::from_secs(to_disk);
            let sent = (self.shared.clock)().mono;
            match self.call(Lane::Bulk, rpc, limit).await? {
                RpcReply::Snapshot(reply) => {
                    // Before openraft hears of it: what was asked earlier, and is answered later, is overtaken by it.
                    if let Some(holds) = snapshot.meta.last_log_id.as_ref().filter(|_| reply.vote == vote) {
                        self.shared.acks.has(vote.leader_id.term, self.target, holds.index, sent);
                    }
                    return Ok(reply);
                }
                RpcReply::SnapshotPart if !last => offset = end,
                other => return Err(self.odd(&other)),
            }
        }
    }
}

impl<T: Transport> RaftNetworkV2<TypeConfig> for Client<T> {
    type SnapshotData = Data;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, CallError> {
        if rpc.entries.is_empty() && self.lane == Lane::Control {
            return self.heartbeat(rpc, option.hard_ttl()).await;
        }
        self.ask(rpc, option.hard_ttl().max(ENTRIES_LIMIT)).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, CallError> {
        // Longer than openraft foresees: a vote is given when it is on the voter's disk.
        patient(VOTE_PATIENCE, self.poll(rpc, &option)).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, CallError> {
        if let Some(why) =
            self.shared.polls.why_not(self.target, self.shared.gauge.syncs().newest, Instant::now())
        {
            return Err(unreachable(&NoAnswer { target: self.target, why: why.into() }));
        }
        self.ask_vote(Rpc::PreVote(rpc), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, Data>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = std::pin::pin!(self.send_snapshot(vote, snapshot));
        match futures::future::select(send, std::pin::pin!(cancel)).await {
            futures::future::Either::Left((result, _)) => {
                result.map_err(|e| StreamingError::Unreachable(Unreachable::new(&e)))
            }
            futures::future::Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, CallError> {
        // Here, and not only where the transfer is asked for: by then the term may be another, and openraft transfers
        // of its own accord, too (a leader that was removed). Whoever hears this need not keep its promise any more.
        let term = req.from_leader().leader_id.term;
        self.shared.transferred_in.fetch_max(term, Ordering::SeqCst);
        // A task of its own: the node may have to write its log first, and says only after openraft's patience is over
        // what has come of it.
        let limit = option.hard_ttl() + TRANSFER_GRACE;
        let asked = Self {
            shared: self.shared.clone(),
            target: self.target,
            member: self.member,
            lane: Lane::Control,
        };
        let answer = tokio::spawn(async move { asked.transfer(req, limit).await });
        match answer.await {
            Ok(result) => result.map_err(|e| unreachable(&e)),
            Err(e) => Err(unreachable(&e)),
        }
    }

    fn backoff(&self) -> Option<openraft::network::Backoff> {
        // A node that came back must be heard within a heartbeat: a refused connection costs nothing.
        Some(openraft::network::Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE)))
    }
}

/// Pause after a peer could not be reached.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(50);
