//! Stories of calls whose media go through rtpengines: what those are asked, what the phones get, and what a node knows
//! that takes over.

mod common {
    pub mod story;
}

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use common::story::*;
use proxy_core::io::EngineConfig;
use proxy_core::media::bencode::{Dict, Value};
use proxy_core::media::{DEAD_PING, MediaConfig, Node, OnFailure, Usage};
use proxy_core::state::{MediaCommand, SipCommand};

const ALICE: &str = "10.77.0.50:5070";
const BOB: &str = "10.77.0.60:5080";
const BOB2: &str = "10.77.0.61:5080";
const BOB_URI: &str = "sip:bob@lab.test";
const ONE: &str = "10.77.0.41:2223";
const TWO: &str = "10.77.0.42:2223";

/// rtpengines that answer what the engine asks.
struct Media {
    w: World,
    dead: BTreeSet<SocketAddr>,
    /// What a question gets in place of SDP.
    refuses: Option<&'static str>,
}

fn media(usage: Usage) -> MediaConfig {
    let nodes = [ONE, TWO].map(|a| Node { address: addr(a), weight: 1, set: 0 }).to_vec();
    let (caller, callee) = (String::from("RTP/AVP"), String::from("RTP/SAVPF ICE=force"));
    MediaConfig { nodes, usage, caller, callee, ..MediaConfig::default() }
}

fn world() -> Media {
    with(media(Usage::Always))
}

fn with(media: MediaConfig) -> Media {
    let w = World::with(EngineConfig { media, ..config() });
    Media { w, dead: BTreeSet::new(), refuses: None }
}

fn dict(bytes: &[u8]) -> (String, Dict) {
    let at = bytes.iter().position(|b| *b == b' ').expect("a cookie");
    let Some(Value::Dict(dict)) = Value::read(&bytes[at + 1..]) else { panic!("no dictionary") };
    (String::from_utf8(bytes[..at].to_vec()).expect("text"), dict)
}

