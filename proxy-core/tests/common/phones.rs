//! Phones that follow the RFC by themselves: a caller and callees with retransmissions, on millisecond clocks.

use crate::common::story;
use crate::common::story::{header, in_dialog_of_caller, invite, respond};

/// T1 and T2 in milliseconds.
const T1: u64 = 500;
const T2: u64 = 4000;

/// Something sent again until it is answered.
#[derive(Debug, Clone)]
struct Repeated {
    text: String,
    at: u64,
    interval: u64,
    cap: u64,
    end: u64,
}

impl Repeated {
    fn new(now: u64, text: String, cap: u64) -> Self {
        Self { text, at: now + T1, interval: T1, cap, end: now + 64 * T1 }
    }

    /// Fires if it is due; `false` when it is over.
    fn tick(&mut self, now: u64, out: &mut Vec<String>) -> bool {
        if now >= self.end {
            return false;
        }
        if now >= self.at {
            out.push(self.text.clone());
            self.interval = (self.interval * 2).min(self.cap);
            self.at = now + self.interval;
        }
        true
    }

    fn next(&self) -> u64 {
        self.at.min(self.end)
    }
}

/// What the caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Waits for what comes, and hangs up an answered call after so long.
    HangUpAfter(u64),
    /// Changes an answered call (re-INVITE) after so long, then hangs up.
    ChangeAfter(u64),
    /// Sends CANCEL so long after the start (or at the first provisional after that).
    CancelAt(u64),
}

/// The caller, with one call.
#[derive(Debug)]
pub struct Caller {
    pub at: &'static str,
    uri: String,
    call: String,
    plan: Plan,
    start: u64,
    invite: Option<Repeated>,
    heard: bool,
    cancel: Option<Repeated>,
    cancel_sent: bool,
    pub cancel_answer: Option<u16>,
    /// Distinct final responses to the INVITE: status and To tag.
    pub finals: Vec<(u16, String)>,
    ok: Option<String>,
    change_at: Option<u64>,
    change: Option<Repeated>,
    pub change_answer: Option<u16>,
    bye_at: Option<u64>,
    bye: Option<Repeated>,
    /// Of dialogs beyond the first: ended at once.
    byes: Vec<(String, Repeated)>,
    pub bye_answer: Option<u16>,
    pub gave_up: bool,
    pub provisional: bool,
}

impl Caller {
    pub fn new(at: &'static str, uri: &str, call: &str, plan: Plan, now: u64) -> (Self, String) {
        let text = invite(uri, at, call);
        let this = Self {
            at,
            uri: uri.to_owned(),
            call: call.to_owned(),
            plan,
            start: now,
            invite: Some(Repeated::new(now, text.clone(), u64::MAX)),
            heard: false,
            cancel: None,
            cancel_sent: false,
            cancel_answer: None,
            finals: Vec::new(),
            ok: None,
            change_at: None,
            change: None,
            change_answer: None,
            bye_at: None,
            bye: None,
            byes: Vec::new(),
            bye_answer: None,
            gave_up: false,
            provisional: false,
        };
        (this, text)
    }

