//! What Raft knows at one moment, for whoever decides: the control thread and operators.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use proxy_core::time::{MonoTime, WallTime};

use super::client::Transport;
use super::core::Core;
use super::doubt::Reach;
use super::inbound::{DiskWord, Hello};
use super::net::Path;
use super::types::{Place, RaftId, incarnation_of, place_of};
use crate::log::Syncs;
use crate::state::{Fitness, Grant, Pause, Planned, Suspect};

/// What this node knows of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerFacts {
    /// Which.
    pub place: Place,
    /// Its Raft id.
    pub id: RaftId,
    /// Entries by which what it has proved to have is behind this log: by its answers in this term, the newest of which
    /// is of `last_ack`. Known by the leader only.
    pub lag: Option<u64>,
    /// The last entry that it has applied, by its own word, and when it was asked for that.
    pub applied: Option<(u64, MonoTime)>,
    /// When the newest message was sent that it acknowledged; known by the leader only.
    pub last_ack: Option<MonoTime>,
    /// It is silent for its first lease: its acknowledgements count, but it would not hear that it shall lead; known by
    /// the leader only.
    pub silent: bool,
    /// Whether it votes. While a membership change is half done: whether it did before and will after it, too.
    pub voter: bool,
    /// The way between this node and it, as far as it was measured; known by every node.
    pub path: Path,
    /// Since when it has not acknowledged entries that it was sent; known by the leader only.
    pub unanswered: Option<MonoTime>,
    /// The slowest acknowledgement of entries within the last minute; known by the leader only.
    pub acknowledges_in: Option<Duration>,
    /// How its disk does, by its own word; asked by a leader whose proposals do not commit.
    pub disk: Option<DiskWord>,
    /// How long its last answer to a question took, and the slowest of the last few; known by every node.
    pub round_trip: Option<(Duration, Duration)>,
}

/// What Raft knows at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Who this is.
    pub raft_id: RaftId,
    /// Term of the newest vote seen.
    pub term: u64,
    /// The leader, if known.
    pub leader: Option<Place>,
    /// This node leads in `term`.
    pub leading: bool,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Index of the last entry in the log.
    pub last_log: u64,
    /// The newest applied grant.
    pub grant: Option<Grant>,
    /// When the newest message was sent that a quorum acknowledged in `term`.
    pub quorum_ack_at: Option<MonoTime>,
    /// When another node was heard last that led and was not refused.
    pub led_at: Option<MonoTime>,
    /// Which leader's agent has died by the word of its guard, and when that was heard last.
    pub told_dead: Option<(Place, MonoTime)>,
    /// The last term in which this node asked for a transfer of leadership.
    pub transfer_tried_in: Option<u64>,
    /// Why the node that was to lead after `term` cannot, if it said so.
    pub transfer_refused: Option<String>,
    /// The other nodes of the membership.
    pub peers: Vec<PeerFacts>,
    /// The places that something ails, by their own word or an operator's.
    pub fitness: Vec<(Place, Fitness)>,
    /// The messages that engines have died with.
    pub suspects: Vec<Suspect>,
    /// The proposal of this leader that has waited longest: its number, which changes whenever something is committed
    /// and applied, and for how long it has waited.
    pub oldest: Option<(u64, Duration)>,
    /// How long a commit takes at most, measured within the last minute; `None`: unknown.
    pub commit_takes: Option<Duration>,
    /// How long syncs of the log take here.
    pub syncs: Syncs,
    /// A majority could write what another leader proposes, by their own word.
    pub others_could: bool,
    /// Until when this node has abdicated: it says nothing as a leader or candidate.
    pub mute_until: Option<MonoTime>,
    /// For how long something has been waiting for the thread that applies entries, which does not go on.
    pub apply_waits: Option<Duration>,
    /// By how many ms the wall clock of another node is ahead of this one's; of those that were heard a moment ago.
    pub skew: BTreeMap<Place, i64>,
    /// This node's wall clock is wrong, by the word of most.
    pub is_clock_odd: bool,
    /// The time of the cluster.
    pub time: WallTime,
    /// The pause that holds now: no automatic takeover.
    pub pause: Option<Pause>,
    /// The switchover that is to come.
    pub planned: Option<Planned>,
}

impl Facts {
    /// Packets of full size are known not to pass between this node and so many voters that the rest, with this node,
    /// is no majority.
    #[must_use]
    pub fn is_path_narrow(&self) -> bool {
        let voters = self.peers.iter().filter(|p| p.voter).count() + 1;
        let narrow = self.peers.iter().filter(|p| p.voter && !p.path.is_whole()).count();
        (voters - narrow) * 2 <= voters
    }
}