fn word(dict: &Dict, key: &str) -> String {
    let text = dict.get(key.as_bytes()).and_then(Value::text).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

impl Media {
    /// The rtpengines answer all that they are asked, but for pings, and all that follows. What was asked, in words.
    fn serve(&mut self) -> Vec<String> {
        let mut asked = Vec::new();
        while !self.w.media.is_empty() {
            asked.extend(self.serve_first());
        }
        asked
    }

    /// The same with the oldest question alone.
    fn serve_first(&mut self) -> Vec<String> {
        let mut asked = Vec::new();
        if let Some((to, bytes)) = self.w.media.pop_front() {
            let (cookie, dict) = dict(&bytes);
            let verb = word(&dict, "command");
            let tags = format!("{}>{}", word(&dict, "from-tag"), word(&dict, "to-tag"));
            if verb != "ping" {
                asked.push(format!("{verb} {tags} at {to}"));
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
    fn pass(&mut self, d: Duration) -> Vec<String> {
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
    fn only(&mut self, node: &str) {
        for each in [ONE, TWO] {
            let command =
                MediaCommand::SetDisabled { node: addr(each), disabled: each != node, at: self.w.now.wall };
            self.w.state.apply(&SipCommand::Media(command));
        }
    }

    fn both(&mut self) {
        for each in [ONE, TWO] {
            let command =
                MediaCommand::SetDisabled { node: addr(each), disabled: false, at: self.w.now.wall };
            self.w.state.apply(&SipCommand::Media(command));
        }
    }

    /// Alice calls bob, who rings.
    fn call(&mut self, id: &str) -> String {
        self.w.register("bob", BOB);
        self.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, id), "alice"));
        self.serve();
        self.w.expect(ALICE, "SIP/2.0 100 ");
        self.w.expect(BOB, "INVITE ")
    }

    /// ... and answers. What bob got, what alice got.
    fn answered(&mut self, id: &str) -> (String, String) {
        let got = self.call(id);
        self.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
        self.serve();
        let ok = self.w.expect(ALICE, "SIP/2.0 200 ");
        self.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
        self.w.expect(BOB, "ACK ");
        (got, ok)
    }
}

fn contact(at: &str) -> String {
    format!("Contact: <sip:bob@{at}>\r\n")
}

fn with_sdp(message: &str, name: &str) -> String {
    let sdp = format!("v=0\r\no={name}\r\nc=IN IP4 203.0.113.9\r\n");
    let head = message.strip_suffix("Content-Length: 0\r\n\r\n").expect("no body");
    format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len())
}

fn sdp(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn offer_answer_and_deletion_of_a_call() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.w.expect_nothing(ALICE);
    m.w.expect_nothing(BOB);
    assert_eq!(m.serve(), ["offer ac1> at 10.77.0.41:2223"]);
    m.w.expect(ALICE, "SIP/2.0 100 ");
    let got = m.w.expect(BOB, "INVITE ");
    assert_eq!(sdp(&got), "v=0\r\ns=offer ac1> 10.77.0.41:2223 RTP/SAVPF\r\n");
    assert_eq!(header(&got, "Content-Length"), Some(sdp(&got).len().to_string()));

    // Early media, then the same SDP again in the 2xx: asked once.
    m.w.send(BOB, &with_sdp(&respond(&got, 183, "b", &contact(BOB)), "bob"));
    m.w.expect_nothing(ALICE);
    assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
    let early = m.w.expect(ALICE, "SIP/2.0 183 ");
    assert_eq!(sdp(&early), "v=0\r\ns=answer ac1>b 10.77.0.41:2223 RTP/AVP\r\n");
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    assert_eq!(m.serve(), Vec::<String>::new());
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(sdp(&ok), sdp(&early));
    let dialog = m.w.state.dialogs().next().expect("a dialog");
    assert_eq!(dialog.media.as_ref().map(|s| s.node), Some(addr(ONE)));
    assert_eq!(m.w.state.media_load(addr(ONE)), 1);

    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    m.w.expect(BOB, "ACK ");
    m.w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = m.w.expect(BOB, "BYE ");
    assert_eq!(m.serve(), Vec::<String>::new());
    m.w.send(BOB, &respond(&bye, 200, "b", ""));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
    m.w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(m.w.state.media_load(addr(ONE)), 0);
    let c = m.w.engine.counters();
    assert_eq!((c.media_offers, c.media_answers, c.media_deletes, c.media_failed), (1, 1, 1, 0));
    assert!(m.w.state.index_is_right());
}

#[test]
fn what_comes_again_while_it_waits_is_absorbed() {
    let mut m = world();
    m.w.register("bob", BOB);
    let invite = with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice");
    m.w.send(ALICE, &invite);
    m.w.send(ALICE, &invite);
    assert_eq!(m.serve().len(), 1);
    m.w.expect(ALICE, "SIP/2.0 100 ");
    let got = m.w.expect(BOB, "INVITE ");
    let ok = with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob");
    m.w.send(BOB, &ok);
    m.w.send(BOB, &ok);
    assert_eq!(m.serve().len(), 1);
    m.w.expect(ALICE, "SIP/2.0 200 ");
    // The ACK was lost: the answer that is known goes on.
    m.w.send(BOB, &ok);
    assert_eq!(m.serve(), Vec::<String>::new());
    let again = m.w.expect(ALICE, "SIP/2.0 200 ");
    assert!(sdp(&again).contains("s=answer"), "{again}");
}

#[test]
fn a_question_is_repeated_with_its_cookie_and_then_another_rtpengine_is_asked() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.dead.insert(addr(ONE));
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.both();
    let first = m.w.media.front().cloned().expect("a question");
    m.w.pass(Duration::from_millis(950));
    let offers: Vec<_> = m.w.media.iter().filter(|(to, _)| *to == addr(ONE)).cloned().collect();
    let same = offers.iter().filter(|o| **o == first).count();
    assert_eq!(same, 4, "at 0, 100, 300 and 700 ms: {offers:?}");
    m.w.media.clear();
    m.w.pass(Duration::from_millis(100));
    assert_eq!(m.serve(), ["offer ac1> at 10.77.0.42:2223"]);
    assert!(sdp(&m.w.expect(BOB, "INVITE ")).contains(TWO));
    let pending = m.w.state.pending_invites().next().expect("pending");
    assert_eq!(pending.media.as_ref().map(|s| s.node), Some(addr(TWO)));
    assert_eq!(m.w.engine.counters().media_timeouts, 1);
    // It is not asked again, until it answers a ping.
    m.w.take(ALICE);
    for n in 2..6 {
        m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, &format!("c{n}")), "alice"));
        assert!(m.serve().iter().all(|q| q.contains(TWO)));
    }
    m.dead.clear();
    m.pass(DEAD_PING * 2);
    m.only(ONE);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c9"), "alice"));
    assert_eq!(m.serve(), ["offer ac9> at 10.77.0.41:2223"]);
}

