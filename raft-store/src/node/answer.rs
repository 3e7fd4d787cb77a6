//! What peers ask, and what this node answers.

use openraft::async_runtime::WatchReceiver;
use openraft::raft::{AppendEntriesResponse, SnapshotResponse};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use tokio::time::Instant;

use super::client::{Lane, Transport};
use super::core::Core;
use super::inbound::{Hello, Inbound, ProposeRefused, Rpc, RpcReply};
use super::parts::Part;
use super::snapshot::Data;
use super::take_in;
use super::types::{Place, RaftId, TypeConfig, Vote};
use crate::command::Responses;

impl<T: Transport> Core<T> {
    async fn answer(&self, from: Place, lane: Lane, rpc: Rpc) -> Result<RpcReply, String> {
        let raft = &self.0.raft;
        if self.is_retired() && !matches!(rpc, Rpc::Hello) {
            return Err("it has retired, and comes back as a new member".into());
        }
        Ok(match rpc {
            Rpc::Append(rpc) => {
                // A node that has abdicated would not lead either, though it is heard.
                let silent = self.silent() || self.mute_until((self.0.clients.clock)().mono).is_some();
                self.0.clients.polls.decided(rpc.vote.leader_id.term);
                let heartbeat =
                    (lane == Lane::Control && rpc.entries.is_empty()).then_some((rpc.vote, rpc.prev_log_id));
                let came = Instant::now();
                let reply = self.append(lane, rpc).await?;
                if !matches!(reply, AppendEntriesResponse::HigherVote(_)) {
                    self.pace().heard(came);
                }
                match heartbeat {
                    Some((vote, acknowledged)) if reply.is_conflict() => {
                        self.has_forgotten(vote, acknowledged).await
                    }
                    _ if silent => RpcReply::SilentAppend(reply),
                    _ => RpcReply::Append(reply),
                }
            }
            Rpc::Vote(_) | Rpc::PreVote(_) | Rpc::TransferLeader(_) if self.silent() => {
                return Err("silent for one lease after its start".into());
            }
            Rpc::Vote(rpc) => {
                let writing = self.0.clients.polls.write();
                let reply = raft.vote(rpc.clone()).await.map_err(|e| e.to_string())?;
                writing.done(rpc.vote.leader_id.term, reply.vote_granted, Instant::now());
                self.stand_instead(&rpc, &reply);
                RpcReply::Vote(reply)
            }
            Rpc::PreVote(_) if self.0.clients.polls.waits(self.0.gauge.syncs().newest, Instant::now()) => {
                return Err("it waits for votes itself".into());
            }
            Rpc::PreVote(rpc) => RpcReply::Vote(raft.pre_vote(rpc).await.map_err(|e| e.to_string())?),
            Rpc::Snapshot { vote, meta, transfer, offset, data, last } => {
                self.snapshot_part(from, vote, meta, Part { transfer, offset, data, last }).await?
            }
            Rpc::TransferLeader(request) => match self.lead_after(request).await? {
                None => RpcReply::TransferLeader,
                Some(why) => RpcReply::CannotLead(why),
            },
            Rpc::Hello => {
                let initialized = raft.is_initialized().await.map_err(|e| e.to_string())?;
                RpcReply::Hello(Hello { initialized, ..self.all_own_words().await })
            }
            Rpc::Disk => RpcReply::Disk(self.0.gauge.syncs().into()),
            Rpc::Join { id, member } => RpcReply::Join(take_in::take_in(self, from, id, member).await),
            Rpc::Members(ask) => RpcReply::Members(self.change_members_here(ask).await),
            Rpc::Time(told) => {
                RpcReply::Time(self.0.time.answer(from, told, &raft.metrics().borrow_watched()))
            }
            Rpc::Propose(batch) => {
                let (tx, rx) = futures::channel::oneshot::channel();
                // The asker may have gone; the proposal stands.
                self.propose(batch.0, Box::new(move |result| drop(tx.send(result))));
                let unknown = Err(ProposeRefused::Unknown);
                RpcReply::Propose(rx.await.unwrap_or(unknown).map(Responses))
            }
        })
    }
}

impl<T: Transport> Core<T> {
    /// Takes a part of a snapshot; the last one answers for all.
    async fn snapshot_part(
        &self,
        from: Place,
        vote: Vote,
        meta: SnapshotMetaOf<TypeConfig>,
        part: Part,
    ) -> Result<RpcReply, String> {
        let Some(snapshot) = self.0.parts.take(from, part).await? else { return Ok(RpcReply::SnapshotPart) };
        let snapshot = SnapshotOf::<TypeConfig, Data> { meta, snapshot };
        let reply: SnapshotResponse<TypeConfig> =
            self.0.raft.install_full_snapshot(vote, snapshot).await.map_err(|e| e.to_string())?;
        Ok(RpcReply::Snapshot(reply))
    }
}

impl<T: Transport> Inbound for Core<T> {
    async fn handle(&self, from: Place, to: RaftId, lane: Lane, rpc: Rpc) -> RpcReply {
        let me = self.0.config.id;
        if to != me && !matches!(rpc, Rpc::Hello) {
            return RpcReply::Unavailable(format!("node id {to} is no more, this is {me}"));
        }
        self.answer(from, lane, rpc).await.unwrap_or_else(RpcReply::Unavailable)
    }
}
