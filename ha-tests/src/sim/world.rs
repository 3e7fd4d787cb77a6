//! One simulated world: machines, network, phones and faults, millisecond by millisecond, all from one seed.
//!
//! | phase | what happens |
//! |---|---|
//! | chaos | faults come and go; phones register and call |
//! | healing | all faults end, all machines run; within [`HEAL_LIMIT`] one node serves and all have caught up |
//! | drain | calls come to their ends, a last registration is confirmed; then everything is compared |

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;

use raft_store::node::{Peer, Place, Role};

use super::base::{MS, Rng, Trace};
use super::judge::Judge;
use super::machine::{Machine, Mutation, Site};
use super::net::{Body, Letter, Net, Parcel};
use super::phones::{Call, Phones, Registrar};
use super::plan::{Drawn, Fault, Plan};
use super::process::{Failure, LEASE};
use super::sip;

/// One step of the world, ns.
const TICK: u64 = MS;
/// Time in which a healed cluster must serve, with all nodes caught up, ns.
pub const HEAL_LIMIT: u64 = 10_000 * MS;
/// Time in which calls must end after that, ns: longer than any retransmission of a phone.
const DRAIN_LIMIT: u64 = 40_000 * MS;

/// What to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Print the trace as it comes.
    pub print: bool,
    /// What is broken on purpose.
    pub mutation: Mutation,
}

/// What came of a world.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
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
    /// Time from healing to service, ms.
    pub heal_ms: u64,
}