    pub fn on(&mut self, now: u64, text: &str, out: &mut Vec<String>) {
        let Some(status) = text.strip_prefix("SIP/2.0 ").and_then(|r| r[..3].parse::<u16>().ok()) else {
            // A request of the other side; none is sent in these stories.
            return;
        };
        let cseq = header(text, "CSeq").unwrap_or_default();
        let to_tag = header(text, "To")
            .unwrap_or_default()
            .rsplit_once("tag=")
            .map_or(String::new(), |t| t.1.to_owned());
        if cseq.ends_with("CANCEL") {
            if status >= 200 {
                self.cancel = None;
                self.cancel_answer.get_or_insert(status);
            }
            return;
        }
        if cseq.ends_with("BYE") {
            if status >= 200 {
                let others = self.byes.len();
                self.byes.retain(|(tag, _)| *tag != to_tag);
                if self.byes.len() < others {
                    return;
                }
                self.bye = None;
                self.bye_answer.get_or_insert(status);
            }
            return;
        }
        if cseq.starts_with("2 ") {
            self.change = None;
            if status >= 200 {
                self.change_answer.get_or_insert(status);
                self.bye_at.get_or_insert(now + 50);
                if let Some(ok) = self.ok.as_ref().filter(|_| status < 300) {
                    out.push(in_dialog_of_caller("ACK", 2, ok, self.at));
                }
            }
            return;
        }
        self.invite = None;
        self.heard = true;
        if status < 200 {
            self.provisional = true;
            self.maybe_cancel(now, out);
            return;
        }
        let is_new = !self.finals.contains(&(status, to_tag.clone()));
        if is_new {
            self.finals.push((status, to_tag.clone()));
        }
        if status < 300 {
            out.push(in_dialog_of_caller("ACK", 1, text, self.at));
            if self.ok.is_none() {
                self.ok = Some(text.to_owned());
                match self.plan {
                    Plan::HangUpAfter(ms) => self.bye_at = Some(now + ms),
                    Plan::ChangeAfter(ms) => self.change_at = Some(now + ms),
                    Plan::CancelAt(_) => self.bye_at = Some(now + 1),
                }
            } else if is_new {
                let bye = in_dialog_of_caller("BYE", 2, text, self.at);
                out.push(bye.clone());
                self.byes.push((to_tag, Repeated::new(now, bye, T2)));
            }
        } else {
            let ack = invite(&self.uri, self.at, &self.call)
                .replace("INVITE sip", "ACK sip")
                .replace("1 INVITE", "1 ACK")
                .replace(
                    &format!("To: <{}>", self.uri),
                    &format!("To: {}", header(text, "To").unwrap_or_default()),
                );
            out.push(ack);
        }
    }

    fn maybe_cancel(&mut self, now: u64, out: &mut Vec<String>) {
        let Plan::CancelAt(at) = self.plan else { return };
        if !self.cancel_sent && self.heard && self.finals.is_empty() && now >= self.start + at {
            self.cancel_sent = true;
            let text = story::cancel(&self.uri, self.at, &self.call);
            out.push(text.clone());
            self.cancel = Some(Repeated::new(now, text, T2));
        }
    }

    pub fn tick(&mut self, now: u64, out: &mut Vec<String>) {
        if self.invite.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.invite = None;
            self.gave_up = true;
        }
        if self.cancel.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.cancel = None;
        }
        if self.bye.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.bye = None;
        }
        if self.change.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.change = None;
            self.bye_at.get_or_insert(now);
        }
        if let (Some(at), Some(ok)) = (self.change_at, &self.ok)
            && now >= at
        {
            self.change_at = None;
            let text = in_dialog_of_caller("INVITE", 2, ok, self.at);
            out.push(text.clone());
            self.change = Some(Repeated::new(now, text, u64::MAX));
        }
        self.byes.retain_mut(|(_, r)| r.tick(now, out));
        self.maybe_cancel(now, out);
        if let (Some(at), Some(ok)) = (self.bye_at, &self.ok)
            && now >= at
        {
            // Set once: an answer that is repeated does not hang up again.
            self.bye_at = Some(u64::MAX);
            let text = in_dialog_of_caller("BYE", 3, ok, self.at);
            out.push(text.clone());
            self.bye = Some(Repeated::new(now, text, T2));
        }
    }

    pub fn next(&self) -> Option<u64> {
        let cancel_at = match self.plan {
            Plan::CancelAt(at) if !self.cancel_sent && self.heard && self.finals.is_empty() => {
                Some(self.start + at)
            }
            _ => None,
        };
        [
            self.invite.as_ref().map(Repeated::next),
            self.cancel.as_ref().map(Repeated::next),
            self.bye.as_ref().map(Repeated::next),
            self.byes.iter().map(|(_, r)| r.next()).min(),
            self.bye_at.filter(|at| *at < u64::MAX),
            self.change.as_ref().map(Repeated::next),
            self.change_at,
            cancel_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// What a callee does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Rings until it is told to stop.
    Rings,
    /// Rings, and answers after so long.
    Answers(u64),
    /// Refuses after so long, with this status.
    Refuses(u64, u16),
    /// Says nothing at all.
    Silent,
    /// Is stopped when it is called and wakes up after so long: then it reads all that has come, rings, and answers after
    /// the second time.
    Wakes(u64, u64),
    /// There is nobody: an ICMP error comes back.
    Absent,
}

/// Where a callee stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalleeState {
    Idle,
    Ringing,
    /// 200 sent.
    Answered,
    /// Acknowledged.
    Talking,
    /// A failure sent, not acknowledged.
    Failed,
    /// The failure was acknowledged, or nobody did so in time.
    Over,
    /// BYE came.
    HungUp,
}

