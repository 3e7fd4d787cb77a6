//! How a cluster begins, and how a node that has lost its store comes back.
//!
//! | own store | peers say | then |
//! |---|---|---|
//! | empty | all: nothing was ever here | make a store with the id of the first start, incarnation 0 |
//! | empty | one: part of a cluster | make one with a new incarnation |
//! | empty | nobody is part of a cluster; some are silent, or say that their store is damaged | wait: the cluster might be among them |
//! | damaged, set aside or retired | one: I lead, and a majority follows | set it aside, make one with a new incarnation |
//! | in doubt ([`super::doubt`]) | a majority is in doubt or whole, and nobody reaches further | begin anew with what verifies |
//! | damaged, set aside or retired | else | wait, and say now and then what is damaged: it never begins a cluster |
//! | begun anew from a state | one: part of the former cluster | wait until that has retired |
//! | incarnation 0, no membership | all: incarnation 0, no membership | initialize; all do the same |
//! | incarnation 0, no membership | one: part of a cluster | wait for its leader: this id is among its voters |
//! | incarnation 0, no membership | else | wait: a node that is still empty must not find the cluster begun |
//! | later incarnation, no voter | | ask the leader to be taken in; of a place that is no member it takes nobody in by itself: [`super::members`] |
//! | a voter in its own membership | | go on |
//!
//! A voter that has forgotten its votes could give one twice. That is why an empty store never votes under an id that
//! an existing cluster knows. A new incarnation is later than any that a peer knows, and the leader refuses others: the
//! wall clock only makes the first guess.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};

use super::client::{Lane, Transport};
use super::core::{Core, Peer};
use super::doubt::{self, Begins};
use super::inbound::{Hello, JoinReply, Rpc, RpcReply};
use super::rebirth::birth_of;
use super::retire::Retired;
use super::store::{CURES, Damage};
use super::types::{Member, Place, RaftId, incarnation_of, place_of, raft_id};

/// Pause between two rounds of questions.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Time a peer has to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// Time the leader has to answer who asks to be taken in: less than the change may take. The leader may be gone, and who asks
/// again while the change is under way is told to wait.
const JOIN_ASK_LIMIT: Duration = Duration::from_secs(2);
/// Rounds between two lines about what a node waits for (at least 10 s).
const ROUNDS_PER_LINE: u32 = 100;
/// Rounds after which a newborn cluster does not wait any more for peers that are silent (at least 3 s).
const NEWBORN_ROUNDS: u32 = 30;

/// What the peers of an empty node say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Nobody is part of a cluster.
    First,
    /// There is a cluster.
    Exists {
        /// The latest incarnation that it knows.
        incarnation: u64,
    },
}

/// How a started node has come into its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// As a voter.
    Voter,
    /// Not under this id: a later one has been here.
    Renumber(Retired),
}

/// Asks one peer where it stands.
pub(super) async fn hello<T: Transport>(transport: &T, peer: Peer) -> Option<Hello> {
    let target = raft_id(0, peer.place);
    match transport.call(target, peer.into(), Lane::Control, Rpc::Hello, ANSWER_LIMIT).await {
        Ok(RpcReply::Hello(hello)) => Some(hello),
        Ok(_) | Err(_) => None,
    }
}

/// Asks all others; `None` for who is silent.
async fn round<T: Transport>(transport: &T, me: Place, places: &[Peer]) -> Vec<(Place, Option<Hello>)> {
    let others = places.iter().filter(|p| p.place != me);
    futures::future::join_all(others.map(|p| async { (p.place, hello(transport, *p).await) })).await
}

/// The latest incarnation that anybody knows.
fn latest<'a>(answers: impl Iterator<Item = &'a Hello>) -> u64 {
    answers.map(|h| h.incarnation.max(h.id.map_or(0, incarnation_of))).max().unwrap_or(0)
}

/// Those of `answers` that are so, as a list for a message.
fn who(answers: &[(Place, Option<Hello>)], is: impl Fn(&Option<Hello>) -> bool) -> Vec<Place> {
    answers.iter().filter(|(_, hello)| is(hello)).map(|(place, _)| *place).collect()
}

/// What the answers to a node mean whose store was always empty; `None`: ask again.
fn beginning(answers: &[(Place, Option<Hello>)]) -> Option<Beginning> {
    let heard = || answers.iter().filter_map(|(_, hello)| hello.as_ref());
    if heard().any(|h| h.initialized) {
        return Some(Beginning::Exists { incarnation: latest(heard()) });
    }
    (heard().count() == answers.len() && heard().all(|h| !h.damaged)).then_some(Beginning::First)
}

