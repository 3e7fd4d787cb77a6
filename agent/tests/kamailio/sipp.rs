//! The scenarios of SIPp that the lab plays, here with both proxies.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::PATIENCE;
use crate::common::ua::Message;
use crate::facts::Transcript;
use crate::stage::{PROXY, Stage};

/// Where the scenario files are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ha-tests/scenarios")
}

/// Name, file of the caller, file of the callee.
const CALLS: [(&str, &str, &str); 3] = [
    ("sipp call", "caller_waits", "callee_rings"),
    ("sipp hangs up", "caller_hangs_up", "callee_rings"),
    ("sipp hold", "caller_speaks", "callee_listens"),
];

/// A SIPp on the stage's own thread, so in its namespace.
fn start(stage: &Stage, what: &str, file: &str, host: u8, port: u16) -> Child {
    let name = format!("{}-{port}", what.replace(' ', "-"));
    let at = |suffix: &str| stage.folder().join(format!("{name}-{file}.{suffix}"));
    let xml = std::fs::read_to_string(folder().join(format!("{file}.xml"))).expect("scenario");
    let xml = xml.replace("lab.test", PROXY).replace("{{hold_ms}}", "400").replace("{{answer_ms}}", "200");
    std::fs::write(at("xml"), xml).expect("write");
    let log = std::fs::File::create(at("out")).expect("log");
    Command::new("sipp")
        .arg(format!("{PROXY}:5060"))
        .args(["-nostdin", "-rtcheck", "loose", "-timeout_error", "-trace_shortmsg", "-s", "sippuser"])
        .args(["-i", &format!("10.77.9.{host}"), "-p", &port.to_string(), "-m", "1", "-timeout", "9s"])
        .args(["-cid_str", &format!("{name}-%u-%p")])
        .arg("-sf")
        .arg(at("xml"))
        .arg("-shortmessage_file")
        .arg(at("csv"))
        .current_dir(stage.folder())
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log)
        .spawn()
        .expect("sipp starts; apt-get install sip-tester")
}

fn finished(mut child: Child) -> bool {
    let end = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < end {
        if let Ok(Some(status)) = child.try_wait() {
            return status.success();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// Status or request line and CSeq of what it received, repetitions left out.
fn received(stage: &Stage, what: &str, file: &str, port: u16) -> Vec<Message> {
    let path = stage.folder().join(format!("{}-{port}-{file}.csv", what.replace(' ', "-")));
    let mut out: Vec<Message> = Vec::new();
    for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        if let [_, _, _, "R", _, cseq, first] = fields[..] {
            let cseq = cseq.trim().replace("CSeq:", "CSeq: ");
            // Request-URIs and reasons are compared elsewhere.
            let first: Vec<&str> = first.split(' ').take(2).collect();
            let first = if first.first() == Some(&"SIP/2.0") { first.join(" ") } else { first[0].to_owned() };
            let text = format!("{first}\r\n{cseq}\r\n\r\n");
            if !out.iter().any(|m| m.text == text) {
                out.push(Message { text });
            }
        }
    }
    out
}

/// Whether somebody in the namespace of this thread has a UDP port. To try whether it is free would be to take it, for a
/// moment, in which SIPp finds it taken and ends.
fn is_bound(ip: Ipv4Addr, port: u16) -> bool {
    let wanted = format!("{:08X}:{port:04X}", u32::from_ne_bytes(ip.octets()));
    let table = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap_or_default();
    table.lines().any(|line| line.split_whitespace().nth(1) == Some(wanted.as_str()))
}

/// What each phone of each call received, and how SIPp judged it.
pub fn play(stage: &Stage) -> Vec<(String, Transcript)> {
    let mut out = Vec::new();
    for (n, (name, caller, callee)) in (0..).zip(CALLS) {
        let (from, to) = (6000 + 10 * n, 6005 + 10 * n);
        let registered = finished(start(stage, name, "register", 3, to));
        let second = start(stage, name, callee, 3, to);
        // It must hear the call.
        crate::common::until("the callee listens", || {
            is_bound(Ipv4Addr::new(10, 77, 9, 3), to).then_some(())
        });
        let first = finished(start(stage, name, caller, 2, from));
        let second = finished(second);
        let verdict = format!("sipp registered {registered} caller {first} callee {second}");
        let transcript = BTreeMap::from([
            ("caller", received(stage, name, caller, from)),
            ("callee", received(stage, name, callee, to)),
            ("verdict", vec![Message { text: verdict }]),
        ]);
        out.push((name.to_owned(), transcript));
    }
    out
}
