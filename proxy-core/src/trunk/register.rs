//! The registrations of the trunks (RFC 3261 §10.2), each by the engine that gets the responses to its Call-ID.
//!
//! | step | replicated before |
//! |---|---|
//! | REGISTER with the next CSeq | `Registering` with that CSeq |
//! | REGISTER again with credentials | `Registering` with the CSeq after it |
//! | nothing more until it is due | `Outcome` |
//!
//! A node that takes over finds `Registered`, and has nothing to do until the refresh is due; or `Ongoing`, whose
//! outcome nobody has told: it sends the next CSeq at once. Call-ID, From tag and Contact are the same on all nodes, so
//! the registrar sees one client that refreshes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::credentials::{Challenged, answer};
use crate::engine::limits::MAX_TRUNKS_PER_TICK;
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::msg::{HeaderName, MAX_CSEQ, Message, Uri};
use crate::state::trunk::{Account, RegistrationState, Trunk, TrunkCommand};
use crate::state::{Flow, SipCommand, SipResponse, Transport};
use crate::time::WallTime;
use crate::uac::{Originated, Outcome, OwnRequest, Purpose};

/// Time after which a REGISTER without any outcome is due again: longer than its transaction can take.
const ATTEMPT: Duration = Duration::from_secs(40);
/// Longest wait that a registrar may ask for with Retry-After.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Shortest one: a registrar that says 0 would be asked without end.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest expiry, in seconds, that a registrar may demand or grant beyond what is asked for (a day): with a longer one
/// the trunk would be lost for as long after the registrar has forgotten it.
const MAX_EXPIRY_S: u32 = 86_400;
/// Failures in a row from which a refusal of the account is believed: the next try comes after the longest pause.
const REFUSALS: u32 = 3;
/// Values of a Service-Route that are kept.
const MAX_SERVICE_ROUTES: usize = 4;
/// Challenges in a row that are answered: the second one can be a stale nonce.
const MAX_CHALLENGES: u8 = 2;
/// Expiry, in seconds, from which a refresh is sent ten minutes before the end; below it at half time.
const LONG_EXPIRY_S: u32 = 1200;

/// What an engine knows of registrations under way.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    attempts: BTreeMap<u64, Attempt>,
    /// Those in `attempts`, by trunk.
    under_way: BTreeMap<String, u64>,
    /// All trunks have been looked through for what the last owner has left under way.
    looked: bool,
}

/// A REGISTER that waits for its CSeq to be safe, or for its outcome.
#[derive(Debug)]
struct Attempt {
    uuid: String,
    cseq: u32,
    /// Answers to the challenge before.
    credentials: Vec<(&'static str, String)>,
    challenges: u8,
}

impl Engine {
    /// Begins what is due.
    pub(crate) fn trunk_tick(&mut self, cx: Cx<'_>) {
        let mut due: Vec<String> = cx
            .state
            .trunks_by_time()
            .take_while(|(at, _)| *at <= cx.now.wall)
            .map(|(_, uuid)| uuid.to_owned())
            .take(MAX_TRUNKS_PER_TICK)
            .collect();
        if !std::mem::replace(&mut self.trunks.looked, true) {
            let ongoing = cx.state.trunks().filter(|t| t.registration.state == RegistrationState::Ongoing);
            due.extend(ongoing.map(|t| t.account.uuid.clone()));
        }
        for uuid in due {
            let Some(trunk) = cx.state.trunk(&uuid) else { continue };
            let ours = self.is_own_shard(&trunk.registration.call_id);
            if !ours || self.trunks.under_way.contains_key(&uuid) {
                continue;
            }
            self.contain_each(
                || format!("the registration at trunk {uuid}"),
                |engine| {
                    // While the DNS is asked it stays due.
                    if engine.flow_to(cx, &trunk.account.next_hop()).is_some() {
                        engine.begin_attempt(cx, trunk, Vec::new(), 0);
                    }
                },
            );
        }
    }

