//! The sequence: brings the steps of a table up under a token, and down in reverse.
//!
//! A token is the log index of the grant that made this node the holder; a newer one supersedes an older one: all that
//! is up under the old one goes down before anything starts under the new one.
//!
//! | a step is | on | it becomes |
//! |---|---|---|
//! | down | the goal is up, and what it comes after is up | starting: START is handed out |
//! | starting | reported done | up |
//! | starting | reported failed, or overdue | broken: perhaps half up; the whole sequence goes down, this step too |
//! | starting, broken, up | going down, and what comes after it is down or stuck | stopping: STOP is handed out |
//! | stopping | reported done | down |
//! | stopping | reported failed, or overdue | stuck: an escalation is handed out, and nothing starts any more |
//!
//! The contract of whoever runs the steps: a STOP that is handed out while the START of the same step has not been
//! reported takes its place: the START is ended first (or waited for), and its report no longer counts. A STOP of a
//! step that is not up, or only half, is done without complaint.

use std::collections::VecDeque;
use std::time::Duration;

use crate::steps::{Row, Step, TABLE};

/// Log index of the grant.
pub type Token = u64;

/// Time since any fixed origin, the same for all calls.
pub type Moment = Duration;

/// What the sequence should come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// All up.
    Up {
        /// Under this token.
        token: Token,
    },
    /// All down.
    Down,
}

/// Up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Bring it up.
    Start,
    /// Take it down.
    Stop,
}

/// One step to be run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunStep<S> {
    /// Unique in this sequence; the report names it.
    pub id: u64,
    /// Which step.
    pub step: S,
    /// Up or down.
    pub action: Action,
    /// The token under which it is, or was, started.
    pub token: Token,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Todo<S> {
    /// Run this and report.
    Run(RunStep<S>),
    /// This node cannot take the step down: somebody stronger has to (the guard: kill; then reboot).
    Escalate {
        /// The step that is stuck.
        step: S,
        /// What was reported.
        why: String,
    },
}

/// How a step went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It is not, for this reason.
    Failed(String),
}

/// Where the sequence as a whole is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// All down.
    Stopped,
    /// On its way.
    Moving,
    /// All up, under this token.
    Started(Token),
    /// All down again, because a step could not be started; [`Sequence::retry`] or a newer token tries again.
    Failed(String),
    /// A step could not be stopped. Stays so for the life of this sequence.
    Stuck,
}

/// A token older than one that was accepted before: the caller is behind, and nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("token {given} is older than {newest}, which was accepted before")]
pub struct Stale {
    /// What was given.
    pub given: Token,
    /// The newest that was accepted.
    pub newest: Token,
}

const OVERDUE: &str = "not finished in time";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Running {
    id: u64,
    deadline: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Down,
    Starting(Running),
    Broken,
    Up,
    Stopping(Running),
    Stuck,
}

impl Stage {
    /// Nothing more can be done to take it down.
    fn is_over(self) -> bool {
        matches!(self, Self::Down | Self::Stuck)
    }
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Sequence<S: 'static = Step> {
    table: &'static [Row<S>],
    /// One for each row.
    stages: Vec<Stage>,
    goal: Goal,
    newest: Option<Token>,
    /// Under which what is not down was started.
    token: Option<Token>,
    failure: Option<String>,
    /// Steps that are stuck and have not been handed out yet: at most one for each row.
    escalations: VecDeque<(S, String)>,
    next_id: u64,
}

impl Default for Sequence {
    fn default() -> Self {
        Self::new(TABLE)
    }
}

