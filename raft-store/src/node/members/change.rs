//! The leader's part of a change: the steps, each bounded in time, and the way back if the newcomer does not catch up.
//!
//! | this node is lost, or its leadership, after | what is left | then |
//! |---|---|---|
//! | the newcomer is a learner | a learner without a vote | `add` again goes on, `remove` takes it out |
//! | the joint step is in the log | two sets of voters | the next leader makes the second step, within seconds ([`finish`]) |
//! | the mark of removal, before the joint step | a member that is marked | `remove` again |

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, timeout};

use super::rules::Picture;
use super::{Ask, Done, MAX_CATCH_UP_SECS, Newcomer, Refusal};
use crate::command::Command;
use crate::node::client::Transport;
use crate::node::core::{Core, Peer};
use crate::node::join;
use crate::node::take_in::JOIN_LAG;
use crate::node::types::{Place, RaftId, incarnation_of, place_of};

/// Time to wait for a change before this one: one that takes longer is named.
const TURN_LIMIT: Duration = Duration::from_secs(1);
/// Time that a newcomer has to say who it is; it may be making its store.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// Pause between two looks at a newcomer.
const LOOK: Duration = Duration::from_millis(20);
/// Time that a change of the membership may take to be committed.
const COMMIT_LIMIT: Duration = Duration::from_secs(5);
/// A member that has not answered for so many leases is not heard.
const REACH_LEASES: u32 = 3;

/// Makes a change on the leader. It goes on when the asker is gone.
pub(in crate::node) async fn change<T: Transport>(core: &Core<T>, ask: Ask) -> Result<Done, Refusal> {
    let core = core.clone();
    let work = tokio::spawn(async move {
        let turn = timeout(TURN_LIMIT, core.joining().lock()).await;
        let Ok(_turn) = turn else { return Err(Refusal::busy()) };
        second_step(&core).await?;
        let done = match ask {
            Ask::Add { newcomer, wait_s } => add(&core, &newcomer, wait_s).await,
            Ask::Remove { place } => remove(&core, place).await,
            Ask::Replace { place, newcomer, wait_s } => replace(&core, place, &newcomer, wait_s).await,
        };
        match &done {
            Ok(done) => {
                tracing::warn!(?ask, voters = ?done.voters, "the membership was changed by an operator")
            }
            Err(refusal) => tracing::warn!(?ask, %refusal, "a change of the membership was not made"),
        }
        done
    });
    work.await.unwrap_or_else(|e| Err(Refusal::unknown(&e.to_string())))
}

/// The leader looks now and then whether a former one has left a change half done, and finishes it.
pub(in crate::node) async fn finish<T: Transport>(core: &Core<T>) {
    // Whoever is at work on one finishes it.
    let Ok(_turn) = core.joining().try_lock() else { return };
    if let Err(refusal) = second_step(core).await {
        tracing::debug!(%refusal, "a change of the membership is still half done");
    }
}

/// Makes the second step of a change that was left half done, if there is one.
async fn second_step<T: Transport>(core: &Core<T>) -> Result<(), Refusal> {
    let metrics = core.raft().metrics();
    let membership = metrics.borrow_watched().membership_config.clone();
    let [_, wanted] = &membership.membership().get_joint_config()[..] else { return Ok(()) };
    tracing::warn!(?wanted, "a change of the membership was left half done: it is finished");
    made(core.raft().change_membership(ChangeMembers::ReplaceAllVoters(wanted.clone()), false)).await
}

async fn add<T: Transport>(core: &Core<T>, new: &Newcomer, wait_s: u32) -> Result<Done, Refusal> {
    picture(core)?.add(new)?;
    let id = caught_up(core, new, wait_s).await?;
    let next = match picture(core).and_then(|p| p.added(id)) {
        Ok(next) => next,
        Err(refusal) => return Err(back(core, id, refusal).await),
    };
    if new.again {
        mark(core, new.place, false).await?;
    }
    vote(core, next).await
}

async fn replace<T: Transport>(
    core: &Core<T>,
    place: Place,
    new: &Newcomer,
    wait_s: u32,
) -> Result<Done, Refusal> {
    picture(core)?.replace(place, new)?;
    let id = caught_up(core, new, wait_s).await?;
    let next = match picture(core).and_then(|p| p.replaced(place, id)) {
        Ok(next) => next,
        Err(refusal) => return Err(back(core, id, refusal).await),
    };
    if new.again {
        mark(core, new.place, false).await?;
    }
    mark(core, place, true).await?;
    vote(core, next).await?;
    forget(core, place).await
}