/// Asks all others until it is clear whether there is a cluster.
pub async fn find_beginning<T: Transport>(transport: &T, me: Place, places: &[Peer]) -> Beginning {
    let mut rounds = 0_u32;
    loop {
        let answers = round(transport, me, places).await;
        if let Some(beginning) = beginning(&answers) {
            return beginning;
        }
        if rounds.is_multiple_of(ROUNDS_PER_LINE) {
            let silent = who(&answers, Option::is_none);
            let damaged = who(&answers, |h| h.as_ref().is_some_and(|h| h.damaged));
            tracing::info!(
                ?silent,
                ?damaged,
                "the store is empty: waiting until every node has said that nothing was ever there, or one leads"
            );
        }
        rounds = rounds.wrapping_add(1);
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// The latest incarnation known, once somebody leads the newest cluster that anybody is part of.
fn living(answers: &[(Place, Option<Hello>)]) -> Option<u64> {
    let heard = || answers.iter().filter_map(|(_, hello)| hello.as_ref());
    let newest = heard().filter(|h| h.initialized).map(|h| birth_of(h.term)).max()?;
    let leads = heard().any(|h| h.leads && birth_of(h.term) == newest);
    leads.then(|| latest(heard()))
}

/// How a node goes on whose store cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a cluster that can give it the state.
    Rejoin {
        /// The latest incarnation that anybody knows.
        incarnation: u64,
    },
    /// With what verifies in its own store: nobody has more, and a majority is in doubt.
    Begin(Begins),
}

/// Waits until there is a cluster that can give this node the state, or it is clear that nobody has more than this one;
/// what it cannot use itself is said at ERROR.
pub async fn find_way<T: Transport>(transport: &T, me: Place, places: &[Peer], damage: &Damage) -> Way {
    let mut rounds = 0_u32;
    let mut in_doubt = 0;
    let own = Hello { damaged: true, reach: damage.reach, ..Hello::default() };
    loop {
        let answers = round(transport, me, places).await;
        if let Some(incarnation) = living(&answers) {
            tracing::error!(%damage, "the store cannot be used: the node rejoins from the others");
            return Way::Rejoin { incarnation };
        }
        let begins = doubt::begins(me, &own, &answers);
        in_doubt = if begins.is_some() { in_doubt + 1 } else { 0 };
        if let Some(begins) = begins.filter(|_| in_doubt >= doubt::ROUNDS_IN_DOUBT) {
            return Way::Begin(begins);
        }
        if rounds.is_multiple_of(ROUNDS_PER_LINE) {
            let silent = who(&answers, Option::is_none);
            let damaged = who(&answers, |h| h.as_ref().is_some_and(|h| h.damaged));
            tracing::error!(
                %damage,
                ?silent,
                ?damaged,
                "the store cannot be used, and no other node leads a majority that could give the state: waiting. {CURES}"
            );
        }
        rounds = rounds.wrapping_add(1);
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// The cluster was begun anew here, in `term`: nobody may go on with the former one. Those that can be reached retire
/// when they hear of it, unless a majority of them has a leader; those that are silent hear of it when they come back.
pub async fn wait_as_newborn<T: Transport>(transport: &T, me: Place, places: &[Peer], term: u64) {
    let mut rounds = 0_u32;
    loop {
        let answers = round(transport, me, places).await;
        let goes_on = |h: &Option<Hello>| {
            h.as_ref().is_some_and(|h| h.initialized && birth_of(h.term) < birth_of(term))
        };
        let former = who(&answers, goes_on);
        let silent = who(&answers, Option::is_none);
        if former.is_empty() && (silent.is_empty() || rounds >= NEWBORN_ROUNDS) {
            tracing::warn!(birth = birth_of(term), ?silent, "the cluster begins anew here");
            return;
        }
        if former.is_empty() && rounds == 0 {
            tracing::warn!(
                ?silent,
                "the cluster is to begin anew here; nodes that are silent get a moment to say that they go on"
            );
        } else if !former.is_empty() && rounds.is_multiple_of(ROUNDS_PER_LINE) {
            tracing::error!(
                ?former,
                ?silent,
                "the cluster is to begin anew here, and the nodes named as `former` go on with the former one: waiting \
                 until they retire. A majority of them that has a leader does not: stop these nodes first"
            );
        }
        rounds = rounds.wrapping_add(1);
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// Brings a started node into its cluster: initializes, joins, or only waits for the leader. Returns once its
/// membership knows it as a voter, or it is clear that it cannot be one under this id.
pub async fn enter<T: Transport>(core: &Core<T>) -> Entered {
    let me = core.config().id;
    loop {
        if core.is_settled_voter() {
            core.note_outside(None);
            return Entered::Voter;
        }
        if me == raft_id(0, place_of(me)) {
            begin(core).await;
        } else if let Some(incarnation) = ask_to_join(core).await {
            let why = format!(
                "a later incarnation of this node has been here; it comes back as {incarnation} or later"
            );
            return Entered::Renumber(Retired {
                why,
                incarnation: incarnation.saturating_sub(1),
                begins: None,
            });
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
            Some(said) if said.id == Some(raft_id(0, peer.place)) && !said.initialized && !said.damaged => {}
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

/// Asks the leader to be taken in; the incarnation that is needed, if this one is too early.
async fn ask_to_join<T: Transport>(core: &Core<T>) -> Option<u64> {
    let config = core.config();
    let me = place_of(config.id);
    let transport = &core.clients().transport;
    let own = config.places.iter().find(|p| p.place == me)?;
    let peers = core.known_peers();
    let answers = round(transport, me, &peers).await;
    let mut heard: Vec<_> = answers.iter().filter_map(|(_, hello)| hello.as_ref()).collect();
    // The newest cluster, and in it first who says of itself that it leads.
    heard.sort_by_key(|h| std::cmp::Reverse((birth_of(h.term), h.leads)));
    for said in heard {
        let Some(leader) = said.leader else { continue };
        let Some(leader_at) = peers.iter().find(|p| p.place == place_of(leader)) else { continue };
        let rpc = Rpc::Join { id: config.id, member: Member::from(*own) };
        match transport.call(leader, (*leader_at).into(), Lane::Control, rpc, JOIN_ASK_LIMIT).await {
            Ok(RpcReply::Join(JoinReply::Joined | JoinReply::Wait)) => {
                core.note_outside(None);
                return None;
            }
            Ok(RpcReply::Join(JoinReply::Refused(why))) => {
                // Once: it asks ten times a second, for as long as it takes.
                if core.note_outside(Some(why.clone())) {
                    tracing::error!(%why, "the cluster does not take this node in; it goes on asking");
                }
                return None;
            }
            Ok(RpcReply::Join(JoinReply::UseAtLeast(incarnation))) => return Some(incarnation),
            Ok(_) => {}
            Err(e) => tracing::debug!(error = %e, "nobody to ask for entry"),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(list: &[Option<Hello>]) -> Vec<(Place, Option<Hello>)> {
        (2..).zip(list.iter().cloned()).collect()
    }

    fn part(leads: bool) -> Option<Hello> {
        Some(Hello { id: Some(raft_id(7, 3)), initialized: true, leads, term: 3, ..Hello::default() })
    }

    fn damaged() -> Option<Hello> {
        Some(Hello { damaged: true, ..Hello::default() })
    }

    #[test]
    fn a_cluster_begins_only_where_nothing_was_ever_on_any_node() {
        let empty = || Some(Hello::default());
        assert_eq!(beginning(&answers(&[empty(), empty()])), Some(Beginning::First));
        for other in [None, damaged()] {
            assert_eq!(beginning(&answers(&[empty(), other])), None);
        }
        let exists = Some(Beginning::Exists { incarnation: 7 });
        for other in [None, damaged(), empty()] {
            assert_eq!(beginning(&answers(&[part(false), other])), exists);
        }
    }

    #[test]
    fn a_damaged_node_gives_up_its_store_only_where_a_majority_has_a_leader() {
        assert_eq!(living(&answers(&[part(false), part(false)])), None);
        assert_eq!(living(&answers(&[damaged(), damaged()])), None);
        assert_eq!(living(&answers(&[part(true), None])), Some(7));
        // The former cluster leads, and a newborn one waits: which of them goes on is not decided.
        let newborn = Hello {
            initialized: true,
            term: crate::node::Position { term: 3, index: 1 }.reborn(1).term,
            ..Hello::default()
        };
        assert_eq!(living(&answers(&[part(true), Some(newborn)])), None);
    }
}
