//! Ownership: what this node must do now, given what Raft knows. Pure: no clock, no socket, no thread.
//!
//! A node may own the service only while ALL of this holds (DESIGN §3):
//!
//! | condition | why |
//! |---|---|
//! | it leads in term t and has applied what was in its log when it began to | it knows the newest grant |
//! | the newest applied grant names it | ownership is a decision of the cluster, leadership alone is permission for nothing |
//! | the quorum acknowledgement is younger than the lease, less [`LEASE_MARGIN`] | no other leader can exist yet |
//! | it has not tried to transfer leadership in term t | a transfer ends the followers' promise not to vote |
//!
//! What is up stays up under a newer grant only if the lease held until it was seen. Otherwise another node may have
//! served in between: down first, so that the service begins anew from what is committed now.
//!
//! What a leader does about the grant:
//!
//! | grant | this node | then |
//! |---|---|---|
//! | names it | eligible | nothing (it is active); asked to hand over: grant to the target |
//! | names it | graver ailments than another, or shutting down | grant to the best other appliance, if there is one |
//! | names X, made in this term (whoever proposed it) | stopped, X has this grant on its disk | transfer leadership to X |
//! | names X, made in this term (whoever proposed it) | stopped, X does not have it within a lease | grant to the best appliance again, not to X |
//! | names X, automatic takeover is paused | leads | transfer leadership to X as soon as X can take it; no grant to anybody else |
//! | anything else | eligible | grant to itself, at once: the new leader takes over |
//! | names X, an earlier decision | not eligible, X has all of this node's log, no grant to another on its way | transfer leadership to X |
//! | names X, an earlier decision | not eligible, X does not have it within a lease | grant to the best appliance, not to X |
//!
//! A [`Pause`] holds up every move that no operator has ordered; that is a rule of the replicated state, too.
//!
//! *Eligible*: an appliance that does not shut down, and no other one that could take over now is better off. Ailments
//! ([`Fitness`]) order the candidates and never empty the list: one that is alone serves whatever ails it.
//!
//! A leader whose proposals do not commit, while another node could do better, abdicates: see `stall`.
//!
//! Liveness of a transfer: in the term in which a leader tried it, it neither grants nor becomes active again. Raft stops
//! its heartbeats then, so somebody (the target, or after the election timeout anybody, this node too) wins a higher
//! term, and that leader starts at the top of this table.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::iter_over_hash_type)]

mod appointment;
mod candidates;
mod decide;
mod hand_over;
mod moves;
mod stall;
#[cfg(test)]
mod tests;
pub mod times;
mod verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use proxy_core::time::{MonoTime, WallTime};
pub use raft_store::log::Syncs;
pub use raft_store::node::{Path, Way};
pub use raft_store::state::{AILMENTS, Ailment, DEATHS_THAT_PROVE, Fitness, Pause, Planned, Suspect};

use self::appointment::Appointment;
pub use self::appointment::{APPOINTMENT_GRACE, Turn};
pub use self::hand_over::{WORD_AGE, Word, unproved_by_word};
pub use self::moves::{Cause, Moves, Taken, Told};
use self::stall::Stall;
pub use self::stall::{COMMIT_FLOOR, COMMIT_SYNCS};
pub use self::verdict::{Level, Sight, Verdict};

/// A node id of the configuration.
pub type Place = u16;

/// The lease ends here this much earlier than the followers' promise: time for the kernel's timer granularity.
pub const LEASE_MARGIN: Duration = Duration::from_millis(10);
/// A grant that was proposed and not seen applied is proposed again after this time.
pub const GRANT_RETRY: Duration = Duration::from_millis(500);
/// A switchover that has not ended by then has failed (whoever leads has decided otherwise).
pub const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);
/// Time a clean shutdown gives to the hand-over.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);
/// A standby farther behind than this many log entries is not asked to take over as planned.
pub const MAX_HAND_OVER_LAG: u64 = 2000;
/// Pause until the next decision while [`Decision::soon`].
pub const SOON: Duration = Duration::from_millis(1);
/// A leader that has nothing up after this many leases is in no hurry any more.
const HURRY_LEASES: u32 = 4;
/// A peer is within reach if it acknowledged something within this many leases.
pub const REACH_LEASES: u32 = 3;

