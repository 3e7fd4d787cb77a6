//! A small model of Raft as far as ownership depends on it, driven at random, with one real [`Control`] per node.
//!
//! Axioms of the model (they are Raft's, and the tests of the store hold the store to them):
//! 1. A term has one leader. A new one appears only when each earlier leader's newest quorum acknowledgement is at
//!    least one lease old, or that leader has asked for a transfer in its term, or it is dead.
//! 2. What is committed is in the log of every later leader; nodes apply the one log in order, each at its own pace.
//! 3. A leader learns of a quorum acknowledgement late, but counts it from the time of sending.
//! 4. A deposed leader may believe in its leadership for any time; it commits nothing and gets no acknowledgement.

use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::{LEASE, at};

/// Nodes 1 and 2 are appliances, 3 is the witness.
const NODES: usize = 3;

#[derive(Debug, Clone)]
enum Event {
    /// Time passes, in ms.
    Pass(u64),
    /// The leader's heartbeat of this moment is acknowledged by a quorum, if it still leads the newest term.
    Acknowledge,
    /// This node is elected, if axiom 1 allows it.
    Elect(usize),
    /// This node learns of the newest term.
    Learn(usize),
    /// This node applies up to this many entries.
    Apply(usize, u64),
    /// The newest leader's last proposal is committed.
    Commit,
    /// An operator asks this node for a switchover.
    Switchover(usize),
    /// The node decides and does at once what its resources can do.
    Decide(usize),
    /// This node's last step of its resources finishes.
    Settle(usize),
    /// What this node hears of the others is up to date (or very old).
    Hear(usize, bool),
    /// The node is told to end.
    Shutdown(usize),
    /// The agent of this node dies and starts again, blank but for its log.
    Crash(usize),
    /// It is committed that this ails the node, and nothing else.
    Ail(usize, Option<Ailment>),
    /// It is committed that automatic takeover is paused, or not any more.
    Pause(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let node = 0..NODES;
    prop_oneof![
        80 => (0..60u64).prop_map(Event::Pass),
        20 => (100..400u64).prop_map(Event::Pass),
        80 => Just(Event::Acknowledge),
        60 => node.clone().prop_map(Event::Elect),
        40 => node.clone().prop_map(Event::Learn),
        80 => (node.clone(), 1..5u64).prop_map(|(n, k)| Event::Apply(n, k)),
        60 => Just(Event::Commit),
        20 => node.clone().prop_map(Event::Switchover),
        160 => node.clone().prop_map(Event::Decide),
        60 => node.clone().prop_map(Event::Settle),
        40 => (node.clone(), any::<bool>()).prop_map(|(n, up)| Event::Hear(n, up)),
        1 => node.clone().prop_map(Event::Shutdown),
        20 => node.clone().prop_map(Event::Crash),
        4 => any::<bool>().prop_map(Event::Pause),
        10 => (node, prop::option::of(prop::sample::select(AILMENTS.to_vec()))).prop_map(|(n, a)| Event::Ail(n, a)),
    ]
}

struct Node {
    control: Control,
    facts: Facts,
    resources: Resources,
    /// What it does with the service right now, and until when at most (the kernel's lease).
    owns_until: Option<MonoTime>,
    wish: Option<Place>,
}

struct World {
    now: u64,
    term: u64,
    leader: Option<usize>,
    /// Of the leader of the newest term: when its followers' promise ends.
    promise_ends: u64,
    /// Holder per log index, from 1; `None` for an entry that is no grant.
    log: Vec<Option<Place>>,
    nodes: Vec<Node>,
    owners_seen: [bool; NODES],
    /// The node that decided last to own.
    last_owner: Option<usize>,
    /// What ails whom, known to whoever decides.
    fitness: Vec<(Place, Fitness)>,
    /// Automatic takeover is paused, known to whoever decides.
    paused: bool,
}

fn place(i: usize) -> Place {
    Place::try_from(i + 1).unwrap_or(0)
}

impl World {
    fn new() -> Self {
        let node = |i| Node {
            control: Control::new(Settings { place: place(i), appliances: vec![1, 2], lease: LEASE }),
            facts: Facts::default(),
            resources: Resources::Stopped,
            owns_until: None,
            wish: None,
        };
        Self {
            now: 1000,
            term: 0,
            leader: None,
            promise_ends: 0,
            log: Vec::new(),
            nodes: (0..NODES).map(node).collect(),
            owners_seen: [false; NODES],
            last_owner: None,
            fitness: Vec::new(),
            paused: false,
        }
    }

    fn is_newest_leader(&self, i: usize) -> bool {
        self.leader == Some(i) && self.nodes[i].facts.leading && self.nodes[i].facts.term == self.term
    }

