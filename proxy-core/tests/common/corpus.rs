//! The messages of RFC 4475 and RFC 5118, which are no part of the repository: where they are, and what has to come of
//! each.

#![allow(dead_code, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};

/// What the message layer says about one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
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

/// Name of the message, verdict of the message layer, and the status with which a node answers that serves
/// [`DOMAINS`] and knows no user; 0 is silence.
pub type Row = (&'static str, Verdict, u16);

/// What the node serves. Addresses are no domains: what RFC 5118 sends to 2001:db8::10 is not for it.
pub const DOMAINS: [&str; 5] =
    ["example.com", "example.net", "example.org", "company.com", "registrar.example.com"];

pub const RFC4475: &[Row] = &[
    ("wsinv", Process, 404),
    ("intmeth", Process, 404),
    ("esc01", Process, 404),
    ("escnull", Process, 200),
    ("esc02", Process, 484),
    ("lwsdisp", Process, 404),
    ("longreq", Process, 404),
    ("dblreq", Process, 200),
    ("semiuri", Process, 404),
    ("transports", Process, 404),
    ("mpart01", Process, 404),
    ("unreason", ProcessResponse, 0),
    ("noreason", ProcessResponse, 0),
    ("badinv01", Answer(400), 400),
    ("clerr", Answer(400), 400),
    ("ncl", Answer(400), 400),
    ("scalar02", Answer(400), 400),
    ("scalarlg", Drop, 0),
    ("quotbal", Answer(400), 400),
    ("ltgtruri", Answer(400), 400),
    ("lwsruri", Answer(400), 400),
    ("lwsstart", Answer(400), 400),
    // Trailing white space is harmless; Kamailio takes it, too.
    ("trws", Process, 404),
    ("escruri", Answer(400), 400),
    // Date is none of a proxy's business.
    ("baddate", Process, 404),
    ("regbadct", Answer(400), 400),
    // White space inside the angle brackets: a proxy may forward it.
    ("badaspec", Process, 404),
    ("baddn", Answer(400), 400),
    ("badvers", Answer(505), 505),
    ("mismatch01", Answer(400), 400),
    ("mismatch02", Answer(400), 400),
    ("bigcode", Drop, 0),
    // A bare magic cookie: matched by the rules of RFC 2543.
    ("badbranch", Process, 404),
    ("insuf", Answer(400), 400),
    ("unkscm", Answer(416), 416),
    ("novelsc", Answer(416), 416),
    // Foreign schemes in To and From: the registrar's to refuse.
    ("unksm2", Process, 404),
    // Proxy-Require, Max-Forwards 0: the route's to answer with 420 and 483.
    ("bext01", Process, 420),
    ("zeromf", Process, 483),
    ("invut", Process, 404),
    ("regaut01", Process, 200),
    ("multi01", Answer(400), 400),
    ("mcl01", Answer(400), 400),
    // Not ours by its top Via: the response path discards it.
    ("bcast", ProcessResponse, 0),
    ("cparam01", Process, 200),
    ("cparam02", Process, 200),
    ("regescrt", Process, 200),
    ("sdp01", Process, 404),
    ("inv2543", Process, 404),
];

pub const RFC5118: &[Row] = &[
    ("t01_0", Process, 403),
    ("t02_0", Answer(400), 400),
    ("t03_0", Process, 403),
    ("t04_0", Process, 403),
    ("t05_0", Process, 404),
    ("t06_0", Process, 403),
    ("t07_0", Process, 403),
    ("t08_0", Process, 404),
    ("t09_0", Process, 403),
    ("t10_0", Process, 404),
];

/// The folder of one of the two, with its table; `None` (and a line that says so) where it is not there.
pub fn corpus(folder: &str) -> Option<(PathBuf, &'static [Row])> {
    let root = std::env::var_os("RELEVO_CORPORA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora"), PathBuf::from);
    let path = root.join(folder);
    if !path.is_dir() {
        println!("skipped: no messages at {}; RELEVO_CORPORA names their folder", path.display());
        return None;
    }
    let table = if folder == "rfc4475" { RFC4475 } else { RFC5118 };
    let files = std::fs::read_dir(&path).expect("corpus").count();
    assert_eq!(files, table.len(), "a message of {folder} has no verdict");
    Some((path, table))
}

/// One message.
pub fn message(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(format!("{name}.dat"))).expect(name)
}
