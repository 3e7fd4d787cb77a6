//! The same phones do the same with Kamailio in its default configuration (Debian package) and with Relevo in its
//! own; what they hear is compared message by message. Every difference is listed, with its reason, in
//! `docs/kamailio-differences.md`; another one fails, and so does a listed one that is none any more.
//!
//! `RELEVO_DIFFERENCES=all` adds the scenarios that wait for timers (`make kamailio-diff`), and
//! `RELEVO_DIFFERENCES=print` prints the rows that are missing.

#[path = "kamailio/asking.rs"]
mod asking;
#[path = "kamailio/calls.rs"]
mod calls;
mod common;
#[path = "kamailio/facts.rs"]
mod facts;
#[path = "kamailio/listed.rs"]
mod listed;
#[path = "kamailio/scenarios.rs"]
mod scenarios;
#[path = "kamailio/sipp.rs"]
mod sipp;
#[path = "kamailio/stage.rs"]
mod stage;
#[path = "../../proxy-core/tests/common/torture.rs"]
mod torture;

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use facts::{Difference, Transcript, compare};
use stage::{PROXY, Server, Stage};

/// Why the comparison cannot be made here.
fn cannot() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces need root");
    }
    if !Path::new("/usr/sbin/kamailio").exists() {
        return Some("no kamailio; scripts/need-packages kamailio brings it");
    }
    let verified = Command::new("dpkg").args(["-V", "kamailio"]).output().ok()?;
    if String::from_utf8_lossy(&verified.stdout).contains("kamailio.cfg") {
        return Some("/etc/kamailio/kamailio.cfg is not that of the package");
    }
    None
}

/// Everything the phones hear from one proxy, scenario by scenario.
fn play(server: Server, all: bool) -> Vec<(String, Transcript)> {
    let mut stage = Stage::open(server, false);
    let mut out = Vec::new();
    let long = if all { scenarios::LONG } else { &[] };
    for (name, scenario) in scenarios::SHORT.iter().chain(long) {
        stage.begin(name);
        // Where it stopped is in what was heard.
        let _ = scenario(&mut stage);
        stage.hush();
        out.push((String::from(*name), stage.heard.clone()));
    }
    for (n, (name, lines, replaced)) in scenarios::REFUSALS.iter().enumerate() {
        stage.begin(&format!("refusal{n}"));
        scenarios::refusal(&mut stage, lines, *replaced);
        stage.hush();
        out.push((String::from(*name), stage.heard.clone()));
    }
    out.extend(torture_answers(&mut stage));
    out.extend(sipp::play(&stage));
    out
}

/// The same where both ask for passwords.
fn play_asking(server: Server) -> Vec<(String, Transcript)> {
    let mut stage = Stage::open(server, true);
    let mut out = Vec::new();
    for (name, scenario) in asking::SCENARIOS {
        stage.begin(name);
        let _ = scenario(&mut stage);
        stage.hush();
        out.push((String::from(*name), stage.heard.clone()));
    }
    out
}

/// The torture messages, each from a socket of its own, all at once.
fn torture_answers(stage: &mut Stage) -> Vec<(String, Transcript)> {
    /// Both answer within milliseconds; REGISTER after a commit.
    const WAIT: Duration = Duration::from_secs(1);
    stage.begin("torture");
    assert!(stage.is_registered("bob", "bob").is_ok(), "the phone of the torture messages registers");
    let sockets: Vec<(&str, UdpSocket)> = torture::cases()
        .into_iter()
        .map(|case| {
            let socket = UdpSocket::bind("10.77.9.2:0").expect("bind");
            let text = replace(&case.bytes, b"lab.test", PROXY.as_bytes());
            socket.send_to(&text, (PROXY, 5060)).expect("send");
            (case.section, socket)
        })
        .collect();
    let end = Instant::now() + WAIT;
    while Instant::now() < end {
        stage.hush();
    }
    let mut out = Vec::new();
    for (section, socket) in sockets {
        socket.set_nonblocking(true).expect("non-blocking");
        let mut transcript = Transcript::new();
        let mut buffer = vec![0; 65_535];
        while let Ok(n) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let status = text.lines().next().unwrap_or_default().to_owned();
            // Headers are compared in the other scenarios; here the verdict counts: neither the 100 nor an empty line that
            // keeps a NAT open.
            if !status.is_empty() && !status.starts_with("SIP/2.0 100") {
                transcript.entry("sender").or_default().push(common::ua::Message { text: status });
            }
        }
        out.push((format!("torture {section}"), transcript));
    }
    out
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|w| w == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

#[test]
fn every_difference_from_kamailio_is_listed_with_its_reason_and_every_listed_one_is_there() {
    if let Some(why) = cannot() {
        println!("skipped: {why}");
        return;
    }
    let wish = std::env::var("RELEVO_DIFFERENCES").unwrap_or_default();
    let all = wish == "all";
    let (kamailio, relevo) = std::thread::scope(|scope| {
        // Each thread moves into a network namespace of its own.
        let [kamailio, relevo] = [Server::Kamailio, Server::Relevo]
            .map(|server| (scope.spawn(move || play(server, all)), scope.spawn(move || play_asking(server))));
        let mut both = [kamailio, relevo].map(|(plain, asking)| {
            [plain.join().expect("it plays"), asking.join().expect("it plays")].concat()
        });
        let relevo = std::mem::take(&mut both[1]);
        (std::mem::take(&mut both[0]), relevo)
    });
    let mut found: Vec<Difference> = Vec::new();
    let mut messages = 0;
    for ((name, k), (other, r)) in kamailio.iter().zip(&relevo) {
        assert_eq!(name, other);
        messages += k.values().chain(r.values()).map(Vec::len).sum::<usize>();
        found.extend(compare(name, k, r));
    }
    let row =
        |d: &Difference| format!("| {} | {} | `{}` | `{}` | |", d.scenario, d.place, d.kamailio, d.relevo);
    if wish == "print" {
        found.iter().for_each(|d| println!("{}", row(d)));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kamailio-differences.md");
    let text = std::fs::read_to_string(path).expect("the list");
    let rows = listed::rows(&text);
    let unlisted: Vec<&Difference> = found.iter().filter(|d| !rows.iter().any(|r| r.covers(d))).collect();
    println!(
        "{} scenarios, {messages} messages, {} differences, {} rows",
        kamailio.len(),
        found.len(),
        rows.len()
    );
    let new: Vec<String> = unlisted.iter().map(|d| row(d)).collect();
    assert!(
        new.is_empty(),
        "{} differences without a row, such as:\n{}",
        new.len(),
        new[..new.len().min(20)].join("\n")
    );
    let played =
        |row: &listed::Row| all || !scenarios::LONG.iter().any(|(name, _)| row.scenario.contains(name));
    let stale: Vec<_> =
        rows.iter().filter(|r| played(r) && !found.iter().any(|d| r.covers(d))).map(|r| r.line).collect();
    assert!(stale.is_empty(), "listed, but no difference (lines): {stale:?}");
}
