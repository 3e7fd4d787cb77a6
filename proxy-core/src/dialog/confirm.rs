//! The ACK of a 2xx that has made a dialog (RFC 3261 §13.2.2.4).
//!
//! | ACK of the caller | then |
//! |---|---|
//! | the first one | it waits until a majority knows that it came, and goes on |
//! | repeated | it goes on at once |
//! | refused by the cluster, or the node is lost meanwhile | silence: the callee repeats its 2xx, the caller its ACK |
//! | never | the dialog is ended by `end` |
//!
//! Were it sent on before, a node that takes over in that moment would wait for an ACK that never comes again, and hang up
//! on two who talk.

use std::collections::BTreeMap;

use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::{Message, Method};
use crate::route::passage::{Found, Passage};
use crate::routing::Stage;
use crate::state::{Flow, ServerKey, SipCommand};

/// ACKs that wait for a verdict at once; more are dropped, and asked for again by the 2xx.
const MAX_WAITING: usize = 4096;

/// ACKs that wait for a verdict.
#[derive(Debug, Default)]
pub(crate) struct Acks(BTreeMap<u64, Waiting>);

#[derive(Debug)]
struct Waiting {
    flow: Flow,
    key: ServerKey,
    bytes: Vec<u8>,
    found: Found,
}

impl Engine {
    /// The first ACK of a dialog is made safe before it goes on. `true`: it waits, or is dropped.
    pub(crate) fn confirm_first(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> bool {
        let Some((dialog, true)) = crate::dialog::of(cx.state, passage.message) else { return false };
        // When the end is due already, the ACK cannot change it.
        if dialog.ack_until.is_none_or(|until| until <= cx.now.wall) {
            return false;
        }
        if self.confirming.0.len() >= MAX_WAITING {
            self.counters.dropped_overload += 1;
            return true;
        }
        let ack = self.new_id();
        let command = SipCommand::DialogAcked { id: dialog.id.clone(), at: cx.now.wall };
        if self.propose(command, Awaiting::Ack { ack }) {
            let bytes = passage.message.raw().to_vec();
            let (flow, key, found) = (passage.flow, passage.key.clone(), passage.found.clone());
            self.confirming.0.insert(ack, Waiting { flow, key, bytes, found });
        }
        true
    }

    /// The cluster knows of the ACK, or of no such dialog.
    pub(crate) fn on_ack_safe(&mut self, cx: Cx<'_>, ack: u64) {
        let Some(Waiting { flow, key, bytes, found }) = self.confirming.0.remove(&ack) else { return };
        let Ok(message) = Message::parse(&bytes) else { return };
        let within = Stage::REQUEST.iter().position(|s| *s == Stage::Withindlg).unwrap_or(0);
        let passage = Passage { message: &message, method: Method::Ack, flow, key, found };
        self.walk(cx, passage, within);
    }

    /// The cluster does not know of the ACK.
    pub(crate) fn on_ack_refused(&mut self, ack: u64) {
        self.confirming.0.remove(&ack);
    }
}
