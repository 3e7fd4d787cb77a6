//! What goes wrong, and when: drawn from the seed.
//!
//! Each world has its own mixture: of every kind of fault it has many, few or none, so that some worlds see a kind of
//! fault again and again, and some see combinations that a mixture of everything would hide.

use raft_store::node::Place;

use super::base::{MS, Rng};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Power loss of one machine.
    PowerLoss,
    /// Power loss of one machine in the middle of a sync.
    PowerLossAtSync,
    /// Power loss of one machine right after it has given its vote.
    PowerLossAtVote,
    /// Power loss of all machines at once.
    Blackout,
    /// The agent alone is killed; its guard acts.
    KillAgent,
    /// Agent and guard are killed.
    KillBoth,
    /// The agent is stopped; its guard kills it after a while.
    StopAgent,
    /// Agent and guard are stopped for a time.
    StopBoth,
    /// The same, in the midst of a renewal of the kernel's lease.
    StopInRenewal,
    /// The Raft thread gets no processor for a time (or waits for its disk).
    StallRaft,
    /// The control thread gets no processor for a time.
    StallControl,
    /// A node is cut off in both directions.
    Isolate,
    /// One direction between two nodes is cut.
    OneWay,
    /// Nothing that a node says arrives anywhere; it hears all.
    Mute,
    /// A node hears nothing; all hear it.
    Deaf,
    /// What others say to a node is late; a little later they do not hear it any more.
    LateAnswers,
    /// Messages are late on all links.
    Delay,
    /// Messages are lost on all links.
    Loss,
    /// Datagrams of phones are lost.
    PhoneLoss,
    /// The disk is full soon.
    DiskFull,
    /// A sync fails.
    SyncFails,
    /// Each sync takes a time, on one node or on all.
    SlowDisk,
    /// A sync does not return for a time.
    HungDisk,
    /// What a node says in large frames arrives nowhere: entries and snapshots do not, heartbeats do.
    BlackHole,
    /// A snapshot is built and the log behind it purged.
    Snapshot,
    /// An operator asks for a hand-over.
    Switchover,
    /// The machine is replaced by one with empty disks.
    Wipe,
    /// One of the PBXs dies for good, with the calls that it has not answered.
    PbxDies,
    /// A wall clock is set, to whatever.
    StepClock,
}

/// All kinds, with their usual weight.
const KINDS: [(Fault, u64); 26] = [
    (Fault::PowerLoss, 4),
    (Fault::PowerLossAtSync, 4),
    (Fault::PowerLossAtVote, 3),
    (Fault::Blackout, 1),
    (Fault::KillAgent, 5),
    (Fault::KillBoth, 4),
    (Fault::StopAgent, 4),
    (Fault::StopBoth, 4),
    (Fault::StopInRenewal, 4),
    (Fault::StallRaft, 4),
    (Fault::StallControl, 4),
    (Fault::Isolate, 5),
    (Fault::OneWay, 5),
    (Fault::Mute, 4),
    (Fault::Deaf, 4),
    (Fault::LateAnswers, 4),
    (Fault::Delay, 3),
    (Fault::Loss, 3),
    (Fault::PhoneLoss, 2),
    (Fault::DiskFull, 2),
    (Fault::SyncFails, 2),
    (Fault::Snapshot, 3),
    (Fault::Switchover, 5),
    (Fault::Wipe, 1),
    (Fault::PbxDies, 2),
    (Fault::StepClock, 3),
];

/// What lets a leader lead that cannot commit. In a part of the worlds, drawn from a source of its own: the others go on
/// as they did before there were these.
const STALLS: [(Fault, u64); 3] = [(Fault::SlowDisk, 8), (Fault::HungDisk, 5), (Fault::BlackHole, 6)];
/// Worlds of 100 that have them.
const WITH_STALLS: u64 = 40;

