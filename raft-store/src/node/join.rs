//! How a cluster begins, and how a node that has lost its store comes back.
//!
//! | own store | peers say | then |
//! |---|---|---|
//! | empty | all: not part of a cluster | make a store with the id of the first start, incarnation 0 |
//! | empty | one: part of a cluster | make one with a new incarnation |
//! | empty | some are silent, nobody is part of a cluster | wait: the cluster might be among the silent |
//! | incarnation 0, no membership | all: incarnation 0, no membership | initialize; all do the same |
//! | incarnation 0, no membership | one: part of a cluster | wait for its leader: this id is among its voters |
//! | incarnation 0, no membership | else | wait: a node that is still empty must not find the cluster begun |
//! | later incarnation, no voter | | ask the leader to be taken in |
//! | a voter in its own membership | | go on |
//!
//! A voter that has forgotten its votes could give one twice. That is why an empty store never votes under an id that
//! an existing cluster knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};

use super::client::{Lane, Transport};
use super::core::{Core, Peer};
use super::inbound::{Hello, JoinReply, Rpc, RpcReply};
use super::types::{Member, Place, RaftId, place_of, raft_id};

/// Pause between two rounds of questions.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Time a peer has to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// Time a change of membership may take until the joiner is told to ask again.
const JOIN_STEP_LIMIT: Duration = Duration::from_secs(10);
/// A learner this close behind becomes a voter.
const JOIN_LAG: u64 = 64;

/// What the peers of an empty node say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Nobody is part of a cluster.
    First,
    /// There is a cluster.
    Exists,
}

async fn hello<T: Transport>(transport: &T, peer: Peer) -> Option<Hello> {
    let target = raft_id(0, peer.place);
    match transport.call(target, peer.into(), Lane::Control, Rpc::Hello, ANSWER_LIMIT).await {
        Ok(RpcReply::Hello(hello)) => Some(hello),
        Ok(_) | Err(_) => None,
    }
}