#[test]
fn a_full_rtpengine_hands_the_call_to_the_next() {
    let mut m = world();
    m.refuses = Some("d6:result10:load limite");
    m.w.register("bob", BOB);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    let asked = m.serve();
    assert_eq!(asked.len(), 2, "each once: {asked:?}");
    assert_ne!(asked.first(), asked.last());
    // Kamailio's habit: better a call without media relay than none.
    assert!(sdp(&m.w.expect(BOB, "INVITE ")).contains("o=alice"));
    assert_eq!(m.w.state.pending_invites().next().expect("pending").media, None);
}

#[test]
fn without_any_rtpengine_a_request_passes_or_is_refused_as_configured() {
    let refused = "d12:error-reason3:bad6:result5:errore";
    let cases = [(None, "SIP/2.0 503 No Media Proxy"), (Some(refused), "SIP/2.0 488 ")];
    for (refuses, status) in cases {
        for on_failure in [OnFailure::Pass, OnFailure::Reject] {
            let mut m = with(MediaConfig { on_failure, ..media(Usage::Always) });
            m.w.register("bob", BOB);
            m.refuses = refuses;
            if refuses.is_none() {
                m.dead = [addr(ONE), addr(TWO)].into();
            }
            m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
            m.pass(Duration::from_millis(2500));
            assert_eq!(m.w.engine.counters().media_failed, 1);
            match on_failure {
                OnFailure::Pass => {
                    let all = m.w.take(BOB);
                    assert!(all.iter().all(|i| sdp(i).contains("o=alice")) && !all.is_empty(), "{all:?}");
                }
                OnFailure::Reject => {
                    m.w.expect(ALICE, status);
                    m.w.expect_nothing(BOB);
                }
            }
        }
    }
}

#[test]
fn only_calls_with_a_side_behind_a_nat_unless_the_configuration_says_otherwise() {
    // Bob has registered from elsewhere than he says.
    const OUTSIDE: &str = "203.0.113.8:4000";
    let natted_bob = |m: &mut Media| {
        m.w.send(OUTSIDE, &register("bob", BOB, 1, "<sip:bob@192.168.1.9:5060>"));
        m.w.expect(OUTSIDE, "SIP/2.0 200 ");
    };
    for (usage, natted, wanted) in [
        (Usage::Natted, false, 0),
        (Usage::Natted, true, 1),
        (Usage::Always, false, 1),
        (Usage::Off, true, 0),
    ] {
        let mut m = with(media(usage));
        match natted {
            true => natted_bob(&mut m),
            false => m.w.register("bob", BOB),
        }
        m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
        assert_eq!(m.serve().len(), wanted, "{usage:?} {natted}");
        m.w.expect(if natted { OUTSIDE } else { BOB }, "INVITE ");
    }
    // The caller counts as well.
    let mut m = with(media(Usage::Natted));
    m.w.register("bob", BOB);
    let invite =
        with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice").replace("alice@10.77.0.50", "alice@192.168.1.5");
    m.w.send("203.0.113.7:4000", &invite);
    assert_eq!(m.serve().len(), 1);
}