impl<S: Copy + Eq + std::fmt::Debug> Sequence<S> {
    /// All down. Each row of `table` must stand after the rows that it names ([`crate::steps::is_ordered`]); a step
    /// that names a missing one never starts.
    #[must_use]
    pub fn new(table: &'static [Row<S>]) -> Self {
        let stages = vec![Stage::Down; table.len()];
        Self {
            table,
            stages,
            goal: Goal::Down,
            newest: None,
            token: None,
            failure: None,
            escalations: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Sets the goal; the same one again changes nothing. A failure ends with a newer token, and with `Down`.
    ///
    /// # Errors
    /// [`Stale`].
    pub fn set_goal(&mut self, goal: Goal) -> Result<(), Stale> {
        if let Goal::Up { token } = goal {
            self.accept(token)?;
        }
        if goal != self.goal {
            self.goal = goal;
            self.failure = None;
        }
        Ok(())
    }

    /// A newer grant to the same node, and the caller knows that nobody else has held the service in between: what is
    /// up stays up, under the newer token. `false`, and nothing is changed, if the sequence is not on its way up.
    ///
    /// # Errors
    /// [`Stale`].
    pub fn renew(&mut self, token: Token) -> Result<bool, Stale> {
        if !self.is_rising() {
            return Ok(false);
        }
        self.accept(token)?;
        self.goal = Goal::Up { token };
        self.token = self.token.and(Some(token));
        Ok(true)
    }

    /// Tries again after a failure, under the same token, once all is down.
    pub fn retry(&mut self) {
        self.failure = None;
    }

    fn accept(&mut self, given: Token) -> Result<(), Stale> {
        match self.newest {
            Some(newest) if given < newest => Err(Stale { given, newest }),
            _ => {
                self.newest = Some(given);
                Ok(())
            }
        }
    }

    /// What is to be done now; to be called until there is nothing.
    pub fn poll_step(&mut self, now: Moment) -> Option<Todo<S>> {
        self.find_overdue(now);
        if let Some((step, why)) = self.escalations.pop_front() {
            return Some(Todo::Escalate { step, why });
        }
        if !self.is_rising()
            && let Some(i) = (0..self.stages.len()).rev().find(|i| self.may_stop(*i))
        {
            return self.run(now, i, Action::Stop);
        }
        if self.stages.iter().all(|s| *s == Stage::Down) {
            self.token = None;
        }
        if !self.is_rising() {
            return None;
        }
        if let (None, Goal::Up { token }) = (self.token, self.goal) {
            self.token = Some(token);
        }
        let i = (0..self.stages.len()).find(|i| self.may_start(*i))?;
        self.run(now, i, Action::Start)
    }

    /// How a step went. A report that no longer counts is ignored.
    pub fn handle_reported(&mut self, id: u64, outcome: Outcome) {
        let Some(i) = self.stages.iter().position(|s| match s {
            Stage::Starting(running) | Stage::Stopping(running) => running.id == id,
            _ => false,
        }) else {
            return;
        };
        match (self.stages[i], outcome) {
            (Stage::Starting(_), Outcome::Done) => self.stages[i] = Stage::Up,
            (Stage::Starting(_), Outcome::Failed(why)) => self.fail_start(i, &why),
            (_, Outcome::Done) => self.stages[i] = Stage::Down,
            (_, Outcome::Failed(why)) => self.fail_stop(i, why),
        }
    }

    /// When [`Sequence::poll_step`] has to be called again, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        let deadlines = self.stages.iter().filter_map(|s| match s {
            Stage::Starting(running) | Stage::Stopping(running) => Some(running.deadline),
            _ => None,
        });
        deadlines.min()
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        let all = |stage| self.stages.iter().all(|s| *s == stage);
        if self.is_stuck() {
            State::Stuck
        } else if all(Stage::Down) {
            match (&self.failure, self.goal) {
                (Some(why), _) => State::Failed(why.clone()),
                (None, Goal::Down) => State::Stopped,
                (None, Goal::Up { .. }) => State::Moving,
            }
        } else {
            match self.token.filter(|_| all(Stage::Up) && self.is_rising()) {
                Some(token) => State::Started(token),
                None => State::Moving,
            }
        }
    }

    fn is_stuck(&self) -> bool {
        self.stages.contains(&Stage::Stuck)
    }

    /// Whether steps may start now; otherwise what is up goes down.
    fn is_rising(&self) -> bool {
        let Goal::Up { token } = self.goal else { return false };
        self.token.is_none_or(|t| t == token)
            && self.failure.is_none()
            && !self.is_stuck()
            // What is being taken down is down before anything starts.
            && !self.stages.iter().any(|s| matches!(s, Stage::Stopping(_) | Stage::Broken))
    }

    /// All that `i` comes after is up.
    fn founded(&self, i: usize) -> bool {
        self.table[i].after.iter().all(|a| self.stage_of(*a) == Some(Stage::Up))
    }

    fn stage_of(&self, step: S) -> Option<Stage> {
        self.table.iter().position(|row| row.step == step).map(|i| self.stages[i])
    }

    fn may_start(&self, i: usize) -> bool {
        self.stages[i] == Stage::Down && self.founded(i)
    }

    fn may_stop(&self, i: usize) -> bool {
        let step = self.table[i].step;
        let dependents = self.table.iter().zip(&self.stages).filter(|(row, _)| row.after.contains(&step));
        matches!(self.stages[i], Stage::Starting(_) | Stage::Broken | Stage::Up)
            && dependents.map(|(_, stage)| *stage).all(Stage::is_over)
    }

    fn run(&mut self, now: Moment, i: usize, action: Action) -> Option<Todo<S>> {
        let (row, token) = (self.table.get(i)?, self.token?);
        let id = self.next_id;
        self.next_id += 1;
        self.stages[i] = match action {
            Action::Start => Stage::Starting(Running { id, deadline: now.saturating_add(row.start_within) }),
            Action::Stop => Stage::Stopping(Running { id, deadline: now.saturating_add(row.stop_within) }),
        };
        Some(Todo::Run(RunStep { id, step: row.step, action, token }))
    }

    fn find_overdue(&mut self, now: Moment) {
        for i in 0..self.stages.len() {
            match self.stages[i] {
                Stage::Starting(running) if now >= running.deadline => self.fail_start(i, OVERDUE),
                Stage::Stopping(running) if now >= running.deadline => self.fail_stop(i, OVERDUE.into()),
                _ => {}
            }
        }
    }

    fn fail_start(&mut self, i: usize, why: &str) {
        self.stages[i] = Stage::Broken;
        // The first failure is the cause; what fails after it, while all goes down, is not.
        self.failure.get_or_insert_with(|| format!("starting {:?}: {why}", self.table[i].step));
    }

    fn fail_stop(&mut self, i: usize, why: String) {
        self.stages[i] = Stage::Stuck;
        self.escalations.push_back((self.table[i].step, why));
    }
}