/// A callee, with one call.
#[derive(Debug)]
pub struct Callee {
    pub at: &'static str,
    /// Parameters of the Contact it registers beforehand, or the whole of it; `None` if it does not register.
    pub contact: Option<&'static str>,
    manner: Manner,
    pub state: CalleeState,
    invite: String,
    branch: String,
    tag: String,
    last: String,
    act_at: Option<u64>,
    repeated: Option<Repeated>,
    /// The answer to a re-INVITE, and its branch.
    changed: Option<(String, Repeated)>,
    /// How often it began to ring; more than once is a second fork.
    pub rang: u32,
    /// Nobody acknowledged what it said last.
    pub unacknowledged: bool,
    pub cancelled: bool,
    /// What has come while it was stopped, and when it goes on.
    unread: Option<(u64, Vec<String>)>,
    awake: bool,
}

impl Callee {
    pub fn new(at: &'static str, manner: Manner) -> Self {
        Self {
            at,
            contact: Some(""),
            manner,
            state: CalleeState::Idle,
            invite: String::new(),
            branch: String::new(),
            tag: format!("t{}", at.replace(['.', ':'], "")),
            last: String::new(),
            act_at: None,
            repeated: None,
            changed: None,
            rang: 0,
            unacknowledged: false,
            cancelled: false,
            unread: None,
            awake: false,
        }
    }

    /// Nothing listens there.
    pub fn is_absent(&self) -> bool {
        self.manner == Manner::Absent
    }

    /// It has refused with a 503: where its branch has moved on, nobody knows of that after a takeover.
    pub fn is_out_of_service(&self) -> bool {
        matches!(self.manner, Manner::Refuses(_, 503))
    }

