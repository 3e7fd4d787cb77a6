//! Any REGISTER in any order: an answer to each, in which every line can be read, and never more than the bounds.

use proptest::collection::vec;
use proptest::prelude::*;
use proxy_core::io::EngineConfig;
use proxy_core::location::lookup;
use proxy_core::msg::{Message, ViaStamp};
use proxy_core::registrar::{answer, answer_refusal, judge};
use proxy_core::state::{Flow, SipCommand, SipResponse, SipState, Transport, limits};
use proxy_core::time::{MonoTime, Now, RealTime, WallTime};

/// Pieces that meet in Contact, Expires, Path and the like.
const PIECES: [&str; 40] = [
    "<",
    ">",
    "\"",
    ";",
    ",",
    "=",
    "*",
    " ",
    "\r\n ",
    "\t",
    "\\",
    "%",
    "%41",
    "@",
    ":",
    "?",
    "sip:",
    "sips:",
    "tel:",
    "a",
    "b@h",
    "10.0.0.1",
    "[::1]",
    ":5060",
    ":0",
    ";expires=",
    ";q=",
    ";reg-id=",
    ";+sip.instance=",
    "0",
    "1",
    "0.5",
    "60",
    "3600",
    "99999999999",
    ";lr",
    ";transport=tcp",
    ";maddr=",
    "\u{e9}",
    "\u{0}",
];

const NAMES: [&str; 8] =
    ["Contact: ", "m: ", "Expires: ", "Path: ", "Supported: ", "Require: ", "User-Agent: ", "To: "];

/// Contacts that can be read.
const CONTACTS: [&str; 7] = [
    "Contact: <sip:a@10.0.0.1>;expires=100\r\n",
    "Contact: <sip:b@10.0.0.1:5070>;q=0.5, <sip:c@h>\r\n",
    "Contact: <sip:a@10.0.0.1>;expires=0\r\n",
    "Contact: <sip:d@h>;+sip.instance=\"<i>\";reg-id=1\r\n",
    "Contact: <sip:e@h>;+sip.instance=\"<i>\";reg-id=2\r\n",
    "Contact: *\r\nExpires: 0\r\n",
    "Path: <sip:10.0.0.50;lr>\r\nSupported: path\r\nContact: <sip:f@[fd77::1]>\r\n",
];

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(&CONTACTS[..]).prop_map(str::to_owned),
        1 => (prop::sample::select(&NAMES[..]), vec(prop::sample::select(&PIECES[..]), 0..12))
            .prop_map(|(name, pieces)| format!("{name}{}\r\n", pieces.concat())),
    ]
}

fn register() -> impl Strategy<Value = (String, u64)> {
    (0u32..8, 0u8..2, vec(line(), 0..4), 0u64..5000).prop_map(|(cseq, call, lines, seconds)| {
        let head = format!(
            "REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=f\r\n\
             To: <sip:a@h>\r\nCall-ID: c{call}\r\nCSeq: {cseq} REGISTER\r\n"
        );
        (format!("{head}{}\r\n", lines.concat()), seconds)
    })
}

proptest! {
    #[test]
    fn every_register_is_answered_by_what_can_be_read(log in vec(register(), 1..12)) {
        let listen = "10.0.0.100:5060".parse().expect("an address");
        let remote = "10.0.0.1:5060".parse().expect("an address");
        let config = EngineConfig { listen: vec![listen], max_contacts: 4, ..EngineConfig::default() };
        let flow = Flow { transport: Transport::Udp, local: listen, remote };
        let mut state = SipState::default();
        for (text, seconds) in log {
            let now = Now { mono: MonoTime(0), wall: WallTime(seconds * 1000) };
            let Ok(message) = Message::parse(text.as_bytes()) else { continue };
            let mut out = Vec::new();
            let status = match judge(&message, &config, flow, now) {
                Ok(command) => {
                    let command = SipCommand::Register(command);
                    let outcome = state.apply(&command);
                    if let SipResponse::Registered(_) = outcome {
                        prop_assert_eq!(&outcome, &state.apply(&command), "a retransmission is accepted, too");
                    }
                    answer(&message, &outcome, &config, (now, RealTime(0)), "t", ViaStamp::default(), &mut out)
                }
                Err(why) => answer_refusal(&message, &why, &config, "t", ViaStamp::default(), &mut out),
            };
            let response = Message::parse(&out).expect("a response");
            prop_assert_eq!(response.status(), Some(status));
            prop_assert_eq!(response.raw().len(), out.len());
            if status == 200 {
                let current = lookup(&state, "sip:a@h", now.wall, &config.listen).len();
                prop_assert!(current <= response.contact_count() && response.contact_count() <= 4);
                for contact in response.contacts() {
                    let contact = contact.expect("a contact that can be read");
                    prop_assert!(contact.parse_uri().is_ok() && contact.q().is_ok());
                    prop_assert!(contact.expires().is_some_and(|e| (1..=3600).contains(&e)));
                }
                prop_assert!(response.paths().all(|p| p.is_ok()));
            }
            prop_assert!(state.counts().bindings <= limits::MAX_BINDINGS);
            prop_assert!(state.index_is_right());
        }
    }
}