#[test]
fn a_private_address_in_sdp_is_told_with_the_one_it_came_from() {
    let mut m = world();
    m.w.register("bob", BOB);
    let invite = with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice").replace("203.0.113.9", "192.168.1.99");
    let invite = invite.replace("Content-Length: 40", "Content-Length: 41");
    m.w.send(ALICE, &invite);
    let (_, bytes) = m.w.media.front().cloned().expect("a question");
    let (_, dict) = dict(&bytes);
    let list = |key: &[u8]| match dict.get(key) {
        Some(Value::List(list)) => list.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(list(b"received-from"), [Value::from("IP4"), Value::from("10.77.0.50")]);
    assert_eq!(list(b"flags"), [Value::from("SIP-source-address")]);
    assert_eq!(word(&dict, "ICE"), "force");
}

#[test]
fn forks_have_one_offer_and_an_answer_each() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(BOB2, &register("bob", BOB2, 1, &format!("<sip:bob@{BOB2}>")));
    m.w.take(BOB2);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    assert_eq!(m.serve(), ["offer ac1> at 10.77.0.41:2223"]);
    let (one, two) = (m.w.expect(BOB, "INVITE "), m.w.expect(BOB2, "INVITE "));
    assert_eq!(sdp(&one), sdp(&two));
    m.w.send(BOB, &with_sdp(&respond(&one, 183, "b1", &contact(BOB)), "one"));
    m.w.send(BOB2, &with_sdp(&respond(&two, 183, "b2", &contact(BOB2)), "two"));
    assert_eq!(m.serve(), ["answer ac1>b1 at 10.77.0.41:2223", "answer ac1>b2 at 10.77.0.41:2223"]);
    let early = m.w.take(ALICE);
    assert_eq!(early.iter().filter(|r| r.starts_with("SIP/2.0 183 ")).count(), 2, "{early:?}");
    m.w.send(BOB2, &with_sdp(&respond(&two, 200, "b2", &contact(BOB2)), "two"));
    m.serve();
    assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")).contains("ac1>b2"));
    // The loser ends; the call of the winner goes on, and its media.
    let cancel = m.w.expect(BOB, "CANCEL ");
    m.w.send(BOB, &respond(&cancel, 200, "b1", ""));
    m.w.send(BOB, &respond(&one, 487, "b1", ""));
    assert_eq!(m.serve(), Vec::<String>::new());
}

#[test]
fn the_fork_that_answers_is_named_last_also_when_its_sdp_is_known() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(BOB2, &register("bob", BOB2, 1, &format!("<sip:bob@{BOB2}>")));
    m.w.take(BOB2);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.serve();
    let (one, two) = (m.w.expect(BOB, "INVITE "), m.w.expect(BOB2, "INVITE "));
    m.w.send(BOB, &with_sdp(&respond(&one, 183, "b1", &contact(BOB)), "one"));
    m.w.send(BOB2, &with_sdp(&respond(&two, 183, "b2", &contact(BOB2)), "two"));
    m.serve();
    // The second one has spoken since: the rtpengine would send alice's voice there.
    m.w.send(BOB, &with_sdp(&respond(&one, 200, "b1", &contact(BOB)), "one"));
    assert_eq!(m.serve(), ["answer ac1>b1 at 10.77.0.41:2223"]);
}

#[test]
fn an_explanation_names_the_rtpengine_and_asks_nobody() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    let text = with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice");
    let lines = proxy_core::engine::Engine::explained(
        m.w.config.clone(),
        m.w.now,
        flow_of(addr(ALICE)),
        None,
        text.as_bytes(),
        &m.w.state,
    );
    let said: Vec<String> = lines.iter().map(|l| format!("{l:?}")).collect();
    assert!(said.iter().any(|l| l.contains("by rtpengine 10.77.0.41:2223")), "{said:#?}");
    assert!(said.iter().any(|l| l.contains("INVITE") && l.contains("sends")), "{said:#?}");
}

