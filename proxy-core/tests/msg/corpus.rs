//! The messages of RFC 4475 and RFC 5118 against our own verdicts: the message layer, then the engine.
//!
//! The corpus is no part of the repository; without it this test says so and passes, and our own messages for the
//! same points stand alone (`rfc4475.rs`, `msg_torture.rs`).

use crate::common::corpus::Verdict::{Answer, Drop, Process, ProcessResponse};
use crate::common::corpus::{DOMAINS, Verdict, corpus, message};
use crate::common::story::{World, addr, config, flow_of};
use proxy_core::io::EngineConfig;
use proxy_core::msg::{Message, StartLine};

const FOLDERS: [&str; 2] = ["rfc4475", "rfc5118"];

fn verdict(bytes: &[u8]) -> Verdict {
    let Ok(message) = Message::parse(bytes) else { return Drop };
    match message.start_line() {
        StartLine::Request { .. } => match message.check_request() {
            Ok(()) => Process,
            Err(refusal) if refusal.answer => Answer(refusal.fault.status()),
            Err(_) => Drop,
        },
        StartLine::Response { .. } => message.check_response().map_or(Drop, |()| ProcessResponse),
    }
}

#[test]
fn every_message_of_rfc4475_and_rfc5118_gets_its_verdict() {
    let mut wrong = Vec::new();
    for (path, table) in FOLDERS.into_iter().filter_map(corpus) {
        for (name, expected, _) in table {
            let bytes = message(&path, name);
            let found = verdict(&bytes);
            if found != *expected {
                let message = Message::parse(&bytes).map(|m| format!("{:?}", m.check_request()));
                wrong.push(format!("{name}: expected {expected:?}, found {found:?} ({message:?})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_engine_answers_every_message_of_rfc4475_and_rfc5118_as_it_should() {
    const CALLER: &str = "10.77.0.20:5060";
    let mut wrong = Vec::new();
    for (path, table) in FOLDERS.into_iter().filter_map(corpus) {
        for (name, _, expected) in table {
            let domains = DOMAINS.map(String::from).to_vec();
            let mut w = World::with(EngineConfig { domains, ..config() });
            w.engine.handle_datagram(w.now, flow_of(addr(CALLER)), &message(&path, name), &w.state);
            w.settle();
            let heard: Vec<String> =
                w.sent.iter().map(|(_, m)| m.lines().next().unwrap_or_default().to_owned()).collect();
            let status = match heard.as_slice() {
                [] => 0,
                [one] => one.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(1),
                _ => 1,
            };
            if status != *expected {
                wrong.push(format!("{name}: expected {expected}, heard {heard:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_processed_message_is_forwarded_byte_for_byte_but_for_the_new_via() {
    for (path, table) in FOLDERS.into_iter().filter_map(corpus) {
        for (name, expected, _) in table {
            if *expected != Process {
                continue;
            }
            let bytes = message(&path, name);
            let message = Message::parse(&bytes).expect(name);
            let mut out = Vec::new();
            proxy_core::msg::Forward::new(&message)
                .push_via("SIP/2.0/UDP 192.0.2.77;branch=z9hG4bKours")
                .write(&mut out);
            let via = b"Via: SIP/2.0/UDP 192.0.2.77;branch=z9hG4bKours\r\n";
            let at = out.windows(via.len()).position(|w| w == via).expect(name);
            out.drain(at..at + via.len());
            let whole = message.raw().len();
            // dblreq carries a second message behind the first one.
            assert_eq!(out, message.raw()[..out.len().min(whole)], "{name}");
            assert!(*name == "dblreq" || out.len() == whole, "{name}");
        }
    }
}
