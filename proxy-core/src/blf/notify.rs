//! Who is told when: one NOTIFY at a time for each subscription.
//!
//! | a subscription is | then |
//! |---|---|
//! | marked: a call has changed, it was refreshed, this node took over | what was shown is compared with what is; `Notifying` is proposed |
//! | numbered: `Notifying` is committed | its NOTIFY leaves |
//! | answered with 2xx | compared again, if it was marked meanwhile |
//! | refused as RFC 6665 §4.2.2 lists, or not answered at all | it is over |
//! | refused with Retry-After in any other way | compared and told when that has passed, not before |
//! | refused without | told again after [`REPEAT_AFTER`], at most [`MAX_REPEATS`] times, or with the next change |
//! | past its end | `Remove` is proposed; committed, the last NOTIFY leaves |
//!
//! After a takeover all subscriptions of the shard are told once, spread over time: nobody knows what the lost node
//! had sent of what it had numbered, or had to say again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::picture::{Picture, document, is_news, next_shown, pictures};
use super::{ALLOW_EVENTS, DIALOG};
use crate::engine::limits::MAX_NOTIFIES_PER_TICK;
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::location::{Hop, hop_of_uri};
use crate::msg::{Message, NameAddr, Uri};
use crate::state::subscriptions::{Shown, Subscription, SubscriptionCommand};
use crate::state::{DialogId, Flow, NewsItem, SipCommand, SipResponse, Transport};
use crate::time::MonoTime;
use crate::uac::{Originated, Outcome, OwnRequest, Purpose};

/// When a NOTIFY that was refused without Retry-After is made up for.
pub const REPEAT_AFTER: Duration = Duration::from_secs(10);
/// How often in a row.
const MAX_REPEATS: u32 = 3;
/// Longest Retry-After that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What an engine knows of the subscriptions besides what is replicated.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// How much of the news has been read; `None`: all subscriptions are to be looked at.
    seen: Option<u64>,
    /// Those to be compared, and whether they are told in any case.
    marked: BTreeMap<DialogId, bool>,
    /// Those with a NOTIFY or an end under way, by its number.
    attempts: BTreeMap<u64, DialogId>,
    busy: BTreeSet<DialogId>,
    /// Those whose time is over, until that is safe. Busy meanwhile.
    ending: BTreeMap<DialogId, Box<Subscription>>,
    /// Those whose last NOTIFY was answered with 2xx, as far as this node knows.
    told: BTreeSet<DialogId>,
    /// Those whose last NOTIFY was refused, though they are not over.
    refused: BTreeMap<DialogId, Refused>,
    /// NOTIFYs numbered since the last tick.
    spent: usize,
    /// SUBSCRIBEs that wait for their verdict, by exchange; with the subscription if it is to end.
    pub(super) waiting: BTreeMap<u64, (DialogId, Option<Box<Subscription>>)>,
}

/// When a refused NOTIFY is made up for.
#[derive(Debug, Clone, Copy)]
struct Refused {
    /// How often that has happened in a row without a word of when to come again.
    repeats: u32,
    /// `None`: with the next change.
    due: Option<MonoTime>,
    /// The watcher has said when, so that changes wait, too.
    holds: bool,
}

impl Memory {
    fn mark(&mut self, id: &DialogId, anyway: bool) {
        let marked = self.marked.entry(id.clone()).or_default();
        *marked |= anyway;
    }

    fn end(&mut self, attempt: u64) -> Option<DialogId> {
        let id = self.attempts.remove(&attempt)?;
        self.busy.remove(&id);
        Some(id)
    }

    fn forget(&mut self, id: &DialogId) {
        self.marked.remove(id);
        self.told.remove(id);
        self.refused.remove(id);
    }

    /// Whether the watcher wants to hear nothing yet.
    fn is_held(&self, id: &DialogId, now: MonoTime) -> bool {
        self.refused.get(id).is_some_and(|r| r.holds && r.due.is_some_and(|due| due > now))
    }

    /// A NOTIFY was refused, and the subscription goes on.
    fn note_refusal(&mut self, id: DialogId, retry_after: Option<Duration>, now: MonoTime) {
        let repeats = self.refused.get(&id).map_or(0, |r| r.repeats);
        let refused = match retry_after {
            Some(after) => Refused { repeats: 0, due: Some(now + after), holds: true },
            None => {
                let due = (repeats < MAX_REPEATS).then_some(now + REPEAT_AFTER);
                Refused { repeats: repeats + 1, due, holds: false }
            }
        };
        self.refused.insert(id, refused);
    }