    /// Asks for the next CSeq.
    fn begin_attempt(
        &mut self,
        cx: Cx<'_>,
        trunk: &Trunk,
        credentials: Vec<(&'static str, String)>,
        challenges: u8,
    ) {
        let uuid = trunk.account.uuid.clone();
        // §8.1.1.5 bounds a CSeq; nobody gets there: one REGISTER a second would take 68 years.
        let cseq = trunk.registration.cseq.saturating_add(1).min(MAX_CSEQ);
        let id = self.new_id();
        let at = cx.now.wall;
        let command = TrunkCommand::Registering { uuid: uuid.clone(), cseq, next_at: at + ATTEMPT, at };
        if self.propose(SipCommand::Trunk(command), Awaiting::Trunk { attempt: id }) {
            self.trunks.under_way.insert(uuid.clone(), id);
            self.trunks.attempts.insert(id, Attempt { uuid, cseq, credentials, challenges });
        }
    }

    fn end_attempt(&mut self, id: u64) -> Option<Attempt> {
        let attempt = self.trunks.attempts.remove(&id)?;
        if self.trunks.under_way.get(&attempt.uuid) == Some(&id) {
            self.trunks.under_way.remove(&attempt.uuid);
        }
        Some(attempt)
    }

    /// Verdict on `Registering`: its REGISTER leaves.
    pub(crate) fn on_trunk_numbered(&mut self, cx: Cx<'_>, id: u64, response: &SipResponse) {
        let uuid = self.trunks.attempts.get(&id).map(|attempt| attempt.uuid.clone());
        let next_hop = uuid.and_then(|uuid| Some(cx.state.trunk(&uuid)?.account.next_hop()));
        let flow = next_hop.and_then(|uri| self.flow_to(cx, &uri)).flatten();
        let attempt = self.trunks.attempts.get(&id);
        let sent = match (attempt, response) {
            (Some(attempt), SipResponse::Done) => match cx.state.trunk(&attempt.uuid) {
                Some(trunk) if trunk.registration.cseq == attempt.cseq => {
                    let originated = flow.and_then(|flow| self.register_request(trunk, attempt, flow));
                    originated.is_some_and(|o| self.originate(cx, o))
                }
                _ => false,
            },
            _ => false,
        };
        if sent {
            return;
        }
        let Some(attempt) = self.end_attempt(id) else { return };
        if *response == SipResponse::Done {
            self.tell(cx, &attempt, Told::failed("it cannot be sent: no way to the registrar"));
        }
    }

    /// `Registering` was refused, or nobody knows. Whatever is true is found by the next tick.
    pub(crate) fn on_trunk_refused(&mut self, id: u64) {
        self.end_attempt(id);
        self.trunks.looked = false;
    }

    fn register_request(&self, trunk: &Trunk, attempt: &Attempt, flow: Flow) -> Option<Originated> {
        let account = &trunk.account;
        let transport = match flow.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
        };
        let identity = format!("sip:{}@{}", account.remote_user, account.remote_domain);
        let tag = self.settings.keys.own_tag("trunk", &[account.uuid.as_bytes()]);
        let uri = format!("sip:{}", account.remote_domain);
        let mut request = OwnRequest::new("REGISTER", &uri, &identity, &tag, &identity)
            .numbered(&trunk.registration.call_id, attempt.cseq)
            .header("Contact", format!("<sip:{}@{}{transport}>", account.contact_user, flow.local))
            .header("Expires", asked_expiry(trunk).to_string())
            .header("User-Agent", self.settings.config.server.as_str());
        request.headers.extend(attempt.credentials.iter().cloned());
        let purpose = Purpose::TrunkRegister { attempt: self.trunks.under_way.get(&account.uuid).copied()? };
        Some(Originated { flow, request, purpose, patience: None })
    }

    /// A REGISTER has ended.
    pub(crate) fn on_trunk_registered(&mut self, cx: Cx<'_>, id: u64, outcome: &Outcome<'_, '_>) {
        let Some(attempt) = self.end_attempt(id) else { return };
        let Some(trunk) = cx.state.trunk(&attempt.uuid) else { return };
        if trunk.registration.cseq != attempt.cseq {
            return;
        }
        let told = match outcome {
            Outcome::Timeout => Told::failed("no answer"),
            Outcome::Transport => Told::failed("the connection to the registrar failed"),
            Outcome::Final(status @ 200..=299, response) => accepted(trunk, *status, response, cx.now.wall),
            Outcome::Final(status @ (401 | 407), response) if attempt.challenges < MAX_CHALLENGES => {
                match self.answer_registrar(trunk, response) {
                    Ok(credentials) => {
                        self.begin_attempt(cx, trunk, credentials, attempt.challenges + 1);
                        return;
                    }
                    Err(why) => Told { refused: true, ..Told::failed(format!("{status}: {why}")) },
                }
            }
            Outcome::Final(423, response) => too_brief(trunk, response),
            Outcome::Final(status, response) => {
                let reason = String::from_utf8_lossy(response.reason()).into_owned();
                let refused = matches!(status, 401 | 403 | 404 | 407 | 410) || *status >= 600;
                let retry_after = retry_after(response);
                Told { retry_after, refused, ..Told::failed(format!("{status} {reason}")) }
            }
        };
        self.tell(cx, &attempt, told);
    }

    fn answer_registrar(
        &self,
        trunk: &Trunk,
        response: &Message<'_>,
    ) -> Result<Vec<(&'static str, String)>, String> {
        let challenged = Challenged {
            method: "REGISTER",
            uri: &format!("sip:{}", trunk.account.remote_domain),
            body: b"",
            call_id: &trunk.registration.call_id,
            cseq: trunk.registration.cseq.saturating_add(1),
        };
        answer(&self.settings.keys, &trunk.account, response, challenged)
    }