/// A node is lost after each step of a call; phones repeat what they have said last. Both get the SDP of the rtpengine
/// and nothing else, and in the end it is told.
#[test]
fn wherever_the_active_node_is_lost_phones_get_the_sdp_of_the_rtpengine_and_it_is_told_the_end() {
    // Steps: how many questions to rtpengines and verdicts go through before the node is lost.
    for lost_at in 0..8 {
        let mut m = world();
        m.only(ONE);
        m.w.register("bob", BOB);
        m.w.cluster = Cluster::Waits;
        let mut left = lost_at;
        let mut asked = Vec::new();
        // Says it, lets things happen one by one, and says it again until `heard` has got what it waits for.
        let mut say = |m: &mut Media, from: &str, text: &str, heard: &str, start: &str| {
            for _ in 0..4 {
                m.w.send(from, text);
                loop {
                    if left == 0 {
                        left = usize::MAX;
                        m.w.fail_over(Duration::from_millis(300));
                        break;
                    }
                    let is_question = !m.w.media.is_empty();
                    if is_question {
                        let rest = m.w.media.split_off(1);
                        asked.extend(m.serve_first());
                        m.w.media.extend(rest);
                    } else if !m.w.verdict() {
                        break;
                    }
                    m.w.settle();
                    left -= 1;
                }
                let got = m.w.take(heard).into_iter().rfind(|t| t.starts_with(start));
                if let Some(got) = got {
                    return got;
                }
                m.w.tick(Duration::from_millis(500));
            }
            panic!("{heard} never gets {start} when the node is lost at {lost_at}");
        };
        let invite = with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice");
        let got = say(&mut m, ALICE, &invite, BOB, "INVITE ");
        assert!(sdp(&got).contains("s=offer"), "{lost_at}: {got}");
        let early = with_sdp(&respond(&got, 183, "b", &contact(BOB)), "bob");
        let ringing = say(&mut m, BOB, &early, ALICE, "SIP/2.0 183 ");
        assert!(sdp(&ringing).contains("s=answer"), "{lost_at}: {ringing}");
        let ok = with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob");
        let ok = say(&mut m, BOB, &ok, ALICE, "SIP/2.0 200 ");
        assert!(sdp(&ok).contains("s=answer"), "{lost_at}: {ok}");
        say(&mut m, ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE), BOB, "ACK ");
        let bye = in_dialog_of_caller("BYE", 2, &ok, ALICE);
        let got = say(&mut m, ALICE, &bye, BOB, "BYE ");
        m.w.send(BOB, &respond(&got, 200, "b", ""));
        if lost_at % 2 == 1 {
            // Lost before the end is safe: alice, who has no answer, asks again, and bob answers again.
            m.serve();
            m.w.fail_over(Duration::from_millis(300));
            m.w.take(BOB);
            m.w.send(ALICE, &bye);
            let again = m.w.expect(BOB, "BYE ");
            m.w.send(BOB, &respond(&again, 200, "b", ""));
        }
        m.w.cluster = Cluster::Commits;
        m.w.settle();
        asked.extend(m.serve());
        assert!(asked.last().is_some_and(|q| q.starts_with("delete ac1>")), "{lost_at}: {asked:?}");
        assert_eq!(m.w.state.media_load(addr(ONE)), 0, "{lost_at}");
    }
}

#[test]
fn a_cancelled_call_is_deleted() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &respond(&got, 180, "b", ""));
    m.w.take(ALICE);
    m.w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    m.w.take(BOB);
    assert_eq!(m.serve(), Vec::<String>::new());
    m.w.send(BOB, &respond(&got, 487, "b", ""));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
}

#[test]
fn a_call_that_is_cancelled_while_its_offer_waits_calls_nobody() {
    let mut m = world();
    m.w.register("bob", BOB);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    m.w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    let all = m.w.take(ALICE);
    assert!(
        all.iter().any(|r| r.starts_with("SIP/2.0 200 "))
            && all.iter().any(|r| r.starts_with("SIP/2.0 487 "))
    );
    let asked = m.serve();
    assert!(asked.last().is_some_and(|q| q.starts_with("delete ac1>")), "{asked:?}");
    m.w.expect_nothing(BOB);
}

