//! SUBSCRIBE to the calls of a user of ours.
//!
//! | SUBSCRIBE | answer |
//! |---|---|
//! | first, without Contact, or with one that no NOTIFY could go to | 400 |
//! | first, requires an extension that is not known here | 420 (RFC 3261 §8.2.2.3) |
//! | with a body (a filter, RFC 4660) that is not optional | 415 (RFC 3261 §8.2.3) |
//! | that does not take `application/dialog-info+xml` | 406 (RFC 6665 §4.2.1.1) |
//! | first, from somebody who may not watch | 403 |
//! | first, of a user whom nobody knows | 404, where there are subscribers |
//! | shorter than the shortest | 423 with Min-Expires (RFC 6665 §4.2.1.1) |
//! | first, or later with a higher CSeq | 200 when it is replicated, then NOTIFY |
//! | with `Expires: 0` | 200, then the last NOTIFY |
//! | later, of a subscription that is not there | 481 |
//! | later, with a lower CSeq | 500 (RFC 3261 §12.2.2) |
//! | no room | 503 with Retry-After |

use super::DIALOG;
use super::config::Watchers;
use crate::dialog::token;
use crate::engine::limits::RETRY_AFTER_S;
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::{HeaderName, Message, Uri};
use crate::nat::alias;
use crate::nat::detect::is_natted;
use crate::proxy::build;
use crate::route::passage::{Passage, Step};
use crate::state::limits::MAX_PROVISION_TEXT;
use crate::state::subscriptions::{Subscription, SubscriptionCommand};
use crate::state::{DialogId, SipCommand, SipResponse, Transport};

/// Route values of one subscription.
const MAX_ROUTES: usize = 16;

/// Package and `id` of the Event header (RFC 6665 §8.2.1).
pub(crate) fn event_of(message: &Message<'_>) -> Option<(String, Option<String>)> {
    let value = message.header_named("Event").or_else(|| message.header_named("o"))?;
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.split(';').map(str::trim);
    let package = parts.next().filter(|p| !p.is_empty())?.to_ascii_lowercase();
    let id = parts.find_map(|p| {
        let (name, value) = p.split_once('=')?;
        let fits = value.len() <= MAX_PROVISION_TEXT && value.bytes().all(|b| (0x21..0x7f).contains(&b));
        (name.trim().eq_ignore_ascii_case("id") && fits).then(|| value.trim().to_owned())
    });
    Some((package, id))
}

/// The Contact as the watcher wrote it: NATDETECT has put into it where he can be reached, for other hops.
fn own_contact(uri: &Uri<'_>) -> String {
    alias::removed(uri).unwrap_or_else(|| uri.raw.to_owned())
}

impl Engine {
    /// A SUBSCRIBE that makes a subscription to the calls of `aor`, which it called `entity`.
    pub(crate) fn subscribe(
        &mut self,
        cx: Cx<'_>,
        passage: &Passage<'_, '_>,
        aor: String,
        entity: String,
        event_id: Option<String>,
    ) -> Step {
        let message = passage.message;
        if let Some(tags) = self.unsupported_of(message) {
            self.reject_with(passage.flow, message, 420, "", &[("Unsupported", &tags)]);
            return Step::Answered;
        }
        if let Some(step) = self.check_content(passage) {
            return step;
        }
        if !self.may_watch(passage) {
            self.explain("refuses", || String::from("only users of ours may watch calls"));
            return Step::Reject(403, "");
        }
        let provision = cx.state.provision();
        let someone_is_listed = provision.subscribers().next().is_some();
        if someone_is_listed && provision.subscriber(&aor).is_none() && cx.state.bindings(&aor).is_empty() {
            return Step::Reject(404, "");
        }
        let expires = match self.granted_subscription(passage) {
            Ok(expires) => expires,
            Err(step) => return step,
        };
        let (Some(call_id), Ok(from), Ok(to), Ok(cseq), Some(Ok(contact))) =
            (message.call_id(), message.from(), message.to(), message.cseq(), message.contacts().next())
        else {
            return Step::Reject(400, "Bad Contact");
        };
        let (Ok(contact_uri), Ok(via)) = (contact.parse_uri(), message.top_via()) else {
            return Step::Reject(400, "Bad Contact");
        };
        let routes: Vec<String> = message
            .record_routes()
            .flatten()
            .filter_map(|r| std::str::from_utf8(r.raw).ok())
            .filter(|r| !r.bytes().any(|b| b < b' '))
            .map(str::to_owned)
            .collect();
        if routes.len() > MAX_ROUTES {
            return Step::Reject(400, "Too Many Record-Route Values");
        }
        let subscription = Subscription {
            id: DialogId {
                call_id: call_id.to_owned(),
                from_tag: from.tag().unwrap_or_default().to_owned(),
                to_tag: self.settings.keys.local_tag(message),
            },
            watched: aor,
            entity,
            event_id,
            remote_uri: from.uri.to_owned(),
            local_uri: to.uri.to_owned(),
            contact: own_contact(&contact_uri),
            by_flow: routes.is_empty() && is_natted(&contact_uri, &via, passage.flow.remote),
            routes,
            flow: passage.flow,
            remote_cseq: cseq.number,
            expires_at: cx.now.wall + std::time::Duration::from_secs(u64::from(expires)),
            notify_cseq: 0,
            shown: Vec::new(),
        };
        self.propose_subscription(cx, passage, subscription, expires)
    }

