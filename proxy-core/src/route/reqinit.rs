//! Kamailio's REQINIT: requests that go no further.
//!
//! | found | answer |
//! |---|---|
//! | a fault of RFC 3261 or RFC 4475 ([`Message::check_request`]) | 400, 416, 505; ACK and what has no Via: none |
//! | more requests of one source than the flood limit | none, and none for any other of it while it is banned |
//! | a User-Agent of scanners | none |
//! | larger than the limits | 513, 414; keys too long: 400 |
//! | Max-Forwards 0 | 483 (§16.3 step 3) |
//! | OPTIONS to the proxy itself | 200 Keepalive |
//! | OPTIONS to the proxy itself, Require names what is unknown | 420 (§8.2.2.3) |
//! | Proxy-Require | 420 (§16.3 step 5) |
//! | a Via of ours with the same digest: a loop; many of ours: a spiral without end | 482 (§16.3 step 4) |
//!
//! Switched off, it lets in floods, scanners and requests of any size, and answers no OPTIONS. What remains is what
//! protects the proxy itself and what RFC 3261 §16.3 demands of each.
//!
//! There is no check for merged requests (§8.2.2.2): that is for the one who answers. A proxy that refused them would
//! break the call of a user who forwards to another user here.

use super::flood::Verdict;
use crate::engine::keys::loop_digest_in;
use crate::engine::limits::{MAX_KEY_BYTES, MAX_SPIRALS};
use crate::engine::{Cx, Engine};
use crate::msg::{HeaderName, Message, Method, Response, Via, ViaStamp};
use crate::routing::Stage;
use crate::state::Flow;

/// What the proxy itself says it can do (RFC 3261 §11.2): all methods pass.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, UPDATE, INFO, MESSAGE, NOTIFY, SUBSCRIBE, REFER, PRACK, PUBLISH";

impl Engine {
    /// Whether the request may go on; if not, it has been answered or dropped, and counted.
    pub(super) fn accept_request(&mut self, cx: Cx<'_>, flow: Flow, request: &Message<'_>) -> bool {
        let is_on = self.settings.config.routing.has(Stage::Reqinit);
        if is_on && (self.is_flood(cx, flow) || self.is_scanner(request)) {
            return false;
        }
        let method = request.method();
        if let Err(refusal) = request.check_request() {
            if refusal.answer {
                self.refuse(flow, request, refusal.fault.status(), refusal.fault.reason(), &[]);
            } else {
                self.explain("drops it", || format!("{:?}, and it cannot be answered", refusal.fault));
                self.counters.dropped_malformed += 1;
            }
            return false;
        }
        let screen = &self.settings.config.routing.screen;
        let (max_bytes, max_uri_bytes, keepalive) =
            (screen.max_bytes, screen.max_uri_bytes, screen.keepalive);
        if is_on && request.raw().len() > max_bytes {
            self.refuse(flow, request, 513, "", &[]);
            return false;
        }
        if is_on && request.request_uri_str().len() > max_uri_bytes {
            self.refuse(flow, request, 414, "", &[]);
            return false;
        }
        let too_long = |text: Option<&str>| text.is_some_and(|t| t.len() > MAX_KEY_BYTES);
        let via = request.top_via();
        if too_long(request.call_id())
            || too_long(request.from_tag())
            || too_long(request.to_tag())
            || via.is_ok_and(|v| too_long(v.branch()) || too_long(Some(v.sent_by)))
            || too_long(method.map(|m| m.as_str()))
        {
            self.refuse(flow, request, 400, "Identifier Too Long", &[]);
            return false;
        }
        if method == Some(Method::Cancel) {
            // It belongs to an INVITE that has passed (§16.10).
            return true;
        }
        if request.max_forwards().ok().flatten() == Some(0) {
            self.refuse(flow, request, 483, "", &[]);
            return false;
        }
        if is_on && keepalive && method == Some(Method::Options) && self.is_for_proxy(flow, request) {
            match self.unsupported_of(request) {
                Some(tags) => self.refuse_extensions(flow, request, &tags),
                None => self.answer_options(flow, request),
            }
            return false;
        }
        if method != Some(Method::Ack) && request.has(HeaderName::ProxyRequire) {
            let tags: Vec<&str> = request.tokens(HeaderName::ProxyRequire).collect();
            let unsupported = tags.join(", ");
            self.refuse_extensions(flow, request, &unsupported);
            return false;
        }
        if self.is_loop(flow, request) {
            self.refuse(flow, request, 482, "", &[]);
            return false;
        }
        true
    }

    /// 420 with what is not known here; a folded list cannot be repeated as it is.
    fn refuse_extensions(&mut self, flow: Flow, request: &Message<'_>, tags: &str) {
        let unsupported = [("Unsupported", tags)];
        let extra: &[_] = if tags.bytes().any(|b| b < b' ') { &[] } else { &unsupported };
        self.refuse(flow, request, 420, "", extra);
    }