    /// What was refused, and is due now, is to be told.
    fn mark_refused(&mut self, cx: Cx<'_>) {
        self.refused.retain(|id, _| cx.state.subscription(id).is_some());
        for (id, refused) in &mut self.refused {
            if refused.due.is_some_and(|due| due <= cx.now.mono) {
                refused.due = None;
                self.marked.insert(id.clone(), true);
            }
        }
    }
}

/// How a subscription is called.
fn name_of(id: &DialogId) -> String {
    format!("the subscription with Call-ID {} (From tag {})", id.call_id, id.from_tag)
}

impl Engine {
    /// Reads the news; called after whatever has happened. Costs one comparison if there is none.
    pub(crate) fn presence_look(&mut self, cx: Cx<'_>) {
        if !self.settings.config.presence.enabled || !self.is_active() {
            return;
        }
        let count = cx.state.news_count();
        if self.blf.seen == Some(count) {
            return;
        }
        let news = self.blf.seen.and_then(|seen| cx.state.news_since(seen));
        match news {
            Some(news) => {
                for item in news {
                    if let NewsItem::Calls { aor } = item {
                        for id in cx.state.watchers(aor) {
                            self.mark_own(id, false);
                        }
                    }
                }
            }
            None => {
                let anyway = self.blf.seen.is_none();
                cx.state.subscriptions().for_each(|s| self.mark_own(&s.id, anyway));
            }
        }
        self.blf.seen = Some(count);
        self.notify_marked(cx);
    }

    fn mark_own(&mut self, id: &DialogId, anyway: bool) {
        if self.is_own_shard(&id.call_id) {
            self.blf.mark(id, anyway);
        }
    }

    /// Ends what has come to its end, and goes on with what had to wait.
    pub(crate) fn presence_tick(&mut self, cx: Cx<'_>) {
        if !self.settings.config.presence.enabled {
            return;
        }
        // A refresh that came in time has the first word.
        let refreshed: BTreeSet<&DialogId> = self.blf.waiting.values().map(|(id, _)| id).collect();
        let is_free = |id: &DialogId| !self.blf.busy.contains(id) && !refreshed.contains(id);
        let ended: Vec<DialogId> = cx
            .state
            .subscriptions_ended(cx.now.wall)
            .filter(|id| self.is_own_shard(&id.call_id) && is_free(id))
            .filter(|id| !self.is_left_out(|| name_of(id)))
            .take(MAX_NOTIFIES_PER_TICK)
            .cloned()
            .collect();
        for id in ended {
            self.contain_each(|| name_of(&id), |engine| engine.end_subscription(cx, &id));
        }
        self.blf.waiting.retain(|exchange, _| self.exchanges.contains_key(exchange));
        self.blf.spent = 0;
        self.blf.mark_refused(cx);
        self.presence_look(cx);
        self.notify_marked(cx);
    }

    /// Tells those that are marked, as many as may be told until the next tick.
    fn notify_marked(&mut self, cx: Cx<'_>) {
        let ready: Vec<(DialogId, bool)> = self
            .blf
            .marked
            .iter()
            .filter(|(id, _)| !self.blf.busy.contains(*id) && !self.blf.is_held(id, cx.now.mono))
            .take(MAX_NOTIFIES_PER_TICK.saturating_sub(self.blf.spent))
            .map(|(id, anyway)| (id.clone(), *anyway))
            .collect();
        for (id, anyway) in ready {
            self.blf.marked.remove(&id);
            self.contain_each(|| name_of(&id), |engine| engine.number_notify(cx, id.clone(), anyway));
        }
    }

    /// Proposes the next NOTIFY of a subscription, if there is something to tell.
    fn number_notify(&mut self, cx: Cx<'_>, id: DialogId, anyway: bool) {
        let Some(subscription) = cx.state.subscription(&id) else {
            self.blf.forget(&id);
            return;
        };
        if subscription.expires_at <= cx.now.wall {
            // Its last one is on the way.
            return;
        }
        let now = pictures(cx.state, &self.settings.keys, &subscription.watched);
        if !anyway && subscription.notify_cseq > 0 && !is_news(&subscription.shown, &now) {
            return;
        }
        let shown = next_shown(&subscription.shown, &now, self.blf.told.contains(&id));
        let cseq = subscription.notify_cseq.saturating_add(1);
        self.blf.spent += 1;
        let attempt = self.new_id();
        let command = SubscriptionCommand::Notifying { id: id.clone(), cseq, shown };
        if self.propose(SipCommand::Subscription(command), Awaiting::Notify { attempt }) {
            self.blf.attempts.insert(attempt, id.clone());
            self.blf.told.remove(&id);
            self.blf.busy.insert(id);
        } else {
            self.blf.mark(&id, anyway);
        }
    }

