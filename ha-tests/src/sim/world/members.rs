//! An operator changes who is in the cluster, in the midst of the faults: a node is removed, its machine gets empty disks,
//! and it is taken in again. He asks any node that runs, and says it again until it is so: whoever was asked may be lost.
//!
//! In a part of the worlds, from a source of its own: the others go on as they did before there was this. While he is at
//! it, no disk is hurt or emptied beside: with one voter less that would be more than a minority.

use std::sync::{Arc, Mutex, PoisonError};

use raft_store::node::members::{Ask, Newcomer, Refusal};
use raft_store::node::{Member, Place};

use super::World;
use crate::sim::base::{MS, Rng};
use crate::sim::process::Disks;

/// Worlds of 100 in which he comes.
const WITH_CHANGES: u64 = 20;
/// Pause between two of his commands, ns.
const AGAIN: u64 = 300 * MS;
/// A command that has no answer for so long is said again, ns: the asked node may be gone.
const PATIENCE: u64 = 3_000 * MS;
/// How long a newcomer may take (s).
const WAIT_S: u32 = 20;

/// What he is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not begun.
    Idle,
    /// The node is to go.
    Removing,
    /// Its machine is to come back.
    Adding,
    /// Done.
    Over,
}

type Answer = Arc<Mutex<Option<Result<(), Refusal>>>>;

/// The operator.
pub(super) struct Operator {
    rng: Rng,
    stage: Stage,
    next: u64,
    place: Place,
    asked: Option<(Answer, u64)>,
    /// Changes that were made.
    pub(super) made: u64,
}

impl Operator {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::of(seed, 0x6d65_6d62);
        let stage = if rng.chance(WITH_CHANGES) { Stage::Idle } else { Stage::Over };
        let next = 3_500 * MS + rng.between(0, 8_000) * MS;
        Self { rng, stage, next, place: 0, asked: None, made: 0 }
    }

    /// Whether a node is out, or on its way out or in.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Removing | Stage::Adding)
    }
}

impl World {
    /// The operator's turn.
    pub(super) fn change_members(&mut self) {
        if self.operator.stage == Stage::Over || self.now < self.operator.next {
            return;
        }
        match self.operator.stage {
            Stage::Idle => self.choose(),
            Stage::Removing => {
                let place = self.operator.place;
                if self.ask(Ask::Remove { place }, "no member") {
                    self.trace
                        .say(format!("OPERATOR node {place} is removed, and its machine gets empty disks"));
                    let detail = self.operator.rng.draw();
                    if let Some(machine) = self.machine(place) {
                        machine.power_off(detail);
                        machine.disks = Disks::default();
                        (machine.id, machine.aside, machine.hurt) = (None, false, false);
                    }
                    let now = self.now;
                    let pause = self.operator.rng.between(0, 1_000) * MS;
                    if let Some(machine) = self.machine(place) {
                        machine.start_at = Some(now + pause);
                    }
                    self.operator.stage = Stage::Adding;
                }
            }
            Stage::Adding => {
                let place = self.operator.place;
                let Some(peer) = self.site.places.iter().find(|p| p.place == place) else { return };
                let member = Member { addr: peer.addr, role: peer.role };
                let newcomer = Newcomer { place, member, again: true };
                if self.ask(Ask::Add { newcomer, wait_s: WAIT_S }, "a member already") {
                    self.trace.say(format!("OPERATOR node {place} is a member again"));
                    self.operator.stage = Stage::Over;
                }
            }
            Stage::Over => {}
        }
    }

    /// Half the time a node that is lost at this moment, if one is.
    fn choose(&mut self) {
        // With a disk that is hurt already, one voter less may be one too few.
        let is_hurt = self.machines.iter().any(|m| m.hurt) && !self.whole();
        if !self.chaos || self.is_struck() || is_hurt {
            return;
        }
        let lost: Vec<Place> = self.machines.iter().filter(|m| m.agent.is_none()).map(|m| m.place).collect();
        let all: Vec<Place> = self.machines.iter().map(|m| m.place).collect();
        let rng = &mut self.operator.rng;
        let any = rng.pick(&all).unwrap_or(1);
        self.operator.place = rng.pick(&lost).filter(|_| rng.chance(50)).unwrap_or(any);
        self.operator.stage = Stage::Removing;
        self.trace.say(format!("OPERATOR removes node {}", self.operator.place));
    }

    /// Says it to some node that runs; whether it is so by now. `is_so`: what is refused because it is.
    fn ask(&mut self, ask: Ask, is_so: &str) -> bool {
        let now = self.now;
        if let Some((answer, at)) = &self.operator.asked {
            let said = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(said) = said else {
                if now.saturating_sub(*at) > PATIENCE {
                    self.operator.asked = None;
                }
                return false;
            };
            self.operator.asked = None;
            self.operator.next = now + AGAIN;
            return match said {
                Ok(()) => {
                    self.operator.made += 1;
                    true
                }
                Err(refusal) => {
                    self.trace.say(format!("OPERATOR is told: {}", refusal.error));
                    let holds = refusal.error.contains("holds the service");
                    if holds && !self.chaos && self.operator.stage == Stage::Removing {
                        // Nothing moves the service any more, so that he lets it be.
                        self.operator.stage = Stage::Over;
                    }
                    refusal.error.contains(is_so)
                }
            };
        }
        // Not the one that it is about: it knows least.
        let place = self.operator.place;
        let runs: Vec<usize> = (0..self.machines.len())
            .filter(|n| self.machines.get(*n).is_some_and(|m| m.place != place && m.lively(now)))
            .collect();
        let Some(index) = self.operator.rng.pick(&runs) else { return false };
        let Some(process) = self.machines.get(index).and_then(|m| m.agent.as_ref()).map(|a| &a.process)
        else {
            return false;
        };
        let Some(core) = process.running().map(|r| r.core.clone()) else { return false };
        let answer = Answer::default();
        let told = answer.clone();
        process.inside(|| {
            tokio::spawn(async move {
                let said = core.change_members(ask).await.map(|_| ());
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
            });
        });
        self.operator.asked = Some((answer, now));
        false
    }
}
