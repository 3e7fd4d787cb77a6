//! Simulated phones: they register, call, answer, refuse, hang up before and after the answer, and repeat what is not
//! answered, as RFC 3261 has it for UDP.

use std::net::SocketAddr;

use super::base::{MS, Rng};
use super::sip;

/// T1 and T2 of RFC 3261 table 4, ns.
const T1: u64 = 500 * MS;
const T2: u64 = 4000 * MS;

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

    /// Sends again where that is due; `false` when it is over.
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
}

/// Registers one contact again and again.
#[derive(Debug)]
pub struct Registrar {
    at: SocketAddr,
    user: String,
    number: u32,
    next_at: u64,
    asked: Option<Repeated>,
    /// Newest CSeq that was answered with 200.
    pub confirmed: u32,
    /// Pauses between two registrations, ns; none: one registration only.
    every: Option<(u64, u64)>,
}

impl Registrar {
    /// Begins at `from`.
    #[must_use]
    pub fn new(at: SocketAddr, user: String, from: u64, every: Option<(u64, u64)>) -> Self {
        Self { at, user, number: 0, next_at: from, asked: None, confirmed: 0, every }
    }

    /// No new ones any more.
    pub fn stop(&mut self) {
        self.next_at = u64::MAX;
    }

    fn on(&mut self, text: &str, now: u64, rng: &mut Rng) {
        let number = sip::cseq(text).map(|(n, _)| n);
        if number != Some(self.number) || self.asked.is_none() {
            return;
        }
        self.asked = None;
        let again = now + rng.between(100, 500) * MS;
        match sip::status(text) {
            Some(200) => {
                self.confirmed = self.number;
                self.next_at = self.every.map_or(u64::MAX, |(low, high)| now + rng.between(low, high));
            }
            // 503 and the like: ask again a little later.
            _ if self.next_at != u64::MAX || self.every.is_none() => self.next_at = again,
            _ => {}
        }
    }

    fn tick(&mut self, now: u64, out: &mut Vec<String>) {
        if self.asked.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.asked = None;
            self.next_at = now;
        }
        if self.asked.is_none() && now >= self.next_at {
            self.number += 1;
            let text = sip::register(&self.user, self.at, self.number);
            out.push(text.clone());
            self.asked = Some(Repeated::new(now, text, T2));
        }
    }
}

/// What the caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Hangs up an answered call after so long.
    HangUpAfter(u64),
    /// Sends CANCEL so long after the start, if there was a provisional response.
    CancelAfter(u64),
}

/// The caller of one call.
#[derive(Debug)]
pub struct Caller {
    at: SocketAddr,
    user: String,
    call: String,
    plan: Plan,
    start: u64,
    invite: Option<Repeated>,
    cancel: Option<Repeated>,
    cancelled: bool,
    ok: Option<String>,
    bye_at: u64,
    bye: Option<Repeated>,
    /// A provisional response came: the proxy has promised to see it through.
    pub promised: bool,
    /// First final response to the INVITE.
    pub outcome: Option<u16>,
    /// Answer to its BYE.
    pub bye_answer: Option<u16>,
    /// It heard nothing at all, or nobody answered its BYE.
    pub gave_up: bool,
}

impl Caller {
    fn new(at: SocketAddr, user: &str, call: &str, plan: Plan) -> Self {
        Self {
            at,
            user: user.to_owned(),
            call: call.to_owned(),
            plan,
            start: 0,
            invite: None,
            cancel: None,
            cancelled: false,
            ok: None,
            bye_at: u64::MAX,
            bye: None,
            promised: false,
            outcome: None,
            bye_answer: None,
            gave_up: false,
        }
    }

    fn begin(&mut self, now: u64, out: &mut Vec<String>) {
        let text = sip::of_call("INVITE", &self.user, self.at, &self.call, "");
        out.push(text.clone());
        self.start = now;
        self.invite = Some(Repeated::new(now, text, u64::MAX));
    }

