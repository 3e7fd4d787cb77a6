//! How the service does, in one word for monitoring and one sentence for people. Pure.
//!
//! | level | means | code of `relevo status --check` |
//! |---|---|---|
//! | fine | somebody serves, and the loss of any one node is borne; or there is one node only | 0 |
//! | degraded | somebody serves, and the loss of one more node ends that, or new calls are refused | 1 |
//! | no service | nobody serves, as far as this node knows | 2 |
//! | unknown | this node cannot tell | 3 |
//!
//! The codes are those of Nagios plugins. A node that does not hear a majority says "no service": it knows of none, and
//! must not look healthy.

use std::time::Duration;

use proxy_core::time::MonoTime;

use super::{Ailment, Facts, Place, REACH_LEASES, WORD_AGE, Word};

/// A leader that was not heard for longer may serve nobody any more (1 s, or three leases).
const LED_AGE: Duration = Duration::from_secs(1);

/// How the service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is well.
    Fine,
    /// The next loss ends the service, or a part of it is refused.
    Degraded,
    /// Nobody serves.
    NoService,
    /// This node cannot tell.
    Unknown,
}

impl Level {
    /// Exit code of `relevo status --check`.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// In capitals, as it stands in front of the sentence.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fine => "OK",
            Self::Degraded => "DEGRADED",
            Self::NoService => "NO SERVICE",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What it is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// Now.
    pub now: MonoTime,
    /// This node.
    pub me: Place,
    /// All nodes of the configuration, and whether each is an appliance.
    pub nodes: &'a [(Place, bool)],
    /// The lease.
    pub lease: Duration,
    /// What Raft knows.
    pub facts: &'a Facts,
    /// What the others have said of themselves.
    pub words: &'a [Word],
    /// The service is up here.
    pub active: bool,
    /// What this node waits for before it can be part of its cluster.
    pub waits: Option<&'a str>,
}

/// The verdict of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// In one word.
    pub level: Level,
    /// Who serves; nobody if it is not known.
    pub server: Option<Place>,
    /// What is to be said beyond that, the gravest first.
    pub reasons: Vec<String>,
    /// How many further losses of nodes are borne.
    pub borne: usize,
}

impl Verdict {
    /// One sentence, without the level.
    #[must_use]
    pub fn words(&self) -> String {
        let head = match (self.server, self.level) {
            (Some(place), _) => format!("node {place} serves"),
            (None, Level::Unknown) => String::from("this node cannot tell who serves"),
            (None, _) => String::from("nobody serves, as far as this node knows"),
        };
        let losses = match self.borne {
            _ if self.server.is_none() => None,
            0 => None,
            1 => Some(String::from("the loss of one more node is borne")),
            n => Some(format!("the loss of {n} more nodes is borne")),
        };
        let parts: Vec<String> = losses.into_iter().chain(self.reasons.iter().cloned()).collect();
        if parts.is_empty() { head } else { format!("{head}; {}", parts.join("; ")) }
    }
}

