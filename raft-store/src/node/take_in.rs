//! The leader's part of a node's return: learner first, voter once it has caught up, in the place of what had its place
//! before. A node whose place is none of the voters' is not taken in by itself: an operator says that ([`super::members`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;

use super::client::Transport;
use super::core::Core;
use super::inbound::JoinReply;
use super::rebirth::birth_of;
use super::types::{Member, Place, RaftId, Role, incarnation_of, place_of};

/// Time a change of membership may take until the joiner is told to ask again.
const JOIN_STEP_LIMIT: Duration = Duration::from_secs(10);
/// A learner this close behind becomes a voter.
pub(super) const JOIN_LAG: u64 = 64;

/// The leader's part: learner first, voter once it has caught up, in the place of what had its place before.
pub(super) async fn take_in<T: Transport>(
    core: &Core<T>,
    from: Place,
    id: RaftId,
    member: Member,
) -> JoinReply {
    if from != place_of(id) {
        return JoinReply::Refused(format!("node {from} cannot ask for node {}", place_of(id)));
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

/// Why a node that asks is not taken in by itself: nobody votes under its place, so that an operator has to say it, also
/// where it is a learner that a change was left half way with. After the cluster was begun anew, the nodes of the
/// configuration come back without a word.
fn stranger<T: Transport>(
    core: &Core<T>,
    id: RaftId,
    member: &Member,
    membership: &openraft::Membership<RaftId, Member>,
    term: u64,
) -> Option<String> {
    let place = place_of(id);
    // While a change is half done, what it was to lead to.
    let wanted = membership.get_joint_config().last();
    if wanted.is_some_and(|voters| voters.iter().any(|other| place_of(*other) == place)) {
        return None;
    }
    if core.view().read(|state| state.removed().contains(&place)) {
        return Some(format!(
            "node {place} was removed from the cluster. Stop it; or, on a member: relevo members add {place} {} --again",
            member.addr
        ));
    }
    let is_known = core.config().places.iter().any(|p| p.place == place);
    if is_known && birth_of(term) > 0 {
        return None;
    }
    let role = if member.role == Role::Witness { " --role witness" } else { "" };
    Some(format!(
        "node {place} is no member yet. On a member: relevo members add {place} {addr}{role}, or, in the place of node OLD: \
         relevo members replace OLD {place} {addr}{role}",
        addr = member.addr
    ))
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
    let of_place =
        membership.nodes().map(|(other, _)| *other).filter(|other| place_of(*other) == place_of(id));
    if let Some(later) = of_place.max().filter(|later| *later > id) {
        return Ok(JoinReply::UseAtLeast(incarnation_of(later).saturating_add(1)));
    }
    if let Some(why) = stranger(core, id, &member, &membership, metrics.current_term) {
        return Ok(JoinReply::Refused(why));
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
    // While a change is half done, what it was to lead to: the union would make voters for good of those that were to go.
    let wanted = membership.get_joint_config().last().cloned().unwrap_or_default();
    if core.view().read(|state| state.removed().contains(&place_of(id))) && !wanted.contains(&id) {
        return Ok(JoinReply::Refused(format!(
            "node {} was removed from the cluster: stop it",
            place_of(id)
        )));
    }
    // Of each place the latest id only: the former one is no more.
    let latest: BTreeMap<Place, RaftId> =
        wanted.iter().copied().chain([id]).map(|v| (place_of(v), v)).collect();
    let next: BTreeSet<_> = latest.into_values().collect();
    raft.change_membership(ChangeMembers::ReplaceAllVoters(next), false).await.map_err(|e| e.to_string())?;
    let stale: BTreeSet<_> = membership.learner_ids().filter(of_place).collect();
    if !stale.is_empty() {
        raft.change_membership(ChangeMembers::RemoveNodes(stale), false).await.map_err(|e| e.to_string())?;
    }
    tracing::info!(id, place = place_of(id), "a node is a voter again, under a new id");
    Ok(JoinReply::Joined)
}
