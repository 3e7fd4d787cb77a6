//! Damage to what was synced: a disk that lied, a bit that flipped, a tail of zeros, memory that was all there was.
//!
//! It comes from a source of its own, to one machine of a cluster that is whole: so a minority is hurt at any time. In
//! some worlds all machines are hurt at once when all else is over; then nobody may begin anew.

use raft_store::disk::sim::SimDisk;
use raft_store::disk::{Disk, DiskFile, read_all};
use raft_store::node::Place;

use super::World;
use crate::sim::base::{MS, Rng};

/// Longest time that a disk may have lied, ns.
const LONGEST_LIE: u64 = 400 * MS;
/// Bytes that are lost at the end of a log at most.
const LONGEST_TAIL: u64 = 3_000;
/// Time that a cluster has in which it must not begin anew, ns.
const LAST_WORD: u64 = 3_000 * MS;

/// When damage comes to a world.
pub(super) struct Blows {
    rng: Rng,
    next: u64,
    /// The disk of a machine as it was: what is left when it loses its power.
    lie: Option<(Place, SimDisk, u64)>,
    last: bool,
}

impl Blows {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::of(seed, 0x6461_6d61);
        let next = 3_500 * MS + rng.between(0, 6_000) * MS;
        let last = rng.chance(10);
        Self { rng, next, lie: None, last }
    }
}

/// Bytes of a file in front of the zeros that it was made with.
fn used(file: &dyn DiskFile) -> Option<u64> {
    let bytes = read_all(file, u64::MAX).ok()?;
    Some(bytes.iter().rposition(|b| *b != 0).map_or(0, |p| p as u64 + 1))
}

/// Changes a byte of every file in `disk` whose name ends so, or of the newest of them.
fn flip(disk: &SimDisk, ending: &str, detail: u64) -> bool {
    let names: Vec<_> = disk.list().unwrap_or_default();
    let Some(name) = names.iter().rfind(|n| n.ends_with(ending)) else { return false };
    let Ok(file) = disk.open(name) else { return false };
    let Some(at) = used(&*file).filter(|used| *used > 0).map(|used| detail % used) else { return false };
    let mut byte = [0];
    let changed = file.read_at(at, &mut byte).and_then(|_| {
        byte[0] ^= 1 << (detail >> 32 & 7);
        file.write_at(at, &byte)
    });
    changed.and_then(|()| file.sync_data()).is_ok()
}

/// Cuts the end of the newest segment off, or leaves zeros there.
fn lose_tail(disk: &SimDisk, zeros: bool, detail: u64) -> bool {
    let names = disk.list().unwrap_or_default();
    let Some(name) = names.iter().rfind(|n| n.ends_with(".seg")) else { return false };
    let Ok(file) = disk.open(name) else { return false };
    let Some(len) = used(&*file) else { return false };
    let lost = (1 + detail % LONGEST_TAIL).min(len);
    let done = match zeros {
        true => file.write_at(len - lost, &vec![0; usize::try_from(lost).unwrap_or(0)]),
        false => file.truncate(len - lost),
    };
    done.and_then(|()| file.sync_data()).is_ok()
}

impl World {
    /// A disk lies at this moment: what it has acknowledged will be lost.
    pub(super) fn is_struck(&self) -> bool {
        self.blows.lie.is_some()
    }

    /// Damage comes, if it is due and the cluster is whole.
    pub(super) fn strike(&mut self) {
        let now = self.now;
        if let Some((place, disk, at)) = self.blows.lie.take() {
            if now < at {
                self.blows.lie = Some((place, disk, at));
                return;
            }
            // The heartbeat of the leader of the time finds such a loss out; without it nothing can (docs/adr/0007).
            if !self.whole() {
                return;
            }
            let detail = self.blows.rng.draw();
            self.trace.say(format!("DAMAGE node {place} loses its power, and what its disk had promised"));
            if let Some(machine) = self.machine(place) {
                machine.power_off(detail);
                machine.disks.log = disk;
                machine.start_at = Some(now + detail % 300 * MS);
                machine.hurt = true;
            }
            return;
        }
        if now < self.blows.next || !self.whole() {
            return;
        }
        for machine in &mut self.machines {
            machine.hurt = false;
        }
        self.blows.next = now + self.blows.rng.between(2_000, 9_000) * MS;
        let places: Vec<Place> = self.machines.iter().map(|m| m.place).collect();
        let Some(place) = self.blows.rng.pick(&places) else { return };
        let kind = self.blows.rng.between(0, 4);
        if kind == 0 {
            let at = now + self.blows.rng.between(1, LONGEST_LIE / MS) * MS;
            let copy = self.machine(place).map(|m| m.disks.log.fork());
            self.blows.lie = copy.map(|disk| (place, disk, at));
            return;
        }
        self.hurt(place, kind);
    }

    /// The machine loses its power, and its disk something of what was synced.
    fn hurt(&mut self, place: Place, kind: u64) {
        let (now, detail) = (self.now, self.blows.rng.draw());
        let Some(machine) = self.machine(place) else { return };
        machine.power_off(detail);
        machine.start_at = Some(now + detail % 300 * MS);
        let log = &machine.disks.log;
        let (what, done) = match kind {
            1 => ("end of the log", lose_tail(log, false, detail)),
            2 => ("end of the log (zeros)", lose_tail(log, true, detail)),
            3 if detail & 1 == 0 => ("META", flip(log, "META", detail) && flip(log, "META.copy", detail)),
            3 => ("snapshot", flip(&machine.disks.snaps, "", detail)),
            _ => ("log", flip(log, ".seg", detail)),
        };
        machine.hurt = true;
        self.trace.say(format!("DAMAGE node {place}: {what} ({done})"));
    }

    /// All else is over: in some worlds every machine is hurt at once.
    pub(super) fn last_blow(&mut self) {
        if !self.blows.last || self.judge.verdict.is_some() {
            return;
        }
        for place in self.site.places.iter().map(|p| p.place).collect::<Vec<_>>() {
            self.hurt(place, 3);
            if let Some(machine) = self.machine(place) {
                // A damaged META, whatever else it was: nothing of such a store can be used.
                flip(&machine.disks.log, "META", 40);
                flip(&machine.disks.log, "META.copy", 40);
            }
        }
        let until = self.now + LAST_WORD;
        while self.now < until && self.judge.verdict.is_none() {
            self.tick();
        }
    }
}
