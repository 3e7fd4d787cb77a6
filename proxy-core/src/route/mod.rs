//! What happens to a message, stage by stage, in the order of Kamailio's default configuration.
//!
//! | stage | Kamailio | does |
//! |---|---|---|
//! | `reqinit` | REQINIT | floods, scanners, bad requests, loops, Max-Forwards, Proxy-Require; OPTIONS to the proxy itself |
//! | `natdetect` | NATDETECT | clients behind a NAT |
//! | `cancel` | CANCEL | finds the INVITE: in memory, then among the replicated ones, else 481 |
//! | `retransmission` | t_check_trans | what is known already is absorbed |
//! | `withindlg` (and `ack`) | WITHINDLG | requests in dialogs that go through us: loose and strict routing |
//! | `standing` | – (OpenSIPS: validate_dialog) | who may speak in a dialog, and where to |
//! | `auth` | AUTH | who may |
//! | `policy` | request_route | the `[[route]]` tables of the configuration |
//! | `sipout` | SIPOUT | domains of others: 403 unless somebody trusted asks |
//! | `presence` | PRESENCE | PUBLISH, SUBSCRIBE |
//! | `registrar` | REGISTRAR | REGISTER of our domains |
//! | `trunk` | PSTN | calls out by a trunk, and in |
//! | `location` | LOCATION | aliases, speed dial, our users |
//! | `dispatch` | ds_select_dst | backends |
//! | `voicemail` | TOVOICEMAIL | users without a phone, and what is tried when nobody answers |
//! | `relay` | RELAY | copies, branches, what is proposed before; redirect and stateless mode |
//! | `reply` | reply_route | responses find their branch |
//!
//! Each is a function of the engine, the moment and the [`Passage`], and says a [`Step`]. MANAGE_BRANCH, MANAGE_REPLY
//! and MANAGE_FAILURE are in [`crate::proxy`]. Errors found before a request has been forwarded are answered
//! statelessly: the same request gets the same answer again, and its ACK is known by its tag.

mod ack;
mod auth;
mod beside;
pub(crate) mod breadth;
mod cancel;
mod claims;
pub(crate) mod dispatch;
pub(crate) mod flood;
mod location;
mod natdetect;
pub(crate) mod passage;
mod policy;
mod presence;
mod redirect;
mod registrar;
mod relay;
mod reply;
mod reqinit;
mod retransmission;
mod sipout;
mod standing;
mod stateless;
pub(crate) mod strangers;
pub(crate) mod target;
mod trunk;
mod voicemail;
pub(crate) mod withindlg;

use crate::auth::Sender;
use crate::engine::limits::{NO_ROOM_RETRY_AFTER_S, RETRY_AFTER_S};
use crate::engine::{Cx, Engine};
use crate::msg::{HeaderName, Message, Method, reason_phrase};
use crate::proxy::build;
use crate::routing::Stage;
use crate::state::Flow;
use passage::{Found, Passage, Step};
use trunk::CameBy;

impl Engine {
    /// A request came.
    pub(crate) fn on_request(&mut self, cx: Cx<'_>, flow: Flow, request: &Message<'_>) {
        self.enter(Stage::Reqinit);
        if !self.settings.config.routing.has(Stage::Reqinit) {
            self.explain("off", || String::from("switched off but for what RFC 3261 §16.3 demands"));
        }
        if !self.accept_request(cx, flow, request) {
            return;
        }
        let Some(key) = self.settings.keys.server_key(request) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        let mut stamped = build::stamped(request, flow.remote);
        if let Some(bare) = self.without_old_credentials(cx, flow, &stamped) {
            stamped = bare;
        }
        if let Some(bare) = self.without_claims(cx, flow, &stamped) {
            stamped = bare;
        }
        let Ok(message) = Message::parse(&stamped) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        let Some(method) = message.method() else { return };
        self.explain("next", || String::from("it may come in"));
        let mut sender = Sender::of(&self.settings, &message, method, flow.local);
        let mut by_name = None;
        match self.came_by(cx, flow.remote, &message) {
            CameBy::Trunk { uuid, vouched } => sender.is_trunk(uuid, vouched),
            CameBy::Name(uuid) => by_name = Some(uuid),
            CameBy::Nothing => {}
        }
        let uri = message.request_uri_str().to_owned();
        let found = Found { uri, sender, by_name, ..Found::default() };
        // REQINIT is behind us.
        self.walk(cx, Passage { message: &message, method, flow, key, found }, 1);
    }

