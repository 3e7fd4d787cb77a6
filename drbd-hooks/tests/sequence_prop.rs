//! Any series of goals, reports, failures and delays, over the table that is to come: the order holds, each START is
//! undone, and no step of an older token follows one of a newer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drbd_hooks::sequence::{Action, Goal, Outcome, RunStep, Sequence, State, Todo, Token};
use drbd_hooks::steps::{Row, is_ordered};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum S {
    Lease,
    Vip,
    Sip,
    Drbd,
    Mount,
    Mariadb,
}

const fn row(step: S, after: &'static [S]) -> Row<S> {
    let (start_within, stop_within) = (Duration::from_millis(50), Duration::from_millis(30));
    Row { step, after, start_within, stop_within, reason: "a test" }
}

/// Two chains that run side by side.
const GROWN: &[Row<S>] = &[
    row(S::Lease, &[]),
    row(S::Vip, &[S::Lease]),
    row(S::Sip, &[S::Vip]),
    row(S::Drbd, &[S::Lease]),
    row(S::Mount, &[S::Drbd]),
    row(S::Mariadb, &[S::Mount]),
];

#[derive(Debug, Clone)]
enum Event {
    Up { newer: Token },
    Down,
    Renew { newer: Token },
    Retry,
    Report { which: usize, ok: bool },
    Wait { ms: u64 },
}

fn event(stops_fail: bool) -> impl Strategy<Value = Event> {
    let ok = prop_oneof![9 => Just(true), 1 => Just(false)];
    prop_oneof![
        3 => (0..2_u64).prop_map(|newer| Event::Up { newer }),
        2 => Just(Event::Down),
        1 => (0..2_u64).prop_map(|newer| Event::Renew { newer }),
        1 => Just(Event::Retry),
        12 => (any::<usize>(), ok).prop_map(|(which, ok)| Event::Report { which, ok }),
        2 => (0..if stops_fail { 60_u64 } else { 8 }).prop_map(|ms| Event::Wait { ms }),
    ]
}

/// Runs the sequence and judges every step that it hands out.
struct Judge {
    sequence: Sequence<S>,
    now: Duration,
    newest: Token,
    /// Handed out and not reported.
    open: Vec<RunStep<S>>,
    /// Began to start, and the STOP after that is not done. With the token that a STOP must carry.
    on: BTreeMap<S, Token>,
    /// Whose START is done.
    ready: BTreeSet<S>,
    stuck: BTreeSet<S>,
    begun: Token,
    stops_fail: bool,
}

impl Judge {
    fn poll(&mut self) -> Result<(), TestCaseError> {
        // More than a table's length of steps can only follow one another through reports.
        for _ in 0..=2 * GROWN.len() {
            match self.sequence.poll_step(self.now) {
                None => return Ok(()),
                Some(Todo::Escalate { step, .. }) => {
                    prop_assert!(self.stuck.insert(step), "{step:?} is escalated once");
                    self.open.retain(|o| o.step != step);
                }
                Some(Todo::Run(run)) => self.judge(run)?,
            }
        }
        prop_assert!(false, "it never rests");
        Ok(())
    }

    fn judge(&mut self, run: RunStep<S>) -> Result<(), TestCaseError> {
        let row = GROWN.iter().find(|r| r.step == run.step).expect("in the table");
        prop_assert!(run.token >= self.begun, "token {} after {}", run.token, self.begun);
        self.begun = run.token;
        match run.action {
            Action::Start => {
                prop_assert!(self.stuck.is_empty(), "nothing starts once something is stuck");
                prop_assert!(!self.on.contains_key(&run.step), "{:?} is started while it is on", run.step);
                prop_assert!(self.on.values().all(|t| *t == run.token), "two tokens at once: {:?}", self.on);
                prop_assert!(row.after.iter().all(|a| self.ready.contains(a)), "{run:?} too early");
                self.on.insert(run.step, run.token);
            }
            Action::Stop => {
                prop_assert_eq!(self.on.get(&run.step), Some(&run.token), "a STOP undoes its START");
                let mut above = GROWN.iter().filter(|r| r.after.contains(&run.step));
                prop_assert!(
                    above.all(|r| !self.on.contains_key(&r.step) || self.stuck.contains(&r.step)),
                    "{:?} before what stands on it",
                    run
                );
                self.ready.remove(&run.step);
                // It takes the place of a START that is under way.
                self.open.retain(|o| o.step != run.step);
            }
        }
        self.open.push(run);
        Ok(())
    }