    fn on(&mut self, text: &str, now: u64, out: &mut Vec<String>) {
        let Some(status) = sip::status(text) else { return };
        match sip::cseq(text).map(|(_, method)| method).as_deref() {
            Some("CANCEL") if status >= 200 => self.cancel = None,
            Some("BYE") if status >= 200 => {
                self.bye = None;
                self.bye_answer.get_or_insert(status);
            }
            Some("INVITE") => {
                self.invite = None;
                if status < 200 {
                    self.promised = true;
                    return;
                }
                self.outcome.get_or_insert(status);
                if status < 300 {
                    out.push(sip::in_dialog("ACK", 1, text, self.at));
                    if self.ok.is_none() {
                        self.ok = Some(text.to_owned());
                        self.bye_at = now
                            + match self.plan {
                                Plan::HangUpAfter(after) => after,
                                Plan::CancelAfter(_) => MS,
                            };
                    }
                } else {
                    out.push(sip::of_call("ACK", &self.user, self.at, &self.call, &sip::to_tag(text)));
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: u64, out: &mut Vec<String>) {
        if self.invite.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.invite = None;
            self.gave_up = true;
        }
        if self.cancel.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.cancel = None;
        }
        if self.bye.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.bye = None;
            self.gave_up = true;
        }
        if let Plan::CancelAfter(after) = self.plan
            && self.promised
            && !self.cancelled
            && self.outcome.is_none()
            && now >= self.start + after
        {
            self.cancelled = true;
            let text = sip::of_call("CANCEL", &self.user, self.at, &self.call, "");
            out.push(text.clone());
            self.cancel = Some(Repeated::new(now, text, T2));
        }
        if let Some(ok) = &self.ok
            && now >= self.bye_at
        {
            self.bye_at = u64::MAX;
            let text = sip::in_dialog("BYE", 2, ok, self.at);
            out.push(text.clone());
            self.bye = Some(Repeated::new(now, text, T2));
        }
    }

    /// Nothing more is to come.
    #[must_use]
    pub fn over(&self) -> bool {
        match self.outcome {
            Some(200) => self.bye_answer.is_some() || self.gave_up,
            Some(_) => true,
            None => self.gave_up && !self.promised,
        }
    }
}

/// What a callee does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Rings until it is told to stop.
    Rings,
    /// Answers after so long, ns.
    Answers(u64),
    /// Refuses after so long, ns.
    Refuses(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Idle,
    Ringing,
    Answered,
    Talking,
    Failed,
    Over,
}

/// The callee of one call.
#[derive(Debug)]
pub struct Callee {
    at: SocketAddr,
    manner: Manner,
    state: At,
    invite: String,
    branch: String,
    tag: String,
    last: String,
    act_at: u64,
    repeated: Option<Repeated>,
    /// How often it began to ring: more than once is a second fork.
    pub rang: u32,
}

impl Callee {
    fn new(at: SocketAddr, manner: Manner) -> Self {
        Self {
            at,
            manner,
            state: At::Idle,
            invite: String::new(),
            branch: String::new(),
            tag: format!("t{}", at.port()),
            last: String::new(),
            act_at: u64::MAX,
            repeated: None,
            rang: 0,
        }
    }

    fn finish(&mut self, now: u64, status: u16, out: &mut Vec<String>) {
        self.last = sip::respond(&self.invite, status, &self.tag, (status < 300).then_some(self.at));
        out.push(self.last.clone());
        self.repeated = Some(Repeated::new(now, self.last.clone(), T2));
        self.act_at = u64::MAX;
        self.state = if status < 300 { At::Answered } else { At::Failed };
    }