    fn step(&mut self, event: &Event) {
        match *event {
            Event::Pass(ms) => self.now += ms,
            Event::Acknowledge => {
                if let Some(i) = self.leader.filter(|i| self.is_newest_leader(*i)) {
                    // Raft stops heartbeats after a transfer was asked for.
                    if self.nodes[i].facts.transfer_tried_in != Some(self.term) {
                        self.nodes[i].facts.quorum_ack_at = Some(at(self.now));
                        self.promise_ends = self.now + LEASE.as_millis() as u64;
                    }
                }
            }
            Event::Elect(i) => self.elect(i),
            Event::Learn(i) => {
                let (term, leader) = (self.term, self.leader);
                let facts = &mut self.nodes[i].facts;
                if facts.term < term {
                    facts.term = term;
                    facts.leading = false;
                    facts.quorum_ack_at = None;
                }
                if !facts.leading && facts.term == term {
                    facts.leader = leader.map(place);
                }
            }
            Event::Apply(i, count) => {
                let end = self.log.len() as u64;
                let facts = &mut self.nodes[i].facts;
                for index in facts.applied + 1..=end.min(facts.applied + count) {
                    facts.applied = index;
                    facts.last_log = facts.last_log.max(index);
                    if let Some(holder) = self.log[index as usize - 1] {
                        facts.grant = Some(Grant { holder, token: index });
                    }
                }
            }
            Event::Commit => {
                if let Some(i) = self.leader.filter(|i| self.is_newest_leader(*i))
                    && let Some(holder) = self.nodes[i].wish.take()
                {
                    self.log.push(Some(holder));
                    self.nodes[i].facts.last_log = self.log.len() as u64;
                }
            }
            Event::Switchover(i) => {
                let node = &mut self.nodes[i];
                let _ = node.control.switchover(at(self.now), None, &node.facts);
            }
            Event::Decide(i) => self.decide(i),
            Event::Settle(i) => {
                let node = &mut self.nodes[i];
                if node.resources == Resources::Moving {
                    node.resources =
                        if node.owns_until.is_some() { Resources::Started } else { Resources::Stopped };
                }
            }
            Event::Hear(i, up) => {
                let heard = if up { Some(at(self.now)) } else { None };
                self.nodes[i].facts.peers = (0..NODES)
                    .map(|p| Peer { place: place(p), lag: Some(0), last_ack: heard, ..Peer::default() })
                    .collect();
            }
            Event::Ail(i, ailment) => {
                let fitness = ailment.map_or(Fitness::FIT, |a| Fitness::FIT.with(a));
                self.fitness.retain(|(p, _)| *p != place(i));
                self.fitness.push((place(i), fitness));
            }
            Event::Pause(paused) => self.paused = paused,
            Event::Shutdown(i) => self.nodes[i].control.shutdown(at(self.now)),
            Event::Crash(i) => {
                // The guard takes the address down; the promise of the followers stays.
                let fresh = World::new();
                let mut facts = Facts { term: self.nodes[i].facts.term, ..Facts::default() };
                facts.last_log = self.nodes[i].facts.last_log;
                let Some(mut node) = fresh.nodes.into_iter().nth(i) else { return };
                node.facts = facts;
                self.nodes[i] = node;
            }
        }
    }

    fn elect(&mut self, i: usize) {
        let released = match self.leader {
            None => true,
            // A crashed leader does not lead; an asked-for transfer frees the followers.
            Some(l) => {
                let facts = &self.nodes[l].facts;
                !self.is_newest_leader(l) || facts.transfer_tried_in == Some(self.term)
            }
        };
        if !released && self.now < self.promise_ends {
            return;
        }
        self.term += 1;
        self.leader = Some(i);
        self.promise_ends = self.now;
        // The blank entry of a new leader; all that was committed is in its log.
        self.log.push(None);
        let end = self.log.len() as u64;
        let facts = &mut self.nodes[i].facts;
        facts.term = self.term;
        facts.leading = true;
        facts.leader = Some(place(i));
        facts.last_log = end;
        facts.quorum_ack_at = None;
        self.nodes[i].wish = None;
    }

    fn decide(&mut self, i: usize) {
        let now = at(self.now);
        let node = &mut self.nodes[i];
        node.facts.fitness = self.fitness.clone();
        node.facts.pause =
            self.paused.then(|| Pause { at: WallTime(0), until: WallTime(u64::MAX), reason: String::new() });
        let d = node.control.decide(now, &node.facts, node.resources);
        match d.goal {
            Goal::Up { .. } => {
                // The first step up may be done at once: that is the worst case for safety.
                if node.resources == Resources::Stopped {
                    node.resources = Resources::Moving;
                }
                assert!(
                    node.owns_until.is_none() || self.last_owner == Some(i),
                    "a service goes on with what it knew before another node had it"
                );
                node.owns_until = d.lease_until;
                self.owners_seen[i] = true;
                self.last_owner = Some(i);
            }
            Goal::Down => {
                if node.resources != Resources::Stopped {
                    node.resources = Resources::Moving;
                }
                node.owns_until = None;
            }
        }
        for ask in d.ask {
            match ask {
                Ask::Abdicate { .. } => panic!("nobody's proposals are late here"),
                Ask::Grant { holder } => {
                    let ordered = node.control.hand_over.is_some_and(|h| h.operator);
                    let moves = node.facts.grant.is_some_and(|g| g.holder != holder);
                    // A hand-over that was begun before the pause goes on.
                    let begun = node.control.hand_over.is_some();
                    assert!(!(self.paused && moves) || ordered || begun, "a takeover in a pause");
                    node.wish = Some(holder);
                }
                Ask::TakeBack { .. } => assert_eq!(node.facts.transfer_tried_in, Some(node.facts.term)),
                Ask::Transfer { .. } => {
                    assert!(node.owns_until.is_none(), "a transfer while the service is up");
                    assert_eq!(node.resources, Resources::Stopped, "a transfer before all is down");
                    node.facts.transfer_tried_in = Some(node.facts.term);
                }
            }
        }
    }