    fn branch_of(text: &str) -> String {
        let via = header(text, "Via").unwrap_or_default();
        via.split("branch=")
            .nth(1)
            .unwrap_or_default()
            .split([';', ','])
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    fn finish(&mut self, now: u64, status: u16, out: &mut Vec<String>) {
        let contact = format!("Contact: <sip:bob@{}>\r\n", self.at);
        self.last = respond(&self.invite, status, &self.tag, if status < 300 { &contact } else { "" });
        out.push(self.last.clone());
        self.repeated = Some(Repeated::new(now, self.last.clone(), T2));
        self.act_at = None;
        self.state = if status < 300 { CalleeState::Answered } else { CalleeState::Failed };
    }

    pub fn on(&mut self, now: u64, text: &str, out: &mut Vec<String>) {
        match self.manner {
            Manner::Silent => return,
            Manner::Wakes(asleep, _) if !self.awake => {
                self.unread.get_or_insert((now + asleep, Vec::new())).1.push(text.to_owned());
                return;
            }
            _ => {}
        }
        match text.split(' ').next().unwrap_or_default() {
            "INVITE" if header(text, "To").is_some_and(|to| to.contains(";tag=")) => {
                let branch = Self::branch_of(text);
                if self.changed.as_ref().is_some_and(|(b, _)| *b == branch) {
                    return;
                }
                let known = matches!(self.state, CalleeState::Answered | CalleeState::Talking);
                let contact = format!("Contact: <sip:bob@{}>\r\n", self.at);
                let answer = respond(text, if known { 200 } else { 481 }, &self.tag, &contact);
                out.push(answer.clone());
                self.changed = Some((branch, Repeated::new(now, answer, T2)));
            }
            "ACK" if header(text, "CSeq").is_some_and(|c| c.starts_with("2 ")) => {
                // Kept: a repetition of the re-INVITE is not a new one.
                if let Some((_, repeated)) = &mut self.changed {
                    repeated.at = u64::MAX;
                    repeated.end = u64::MAX;
                }
            }
            "INVITE" => {
                let branch = Self::branch_of(text);
                if branch == self.branch {
                    if matches!(self.state, CalleeState::Ringing | CalleeState::Failed) {
                        out.push(self.last.clone());
                    }
                    return;
                }
                // A second call with the same Call-ID: this would ring twice.
                self.rang += 1;
                self.branch = branch;
                self.invite = text.to_owned();
                self.state = CalleeState::Ringing;
                self.last = respond(text, 180, &self.tag, "");
                out.push(self.last.clone());
                self.act_at = match self.manner {
                    Manner::Rings | Manner::Silent | Manner::Absent => None,
                    Manner::Wakes(_, ms) | Manner::Answers(ms) | Manner::Refuses(ms, _) => Some(now + ms),
                };
            }
            "CANCEL" => {
                let known = Self::branch_of(text) == self.branch && self.state != CalleeState::Idle;
                out.push(respond(text, if known { 200 } else { 481 }, &self.tag, ""));
                if known && self.state == CalleeState::Ringing {
                    self.cancelled = true;
                    self.finish(now, 487, out);
                }
            }
            "ACK" => match self.state {
                CalleeState::Answered => {
                    self.repeated = None;
                    self.state = CalleeState::Talking;
                }
                CalleeState::Failed => {
                    self.repeated = None;
                    self.state = CalleeState::Over;
                }
                _ => {}
            },
            "BYE" => {
                let known =
                    matches!(self.state, CalleeState::Answered | CalleeState::Talking | CalleeState::HungUp);
                out.push(respond(text, if known { 200 } else { 481 }, &self.tag, ""));
                if known {
                    self.repeated = None;
                    self.state = CalleeState::HungUp;
                }
            }
            _ => {}
        }
    }

    pub fn tick(&mut self, now: u64, out: &mut Vec<String>) {
        if let Some((_, unread)) = self.unread.take_if(|(at, _)| now >= *at) {
            self.awake = true;
            for text in unread {
                self.on(now, &text, out);
            }
        }
        if self.act_at.is_some_and(|at| now >= at) && self.state == CalleeState::Ringing {
            match self.manner {
                Manner::Answers(_) | Manner::Wakes(..) => self.finish(now, 200, out),
                Manner::Refuses(_, status) => self.finish(now, status, out),
                Manner::Rings | Manner::Silent | Manner::Absent => {}
            }
        }
        if let Some((_, repeated)) = &mut self.changed
            && !repeated.tick(now, out)
        {
            repeated.at = u64::MAX;
            repeated.end = u64::MAX;
            self.unacknowledged = true;
        }
        if self.repeated.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.repeated = None;
            self.unacknowledged = true;
            if self.state == CalleeState::Failed {
                self.state = CalleeState::Over;
            }
        }
    }

    pub fn next(&self) -> Option<u64> {
        let changed = self.changed.as_ref().map(|(_, r)| r.next()).filter(|at| *at < u64::MAX);
        let wakes = self.unread.as_ref().map(|(at, _)| *at);
        [wakes, self.act_at, self.repeated.as_ref().map(Repeated::next), changed].into_iter().flatten().min()
    }
}
