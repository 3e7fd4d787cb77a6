//! Kamailio's AUTH: who may send what. The judgement is made in [`crate::auth`]; here it is answered.
//!
//! | judged | answer |
//! |---|---|
//! | from a trusted source, or from the address of a trunk | passes, to domains of others, too |
//! | proven | passes, to domains of others, too; the credentials go, but from REGISTER and PUBLISH |
//! | not proven | 401 to REGISTER, 407 to others, with a challenge for each algorithm (RFC 3261 §22.2, §22.3) |
//! | proven, but From (REGISTER: To, PUBLISH: Request-URI) is somebody else | 403 Forbidden auth ID |
//! | proven, but for another Request-URI, where `check_uri` is on | 400 Digest URI Mismatch (RFC 7616 §3.4.6) |
//! | a stranger, to a domain of ours | passes |
//! | a stranger, to a domain of others | 403 Not relaying |
//!
//! ACK and CANCEL are never challenged (§22.1), and requests within dialogs do not come this way: credentials in them
//! are taken out unread. A challenge is
//! answered statelessly and nothing is kept of it: the nonce says all, to every node that has the replicated key.

use super::passage::{Passage, Spent, Step};
use crate::auth::{Court, Judgement, challenge_headers, credentials_header, without_credentials};
use crate::digest::Nonce;
use crate::engine::{Cx, Engine};
use crate::msg::{Forward, HeaderName, Message, Method, Uri};
use crate::state::{Flow, Transport};

impl Engine {
    /// Judges whoever asks, where that is switched on.
    pub(super) fn stage_auth(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        if !self.settings.config.auth.enabled {
            return Step::Next;
        }
        if passage.found.sender.is_trusted() && passage.method != Method::Register {
            self.explain("trusts", || String::from("it comes from the address of a trunk"));
            return Step::Next;
        }
        // A maddr leads a request elsewhere, but a REGISTER is for the domain that it names.
        let is_local = Uri::parse(&passage.found.uri).is_ok_and(|uri| match passage.method {
            Method::Register => self.settings.is_local(&uri, passage.flow.local),
            _ => self.settings.is_for_us(&uri, passage.flow.local),
        });
        match passage.method {
            Method::Ack | Method::Cancel => return Step::Next,
            // The registrar refuses it, whoever it is.
            Method::Register if !is_local => return Step::Next,
            _ => {}
        }
        let judgement = self.judged(cx, passage);
        if judgement == Judgement::Stranger {
            let source = passage.flow.remote.ip();
            if !is_local && !self.settings.config.routing.relay_from.iter().any(|c| c.contains(source)) {
                self.explain("refuses", || String::from("neither From nor Request-URI is a domain of ours"));
                return Step::Reject(403, "Not relaying");
            }
            self.explain("next", || String::from("From is no domain of ours: nobody to prove to be"));
            return Step::Next;
        }
        match self.answer_judgement(cx, passage, judgement) {
            Step::Next => self.spend_credentials(passage),
            step => step,
        }
    }

    /// A rule wants to know who it is, whether or not everybody is asked. Strangers cannot be known.
    pub(crate) fn require_auth(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        passage.found.auth_required = true;
        if passage.found.sender.is_known() {
            return Step::Next;
        }
        if matches!(passage.method, Method::Ack | Method::Cancel) {
            return Step::Next;
        }
        match self.judged(cx, passage) {
            Judgement::Stranger => {
                self.explain("refuses", || String::from("From is no domain of ours: nobody to prove to be"));
                Step::Reject(403, "Not allowed")
            }
            judgement => self.answer_judgement(cx, passage, judgement),
        }
    }

    /// Takes credentials that were accepted out of the message, so that the next hop does not see them.
    pub(super) fn spend_credentials(&mut self, passage: &mut Passage<'_, '_>) -> Step {
        match passage.found.spent.take() {
            Some(Spent { header, realm }) => {
                Step::Rewritten(without_credentials(passage.message, header, &realm))
            }
            None => Step::Next,
        }
    }

