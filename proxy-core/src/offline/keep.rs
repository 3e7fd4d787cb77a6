//! A MESSAGE for somebody without a phone.
//!
//! | MESSAGE | then |
//! |---|---|
//! | for a user of ours without a contact that can be reached | kept; 202 when that is replicated (RFC 3428 §7) |
//! | for a user whom nobody knows, where there are subscribers | the answer that there would be without the store |
//! | too large, no room, or `Expires: 0` | the same |
//! | with `Expires` | kept no longer than that |
//! | the same MESSAGE again, within twice the time of a transaction | 202 again, and nothing else, whichever node has taken it |
//! | within a dialog, to domains of others, from a trunk to another | not looked at |

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::{HeaderName, Message, Method, Uri};
use crate::proxy::build;
use crate::route::passage::{Passage, Step, Way};
use crate::state::message_store::{MessageCommand, StoredMessage};
use crate::state::{SipCommand, SipResponse};
use crate::time::WallTime;

/// Headers that mean the same to the receiver later.
const KEPT_HEADERS: [&str; 10] = [
    // With Date it says until when the message is worth reading (RFC 3428 §4).
    "Expires",
    "Content-Encoding",
    "Content-Disposition",
    "Content-Language",
    "MIME-Version",
    "Subject",
    "Priority",
    "Reply-To",
    "In-Reply-To",
    "Organization",
];
/// Bytes of all of them together; what does not fit is left out.
const MAX_KEPT_HEADER_BYTES: usize = 2048;

impl Engine {
    /// Keeps a MESSAGE that has found no phone, if that is configured. `None`: it has not been taken.
    pub(crate) fn keep_message(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> Option<Step> {
        let config = &self.settings.config.message_store;
        let failing = passage.found.failing.map(|(status, _)| status);
        let is_ours = matches!(passage.found.way, None | Some(Way::Location));
        let is_meant = config.enabled
            && passage.method == Method::Message
            && !passage.found.in_dialog
            && is_ours
            && matches!(failing, Some(404 | 480))
            && passage.message.body().len() <= config.max_bytes;
        if !is_meant {
            return None;
        }
        let asked = passage.message.header(HeaderName::Expires).and_then(crate::registrar::delta_seconds);
        let life = asked.map_or(config.life, |s| config.life.min(Duration::from_secs(s.into())));
        if life.is_zero() {
            return None;
        }
        let local = passage.flow.local;
        let uri = Uri::parse(&passage.found.uri).ok().filter(|uri| uri.user.is_some())?;
        let aor =
            self.settings.config.aor(&uri, Some(local)).filter(|_| self.settings.is_local(&uri, local))?;
        let provision = cx.state.provision();
        let is_known = provision.subscribers().next().is_none() || provision.subscriber(&aor).is_some();
        if !is_known {
            return None;
        }
        let receipt = self.settings.keys.message_receipt(passage.message);
        // A client gives up after 64*T1 and may try another server for as long (RFC 3261 §17.1.2.2, RFC 3263 §4.3).
        let receipt_ends = cx.now.wall + self.settings.timers.t1_64() * 2;
        let message = stored(passage.message, (receipt, receipt_ends), cx, life)?;
        let (max_per_user, max_total) = (config.max_per_user, config.max_total);
        if self.no_room {
            self.reject_no_room(passage.flow, passage.message);
            return Some(Step::Answered);
        }
        if !self.has_room_for_stranger(cx, passage) {
            return Some(Step::Answered);
        }
        let opened =
            self.open_exchange(cx, passage.key.clone(), passage.flow, passage.message, Vec::new(), true);
        let Some(exchange) = opened else {
            self.reject_overload(passage.flow, passage.message.raw());
            return Some(Step::Answered);
        };
        self.explain("keeps it", || format!("until {aor} registers"));
        let command = MessageCommand::Keep { aor, message: Box::new(message), max_per_user, max_total };
        if !self.propose(SipCommand::Message(command), Awaiting::Keep { exchange }) {
            self.remove_exchange(exchange);
            self.reject_overload(passage.flow, passage.message.raw());
        }
        Some(Step::Answered)
    }

    /// Answers a MESSAGE that was taken, by whichever node, as it was answered then. `false`: it was not.
    pub(crate) fn is_message_taken(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> bool {
        if passage.method != Method::Message || !self.settings.config.message_store.enabled {
            return false;
        }
        let receipt = self.settings.keys.message_receipt(passage.message);
        if !cx.state.has_taken_message(receipt) {
            return false;
        }
        self.counters.retransmissions_in += 1;
        self.explain("absorbs it", || String::from("it has been taken; 202 is said again"));
        let tag = self.settings.keys.local_tag(passage.message);
        let bytes = build::response(&self.settings, passage.message, 202, "", &tag, &[]);
        self.transmit(passage.flow, &bytes);
        true
    }

    /// Verdict on a MESSAGE that is to be kept.
    pub(crate) fn on_kept(&mut self, cx: Cx<'_>, exchange: u64, response: &SipResponse) {
        // Without room it is as if there were no store, and 480 says that it may be another time.
        let status = if *response == SipResponse::Done { 202 } else { 480 };
        self.answer_with(cx, exchange, status, |engine, request, _, tag| {
            build::response(&engine.settings, request, status, "", tag, &[])
        });
    }
}

/// The name of a header that is kept.
pub(super) fn kept_name(name: &str) -> Option<&'static str> {
    KEPT_HEADERS.into_iter().find(|kept| *kept == name)
}

/// What is kept of a message. `None` if it cannot be read.
fn stored(
    message: &Message<'_>,
    (receipt, receipt_ends): (u64, WallTime),
    cx: Cx<'_>,
    life: Duration,
) -> Option<StoredMessage> {
    let from = message.from().ok()?;
    let from_uri = from.uri.to_owned();
    let display = std::str::from_utf8(from.display).ok().filter(|name| !name.is_empty());
    let mut room = MAX_KEPT_HEADER_BYTES;
    let mut headers = Vec::new();
    for name in KEPT_HEADERS {
        let Some(value) = message.header_named(name).and_then(|v| std::str::from_utf8(v).ok()) else {
            continue;
        };
        // A fold is a space (RFC 3261 §7.3.1).
        let value: String = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(rest) = room.checked_sub(name.len() + value.len()) {
            room = rest;
            headers.push((name.to_owned(), value));
        }
    }
    let content_type = message.header(HeaderName::ContentType);
    Some(StoredMessage {
        receipt,
        receipt_ends,
        from: match display {
            Some(name) => format!("{name} <{from_uri}>"),
            None => format!("<{from_uri}>"),
        },
        to: message.to().ok()?.uri.to_owned(),
        headers,
        content_type: content_type.and_then(|v| std::str::from_utf8(v).ok()).map(str::to_owned),
        body: message.body().to_vec(),
        received_at: cx.now.wall,
        expires_at: cx.now.wall + life,
        cseq: 1,
        tries: BTreeMap::new(),
    })
}