impl<T: Transport> Core<T> {
    /// What this node says of itself.
    pub(super) fn own_words(&self) -> Hello {
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let facts = self.facts();
        let young = |at: MonoTime| self.now().since(at) < self.0.config.election_max;
        Hello {
            id: Some(self.0.config.id),
            initialized: membership.voter_ids().next().is_some(),
            leader: metrics.current_leader,
            damaged: self.0.retired.borrow().as_ref().is_some_and(|r| r.begins.is_none()),
            leads: facts.leading && facts.quorum_ack_at.is_some_and(young) && !self.is_retired(),
            term: metrics.current_term,
            applied: facts.applied,
            incarnation: membership.nodes().map(|(id, _)| incarnation_of(*id)).max().unwrap_or(0),
            digests: self.0.view.digests(),
            reach: None,
            members: if facts.leading { membership.nodes().map(|(id, _)| *id).collect() } else { Vec::new() },
        }
    }

    /// The same, and how far the log reaches where this node does not lead.
    pub(super) async fn all_own_words(&self) -> Hello {
        let own = self.own_words();
        // One that begins anew says nothing of it either: the others wait for that.
        if own.leads || self.is_retired() {
            return own;
        }
        let last = self.raft().with_raft_state(|state| state.log_ids.last().cloned()).await.ok().flatten();
        Hello { reach: last.map(Reach::whole), ..own }
    }

    /// What Raft knows now.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let now = (self.0.clients.clock)().mono;
        let id = self.0.config.id;
        // A copy, so that openraft never waits for a reader of the state; and first, so that the grant is at least as new
        // as `applied`: an old grant beside a new `applied` would look like the newest.
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let decided = self.0.view.decided();
        let leading = metrics.state == ServerState::Leader
            && metrics.current_leader == Some(id)
            && metrics.vote.committed;
        self.0.time.look(&metrics);
        let term = metrics.current_term;
        let membership = metrics.membership_config.membership();
        let acks = &self.0.clients.acks;
        let entries = &self.0.clients.entries;
        let last_log = metrics.last_log_index.unwrap_or(0);
        let voter_sets = membership.get_joint_config();
        let heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let said = |peer: RaftId| heard.get(&place_of(peer)).filter(|h| h.hello.id == Some(peer));
        let peers = membership.nodes().filter(|(peer, _)| **peer != id).map(|(&peer, _)| PeerFacts {
            place: place_of(peer),
            id: peer,
            lag: acks.proof(term, peer).filter(|_| leading).map(|(index, _)| last_log.saturating_sub(index)),
            applied: said(peer).map(|h| (h.hello.applied, h.at)),
            last_ack: acks.of(term, peer),
            silent: acks.silent(term, peer),
            voter: voter_sets.iter().all(|voters| voters.contains(&peer)),
            path: self.0.clients.transport.path(place_of(peer)),
            unanswered: entries.unanswered(term, peer),
            acknowledges_in: entries.slowest(term, peer, now),
            disk: self.0.words.of(peer, now),
            round_trip: said(peer).map(|h| (h.took, h.slowest)),
        });
        let time = self.0.time.at(now);
        let syncs = self.0.gauge.syncs();
        let said = |peer| Some(Duration::from_micros(self.0.words.of(peer, now)?.slowest_us));
        let oldest = leading.then(|| self.0.batcher.oldest(term)).flatten();
        Facts {
            raft_id: id,
            term,
            leader: metrics.current_leader.map(place_of),
            leading,
            applied: metrics.last_applied.as_ref().map_or(0, |log_id| log_id.index),
            last_log,
            grant: decided.grant,
            quorum_ack_at: leading
                .then(|| acks.quorum(term, id, membership.get_joint_config(), now))
                .flatten(),
            led_at: match self.0.led_at.load(Ordering::Relaxed) {
                0 => None,
                at => Some(MonoTime(at)),
            },
            told_dead: *self.0.told_dead.lock().unwrap_or_else(PoisonError::into_inner),
            transfer_tried_in: match self.0.clients.transferred_in.load(Ordering::SeqCst) {
                0 => None,
                // What was tried in a term that the metrics do not show yet counts for the one they show.
                tried => Some(tried.min(term)),
            },
            transfer_refused: self.0.clients.refused.of(term),
            peers: peers.collect(),
            fitness: decided.fitness,
            suspects: decided.suspects,
            oldest: oldest.map(|oldest| (oldest.number, oldest.since.elapsed())),
            commit_takes: entries.commit_takes(term, id, syncs.slowest, said, voter_sets, now),
            others_could: self.0.words.majority(id, syncs.go_on(), voter_sets, now),
            syncs,
            mute_until: self.mute_until(now),
            apply_waits: self.0.view.waits(),
            skew: self.0.time.skew(),
            is_clock_odd: self.0.time.is_odd(),
            time,
            pause: decided.pause.filter(|pause| pause.holds(time)),
            planned: decided.planned,
        }
    }
}
