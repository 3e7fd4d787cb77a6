//! What the other nodes say of themselves: asked once in a second, of every configured place, by every node.
//!
//! It is what `relevo status` shows of them, and how a node hears that the cluster was begun anew without it:
//!
//! | own cluster | a peer says | then |
//! |---|---|---|
//! | of birth b | it leads a cluster of a later birth | retire: this node joins there |
//! | of birth b, without a leader for [`LEADERLESS_ROUNDS`] rounds | it waits to begin one of a later birth | retire: it waits for that |
//! | of birth b, with a leader | it waits to begin one of a later birth | go on; the newborn waits and says for whom |
//! | of birth b | it goes on with an earlier birth | it will retire |
//! | of birth b, that nobody leads | a majority is in doubt ([`super::doubt`]) | the furthest begins anew |
//!
//! And they compare the digests of their states ([`super::digest`]): a difference is an ERROR that names both nodes and the
//! index, and the node that stands against a majority is taken in again. Once in the life of a process: where it differs
//! again, a person must find out why.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use proxy_core::time::MonoTime;

use super::client::Transport;
use super::core::Core;
use super::digest::{self, Difference};
use super::doubt;
use super::inbound::Hello;
use super::join;
use super::leaderless;
use super::rebirth::birth_of;
use super::retire::Retired;
use super::types::{Place, incarnation_of};

/// Pause between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Rounds without a leader after which a node gives up the former cluster for one that was begun anew.
const LEADERLESS_ROUNDS: u32 = leaderless::PATIENCE_ROUNDS;

/// Rounds in a row in which a leader does not count this node, until it is said.
const OUTSIDE_ROUNDS: u32 = 3;

/// What a peer has said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    /// Its words.
    pub(super) hello: Hello,
    /// When it was asked for them.
    pub(super) at: MonoTime,
    /// How long the answer took.
    pub(super) took: Duration,
    /// The slowest one within the last few.
    pub(super) slowest: Duration,
}

