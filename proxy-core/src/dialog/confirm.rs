//! The ACK of a 2xx that has made a dialog (RFC 3261 §13.2.2.4).
//!
//! | ACK of the caller | then |
//! |---|---|
//! | the first one | it waits until a majority knows that it came, and goes on |
//! | repeated | while the first one waits, nothing; later it goes on at once |
//! | refused by the cluster, or the node is lost meanwhile | silence: the callee repeats its 2xx, the caller its ACK |
//! | never | the dialog is ended by `end` |
//!
//! What the caller sends within the dialog meanwhile waits behind the ACK: a BYE that came to the callee first would end
//! what it does not yet know to have begun.
//!
//! Were it sent on before, a node that takes over in that moment would wait for an ACK that never comes again, and hang up
//! on two who talk.

use std::collections::BTreeMap;

use crate::engine::limits::TRANSACTION_BYTES;
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::Message;
use crate::route::passage::{Found, Passage};
use crate::routing::Stage;
use crate::state::{DialogId, Flow, ServerKey, SipCommand};

/// ACKs that wait for a verdict at once; more are dropped, and asked for again by the 2xx. Their bytes, and those of what
/// waits behind them, are among those that [`crate::engine::limits::MAX_HELD_BYTES`] bounds.
const MAX_WAITING: usize = 4096;
/// Requests that wait behind one of them; more are dropped, and sent again by their caller.
const MAX_BEHIND: usize = 8;

/// ACKs that wait for a verdict.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// By dialog: its ACK, and what has come after it.
    waiting: BTreeMap<DialogId, Vec<Waiting>>,
    /// Which dialog a proposal is about.
    proposed: BTreeMap<u64, DialogId>,
}

#[derive(Debug)]
struct Waiting {
    flow: Flow,
    key: ServerKey,
    bytes: Vec<u8>,
    found: Found,
}

impl Waiting {
    fn of(passage: &Passage<'_, '_>) -> Self {
        let (bytes, found) = (passage.message.raw().to_vec(), passage.found.clone());
        Self { flow: passage.flow, key: passage.key.clone(), bytes, found }
    }

    /// Bytes it holds.
    fn cost(&self) -> usize {
        TRANSACTION_BYTES + self.bytes.len()
    }
}

impl Engine {
    /// The first ACK of a dialog is made safe before it goes on. `true`: it waits, or is dropped.
    pub(crate) fn confirm_first(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> bool {
        if passage.found.confirmed {
            return false;
        }
        let Some((dialog, true)) = crate::dialog::of(cx.state, passage.message) else { return false };
        // When the end is due already, the ACK cannot change it.
        if dialog.ack_until.is_none_or(|until| until <= cx.now.wall) {
            return false;
        }
        if self.confirming.waiting.contains_key(&dialog.id) {
            return true;
        }
        let mut waiting = Waiting::of(passage);
        waiting.found.confirmed = true;
        let cost = waiting.cost();
        if self.confirming.waiting.len() >= MAX_WAITING || !self.may_hold(cost) {
            self.counters.dropped_overload += 1;
            return true;
        }
        let ack = self.new_id();
        let command = SipCommand::DialogAcked { id: dialog.id.clone(), at: cx.now.wall };
        if self.propose(command, Awaiting::Ack { ack }) {
            self.hold(cost);
            self.confirming.waiting.insert(dialog.id.clone(), vec![waiting]);
            self.confirming.proposed.insert(ack, dialog.id.clone());
        }
        true
    }

    /// A request of the caller does not overtake the ACK. `true`: it waits, or is dropped.
    pub(crate) fn follow_ack(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> bool {
        if self.confirming.waiting.is_empty() || self.is_explaining() {
            return false;
        }
        let Some((dialog, true)) = crate::dialog::of(cx.state, passage.message) else { return false };
        let Some(queue) = self.confirming.waiting.get(&dialog.id) else { return false };
        if queue.iter().any(|w| w.key == passage.key) {
            // It comes again.
            return true;
        }
        let waiting = Waiting::of(passage);
        let cost = waiting.cost();
        if queue.len() > MAX_BEHIND || !self.may_hold(cost) {
            self.counters.dropped_overload += 1;
            return true;
        }
        self.hold(cost);
        self.confirming.waiting.entry(dialog.id.clone()).or_default().push(waiting);
        true
    }

    /// The cluster knows of the ACK, or of no such dialog.
    pub(crate) fn on_ack_safe(&mut self, cx: Cx<'_>, ack: u64) {
        for waiting in self.confirmed(ack) {
            self.resume_in_dialog(cx, waiting);
        }
    }

    /// The cluster does not know of the ACK. What came behind it is told so when it is to be made safe itself.
    pub(crate) fn on_ack_refused(&mut self, cx: Cx<'_>, ack: u64) {
        for waiting in self.confirmed(ack).into_iter().skip(1) {
            self.resume_in_dialog(cx, waiting);
        }
    }

    fn confirmed(&mut self, ack: u64) -> Vec<Waiting> {
        let acks = &mut self.confirming;
        let queue = acks.proposed.remove(&ack).and_then(|id| acks.waiting.remove(&id)).unwrap_or_default();
        self.let_go(queue.iter().map(Waiting::cost).sum());
        queue
    }

    fn resume_in_dialog(&mut self, cx: Cx<'_>, waiting: Waiting) {
        let Waiting { flow, key, bytes, found } = waiting;
        let Ok(message) = Message::parse(&bytes) else { return };
        let Some(method) = message.method() else { return };
        let passage = Passage { message: &message, method, flow, key, found };
        self.walk(cx, passage, Stage::Withindlg.number());
    }
}
