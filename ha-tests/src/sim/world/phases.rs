//! The phases of a world: its phones, the end of all faults, and what must then be whole, end and be equal.

use std::net::SocketAddr;

use super::World;
use crate::sim::base::{MS, Rng};
use crate::sim::call::{Call, Kind};
use crate::sim::callee::Callee;
use crate::sim::client::Registrar;
use crate::sim::kernel::set_clock;
use crate::sim::phones::Phones;
use crate::sim::setup;
use crate::sim::{laws, ledger};

/// Time in which a healed cluster must serve, with all nodes caught up, ns.
pub const HEAL_LIMIT: u64 = 10_000 * MS;
/// Time in which calls must end after that, ns: longer than any retransmission of a phone.
const DRAIN_LIMIT: u64 = 40_000 * MS;

impl World {
    /// Phones: some register all the time, some call.
    pub(super) fn people(&mut self, from: u64, until: u64) {
        let rng = &mut self.phone_rng;
        for n in 0..4_u16 {
            let at = SocketAddr::from(([10, 9, 1, 2], 9_000 + n));
            let begin = 1_500 * MS + rng.between(0, 1_000) * MS;
            let every = Some((20 * MS, rng.between(100, 2_000) * MS));
            let contact = format!("<sip:r{n}@{at}>");
            self.phones.registrars.push(Registrar::new(at, format!("r{n}"), contact, begin, every));
        }
        self.phones.notes.draw(from, until, &mut Rng::of(self.site.seed, 0x6e6f_7465));
        let span = (until - from) / MS;
        for n in 0..u16::try_from(rng.between(8, 24)).unwrap_or(8) {
            let begin = from.saturating_sub(1_000 * MS) + rng.between(0, span) * MS;
            self.phones.calls.push(Call::new(n, begin, rng));
        }
        // From a source of their own: calls are as they would be without.
        let rng = &mut Rng::of(self.site.seed, 0x6c61_6d70);
        let mut users = vec![String::from("caller")];
        for (n, call) in (0..).zip(&mut self.phones.calls) {
            if matches!(call.kind, Kind::Forks | Kind::Serial | Kind::Mailbox) {
                users.push(call.user(n));
            }
            if rng.chance(10) {
                call.caller.stay();
            }
        }
        self.phones.lamps.draw(&users, from, until, rng);
        let rng = &mut Rng::of(self.site.seed, 0x6d65_6469);
        for call in &mut self.phones.calls {
            call.caller.offers = rng.chance(60);
        }
        self.phones.rtp.draw(from, until, rng);
        self.judge.media.away = self.phones.rtp.away();
    }

    /// An operator puts in backends and a trunk, and looks now and then whether they are there.
    pub(super) fn operate(&mut self) {
        let (now, pause) = (self.now, 200 * MS);
        if self.phones.provisioned || now < 1_200 * MS || !now.is_multiple_of(pause) {
            return;
        }
        self.phones.provisioned = setup::is_provisioned(self.judge.sip());
        if self.phones.provisioned {
            return;
        }
        if let Some(machine) = self.machines.iter_mut().find(|m| m.lively(now) && m.active().is_some()) {
            set_clock(machine.clocks.now(now));
            machine.operate(setup::provisioning);
        }
    }

    pub(super) fn heal(&mut self) {
        self.trace.say("all faults end");
        self.chaos = false;
        self.due.clear();
        self.net.heal(self.now);
        let now = self.now;
        for (_, until) in &mut self.losses {
            *until = now.min(*until);
        }
        for machine in &mut self.machines {
            // One that was stopped in the midst of a renewal has gone on to that time by its own clock.
            if !machine.kernel.gate().defers() {
                machine.stopped_until = 0;
            }
            machine.disks.slow.set(0);
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

    pub(super) fn what_is_missing(&self) -> String {
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
    pub(super) fn whole(&mut self) -> bool {
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
        settled && serves && !self.operator.is_under_way()
    }

    /// Asked now and then: it takes a while.
    fn lamps_are_right(&self) -> bool {
        let (state, watchers) = (self.judge.sip(), &self.phones.lamps.watchers);
        self.now.is_multiple_of(20 * MS)
            && watchers.iter().all(|w| laws::lamps::of_watcher(state, w).is_none())
    }

    /// No new calls; those under way must end, and a last registration must be confirmed.
    pub(super) fn drain(&mut self) {
        if self.judge.verdict.is_some() {
            return;
        }
        for registrar in &mut self.phones.registrars {
            registrar.stop();
        }
        let at = SocketAddr::from(([10, 9, 1, 2], 9_999));
        let contact = format!("<sip:last@{at}>");
        self.phones.registrars.push(Registrar::new(at, String::from("last"), contact, self.now, None));
        let begun = self.now;
        let confirmed = |p: &Phones| p.registrars.last().is_some_and(|r| r.confirmed > 0);
        while self.judge.verdict.is_none() {
            let quiet = |c: &Call| !c.callees.iter().any(Callee::is_ringing);
            if confirmed(&self.phones)
                && self.phones.calls.iter().all(|c| c.over() && quiet(c))
                && self.phones.carrier.until > self.now
                && self.phones.notes.over()
                && self.lamps_are_right()
                && self.judge.media.at_the_end(self.judge.sip(), &self.phones.rtp).is_none()
            {
                break;
            }
            if self.now > begun + DRAIN_LIMIT && self.judge.time.has_skipped_much() {
                return;
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
        if self.judge.time.has_skipped_much() {
            // Power came back everywhere with clocks that were set in between: what was under way may have ended.
            return;
        }
        ledger::calls(&mut self.judge, &self.phones, &self.losses);
        ledger::trunk(&mut self.judge, &self.phones, self.now);
        let state = self.judge.sip();
        let wrong =
            self.phones.lamps.watchers.iter().find_map(|w| Some((w, laws::lamps::of_watcher(state, w)?)));
        if let Some((watcher, why)) = wrong {
            let what = format!("invariant 12: {} {why}", watcher.call);
            self.judge.accuse(what);
        }
        if let Some(why) = self.judge.media.at_the_end(self.judge.sip(), &self.phones.rtp) {
            self.judge.accuse(format!("invariant 13: {why}"));
        }
        if let Some(why) = laws::notes::at_the_end(&self.phones.notes) {
            self.judge.accuse(format!("invariant 11: {why}"));
        }
        // All that is still on its way is applied everywhere; then the last comparison.
        for _ in 0..1_000 {
            if self.judge.verdict.is_some() || self.whole() {
                break;
            }
            self.tick();
        }
        ledger::records(&mut self.judge, &self.phones);
        let indexes_right = self
            .machines
            .iter()
            .filter_map(|m| m.agent.as_ref()?.process.running())
            .all(|r| r.core.view().read(|state| state.sip().index_is_right()));
        if !indexes_right {
            self.judge.accuse("invariant 3: a derived index does not say what the records say");
        }
    }
}
