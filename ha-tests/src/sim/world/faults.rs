//! Faults as they come, and as they end: what the plan has drawn is done to machines, disks and links.

use std::sync::mpsc::sync_channel;

use agent::control::{Ailment, Fitness};
use raft_store::node::Place;

use super::World;
use crate::sim::base::{MS, Rng};
use crate::sim::plan::{Drawn, Fault};
use crate::sim::process::Disks;

/// Errors of a wall clock that is set, ms: right again, minutes, an hour to and fro, a day, ten years ago.
const STEPS: [i64; 7] = [0, 780_000, 3_700_000, -3_600_000, 86_400_000, -86_400_000, -315_360_000_000];

/// A change that is due at a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Due {
    Cut(Place, Place, u64),
    Uncut(Place, Place),
    Unlink,
    UnloseDatagrams,
    DiskRoom(Place),
    DiskSpeed(Place),
    Widen(Place),
}

impl World {
    pub(super) fn settle_due(&mut self) {
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
                Due::DiskSpeed(place) => {
                    if let Some(machine) = self.machine(place) {
                        machine.disks.slow.set(0);
                    }
                }
                Due::Widen(place) => {
                    for (from, to) in self.pairs() {
                        self.net.link(from, to).narrow &= from != place;
                    }
                }
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

    fn cut(&mut self, from: Place, to: Place, until: u64) {
        self.net.link(from, to).cut = true;
        self.due.push((until, Due::Uncut(from, to)));
    }

    /// Now and then something begins or ceases to ail a node, and stays so when all faults have ended: whoever serves then
    /// may be ill, and somebody must. From a source of its own: all else is as it would be without.
    fn ail(&mut self, drawn: Drawn) {
        const FOUND: [Ailment; 6] = [
            Ailment::Clock,
            Ailment::Full,
            Ailment::Disk,
            Ailment::Path,
            Ailment::Crashes,
            Ailment::Resources,
        ];
        let mut rng = Rng::of(self.site.seed ^ drawn.detail, 0x6169_6c73);
        if rng.chance(85) {
            return;
        }
        let all_at_once = rng.chance(50);
        for machine in &mut self.machines {
            if all_at_once || machine.place == drawn.place {
                let found = rng.pick(&FOUND).filter(|_| rng.chance(75));
                machine.ail(found.map_or(Fitness::FIT, |a| Fitness::FIT.with(a)));
                self.trace.say(format!("node {} finds that it is ailing: {found:?}", machine.place));
            }
        }
    }

    pub(super) fn inflict(&mut self, drawn: Drawn) {
        self.ail(drawn);
        let Drawn { fault, place, other, lasts, detail } = drawn;
        let now = self.now;
        let until = now + lasts;
        let places: Vec<Place> = self.machines.iter().map(|m| m.place).collect();
        let others: Vec<Place> = places.iter().copied().filter(|p| *p != place).collect();
        // A node with a new disk must be whole again before the next one may lose its disk: more than a minority lost
        // for good is beyond what any cluster survives. One per world is enough to see that joining works.
        if fault == Fault::Wipe && (self.wiped || self.operator.is_under_way() || !self.whole()) {
            return;
        }
        if fault == Fault::PbxDies {
            if let Some(at) = self.phones.pbx_dies(detail) {
                self.trace.say(format!("FAULT the PBX at {at} dies"));
                *self.outcome.faults.entry(fault).or_default() += 1;
            }
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
            Fault::BlackHole => {
                // Longer than the others: what is found out takes seconds.
                let until = until + (detail >> 8) % 12_000 * MS;
                for other in others {
                    self.net.link(place, other).narrow = true;
                }
                self.due.push((until, Due::Widen(place)));
                return;
            }
            Fault::SlowDisk => {
                let all = (detail >> 8) % 3 == 0;
                let ms = [20, 100, 200, 500][(detail >> 16) as usize % 4];
                for machine in self.machines.iter().filter(|m| all || m.place == place) {
                    machine.disks.slow.set(ms);
                    self.due.push((until + 1_000 * MS, Due::DiskSpeed(machine.place)));
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
                self.losses.push((now, until));
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
            Fault::HungDisk => {
                machine.disks.slow.set(u64::MAX);
                self.due.push((until + (detail >> 8) % 8_000 * MS, Due::DiskSpeed(place)));
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
            Fault::StepClock => {
                let which = usize::try_from(detail % STEPS.len() as u64).unwrap_or(0);
                machine.clocks.wall_off = STEPS.get(which).copied().unwrap_or(0);
            }
            Fault::Wipe => {
                *wiped = true;
                machine.power_off(detail);
                machine.disks = Disks::default();
                machine.id = None;
                machine.start_at = Some(until);
            }
            _ => {}
        }
    }
}