    /// Has the outcome of an attempt remembered.
    fn tell(&mut self, cx: Cx<'_>, attempt: &Attempt, told: Told) {
        let Some(trunk) = cx.state.trunk(&attempt.uuid) else { return };
        let now = cx.now.wall;
        let told = if asked_expiry(trunk) == 0 {
            // Nobody waits for the end of a registration: it ends by itself, too.
            Told { state: RegistrationState::Idle, ..told }
        } else {
            told
        };
        let failures = trunk.registration.failures.saturating_add(1);
        let pause = match (told.state, told.retry_after) {
            (_, Some(wanted)) => wanted.min(MAX_RETRY_AFTER),
            (RegistrationState::Failed, None) if told.refused && failures >= REFUSALS => {
                self.settings.config.trunk.retry_max
            }
            (RegistrationState::Failed, None) => self.settings.config.trunk.pause(failures),
            _ => Duration::from_secs(u64::from(told.refresh_s)),
        };
        let command = TrunkCommand::Outcome {
            uuid: attempt.uuid.clone(),
            cseq: attempt.cseq,
            state: told.state,
            next_at: now + pause,
            expires_at: told.expires_at,
            min_expires_s: told.min_expires_s,
            service_route: told.service_route,
            last: told.last,
        };
        if !self.propose(SipCommand::Trunk(command), Awaiting::Nothing) {
            self.trunks.looked = false;
        }
    }
}

/// What is to be remembered of a REGISTER.
#[derive(Debug)]
struct Told {
    state: RegistrationState,
    /// Seconds until the refresh.
    refresh_s: u32,
    expires_at: Option<WallTime>,
    min_expires_s: Option<u32>,
    /// The next one no earlier and no later than this.
    retry_after: Option<Duration>,
    /// It will probably be the same the next time, and who asks too often is locked out.
    refused: bool,
    service_route: Option<Vec<String>>,
    last: String,
}

impl Told {
    fn failed(last: impl Into<String>) -> Self {
        Self {
            state: RegistrationState::Failed,
            refresh_s: 0,
            expires_at: None,
            min_expires_s: None,
            retry_after: None,
            refused: false,
            service_route: None,
            last: last.into(),
        }
    }
}

/// Expiry that is asked for: none for a trunk that is switched off.
fn asked_expiry(trunk: &Trunk) -> u32 {
    if trunk.account.registers() { trunk.account.expires_s.max(trunk.registration.min_expires_s) } else { 0 }
}

fn accepted(trunk: &Trunk, status: u16, response: &Message<'_>, now: WallTime) -> Told {
    let asked = asked_expiry(trunk);
    let granted = if asked == 0 { 0 } else { granted(&trunk.account, response).unwrap_or(asked) };
    let granted = granted.min(asked.max(MAX_EXPIRY_S));
    if asked > 0 && granted == 0 {
        return Told { expires_at: Some(now), ..Told::failed(format!("{status}, but with an expiry of 0")) };
    }
    let state = if asked == 0 { RegistrationState::Idle } else { RegistrationState::Registered };
    let refresh_s = if granted > LONG_EXPIRY_S { granted - LONG_EXPIRY_S / 2 } else { granted.div_ceil(2) };
    let reason = String::from_utf8_lossy(response.reason()).into_owned();
    Told {
        state,
        refresh_s,
        expires_at: Some(now + Duration::from_secs(u64::from(granted))),
        min_expires_s: None,
        retry_after: None,
        refused: false,
        service_route: Some(service_route(response)),
        last: format!("{status} {reason}"),
    }
}

/// Expiry of our Contact in the answer (§10.2.4), else its Expires.
fn granted(account: &Account, response: &Message<'_>) -> Option<u32> {
    let ours = response.contacts().flatten().find(|contact| {
        Uri::parse(contact.uri).is_ok_and(|uri| uri.user == Some(account.contact_user.as_str()))
    });
    let parameter = ours.and_then(|c| c.params.value("expires")?.parse().ok());
    parameter.or_else(|| response.expires().ok().flatten())
}

/// The routes that calls out take from now on (RFC 3608 §5), the first one topmost.
fn service_route(response: &Message<'_>) -> Vec<String> {
    let values = response.values(HeaderName::ServiceRoute).take(MAX_SERVICE_ROUTES);
    values.filter_map(|v| std::str::from_utf8(v).ok()).map(|v| v.trim().to_owned()).collect()
}

/// 423: the registrar wants longer ones (§10.2.8).
fn too_brief(trunk: &Trunk, response: &Message<'_>) -> Told {
    let wanted = response.header_str(HeaderName::MinExpires).and_then(|v| v.trim().parse::<u32>().ok());
    let asked = asked_expiry(trunk);
    match wanted.filter(|w| *w > asked && *w <= MAX_EXPIRY_S && asked > 0) {
        Some(wanted) => Told {
            min_expires_s: Some(wanted),
            retry_after: Some(Duration::ZERO),
            ..Told::failed(format!("423, asks for {wanted} s"))
        },
        None => Told::failed("423 Interval Too Brief, and no Min-Expires that helps"),
    }
}

fn retry_after(response: &Message<'_>) -> Option<Duration> {
    let text = response.header_str(HeaderName::RetryAfter)?;
    let digits = text.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().map(|seconds| Duration::from_secs(seconds).max(MIN_RETRY_AFTER))
}
