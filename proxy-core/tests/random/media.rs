//! Whatever rtpengines answer, and whenever: nothing panics, what phones get can be read, nothing is left in the end.

use std::time::Duration;

use crate::common::media::*;
use crate::common::story::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use proxy_core::media::Usage;
use proxy_core::media::bencode::{Dict, Value, write_dict};
use proxy_core::media::ng::shard_of_answer;

/// Largest SDP that is tried, in bytes: beyond what a datagram of SIP can carry.
const HUGE_SDP: usize = 66_000;

#[derive(Debug, Clone)]
enum Op {
    /// Alice calls, or calls again.
    Invite(u8, bool),
    /// She hangs up while it rings, or before.
    Cancel(u8),
    /// One of the phones says something to the last INVITE.
    Respond(u16, bool),
    /// One of the rtpengines says this to one of the questions.
    Say {
        nth: usize,
        answer: Vec<u8>,
        cookie: bool,
    },
    Pass(u64),
    Takeover,
}

fn sdp_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => Just(b"v=0\r\no=x\r\nc=IN IP4 192.0.2.1\r\n".to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..80),
        1 => Just(b"\r\n\r\nINVITE sip:x SIP/2.0\r\n".to_vec()),
        1 => (60_000..HUGE_SDP).prop_map(|n| vec![b'x'; n]),
    ]
}

/// Answers as they should be, and then not quite.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let result = prop_oneof![
        6 => Just("ok"), 1 => Just("pong"), 1 => Just("load limit"), 1 => Just("error"), 1 => Just("?"),
    ];
    let extra = prop::collection::vec(any::<u8>(), 0..6);
    let whole = (result, prop::option::weighted(0.8, sdp_bytes()), extra)
        .prop_map(|(result, sdp, extra)| {
            let mut dict = Dict::new();
            dict.insert(b"result".to_vec(), Value::from(result));
            if let Some(sdp) = sdp {
                dict.insert(b"sdp".to_vec(), Value::Text(sdp));
            }
            dict.insert(extra.clone(), Value::List(vec![Value::Text(extra), Value::Number(-1)]));
            let mut out = Vec::new();
            write_dict(&dict, &mut out);
            out
        })
        .boxed();
    let mutated =
        (whole.clone(), any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..3), 0usize..4);
    prop_oneof![
        4 => whole,
        2 => mutated.prop_map(|(mut bytes, at, new, cut)| {
            let at = at.index(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, new);
            bytes
        }),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u8..4, any::<bool>()).prop_map(|(n, sdp)| Op::Invite(n, sdp)),
        1 => (0u8..4).prop_map(Op::Cancel),
        3 => (prop_oneof![Just(183u16), Just(200), Just(486)], any::<bool>()).prop_map(|(s, sdp)| Op::Respond(s, sdp)),
        8 => (0usize..6, answer(), prop::bool::weighted(0.9)).prop_map(|(nth, answer, cookie)| Op::Say { nth, answer, cookie }),
        2 => (0u64..3000).prop_map(Op::Pass),
        1 => Just(Op::Takeover),
    ]
}

fn run(m: &mut Media, op: Op) {
    match op {
        Op::Invite(n, sdp) => {
            let text = invite(BOB_URI, ALICE, &format!("c{n}"));
            m.w.send(ALICE, &if sdp { with_sdp(&text, "alice") } else { text });
        }
        Op::Cancel(n) => m.w.send(ALICE, &cancel(BOB_URI, ALICE, &format!("c{n}"))),
        Op::Respond(status, sdp) => {
            let last = m.w.sent.iter().rev().find(|(to, t)| *to == addr(BOB) && t.starts_with("INVITE "));
            let Some((_, got)) = last.cloned() else { return };
            let text = respond(&got, status, "b", &contact(BOB));
            m.w.send(BOB, &if sdp { with_sdp(&text, "bob") } else { text });
        }
        Op::Say { nth, answer, cookie } => {
            let Some((from, question)) = m.w.media.get(nth).cloned() else { return };
            let (real, _) = dict(&question);
            let mut bytes = if cookie { real.into_bytes() } else { b"0_1_2".to_vec() };
            bytes.push(b' ');
            bytes.extend(answer);
            m.w.engine.handle_media(m.w.now, from, &bytes, &m.w.state);
            m.w.settle();
        }
        Op::Pass(ms) => m.w.pass(Duration::from_millis(ms)),
        Op::Takeover => m.w.fail_over(Duration::from_millis(300)),
    }
}

proptest! {
    // The same cases each time; PROPTEST_CASES and PROPTEST_RNG_SEED take others.
    #![proptest_config(ProptestConfig {
        cases: 300,
        max_shrink_time: 5000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_rtpengines_answer_nothing_panics_and_in_the_end_nothing_is_left(
        ops in prop::collection::vec(op(), 0..60)
    ) {
        let mut m = with(media(Usage::Always));
        m.w.register("bob", BOB);
        let most = ops.len() * (2048 + 4 * HUGE_SDP);
        for op in ops {
            run(&mut m, op);
            // What is sent can be read by whoever gets it: the story looks at each message.
            prop_assert!(m.w.sent.iter().all(|(_, text)| text.len() <= HUGE_SDP));
            prop_assert!(m.w.engine.held_bytes() <= most);
        }
        // No rtpengine and no phone says anything any more.
        for _ in 0..40 {
            m.w.pass(Duration::from_secs(30));
            m.w.media.clear();
            m.w.sent.clear();
        }
        prop_assert_eq!(m.w.engine.load(), (0, 0, 0));
        prop_assert_eq!(m.w.engine.held_bytes(), 0);
        prop_assert_eq!(m.w.state.counts().pending_invites, 0);
        prop_assert!(m.w.state.index_is_right());
    }

    #[test]
    fn what_is_read_is_written_as_it_was_and_cookies_lead_to_an_engine_or_nowhere(bytes in answer(), shard: u16) {
        if let Some(value) = Value::read(&bytes) {
            let mut again = Vec::new();
            value.write(&mut again);
            prop_assert_eq!(Value::read(&again), Some(value));
            // Never longer than what was read.
            prop_assert!(again.len() <= bytes.len());
        }
        let mut answer = format!("{shard:x}_1_2 ").into_bytes();
        answer.extend(&bytes);
        prop_assert_eq!(shard_of_answer(&answer), Some(shard));
    }
}
