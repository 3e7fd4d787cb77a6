//! Tells the log of this node and the history of the cluster what has happened to the service.

use proxy_core::time::{Clocks, MonoTime};
use raft_store::state::{Event, EventKind};

use crate::bridge::Cluster;
use crate::control::{Cause, Facts, Moves, Place, Taken, Told};

/// A part that does not show in the history is told again, so often at most.
const TRIES: u32 = 10;
/// Between two tries, ns (500 ms).
const TRY_EVERY: u64 = 500_000_000;

/// What is still to be told.
#[derive(Debug)]
struct Untold {
    event: Event,
    tried_at: Option<MonoTime>,
    tries: u32,
}

/// The teller of one node.
#[derive(Debug)]
pub struct Chronicle {
    place: Place,
    moves: Moves,
    untold: Vec<Untold>,
}

impl Chronicle {
    /// For this node.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self { place, moves: Moves::new(place), untold: Vec::new() }
    }

    /// This node has asked for a grant to another one, because of this.
    pub fn gives(&mut self, to: Place, why: Cause) {
        self.moves.gives(to, why);
    }

    /// One look. `up`: the token under which the service is up here now.
    pub fn look<C: Cluster>(&mut self, clocks: Clocks, facts: &Facts, up: Option<u64>, cluster: &C) {
        let now = clocks.mono;
        for told in self.moves.look(now, facts, up) {
            let event = match told {
                Told::Taken(taken) => self.taken(taken, cluster),
                Told::Given { token, to, why } => {
                    let why = why.words(self.place);
                    tracing::warn!("the service goes to node {to} under token {token}: {why}");
                    Event { token, from: Some(self.place), to: Some(to), why: Some(why), ..Event::default() }
                }
            };
            let event = Event { at: cluster.now(clocks).wall, ..event };
            self.untold.push(Untold { event, tried_at: None, tries: 0 });
        }
        if self.untold.is_empty() || facts.leader.is_none() {
            return;
        }
        let history = cluster.history();
        let is_told = |e: &Event| history.iter().any(|known| is_part_of(e, known));
        self.untold.retain(|u| u.tries < TRIES && !(u.tries > 0 && is_told(&u.event)));
        for untold in &mut self.untold {
            if untold.tried_at.is_none_or(|at| now.0.saturating_sub(at.0) >= TRY_EVERY) {
                (untold.tried_at, untold.tries) = (Some(now), untold.tries + 1);
                cluster.tell(untold.event.clone());
            }
        }
    }

    fn taken<C: Cluster>(&self, taken: Taken, cluster: &C) -> Event {
        let Taken { token, from, again, why, silent } = taken;
        let counts = cluster.read(proxy_core::state::SipState::counts);
        let whence = match from {
            Some(place) if place != self.place => format!("node {place}"),
            Some(_) => String::from("this node itself"),
            None => String::from("nobody"),
        };
        let silence = silent.map_or_else(
            || String::from("for how long nobody served is not known here"),
            |silent| format!("nobody served for {} ms", silent.as_millis()),
        );
        tracing::warn!(
            "this node serves under token {token}, after {whence}: {why}; {silence}; {} INVITEs go on, {} calls, {} contacts",
            counts.pending_invites,
            counts.dialogs,
            counts.bindings
        );
        Event {
            token,
            kind: if again { EventKind::Resumed } else { EventKind::Moved },
            from,
            to: Some(self.place),
            why: Some(why),
            silent_ms: silent.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            invites: Some(counts.pending_invites),
            dialogs: Some(counts.dialogs),
            bindings: Some(counts.bindings),
            ..Event::default()
        }
    }
}

/// Whether what a node tells is in what the cluster keeps already.
fn is_part_of(told: &Event, known: &Event) -> bool {
    let same = known.kind == told.kind && (told.kind != EventKind::Moved || known.token == told.token);
    let has = |told: Option<u64>, known: Option<u64>| told.is_none() || known.is_some();
    same && known.to == told.to
        && has(told.silent_ms, known.silent_ms)
        && has(told.invites, known.invites)
        && (told.kind == EventKind::Moved || known.silent_ms == told.silent_ms)
}