    /// The stages from number `from` of [`Stage::REQUEST`] on.
    pub(crate) fn walk(&mut self, cx: Cx<'_>, mut passage: Passage<'_, '_>, from: usize) {
        // From where a request goes on that had to wait for an answer of the DNS.
        let mut resume: Option<(usize, Found)> = None;
        for (number, stage) in Stage::REQUEST.into_iter().enumerate().skip(from) {
            if passage.found.targets.is_some() && !matches!(stage, Stage::Voicemail | Stage::Relay) {
                continue;
            }
            self.enter(stage);
            let is_on = self.settings.config.routing.has(stage);
            if !is_on {
                self.explain("off", || String::from("switched off in the configuration"));
            }
            if stage == Stage::Sipout && self.settings.config.dns.enabled {
                resume = Some((number, passage.found.clone()));
            }
            let readmitted = if stage == Stage::Policy { self.readmit(cx, &mut passage) } else { None };
            let step = match (readmitted, is_on) {
                (Some(step), _) => step,
                (None, true) => self.stage(cx, stage, &mut passage),
                (None, false) => self.what_is_left(cx, stage, &mut passage),
            };
            if self.names.is_waiting() {
                // What WITHINDLG leaves is the same the second time.
                let (number, found) = resume.unwrap_or_else(|| (number, passage.found.clone()));
                self.park(cx, &passage, found, number);
                return;
            }
            match step {
                Step::Next => self.explain_next(stage),
                Step::Answered => return,
                Step::Reject(status, reason) => {
                    if Stage::REQUEST.iter().skip_while(|s| **s != Stage::Auth).skip(1).any(|s| *s == stage) {
                        self.account_refused(cx, &passage, status, reason);
                    }
                    self.reject_by_stage(cx, &passage, status, reason);
                    return;
                }
                Step::Targets(targets) => {
                    self.explain_targets(&targets);
                    passage.found.targets = Some(targets);
                }
                Step::Rewritten(bytes) => {
                    self.explain_next(stage);
                    // As deep as there are stages.
                    self.walk_with(cx, passage, &bytes, number + 1);
                    return;
                }
                Step::Again(bytes) => {
                    self.walk_with(cx, passage, &bytes, Stage::Withindlg.number());
                    return;
                }
            }
        }
        // No stage has taken it: the one for it is switched off, or nobody has an answer.
        if self.keep_message(cx, &passage).is_some() {
            return;
        }
        let (status, reason) = passage.found.failing.unwrap_or((404, ""));
        self.account_refused(cx, &passage, status, reason);
        self.reject_by_stage(cx, &passage, status, reason);
    }

    /// Goes on with other bytes.
    fn walk_with(&mut self, cx: Cx<'_>, passage: Passage<'_, '_>, bytes: &[u8], from: usize) {
        let Ok(message) = Message::parse(bytes) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        let Some(method) = message.method() else { return };
        let Passage { flow, key, found, .. } = passage;
        self.walk(cx, Passage { message: &message, method, flow, key, found }, from);
    }

    /// A 405 says what its user takes instead (RFC 3261 §8.2.1).
    fn reject_by_stage(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>, status: u16, reason: &str) {
        let allow = if status == 405 { self.methods_of_user(cx, passage) } else { String::new() };
        if allow.is_empty() {
            return self.reject(passage, status, reason);
        }
        self.reject_with(passage.flow, passage.message, status, reason, &[("Allow", &allow)]);
    }

    /// What a request requires of us as the one who answers it, and we do not know: for the Unsupported of a 420 (RFC 3261
    /// §8.2.2.3).
    pub(crate) fn unsupported_of(&self, request: &Message<'_>) -> Option<String> {
        let known = || self.settings.config.registrar.supported();
        let unknown = |tag: &&str| !known().any(|k| k.eq_ignore_ascii_case(tag));
        let tags: Vec<&str> = request.tokens(HeaderName::Require).filter(unknown).collect();
        // A folded line is one here.
        (!tags.is_empty()).then(|| tags.join(", ").replace(|c: char| c.is_control(), " "))
    }

