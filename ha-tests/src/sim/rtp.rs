//! Simulated rtpengines: their `ng` protocol, with offers, answers and deletions of calls, and a process that may die.
//!
//! | told | then |
//! |---|---|
//! | a cookie that it has seen | what it said then |
//! | offer | SDP of its own; the call is held |
//! | answer | SDP of its own; an error if the call is not held |
//! | delete | the call is not held any more |
//! | anything, while its process is away | nothing; when it is back it knows no calls and no cookies |

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proxy_core::media::bencode::{Dict, Value, write_dict};

use super::base::{MS, Rng};
use super::setup::RTPENGINES;

/// What SDP of an rtpengine says, and no phone's.
pub const MARK: &str = "s=rtpengine";

/// SDP of a phone.
#[must_use]
pub fn phone_sdp(at: SocketAddr) -> String {
    let (ip, port) = (at.ip(), at.port());
    format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=phone\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n")
}

/// Command and Call-ID of a question.
fn asked(question: &[u8]) -> Option<(String, String)> {
    let at = question.iter().position(|b| *b == b' ')?;
    let Value::Dict(asked) = Value::read(question.get(at + 1..)?)? else { return None };
    let text = |key: &[u8]| {
        String::from_utf8_lossy(asked.get(key).and_then(Value::text).unwrap_or_default()).into_owned()
    };
    Some((text(b"command"), text(b"call-id")))
}

/// Whether a question has this command.
#[must_use]
pub fn says(question: &[u8], word: &str) -> bool {
    asked(question).is_some_and(|(command, _)| command == word)
}

/// The call that a question wants to be deleted.
#[must_use]
pub fn deletes(question: &[u8]) -> Option<String> {
    asked(question).filter(|(command, _)| command == "delete").map(|(_, call)| call)
}

/// The call that a question has an answer for.
#[must_use]
pub fn answers(question: &[u8]) -> Option<String> {
    asked(question).filter(|(command, _)| command == "answer").map(|(_, call)| call)
}

/// A question, for the trace.
#[must_use]
pub fn short(question: &[u8]) -> String {
    asked(question)
        .map_or(String::from("what is no question"), |(command, call)| format!("{command} [{call}]"))
}

/// What happened with media in a world.
#[derive(Debug, Clone, Copy, Default)]
pub struct MediaCounts {
    /// Offers and answers that rtpengines gave SDP for.
    pub given: u64,
    /// Calls that were deleted there.
    pub deleted: u64,
    /// Calls that one is left with: their deletion went with the node that asked.
    pub excused: u64,
}

/// One rtpengine.
#[derive(Debug)]
pub struct RtpEngine {
    /// Where its `ng` protocol is spoken.
    pub at: SocketAddr,
    said: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Calls that it holds.
    pub held: BTreeSet<String>,
    /// Calls that it held when its process died.
    forgotten: BTreeSet<String>,
    /// When its process dies, and when it is back, ns.
    away: Option<(u64, u64)>,
    is_away: bool,
}

/// All of them.
#[derive(Debug)]
pub struct RtpEngines {
    /// In the order of [`RTPENGINES`].
    pub all: Vec<RtpEngine>,
    /// Offers and answers that were given.
    pub given: u64,
    /// Calls that were deleted.
    pub deleted: u64,
}

impl Default for RtpEngines {
    fn default() -> Self {
        let engine = |at| RtpEngine {
            at,
            said: BTreeMap::new(),
            held: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            away: None,
            is_away: false,
        };
        Self { all: RTPENGINES.map(engine).into_iter().collect(), given: 0, deleted: 0 }
    }
}

impl RtpEngines {
    /// In some worlds one of them dies for a while, sometime in `from..until`, ns.
    pub fn draw(&mut self, from: u64, until: u64, rng: &mut Rng) {
        let index = usize::from(rng.chance(50));
        let at = rng.between(from / MS, until / MS) * MS;
        let lasts = rng.between(100, 5_000) * MS;
        if rng.chance(40)
            && let Some(engine) = self.all.get_mut(index)
        {
            engine.away = Some((at, at + lasts));
        }
    }

    /// When one of them was away, ns.
    #[must_use]
    pub fn away(&self) -> Option<(u64, u64)> {
        self.all.iter().find_map(|e| e.away)
    }

    /// Whether the one at `to` held this call when its process died, and has heard of no offer since.
    #[must_use]
    pub fn forgot(&self, to: SocketAddr, call: &str) -> bool {
        self.all.iter().any(|e| e.at == to && e.forgotten.contains(call) && !e.held.contains(call))
    }

    /// Time goes on.
    pub fn tick(&mut self, now: u64) {
        for engine in &mut self.all {
            let is_away = engine.away.is_some_and(|(from, until)| from <= now && now < until);
            if is_away && !engine.is_away {
                engine.forgotten.append(&mut engine.held);
                engine.said.clear();
            }
            engine.is_away = is_away;
        }
    }

    /// A question has come for the one at `to`.
    pub fn on(&mut self, to: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        let engine = self.all.iter_mut().find(|e| e.at == to && !e.is_away)?;
        let at = bytes.iter().position(|b| *b == b' ')?;
        let (cookie, rest) = bytes.split_at_checked(at)?;
        if let Some(said) = engine.said.get(cookie) {
            return Some(said.clone());
        }
        let Value::Dict(asked) = Value::read(rest.get(1..)?)? else { return None };
        let text = |key: &[u8]| asked.get(key).and_then(Value::text);
        let call = String::from_utf8_lossy(text(b"call-id").unwrap_or_default()).into_owned();
        let mut answer = Dict::new();
        let mut result = "ok";
        match text(b"command")? {
            b"ping" => result = "pong",
            b"answer" if !engine.held.contains(&call) => {
                result = "error";
                answer.insert(b"error-reason".to_vec(), Value::from("Unknown call-id"));
            }
            b"offer" | b"answer" => {
                let ip = to.ip();
                let sdp = format!(
                    "v=0\r\no=- 2 2 IN IP4 {ip}\r\n{MARK}\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0\r\n"
                );
                answer.insert(b"sdp".to_vec(), Value::from(sdp.as_str()));
                engine.held.insert(call);
                self.given += 1;
            }
            b"delete" => self.deleted += u64::from(engine.held.remove(&call)),
            _ => {}
        }
        answer.insert(b"result".to_vec(), Value::from(result));
        let mut said = cookie.to_vec();
        said.push(b' ');
        write_dict(&answer, &mut said);
        engine.said.insert(cookie.to_vec(), said.clone());
        Some(said)
    }
}