/// What does not change while the node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This node.
    pub place: Place,
    /// All appliances, most preferred first.
    pub appliances: Vec<Place>,
    /// The lease.
    pub lease: Duration,
}

/// What is known of another node; meaningful while this node leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    /// Which.
    pub place: Place,
    /// Entries it is behind, by what it has acknowledged in this term; `None` if that is nothing yet.
    pub lag: Option<u64>,
    /// Send time of the last message it acknowledged.
    pub last_ack: Option<MonoTime>,
    /// It has just started, and will not lead before its first lease is over, even if it is asked to.
    pub silent: bool,
    /// Since when it has not acknowledged entries that it was sent.
    pub unanswered: Option<MonoTime>,
    /// The slowest acknowledgement of entries within the last minute.
    pub acknowledges_in: Option<Duration>,
    /// Its disk goes on, by its own word just now. Asked only while the oldest proposal waits.
    pub writes: bool,
    /// It does not vote (yet): it is being taken in, perhaps again, beside its old id.
    pub learns: bool,
    /// How long its last answer to a question took, and the slowest of the last few.
    pub round_trip: Option<(Duration, Duration)>,
}

/// The applied grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Who may own the service.
    pub holder: Place,
    /// Log index of the grant: the fence token of every step.
    pub token: u64,
}

/// What Raft knows at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The term of the newest vote seen.
    pub term: u64,
    /// The leader, if known.
    pub leader: Option<Place>,
    /// This node leads in `term`.
    pub leading: bool,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Index of the last entry of the log.
    pub last_log: u64,
    /// The newest applied grant.
    pub grant: Option<Grant>,
    /// When the newest message was sent that a quorum acknowledged.
    pub quorum_ack_at: Option<MonoTime>,
    /// When another node was heard last that led.
    pub led_at: Option<MonoTime>,
    /// Which leader's agent has died by the word of its guard, and when that was heard last.
    pub told_dead: Option<(Place, MonoTime)>,
    /// The last term in which this node asked for a transfer.
    pub transfer_tried_in: Option<u64>,
    /// Why the node that leadership was transferred to in this term cannot lead, by its own word.
    pub transfer_refused: Option<String>,
    /// The others.
    pub peers: Vec<Peer>,
    /// The places that something ails, each at most once. Those that are not here are fit.
    pub fitness: Vec<(Place, Fitness)>,
    /// The messages that engines have died with. Nothing is decided by them here.
    pub suspects: Vec<Suspect>,
    /// The ways between this node and the others, as far as they were measured.
    pub paths: Vec<(Place, Path)>,
    /// Packets of full size do not pass between this node and a majority. Smaller ones do the work then, as long as they
    /// pass: it is a reason to prefer another node, and no reason to serve nobody.
    pub path_is_narrow: bool,
    /// The oldest proposal of this leader: a number that changes whenever something is committed and applied.
    pub oldest: Option<u64>,
    /// For how long it has waited, as the store's clock has it.
    pub oldest_waits: Option<Duration>,
    /// How long a commit takes at most, measured within the last minute; `None`: unknown.
    pub commit_takes: Option<Duration>,
    /// How long syncs take here.
    pub syncs: Syncs,
    /// A majority could write what another leader proposes, by their own word just now.
    pub others_could: bool,
    /// Until when this node has abdicated.
    pub mute_until: Option<MonoTime>,
    /// For how long entries have been waiting to be applied here without any progress.
    pub apply_waits: Option<Duration>,
    /// By how many ms the wall clocks of others are ahead of this node's, as far as they were heard a moment ago.
    pub skew: BTreeMap<Place, i64>,
    /// This node's wall clock is wrong, by the word of most.
    pub is_clock_odd: bool,
    /// The time of the cluster.
    pub time: WallTime,
    /// The pause that holds now: no automatic takeover.
    pub pause: Option<Pause>,
    /// The switchover that is to come.
    pub planned: Option<Planned>,
}

impl Facts {
    /// The node at `place` that votes. One that is being taken in again has another id there, too, which cannot be elected.
    #[must_use]
    pub fn voter(&self, place: Place) -> Option<&Peer> {
        self.peers.iter().find(|p| p.place == place && !p.learns)
    }

