//! The user is back: his messages, in the order in which they came.
//!
//! | what happens | then |
//! |---|---|
//! | the user registers, or a try is due, or this node took over and he is there | the first message leaves, to the contact that registered last |
//! | 2xx | it goes; then the next one |
//! | any other answer, or none | the next contact that it was not tried at, at once |
//! | an answer that will never be another (415, 488, 606 and the like) | never there again; if all contacts that there are have said so, and nobody has a pause: it goes |
//! | another answer | there again after a pause, with the next CSeq; after [`MAX_TRIES`] every hour, or when that phone registers anew |
//! | no answer | the same, but with the same CSeq: the phone may have had it, and knows it then |
//!
//! A contact is new when its phone has been started again, or has another address ([`registration`]). Which one registered
//! last decides nothing but the order: the clocks of two nodes may differ.
//!
//! All of it is done by the engine that the Call-ID of the user's first message belongs to, so that the engines of a user
//! take turns. Call-ID, CSeq and branch are functions of what is replicated: a node that takes over in between, with
//! however many engines, sends the very same request again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::limits::MAX_DELIVERIES_PER_TICK;
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::location::reach;
use crate::registrar::http_date;
use crate::state::message_store::{MessageCommand, StoredMessage, Tries, registration};
use crate::state::{Binding, NewsItem, SipCommand};
use crate::uac::{Originated, Outcome, OwnRequest, Purpose};

/// Tries of one message at one registration with growing pauses; a new one (another Call-ID) begins anew.
pub(crate) const MAX_TRIES: u16 = 6;
/// Pause after the first failure; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// Pause after the last of [`MAX_TRIES`] and each one after it.
const LATER: Duration = Duration::from_secs(3600);

/// What an engine knows of deliveries besides what is replicated.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// How much of the news has been read; `None`: all users are to be looked at.
    seen: Option<u64>,
    /// Users to be looked at.
    marked: std::collections::BTreeSet<String>,
    /// The message under way for each user, and how far it is.
    busy: BTreeMap<String, Busy>,
    /// Users by the number of the try.
    attempts: BTreeMap<u64, String>,
}

/// A delivery under way.
#[derive(Debug)]
struct Busy {
    /// Number of the message.
    number: u64,
    phase: Phase,
}

/// How far a delivery is. Until what came of it is remembered nothing else is sent to the user: it would be the same
/// request again, of which nobody hears a second time.
#[derive(Debug)]
enum Phase {
    /// The phone of this registration has it, or not; with this CSeq number.
    Sent(String, u32),
    /// What came of it is being remembered.
    Telling(MessageCommand),
    /// That could not be remembered: said again at the next tick.
    ToTell(MessageCommand),
}

/// How the messages of a user are called.
fn name_of(aor: &str) -> String {
    format!("the messages kept for {aor}")
}

impl Engine {
    /// Reads the news; called after whatever has happened. Costs one comparison if there is none.
    pub(crate) fn messages_look(&mut self, cx: Cx<'_>) {
        if !self.settings.config.message_store.enabled || !self.is_active() {
            return;
        }
        let count = cx.state.news_count();
        if self.offline.seen == Some(count) {
            return;
        }
        let mut own: Vec<String> = Vec::new();
        match self.offline.seen.and_then(|seen| cx.state.news_since(seen)) {
            Some(news) => {
                for item in news {
                    if let NewsItem::Contacts { aor } = item
                        && self.is_first_message_here(cx, aor)
                    {
                        own.push(aor.clone());
                    }
                }
            }
            None => {
                let with_phone =
                    |aor: &&str| !cx.state.bindings(aor).is_empty() && self.is_first_message_here(cx, aor);
                own.extend(cx.state.users_with_messages().filter(with_phone).map(str::to_owned));
            }
        }
        self.offline.marked.extend(own);
        self.offline.seen = Some(count);
        self.deliver_marked(cx);
    }

    /// Tries again what is due.
    pub(crate) fn messages_tick(&mut self, cx: Cx<'_>) {
        if !self.settings.config.message_store.enabled {
            return;
        }
        let untold: Vec<(String, u64, MessageCommand)> = self
            .offline
            .busy
            .iter()
            .filter_map(|(aor, busy)| match &busy.phase {
                Phase::ToTell(command) => Some((aor.clone(), busy.number, command.clone())),
                Phase::Sent(..) | Phase::Telling(_) => None,
            })
            .collect();
        for (aor, number, command) in untold {
            self.tell_message(aor, number, command);
        }
        let is_free =
            |aor: &&str| !self.offline.busy.contains_key(*aor) && self.is_first_message_here(cx, aor);
        let due = cx.state.messages_due(cx.now.wall).filter(is_free);
        let due = due.filter(|aor| !self.is_left_out(|| name_of(aor)));
        let own: Vec<String> = due.take(MAX_DELIVERIES_PER_TICK).map(str::to_owned).collect();
        self.offline.marked.extend(own);
        self.messages_look(cx);
        self.deliver_marked(cx);
    }