#[test]
fn a_call_that_fails_is_deleted_and_one_that_is_tried_again_is_not() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &respond(&got, 486, "b", ""));
    m.w.expect(ALICE, "SIP/2.0 486 ");
    // The answer to the deletion is lost, and the caller tries again with the same Call-ID.
    assert_eq!(m.w.media.pop_front().map(|(to, _)| to), Some(addr(ONE)));
    let again =
        invite(BOB_URI, ALICE, "c1").replace("CSeq: 1 ", "CSeq: 2 ").replace("z9hG4bKc1", "z9hG4bKc1x");
    m.w.send(ALICE, &with_sdp(&again, "alice"));
    let asked = m.pass(Duration::from_secs(2));
    assert_eq!(asked, ["offer ac1> at 10.77.0.41:2223"], "no deletion comes after the offer");
}

#[test]
fn a_late_offer_is_answered_by_the_ack() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    assert_eq!(m.serve(), Vec::<String>::new());
    m.w.expect(ALICE, "SIP/2.0 100 ");
    let got = m.w.expect(BOB, "INVITE ");
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    assert_eq!(m.serve(), ["offer b>ac1 at 10.77.0.41:2223"]);
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(sdp(&ok), "v=0\r\ns=offer b>ac1 10.77.0.41:2223 RTP/AVP\r\n");
    let ack = with_sdp(&in_dialog_of_caller("ACK", 1, &ok, ALICE), "alice");
    m.w.send(ALICE, &ack);
    m.w.send(ALICE, &ack);
    m.w.expect_nothing(BOB);
    assert_eq!(m.serve(), ["answer b>ac1 at 10.77.0.41:2223"]);
    assert_eq!(sdp(&m.w.expect(BOB, "ACK ")), "v=0\r\ns=answer b>ac1 10.77.0.41:2223 RTP/SAVPF\r\n");
}

#[test]
fn a_dead_rtpengine_is_replaced_at_the_next_reinvite_of_either_side() {
    for by_callee in [false, true] {
        let mut m = world();
        m.only(ONE);
        let (got, ok) = m.answered("c1");
        m.both();
        m.dead.insert(addr(ONE));
        // It is not known yet that it is dead: the offer finds out, and goes on at the other.
        let (asker, answerer) = if by_callee { (BOB, ALICE) } else { (ALICE, BOB) };
        let again = match by_callee {
            true => in_dialog_of_callee("INVITE", 7, &got, "b", BOB),
            false => in_dialog_of_caller("INVITE", 2, &ok, ALICE),
        };
        m.w.send(asker, &with_sdp(&again, "again"));
        let asked = m.pass(Duration::from_millis(1100));
        let offer =
            if by_callee { "offer b>ac1 at 10.77.0.42:2223" } else { "offer ac1>b at 10.77.0.42:2223" };
        assert_eq!(asked.last().map(String::as_str), Some(offer));
        let again = m.w.take(answerer).into_iter().next().expect("the re-INVITE");
        assert!(again.starts_with("INVITE ") && sdp(&again).contains(TWO), "{again}");
        // SDP for the callee is as the callee wants it, whoever asks.
        assert!(sdp(&again).contains(if by_callee { "RTP/AVP\r" } else { "RTP/SAVPF" }), "{again}");
        m.w.take(asker);
        let extra = if by_callee { format!("Contact: <sip:alice@{ALICE}>\r\n") } else { contact(BOB) };
        m.w.send(answerer, &with_sdp(&respond(&again, 200, "x", &extra), "answer"));
        let asked = m.serve();
        let answer =
            if by_callee { "answer b>ac1 at 10.77.0.42:2223" } else { "answer ac1>b at 10.77.0.42:2223" };
        assert_eq!(asked.first().map(String::as_str), Some(answer));
        assert!(asked.contains(&String::from("delete ac1> at 10.77.0.41:2223")), "{asked:?}");
        assert!(sdp(&m.w.expect(asker, "SIP/2.0 200 ")).contains(TWO));
        let dialog = m.w.state.dialogs().next().expect("a dialog");
        let session = dialog.media.as_ref().expect("media");
        assert_eq!((session.node, session.to_caller.as_str()), (addr(TWO), "RTP/AVP"));
        assert_eq!((m.w.state.media_load(addr(ONE)), m.w.state.media_load(addr(TWO))), (0, 1));
        assert_eq!(m.w.engine.counters().media_moved, 1);
    }
}

