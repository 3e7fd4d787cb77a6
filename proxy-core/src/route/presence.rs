//! Kamailio's PRESENCE: PUBLISH and SUBSCRIBE.
//!
//! | request | `presence.enabled` | otherwise |
//! |---|---|---|
//! | SUBSCRIBE to voicemail (`message-summary`) of somebody else | 403 | 403 |
//! | SUBSCRIBE to voicemail, by its owner | to the voicemail server, or 404 No voicemail service | the same |
//! | PUBLISH, or SUBSCRIBE to nobody | 489 with Allow-Events; to nobody: 404 Not here | 404 Not here |
//! | SUBSCRIBE to the calls of a user (`dialog`) | answered here: [`crate::blf`] | to his phones |
//! | any other SUBSCRIBE, or one without Event | 489 with Allow-Events | to his phones |
//!
//! A rule that sends the request elsewhere comes before all of it, but a mailbox is for its owner whatever a rule says: who has
//! proved to be its user, or is on the access list. Where nobody is asked who he is, it is for everybody.

use super::passage::{Passage, Step, Targets, Way};
use crate::blf::{DIALOG, MESSAGE_SUMMARY, event_of};
use crate::engine::{Cx, Engine};
use crate::msg::{Method, Uri};

impl Engine {
    /// Answers what is for the proxy itself.
    pub(super) fn stage_presence(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        let enabled = self.settings.config.presence.enabled;
        if self.is_mailbox_of_other(cx, passage) {
            self.explain("refuses", || String::from("it is the mailbox of somebody else"));
            return Step::Reject(403, "");
        }
        if passage.found.way.is_some() {
            return Step::Next;
        }
        match passage.method {
            Method::Publish => {
                if enabled && event_of(passage.message).is_some() {
                    return self.bad_event(passage);
                }
                return Step::Reject(404, "Not here");
            }
            Method::Subscribe => {}
            _ => return Step::Next,
        }
        let event = event_of(passage.message);
        let Ok(uri) = Uri::parse(&passage.found.uri) else {
            return Step::Reject(400, "Malformed Request-URI");
        };
        match event {
            Some((package, _)) if package == MESSAGE_SUMMARY => self.subscribe_to_voicemail(passage, &uri),
            _ if uri.user.is_none() => Step::Reject(404, "Not here"),
            Some((package, id)) if enabled && package == DIALOG => {
                let local = passage.flow.local;
                let Some(entity) = self.settings.config.aor(&uri, Some(local)) else {
                    return Step::Reject(404, "");
                };
                let aor = cx.state.provision().alias(&entity).map_or_else(|| entity.clone(), str::to_owned);
                self.subscribe(cx, passage, aor, entity, id)
            }
            _ if enabled => self.bad_event(passage),
            _ => Step::Next,
        }
    }

    /// Whether a request asks a server what waits in a mailbox of ours that is not the sender's. Rules may have put a prefix
    /// before the user; an alias is another name of him.
    fn is_mailbox_of_other(&self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> bool {
        let is_asked = passage.method == Method::Subscribe
            && event_of(passage.message).is_some_and(|(package, _)| package == MESSAGE_SUMMARY)
            && (passage.found.way.is_some() || self.settings.config.routing.voicemail.is_some());
        if !is_asked {
            return false;
        }
        let local = passage.flow.local;
        let ours = |uri: &str| {
            let uri = Uri::parse(uri).ok().filter(|uri| self.settings.is_for_us(uri, local));
            uri.and_then(|uri| self.settings.config.aor(&uri, Some(local)))
        };
        let sender = &passage.found.sender;
        // A server looks at the user alone: what names another domain is nobody's here, unless it goes there.
        let is_his = |uri: &str| {
            ours(uri).is_some_and(|aor| {
                let named = cx.state.provision().alias(&aor);
                sender.may_read(&aor) || named.is_some_and(|aor| sender.may_read(aor))
            })
        };
        let goes_out = passage.found.way == Some(Way::Relay) && ours(&passage.found.uri).is_none();
        let is_read = !sender.is_asked() || goes_out;
        !is_read && !is_his(passage.message.request_uri_str()) && !is_his(&passage.found.uri)
    }

    /// Kamailio's TOVOICEMAIL of a SUBSCRIBE: the server of the mailboxes knows what waits in them.
    fn subscribe_to_voicemail(&mut self, passage: &Passage<'_, '_>, uri: &Uri<'_>) -> Step {
        let voicemail = self.settings.config.routing.voicemail.as_ref();
        let target = voicemail.zip(uri.user).and_then(|(v, user)| v.target(user));
        match target.map(|target| self.branch_to_uri(passage, &target, 0)) {
            Some(Ok(branch)) => Step::Targets(Targets::now(vec![branch])),
            _ => Step::Reject(404, "No voicemail service"),
        }
    }
}