    fn owners(&self) -> Vec<usize> {
        (0..NODES).filter(|i| self.nodes[*i].owns_until.is_some_and(|end| at(self.now) < end)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn two_nodes_never_own_at_once_and_the_witness_never_does(events in prop::collection::vec(event(), 1..250)) {
        let mut world = World::new();
        for event in &events {
            world.step(event);
            let owners = world.owners();
            prop_assert!(owners.len() <= 1, "{owners:?} own at once");
            prop_assert!(!owners.contains(&2), "the witness owns");
        }
    }

    /// After any history: if everything works from here on, somebody owns within a bounded number of rounds.
    #[test]
    fn when_everything_works_again_an_appliance_owns(events in prop::collection::vec(event(), 1..150), who in 0..NODES) {
        let mut world = World::new();
        for event in events.iter().filter(|e| !matches!(e, Event::Shutdown(_))) {
            world.step(event);
        }
        for round in 0..60 {
            world.step(&Event::Pass(if round % 10 == 0 { 600 } else { 5 }));
            // Whoever transferred or lost its promise is followed by somebody: the transfer's target, or anybody.
            let heir = world.leader.and_then(|l| {
                let facts = &world.nodes[l].facts;
                (facts.transfer_tried_in == Some(world.term)).then(|| facts.grant.map(|g| usize::from(g.holder) - 1))
            });
            match heir {
                Some(heir) => world.step(&Event::Elect(heir.unwrap_or(who))),
                None if world.leader.is_none_or(|l| !world.is_newest_leader(l)) => world.step(&Event::Elect(who)),
                None => {}
            }
            world.step(&Event::Acknowledge);
            for i in 0..NODES {
                world.step(&Event::Learn(i));
                world.step(&Event::Hear(i, true));
                world.step(&Event::Apply(i, 1000));
                world.step(&Event::Decide(i));
                world.step(&Event::Settle(i));
            }
            world.step(&Event::Commit);
        }
        let owners = world.owners();
        prop_assert_eq!(owners.len(), 1);
        let of = |i| world.fitness.iter().find(|(p, _)| *p == place(i)).map_or(Fitness::FIT, |(_, f)| *f);
        let in_order = world.paused || !of(owners[0]).yields_to(of(1 - owners[0]));
        prop_assert!(in_order, "the worse off of two owns");
    }
}

#[test]
fn the_model_does_reach_owners_on_both_appliances() {
    // A model in which nobody ever owns would prove nothing.
    let mut world = World::new();
    let drive = |world: &mut World, leader: usize| {
        world.step(&Event::Pass(400));
        world.step(&Event::Elect(leader));
        for _ in 0..4 {
            world.step(&Event::Acknowledge);
            world.step(&Event::Apply(leader, 10));
            world.step(&Event::Decide(leader));
            world.step(&Event::Commit);
            world.step(&Event::Pass(Duration::from_millis(5).as_millis() as u64));
        }
    };
    drive(&mut world, 0);
    assert_eq!(world.owners(), [0]);
    drive(&mut world, 1);
    assert_eq!(world.owners(), [1]);
    assert_eq!(world.owners_seen, [true, true, false]);
}

#[test]
fn an_owner_that_did_not_decide_while_another_served_and_handed_over_begins_anew() {
    let mut world = World::new();
    let rounds = |world: &mut World, leader: usize| {
        for _ in 0..4 {
            world.step(&Event::Acknowledge);
            world.step(&Event::Hear(leader, true));
            world.step(&Event::Apply(leader, 10));
            world.step(&Event::Decide(leader));
            world.step(&Event::Commit);
            world.step(&Event::Settle(leader));
            world.step(&Event::Pass(5));
        }
    };
    for leader in [0, 1] {
        world.step(&Event::Pass(400));
        world.step(&Event::Elect(leader));
        rounds(&mut world, leader);
        assert_eq!(world.owners(), [leader]);
    }
    world.step(&Event::Switchover(1));
    rounds(&mut world, 1);
    assert_eq!(world.owners(), [0; 0]);
    // It decides again only now: what it has up is from before.
    world.step(&Event::Elect(0));
    world.step(&Event::Acknowledge);
    world.step(&Event::Apply(0, 10));
    world.step(&Event::Decide(0));
    assert_eq!(world.owners(), [0; 0], "down first");
    rounds(&mut world, 0);
    assert_eq!(world.owners(), [0]);
}
