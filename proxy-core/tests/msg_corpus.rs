//! The messages of RFC 4475 and RFC 5118 against our own verdicts.
//!
//! The corpus is no part of the repository; without it this test says so and passes, and the cases of
//! `msg_torture.rs` stand alone.

use proxy_core::msg::{Message, StartLine};
use std::path::{Path, PathBuf};

/// What we say about one message.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// A request to process.
    Process,
    /// A response to process.
    ProcessResponse,
    /// A request that is answered with this status.
    Answer(u16),
    /// Dropped without an answer.
    Drop,
}

use Verdict::{Answer, Drop, Process, ProcessResponse};

const RFC4475: &[(&str, Verdict)] = &[
    ("wsinv", Process),
    ("intmeth", Process),
    ("esc01", Process),
    ("escnull", Process),
    ("esc02", Process),
    ("lwsdisp", Process),
    ("longreq", Process),
    ("dblreq", Process),
    ("semiuri", Process),
    ("transports", Process),
    ("mpart01", Process),
    ("unreason", ProcessResponse),
    ("noreason", ProcessResponse),
    ("badinv01", Answer(400)),
    ("clerr", Answer(400)),
    ("ncl", Answer(400)),
    ("scalar02", Answer(400)),
    ("scalarlg", Drop),
    ("quotbal", Answer(400)),
    ("ltgtruri", Answer(400)),
    ("lwsruri", Answer(400)),
    ("lwsstart", Answer(400)),
    // Trailing white space is harmless; Kamailio takes it, too.
    ("trws", Process),
    ("escruri", Answer(400)),
    // Date is none of a proxy's business.
    ("baddate", Process),
    ("regbadct", Answer(400)),
    // White space inside the angle brackets: a proxy may forward it.
    ("badaspec", Process),
    ("baddn", Answer(400)),
    ("badvers", Answer(505)),
    ("mismatch01", Answer(400)),
    ("mismatch02", Answer(400)),
    ("bigcode", Drop),
    // A bare magic cookie: matched by the rules of RFC 2543.
    ("badbranch", Process),
    ("insuf", Answer(400)),
    ("unkscm", Answer(416)),
    ("novelsc", Answer(416)),
    // Foreign schemes in To and From: the registrar's to refuse.
    ("unksm2", Process),
    // Proxy-Require, Max-Forwards 0: the route's to answer with 420 and 483.
    ("bext01", Process),
    ("zeromf", Process),
    ("invut", Process),
    ("regaut01", Process),
    ("multi01", Answer(400)),
    ("mcl01", Answer(400)),
    // Not ours by its top Via: the response path discards it.
    ("bcast", ProcessResponse),
    ("cparam01", Process),
    ("cparam02", Process),
    ("regescrt", Process),
    ("sdp01", Process),
    ("inv2543", Process),
];

const RFC5118: &[(&str, Verdict)] = &[
    ("t01_0", Process),
    ("t02_0", Answer(400)),
    ("t03_0", Process),
    ("t04_0", Process),
    ("t05_0", Process),
    ("t06_0", Process),
    ("t07_0", Process),
    ("t08_0", Process),
    ("t09_0", Process),
    ("t10_0", Process),
];

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

fn corpus(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: no corpus at {}", path.display());
    None
}

fn judge(folder: &str, table: &[(&str, Verdict)]) {
    let Some(path) = corpus(folder) else { return };
    let mut wrong = Vec::new();
    for (name, expected) in table {
        let bytes = std::fs::read(path.join(format!("{name}.dat"))).expect(name);
        let found = verdict(&bytes);
        if found != *expected {
            let message = Message::parse(&bytes).map(|m| format!("{:?}", m.check_request()));
            wrong.push(format!("{name}: expected {expected:?}, found {found:?} ({message:?})"));
        }
    }
    let files = std::fs::read_dir(&path).expect("corpus").count();
    assert_eq!(files, table.len(), "a message of {folder} has no verdict");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_message_of_rfc4475_gets_its_verdict() {
    judge("rfc4475", RFC4475);
}

#[test]
fn every_message_of_rfc5118_gets_its_verdict() {
    judge("rfc5118", RFC5118);
}

#[test]
fn a_processed_message_is_forwarded_byte_for_byte_but_for_the_new_via() {
    for folder in ["rfc4475", "rfc5118"] {
        let Some(path) = corpus(folder) else { return };
        for (name, expected) in if folder == "rfc4475" { RFC4475 } else { RFC5118 } {
            if *expected != Process {
                continue;
            }
            let bytes = std::fs::read(path.join(format!("{name}.dat"))).expect(name);
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
