//! One simulated world: machines, network, phones and faults, millisecond by millisecond, all from one seed.
//!
//! | phase | what happens |
//! |---|---|
//! | chaos | faults come and go; phones register and call |
//! | healing | all faults end, all machines run; within [`HEAL_LIMIT`] one node serves and all have caught up |
//! | drain | calls come to their ends, a last registration is confirmed; then everything is compared |

mod damage;
mod faults;
mod members;
mod phases;
mod post;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use raft_store::node::{Peer, Place, Role};

use self::damage::Blows;
use self::faults::Due;
use self::members::Operator;
use self::phases::HEAL_LIMIT;
use super::base::{MS, Rng, Trace};
use super::broken::Mutation;
use super::distance::Distance;
use super::judge::Judge;
use super::laws;
use super::machine::Machine;
use super::net::{Letter, Net, Parcel};
use super::phones::Phones;
use super::plan::{Fault, Plan};
use super::process::{Disks, Failure};
use super::rtp::MediaCounts;
use super::setup::Site;

/// One step of the world, ns.
const TICK: u64 = MS;

/// What to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Print the trace as it comes.
    pub print: bool,
    /// What is broken on purpose.
    pub mutation: Mutation,
    /// How far the nodes are from each other.
    pub distance: Distance,
}

/// What came of a world.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// How far its nodes were from each other.
    pub distance: Distance,
    /// What was found wrong, if anything.
    pub failure: Option<String>,
    /// Hash over the trace.
    pub hash: u64,
    /// Lines of the trace.
    pub lines: u64,
    /// The newest lines.
    pub tail: Vec<String>,
    /// Simulated time, ms.
    pub simulated_ms: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// Terms in which a node led.
    pub elections: u64,
    /// Times that another node than before became active.
    pub moves: u64,
    /// Messages of the proxy that were judged.
    pub promises: u64,
    /// Entries committed.
    pub entries: u64,
    /// Messages between nodes.
    pub letters: u64,
    /// Calls that were answered and hung up.
    pub calls_answered: u64,
    /// Calls in all.
    pub calls: u64,
    /// Later rounds of calls: the next q, voicemail, the next backend, credentials for a trunk.
    pub failovers: u64,
    /// Branches that went on at another address.
    pub moved: u64,
    /// Registrations of the trunk that the carrier accepted.
    pub registered: u64,
    /// NOTIFYs to watchers of calls.
    pub notified: u64,
    /// What rtpengines did.
    pub media: MediaCounts,
    /// Messages that were kept.
    pub kept: u64,
    /// Changes of the membership that an operator made.
    pub changes: u64,
    /// Time from healing to service, ms.
    pub heal_ms: u64,
}

/// A world. See the module documentation.
pub struct World {
    now: u64,
    site: Site,
    machines: Vec<Machine>,
    net: Net,
    phones: Phones,
    judge: Judge,
    trace: Trace,
    rng: Rng,
    phone_rng: Rng,
    plan: Plan,
    due: Vec<(u64, Due)>,
    wiped: bool,
    blows: Blows,
    operator: Operator,
    chaos: bool,
    /// When datagrams of phones were lost.
    losses: Vec<(u64, u64)>,
    outcome: Outcome,
    leading: BTreeMap<Place, u64>,
    owners: Vec<Place>,
}

/// Runs one world to its end.
#[must_use]
pub fn run(options: Options) -> Outcome {
    let mut world = World::new(options);
    world.live();
    world.end()
}

impl World {
    fn new(options: Options) -> Self {
        let Options { seed, print, mutation, distance } = options;
        let mut rng = Rng::of(seed, 0x776f_726c);
        // Mostly the default shape; three and five appliances, too.
        let shape: &[Role] = match rng.between(0, 9) {
            0..=5 => &[Role::Appliance, Role::Appliance, Role::Witness],
            6..=8 => &[Role::Appliance; 3],
            _ => &[Role::Appliance; 5],
        };
        let peer = |(place, role): (Place, &Role)| Peer {
            place,
            role: *role,
            addr: SocketAddr::from(([10, 9, 2, 1], 7000 + place)),
        };
        let places: Vec<Peer> = (1..).zip(shape).map(peer).collect();
        let machines = places.iter().map(|p| Machine::new(seed, *p, distance.lease())).collect();
        let mut net = Net::new(seed);
        net.delay_ms = distance.delay_ms().unwrap_or(net.delay_ms);
        let mut judge = Judge::default();
        judge.liveness = laws::liveness::Law::of(distance);
        judge.commits = laws::commits::Law::of(distance);
        let plan = Plan::new(seed, places.iter().map(|p| p.place).collect());
        Self {
            now: 0,
            machines,
            net,
            phones: Phones::default(),
            judge,
            trace: Trace::new(print),
            phone_rng: Rng::of(seed, 0x7068_6f00),
            rng,
            plan,
            due: Vec::new(),
            wiped: false,
            blows: Blows::new(seed),
            operator: Operator::new(seed),
            chaos: false,
            losses: Vec::new(),
            outcome: Outcome { seed, distance, ..Outcome::default() },
            leading: BTreeMap::new(),
            owners: Vec::new(),
            site: Site { seed, places, mutation, distance },
        }
    }

