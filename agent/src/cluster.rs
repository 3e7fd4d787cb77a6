//! The replicated store's node as engines and control thread use it.

use std::path::Path;
use std::time::Duration;

use proxy_core::io::Refusal;
use proxy_core::state::{SipCommand, SipState};
use proxy_core::time::{Clocks, Now};
use raft_store::backup::{self, BackupError, Head};
use raft_store::command::{Command, GrantReason, Response, Versions};
use raft_store::node::members::{Ask, Done as Changed, Listing, Refusal as NotChanged};
use raft_store::node::promote::Prospect;
use raft_store::node::{self, Done, Node, Refused};
use raft_store::state::Event;

use crate::bridge::{Cluster, Said, Store, Verdict};
use crate::clock;
use crate::control::{Facts, Fitness, Grant, Peer, Place};

/// A handle of this node's part of the cluster.
#[derive(Clone)]
pub struct Replicated {
    node: Node,
}

impl std::fmt::Debug for Replicated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replicated").finish_non_exhaustive()
    }
}

impl Replicated {
    /// Wraps a started node.
    #[must_use]
    pub fn new(node: Node) -> Self {
        Self { node }
    }
}

impl Store for Replicated {
    fn read<R>(&self, f: impl FnOnce(&SipState) -> R) -> R {
        self.node.read(|state| f(state.sip()))
    }

    fn now(&self, clocks: Clocks) -> Now {
        Now { mono: clocks.mono, wall: self.node.time(clocks) }
    }

    fn propose(&self, command: SipCommand, done: Verdict) {
        self.node.propose(vec![Command::Sip(command)], answer(done));
    }
}

/// What the store answers, as the engine that asked is told: one command, one answer of its kind; anything else would be
/// a fault of the store.
#[must_use]
pub fn answer(done: Verdict) -> Done {
    Box::new(move |outcome| {
        done(match outcome {
            Ok(mut list) => match list.pop() {
                Some(Response::Sip(response)) => Ok(response),
                Some(Response::Poisoned) => Err(Refusal::Poisoned),
                _ => Err(Refusal::Unknown),
            },
            Err(Refused::NotLeader) => Err(Refusal::NotActive),
            Err(Refused::Overloaded) => Err(Refusal::Overloaded),
            Err(Refused::Unknown) => Err(Refusal::Unknown),
            Err(Refused::Unread) => Err(Refusal::Unread),
        });
    })
}

impl From<node::Facts> for Facts {
    fn from(raft: node::Facts) -> Self {
        let peer = |p: node::PeerFacts| Peer {
            place: p.place,
            lag: p.lag,
            last_ack: p.last_ack,
            silent: p.silent,
            unanswered: p.unanswered,
            acknowledges_in: p.acknowledges_in,
            writes: p.disk.is_some_and(|disk| disk.goes_on),
            learns: !p.voter,
            round_trip: p.round_trip,
        };
        Self {
            path_is_narrow: raft.is_path_narrow(),
            paths: raft.peers.iter().map(|p| (p.place, p.path)).collect(),
            transfer_refused: raft.transfer_refused,
            term: raft.term,
            leader: raft.leader,
            leading: raft.leading,
            applied: raft.applied,
            last_log: raft.last_log,
            grant: raft.grant.map(|g| Grant { holder: g.holder, token: g.token }),
            quorum_ack_at: raft.quorum_ack_at,
            led_at: raft.led_at,
            told_dead: raft.told_dead,
            transfer_tried_in: raft.transfer_tried_in,
            peers: raft.peers.into_iter().map(peer).collect(),
            fitness: raft.fitness,
            suspects: raft.suspects,
            oldest: raft.oldest.map(|(number, _)| number),
            oldest_waits: raft.oldest.map(|(_, waits)| waits),
            commit_takes: raft.commit_takes,
            syncs: raft.syncs,
            others_could: raft.others_could,
            mute_until: raft.mute_until,
            apply_waits: raft.apply_waits,
            skew: raft.skew,
            is_clock_odd: raft.is_clock_odd,
            time: raft.time,
            pause: raft.pause,
            planned: raft.planned,
        }
    }
}

impl Cluster for Replicated {
    fn facts(&self) -> Facts {
        self.node.facts().into()
    }

    fn fatal(&self) -> Option<String> {
        self.node.fatal()
    }