    /// Verdict on `Notifying`: the NOTIFY leaves.
    pub(crate) fn on_notify_numbered(&mut self, cx: Cx<'_>, attempt: u64, response: &SipResponse) {
        let sent = match (self.blf.attempts.get(&attempt), response) {
            (Some(id), SipResponse::Done) => cx.state.subscription(id).cloned().is_some_and(|s| {
                let now = pictures(cx.state, &self.settings.keys, &s.watched);
                // What has changed since is left for the next one.
                let state = format!("active;expires={}", cx.now.wall.secs_until(s.expires_at));
                let what = self.notify(&s, s.notify_cseq, &state, &s.shown, &now);
                self.send_notify(cx, what, Some(attempt))
            }),
            _ => false,
        };
        if !sent && let Some(id) = self.blf.end(attempt) {
            match response {
                // It could not be sent for want of room: at the next tick.
                SipResponse::Done => self.blf.mark(&id, true),
                // Another one has that number, which may never have left: this node asked for it before it lost the service.
                SipResponse::Superseded => self.blf.mark(&id, true),
                _ => self.blf.forget(&id),
            }
        }
    }

    /// `Notifying` was refused, or nobody knows.
    pub(crate) fn on_notify_refused(&mut self, attempt: u64) {
        if let Some(id) = self.blf.end(attempt) {
            self.blf.mark(&id, true);
        }
    }

    fn send_notify(&mut self, cx: Cx<'_>, what: Option<(Flow, OwnRequest)>, attempt: Option<u64>) -> bool {
        let Some((flow, request)) = what else { return false };
        let purpose = Purpose::Notify { attempt };
        self.originate(cx, Originated { flow, request, purpose, patience: None })
    }

    /// A NOTIFY has ended.
    pub(crate) fn on_notified(&mut self, cx: Cx<'_>, attempt: Option<u64>, outcome: &Outcome<'_, '_>) {
        let Some(id) = attempt.and_then(|attempt| self.blf.end(attempt)) else { return };
        match outcome {
            Outcome::Final(200..=299, _) => {
                self.blf.told.insert(id.clone());
                self.blf.refused.remove(&id);
                // What has happened meanwhile has marked it.
                if let Some(anyway) = self.blf.marked.remove(&id) {
                    self.number_notify(cx, id, anyway);
                }
            }
            Outcome::Final(status, response) if !ends_subscription(*status) => {
                self.blf.note_refusal(id, retry_after(response), cx.now.mono);
            }
            _ => {
                self.blf.forget(&id);
                let command = SubscriptionCommand::Remove { id };
                self.propose(SipCommand::Subscription(command), Awaiting::Nothing);
            }
        }
    }

    /// The time of a subscription is over: the watcher is told when that is safe (RFC 6665 §4.4.1). A node whose clock
    /// is behind would go on with it otherwise, under the number of the last NOTIFY.
    fn end_subscription(&mut self, cx: Cx<'_>, id: &DialogId) {
        let Some(subscription) = cx.state.subscription(id) else { return };
        let attempt = self.new_id();
        let command = SubscriptionCommand::Remove { id: id.clone() };
        if self.propose(SipCommand::Subscription(command), Awaiting::SubscriptionEnd { attempt }) {
            self.blf.attempts.insert(attempt, id.clone());
            self.blf.busy.insert(id.clone());
            self.blf.ending.insert(id.clone(), Box::new(subscription.clone()));
        }
    }

    /// Verdict on the end of a subscription. Refused, it is tried again at the next tick.
    pub(crate) fn on_subscription_ended(&mut self, cx: Cx<'_>, attempt: u64, is_safe: bool) {
        let Some(id) = self.blf.end(attempt) else { return };
        if let Some(subscription) = self.blf.ending.remove(&id)
            && is_safe
        {
            self.blf.forget(&subscription.id);
            self.notify_end(cx, &subscription);
        }
    }

    /// The last NOTIFY of a subscription. Nothing depends on its answer.
    pub(crate) fn notify_end(&mut self, cx: Cx<'_>, subscription: &Subscription) {
        let now = pictures(cx.state, &self.settings.keys, &subscription.watched);
        let shown: Vec<Shown> = now.iter().map(|p| p.shown).collect();
        let cseq = subscription.notify_cseq.saturating_add(1);
        let what = self.notify(subscription, cseq, "terminated;reason=timeout", &shown, &now);
        self.send_notify(cx, what, None);
    }

