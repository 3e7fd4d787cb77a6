//! Who is called: a phone, a PBX, voicemail or the carrier, as one call sees it.

use std::net::SocketAddr;

use super::client::{Repeated, T2};
use super::peers::challenge;
use super::rtp::phone_sdp;
use super::sip;

/// What a callee does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Rings until it is told to stop.
    Rings,
    /// Answers after so long, ns.
    Answers(u64),
    /// Refuses after so long, ns, with this status.
    Refuses(u64, u16),
    /// There is nobody: an ICMP error comes back.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Idle,
    Ringing,
    Answered,
    Talking,
    Failed,
    Over,
    /// It has died with its call.
    Gone,
}

/// The callee of one call.
#[derive(Debug)]
pub struct Callee {
    /// Where it is; PBXs, voicemail and carrier are callees of many calls at the same place.
    pub at: SocketAddr,
    /// What it does.
    pub manner: Manner,
    /// It asks for credentials first.
    challenges: bool,
    call: String,
    state: At,
    invite: String,
    branch: String,
    tag: String,
    last: String,
    act_at: u64,
    repeated: Option<Repeated>,
    /// The copy without credentials: its branch, and the challenge until it is acknowledged.
    challenged: Option<(String, String, Option<Repeated>)>,
    /// How often it began to ring: more than once is a second fork.
    pub rang: u32,
}

impl Callee {
    /// One of the call with this Call-ID.
    #[must_use]
    pub fn new(at: SocketAddr, call: &str, manner: Manner) -> Self {
        Self {
            at,
            manner,
            challenges: false,
            call: call.to_owned(),
            state: At::Idle,
            invite: String::new(),
            branch: String::new(),
            tag: format!("t{}x{call}", at.port()),
            last: String::new(),
            act_at: u64::MAX,
            repeated: None,
            challenged: None,
            rang: 0,
        }
    }

    /// The same, but it asks for credentials first.
    #[must_use]
    pub fn challenging(self) -> Self {
        Self { challenges: true, ..self }
    }

    /// Whether a message for this address is for it.
    #[must_use]
    pub fn is_meant(&self, to: SocketAddr, text: &str) -> bool {
        self.at == to && sip::header(text, "Call-ID").is_some_and(|id| id == self.call)
    }

    /// Whether it rings now.
    #[must_use]
    pub fn is_ringing(&self) -> bool {
        self.state == At::Ringing
    }

    /// Whether it believes to be in a call that the caller has acknowledged.
    #[must_use]
    pub fn is_talking(&self) -> bool {
        self.state == At::Talking
    }

    /// Whether it has something to repeat.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.repeated.is_some() || self.challenged.as_ref().is_some_and(|(.., repeated)| repeated.is_some())
    }

    /// Its machine dies: calls that were not answered are lost.
    pub fn die(&mut self) {
        if matches!(self.state, At::Idle | At::Ringing | At::Failed) {
            self.state = At::Gone;
            self.repeated = None;
            self.challenged = None;
        }
    }

    fn finish(&mut self, now: u64, status: u16, out: &mut Vec<String>) {
        self.last = sip::respond(&self.invite, status, &self.tag, (status < 300).then_some(self.at));
        if status < 300 && !sip::body(&self.invite).is_empty() {
            self.last = sip::with_sdp(&self.last, &phone_sdp(self.at));
        }
        out.push(self.last.clone());
        self.repeated = Some(Repeated::new(now, self.last.clone(), T2));
        self.act_at = u64::MAX;
        self.state = if status < 300 { At::Answered } else { At::Failed };
    }

    /// A message has come.
    pub fn on(&mut self, text: &str, now: u64, out: &mut Vec<String>) {
        if self.state == At::Gone {
            return;
        }
        let branch = sip::branch(text);
        match text.split(' ').next().unwrap_or_default() {
            "INVITE" if self.challenged.as_ref().is_some_and(|(of, ..)| *of == branch) => {
                out.extend(self.challenged.as_ref().map(|(_, said, _)| said.clone()));
            }
            "INVITE" if self.challenges && sip::header(text, "Proxy-Authorization").is_none() => {
                let said = sip::respond_with(text, 407, "ch", &challenge("Proxy-Authenticate"));
                out.push(said.clone());
                let repeated = Repeated::new(now, said.clone(), T2);
                self.challenged = Some((branch, said, Some(repeated)));
            }
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
                    Manner::Rings | Manner::Absent => u64::MAX,
                    Manner::Answers(after) | Manner::Refuses(after, _) => now + after,
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
                if let Some((_, _, repeated)) = self.challenged.as_mut().filter(|(of, ..)| *of == branch) {
                    *repeated = None;
                    return;
                }
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

    /// Time goes on.
    pub fn tick(&mut self, now: u64, out: &mut Vec<String>) {
        if self.state == At::Ringing && now >= self.act_at {
            match self.manner {
                Manner::Answers(_) => self.finish(now, 200, out),
                Manner::Refuses(_, status) => self.finish(now, status, out),
                Manner::Rings | Manner::Absent => {}
            }
        }
        if self.repeated.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.repeated = None;
        }
        if let Some((_, _, challenge)) = &mut self.challenged
            && challenge.as_mut().is_some_and(|r| !r.tick(now, out))
        {
            *challenge = None;
        }
    }
}
