//! Kamailio's PRESENCE: PUBLISH and SUBSCRIBE.
//!
//! | request | `presence.enabled` | otherwise |
//! |---|---|---|
//! | SUBSCRIBE to voicemail (`message-summary`) | to the voicemail server, or 404 No voicemail service | the same |
//! | PUBLISH, or SUBSCRIBE to nobody | 489 with Allow-Events; to nobody: 404 Not here | 404 Not here |
//! | SUBSCRIBE to the calls of a user (`dialog`) | answered here: [`crate::blf`] | to his phones |
//! | any other SUBSCRIBE, or one without Event | 489 with Allow-Events | to his phones |
//!
//! A rule that sends the request elsewhere comes before all of it.

use super::passage::{Passage, Step, Targets};
use crate::blf::{DIALOG, MESSAGE_SUMMARY, event_of};
use crate::engine::{Cx, Engine};
use crate::msg::{Method, Uri};

impl Engine {
    /// Answers what is for the proxy itself.
    pub(super) fn stage_presence(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        let enabled = self.settings.config.presence.enabled;
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