    fn said(&self) -> Vec<Said> {
        let of = |p: node::PeerFacts| p.applied.map(|(applied, at)| Said { place: p.place, applied, at });
        self.node.facts().peers.into_iter().filter_map(of).collect()
    }

    fn waits(&self) -> Option<String> {
        self.node.waits()
    }

    fn operate(&self, command: SipCommand, done: Verdict) {
        self.node.propose_anywhere(vec![Command::Sip(command)], answer(done));
    }

    fn grant(&self, holder: Place, reason: GrantReason, done: Box<dyn FnOnce(bool) + Send>) {
        let command = Command::Grant { holder, reason, at: self.node.time(clock::now()) };
        self.node.propose_anywhere(vec![command], Box::new(move |outcome| done(outcome.is_ok())));
    }

    fn report(&self, place: Place, own: Fitness) {
        // One that is lost is told again.
        self.node.propose_anywhere(vec![Command::Fitness { place, own }], Box::new(|_| ()));
    }

    fn order(&self, command: Command, done: Box<dyn FnOnce(Result<Response, Refusal>) + Send>) {
        let verdict = |outcome: Result<Vec<Response>, Refused>| match outcome {
            Ok(mut list) => match list.pop() {
                Some(Response::Poisoned) => Err(Refusal::Poisoned),
                Some(response) => Ok(response),
                None => Err(Refusal::Unknown),
            },
            Err(Refused::NotLeader) => Err(Refusal::NotActive),
            Err(Refused::Overloaded) => Err(Refusal::Overloaded),
            Err(Refused::Unknown) => Err(Refusal::Unknown),
            Err(Refused::Unread) => Err(Refusal::Unread),
        };
        self.node.propose_anywhere(vec![command], Box::new(move |outcome| done(verdict(outcome))));
    }

    fn suspect(&self, fingerprint: u64, place: Place, moment: u64) {
        // One that is lost is told again.
        let command = Command::Suspect { fingerprint, place, moment };
        self.node.propose_anywhere(vec![command], Box::new(|_| ()));
    }

    fn tell(&self, event: Event) {
        self.node.propose_anywhere(vec![Command::Event(event)], Box::new(|_| ()));
    }

    fn history(&self) -> Vec<Event> {
        self.node.read(|state| state.history().to_vec())
    }

    fn backup(&self, file: &Path, head: &Head, replace: bool) -> Option<Result<u64, BackupError>> {
        let state = self.node.read(raft_store::state::ClusterState::frozen);
        Some(backup::write(file, head, &state, replace))
    }

    fn members(&self) -> Listing {
        self.node.members()
    }

    fn change_members(&self, ask: Ask, done: Box<dyn FnOnce(Result<Changed, NotChanged>) + Send>) {
        self.node.change_members(ask, done);
    }

    fn promote(
        &self,
        fenced: Vec<Place>,
        sure: bool,
        done: Box<dyn FnOnce(Result<Prospect, NotChanged>) + Send>,
    ) {
        self.node.promote(fenced, sure, done);
    }

    fn reads(&self, place: Place) -> Option<Versions> {
        self.node.reads(place)
    }

    fn transfer(&self, to: Place) {
        self.node.transfer_leadership(to);
    }

    fn take_back(&self, from: Place) {
        self.node.take_back(from);
    }

    fn abdicate(&self, lasts: Duration) {
        self.node.abdicate(lasts);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use proxy_core::state::SipResponse;
    use raft_store::command::Response;

    use super::*;

    fn told(outcome: Result<Vec<Response>, Refused>) -> Result<SipResponse, Refusal> {
        let (tx, rx) = mpsc::sync_channel(1);
        answer(Box::new(move |verdict| tx.send(verdict).expect("somebody waits")))(outcome);
        rx.recv().expect("one verdict")
    }

    #[test]
    fn only_a_committed_command_is_told_as_committed() {
        assert_eq!(told(Ok(vec![Response::Sip(SipResponse::NotFound)])), Ok(SipResponse::NotFound));
        assert_eq!(told(Ok(vec![Response::Poisoned])), Err(Refusal::Poisoned));
        assert_eq!(told(Ok(Vec::new())), Err(Refusal::Unknown), "no answer of its kind");
        assert_eq!(told(Err(Refused::Unknown)), Err(Refusal::Unknown));
        assert_eq!(told(Err(Refused::NotLeader)), Err(Refusal::NotActive));
        assert_eq!(told(Err(Refused::Overloaded)), Err(Refusal::Overloaded));
    }
}