    /// Whether the node at `place` is being taken in.
    #[must_use]
    pub fn is_learner(&self, place: Place) -> bool {
        self.peers.iter().any(|p| p.place == place && p.learns)
    }

    /// What ails `place`.
    #[must_use]
    pub fn fitness_of(&self, place: Place) -> Fitness {
        self.fitness.iter().find(|(p, _)| *p == place).map_or(Fitness::FIT, |(_, fitness)| *fitness)
    }

    /// Whether a majority of `nodes` has room on its disks for what is new, and `place` is one of them. Commits need both.
    #[must_use]
    pub fn has_room(&self, place: Place, nodes: &[Place]) -> bool {
        let has_room = |p: Place| !self.fitness_of(p).has(Ailment::Full);
        has_room(place) && nodes.iter().filter(|p| has_room(**p)).count() > nodes.len() / 2
    }

    /// `place` has these ailments, too: what this node has found out about it.
    pub fn ail(&mut self, place: Place, found: Fitness) {
        match self.fitness.iter_mut().find(|(p, _)| *p == place) {
            Some((_, known)) => *known = known.and(found),
            None => self.fitness.push((place, found)),
        }
    }
}

/// How far the resource sequence (Lease, Vip, SipListen) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resources {
    /// All is down.
    #[default]
    Stopped,
    /// On the way up or down, or a step failed.
    Moving,
    /// All is up.
    Started,
}

/// What the resource sequence shall reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Goal {
    /// Nothing of the service here.
    #[default]
    Down,
    /// The service, under this fence token, until the lease ends (see [`Decision::lease_until`]).
    Up {
        /// Log index of the grant.
        token: u64,
    },
}

/// Something to ask of Raft. Never asked twice without need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Take leadership back that was transferred in this term and not taken.
    TakeBack {
        /// From whom.
        from: Place,
    },
    /// Commit a grant.
    Grant {
        /// Whom to.
        holder: Place,
    },
    /// Transfer leadership.
    Transfer {
        /// Whom to.
        to: Place,
    },
    /// Fall silent, so that the others elect.
    Abdicate {
        /// For how long.
        lasts: Duration,
    },
}

/// What this node must do now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// For the resource sequence.
    pub goal: Goal,
    /// While the goal is up: the kernel's lease ends at this time and not later.
    pub lease_until: Option<MonoTime>,
    /// For Raft, in this order.
    pub ask: Vec<Ask>,
    /// A shutdown that was asked for may proceed.
    pub may_exit: bool,
    /// Who should lead if this node dies now (for the guard's notice to the peers).
    pub heir: Option<Place>,
    /// Something ended that an operator waits for.
    pub news: Option<News>,
    /// Leadership is new and the service is not up yet: look again after [`SOON`], every millisecond is silence.
    pub soon: bool,
    /// Another appliance holds the service, or is fit, heard and caught up: one that dies here is in no hurry.
    pub elsewhere: bool,
}

/// How a switchover ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The target did not prove in time that it could take over. Nothing has changed.
    NotBegun {
        /// Who was to take over.
        to: Place,
        /// What was not proved.
        why: NotReady,
    },
    /// Leadership and grant are with the target.
    SwitchedOver {
        /// The new holder.
        to: Place,
    },
    /// It did not come about in time, or the cluster decided otherwise.
    SwitchoverFailed {
        /// Who was asked to take over.
        to: Place,
        /// Who holds the grant now.
        holder: Option<Place>,
    },
}

/// Why a switchover cannot begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CannotSwitch {
    /// This node is not active; the holder (if known) has to be asked.
    NotActive {
        /// The node named in the newest grant here.
        holder: Option<Place>,
    },
    /// The target is active already.
    AlreadyThere,
    /// The target is no appliance of this cluster.
    NoAppliance {
        /// The appliances there are.
        appliances: Vec<Place>,
    },
    /// The target (or every other appliance) cannot take over.
    NotReady {
        /// Which, and what is wrong with it.
        why: Vec<(Place, NotReady)>,
    },
    /// One is under way already, or the node shuts down.
    Busy,
}