/// Worlds of 100 in which the holder's large frames are dropped once for [`HOLE_LASTS`], and nothing else begins meanwhile: of a
/// holder that cannot commit and stays, shorter and mixed faults show little.
const WITH_A_HOLE: u64 = 10;
/// How long that lasts, ns.
const HOLE_LASTS: u64 = 8_000 * MS;
/// It is one of the first so many faults of its world.
const HOLE_WITHIN: u64 = 8;

/// One fault, drawn.
#[derive(Debug, Clone, Copy)]
pub struct Drawn {
    /// What.
    pub fault: Fault,
    /// At which node.
    pub place: Place,
    /// The other end, where there is one.
    pub other: Place,
    /// How long, ns.
    pub lasts: u64,
    /// For details.
    pub detail: u64,
}

/// The source of faults.
#[derive(Debug)]
pub struct Plan {
    rng: Rng,
    weights: Vec<(Fault, u64)>,
    pause: (u64, u64),
    places: Vec<Place>,
    /// After how many more faults the long hole comes, if one does.
    hole: Option<u64>,
    /// Nothing else begins while it lasts.
    in_hole: bool,
}

impl Plan {
    /// Of a seed.
    #[must_use]
    pub fn new(seed: u64, places: Vec<Place>) -> Self {
        let mut rng = Rng::of(seed, 0x706c_616e);
        let mut weights: Vec<_> = KINDS
            .iter()
            .map(|(fault, weight)| (*fault, weight * [0, 1, 1, 6][(rng.draw() % 4) as usize]))
            .collect();
        if weights.iter().all(|(_, w)| *w == 0) {
            weights = KINDS.to_vec();
        }
        let stalls = &mut Rng::of(seed, 0x7374_616c);
        if stalls.chance(WITH_STALLS) {
            weights.extend(
                STALLS.map(|(fault, weight)| (fault, weight * [0, 1, 4][(stalls.draw() % 3) as usize])),
            );
        }
        let slowest = rng.between(300, 3000);
        // A source of its own, so that the other worlds are what they were.
        let holes = &mut Rng::of(seed, 0x686f_6c65);
        let hole = holes.chance(WITH_A_HOLE).then(|| holes.between(1, HOLE_WITHIN));
        Self { rng, weights, pause: (20, slowest), places, hole, in_hole: false }
    }

    /// Time until the next fault, ns.
    pub fn pause(&mut self) -> u64 {
        if std::mem::take(&mut self.in_hole) {
            return HOLE_LASTS;
        }
        self.rng.between(self.pause.0, self.pause.1) * MS
    }

    /// The next fault. Half of them hit `owner`, if there is one: that is where most is to be lost.
    pub fn draw(&mut self, owner: Option<Place>) -> Drawn {
        match (self.hole, owner) {
            (Some(0), Some(place)) => {
                (self.hole, self.in_hole) = (None, true);
                return Drawn { fault: Fault::BlackHole, place, other: place, lasts: HOLE_LASTS, detail: 0 };
            }
            (hole, _) => self.hole = hole.map(|left| left.saturating_sub(1)),
        }
        let total: u64 = self.weights.iter().map(|(_, w)| w).sum();
        let mut at = self.rng.between(1, total.max(1));
        let mut fault = Fault::KillAgent;
        for (kind, weight) in &self.weights {
            if at <= *weight {
                fault = *kind;
                break;
            }
            at -= weight;
        }
        let any = self.rng.pick(&self.places).unwrap_or(1);
        let place = owner.filter(|_| self.rng.chance(50)).unwrap_or(any);
        let others: Vec<_> = self.places.iter().copied().filter(|p| *p != place).collect();
        let other = self.rng.pick(&others).unwrap_or(place);
        let longest = [60, 250, 1000, 4000][(self.rng.draw() % 4) as usize];
        let lasts = self.rng.between(5, longest) * MS;
        Drawn { fault, place, other, lasts, detail: self.rng.draw() }
    }
}