    fn deliver_marked(&mut self, cx: Cx<'_>) {
        for _ in 0..MAX_DELIVERIES_PER_TICK {
            let Some(aor) = self.offline.marked.pop_first() else { return };
            if !self.offline.busy.contains_key(&aor) {
                self.contain_each(|| name_of(&aor), |engine| engine.deliver_first(cx, aor.clone()));
            }
        }
    }

    /// Sends the first message of a user, if he can be reached.
    fn deliver_first(&mut self, cx: Cx<'_>, aor: String) {
        let Some((number, message)) = cx.state.messages_of(&aor).next() else { return };
        let (call_id, _) = self.message_names(&aor, number, message);
        if !self.is_own_shard(&call_id) {
            return;
        }
        let now = cx.now.wall;
        let mut current = cx.state.bindings(&aor).iter().filter(|b| b.expires_at > now);
        let is_open = |b: &&Binding| message.tries.get(&registration(b)).is_none_or(|t| t.is_due(now));
        // The one that has shown itself last is the one that is there.
        let Some(binding) = current.clone().filter(is_open).max_by_key(|b| b.updated_at) else {
            let has_tried = |b: &Binding| message.tries.contains_key(&registration(b));
            let is_for_good = message.tries.values().all(|t| t.next_at.is_none());
            if is_for_good && current.clone().next().is_some() && current.all(has_tried) {
                self.message_ends(aor, number);
            } else {
                self.forget_tries(cx, aor, number, message);
            }
            return;
        };
        let name = registration(binding);
        let cseq = message.tries.get(&name).map_or(message.cseq, |t| t.cseq);
        let attempt = self.new_id();
        let sent = self.message_request(cx, &aor, number, message, (binding, cseq), attempt);
        if sent.is_some_and(|what| self.originate(cx, what)) {
            let phase = Phase::Sent(name, cseq);
            self.offline.busy.insert(aor.clone(), Busy { number, phase });
            self.offline.attempts.insert(attempt, aor);
        } else {
            self.message_failed(cx, aor, (number, message), (&name, cseq), false);
        }
    }

    /// What is due at registrations that are no more is so no longer, or it would stand before what is due for others at every
    /// tick; and whatever the user comes back with is something new.
    fn forget_tries(&mut self, cx: Cx<'_>, aor: String, number: u64, message: &StoredMessage) {
        let due = message.tries.iter().filter(|(_, tries)| tries.is_due(cx.now.wall));
        let registrations: Vec<String> = due.map(|(registration, _)| registration.clone()).collect();
        if !registrations.is_empty() {
            let command = MessageCommand::Forget { aor, number, registrations };
            self.propose(SipCommand::Message(command), Awaiting::Nothing);
        }
    }

    /// Call-ID and From tag of a delivery: the same on every node, or a phone that has had it would take it for another.
    fn message_names(&self, aor: &str, number: u64, message: &StoredMessage) -> (String, String) {
        let parts: [&[u8]; 3] = [aor.as_bytes(), &number.to_be_bytes(), &message.received_at.0.to_be_bytes()];
        let keys = &self.settings.keys;
        (keys.own_call_id("message", &parts, 0), keys.own_tag("message", &parts))
    }

    /// Whether there is a message for this user and the first one is this engine's.
    fn is_first_message_here(&self, cx: Cx<'_>, aor: &str) -> bool {
        cx.state.messages_of(aor).next().is_some_and(|(number, message)| {
            let (call_id, _) = self.message_names(aor, number, message);
            self.is_own_shard(&call_id)
        })
    }