    /// Whether the source sends too much. Nothing is said to it: its address may be forged.
    fn is_flood(&mut self, cx: Cx<'_>, flow: Flow) -> bool {
        let Some(limit) = &self.settings.config.routing.screen.flood else { return false };
        let source = flow.remote.ip();
        if self.is_explaining() {
            // A question is no request: it counts for nothing, but a ban that is there holds.
            let Some(ban) = self.bans.of(source, cx.now.mono) else { return false };
            self.explain("drops it", || {
                let left = ban.left.as_secs();
                format!("{source} is banned for {left} s more: it has sent too much; relevo ban clear {source} lets it in")
            });
            return true;
        }
        match self.bans.count(limit, cx.now.mono, source) {
            Verdict::Pass => return false,
            Verdict::BannedNow => self.counters.banned += 1,
            Verdict::Banned => {}
        }
        self.counters.dropped_flood += 1;
        true
    }

    /// Whether the User-Agent is one of the scanners'. Silence tells them the least.
    fn is_scanner(&mut self, request: &Message<'_>) -> bool {
        let words = &self.settings.config.routing.screen.scanners;
        let Some(agent) = request.header_named("User-Agent").filter(|_| !words.is_empty()) else {
            return false;
        };
        let agent = String::from_utf8_lossy(agent).to_ascii_lowercase();
        let Some(word) = words.iter().find(|w| agent.contains(w.as_str())).cloned() else { return false };
        self.counters.dropped_scanner += 1;
        self.explain("drops it", || format!("its User-Agent has {word:?}, as scanners do"));
        true
    }

    fn refuse(
        &mut self,
        flow: Flow,
        request: &Message<'_>,
        status: u16,
        reason: &str,
        extra: &[(&str, &str)],
    ) {
        if request.method() == Some(Method::Ack) {
            return;
        }
        self.explain_answer(status, reason);
        self.counters.rejected += 1;
        let tag = self.settings.keys.local_tag(request);
        let mut response = Response::new(request, status, reason);
        response.to_tag(&tag).stamp_via(ViaStamp::forced(flow.remote));
        for (name, value) in extra {
            response.header(name, value);
        }
        if !self.settings.config.server.is_empty() {
            response.header("Server", &self.settings.config.server);
        }
        let mut out = Vec::with_capacity(512);
        response.write(&mut out);
        self.transmit(flow, &out);
    }

    /// A Request-URI that names one of our addresses or domains, and no user.
    fn is_for_proxy(&self, flow: Flow, request: &Message<'_>) -> bool {
        request
            .request_uri()
            .is_ok_and(|uri| uri.is_sip() && uri.user.is_none() && self.settings.is_local(&uri, flow.local))
    }

    /// 200 to OPTIONS: no state, no commit, as nothing is promised.
    fn answer_options(&mut self, flow: Flow, request: &Message<'_>) {
        self.explain_answer(200, "Keepalive");
        let tag = self.settings.keys.local_tag(request);
        let mut response = Response::new(request, 200, "Keepalive");
        response.to_tag(&tag).stamp_via(ViaStamp::forced(flow.remote));
        let supported: Vec<&str> = self.settings.config.registrar.supported().collect();
        let supported = supported.join(", ");
        response.header("Allow", ALLOW).header("Accept", "*/*").header("Supported", &supported);
        if !self.settings.config.server.is_empty() {
            response.header("Server", &self.settings.config.server);
        }
        let mut out = Vec::with_capacity(512);
        response.write(&mut out);
        self.transmit(flow, &out);
    }

    fn is_own_via(&self, flow: Flow, via: &Via<'_>) -> bool {
        let ip = via.host.ip();
        ip.is_some_and(|ip| self.settings.is_own_address(ip, via.port_or_default(), flow.local))
    }

    /// Whether the request has been here before: a spiral (RFC 3261 §16.3 step 4).
    pub(crate) fn has_been_here(&self, flow: Flow, request: &Message<'_>) -> bool {
        request.vias().flatten().any(|via| self.is_own_via(flow, &via))
    }

    /// Whether the request has been here before with the same Request-URI, or too often with others.
    fn is_loop(&self, flow: Flow, request: &Message<'_>) -> bool {
        let mut digest = None;
        let mut ours = 0;
        for via in request.vias().flatten().filter(|via| self.is_own_via(flow, via)) {
            ours += 1;
            let Some(seen) = via.branch().and_then(loop_digest_in) else { continue };
            if seen == *digest.get_or_insert_with(|| self.settings.keys.loop_digest(request)) {
                return true;
            }
        }
        ours > MAX_SPIRALS
    }
}