    /// A request within a dialog without the credentials that its phone adds to it all the same (RFC 3261 §22.1 lets the
    /// ACK repeat those of its INVITE): nobody asks for them there, and the other phone should not see them. `None` if
    /// there is nothing to take away.
    pub(super) fn without_old_credentials(&self, cx: Cx<'_>, flow: Flow, stamped: &[u8]) -> Option<Vec<u8>> {
        if !self.settings.config.auth.enabled {
            return None;
        }
        let message = Message::parse(stamped).ok()?;
        let header = HeaderName::ProxyAuthorization;
        if !message.has(header) || message.to_tag().is_none() || self.needs_password(cx, flow, &message) {
            return None;
        }
        let court =
            Court { settings: &self.settings, state: cx.state, replay: &self.replay, now: cx.now.wall };
        let (_, _, realm) = court.identity(&message, flow);
        Some(without_credentials(&message, header, &realm))
    }

    /// Whether a password is what may show that a request belongs to its dialog.
    fn needs_password(&self, cx: Cx<'_>, flow: Flow, message: &Message<'_>) -> bool {
        message.method() != Some(Method::Ack) && !self.is_within_dialog(cx, flow, message)
    }

    fn judged(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> Judgement {
        let court =
            Court { settings: &self.settings, state: cx.state, replay: &self.replay, now: cx.now.wall };
        let claim = passage.found.sender.claim();
        let (judgement, used) =
            court.judge(passage.message, (passage.method, claim), passage.flow, self.presumed_user());
        if let Some(using) = used {
            self.count_used(cx, using);
        }
        judgement
    }

    fn answer_judgement(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>, judgement: Judgement) -> Step {
        match judgement {
            Judgement::Trusted { tag } => {
                self.explain("trusts", || {
                    let tag = tag.map_or_else(String::new, |t| format!(" ({t})"));
                    format!("the access list covers {}{tag}", passage.flow.remote)
                });
                passage.found.sender.is_listed();
                Step::Next
            }
            Judgement::Proven { aor, realm } => {
                let how = if self.presumed_user().is_some() { "as asked" } else { "by password" };
                self.explain("knows", || format!("it is {aor}, {how}, for realm {realm:?}"));
                passage.found.sender.is_user(&aor);
                if !matches!(passage.method, Method::Register | Method::Publish) {
                    passage.found.spent = Some(Spent { header: credentials_header(passage.method), realm });
                }
                Step::Next
            }
            Judgement::OtherIdentity { aor } => {
                self.explain("refuses", || format!("it is {aor}, and speaks for somebody else"));
                Step::Reject(403, "Forbidden auth ID")
            }
            Judgement::OtherUri => {
                self.explain("refuses", || {
                    String::from("its credentials were made for another Request-URI (check_uri)")
                });
                Step::Reject(400, "Digest URI Mismatch")
            }
            Judgement::Challenge { realm, stale } => {
                self.challenge(cx, passage, &realm, stale);
                Step::Answered
            }
            Judgement::Stranger => Step::Next,
            Judgement::NotReady => {
                self.explain("waits", || String::from("the first key of nonces is not committed yet"));
                if passage.flow.transport == Transport::Udp {
                    // It comes again by itself, and by then the key is there.
                    self.counters.dropped_overload += 1;
                } else {
                    self.reject_overload(passage.flow, passage.message.raw());
                }
                Step::Answered
            }
        }
    }

    /// The 200 to a REGISTER with the proof of the registrar, where that is wanted (RFC 7616 §3.5).
    pub(crate) fn with_authentication_info(
        &self,
        cx: Cx<'_>,
        request: &Message<'_>,
        flow: Flow,
        response: Vec<u8>,
    ) -> Vec<u8> {
        let court =
            Court { settings: &self.settings, state: cx.state, replay: &self.replay, now: cx.now.wall };
        let Some(value) = court.authentication_info(request, flow) else { return response };
        let Ok(message) = Message::parse(&response) else { return response };
        let mut out = Vec::with_capacity(response.len() + value.len() + 32);
        Forward::new(&message).add_header("Authentication-Info", &value).write(&mut out);
        out
    }

    fn challenge(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>, realm: &str, stale: bool) {
        let Some(key) = cx.state.provision().nonce_key() else { return };
        let is_register = passage.method == Method::Register;
        let salt = self.settings.keys.transaction_digest(passage.message);
        let nonce = Nonce::make(key, realm, cx.now.wall, salt);
        let headers = challenge_headers(&self.settings.config.auth, is_register, realm, &nonce, stale);
        self.explain("challenges", || {
            let why = if stale { "its nonce is used up" } else { "no password for this realm was proven" };
            format!("realm {realm:?}: {why}")
        });
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let status = if is_register { 401 } else { 407 };
        self.reject_with(passage.flow, passage.message, status, "", &headers);
    }
}
