//! Simulated phones: they register, call, hang up before and after the answer, and repeat what is not answered, as
//! RFC 3261 has it for UDP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::base::{MS, Rng};
use super::call::{Call, Kind};
use super::callee::Manner;
use super::peers::{Carrier, Pbxs};
use super::setup::{CARRIER, PBXS};
use super::sip;

/// T1 and T2 of RFC 3261 table 4, ns.
const T1: u64 = 500 * MS;
/// See [`T1`].
pub const T2: u64 = 4000 * MS;

/// Something sent again until it is answered.
#[derive(Debug, Clone)]
pub struct Repeated {
    text: String,
    at: u64,
    interval: u64,
    cap: u64,
    end: u64,
}

impl Repeated {
    /// Sent now; the pause between two doubles up to `cap`, ns.
    #[must_use]
    pub fn new(now: u64, text: String, cap: u64) -> Self {
        Self { text, at: now + T1, interval: T1, cap, end: now + 64 * T1 }
    }

    /// Sends again where that is due; `false` when it is over.
    pub fn tick(&mut self, now: u64, out: &mut Vec<String>) -> bool {
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
    contact: String,
    number: u32,
    next_at: u64,
    asked: Option<Repeated>,
    /// Newest CSeq that was answered with 200.
    pub confirmed: u32,
    /// Pauses between two registrations, ns; none: one registration only.
    every: Option<(u64, u64)>,
}

impl Registrar {
    /// Begins at `from`; `contact` is the whole Contact value.
    #[must_use]
    pub fn new(at: SocketAddr, user: String, contact: String, from: u64, every: Option<(u64, u64)>) -> Self {
        Self { at, user, contact, number: 0, next_at: from, asked: None, confirmed: 0, every }
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
            let text = sip::register(&self.user, self.at, self.number, &self.contact);
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
    /// Answers of other phones than the first: each gets its BYE.
    others: BTreeMap<String, Option<Repeated>>,
    bye_at: u64,
    bye: Option<Repeated>,
    /// A provisional response came: the proxy has promised to see it through.
    pub promised: bool,
    /// First final response to the INVITE.
    pub outcome: Option<u16>,
    /// All that it was ever told: statuses of final responses to the INVITE.
    pub told: BTreeSet<u16>,
    /// When that came, ns.
    pub ended: Option<u64>,
    /// Answer to its BYE.
    pub bye_answer: Option<u16>,
    /// It heard nothing at all, or nobody answered its BYE.
    pub gave_up: bool,
}

impl Caller {
    /// The caller of `user`, under this Call-ID.
    #[must_use]
    pub fn new(at: SocketAddr, user: &str, call: &str, plan: Plan) -> Self {
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
            others: BTreeMap::new(),
            told: BTreeSet::new(),
            bye_at: u64::MAX,
            bye: None,
            promised: false,
            outcome: None,
            ended: None,
            bye_answer: None,
            gave_up: false,
        }
    }