/// Asks for ever; ends when Raft does.
pub(super) async fn watch<T: Transport>(core: Core<T>) {
    let mut rounds = 0_u32;
    let mut differed_at = 0;
    let mut in_doubt = 0;
    let mut without = 0_u32;
    loop {
        let config = core.config();
        let peers = core.known_peers();
        let others = peers.iter().filter(|p| p.place != super::types::place_of(config.id));
        let at = core.now();
        let answers = futures::future::join_all(others.map(|peer| {
            let transport = core.clients().transport.clone();
            let core = &core;
            async move {
                let hello = join::hello(&transport, *peer).await;
                (peer.place, hello, core.now().since(at))
            }
        }));
        let answers = answers.await;
        let took: BTreeMap<Place, Duration> =
            answers.iter().map(|(place, _, took)| (*place, *took)).collect();
        let answers: Vec<(Place, Option<Hello>)> =
            answers.into_iter().map(|(place, hello, _)| (place, hello)).collect();
        let heard: BTreeMap<_, _> =
            answers.iter().filter_map(|(place, hello)| Some((*place, hello.clone()?))).collect();
        core.note(heard.iter().map(|(place, hello)| {
            let took = took.get(place).copied().unwrap_or_default();
            (*place, Heard { hello: hello.clone(), at, took, slowest: took })
        }));
        if core.raft().metrics().borrow_watched().running_state.is_err() {
            return;
        }
        let own = core.all_own_words().await;
        if let Some(difference) = digest::difference(&own.digests, &heard, peers.len())
            && difference.index > differed_at
        {
            differed_at = difference.index;
            differs(&core, &difference);
            if core.is_retired() {
                return;
            }
        }
        rounds = if leads(&own, &heard) { 0 } else { rounds.saturating_add(1) };
        if own.leads {
            core.finish_change().await;
        }
        without = if goes_on_without(&own, &heard) { without + 1 } else { 0 };
        tell_outside(&core, without, &heard);
        tell(&core, rounds, &own, &heard);
        if own.applied > 0
            && let Some((place, birth)) = later_birth(&own, &heard, rounds)
        {
            core.retire(Retired {
                why: format!(
                    "the cluster was begun anew on node {place} (birth {birth:x}, here {:x}): this node goes on there",
                    birth_of(own.term)
                ),
                incarnation: incarnation_of(config.id),
                begins: None,
            });
            return;
        }
        let begins = doubt::begins(super::types::place_of(config.id), &own, &answers);
        in_doubt = if begins.is_some() { in_doubt + 1 } else { 0 };
        if let Some(begins) = begins.filter(|_| in_doubt >= LEADERLESS_ROUNDS) {
            core.retire(Retired {
                why: format!(
                    "so many other nodes are in doubt about what they acknowledged that nobody can lead, and none of \
                     them reaches further than this one: it begins the cluster anew with its own state; {}",
                    begins.missing()
                ),
                incarnation: incarnation_of(config.id),
                begins: Some(begins),
            });
            return;
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// Whether this node was a member, and the leader of its cluster does not count it any more.
fn goes_on_without(own: &Hello, heard: &BTreeMap<Place, Hello>) -> bool {
    let Some(id) = own.id.filter(|_| own.applied > 0 && !own.leads) else { return false };
    let birth = birth_of(own.term);
    let place = super::types::place_of(id);
    heard.values().any(|h| {
        let leads = h.leads && birth_of(h.term) == birth && !h.members.is_empty();
        leads && !h.members.iter().any(|member| super::types::place_of(*member) == place)
    })
}

/// Says, and has `status` say, that the cluster goes on without this node.
fn tell_outside<T: Transport>(core: &Core<T>, rounds: u32, heard: &BTreeMap<Place, Hello>) {
    if rounds < OUTSIDE_ROUNDS {
        return;
    }
    let place = super::types::place_of(core.config().id);
    let leader = heard.iter().find(|(_, h)| h.leads).map_or(0, |(leader, _)| *leader);
    let why = format!(
        "node {place} was removed from the cluster, which node {leader} leads. Stop it; to take it in again, move its data \
         folder away, start it, and on a member: relevo members add {place} ADDRESS --again"
    );
    if core.note_outside(Some(why.clone())) {
        tracing::error!("{why}");
    }
}

/// Says, and has `status` say, that nobody has led for so many rounds.
fn tell<T: Transport>(core: &Core<T>, rounds: u32, own: &Hello, heard: &BTreeMap<Place, Hello>) {
    if let Some(outside) = core.outside() {
        core.note_leaderless(Some(outside));
        return;
    }
    if rounds < leaderless::PATIENCE_ROUNDS {
        if core.note_leaderless(None) {
            tracing::info!("a node leads again");
        }
        return;
    }
    let config = core.config();
    // Those that vote; before there is a membership, those that will.
    let mut places = core.voter_places();
    if places.is_empty() {
        places = config.places.iter().map(|p| p.place).collect();
    }
    let words = leaderless::words(super::types::place_of(config.id), own, heard, &places);
    if leaderless::is_due(rounds) {
        tracing::warn!("{words}");
    }
    core.note_leaderless(Some(words));
}

/// This process has been taken in again because its state differed.
static WAS_OUTVOTED: AtomicBool = AtomicBool::new(false);

/// The state here is another than that of `difference.others`.
fn differs<T: Transport>(core: &Core<T>, difference: &Difference) {
    let Difference { index, others, outvoted } = difference;
    let me = super::types::place_of(core.config().id);
    tracing::error!(
        node = me,
        ?others,
        index,
        "the replicated state differs between these nodes at this entry"
    );
    if *outvoted && !WAS_OUTVOTED.swap(true, Ordering::SeqCst) {
        core.retire(Retired {
            why: format!("its state differs at entry {index} from that of nodes {others:?}, which agree"),
            incarnation: incarnation_of(core.config().id),
            begins: None,
        });
    }
}

/// Whether somebody leads the cluster of this birth.
fn leads(own: &Hello, heard: &BTreeMap<Place, Hello>) -> bool {
    let birth = birth_of(own.term);
    own.leads || heard.values().any(|h| h.leads && birth_of(h.term) == birth)
}

/// Who has a later birth than this node, and is to be followed.
fn later_birth(own: &Hello, heard: &BTreeMap<Place, Hello>, leaderless: u32) -> Option<(Place, u64)> {
    let later = heard.iter().filter(|(_, h)| h.initialized && birth_of(h.term) > birth_of(own.term));
    let follow = |h: &Hello| h.leads || leaderless >= LEADERLESS_ROUNDS;
    later.filter(|(_, h)| follow(h)).map(|(place, h)| (*place, birth_of(h.term))).max_by_key(|(_, b)| *b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::rebirth::Position;

    fn of(term: u64, leads: bool) -> Hello {
        Hello { id: Some(1), initialized: true, term, leads, applied: 9, ..Hello::default() }
    }

    #[test]
    fn a_node_that_its_leader_does_not_count_any_more_finds_out() {
        let own = Hello { id: Some(3), ..of(4, false) };
        let heard = |members: Vec<u64>, leads| BTreeMap::from([(1, Hello { members, ..of(4, leads) })]);
        assert!(goes_on_without(&own, &heard(vec![1, 2], true)));
        assert!(!goes_on_without(&own, &heard(vec![1, 2, 3], true)));
        assert!(!goes_on_without(&own, &heard(vec![1, 2], false)), "one that does not lead");
        assert!(!goes_on_without(&own, &heard(Vec::new(), true)), "a leader of an older version");
        assert!(!goes_on_without(&Hello { applied: 0, ..own }, &heard(vec![1], true)), "never was a member");
    }

    #[test]
    fn a_cluster_that_was_begun_anew_is_followed_once_it_leads_or_the_former_one_has_ended() {
        let reborn = Position { term: 3, index: 9 }.reborn(1).term;
        let heard = |hello: Hello| BTreeMap::from([(2, hello)]);
        assert!(later_birth(&of(3, false), &heard(of(reborn + 1, true)), 0).is_some());
        assert!(later_birth(&of(3, true), &heard(of(reborn, false)), 0).is_none(), "the former one goes on");
        assert!(later_birth(&of(3, false), &heard(of(reborn, false)), LEADERLESS_ROUNDS).is_some());
        assert!(later_birth(&of(reborn, false), &heard(of(900, true)), 99).is_none(), "an earlier one");
        assert!(
            later_birth(&of(reborn + 5, false), &heard(of(reborn + 9, true)), 99).is_none(),
            "the same one"
        );
    }
}