    /// A SUBSCRIBE with a To tag that is for the proxy itself.
    pub(crate) fn subscribe_again(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        let message = passage.message;
        let id = DialogId {
            call_id: message.call_id().unwrap_or_default().to_owned(),
            from_tag: message.from_tag().unwrap_or_default().to_owned(),
            to_tag: message.to_tag().unwrap_or_default().to_owned(),
        };
        let Some(known) = cx.state.subscription(&id) else {
            self.explain("refuses", || String::from("there is no such subscription"));
            return Step::Reject(481, "");
        };
        let Some((package, event_id)) = event_of(message) else { return self.bad_event(passage) };
        if package != DIALOG || event_id != known.event_id {
            return Step::Reject(481, "");
        }
        if let Some(step) = self.check_content(passage) {
            return step;
        }
        if let Some(step) = self.check_watcher(cx, passage, known) {
            return step;
        }
        let Ok(cseq) = message.cseq() else { return Step::Reject(400, "Bad CSeq") };
        // The same one again: its 200 was lost with the node that had it committed.
        if cseq.number < known.remote_cseq {
            return Step::Reject(500, "CSeq Out Of Order");
        }
        let expires = match self.granted_subscription(passage) {
            Ok(expires) => expires,
            Err(step) => return step,
        };
        let mut next = known.clone();
        if let Some(Ok(contact)) = message.contacts().next()
            && let (Ok(uri), Ok(via)) = (contact.parse_uri(), message.top_via())
        {
            next.contact = own_contact(&uri);
            next.by_flow = next.routes.is_empty() && is_natted(&uri, &via, passage.flow.remote);
        }
        next.flow = passage.flow;
        next.remote_cseq = cseq.number;
        next.expires_at = cx.now.wall + std::time::Duration::from_secs(u64::from(expires));
        self.propose_subscription(cx, passage, next, expires)
    }

    /// Whether a later SUBSCRIBE is that of the watcher: he brings back our Contact, which nobody else has seen, or comes from
    /// where he was. Else he is asked for his password, where there are any.
    fn check_watcher(
        &mut self,
        cx: Cx<'_>,
        passage: &mut Passage<'_, '_>,
        known: &Subscription,
    ) -> Option<Step> {
        let shown = Uri::parse(&passage.found.uri).is_ok_and(|uri| {
            token::is_own_contact(self.settings.keys, &uri, &known.id.call_id, &known.id.to_tag)
        });
        if shown || known.flow.remote == passage.flow.remote {
            return None;
        }
        self.counters.foreign += 1;
        if self.settings.config.auth.enabled {
            match self.require_auth(cx, passage) {
                Step::Next => {}
                step => return Some(step),
            }
        }
        let watcher = Uri::parse(&known.remote_uri).ok();
        let watcher = watcher.and_then(|uri| self.settings.config.aor(&uri, Some(passage.flow.local)));
        if watcher.is_some_and(|aor| passage.found.sender.has_proved(&aor)) {
            return None;
        }
        self.explain("refuses", || String::from("nothing shows that it is the watcher who asks"));
        Some(Step::Reject(481, ""))
    }