    /// The To tag of the answer that it has taken.
    #[must_use]
    pub fn answered_by(&self) -> Option<String> {
        self.ok.as_deref().map(sip::to_tag)
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
                if let Some(other) = self.others.get_mut(&sip::to_tag(text)) {
                    *other = None;
                    return;
                }
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
                self.ended.get_or_insert(now);
                self.told.insert(status);
                if status < 300 {
                    out.push(sip::in_dialog("ACK", 1, text, self.at));
                    let tag = sip::to_tag(text);
                    if self.ok.as_ref().is_some_and(|ok| sip::to_tag(ok) != tag)
                        && !self.others.contains_key(&tag)
                    {
                        // RFC 3261 §13.2.2.4: who has one call ends the others.
                        let bye = sip::in_dialog("BYE", 2, text, self.at);
                        out.push(bye.clone());
                        self.others.insert(tag, Some(Repeated::new(now, bye, T2)));
                    }
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
        for other in self.others.values_mut() {
            if other.as_mut().is_some_and(|r| !r.tick(now, out)) {
                *other = None;
                self.gave_up = true;
            }
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
            Some(200) => {
                (self.bye_answer.is_some() || self.gave_up) && self.others.values().all(Option::is_none)
            }
            Some(_) => true,
            None => self.gave_up && !self.promised,
        }
    }
}

/// All phones, and who else there is to be called.
#[derive(Debug, Default)]
pub struct Phones {
    /// Phones that only register.
    pub registrars: Vec<Registrar>,
    /// Calls.
    pub calls: Vec<Call>,
    /// The carrier of the trunk.
    pub carrier: Carrier,
    /// The PBXs.
    pub pbxs: Pbxs,
    /// Backends and trunk are known to the cluster: they can be called.
    pub provisioned: bool,
}

/// What a phone sends.
pub type Sent = (SocketAddr, String);

impl Phones {
    /// Whether nothing listens at `to`, so that an ICMP error goes back.
    #[must_use]
    pub fn is_absent(&self, to: SocketAddr) -> bool {
        let mut callees = self.calls.iter().flat_map(|c| &c.callees);
        callees.any(|c| c.at == to && c.manner == Manner::Absent)
    }

    /// A PBX dies, if one can be spared. Says which.
    pub fn pbx_dies(&mut self, detail: u64) -> Option<SocketAddr> {
        let dead = self.pbxs.die(detail)?;
        for callee in self.calls.iter_mut().flat_map(|c| &mut c.callees).filter(|c| c.at == dead) {
            callee.die();
        }
        Some(dead)
    }

    /// What is no phone at `to` says to this; `None` if it is for a phone or a call.
    fn peer_says(&mut self, to: SocketAddr, text: &str, now: u64) -> Option<Vec<String>> {
        let method = text.split(' ').next().unwrap_or_default();
        if to == CARRIER && method == "REGISTER" {
            return Some(vec![self.carrier.on_register(text, now)]);
        }
        if PBXS.contains(&to) && method == "OPTIONS" {
            let dead = self.pbxs.is_dead(to);
            return Some(if dead { Vec::new() } else { vec![sip::respond(text, 200, "o", None)] });
        }
        None
    }

    /// Something has come for the phone at `to`.
    pub fn on(&mut self, to: SocketAddr, text: &str, now: u64, rng: &mut Rng) -> Vec<Sent> {
        let mut out = Vec::new();
        if let Some(said) = self.peer_says(to, text, now) {
            return said.into_iter().map(|text| (to, text)).collect();
        }
        let registering = sip::cseq(text).is_some_and(|(_, method)| method == "REGISTER");
        if let Some(registrar) = self.registrars.iter_mut().find(|r| r.at == to) {
            registrar.on(text, now, rng);
        }
        for call in &mut self.calls {
            if call.caller.at == to {
                call.caller.on(text, now, &mut out);
            }
            if registering {
                for registrar in call.registrars.iter_mut().filter(|r| r.at == to) {
                    registrar.on(text, now, rng);
                }
            } else if let Some(callee) = call.callees.iter_mut().find(|c| c.is_meant(to, text)) {
                callee.on(text, now, &mut out);
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
        let provisioned = self.provisioned;
        let is_live = |c: &Call| !c.over() || c.callees.iter().any(|c| c.is_busy() || c.is_ringing());
        for call in self.calls.iter_mut().filter(|c| is_live(c)) {
            for registrar in &mut call.registrars {
                registrar.tick(now, &mut out);
                add(registrar.at, &mut out);
            }
            for callee in &mut call.callees {
                callee.tick(now, &mut out);
                add(callee.at, &mut out);
            }
            let ready = provisioned || !matches!(call.kind, Kind::Pool | Kind::Trunk);
            let registered = call.registrars.iter().all(|r| r.confirmed > 0);
            if call.begun.is_none() && ready && registered && now >= call.from {
                call.begun = Some(now);
                call.caller.begin(now, &mut out);
            }
            if call.begun.is_some() {
                call.caller.tick(now, &mut out);
            }
            add(call.caller.at, &mut out);
        }
        sent
    }
}
