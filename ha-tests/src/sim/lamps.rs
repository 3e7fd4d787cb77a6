//! Watchers of calls: they subscribe, some once more, and keep what the newest NOTIFY showed them.
//!
//! | a watcher | asks for | then |
//! |---|---|---|
//! | stays | an hour | refreshes perhaps, sometime; must be told of calls until the world ends |
//! | leaves | a few seconds | lets it run out; must not be told of its end before that |

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::base::{MS, Rng};
use super::client::{Repeated, T2};
use super::sip;

/// Where watchers are, from [`FIRST_PORT`] on.
const HOST: [u8; 4] = [10, 9, 1, 7];
/// See [`HOST`].
const FIRST_PORT: u16 = 13_000;
/// Expiry that a watcher who stays asks for, in seconds.
const LONG_S: u64 = 3_600;

/// A call as a watcher sees it: its Call-ID, the direction and the state of RFC 4235 §4.1.
pub type Seen = (String, String, String);

/// One watcher.
#[derive(Debug)]
pub struct Watcher {
    /// Call-ID of its subscription.
    pub call: String,
    /// Whose calls it watches.
    pub user: String,
    at: SocketAddr,
    from: u64,
    lasts_s: u64,
    refresh_at: u64,
    number: u32,
    asked: Option<Repeated>,
    to_tag: String,
    /// When its SUBSCRIBE was accepted, ns.
    pub accepted: Option<u64>,
    /// For how long, by that answer: less than was asked for where it came late.
    granted_s: u64,
    /// Other answers than 200.
    pub refused: Vec<u16>,
    newest: u32,
    /// The calls that the newest NOTIFY showed, but for those that are over.
    pub shown: BTreeSet<Seen>,
    /// When it was told that the subscription is over, ns.
    pub ended: Option<u64>,
}

impl Watcher {
    /// Whether it wants to be told of calls to the end of the world.
    #[must_use]
    pub fn stays(&self) -> bool {
        self.lasts_s == LONG_S
    }

    /// The earliest end that was agreed, ns; none if it was not accepted.
    #[must_use]
    pub fn may_end(&self) -> Option<u64> {
        Some(self.accepted? + self.granted_s * 1_000 * MS)
    }

    fn subscribe(&mut self, now: u64, out: &mut Vec<String>) {
        self.number += 1;
        let Self { call, user, at, number, lasts_s, to_tag, .. } = &*self;
        let domain = sip::DOMAIN;
        // A refresh goes to the Contact of the 200, which is the proxy itself.
        let (uri, tag) = match to_tag.as_str() {
            "" => (format!("sip:{user}@{domain}"), String::new()),
            tag => (format!("sip:{}", super::setup::vip()), format!(";tag={tag}")),
        };
        let text = format!(
            "SUBSCRIBE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{call}n{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:watcher@{domain}>;tag=w{call}\r\nTo: <sip:{user}@{domain}>{tag}\r\n\
             Call-ID: {call}\r\nCSeq: {number} SUBSCRIBE\r\nContact: <sip:watcher@{at}>\r\nEvent: dialog\r\n\
             Accept: application/dialog-info+xml\r\nExpires: {lasts_s}\r\nContent-Length: 0\r\n\r\n"
        );
        out.push(text.clone());
        self.asked = Some(Repeated::new(now, text, T2));
    }