    fn message_request(
        &self,
        cx: Cx<'_>,
        aor: &str,
        number: u64,
        message: &StoredMessage,
        (binding, cseq): (&Binding, u32),
        attempt: u64,
    ) -> Option<Originated> {
        let flow = reach(binding, &self.settings.config.listen)?;
        let (call_id, tag) = self.message_names(aor, number, message);
        let mut request = OwnRequest::new("MESSAGE", &binding.contact, "", &tag, &message.to)
            .numbered(&call_id, cseq)
            // Two phones may get the same number.
            .on_thread(registration(binding))
            // When it was sent, as far as is known (RFC 3428 §4, RFC 3261 §20.17).
            .header("Date", http_date(cx.state.real(message.received_at)));
        request.from = format!("{};tag={tag}", message.from);
        request.routes.clone_from(&binding.path);
        for (name, value) in &message.headers {
            if let Some(name) = super::keep::kept_name(name) {
                request.headers.push((name, value.clone()));
            }
        }
        let content_type = message.content_type.clone();
        if !message.body.is_empty() || content_type.is_some() {
            let content_type = content_type.unwrap_or_else(|| String::from("text/plain"));
            request.body = Some((content_type, message.body.clone()));
        }
        Some(Originated { flow, request, purpose: Purpose::StoredMessage { attempt }, patience: None })
    }

    /// A delivery has ended.
    pub(crate) fn on_message_ended(&mut self, cx: Cx<'_>, attempt: u64, outcome: &Outcome<'_, '_>) {
        let Some(aor) = self.offline.attempts.remove(&attempt) else { return };
        let Some(busy) = self.offline.busy.remove(&aor) else { return };
        let (number, Phase::Sent(registration, cseq)) = (busy.number, busy.phase) else { return };
        let status = match outcome {
            Outcome::Final(status, _) => Some(*status),
            _ => None,
        };
        if status.is_some_and(|s| (200..300).contains(&s)) {
            self.message_ends(aor, number);
            return;
        }
        let Some((_, message)) = cx.state.messages_of(&aor).find(|(n, _)| *n == number) else {
            // Its time was over meanwhile: the next one.
            self.offline.marked.insert(aor);
            self.deliver_marked(cx);
            return;
        };
        // An answer is the end of that request; silence is not.
        let cseq = cseq.saturating_add(u32::from(status.is_some()));
        self.message_failed(
            cx,
            aor,
            (number, message),
            (&registration, cseq),
            status.is_some_and(is_for_good),
        );
    }

    fn message_ends(&mut self, aor: String, number: u64) {
        let command = MessageCommand::Remove { aor: aor.clone(), number };
        self.tell_message(aor, number, command);
    }

    /// Has it remembered what came of a delivery.
    fn tell_message(&mut self, aor: String, number: u64, command: MessageCommand) {
        let attempt = self.new_id();
        let phase = if self.propose(SipCommand::Message(command.clone()), Awaiting::Delivered { attempt }) {
            self.offline.attempts.insert(attempt, aor.clone());
            Phase::Telling(command)
        } else {
            Phase::ToTell(command)
        };
        self.offline.busy.insert(aor, Busy { number, phase });
    }

    /// It was not taken at a registration, whose next request would have this CSeq number.
    fn message_failed(
        &mut self,
        cx: Cx<'_>,
        aor: String,
        (number, message): (u64, &StoredMessage),
        (registration, cseq): (&str, u32),
        for_good: bool,
    ) {
        let failures = message.tries.get(registration).map_or(0, |t| t.failures).saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << u32::from(failures.min(MAX_TRIES)).saturating_sub(1));
        // A phone keeps the Call-ID of its registration until it is started again, so that nothing may tell of its return.
        let pause = if failures < MAX_TRIES { pause } else { LATER };
        let next_at = (!for_good).then(|| cx.now.wall + pause);
        let (registration, tries) = (registration.to_owned(), Tries { failures, cseq, next_at });
        let command = MessageCommand::Failed { aor: aor.clone(), number, registration, tries };
        self.tell_message(aor, number, command);
    }

    /// Verdict on what came of a delivery: the next message, or the next contact.
    pub(crate) fn on_delivered(&mut self, cx: Cx<'_>, attempt: u64, committed: bool) {
        let Some(aor) = self.offline.attempts.remove(&attempt) else { return };
        let Some(busy) = self.offline.busy.remove(&aor) else { return };
        match busy.phase {
            Phase::Telling(command) if !committed => {
                self.offline.busy.insert(aor, Busy { phase: Phase::ToTell(command), ..busy });
            }
            _ => {
                self.offline.marked.insert(aor);
                self.deliver_marked(cx);
            }
        }
    }
}

/// Answers that would come again, whatever is done: the phone does not take such messages, or not this one.
fn is_for_good(status: u16) -> bool {
    matches!(
        status,
        400 | 405 | 413 | 414 | 415 | 416 | 420 | 485 | 488 | 493 | 501 | 505 | 513 | 603 | 604 | 606
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_change_is_tried_again() {
        assert!(![408, 480, 486, 500, 503, 600].into_iter().any(is_for_good));
        assert!([415, 606].into_iter().all(is_for_good));
    }
}
