//! Who calls: INVITE, CANCEL before the answer, BYE after it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::base::MS;
use super::client::{Repeated, T2};
use super::rtp::phone_sdp;
use super::sip;

/// What the caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Hangs up an answered call after so long.
    HangUpAfter(u64),
    /// Stays in an answered call to the end of the world.
    Stays,
    /// Sends CANCEL so long after the start, if there was a provisional response.
    CancelAfter(u64),
}

/// The caller of one call.
#[derive(Debug)]
pub struct Caller {
    /// Where it is.
    pub at: SocketAddr,
    user: String,
    call: String,
    plan: Plan,
    /// Its INVITE has SDP.
    pub offers: bool,
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
            offers: false,
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

    /// It would go on talking if the world did.
    #[must_use]
    pub fn stays(&self) -> bool {
        self.plan == Plan::Stays
    }

    /// Instead of hanging up at some time, it does not.
    pub fn stay(&mut self) {
        if matches!(self.plan, Plan::HangUpAfter(_)) {
            self.plan = Plan::Stays;
        }
    }

    /// The To tag of the answer that it has taken.
    #[must_use]
    pub fn answered_by(&self) -> Option<String> {
        self.ok.as_deref().map(sip::to_tag)
    }

    /// Sends its INVITE.
    pub fn begin(&mut self, now: u64, out: &mut Vec<String>) {
        let mut text = sip::of_call("INVITE", &self.user, self.at, &self.call, "");
        if self.offers {
            text = sip::with_sdp(&text, &phone_sdp(self.at));
        }
        out.push(text.clone());
        self.start = now;
        self.invite = Some(Repeated::new(now, text, u64::MAX));
    }

    /// Something has come for its call.
    pub fn on(&mut self, text: &str, now: u64, out: &mut Vec<String>) {
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
                                Plan::Stays => u64::MAX - now,
                            };
                    }
                } else {
                    out.push(sip::of_call("ACK", &self.user, self.at, &self.call, &sip::to_tag(text)));
                }
            }
            _ => {}
        }
    }

    /// Time goes on.
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
                (self.bye_answer.is_some() || self.gave_up || self.stays())
                    && self.others.values().all(Option::is_none)
            }
            Some(_) => true,
            None => self.gave_up && !self.promised,
        }
    }
}