/// A change that is due at a time.
#[derive(Debug, Clone, Copy)]
enum Due {
    Cut(Place, Place, u64),
    Uncut(Place, Place),
    Unlink,
    UnloseDatagrams,
    DiskRoom(Place),
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
    chaos: bool,
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
        let Options { seed, print, mutation } = options;
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
        let machines = places.iter().map(|p| Machine::new(seed, *p)).collect();
        let plan = Plan::new(seed, places.iter().map(|p| p.place).collect());
        Self {
            now: 0,
            machines,
            net: Net::new(seed),
            phones: Phones::default(),
            judge: Judge::default(),
            trace: Trace::new(print),
            phone_rng: Rng::of(seed, 0x7068_6f00),
            rng,
            plan,
            due: Vec::new(),
            wiped: false,
            chaos: false,
            outcome: Outcome { seed, ..Outcome::default() },
            leading: BTreeMap::new(),
            owners: Vec::new(),
            site: Site { seed, places, mutation },
        }
    }

    fn machine(&mut self, place: Place) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|m| m.place == place)
    }

    fn live(&mut self) {
        self.trace.say(format!("seed {}, {} nodes", self.site.seed, self.machines.len()));
        let calm = 3_000 * MS;
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
        }
        self.heal();
        let healed = self.now;
        while self.judge.verdict.is_none() && !self.whole() {
            if self.now > healed + HEAL_LIMIT {
                let why = self.what_is_missing();
                self.judge.accuse(format!(
                    "invariant 4: not whole {} s after healing: {why}",
                    HEAL_LIMIT / MS / 1000
                ));
            }
            self.tick();
        }
        self.outcome.heal_ms = (self.now - healed) / MS;
        self.drain();
    }

    /// Phones: some register all the time, some call.
    fn people(&mut self, from: u64, until: u64) {
        let rng = &mut self.phone_rng;
        for n in 0..4_u16 {
            let at = SocketAddr::from(([10, 9, 1, 2], 9_000 + n));
            let begin = 1_500 * MS + rng.between(0, 1_000) * MS;
            let every = Some((20 * MS, rng.between(100, 2_000) * MS));
            self.phones.registrars.push(Registrar::new(at, format!("r{n}"), begin, every));
        }
        let span = (until - from) / MS;
        for n in 0..u16::try_from(rng.between(8, 24)).unwrap_or(8) {
            let begin = from.saturating_sub(1_000 * MS) + rng.between(0, span) * MS;
            self.phones.calls.push(Call::new(n, begin, rng));
        }
    }

    fn heal(&mut self) {
        self.trace.say("all faults end");
        self.chaos = false;
        self.due.clear();
        self.net.heal(self.now);
        let now = self.now;
        for machine in &mut self.machines {
            machine.stopped_until = 0;
            machine.raft_stalled_until = 0;
            machine.control_stalled_until = 0;
            machine.cut_at_sync = false;
            machine.cut_at_vote = false;
            for disk in [&machine.disks.log, &machine.disks.snaps] {
                disk.fail_sync(None);
                disk.set_capacity(None);
            }
            if machine.agent.is_none() {
                machine.start_at = Some(machine.start_at.map_or(now, |at| at.min(now + 200 * MS)));
            }
        }
    }

    fn what_is_missing(&self) -> String {
        let mut out = format!("passes on {:?}, {} entries committed;", self.owners, self.judge.committed());
        for machine in &self.machines {
            let facts = machine
                .agent
                .as_ref()
                .and_then(|a| a.process.running().map(|r| a.process.inside(|| r.core.facts())));
            out += &format!(" node {}: {facts:?};", machine.place);
        }
        out
    }

    /// One owner that serves, every node a voter that has applied all.
    fn whole(&mut self) -> bool {
        let all = self.judge.committed();
        let settled = self.machines.iter().all(|m| {
            m.agent.as_ref().is_some_and(|a| {
                a.process.running().is_some_and(|r| a.judged == all && r.core.is_settled_voter())
            })
        });
        let serves = match &self.owners[..] {
            [owner] => self.machines.iter().any(|m| m.place == *owner && m.active().is_some()),
            _ => false,
        };
        settled && serves
    }

    /// No new calls; those under way must end, and a last registration must be confirmed.
    fn drain(&mut self) {
        if self.judge.verdict.is_some() {
            return;
        }
        for registrar in &mut self.phones.registrars {
            registrar.stop();
        }
        let at = SocketAddr::from(([10, 9, 1, 2], 9_999));
        self.phones.registrars.push(Registrar::new(at, String::from("last"), self.now, None));
        let begun = self.now;
        let confirmed = |p: &Phones| p.registrars.last().is_some_and(|r| r.confirmed > 0);
        while self.judge.verdict.is_none() {
            if confirmed(&self.phones) && self.phones.calls.iter().all(Call::over) {
                break;
            }
            if self.now > begun + DRAIN_LIMIT {
                if !confirmed(&self.phones) {
                    self.judge.accuse("invariant 4: a registration after healing is never confirmed");
                }
                for call in self.phones.calls.iter().filter(|c| !c.over()) {
                    self.judge.accuse(format!("invariant 4: {} never ends: {:?}", call.id, call));
                }
                break;
            }
            self.tick();
        }
        for call in &self.phones.calls {
            if let Some((_, callee)) = call.callees.iter().find(|(_, c)| c.rang > 1) {
                self.judge.accuse(format!("invariant 2: {} rang twice at one phone: {callee:?}", call.id));
            }
            if call.caller.bye_answer.is_some_and(|s| s != 200) {
                self.judge
                    .accuse(format!("invariant 2: the dialog of {} is lost: {:?}", call.id, call.caller));
            }
        }
        // All that is still on its way is applied everywhere; then the last comparison.
        for _ in 0..1_000 {
            if self.judge.verdict.is_some() || self.whole() {
                break;
            }
            self.tick();
        }
        let indexes_right = self
            .machines
            .iter()
            .filter_map(|m| m.agent.as_ref()?.process.running())
            .all(|r| r.core.view().read(|state| state.sip().index_is_right()));
        if !indexes_right {
            self.judge.accuse("invariant 3: a derived index does not say what the records say");
        }
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
            calls_answered: calls.iter().filter(|c| c.caller.bye_answer == Some(200)).count() as u64,
            ..self.outcome
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        self.trace.at(self.now / MS);
        self.settle_due();
        self.arrive();
        self.start_and_guard();
        for index in 0..self.machines.len() {
            self.machine_turn(index);
        }
        for (from, text) in self.phones.tick(self.now) {
            self.net.datagram(self.now, Parcel::ToProxy { from, bytes: text.into_bytes() });
        }
        self.compare();
    }

    fn settle_due(&mut self) {
        let now = self.now;
        let (ripe, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.due).into_iter().partition(|d| d.0 <= now);
        self.due = later;
        for (_, due) in ripe {
            match due {
                Due::Cut(from, to, until) => self.cut(from, to, until),
                Due::Uncut(from, to) => {
                    self.net.link(from, to).cut = false;
                    self.net.release(now);
                }
                Due::Unlink => {
                    for (from, to) in self.pairs() {
                        let link = self.net.link(from, to);
                        link.loss = 0;
                        link.slow_ms = 0;
                    }
                }
                Due::UnloseDatagrams => self.net.phone_loss = 0,
                Due::DiskRoom(place) => {
                    if let Some(machine) = self.machine(place) {
                        for disk in [&machine.disks.log, &machine.disks.snaps] {
                            disk.set_capacity(None);
                            disk.fail_sync(None);
                        }
                    }
                }
            }
        }
    }

    fn pairs(&self) -> Vec<(Place, Place)> {
        let places: Vec<_> = self.machines.iter().map(|m| m.place).collect();
        places.iter().flat_map(|a| places.iter().map(|b| (*a, *b))).filter(|(a, b)| a != b).collect()
    }

    fn arrive(&mut self) {
        let now = self.now;
        for parcel in self.net.arrivals(now) {
            match parcel {
                Parcel::Letter(letter) => self.letter(letter),
                Parcel::ToProxy { from, bytes } => {
                    if let Some(machine) = self.machines.iter_mut().find(|m| m.answers(now)) {
                        machine.datagram(from, bytes);
                    }
                }
                Parcel::ToPhone { to, bytes } => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    for (from, text) in self.phones.on(to, &text, now, &mut self.phone_rng) {
                        self.net.datagram(now, Parcel::ToProxy { from, bytes: text.into_bytes() });
                    }
                }
            }
        }
    }

    fn letter(&mut self, letter: Letter) {
        let Letter { from, to, body } = letter;
        let Some(machine) = self.machine(to) else { return };
        match (&mut machine.agent, body) {
            (Some(agent), Body::Answer { call, run, lane, reply, vote }) => {
                if run == agent.process.run() {
                    agent.process.deliver(from, Body::Answer { call, run, lane, reply, vote });
                }
            }
            (Some(agent), body) => agent.process.deliver(from, body),
            (None, Body::Ask { call, run, lane, .. }) if machine.power => {
                // The kernel of a machine without agent refuses the connection.
                let body = Body::Answer { call, run, lane, reply: None, vote: false };
                self.net.send(self.now, Letter { from: to, to: from, body });
            }
            (None, _) => {}
        }
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
        let done = machine.tick(now, &mut self.rng, self.site.mutation);
        let boot = machine.clocks.boot(now);
        if let Some(agent) = &mut machine.agent {
            let restarted_ago =
                agent.process.restarted().then(|| boot.saturating_sub(agent.process.started_at()));
            let letters = agent.process.outgoing();
            let id = machine.id.unwrap_or_default();
            let voted = self.judge.voted(id, letters.iter().map(|l| &l.body));
            for letter in letters {
                self.judge.said(place, restarted_ago, LEASE.as_nanos() as u64, &letter.body);
                note_letter(&mut self.trace, &letter);
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
        for (to, bytes) in done.datagrams {
            let text = String::from_utf8_lossy(&bytes);
            if !machine.answers(now) {
                self.trace.say(format!("node {place}: the gate drops {}", sip::short(&text)));
                continue;
            }
            self.trace.say(format!("node {place} -> {to} {}", sip::short(&text)));
            self.judge.sent(place, &text);
            self.net.datagram(now, Parcel::ToPhone { to, bytes });
        }
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
            Failure::Store(why) => {
                self.judge
                    .accuse(format!("invariant 3: the store of node {} is damaged: {why}", machine.place));
            }
            Failure::Raft(why) | Failure::Disk(why) if !disk_was_broken => {
                self.judge.accuse(format!("node {} ends without a fault of its disk: {why}", machine.place));
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

    fn compare(&mut self) {
        let now = self.now;
        let owners: Vec<Place> = self.machines.iter().filter(|m| m.answers(now)).map(|m| m.place).collect();
        if owners != self.owners {
            self.trace.say(format!("the floating IP passes on {owners:?}"));
        }
        self.judge.owners(&owners);
        self.owners = owners;
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

    fn cut(&mut self, from: Place, to: Place, until: u64) {
        self.net.link(from, to).cut = true;
        self.due.push((until, Due::Uncut(from, to)));
    }

    fn inflict(&mut self, drawn: Drawn) {
        let Drawn { fault, place, other, lasts, detail } = drawn;
        let now = self.now;
        let until = now + lasts;
        let places: Vec<Place> = self.machines.iter().map(|m| m.place).collect();
        let others: Vec<Place> = places.iter().copied().filter(|p| *p != place).collect();
        // A node with a new disk must be whole again before the next one may lose its disk: more than a minority lost
        // for good is beyond what any cluster survives. One per world is enough to see that joining works.
        if fault == Fault::Wipe && (self.wiped || !self.whole()) {
            return;
        }
        self.trace.say(format!("FAULT {fault:?} node {place}/{other} for {} ms", lasts / MS));
        *self.outcome.faults.entry(fault).or_default() += 1;
        let guard_acts = now + (1 + detail % 5) * MS;
        let slow = 5 + detail % 120;
        match fault {
            Fault::Blackout => {
                for machine in &mut self.machines {
                    machine.power_off(detail);
                    machine.start_at = Some(until + (detail >> 8) % 500 * MS);
                }
                return;
            }
            Fault::Isolate => {
                for other in others {
                    self.cut(place, other, until);
                    self.cut(other, place, until);
                }
                return;
            }
            Fault::OneWay => return self.cut(place, other, until),
            Fault::Mute => return others.into_iter().for_each(|o| self.cut(place, o, until)),
            Fault::Deaf => return others.into_iter().for_each(|o| self.cut(o, place, until)),
            Fault::LateAnswers => {
                let from_then_on = now + (10 + (detail >> 8) % 100) * MS;
                for other in others {
                    self.net.link(other, place).slow_ms = 2 * slow;
                    self.due.push((from_then_on, Due::Cut(place, other, until.max(from_then_on + 400 * MS))));
                }
                self.due.push((until.max(from_then_on), Due::Unlink));
                return;
            }
            Fault::Delay | Fault::Loss => {
                for (from, to) in self.pairs() {
                    let link = self.net.link(from, to);
                    if fault == Fault::Delay {
                        link.slow_ms = slow;
                    } else {
                        link.loss = 1 + slow / 4;
                    }
                }
                self.due.push((until, Due::Unlink));
                return;
            }
            Fault::PhoneLoss => {
                self.net.phone_loss = 5 + detail % 40;
                self.due.push((until, Due::UnloseDatagrams));
                return;
            }
            _ => {}
        }
        let wiped = &mut self.wiped;
        let Some(machine) = self.machines.iter_mut().find(|m| m.place == place) else { return };
        match fault {
            Fault::PowerLoss => {
                machine.power_off(detail);
                machine.start_at = Some(until);
            }
            Fault::PowerLossAtSync if machine.agent.is_some() => {
                machine.cut_at_sync = true;
                machine.disks.log.fail_sync(Some(detail % 12));
            }
            Fault::PowerLossAtVote => machine.cut_at_vote = true,
            Fault::KillAgent | Fault::KillBoth if machine.agent.is_some() => {
                machine.kill();
                machine.guard &= fault == Fault::KillAgent;
                machine.guard_at = machine.guard.then_some(guard_acts);
                machine.start_at = Some(until.max(guard_acts + MS));
            }
            Fault::StopAgent => machine.stopped_until = until.max(machine.stopped_until),
            Fault::StopBoth if machine.agent.is_some() => {
                machine.stopped_until = until.max(machine.stopped_until);
                // A guard that is stopped with its agent does nothing; it does not come back in this run.
                machine.guard = false;
            }
            Fault::StopInRenewal if machine.active().is_some() => {
                machine.kernel.gate().stop_in_renewal = lasts;
                machine.guard = false;
            }
            Fault::StallRaft => machine.raft_stalled_until = now + lasts.min(500 * MS),
            Fault::StallControl => machine.control_stalled_until = now + lasts.min(1_000 * MS),
            Fault::DiskFull => {
                let disk = if detail & 1 == 0 { &machine.disks.log } else { &machine.disks.snaps };
                disk.set_capacity(Some(disk.used() + detail % 4_000));
                self.due.push((until + 1_000 * MS, Due::DiskRoom(place)));
            }
            Fault::SyncFails => {
                machine.disks.log.fail_sync(Some(detail % 8));
                self.due.push((until + 1_000 * MS, Due::DiskRoom(place)));
            }
            Fault::Snapshot => {
                if let Some(agent) = &machine.agent {
                    agent.process.snapshot(detail % 30);
                }
            }
            Fault::Switchover => {
                let (reply, _) = sync_channel(1);
                machine.switchover(reply);
            }
            Fault::Wipe => {
                *wiped = true;
                machine.power_off(detail);
                machine.disks = super::process::Disks::default();
                machine.id = None;
                machine.start_at = Some(until);
            }
            _ => {}
        }
    }
}

/// Letters in the trace: votes, transfers, snapshots and refusals as they are, appends in short.
fn note_letter(trace: &mut Trace, letter: &Letter) {
    use raft_store::node::inbound::{Rpc, RpcReply};
    let Letter { from, to, body } = letter;
    let what = match body {
        Body::Ask { rpc: Rpc::Append(a), .. } => format!(
            "append {} prev {:?} n {} commit {:?}",
            a.vote.leader_id.term,
            a.prev_log_id.as_ref().map(|l| l.index),
            a.entries.len(),
            a.leader_commit.as_ref().map(|l| l.index)
        ),
        Body::Ask { rpc: Rpc::Vote(v), .. } => format!("vote? {}", v.vote),
        Body::Ask { rpc: Rpc::PreVote(v), .. } => format!("pre-vote? {}", v.vote),
        Body::Ask { rpc: Rpc::Snapshot { offset, last, .. }, .. } => {
            format!("snapshot at {offset} last {last}")
        }
        Body::Ask { rpc: Rpc::TransferLeader(_), .. } => "lead!".into(),
        Body::Ask { rpc: Rpc::Hello, .. } => "hello?".into(),
        Body::Ask { rpc: Rpc::Join { id, .. }, .. } => format!("join? {id}"),
        Body::Ask { rpc: Rpc::Propose(batch), .. } => format!("propose {batch}"),
        Body::Answer { reply: Some(RpcReply::Append(a)), .. } => format!("appended {a}"),
        Body::Answer { reply: Some(RpcReply::Vote(v)), .. } => {
            format!("vote {} granted {}", v.vote, v.vote_granted)
        }
        Body::Answer { reply: Some(RpcReply::Unavailable(why)), .. } => format!("unavailable: {why}"),
        Body::Answer { reply: Some(RpcReply::Join(j)), .. } => format!("joined {j:?}"),
        Body::Answer { reply: Some(_), .. } => "answer".into(),
        Body::Answer { reply: None, .. } => "refused".into(),
        Body::Notice { .. } => "notice".into(),
    };
    trace.say(format!("{from}>{to} {what}"));
}