    fn on(&mut self, text: &str, now: u64, out: &mut Vec<String>) {
        let branch = sip::branch(text);
        match text.split(' ').next().unwrap_or_default() {
            "INVITE" if branch == self.branch => {
                if matches!(self.state, At::Ringing | At::Failed | At::Answered) {
                    out.push(self.last.clone());
                }
            }
            "INVITE" => {
                self.rang += 1;
                self.branch = branch;
                self.invite = text.to_owned();
                self.state = At::Ringing;
                self.last = sip::respond(text, 180, &self.tag, None);
                out.push(self.last.clone());
                self.act_at = match self.manner {
                    Manner::Rings => u64::MAX,
                    Manner::Answers(after) | Manner::Refuses(after) => now + after,
                };
            }
            "CANCEL" => {
                let known = branch == self.branch && self.state != At::Idle;
                out.push(sip::respond(text, if known { 200 } else { 481 }, &self.tag, None));
                if known && self.state == At::Ringing {
                    self.finish(now, 487, out);
                }
            }
            "ACK" => {
                self.repeated = None;
                self.state = match self.state {
                    At::Answered => At::Talking,
                    At::Failed => At::Over,
                    other => other,
                };
            }
            "BYE" => {
                let known = matches!(self.state, At::Answered | At::Talking | At::Over);
                out.push(sip::respond(text, if known { 200 } else { 481 }, &self.tag, None));
                if known {
                    self.repeated = None;
                    self.state = At::Over;
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: u64, out: &mut Vec<String>) {
        if self.state == At::Ringing && now >= self.act_at {
            match self.manner {
                Manner::Answers(_) => self.finish(now, 200, out),
                Manner::Refuses(_) => self.finish(now, 486, out),
                Manner::Rings => {}
            }
        }
        if self.repeated.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.repeated = None;
        }
    }
}

/// One call: phones that register, are called together, and end it somehow.
#[derive(Debug)]
pub struct Call {
    /// Its Call-ID.
    pub id: String,
    /// The caller.
    pub caller: Caller,
    /// Those called, each with its registration.
    pub callees: Vec<(Registrar, Callee)>,
    begun: bool,
}

impl Call {
    /// Call number `n`; its phones register at `from`.
    #[must_use]
    pub fn new(n: u16, from: u64, rng: &mut Rng) -> Self {
        let addr = |i: u16| SocketAddr::from(([10, 9, 1, 1], 10_000 + n * 8 + i));
        let user = format!("u{n}");
        let id = format!("call{n}");
        let plan = if rng.chance(35) {
            Plan::CancelAfter(rng.between(50, 2500) * MS)
        } else {
            Plan::HangUpAfter(rng.between(10, 4000) * MS)
        };
        let forks = u16::try_from(rng.between(1, 3)).unwrap_or(1);
        let mut callees = Vec::new();
        for i in 0..forks {
            let after = rng.between(20, 2500) * MS;
            let manner = match rng.between(0, 9) {
                // A call that is not cancelled must end by itself: somebody has to do something.
                0..=2 if matches!(plan, Plan::CancelAfter(_)) || i > 0 => Manner::Rings,
                3 => Manner::Refuses(after),
                _ => Manner::Answers(after),
            };
            let registrar = Registrar::new(addr(1 + i), user.clone(), from, None);
            callees.push((registrar, Callee::new(addr(1 + i), manner)));
        }
        // One that refuses and one that rings on would wait for timer C.
        let ends = callees.iter().any(|(_, c)| matches!(c.manner, Manner::Answers(_)))
            || callees.iter().all(|(_, c)| matches!(c.manner, Manner::Refuses(_)));
        if !ends
            && matches!(plan, Plan::HangUpAfter(_))
            && let Some((_, callee)) = callees.first_mut()
        {
            callee.manner = Manner::Answers(100 * MS);
        }
        Self { caller: Caller::new(addr(0), &user, &id, plan), id, callees, begun: false }
    }

    /// Whether it has come to an end.
    #[must_use]
    pub fn over(&self) -> bool {
        self.begun && self.caller.over()
    }
}

/// All phones.
#[derive(Debug, Default)]
pub struct Phones {
    /// Phones that only register.
    pub registrars: Vec<Registrar>,
    /// Calls.
    pub calls: Vec<Call>,
}

/// What a phone sends.
pub type Sent = (SocketAddr, String);

impl Phones {
    /// Something has come for the phone at `to`.
    pub fn on(&mut self, to: SocketAddr, text: &str, now: u64, rng: &mut Rng) -> Vec<Sent> {
        let mut out = Vec::new();
        let registering = sip::cseq(text).is_some_and(|(_, method)| method == "REGISTER");
        if let Some(registrar) = self.registrars.iter_mut().find(|r| r.at == to) {
            registrar.on(text, now, rng);
        }
        for call in &mut self.calls {
            if call.caller.at == to {
                call.caller.on(text, now, &mut out);
            }
            for (registrar, callee) in call.callees.iter_mut().filter(|(_, c)| c.at == to) {
                if registering {
                    registrar.on(text, now, rng);
                } else {
                    callee.on(text, now, &mut out);
                }
            }
        }
        out.into_iter().map(|text| (to, text)).collect()
    }

    /// Time goes on.
    pub fn tick(&mut self, now: u64) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut add = |at: SocketAddr, out: &mut Vec<String>| sent.extend(out.drain(..).map(|t| (at, t)));
        let mut out = Vec::new();
        for registrar in &mut self.registrars {
            registrar.tick(now, &mut out);
            add(registrar.at, &mut out);
        }
        for call in
            self.calls.iter_mut().filter(|c| !c.over() || c.callees.iter().any(|(_, c)| c.repeated.is_some()))
        {
            for (registrar, callee) in &mut call.callees {
                registrar.tick(now, &mut out);
                callee.tick(now, &mut out);
                add(callee.at, &mut out);
            }
            if !call.begun && call.callees.iter().all(|(r, _)| r.confirmed > 0) {
                call.begun = true;
                call.caller.begin(now, &mut out);
            }
            if call.begun {
                call.caller.tick(now, &mut out);
            }
            add(call.caller.at, &mut out);
        }
        sent
    }
}