    fn report(&mut self, which: usize, ok: bool) {
        if self.open.is_empty() {
            return;
        }
        let run = self.open.swap_remove(which % self.open.len());
        let ok = ok || (run.action == Action::Stop && !self.stops_fail);
        match (run.action, ok) {
            (Action::Start, true) => {
                self.ready.insert(run.step);
            }
            (Action::Stop, true) => {
                self.on.remove(&run.step);
            }
            (_, false) => {}
        }
        self.sequence.handle_reported(run.id, if ok { Outcome::Done } else { Outcome::Failed("no".into()) });
    }

    fn happen(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Up { newer } => {
                self.newest += newer;
                let set = self.sequence.set_goal(Goal::Up { token: self.newest });
                prop_assert!(set.is_ok());
            }
            Event::Down => prop_assert!(self.sequence.set_goal(Goal::Down).is_ok()),
            Event::Renew { newer } => {
                let renewed = self.sequence.renew(self.newest + newer);
                prop_assert!(renewed.is_ok());
                if renewed == Ok(true) {
                    self.newest += newer;
                    for token in self.on.values_mut() {
                        *token = self.newest;
                    }
                }
            }
            Event::Retry => self.sequence.retry(),
            Event::Report { which, ok } => self.report(which, ok),
            Event::Wait { ms } => {
                let next = self.now + Duration::from_millis(ms);
                // Where no STOP may fail none may be overdue, either: it is reported before.
                while !self.stops_fail
                    && self.sequence.poll_timeout().is_some_and(|t| t <= next)
                    && let Some(i) = self.open.iter().position(|o| o.action == Action::Stop)
                {
                    self.report(i, true);
                    self.poll()?;
                }
                self.now = next;
            }
        }
        self.poll()
    }

    /// Lets everything that is under way end well.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..10 * GROWN.len() {
            self.poll()?;
            self.report(0, true);
        }
        self.poll()
    }
}

fn judge(stops_fail: bool) -> Judge {
    Judge {
        sequence: Sequence::new(GROWN),
        now: Duration::from_secs(1),
        newest: 1,
        open: Vec::new(),
        on: BTreeMap::new(),
        ready: BTreeSet::new(),
        stuck: BTreeSet::new(),
        begun: 0,
        stops_fail,
    }
}

#[test]
fn the_grown_table_is_in_order() {
    assert!(is_ordered(GROWN));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn steps_never_leave_their_order_and_the_goal_is_reached_in_the_end(
        events in prop::collection::vec(event(false), 0..80), down in any::<bool>()
    ) {
        let mut judge = judge(false);
        for event in events {
            judge.happen(event)?;
        }
        prop_assert!(judge.stuck.is_empty());
        judge.happen(if down { Event::Down } else { Event::Up { newer: 1 } })?;
        judge.settle()?;
        if down {
            prop_assert_eq!(judge.sequence.state(), State::Stopped);
            prop_assert!(judge.on.is_empty(), "each START has been undone: {:?}", judge.on);
        } else {
            prop_assert_eq!(judge.sequence.state(), State::Started(judge.newest));
            prop_assert_eq!(judge.ready.len(), GROWN.len());
        }
    }

    #[test]
    fn with_stops_that_fail_the_order_holds_too_and_what_can_go_down_does(
        events in prop::collection::vec(event(true), 0..80)
    ) {
        let mut judge = judge(true);
        for event in events {
            judge.happen(event)?;
        }
        judge.happen(Event::Down)?;
        judge.settle()?;
        let on: BTreeSet<S> = judge.on.keys().copied().collect();
        prop_assert_eq!(&on, &judge.stuck, "what is still on is what was escalated");
        let state = if on.is_empty() { State::Stopped } else { State::Stuck };
        prop_assert_eq!(judge.sequence.state(), state);
    }
}