impl Sight<'_> {
    /// Whether `place` was heard a moment ago, and for how long it was not.
    fn heard(&self, place: Place) -> Result<(), Option<Duration>> {
        if place == self.me {
            return Ok(());
        }
        let peer = self.facts.voter(place);
        let ack = peer.and_then(|p| p.last_ack).filter(|_| self.facts.leading);
        if ack.is_some_and(|at| self.now.since(at) <= self.lease * REACH_LEASES) {
            return Ok(());
        }
        let word = self.words.iter().find(|(p, _, _)| *p == place).map(|(_, _, at)| self.now.since(*at));
        if !self.facts.leading
            && (word.is_some_and(|age| age <= WORD_AGE) || self.facts.leader == Some(place) && self.is_led())
        {
            return Ok(());
        }
        let ages = [word, ack.map(|at| self.now.since(at))];
        Err(ages.into_iter().flatten().min())
    }

    /// Whether the leader was heard a moment ago: Raft takes one for the leader until another stands.
    fn is_led(&self) -> bool {
        let patience = (self.lease * REACH_LEASES).max(LED_AGE);
        self.facts.led_at.is_some_and(|at| self.now.since(at) <= patience)
    }

    /// Who votes: this node and its peers in the membership; before there is one, the nodes of the configuration.
    fn voters(&self) -> Vec<Place> {
        if self.facts.peers.is_empty() {
            return self.nodes.iter().map(|(place, _)| *place).collect();
        }
        let others = self.facts.peers.iter().filter(|p| !p.learns).map(|p| p.place);
        std::iter::once(self.me).chain(others).collect()
    }

    fn server(&self) -> Option<Place> {
        if self.active {
            return Some(self.me);
        }
        let holder = self.facts.grant.map(|g| g.holder)?;
        let leads = self.facts.leader == Some(holder) && holder != self.me && self.is_led();
        leads.then_some(holder)
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let server = self.server();
        let voters = self.voters();
        let majority = voters.len() / 2 + 1;
        let silent: Vec<(Place, Option<Duration>)> =
            voters.iter().filter_map(|p| Some((*p, self.heard(*p).err()?))).collect();
        let heard = voters.len() - silent.len();
        let mut reasons: Vec<String> = silent.iter().map(|(place, age)| unheard(*place, *age)).collect();
        let verdict = |level, reasons, borne| Verdict { level, server, reasons, borne };
        if server.is_none() {
            if heard < majority {
                reasons.insert(
                    0,
                    format!(
                        "it hears {heard} of {} voters, itself among them, and {majority} are needed",
                        voters.len()
                    ),
                );
            } else if let Some(leader) =
                self.facts.leader.filter(|l| self.facts.leading || *l != self.me && self.is_led())
            {
                reasons.push(format!("node {leader} leads, and the service is not up"));
            } else {
                reasons.push(String::from("no node leads"));
            }
            reasons.extend(self.waits.map(str::to_owned));
            let level =
                if self.waits.is_some() && heard >= majority { Level::Unknown } else { Level::NoService };
            return verdict(level, reasons, 0);
        }
        reasons.extend(self.waits.map(str::to_owned));
        let learning = |p: &&(Place, bool)| self.facts.is_learner(p.0) && self.facts.voter(p.0).is_none();
        reasons.extend(
            self.nodes
                .iter()
                .filter(learning)
                .map(|(p, _)| format!("node {p} is being taken in, and does not vote yet")),
        );
        let full = self.facts.fitness.iter().filter(|(_, f)| f.has(Ailment::Full)).map(|(p, _)| *p);
        let full: Vec<Place> = full.collect();
        let refuses = server.is_some_and(|place| full.contains(&place)) || 2 * full.len() > voters.len();
        if refuses {
            reasons.insert(0, String::from("new calls and registrations are refused: a disk is nearly full"));
        }
        if self.nodes.len() == 1 {
            reasons.push(String::from("there is no other node: its loss ends the service"));
            return verdict(if refuses { Level::Degraded } else { Level::Fine }, reasons, 0);
        }
        let candidates = self.nodes.iter().filter(|(place, appliance)| {
            *appliance && Some(*place) != server && voters.contains(place) && self.heard(*place).is_ok()
        });
        let candidates = candidates.count();
        let is_paused = self.facts.pause.is_some();
        let borne = if is_paused { 0 } else { heard.saturating_sub(majority).min(candidates) };
        if borne == 0 {
            let why = match candidates {
                _ if is_paused => "automatic takeover is paused (relevo resume)",
                0 => "no other appliance could take over",
                _ if voters.len() == 2 => "two voters and no witness bear no loss",
                _ => "no further node may be lost",
            };
            reasons.insert(0, format!("the next loss ends the service: {why}"));
        }
        let ailing = self.facts.fitness.iter().filter(|(_, f)| f.ailments().next().is_some());
        for (place, fitness) in ailing {
            let list: Vec<String> = fitness.ailments().map(|a| a.to_string()).collect();
            reasons.push(format!("node {place} is ailing: {}", list.join(", ")));
        }
        verdict(if refuses || borne == 0 { Level::Degraded } else { Level::Fine }, reasons, borne)
    }
}