async fn remove<T: Transport>(core: &Core<T>, place: Place) -> Result<Done, Refusal> {
    let next = picture(core)?.remove(place)?;
    // First: one that is removed and not marked could come back by itself.
    mark(core, place, true).await?;
    vote(core, next).await?;
    forget(core, place).await
}

/// The cluster as this leader knows it; an error if it does not lead, or a majority does not answer.
fn picture<T: Transport>(core: &Core<T>) -> Result<Picture, Refusal> {
    let facts = core.facts();
    let now = core.now();
    let reach = core.config().election_max * REACH_LEASES;
    if !facts.leading || facts.quorum_ack_at.is_none_or(|at| now.since(at) > reach) {
        return Err(Refusal::leaderless());
    }
    let metrics = core.raft().metrics();
    let membership = metrics.borrow_watched().membership_config.clone();
    let membership = membership.membership();
    let answered = facts.peers.iter().filter(|p| p.last_ack.is_some_and(|at| now.since(at) <= reach));
    Ok(Picture {
        me: facts.raft_id,
        holder: facts.grant.map(|g| g.holder),
        sets: membership.get_joint_config().clone(),
        members: membership.nodes().map(|(id, member)| (*id, *member)).collect(),
        removed: core.view().read(|state| state.removed()),
        heard: answered.map(|p| p.id).chain([facts.raft_id]).collect(),
    })
}

/// The id of a newcomer that may be taken in.
async fn identity<T: Transport>(core: &Core<T>, new: &Newcomer) -> Result<RaftId, Refusal> {
    let Newcomer { place, member, .. } = *new;
    let known = core.config().places.iter().find(|p| p.place == place);
    if let Some(known) = known.filter(|known| known.addr != member.addr) {
        return Err(Refusal::new(
            format!("the configuration of the leader says that node {place} is at {}", known.addr),
            "name that address, or correct [[cluster.node]] and restart that node",
        ));
    }
    let member_since = |id: RaftId| picture(core).is_ok_and(|p| p.members.contains_key(&id));
    let peer = Peer { place, role: member.role, addr: member.addr };
    let until = Instant::now() + HELLO_LIMIT;
    loop {
        let said = join::hello(&core.clients().transport, peer).await;
        match &said {
            Some(said) if said.damaged => {
                return Err(Refusal::new(
                    format!("node {place} has a store that it cannot use"),
                    "move its data folder away and start it again",
                ));
            }
            Some(said) if said.initialized => match said.id {
                Some(id) if member_since(id) => return Ok(id),
                _ => {
                    return Err(Refusal::new(
                        format!(
                            "node {place} has a store of a cluster already (of this one as a former member, or of \
                             another)"
                        ),
                        "stop it, move its data folder away, start it, and say it again",
                    ));
                }
            },
            Some(said) => match said.id {
                Some(id) if incarnation_of(id) > 0 => return Ok(id),
                Some(_) => {
                    return Err(Refusal::new(
                        format!("node {place} does not know this cluster"),
                        "name all nodes in its configuration ([[cluster.node]]), move its data folder away and start it again",
                    ));
                }
                // It looks for its cluster yet.
                None => {}
            },
            None => {}
        }
        if Instant::now() >= until {
            let error = match said {
                Some(_) => format!("node {place} answers, and has not found this cluster"),
                None => format!("node {place} does not answer on {}", member.addr),
            };
            return Err(Refusal::new(
                format!("{error}; nothing was changed"),
                "start it with an empty data folder, the cluster's name and key, and all nodes in its configuration; its \
                 log says what it misses",
            ));
        }
        tokio::time::sleep(LOOK * 5).await;
    }
}

