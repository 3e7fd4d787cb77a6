//! Kamailio's WITHINDLG: how Route and Request-URI say where a request goes (RFC 3261 §16.4, §16.12).
//!
//! | Request-URI | top Route | then |
//! |---|---|---|
//! | our Record-Route value (a strict router sent it) | any | the last Route becomes the Request-URI |
//! | any | ours, once or twice (two families) | they go |
//! | any | left, with `lr` | the request goes there, Request-URI untouched |
//! | any | left, without `lr` | it becomes the Request-URI, the old one goes to the end of Route |
//! | any | none left | the request goes to the Request-URI |
//! | with a `maddr` of ours | any | `maddr` goes, with port and transport (§16.4) |
//!
//! Switched off, the proxy is not on the path of dialogs: no Record-Route, and To with a tag gets `404 Not here`.
//!
//! A request says that it is within a dialog if it has a To tag and has come by a Route of ours; whether that is so, and
//! where it may go, is judged in [`super::standing`]. Without To tag its Routes are preloaded: ours are stripped and others
//! ignored, as in Kamailio, or this would be an open relay.

use std::net::SocketAddr;

use super::passage::{Passage, Step, Targets};
use super::target::NoTarget;
use crate::engine::settings::Settings;
use crate::engine::{Cx, Engine};
use crate::msg::{Message, Method, Uri};
use crate::state::Transport;

impl Engine {
    /// A request within a dialog that goes through us may go anywhere; one that only says so is refused. `found.uri`
    /// is what strict routing makes of the Request-URI.
    pub(super) fn stage_withindlg(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        let approach = Approach::of(&self.settings, passage.message, passage.flow.local);
        let bare = Uri::parse(approach.uri)
            .ok()
            .and_then(|uri| self.settings.without_own_maddr(&uri, passage.flow.local));
        passage.found.uri = bare.unwrap_or_else(|| approach.uri.to_owned());
        passage.found.in_dialog = approach.in_dialog;
        match passage.method {
            Method::Ack => return self.route_ack(cx, passage, &approach),
            Method::Register => return Step::Next,
            _ => {}
        }
        if self.is_for_a_subscription(passage, &approach) {
            return self.subscribe_again(cx, passage);
        }
        if approach.in_dialog {
            if let Some(step) = self.look_at_standing(cx, passage, &approach) {
                return step;
            }
            if self.follow_ack(cx, passage) {
                return Step::Answered;
            }
        }
        if let Some(step) = self.check_session_timer(passage) {
            return step;
        }
        if approach.in_dialog {
            self.remember_cseq(cx, passage);
            return match self.targets_in_dialog(cx, passage, &approach) {
                Ok(mut branches) => {
                    self.fit_to_leg(cx, passage.message, &mut branches);
                    Step::Targets(Targets::now(branches))
                }
                Err(NoTarget(status, reason)) => Step::Reject(status, reason),
            };
        }
        if passage.message.to_tag().is_some() && passage.method != Method::Cancel {
            // Kamailio's answer to who speaks of a dialog that does not go through us.
            return Step::Reject(404, "Not here");
        }
        Step::Next
    }
}

impl Engine {
    /// In place of it: the proxy has no part in dialogs. A request within one has come here by mistake, but for those
    /// whose other end is the proxy, and the ACKs of its own transactions.
    pub(super) fn keep_out_of_dialogs(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        let mut approach = Approach::of(&self.settings, passage.message, passage.flow.local);
        match passage.method {
            Method::Ack => {
                approach.in_dialog = false;
                self.route_ack(cx, passage, &approach)
            }
            Method::Register | Method::Cancel => Step::Next,
            _ if self.is_for_a_subscription(passage, &approach) => self.subscribe_again(cx, passage),
            _ if passage.message.to_tag().is_some() => Step::Reject(404, "Not here"),
            _ => Step::Next,
        }
    }

    /// A SUBSCRIBE within a dialog whose other end is the proxy: it has our Contact for its target.
    fn is_for_a_subscription(&self, passage: &Passage<'_, '_>, approach: &Approach<'_>) -> bool {
        self.settings.config.presence.enabled
            && passage.method == Method::Subscribe
            && passage.message.to_tag().is_some()
            && approach.next.is_none()
            && Uri::parse(approach.uri)
                .is_ok_and(|uri| uri.user.is_none() && self.settings.is_own_hop(&uri, passage.flow.local))
    }
}

/// What Route and Request-URI come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Approach<'a> {
    /// Route values of ours at the top, to be taken away.
    pub(crate) own_routes: usize,
    /// The last of them: with two, the one of the side to which the request goes.
    pub(crate) way_out: Option<(SocketAddr, Transport)>,
    /// The last Route has become the Request-URI.
    pub(crate) from_strict: bool,
    /// The Request-URI that counts.
    pub(crate) uri: &'a str,
    /// First Route of others.
    pub(crate) next: Option<&'a str>,
    /// It is a strict router.
    pub(crate) next_is_strict: bool,
    /// It says that it belongs to a dialog that goes through us. What nothing proves to, [`super::standing`] takes the
    /// Routes from.
    pub(crate) in_dialog: bool,
}

impl<'a> Approach<'a> {
    pub(crate) fn of(settings: &Settings, request: &Message<'a>, local: SocketAddr) -> Self {
        let routes: Vec<&'a str> = request.routes().flatten().map(|r| r.uri).collect();
        let is_own = |uri: &str| Uri::parse(uri).is_ok_and(|u| settings.is_own_hop(&u, local));
        let mut uri = request.request_uri_str();
        let mut rest = routes.as_slice();
        let mut from_strict = false;
        // What we write into Record-Route has `lr` and no user; nobody calls that.
        let is_ours = Uri::parse(uri)
            .is_ok_and(|u| u.user.is_none() && u.is_loose_router() && settings.is_own_hop(&u, local));
        if is_ours && let Some((last, others)) = rest.split_last() {
            (uri, rest, from_strict) = (*last, others, true);
        }
        let own_routes = rest.iter().take_while(|r| is_own(r)).count();
        let way_out =
            own_routes.checked_sub(1).and_then(|last| Uri::parse(rest.get(last)?).ok()).and_then(|u| {
                let transport = u.transport().and_then(Transport::of_uri_name).unwrap_or(Transport::Udp);
                Some((SocketAddr::new(u.host.ip()?, u.port_or_default()), transport))
            });
        let next = rest.get(own_routes).copied();
        let next_is_strict = next.is_some_and(|n| Uri::parse(n).is_ok_and(|u| !u.is_loose_router()));
        let in_dialog = request.to_tag().is_some() && (own_routes > 0 || from_strict);
        Self { own_routes, way_out, from_strict, uri, next, next_is_strict, in_dialog }
    }

    /// The values of ours that it has come by.
    pub(crate) fn own(&self, request: &Message<'a>) -> Vec<&'a str> {
        let in_uri = self.from_strict.then(|| request.request_uri_str());
        let in_route = request.routes().flatten().map(|r| r.uri).take(self.own_routes);
        in_uri.into_iter().chain(in_route).collect()
    }

    /// The Route values of others, nearest first.
    pub(crate) fn beyond(&self, request: &Message<'a>) -> Vec<&'a str> {
        let mut routes: Vec<&'a str> =
            request.routes().flatten().map(|r| r.uri).skip(self.own_routes).collect();
        if self.from_strict {
            routes.pop();
        }
        routes
    }
}