    fn propose_subscription(
        &mut self,
        cx: Cx<'_>,
        passage: &Passage<'_, '_>,
        subscription: Subscription,
        expires: u32,
    ) -> Step {
        if !self.has_room_for_stranger(cx, passage) {
            return Step::Answered;
        }
        let id = subscription.id.clone();
        let is_known = cx.state.subscription(&id).is_some();
        let opened =
            self.open_exchange(cx, passage.key.clone(), passage.flow, passage.message, Vec::new(), true);
        let Some(exchange) = opened else {
            self.reject_overload(passage.flow, passage.message.raw());
            return Step::Answered;
        };
        self.explain("takes it", || format!("{} is watched for {expires} s", subscription.watched));
        let command = match expires {
            0 => SubscriptionCommand::Remove { id: id.clone() },
            _ => SubscriptionCommand::Subscribe(Box::new(subscription.clone())),
        };
        let last = (expires == 0).then(|| Box::new(subscription));
        if last.is_some() && !is_known {
            // Who only asks once is answered, and nothing is kept (RFC 6665 §4.4.3).
            self.answer_subscribe(cx, exchange, &id, last, &SipResponse::Done);
            return Step::Answered;
        }
        self.blf.waiting.insert(exchange, (id, last));
        if !self.propose(SipCommand::Subscription(command), Awaiting::Subscribe { exchange }) {
            self.blf.waiting.remove(&exchange);
            self.remove_exchange(exchange);
            self.reject_overload(passage.flow, passage.message.raw());
        }
        Step::Answered
    }

    /// Verdict on a SUBSCRIBE.
    pub(crate) fn on_subscribed(&mut self, cx: Cx<'_>, exchange: u64, response: &SipResponse) {
        if let Some((id, last)) = self.blf.waiting.remove(&exchange) {
            self.answer_subscribe(cx, exchange, &id, last, response);
        }
    }

    fn answer_subscribe(
        &mut self,
        cx: Cx<'_>,
        exchange: u64,
        id: &DialogId,
        last: Option<Box<Subscription>>,
        response: &SipResponse,
    ) {
        let expires_at = match (&last, cx.state.subscription(id)) {
            (Some(_), _) => cx.now.wall,
            (None, Some(s)) => s.expires_at,
            (None, None) => cx.now.wall,
        };
        let (status, reason) = match response {
            SipResponse::Done => (200, ""),
            SipResponse::NotFound if last.is_some() => (200, ""),
            SipResponse::NotFound => (481, ""),
            SipResponse::Superseded => (500, "CSeq Out Of Order"),
            SipResponse::Full => (503, "Too Many Subscriptions"),
            _ => (500, ""),
        };
        self.answer_with(cx, exchange, status, |engine, request, flow, tag| {
            let expires = cx.now.wall.secs_until(expires_at).to_string();
            let token = token::of_own_contact(engine.settings.keys, &id.call_id, &id.to_tag);
            let contact = match flow.transport {
                Transport::Udp => format!("<sip:{}{token}>", flow.local),
                other => format!("<sip:{};transport={}{token}>", flow.local, other.uri_name()),
            };
            let extra: Vec<(&str, &str)> = match status {
                200 => vec![("Expires", expires.as_str()), ("Contact", contact.as_str())],
                503 => vec![("Retry-After", RETRY_AFTER_S)],
                _ => Vec::new(),
            };
            build::response(&engine.settings, request, status, reason, tag, &extra)
        });
        if status != 200 {
            return;
        }
        match last {
            Some(last) => self.notify_end(cx, &last),
            None => self.mark_subscription(cx, id),
        }
    }

    /// 489 with what there is (RFC 6665 §8.3.2).
    pub(crate) fn bad_event(&mut self, passage: &Passage<'_, '_>) -> Step {
        self.reject_with(passage.flow, passage.message, 489, "", &[("Allow-Events", super::ALLOW_EVENTS)]);
        Step::Answered
    }

    /// Whoever sends a filter would have more NOTIFYs than he wants, and who takes another type could read none.
    fn check_content(&mut self, passage: &Passage<'_, '_>) -> Option<Step> {
        let message = passage.message;
        if message.has_required_content() {
            self.reject_with(passage.flow, message, 415, "", &[("Accept", "")]);
            return Some(Step::Answered);
        }
        (!message.accepts("application", "dialog-info+xml")).then_some(Step::Reject(406, ""))
    }

    fn granted_subscription(&mut self, passage: &Passage<'_, '_>) -> Result<u32, Step> {
        let config = &self.settings.config.presence;
        let (min, max) = (config.min_expires_s, config.max_expires_s);
        let asked = passage.message.header(HeaderName::Expires).and_then(crate::registrar::delta_seconds);
        match asked.unwrap_or(max) {
            // 423 only for what is shorter than an hour, too (RFC 6665 §4.2.1.1).
            short if short > 0 && short < min && short < 3600 => {
                let min = min.to_string();
                self.reject_with(passage.flow, passage.message, 423, "", &[("Min-Expires", &min)]);
                Err(Step::Answered)
            }
            seconds => Ok(seconds.min(max)),
        }
    }

    fn may_watch(&self, passage: &Passage<'_, '_>) -> bool {
        let sender = &passage.found.sender;
        let anyone = self.settings.config.presence.watchers == Watchers::Anyone;
        anyone || sender.is_trusted() || sender.is_of_ours()
    }
}