#[test]
fn an_rtpengine_that_is_put_aside_keeps_its_calls() {
    let mut m = world();
    m.only(ONE);
    let (_, ok) = m.answered("c1");
    m.only(TWO);
    m.w.send(ALICE, &with_sdp(&in_dialog_of_caller("INVITE", 2, &ok, ALICE), "again"));
    assert_eq!(m.serve(), ["offer ac1>b at 10.77.0.41:2223"]);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c2"), "alice"));
    assert_eq!(m.serve(), ["offer ac2> at 10.77.0.42:2223"]);
}

#[test]
fn an_update_is_offered_and_answered() {
    let mut m = world();
    m.only(ONE);
    let (_, ok) = m.answered("c1");
    m.w.send(ALICE, &with_sdp(&in_dialog_of_caller("UPDATE", 2, &ok, ALICE), "again"));
    assert_eq!(m.serve(), ["offer ac1>b at 10.77.0.41:2223"]);
    let update = m.w.expect(BOB, "UPDATE ");
    assert!(sdp(&update).contains("s=offer"));
    m.w.send(BOB, &with_sdp(&respond(&update, 200, "b", &contact(BOB)), "bob"));
    assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
    assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")).contains("s=answer"));
    // A session timer's UPDATE has none: nobody is asked.
    m.w.send(ALICE, &in_dialog_of_caller("UPDATE", 3, &ok, ALICE));
    assert_eq!(m.serve(), Vec::<String>::new());
    m.w.expect(BOB, "UPDATE ");
}

#[test]
fn an_update_before_the_answer_goes_where_the_call_is() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &with_sdp(&respond(&got, 183, "b", &contact(BOB)), "bob"));
    m.serve();
    m.w.take(ALICE);
    m.w.send(BOB, &with_sdp(&in_dialog_of_callee("UPDATE", 7, &got, "b", BOB), "again"));
    assert_eq!(m.serve(), ["offer b>ac1 at 10.77.0.41:2223"]);
    assert!(sdp(&m.w.expect(ALICE, "UPDATE ")).contains("RTP/AVP\r"));
}

#[test]
fn after_a_takeover_while_it_rings_the_answer_goes_through_the_same_rtpengine_and_the_end_is_told() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &respond(&got, 180, "b", ""));
    m.w.take(ALICE);
    m.both();
    m.w.fail_over(Duration::from_millis(300));
    // A retransmission to the byte: the phone takes it for one.
    assert_eq!(m.w.expect(BOB, "INVITE "), got);
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
    let ok = m.w.expect(ALICE, "SIP/2.0 200 ");
    assert!(sdp(&ok).contains("s=answer ac1>b"));
    m.w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
    m.w.expect(BOB, "ACK ");
    m.w.fail_over(Duration::from_millis(300));
    m.w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = m.w.take(BOB).into_iter().find(|r| r.starts_with("BYE ")).expect("a BYE");
    m.w.send(BOB, &respond(&bye, 200, "b", ""));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
}

#[test]
fn an_answer_that_the_last_owner_had_asked_for_is_asked_for_again() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    let ok = with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob");
    m.w.send(BOB, &ok);
    let first = m.w.media.pop_front().expect("a question").1;
    m.w.fail_over(Duration::from_millis(300));
    m.w.take(BOB);
    m.w.send(BOB, &ok);
    let second = m.w.media.front().cloned().expect("a question").1;
    assert_ne!(
        dict(&first).0,
        dict(&second).0,
        "another cookie: the rtpengine does not take it for the old one"
    );
    assert_eq!(m.serve(), ["answer ac1>b at 10.77.0.41:2223"]);
    assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")).contains("s=answer"));
}

#[test]
fn after_a_takeover_with_the_ack_lost_the_2xx_still_has_the_sdp_of_the_rtpengine() {
    let mut m = world();
    m.only(ONE);
    let (got, _) = m.answered("c1");
    m.w.fail_over(Duration::from_millis(300));
    m.w.take(ALICE);
    m.w.take(BOB);
    m.w.send(BOB, &with_sdp(&respond(&got, 200, "b", &contact(BOB)), "bob"));
    m.serve();
    assert!(sdp(&m.w.expect(ALICE, "SIP/2.0 200 ")).contains("s=answer ac1>b"));
}