/// Makes a newcomer a learner and waits until it has caught up; takes it back if it does not.
async fn caught_up<T: Transport>(core: &Core<T>, new: &Newcomer, wait_s: u32) -> Result<RaftId, Refusal> {
    let id = identity(core, new).await?;
    if !picture(core)?.members.contains_key(&id) {
        tracing::info!(id, place = new.place, addr = %new.member.addr, "a node is taken in as a learner");
        made(core.raft().add_learner(id, new.member, false)).await?;
    }
    let begun = Instant::now();
    let until = begun + Duration::from_secs(wait_s.min(MAX_CATCH_UP_SECS).into());
    loop {
        let facts = core.facts();
        if !facts.leading {
            return Err(Refusal::unknown("this node does not lead any more"));
        }
        let peer = facts.peers.iter().find(|p| p.id == id);
        let reach = core.config().election_max * REACH_LEASES;
        let heard = peer.and_then(|p| p.last_ack).is_some_and(|at| core.now().since(at) <= reach);
        let lag = peer.and_then(|p| p.lag);
        if heard && lag.is_some_and(|lag| lag <= JOIN_LAG) {
            return Ok(id);
        }
        if Instant::now() >= until {
            let place = new.place;
            let how = match (heard, lag) {
                (true, Some(lag)) => format!("it is {lag} entries behind"),
                (true, None) => "it has acknowledged nothing yet".into(),
                (false, _) => "it does not answer any more".into(),
            };
            let secs = begun.elapsed().as_secs();
            let refusal = Refusal::new(
                format!("node {place} has not caught up within {secs} s ({how}); it was taken out again"),
                "look at its log, its disk and the way to it; a large state or a slow way may need --wait SECONDS",
            );
            return Err(back(core, id, refusal).await);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes a learner out again; says why it did not become a voter.
async fn back<T: Transport>(core: &Core<T>, id: RaftId, why: Refusal) -> Refusal {
    let out = ChangeMembers::RemoveNodes([id].into());
    match made(core.raft().change_membership(out, true)).await {
        Ok(()) => why,
        Err(left) => Refusal::new(
            format!("{}; and it could not be taken out again: {}", why.error, left.error),
            format!("relevo members remove {}; {}", place_of(id), why.cure),
        ),
    }
}

/// Remembers that a place was removed, or that it may be used again.
async fn mark<T: Transport>(core: &Core<T>, place: Place, removed: bool) -> Result<(), Refusal> {
    let (tx, rx) = futures::channel::oneshot::channel();
    // The receiver may have given up.
    core.propose(vec![Command::Removed { place, removed }], Box::new(move |result| drop(tx.send(result))));
    match timeout(COMMIT_LIMIT, rx).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(crate::node::inbound::ProposeRefused::Unread))) => Err(Refusal::new(
            "a node of an older version could not read it; nothing was changed",
            "upgrade all nodes first (relevo status: READS)",
        )),
        _ => Err(Refusal::unknown("it was not committed in time")),
    }
}

/// Makes `next` the voters; who voted before and is not among them is no member any more.
async fn vote<T: Transport>(core: &Core<T>, next: BTreeSet<RaftId>) -> Result<Done, Refusal> {
    let same = picture(core)?.sets == [next.clone()];
    if !same {
        made(core.raft().change_membership(ChangeMembers::ReplaceAllVoters(next), false)).await?;
    }
    done(core)
}

/// Takes out what is left of a place: a learner, or the former id of one that has come back.
async fn forget<T: Transport>(core: &Core<T>, place: Place) -> Result<Done, Refusal> {
    let left: BTreeSet<RaftId> =
        picture(core)?.members.keys().copied().filter(|id| place_of(*id) == place).collect();
    if !left.is_empty() {
        made(core.raft().change_membership(ChangeMembers::RemoveNodes(left), false)).await?;
    }
    done(core)
}

fn done<T: Transport>(core: &Core<T>) -> Result<Done, Refusal> {
    let picture = picture(core)?;
    let voters: Vec<RaftId> =
        picture.sets.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let heard = voters.iter().copied().filter(|id| picture.heard.contains(id)).collect();
    Ok(Done { voters, heard })
}

/// What openraft makes of a change, within its time.
async fn made<R, E: std::fmt::Display>(change: impl Future<Output = Result<R, E>>) -> Result<(), Refusal> {
    match timeout(COMMIT_LIMIT, change).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(Refusal::unknown(&e.to_string())),
        Err(_) => Err(Refusal::unknown(&format!(
            "it was not committed within {} s; it is as soon as a majority of the voters before and after it is heard",
            COMMIT_LIMIT.as_secs()
        ))),
    }
}