/// Asks all others until it is clear whether there is a cluster.
pub async fn find_beginning<T: Transport>(transport: &T, me: Place, places: &[Peer]) -> Beginning {
    let mut rounds = 0_u32;
    loop {
        let others = places.iter().filter(|p| p.place != me);
        let answers = futures::future::join_all(others.map(|p| hello(transport, *p))).await;
        if answers.iter().flatten().any(|h| h.initialized) {
            return Beginning::Exists;
        }
        if answers.iter().all(Option::is_some) {
            return Beginning::First;
        }
        // Every ten seconds, so that the operator knows what it waits for.
        if rounds.is_multiple_of(100) {
            let silent = answers.iter().filter(|a| a.is_none()).count();
            tracing::info!(
                silent,
                "the store is empty: waiting until every node has said that it knows no cluster"
            );
        }
        rounds = rounds.wrapping_add(1);
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// Brings a started node into its cluster: initializes, joins, or only waits for the leader. Returns once its
/// membership knows it as a voter.
pub async fn enter<T: Transport>(core: &Core<T>) {
    let me = core.config().id;
    loop {
        if core.is_settled_voter() {
            return;
        }
        if me == raft_id(0, place_of(me)) {
            begin(core).await;
        } else {
            ask_to_join(core).await;
        }
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// Incarnation 0: initialize, unless the cluster exists; then its leader will send the membership.
async fn begin<T: Transport>(core: &Core<T>) {
    let config = core.config();
    let transport = &core.clients().transport;
    for peer in config.places.iter().filter(|p| p.place != place_of(config.id)) {
        match hello(transport, *peer).await {
            Some(said) if said.id == Some(raft_id(0, peer.place)) && !said.initialized => {}
            _ => return,
        }
    }
    let members: BTreeMap<RaftId, Member> =
        config.places.iter().map(|p| (raft_id(0, p.place), Member::from(*p))).collect();
    match core.raft().initialize(members).await {
        Ok(()) => tracing::info!("a new cluster begins"),
        // Another node was faster and has already sent its log.
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
        Err(e) => tracing::warn!(error = %e, "the cluster cannot be initialized"),
    }
}

async fn ask_to_join<T: Transport>(core: &Core<T>) {
    let config = core.config();
    let me = place_of(config.id);
    let transport = &core.clients().transport;
    let Some(own) = config.places.iter().find(|p| p.place == me) else { return };
    for peer in config.places.iter().filter(|p| p.place != me) {
        let Some(said) = hello(transport, *peer).await else { continue };
        let Some(leader) = said.leader else { continue };
        let Some(leader_at) = config.places.iter().find(|p| p.place == place_of(leader)) else { continue };
        let rpc = Rpc::Join { id: config.id, member: Member::from(*own) };
        match transport.call(leader, (*leader_at).into(), Lane::Control, rpc, JOIN_STEP_LIMIT).await {
            Ok(RpcReply::Join(JoinReply::Joined | JoinReply::Wait)) => return,
            Ok(RpcReply::Join(JoinReply::Refused(why))) => {
                tracing::error!(%why, "the cluster does not take this node in");
                return;
            }
            Ok(_) => {}
            Err(e) => tracing::debug!(error = %e, "nobody to ask for entry"),
        }
    }
}

/// The leader's part: learner first, voter once it has caught up, in the place of what had its place before.
pub(super) async fn take_in<T: Transport>(
    core: &Core<T>,
    from: Place,
    id: RaftId,
    member: Member,
) -> JoinReply {
    if from != place_of(id) || !core.config().places.iter().any(|p| p.place == from) {
        return JoinReply::Refused(format!("place {from} is not in the configuration of the leader"));
    }
    // One at a time; a second asker waits its turn by asking again.
    let Ok(_turn) = core.joining().try_lock() else { return JoinReply::Wait };
    match tokio::time::timeout(JOIN_STEP_LIMIT, take_in_now(core, id, member)).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(why)) => {
            tracing::warn!(id, %why, "a node could not be taken in yet");
            JoinReply::Wait
        }
        Err(_) => JoinReply::Wait,
    }
}

async fn take_in_now<T: Transport>(core: &Core<T>, id: RaftId, member: Member) -> Result<JoinReply, String> {
    let raft = core.raft();
    let metrics = raft.metrics().borrow_watched().clone();
    if metrics.current_leader != Some(core.config().id) {
        return Ok(metrics.current_leader.map_or(JoinReply::Wait, JoinReply::AskLeader));
    }
    let membership = metrics.membership_config.membership().clone();
    let voters: BTreeSet<_> = membership.voter_ids().collect();
    let votes = voters.contains(&id);
    if votes && membership.get_joint_config().len() == 1 {
        return Ok(JoinReply::Joined);
    }
    if voters.iter().any(|v| place_of(*v) == place_of(id) && *v > id) {
        return Ok(JoinReply::Refused("a later incarnation of this node is a voter already".into()));
    }
    if membership.get_node(&id).is_none() {
        tracing::info!(id, place = place_of(id), "a node with an empty store is taken in as a learner");
        raft.add_learner(id, member, false).await.map_err(|e| e.to_string())?;
    }
    let behind = metrics.replication.as_ref().and_then(|r| r.get(&id)).map(|matched| {
        let matched = matched.as_ref().map_or(0, |log_id| log_id.index);
        metrics.last_log_index.unwrap_or(0).saturating_sub(matched)
    });
    // One that votes already is here because a former leader ended between the two steps of the change below; the
    // loss of one more node would then stop the cluster, so that it must not stay.
    if !votes && behind.is_none_or(|lag| lag > JOIN_LAG) {
        return Ok(JoinReply::Wait);
    }
    let of_place = |other: &RaftId| place_of(*other) == place_of(id) && *other != id;
    let next: BTreeSet<_> = voters.iter().copied().filter(|v| !of_place(v)).chain([id]).collect();
    raft.change_membership(ChangeMembers::ReplaceAllVoters(next), false).await.map_err(|e| e.to_string())?;
    let stale: BTreeSet<_> = membership.learner_ids().filter(of_place).collect();
    if !stale.is_empty() {
        raft.change_membership(ChangeMembers::RemoveNodes(stale), false).await.map_err(|e| e.to_string())?;
    }
    tracing::info!(id, place = place_of(id), "a node is a voter again, under a new id");
    Ok(JoinReply::Joined)
}
