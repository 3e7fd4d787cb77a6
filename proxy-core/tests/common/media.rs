//! rtpengines that answer, and phones with SDP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::EngineConfig;
use proxy_core::media::bencode::{Dict, Value};
use proxy_core::media::{MediaConfig, Node, Usage};
use proxy_core::state::{MediaCommand, SipCommand};

pub const ALICE: &str = "10.77.0.50:5070";
pub const BOB: &str = "10.77.0.60:5080";
pub const BOB2: &str = "10.77.0.61:5080";
pub const BOB_URI: &str = "sip:bob@lab.test";
pub const ONE: &str = "10.77.0.41:2223";
pub const TWO: &str = "10.77.0.42:2223";

/// rtpengines that answer what the engine asks.
pub struct Media {
    pub w: World,
    pub dead: BTreeSet<SocketAddr>,
    /// What a question gets in place of SDP.
    pub refuses: Option<&'static str>,
    /// Whose SDP was in the questions, by its `o=`, and where it was said to come from.
    pub told: Vec<String>,
}

pub fn media(usage: Usage) -> MediaConfig {
    let nodes = [ONE, TWO].map(|a| Node { address: addr(a), weight: 1, set: 0 }).to_vec();
    let (caller, callee) = (String::from("RTP/AVP"), String::from("RTP/SAVPF ICE=force"));
    MediaConfig { nodes, usage, caller, callee, ..MediaConfig::default() }
}

pub fn world() -> Media {
    with(media(Usage::Always))
}

pub fn with(media: MediaConfig) -> Media {
    let w = World::with(EngineConfig { media, ..config() });
    Media { w, dead: BTreeSet::new(), refuses: None, told: Vec::new() }
}

pub fn dict(bytes: &[u8]) -> (String, Dict) {
    let at = bytes.iter().position(|b| *b == b' ').expect("a cookie");
    let Some(Value::Dict(dict)) = Value::read(&bytes[at + 1..]) else { panic!("no dictionary") };
    (String::from_utf8(bytes[..at].to_vec()).expect("text"), dict)
}

pub fn word(dict: &Dict, key: &str) -> String {
    let text = dict.get(key.as_bytes()).and_then(Value::text).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

impl Media {
    /// The rtpengines answer all that they are asked, but for pings, and all that follows. What was asked, in words.
    pub fn serve(&mut self) -> Vec<String> {
        let mut asked = Vec::new();
        while !self.w.media.is_empty() {
            asked.extend(self.serve_first());
        }
        asked
    }

    /// The same with the oldest question alone.
    pub fn serve_first(&mut self) -> Vec<String> {
        let mut asked = Vec::new();
        if let Some((to, bytes)) = self.w.media.pop_front() {
            let (cookie, dict) = dict(&bytes);
            let verb = word(&dict, "command");
            let tags = format!("{}>{}", word(&dict, "from-tag"), word(&dict, "to-tag"));
            if verb != "ping" {
                asked.push(format!("{verb} {tags} at {to}"));
                let sdp = word(&dict, "sdp");
                let whose = sdp.lines().find_map(|l| l.strip_prefix("o=")).unwrap_or_default();
                let source = dict.get(b"received-from".as_slice()).map_or("", |_| " from elsewhere");
                self.told.push(format!("{verb} {whose}{source}"));
            }
            if self.dead.contains(&to) {
                return asked;
            }
            let answer = match (verb.as_str(), self.refuses) {
                ("ping", _) => String::from("d6:result4:ponge"),
                ("delete", _) => String::from("d6:result2:oke"),
                (_, Some(text)) => text.to_owned(),
                _ => {
                    let sdp =
                        format!("v=0\r\ns={verb} {tags} {to} {}\r\n", word(&dict, "transport-protocol"));
                    format!("d6:result2:ok3:sdp{}:{sdp}e", sdp.len())
                }
            };
            let answer = format!("{cookie} {answer}");
            self.w.engine.handle_media(self.w.now, to, answer.as_bytes(), &self.w.state);
            self.w.settle();
        }
        asked
    }

    /// Time passes, while the rtpengines answer.
    pub fn pass(&mut self, d: Duration) -> Vec<String> {
        let mut asked = Vec::new();
        let step = Duration::from_millis(50);
        let mut left = d;
        while !left.is_zero() {
            let now = left.min(step);
            self.w.pass(now);
            asked.extend(self.serve());
            left -= now;
        }
        asked
    }

    /// One node of both whatever the Call-ID says: the other is put aside.
    pub fn only(&mut self, node: &str) {
        for each in [ONE, TWO] {
            let command =
                MediaCommand::SetDisabled { node: addr(each), disabled: each != node, at: self.w.now.wall };
            self.w.state.apply(&SipCommand::Media(command));
        }
    }

    pub fn both(&mut self) {
        for each in [ONE, TWO] {
            let command =
                MediaCommand::SetDisabled { node: addr(each), disabled: false, at: self.w.now.wall };
            self.w.state.apply(&SipCommand::Media(command));
        }
    }

    /// Alice calls bob, who rings.
    pub fn call(&mut self, id: &str) -> String {
        self.w.register("bob", BOB);
        self.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, id), "alice"));
        self.serve();
        self.w.expect(ALICE, "SIP/2.0 100 ");
        self.w.expect(BOB, "INVITE ")
    }

    /// ... and answers. What bob got, what alice got.
    pub fn answered(&mut self, id: &str) -> (String, String) {
        let got = self.call(id);
        self.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
        self.serve();
        let ok = self.w.expect(ALICE, "SIP/2.0 200 ");
        self.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
        self.w.expect(BOB, "ACK ");
        (got, ok)
    }
}

pub fn contact(at: &str) -> String {
    format!("Contact: <sip:bob@{at}>\r\n")
}

pub fn with_sdp(message: &str, name: &str) -> String {
    let sdp = format!("v=0\r\no={name}\r\nc=IN IP4 203.0.113.9\r\n");
    let head = message.strip_suffix("Content-Length: 0\r\n\r\n").expect("no body");
    format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len())
}

pub fn sdp(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