    fn on(&mut self, text: &str, now: u64, out: &mut Vec<String>) {
        let Some((number, method)) = sip::cseq(text) else { return };
        match sip::status(text) {
            Some(status) if method == "SUBSCRIBE" && status >= 200 => {
                if number != self.number || self.asked.take().is_none() {
                    return;
                }
                if status == 200 {
                    if self.accepted.is_none() {
                        self.accepted = Some(now);
                        self.granted_s =
                            sip::header(text, "Expires").and_then(|s| s.parse().ok()).unwrap_or(0);
                    }
                    self.to_tag = sip::to_tag(text);
                } else {
                    self.refused.push(status);
                }
            }
            None if method == "NOTIFY" => {
                out.push(sip::respond(text, 200, "w", None));
                // One that was overtaken tells nothing.
                if number <= self.newest {
                    return;
                }
                self.newest = number;
                self.shown = seen(sip::body(text));
                let state = sip::header(text, "Subscription-State").unwrap_or_default();
                if state.starts_with("terminated") {
                    self.ended.get_or_insert(now);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: u64, out: &mut Vec<String>) {
        // Nobody repeats what he does not want any more: a proxy that had accepted it long ago would begin anew.
        let is_late = !self.stays() && now >= self.from + self.lasts_s * 1_000 * MS;
        if is_late || self.asked.as_mut().is_some_and(|r| !r.tick(now, out)) {
            self.asked = None;
        }
        let is_due = if self.number == 0 {
            now >= self.from
        } else {
            self.accepted.is_some() && now >= self.refresh_at && self.asked.is_none()
        };
        if is_due {
            if self.number > 0 {
                self.refresh_at = u64::MAX;
            }
            self.subscribe(now, out);
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Lamps {
    /// In the order of their ports.
    pub watchers: Vec<Watcher>,
}

impl Lamps {
    /// Watchers of some of these users, who come sometime in `from..until`, ns.
    pub fn draw(&mut self, users: &[String], from: u64, until: u64, rng: &mut Rng) {
        let sometime = |rng: &mut Rng, from: u64| rng.between(from / MS, until.max(from) / MS) * MS;
        for n in 0..u16::try_from(rng.between(2, 5)).unwrap_or(2) {
            let Some(index) = rng.pick(&(0..users.len()).collect::<Vec<_>>()) else { return };
            let begin = sometime(rng, from);
            let stays = rng.chance(75);
            let refreshes = stays && rng.chance(50);
            self.watchers.push(Watcher {
                call: format!("watch{n}"),
                user: users.get(index).cloned().unwrap_or_default(),
                at: SocketAddr::from((HOST, FIRST_PORT + n)),
                from: begin,
                lasts_s: if stays { LONG_S } else { rng.between(3, 8) },
                refresh_at: if refreshes { sometime(rng, begin) } else { u64::MAX },
                number: 0,
                asked: None,
                to_tag: String::new(),
                accepted: None,
                granted_s: 0,
                refused: Vec::new(),
                newest: 0,
                shown: BTreeSet::new(),
                ended: None,
            });
        }
    }

    /// Something has come for `to`; `None`: nobody is there.
    pub fn on(&mut self, to: SocketAddr, text: &str, now: u64) -> Option<Vec<String>> {
        let watcher = self.watchers.iter_mut().find(|w| w.at == to)?;
        let mut out = Vec::new();
        watcher.on(text, now, &mut out);
        Some(out)
    }

    /// Time goes on.
    pub fn tick(&mut self, now: u64, mut send: impl FnMut(SocketAddr, &mut Vec<String>)) {
        let mut out = Vec::new();
        for watcher in &mut self.watchers {
            watcher.tick(now, &mut out);
            send(watcher.at, &mut out);
        }
    }
}

/// The calls of a document that are not over.
fn seen(document: &str) -> BTreeSet<Seen> {
    let within = |text: &str, from: &str, to: &str| {
        let rest = text.split_once(from).map_or("", |(_, rest)| rest);
        rest.split_once(to).map_or("", |(value, _)| value).to_owned()
    };
    let calls = document.split("<dialog ").skip(1).map(|dialog| {
        let state = within(dialog, "<state>", "</state>");
        (within(dialog, " call-id=\"", "\""), within(dialog, " direction=\"", "\""), state)
    });
    calls.filter(|(.., state)| state != "terminated").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_shows_the_calls_that_are_not_over() {
        let document = "<dialog-info version=\"0\"><dialog id=\"1\" call-id=\"c1\" direction=\"recipient\">\
                        <state>confirmed</state></dialog><dialog id=\"2\" direction=\"initiator\">\
                        <state>terminated</state></dialog></dialog-info>";
        let call = ["c1", "recipient", "confirmed"].map(str::to_owned);
        assert_eq!(seen(document).into_iter().collect::<Vec<_>>(), vec![call.into()]);
    }
}