#[test]
fn a_cancelled_call_is_deleted_by_who_takes_over() {
    let mut m = world();
    m.only(ONE);
    let got = m.call("c1");
    m.w.send(BOB, &respond(&got, 180, "b", ""));
    m.w.send(ALICE, &cancel(BOB_URI, ALICE, "c1"));
    m.w.fail_over(Duration::from_millis(300));
    m.w.take(BOB);
    m.w.send(BOB, &respond(&got, 487, "b", ""));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
    // Lost again, before the caller has acknowledged the failure: nobody knows whether the deletion has left.
    m.w.fail_over(Duration::from_millis(300));
    assert_eq!(m.serve(), ["delete ac1> at 10.77.0.41:2223"]);
}

#[test]
fn a_call_that_lasts_too_long_is_deleted_with_the_byes() {
    let mut m = world();
    m.w.config.dialog_lifetime = Duration::from_secs(60);
    m.w.fail_over(Duration::ZERO);
    m.only(ONE);
    m.answered("c1");
    let asked = m.pass(Duration::from_secs(62));
    assert_eq!(asked, ["delete ac1> at 10.77.0.41:2223"]);
    assert!(m.w.take(BOB).iter().any(|r| r.starts_with("BYE ")));
}

#[test]
fn a_new_call_that_is_refused_for_a_limit_leaves_nothing_behind() {
    let mut m = world();
    m.only(ONE);
    m.w.register("bob", BOB);
    m.w.cluster = Cluster::Refuses(proxy_core::io::Refusal::Overloaded);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    assert_eq!(m.serve(), ["offer ac1> at 10.77.0.41:2223", "delete ac1> at 10.77.0.41:2223"]);
    m.w.expect(ALICE, "SIP/2.0 503 ");
}

#[test]
fn strangers_and_garbage_answer_nothing() {
    let mut m = world();
    m.w.register("bob", BOB);
    m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, "c1"), "alice"));
    let (to, bytes) = m.w.media.front().cloned().expect("a question");
    let (cookie, _) = dict(&bytes);
    let answer = format!("{cookie} d6:result2:ok3:sdp5:v=0\r\ne");
    let forged: [(SocketAddr, Vec<u8>); 4] = [
        (addr("10.77.0.66:2223"), answer.clone().into_bytes()),
        (to, format!("0_1_0000000000000000 {}", &answer[cookie.len() + 1..]).into_bytes()),
        (to, b"\xff\xfe".to_vec()),
        (to, format!("{cookie} garbage").into_bytes()),
    ];
    for (from, bytes) in forged {
        m.w.engine.handle_media(m.w.now, from, &bytes, &m.w.state);
    }
    m.w.settle();
    m.w.expect_nothing(BOB);
    assert_eq!(m.w.engine.counters().dropped_stray, 4);
    m.w.engine.handle_media(m.w.now, to, answer.as_bytes(), &m.w.state);
    m.w.settle();
    assert_eq!(sdp(&m.w.expect(BOB, "INVITE ")), "v=0\r\n");
}

#[test]
fn two_nodes_choose_the_same_and_calls_are_shared() {
    let at = |id: &str| {
        let mut m = world();
        m.w.register("bob", BOB);
        m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, id), "alice"));
        m.serve()
    };
    let mut seen = BTreeSet::new();
    for n in 0..16 {
        let id = format!("call{n}");
        assert_eq!(at(&id), at(&id));
        seen.extend(at(&id).into_iter().filter_map(|q| q.rsplit(' ').next().map(str::to_owned)));
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    // The one with fewer calls gets the next.
    let mut m = world();
    m.w.register("bob", BOB);
    for n in 0..8 {
        m.w.send(ALICE, &with_sdp(&invite(BOB_URI, ALICE, &format!("c{n}")), "alice"));
        m.serve();
    }
    assert_eq!((m.w.state.media_load(addr(ONE)), m.w.state.media_load(addr(TWO))), (4, 4));
}