    fn machine(&mut self, place: Place) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|m| m.place == place)
    }

    fn live(&mut self) {
        self.trace.say(format!("seed {}, {} nodes", self.site.seed, self.machines.len()));
        let calm = 3_000 * MS * self.site.distance.patience();
        let chaos_until = calm + self.rng.between(8_000, 20_000) * MS;
        self.people(calm, chaos_until);
        let mut next_fault = calm + self.plan.pause();
        while self.now < chaos_until && self.judge.verdict.is_none() {
            self.tick();
            self.chaos = self.now >= calm;
            if self.now >= next_fault {
                next_fault = self.now + self.plan.pause();
                let owner = self.owners.first().copied();
                let drawn = self.plan.draw(owner);
                self.inflict(drawn);
            }
            if self.chaos && !self.operator.is_under_way() {
                self.strike();
            }
        }
        self.heal();
        let healed = self.now;
        let heal_limit = HEAL_LIMIT * self.site.distance.patience();
        while self.judge.verdict.is_none() && !self.whole() {
            if self.now > healed + heal_limit {
                let why = self.what_is_missing();
                self.judge.accuse(format!(
                    "invariant 4: not whole {} s after healing: {why}",
                    heal_limit / MS / 1000
                ));
            }
            self.tick();
        }
        self.outcome.heal_ms = (self.now - healed) / MS;
        self.drain();
        self.last_blow();
    }

    fn end(mut self) -> Outcome {
        let failure = self.judge.verdict.take();
        if let Some(why) = &failure {
            self.trace.say(format!("WRONG: {why}"));
        }
        let calls = &self.phones.calls;
        Outcome {
            hash: self.trace.hash(),
            lines: self.trace.count(),
            tail: if failure.is_some() {
                self.trace.tail(60).map(str::to_owned).collect()
            } else {
                Vec::new()
            },
            failure,
            simulated_ms: self.now / MS,
            moves: self.judge.moves,
            promises: self.judge.promises,
            entries: self.judge.committed(),
            letters: self.net.counts.letters,
            calls: calls.len() as u64,
            failovers: self.judge.rounds,
            moved: self.judge.moved,
            notified: self.judge.lamps.told(),
            media: MediaCounts {
                given: self.phones.rtp.given,
                deleted: self.phones.rtp.deleted,
                excused: self.judge.media.excused(&self.phones.rtp),
            },
            kept: self.judge.notes.kept(),
            changes: self.operator.made,
            registered: self.phones.carrier.accepted,
            calls_answered: calls.iter().filter(|c| c.caller.bye_answer == Some(200)).count() as u64,
            ..self.outcome
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        self.judge.time.now = self.now;
        self.trace.at(self.now / MS);
        self.settle_due();
        self.arrive();
        self.start_and_guard();
        self.operate();
        self.change_members();
        for index in 0..self.machines.len() {
            self.machine_turn(index);
        }
        for (from, text) in self.phones.tick(self.now) {
            self.net.datagram(self.now, Parcel::ToProxy { from, bytes: text.into_bytes() });
        }
        self.compare();
    }

    fn start_and_guard(&mut self) {
        let now = self.now;
        for machine in &mut self.machines {
            if machine.agent.is_none() && machine.start_at.is_some_and(|at| now >= at) {
                self.trace.say(format!("node {} starts", machine.place));
                if let Err(e) = machine.start(now, &self.site) {
                    self.judge.accuse(format!("the system refuses a runtime: {e}"));
                }
            }
            let ran = machine.agent.is_some();
            let notice = machine.guard_turn(now);
            if ran && machine.agent.is_none() {
                self.trace.say(format!("node {}: the guard kills its silent agent", machine.place));
            }
            if let Some(body) = notice {
                self.trace.say(format!("node {}: its guard says {body:?}", machine.place));
                for peer in self.site.places.iter().filter(|p| p.place != machine.place) {
                    let letter = Letter { from: machine.place, to: peer.place, body: body.clone() };
                    self.net.send(now, letter);
                }
            }
        }
    }

    fn machine_turn(&mut self, index: usize) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(index) else { return };
        let place = machine.place;
        let mut done = machine.tick(now, &mut self.rng, self.site.mutation);
        let boot = machine.clocks.boot(now);
        if let Some(wrong) = done.wrong.take() {
            self.judge.accuse(wrong);
        }
        if let Some(agent) = &mut machine.agent {
            let restarted_ago =
                agent.process.restarted().then(|| boot.saturating_sub(agent.process.started_at()));
            let letters = agent.process.outgoing();
            let id = machine.id.unwrap_or_default();
            let voted = self.judge.voted(id, letters.iter().map(|l| &l.body));
            for letter in letters {
                if let Some(what) = self.judge.memory.said(id, &letter.body) {
                    self.judge.accuse(format!("invariant 16: node {place} {what}"));
                }
                self.judge.said(
                    place,
                    restarted_ago,
                    self.site.distance.lease().as_nanos() as u64,
                    &letter.body,
                );
                self.trace.say(letter.short());
                self.net.send(now, letter);
            }
            if voted && machine.cut_at_vote {
                self.trace.say(format!("node {place} loses its power after its vote"));
                let detail = self.rng.draw();
                machine.power_off(detail);
                machine.start_at = Some(now + detail % 300 * MS);
                return;
            }
            self.judge.look(place, agent);
            if let Some(token) = done.activated {
                self.trace.say(format!("node {place} is active under {token}"));
                self.judge.activated(place, token, agent);
            }
        }
        if done.deactivated {
            self.trace.say(format!("node {place} is active no more"));
        }
        self.post(place, &mut done);
        if let Some(failure) = done.failure {
            self.failed(index, &failure);
        }
    }

    /// An agent has ended by itself.
    fn failed(&mut self, index: usize, failure: &Failure) {
        let back = self.now + self.rng.between(50, 1_500) * MS;
        let detail = self.rng.draw();
        let Some(machine) = self.machines.get_mut(index) else { return };
        self.trace.say(format!("node {} ends: {failure:?}", machine.place));
        let disk_was_broken = machine.disks.log.broken() || machine.disks.snaps.broken();
        match failure {
            Failure::Panicked => {
                self.judge.accuse(format!("node {}: an assertion of openraft failed", machine.place));
            }
            Failure::Raft(why) | Failure::Disk(why) if !disk_was_broken => {
                self.judge.accuse(format!("node {} ends without a fault of its disk: {why}", machine.place));
            }
            Failure::Forgotten(why) if !machine.hurt => {
                self.judge.accuse(format!(
                    "invariant 16: node {} has forgotten without damage to its disk: {why}",
                    machine.place
                ));
            }
            Failure::Forgotten(_) => {
                machine.aside = true;
                machine.id = None;
                machine.disks = Disks::default();
            }
            Failure::Raft(_) | Failure::Disk(_) => {}
        }
        if machine.cut_at_sync {
            machine.power_off(detail);
        } else {
            machine.kill();
            // What was not synced may be lost although the machine runs on: the disk said so.
            for disk in [&machine.disks.log, &machine.disks.snaps] {
                disk.fail_sync(None);
                disk.set_capacity(None);
                disk.crash(detail);
            }
        }
        machine.start_at = Some(back);
    }

    /// Invariant 14.
    fn live_on(&mut self, serves: bool) {
        let now = self.now;
        let places: Vec<Place> = self.machines.iter().map(|m| m.place).collect();
        // A leader that cannot commit gives up after seconds: that is another law's matter (`laws::commits`).
        // Nor does a leader whose control thread does not run end by itself: its guard kills it, unless that is stopped, too.
        let leads_unguarded = |m: &Machine| {
            use openraft::async_runtime::WatchReceiver;
            let running = m.agent.as_ref().and_then(|a| a.process.running());
            let leads = running.is_some_and(|r| {
                r.core.raft().metrics().borrow_watched().state == openraft::ServerState::Leader
            });
            m.lively(now) && !m.guard && now < m.control_stalled_until && leads
        };
        // It has given the service away for a stated time, because another node could do better: if that one fails, too, the
        // time is added.
        let is_mute = |m: &Machine| {
            let running = m.agent.as_ref().and_then(|a| a.process.running());
            running.is_some_and(|r| r.core.facts().mute_until.is_some())
        };
        // It has not one byte left for a vote or an entry: it can neither vote nor acknowledge before there is room again.
        let lacks_room = |m: &Machine| {
            let running = m.agent.as_ref().and_then(|a| a.process.running());
            running.is_some_and(|r| r.core.facts().syncs.no_room.is_some())
        };
        let slow = |m: &Machine| m.disks.slow.get() > 0;
        // Who is out, or on its way, is none of the majority.
        let stalls = self.operator.is_under_way()
            || self.net.is_narrow()
            || self.machines.iter().any(|m| slow(m) || leads_unguarded(m));
        let mut nodes = Vec::with_capacity(places.len());
        for machine in &self.machines {
            let clear = |other: &Place| {
                *other != machine.place
                    && self.net.is_clear(machine.place, *other)
                    && self.net.is_clear(*other, machine.place)
            };
            let unheard = |other: &Place| {
                *other != machine.place
                    && self.net.is_cut(machine.place, *other)
                    && !self.net.is_cut(*other, machine.place)
            };
            nodes.push(laws::liveness::Node {
                place: machine.place,
                appliance: machine.role == Role::Appliance,
                able: !stalls && machine.is_able(now) && !is_mute(machine) && !lacks_room(machine),
                near: places.iter().copied().filter(clear).collect(),
                unheard_by: places.iter().copied().filter(unheard).collect(),
            });
        }
        let Some(late) = self.judge.liveness.tick(now, &nodes, serves) else { return };
        // A node that is not taken in yet, or again, is none of the majority.
        let votes = |m: &&Machine| late.contains(&m.place) && is_voter(m);
        if self.machines.iter().filter(votes).count() == late.len() {
            self.judge
                .accuse(format!("invariant 14: nodes {late:?} run and hear each other, and nobody serves"));
        }
    }

    /// Invariant 15, now and then: it takes a while.
    fn watch_commits(&mut self) {
        let now = self.now;
        if !now.is_multiple_of(20 * MS) || self.operator.is_under_way() {
            return;
        }
        let late = self.owners.first().copied().filter(|place| {
            let machine = self.machines.iter().find(|m| m.place == *place);
            machine.is_some_and(|m| m.lively(now) && m.is_late(now))
        });
        let could = late.is_some_and(|place| self.could_serve_instead_of(place));
        if let Some(why) = self.judge.commits.look(now, late, could) {
            self.judge.accuse(why);
        }
    }

    /// Whether nothing is wrong anywhere but at `place`, so that another node could commit.
    fn could_serve_instead_of(&mut self, place: Place) -> bool {
        let now = self.now;
        let others: Vec<Place> = self.machines.iter().map(|m| m.place).filter(|p| *p != place).collect();
        // Without the vote of one that is not taken in again, another one needs this node's, and has it not if it lacks
        // what this node cannot send.
        let lease = self.site.distance.lease();
        let whole = |m: &Machine| {
            m.lively(now) && m.disks.slow.get() == 0 && m.is_up_for(now, 2 * lease) && m.is_member()
        };
        let machines = self.machines.iter().filter(|m| m.place != place).all(whole);
        let clean =
            |link: &super::net::Link| !link.cut && !link.narrow && link.loss == 0 && link.slow_ms == 0;
        machines
            && others.iter().all(|a| {
                // Small messages pass in both directions, too: it is heard, and so knows that it is not alone.
                let (from, to) = (*self.net.link(*a, place), *self.net.link(place, *a));
                let heard = clean(&from) && clean(&super::net::Link { narrow: false, ..to });
                heard && others.iter().filter(|b| *b != a).all(|b| clean(self.net.link(*a, *b)))
            })
    }

    fn compare(&mut self) {
        let now = self.now;
        let owners: Vec<Place> = self.machines.iter().filter(|m| m.answers(now)).map(|m| m.place).collect();
        if owners != self.owners {
            self.trace.say(format!("the floating IP passes on {owners:?}"));
        }
        self.judge.owners(&owners);
        self.owners = owners;
        let serves = |place| {
            let machine = self.machines.iter().find(|m| m.place == place);
            machine.is_some_and(|m| m.answers(now) && m.active().is_some())
        };
        self.judge.media.tick(now, serves);
        let anybody = self.machines.iter().any(|m| serves(m.place));
        self.live_on(anybody);
        self.watch_commits();
        for machine in &self.machines {
            let Some(agent) = &machine.agent else { continue };
            let Some(running) = agent.process.running() else { continue };
            use openraft::async_runtime::WatchReceiver;
            let watched = running.core.raft().metrics();
            let (leads, term) = {
                let m = watched.borrow_watched();
                (m.state == openraft::ServerState::Leader && m.vote.committed, m.current_term)
            };
            if leads && self.leading.get(&machine.place) != Some(&term) {
                self.leading.insert(machine.place, term);
                self.outcome.elections += 1;
                self.trace.say(format!("node {} leads in term {term}", machine.place));
            }
        }
    }
}

/// Whether its own membership knows it as a voter.
fn is_voter(machine: &Machine) -> bool {
    let running = machine.agent.as_ref().and_then(|a| a.process.running());
    running.is_some_and(|r| r.core.is_settled_voter())
}