/// What keeps a standby from taking over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// It does not answer.
    OutOfReach,
    /// It has just started: it can take over when its first lease is over.
    JustStarted,
    /// It is being taken in, and does not vote yet.
    Learner,
    /// It is this many entries behind.
    Behind(u64),
    /// Large messages do not pass between it and this node, however small their packets.
    PathBlocked,
    /// It is worse off than the holder, which would get the service back at once.
    Unfit(Fitness),
}

/// The state of ownership on one node.
#[derive(Debug, Clone)]
pub struct Control {
    settings: Settings,
    /// The term this node leads in, and the end of its log when it began to.
    led: Option<Led>,
    /// While the goal is up: the grant's token and the end of the lease, as decided last.
    held: Option<(u64, MonoTime)>,
    /// A hand-over an operator (or the shutdown) asked for.
    hand_over: Option<HandOver>,
    /// When the node was told to end.
    shutdown_at: Option<MonoTime>,
    /// The heir noted last while leading; kept so that a notice after a lost lease still names one.
    heir: Option<Place>,
    /// What it has seen of its proposals as a leader.
    stall: Stall,
    /// What it has done about a planned switchover.
    appointment: Appointment,
}

/// One term as leader.
#[derive(Debug, Clone, Copy)]
struct Led {
    term: u64,
    since: MonoTime,
    /// End of the log when leadership began: all that earlier leaders committed is in it.
    log_at_start: u64,
    /// The newest grant proposed in this term.
    proposed: Option<Proposed>,
    /// A grant was asked for in this term: the early one is asked for only once.
    asked_early: bool,
    transferred: bool,
    /// Whom leadership was transferred to by this thread, and when.
    transferred_to: Option<(Place, MonoTime)>,
    took_back: bool,
    /// The newest grant, and when it was first seen in this term.
    granted: Option<(u64, MonoTime)>,
}

#[derive(Debug, Clone, Copy)]
struct Proposed {
    holder: Place,
    at: MonoTime,
    /// The token applied when it was proposed: a newer one is the proposal come true.
    after: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct HandOver {
    to: Place,
    since: MonoTime,
    /// The grant that was applied when it began: a newer one that names this node means that it failed.
    token: Option<u64>,
    operator: bool,
}

impl Control {
    /// A node that owns nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            led: None,
            held: None,
            hand_over: None,
            shutdown_at: None,
            heir: None,
            stall: Stall::default(),
            appointment: Appointment::default(),
        }
    }

    /// The operator asks for a planned hand-over, to `target` or to the best other appliance.
    ///
    /// # Errors
    /// Why it cannot begin; nothing has changed then.
    pub fn switchover(
        &mut self,
        now: MonoTime,
        target: Option<Place>,
        facts: &Facts,
    ) -> Result<Place, CannotSwitch> {
        if self.hand_over.is_some() || self.shutdown_at.is_some() {
            return Err(CannotSwitch::Busy);
        }
        if target.is_some_and(|p| !self.settings.appliances.contains(&p)) {
            return Err(CannotSwitch::NoAppliance { appliances: self.settings.appliances.clone() });
        }
        if self.lease_end(now, facts).is_none() {
            return Err(CannotSwitch::NotActive { holder: facts.grant.map(|g| g.holder) });
        }
        if target == Some(self.settings.place) {
            return Err(CannotSwitch::AlreadyThere);
        }
        let to = match target {
            Some(place) => match self.no_target(now, place, facts) {
                None => place,
                Some(why) => return Err(CannotSwitch::NotReady { why: vec![(place, why)] }),
            },
            None => self
                .best_other(now, facts)
                .filter(|p| self.no_target(now, *p, facts).is_none())
                .ok_or_else(|| CannotSwitch::NotReady {
                    why: self.others().filter_map(|p| Some((p, self.no_target(now, p, facts)?))).collect(),
                })?,
        };
        self.hand_over =
            Some(HandOver { to, since: now, token: facts.grant.map(|g| g.token), operator: true });
        Ok(to)
    }

    /// The node is told to end: hand over first if it is active and somebody can take over.
    pub fn shutdown(&mut self, now: MonoTime) {
        self.shutdown_at.get_or_insert(now);
    }

    /// A grant this node proposed was refused: it may be proposed again at once.
    pub fn grant_refused(&mut self) {
        if let Some(led) = &mut self.led {
            led.proposed = None;
        }
    }
}