    /// The subscription is to be told, whether or not there is news.
    pub(crate) fn mark_subscription(&mut self, cx: Cx<'_>, id: &DialogId) {
        self.blf.refused.remove(id);
        self.blf.mark(id, true);
        if !self.blf.busy.contains(id) {
            self.blf.marked.remove(id);
            self.number_notify(cx, id.clone(), true);
        }
    }

    /// A NOTIFY and the way it goes. `None` if no way leads there.
    fn notify(
        &self,
        s: &Subscription,
        cseq: u32,
        state: &str,
        shown: &[Shown],
        now: &[Picture],
    ) -> Option<(Flow, OwnRequest)> {
        let flow = self.flow_of_subscription(s);
        let body = document(&s.entity, cseq.saturating_sub(1), shown, now);
        let event = match &s.event_id {
            Some(id) => format!("{DIALOG};id={id}"),
            None => String::from(DIALOG),
        };
        let contact = match flow.transport {
            Transport::Udp => format!("<sip:{}>", flow.local),
            other => format!("<sip:{};transport={}>", flow.local, other.uri_name()),
        };
        let mut request = OwnRequest::new("NOTIFY", &s.contact, &s.local_uri, &s.id.to_tag, &s.remote_uri)
            .numbered(&s.id.call_id, cseq)
            .header("Contact", contact)
            .header("Event", event)
            .header("Subscription-State", state)
            .header("Allow-Events", ALLOW_EVENTS);
        if !s.id.from_tag.is_empty() {
            request.to.push_str(";tag=");
            request.to.push_str(&s.id.from_tag);
        }
        request.routes.clone_from(&s.routes);
        request.body = Some((String::from("application/dialog-info+xml"), body));
        Some((flow, request))
    }

    /// By the first route, else to the Contact; by the way the SUBSCRIBE came if neither leads anywhere from here.
    fn flow_of_subscription(&self, s: &Subscription) -> Flow {
        if s.by_flow || (s.routes.is_empty() && s.flow.transport.is_reliable()) {
            return s.flow;
        }
        let listen = &self.settings.config.listen;
        let hop = match s.routes.first() {
            Some(route) => NameAddr::parse(route.as_bytes())
                .and_then(|r| r.parse_uri())
                .map_or(Hop::None, |uri| hop_of_uri(&uri, listen)),
            None => Uri::parse(&s.contact).map_or(Hop::None, |uri| hop_of_uri(&uri, listen)),
        };
        match hop {
            Hop::Send(flow) if flow.remote.is_ipv4() == s.flow.local.is_ipv4() => {
                Flow { local: s.flow.local, ..flow }
            }
            Hop::Send(flow) => flow,
            Hop::Name { .. } | Hop::None => s.flow,
        }
    }
}

/// Whether an answer to NOTIFY ends the subscription (RFC 6665 §4.2.2, by RFC 5057 §5.1).
fn ends_subscription(status: u16) -> bool {
    matches!(status, 404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604)
}

/// When the watcher wants to be told again (RFC 3261 §20.33), within [`MAX_RETRY_AFTER`].
fn retry_after(response: &Message<'_>) -> Option<Duration> {
    let value = std::str::from_utf8(response.header_named("Retry-After")?).ok()?.trim_start();
    let digits = value.split(|c: char| !c.is_ascii_digit()).next().filter(|d| !d.is_empty())?;
    // A number that is too long is a time that is too long.
    let seconds = digits.parse::<u64>().unwrap_or(u64::MAX);
    Some(Duration::from_secs(seconds.max(1)).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_say_so_end_a_subscription_rfc5057_5_1() {
        assert!([481, 404, 489].into_iter().all(ends_subscription));
        assert!(![200, 401, 407, 500, 503].into_iter().any(ends_subscription));
    }

    #[test]
    fn retry_after_has_seconds_and_perhaps_a_comment_rfc3261_20_33() {
        let read = |value: &str| {
            let text = format!("SIP/2.0 503 X\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n");
            retry_after(&Message::parse(text.as_bytes()).expect("message")).map(|d| d.as_secs())
        };
        assert_eq!(read("18000;duration=3600"), Some(3600));
        assert_eq!((read("120 (I'm in a meeting)"), read("0")), (Some(120), Some(1)));
        assert_eq!((read("99999999999999999999999"), read("soon"), read("")), (Some(3600), None, None));
    }
}