    fn stage(&mut self, cx: Cx<'_>, stage: Stage, passage: &mut Passage<'_, '_>) -> Step {
        match stage {
            Stage::Natdetect => self.stage_natdetect(cx, passage),
            Stage::Cancel => self.stage_cancel(cx, passage),
            Stage::Retransmission => self.stage_retransmission(cx, passage),
            Stage::Withindlg => self.stage_withindlg(cx, passage),
            Stage::Auth => self.stage_auth(cx, passage),
            Stage::Policy => match self.stage_policy(cx, passage) {
                // A rule may have asked for them.
                Step::Next => self.spend_credentials(passage),
                step => step,
            },
            Stage::Sipout => self.stage_sipout(cx, passage),
            Stage::Presence => self.stage_presence(cx, passage),
            Stage::Registrar => self.stage_registrar(cx, passage),
            Stage::Trunk => self.stage_trunk(cx, passage),
            Stage::Location => self.stage_location(cx, passage),
            Stage::Dispatch => self.stage_dispatch(cx, passage),
            Stage::Voicemail => self.stage_voicemail(cx, passage),
            Stage::Relay => self.stage_relay(cx, passage),
            Stage::Reqinit | Stage::ManageBranch | Stage::ManageReply | Stage::ManageFailure => Step::Next,
        }
    }

    /// A stage that is switched off: what has to be done all the same. The table is in [`Stage`]'s file.
    fn what_is_left(&mut self, cx: Cx<'_>, stage: Stage, passage: &mut Passage<'_, '_>) -> Step {
        match stage {
            Stage::Cancel => self.cancel_without_stage(cx, passage),
            Stage::Retransmission => self.drop_retransmission(cx, passage),
            Stage::Withindlg => self.keep_out_of_dialogs(cx, passage),
            Stage::Relay => self.refuse_to_relay(passage),
            _ => Step::Next,
        }
    }

    /// Answers with an error made here, statelessly.
    pub(crate) fn reject(&mut self, passage: &Passage<'_, '_>, status: u16, reason: &str) {
        self.reject_with(passage.flow, passage.message, status, reason, &[]);
    }

    /// The same with further headers. An ACK is never answered.
    pub(crate) fn reject_with(
        &mut self,
        flow: Flow,
        stamped: &Message<'_>,
        status: u16,
        reason: &str,
        extra: &[(&str, &str)],
    ) {
        if stamped.method() == Some(Method::Ack) {
            self.counters.dropped_stray += 1;
            return;
        }
        self.explain_answer(status, reason);
        self.counters.rejected += 1;
        let tag = self.settings.keys.local_tag(stamped);
        let bytes = build::response(&self.settings, stamped, status, reason, &tag, extra);
        self.transmit(flow, &bytes);
    }

    /// No room: 503 with Retry-After.
    pub(crate) fn reject_overload(&mut self, flow: Flow, stamped: &[u8]) {
        self.counters.dropped_overload += 1;
        if let Ok(message) = Message::parse(stamped) {
            self.reject_with(flow, &message, 503, "", &[("Retry-After", RETRY_AFTER_S)]);
        }
    }

    /// No room on the disks: 503 with a longer Retry-After.
    pub(crate) fn reject_no_room(&mut self, flow: Flow, stamped: &Message<'_>) {
        self.counters.dropped_overload += 1;
        self.explain("refuses it", || String::from("the disks have no room for more"));
        self.reject_with(flow, stamped, 503, "", &[("Retry-After", NO_ROOM_RETRY_AFTER_S)]);
    }

    /// Notes that a response made here goes back.
    pub(crate) fn explain_answer(&mut self, status: u16, reason: &str) {
        self.explain(
            &format!("answers {status} {}", if reason.is_empty() { reason_phrase(status) } else { reason }),
            String::new,
        );
    }
}
