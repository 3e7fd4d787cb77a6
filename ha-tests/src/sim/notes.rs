//! MESSAGE to users who may have no phone yet: who writes, and the phones that read.
//!
//! | a reader | then |
//! |---|---|
//! | registers before, while or long after somebody writes | the proxy passes it on, or keeps it |
//! | refuses for now, and registers another phone | the proxy delivers it there |
//! | takes it | a repetition of the same request is answered again, and is no second message |

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::base::{MS, Rng};
use super::client::{Registrar, Repeated, T2};
use super::sip;

/// Where writers and readers are; each user has eight ports from [`FIRST_PORT`] on.
const HOST: [u8; 4] = [10, 9, 1, 6];
/// See [`HOST`].
const FIRST_PORT: u16 = 12_000;

/// One MESSAGE. Its body is its Call-ID.
#[derive(Debug)]
pub struct Note {
    /// Call-ID and body.
    pub id: String,
    user: String,
    at: SocketAddr,
    from: u64,
    asked: Option<Repeated>,
    begun: bool,
    /// First final answer.
    pub told: Option<u16>,
}

/// A phone that takes messages.
#[derive(Debug)]
pub struct Reader {
    registrar: Registrar,
    /// So many are refused first, for now.
    refuses: u64,
    /// What was said to each request, by Call-ID and CSeq number.
    said: BTreeMap<(String, u32), String>,
    /// Requests by which it has taken a message, by body.
    pub taken: BTreeMap<String, Vec<(String, u32)>>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Notes {
    /// Messages.
    pub all: Vec<Note>,
    /// Phones.
    pub readers: Vec<Reader>,
}

fn at(user: u16, i: u16) -> SocketAddr {
    SocketAddr::from((HOST, FIRST_PORT + user * 8 + i))
}

impl Note {
    fn text(&self) -> String {
        let Self { id, user, at, .. } = self;
        let domain = sip::DOMAIN;
        format!(
            "MESSAGE sip:{user}@{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{id};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:writer@{domain}>;tag=w{id}\r\nTo: <sip:{user}@{domain}>\r\n\
             Call-ID: {id}\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{id}",
            id.len()
        )
    }
}

impl Reader {
    fn on(&mut self, text: &str) -> Option<String> {
        let (number, method) = sip::cseq(text)?;
        if method != "MESSAGE" || sip::status(text).is_some() {
            return None;
        }
        let of = (sip::header(text, "Call-ID")?, number);
        if let Some(said) = self.said.get(&of) {
            // Said anew for this copy: that of another node may have another Via.
            let status = sip::status(said).unwrap_or(200);
            return Some(sip::respond(text, status, "m", None));
        }
        let status = if self.refuses > 0 { 480 } else { 200 };
        self.refuses = self.refuses.saturating_sub(1);
        if status == 200 {
            self.taken.entry(sip::body(text).to_owned()).or_default().push(of.clone());
        }
        let said = sip::respond(text, status, "m", None);
        self.said.insert(of, said.clone());
        Some(said)
    }
}

impl Notes {
    /// Some users, messages for each, and phones that come sometime in `from..until`, ns.
    pub fn draw(&mut self, from: u64, until: u64, rng: &mut Rng) {
        let sometime = |rng: &mut Rng| rng.between(from / MS, until / MS) * MS;
        for user in 0..u16::try_from(rng.between(1, 3)).unwrap_or(1) {
            let name = format!("m{user}");
            for n in 0..rng.between(1, 3) {
                self.all.push(Note {
                    id: format!("note{user}x{n}"),
                    user: name.clone(),
                    at: at(user, 0),
                    from: sometime(rng),
                    asked: None,
                    begun: false,
                    told: None,
                });
            }
            let begin = sometime(rng);
            let again = rng.chance(30).then(|| begin + rng.between(200, 3_000) * MS);
            // Who has one phone refuses once at most: the next pause of the proxy is longer than a world lasts.
            let refuses = if again.is_some() { rng.between(1, 2) } else { u64::from(rng.chance(5)) };
            for (i, (begin, refuses)) in
                (1..).zip([Some((begin, refuses)), again.map(|a| (a, 0))].into_iter().flatten())
            {
                let at = at(user, i);
                let contact = format!("<sip:{name}@{at}>");
                let registrar = Registrar::new(at, name.clone(), contact, begin, None);
                self.readers.push(Reader {
                    registrar,
                    refuses,
                    said: BTreeMap::new(),
                    taken: BTreeMap::new(),
                });
            }
        }
    }

    /// Something has come for `to`; `None`: nobody is there.
    pub fn on(&mut self, to: SocketAddr, text: &str, now: u64, rng: &mut Rng) -> Option<Vec<String>> {
        if to.ip() != IpAddr::from(HOST) {
            return None;
        }
        if let Some(reader) = self.readers.iter_mut().find(|r| r.registrar.at == to) {
            if sip::status(text).is_some() {
                reader.registrar.on(text, now, rng);
            }
            return Some(reader.on(text).into_iter().collect());
        }
        let call = sip::header(text, "Call-ID")?;
        let note = self.all.iter_mut().find(|n| n.at == to && n.id == call)?;
        if let Some(status) = sip::status(text).filter(|s| *s >= 200) {
            note.asked = None;
            note.told.get_or_insert(status);
        }
        Some(Vec::new())
    }

    /// Time goes on.
    pub fn tick(&mut self, now: u64, mut send: impl FnMut(SocketAddr, &mut Vec<String>)) {
        let mut out = Vec::new();
        for reader in &mut self.readers {
            reader.registrar.tick(now, &mut out);
            send(reader.registrar.at, &mut out);
        }
        for note in &mut self.all {
            if !note.begun && now >= note.from {
                note.begun = true;
                let text = note.text();
                out.push(text.clone());
                note.asked = Some(Repeated::new(now, text, T2));
            }
            if note.asked.as_mut().is_some_and(|r| !r.tick(now, &mut out)) {
                note.asked = None;
            }
            send(note.at, &mut out);
        }
    }

    /// Whether somebody has taken it.
    #[must_use]
    pub fn is_taken(&self, note: &Note) -> bool {
        self.readers.iter().any(|r| r.taken.contains_key(&note.id))
    }

    /// Whether all have been answered, and all that was promised is done.
    #[must_use]
    pub fn over(&self) -> bool {
        let is_over = |n: &Note| n.begun && n.asked.is_none() && (n.told != Some(202) || self.is_taken(n));
        self.all.iter().all(is_over)
    }
}