fn unheard(place: Place, age: Option<Duration>) -> String {
    match age {
        Some(age) => format!("node {place} was not heard for {} s", age.as_secs()),
        None => format!("node {place} was not heard yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fitness, Grant, Peer};
    use super::*;

    const NODES: [(Place, bool); 3] = [(1, true), (2, true), (3, false)];
    const NOW: MonoTime = MonoTime(100_000_000_000);

    fn before(s: u64) -> MonoTime {
        MonoTime(NOW.0 - s * 1_000_000_000)
    }

    /// Node 1 leads and serves; `ages` of the last acknowledgements of nodes 2 and 3, s.
    fn holder(ages: [u64; 2]) -> Facts {
        let peer = |(place, age)| Peer { place, last_ack: Some(before(age)), ..Peer::default() };
        Facts {
            leader: Some(1),
            leading: true,
            grant: Some(Grant { holder: 1, token: 9 }),
            peers: [2, 3].into_iter().zip(ages).map(peer).collect(),
            ..Facts::default()
        }
    }

    fn sight<'a>(facts: &'a Facts, words: &'a [Word]) -> Sight<'a> {
        Sight {
            now: NOW,
            me: 1,
            nodes: &NODES,
            lease: Duration::from_millis(150),
            facts,
            words,
            active: facts.leading,
            waits: None,
        }
    }

    #[test]
    fn three_nodes_that_hear_each_other_bear_one_loss() {
        let facts = holder([0, 0]);
        let verdict = sight(&facts, &[]).verdict();
        assert_eq!((verdict.level, verdict.borne), (Level::Fine, 1));
        assert_eq!(verdict.words(), "node 1 serves; the loss of one more node is borne");
    }

    #[test]
    fn one_silent_node_of_three_is_named_with_its_age_and_the_next_loss_ends_the_service() {
        let facts = holder([0, 12]);
        let verdict = sight(&facts, &[]).verdict();
        assert_eq!((verdict.level, verdict.level.code()), (Level::Degraded, 1));
        assert_eq!(
            verdict.words(),
            "node 1 serves; the next loss ends the service: no further node may be lost; node 3 was not heard for 12 s"
        );
        let facts = holder([12, 0]);
        assert!(sight(&facts, &[]).verdict().words().contains("no other appliance could take over"));
    }

    #[test]
    fn a_node_that_hears_no_majority_does_not_look_healthy() {
        let facts = Facts { leader: None, leading: false, ..holder([9, 9]) };
        let old = [(2, 5, before(9)), (3, 5, before(9))];
        let verdict = sight(&facts, &old).verdict();
        assert_eq!((verdict.level, verdict.level.code()), (Level::NoService, 2));
        assert!(verdict.words().contains("it hears 1 of 3 voters, itself among them, and 2 are needed"));
        assert!(verdict.words().contains("node 2 was not heard for 9 s"), "{}", verdict.words());
    }

    #[test]
    fn a_standby_knows_the_server_by_its_leadership_and_the_others_by_their_words() {
        let facts = Facts {
            leader: Some(2),
            leading: false,
            led_at: Some(before(0)),
            grant: Some(Grant { holder: 2, token: 9 }),
            ..holder([0, 0])
        };
        let words = [(2, 5, before(0)), (3, 5, before(1))];
        let verdict = sight(&facts, &words).verdict();
        assert_eq!((verdict.level, verdict.server), (Level::Fine, Some(2)));
        let words = [(2, 5, before(0))];
        assert_eq!(sight(&facts, &words).verdict().level, Level::Degraded, "the witness says nothing");
        // It was cut off, and nobody has stood since: Raft still takes node 2 for the leader.
        let facts = Facts { led_at: Some(before(4)), ..facts };
        assert_eq!(sight(&facts, &[(2, 5, before(4))]).verdict().level, Level::NoService);
    }

    #[test]
    fn a_leader_that_is_not_the_holder_serves_nobody() {
        let facts = Facts { leader: Some(3), leading: false, led_at: Some(before(0)), ..holder([0, 0]) };
        let words = [(2, 5, before(0)), (3, 5, before(0))];
        let verdict = sight(&facts, &words).verdict();
        assert_eq!(verdict.level, Level::NoService);
        assert!(verdict.words().contains("node 3 leads, and the service is not up"));
    }

    #[test]
    fn a_pair_without_a_witness_is_always_one_loss_away_and_a_lone_node_is_as_it_was_meant() {
        let facts = Facts { peers: holder([0, 0]).peers[..1].to_vec(), ..holder([0, 0]) };
        let pair = Sight { nodes: &NODES[..2], ..sight(&facts, &[]) };
        let verdict = pair.verdict();
        assert_eq!(verdict.level, Level::Degraded);
        assert!(verdict.words().contains("two voters and no witness bear no loss"), "{}", verdict.words());
        let facts = Facts { peers: Vec::new(), ..holder([0, 0]) };
        let lone = Sight { nodes: &NODES[..1], ..sight(&facts, &[]) };
        assert_eq!(lone.verdict().level, Level::Fine);
    }

    #[test]
    fn refused_calls_degrade_and_ailments_are_named_beside_a_fine_verdict() {
        let full = Fitness::FIT.with(Ailment::Full);
        let facts = Facts { fitness: vec![(1, full)], ..holder([0, 0]) };
        let verdict = sight(&facts, &[]).verdict();
        assert_eq!(verdict.level, Level::Degraded);
        assert!(verdict.words().contains("new calls and registrations are refused"));
        let clock = Facts { fitness: vec![(2, Fitness::FIT.with(Ailment::Clock))], ..holder([0, 0]) };
        let verdict = sight(&clock, &[]).verdict();
        assert_eq!(verdict.level, Level::Fine);
        assert!(verdict.words().ends_with("node 2 is ailing: clock"), "{}", verdict.words());
    }

    #[test]
    fn in_a_pause_a_holder_that_dies_stays_dead_and_monitoring_is_told() {
        let at = proxy_core::time::WallTime(1);
        let pause = super::super::Pause { at, until: at, reason: String::new() };
        let facts = Facts { pause: Some(pause), ..holder([0, 0]) };
        let verdict = sight(&facts, &[]).verdict();
        assert_eq!((verdict.level, verdict.borne), (Level::Degraded, 0));
        assert!(verdict.words().contains("automatic takeover is paused"), "{}", verdict.words());
    }

    #[test]
    fn a_node_that_is_being_taken_in_is_named() {
        let mut facts = holder([0, 0]);
        facts.peers[0].learns = true;
        let verdict = sight(&facts, &[]).verdict();
        assert_eq!(verdict.level, Level::Degraded);
        assert!(verdict.words().contains("node 2 is being taken in"), "{}", verdict.words());
    }
}
