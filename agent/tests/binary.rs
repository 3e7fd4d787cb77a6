//! The program itself: started as an operator starts it, spoken to over UDP and its admin socket, ended by signals.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::ua::Ua;
use common::{PATIENCE, free_port, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const RELEVO: &str = env!("CARGO_BIN_EXE_relevo");

/// A single node without floating IP in a folder of its own; killed when dropped.
struct Node {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

fn relevo(args: &[&str], dir: &Path) -> Output {
    let child = Command::new(RELEVO)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("relevo starts");
    let pid = child.id();
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || tx.send(child.wait_with_output()));
    match rx.recv_timeout(PATIENCE) {
        Ok(output) => output.expect("output"),
        Err(_) => {
            let _ = kill(pid_of(pid), Signal::SIGKILL);
            panic!("relevo {args:?} did not end");
        }
    }
}

fn pid_of(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a pid"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let port = free_port();
        let node = Self { dir, port, child: None };
        fs::write(node.file(), format!("[sip]\nport = {port}\nlisten = [\"127.0.0.1\"]\n{}", node.rest()))
            .expect("write");
        node
    }

    fn rest(&self) -> String {
        format!("engines = 2\n[node]\ndata = \"{}\"\n", self.dir.path().join("data").display())
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("r.toml")
    }

    fn proxy(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn start(&mut self) {
        let log =
            fs::File::options().create(true).append(true).open(self.dir.path().join("log")).expect("log");
        let child = Command::new(RELEVO)
            .args(["run", "--config"])
            .arg(self.file())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("relevo starts");
        self.child = Some(child);
        until("the node is active", || {
            let ended = self.child.as_mut().and_then(|c| c.try_wait().expect("wait"));
            assert!(ended.is_none(), "it ended: {ended:?}\n{}", self.log());
            (self.status()?["active"] == true).then_some(())
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn say(&self, args: &[&str]) -> Output {
        let file = self.file();
        let mut all = args.to_vec();
        all.extend(["--config", file.to_str().expect("utf-8")]);
        relevo(&all, self.dir.path())
    }

    fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        let output = self.say(&all);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn status(&self) -> Option<Value> {
        let output = self.say(&["status", "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    fn signal(&mut self, signal: Signal) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("running");
        kill(pid_of(child.id()), signal).expect("signal");
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < end, "it did not end after {signal}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn one_node_without_cluster_registers_and_carries_a_call_and_keeps_registrations_over_kill_9() {
    let mut node = Node::new();
    node.start();
    let (mut alice, mut bob) = (Ua::new("alice", node.proxy()), Ua::new("bob", node.proxy()));
    assert_eq!(bob.register(300).status(), 200);
    // The acknowledged registration is the last thing this node ever did.
    node.signal(Signal::SIGKILL);
    node.start();
    let status = node.status().expect("status");
    assert_eq!(status["counts"]["bindings"], 1, "{status}");
    assert_eq!((&status["node"], &status["leader"], &status["holder"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(status["role"], "appliance");
    assert!(status["lease_ms_left"].as_u64() > Some(0) && status["token"].as_u64() > Some(0), "{status}");

    alice.invite("bob", "after-restart");
    let invite = bob.expect("INVITE");
    bob.respond(&invite, "200 OK", "b");
    let ok = alice.expect("200");
    alice.in_dialog("ACK", &ok);
    bob.expect("ACK");
    assert_eq!(node.json(&["dlg", "list"])["dialogs"][0]["call_id"], "after-restart");
    alice.in_dialog("BYE", &ok);
    let bye = bob.expect("BYE");
    bob.respond(&bye, "200 OK", "b");
    alice.expect("200");
}

#[test]
fn a_call_that_rings_while_the_node_is_killed_is_answered_after_its_restart() {
    let mut node = Node::new();
    node.start();
    let (mut alice, mut bob) = (Ua::new("alice", node.proxy()), Ua::new("bob", node.proxy()));
    assert_eq!(bob.register(300).status(), 200);
    alice.invite("bob", "ringing");
    let invite = bob.expect("INVITE");
    bob.respond(&invite, "180 Ringing", "b");
    alice.expect("180");
    node.signal(Signal::SIGKILL);
    node.start();
    // The rebuilt branch sends the same INVITE again; the phone answers it.
    let again = bob.expect("INVITE");
    assert_eq!(again.text, invite.text, "byte for byte: a retransmission for the phone");
    bob.respond(&again, "200 OK", "b");
    let ok = alice.expect("200");
    alice.in_dialog("ACK", &ok);
    bob.expect("ACK");
}

#[test]
fn a_call_that_nobody_takes_goes_to_the_mailbox_in_time_though_the_node_is_killed_meanwhile() {
    let mut node = Node::new();
    let (mut alice, mut bob) = (Ua::new("alice", node.proxy()), Ua::new("bob", node.proxy()));
    let mailbox = Ua::new("mailbox", node.proxy());
    let voicemail = format!("[voicemail]\nserver = \"sip:{}\"\nafter_s = 3\n", mailbox.addr());
    let file = fs::read_to_string(node.file()).expect("read");
    fs::write(node.file(), file + &voicemail).expect("write");
    node.start();
    assert_eq!(bob.register(300).status(), 200);
    alice.invite("bob", "nobody");
    let invite = bob.expect("INVITE");
    bob.respond(&invite, "180 Ringing", "b");
    alice.expect("180");
    node.signal(Signal::SIGKILL);
    node.start();
    // What was decided when the call came in holds for the node that goes on with it. If it is back before the time is
    // up it asks the phone again, which repeats what it said.
    let cancel = loop {
        let request = bob.receive();
        if request.first_line().starts_with("CANCEL") {
            break request;
        }
        assert_eq!(request.text, invite.text, "a retransmission");
        bob.respond(&request, "180 Ringing", "b");
    };
    bob.respond(&cancel, "200 OK", "b");
    bob.respond(&invite, "487 Request Terminated", "b");
    bob.expect("ACK");
    let invite = mailbox.expect("INVITE sip:bob@");
    assert!(invite.one("Diversion").ends_with(";reason=no-answer"), "{}", invite.text);
    mailbox.respond(&invite, "200 OK", "m");
    let ok = alice.expect("200");
    alice.in_dialog("ACK", &ok);
    mailbox.expect("ACK");
    alice.in_dialog("BYE", &ok);
    let bye = mailbox.expect("BYE");
    mailbox.respond(&bye, "200 OK", "m");
    alice.expect("200");
}

#[test]
fn route_explain_says_stage_by_stage_what_would_happen_and_nothing_happens() {
    let mut node = Node::new();
    let routes = "[[route]]\nname = \"closed\"\nuser = \"9*\"\naction = \"reject\"\nstatus = 480\n";
    let file = fs::read_to_string(node.file()).expect("read");
    fs::write(node.file(), file + routes).expect("write");
    node.start();
    let mut bob = Ua::new("bob", node.proxy());
    bob.register(300);
    let explained = node.json(&["route", "explain", "INVITE sip:bob@127.0.0.1", "--source", "127.0.0.7"]);
    assert_eq!(explained["source"], "127.0.0.7:5060");
    let steps = explained["steps"].as_array().expect("steps").clone();
    let of = |stage: &str| steps.iter().filter(|s| s["stage"] == stage).collect::<Vec<_>>();
    assert!(
        of("LOCATION")[0]["why"].as_str().is_some_and(|w| w.contains(&bob.addr().to_string())),
        "{steps:#?}"
    );
    assert!(of("RELAY").iter().any(|s| s["decision"] == "commits"), "{steps:#?}");
    bob.hears_nothing(Duration::from_millis(100));
    assert_eq!(node.json(&["dlg", "list"])["pending_invites"], serde_json::json!([]));
    let text = text(&node.say(&["route", "explain", "INVITE", "sip:99@127.0.0.1"]).stdout);
    assert!(
        text.contains("route \"closed\" fits: reject with 480") && text.contains("answers 480"),
        "{text}"
    );
    fails(&node.say(&["route", "explain", "hello"]), 1, &["\"hello\" is no request", "cure: "]);
    let refused = node.say(&["route", "explain", "invite sip:bob@127.0.0.1"]);
    fails(&refused, 1, &["case sensitive (RFC 3261 §7.1)", "write INVITE"]);
    let refused = node.say(&["route", "explain", "sip:bob@127.0.0.1", "--as", "nobody@127.0.0.1"]);
    fails(&refused, 1, &["there is no subscriber", "relevo subscriber list"]);
    let last = node.json(&["route", "explain", "sip:bob@127.0.0.1", "--header", "Max-Forwards: 0"]);
    assert!(last.to_string().contains("answers 483"), "{last}");
    let number = node.json(&["route", "explain", "tel:+4930123456"]);
    assert!(number["steps"].as_array().is_some_and(|s| !s.is_empty()), "{number}");
}

#[test]
fn who_sends_too_much_is_listed_logged_explained_and_let_in_again() {
    let mut node = Node::new();
    let file = fs::read_to_string(node.file()).expect("read");
    fs::write(node.file(), file + "[flood]\nrequests = 5\nper_s = 3600\n").expect("write");
    node.start();
    let none = text(&node.say(&["ban", "list"]).stdout);
    assert!(none.contains("nobody is banned"), "{none}");
    // Each with a Call-ID of its own: they meet different engines.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let from = socket.local_addr().expect("an address");
    for n in 0..20 {
        let text = format!(
            "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKo{n};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:x@127.0.0.1>;tag=f\r\nTo: <sip:127.0.0.1>\r\nCall-ID: flood-{n}\r\n\
             CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        socket.send_to(text.as_bytes(), node.proxy()).expect("sent");
    }
    let bans = until("all but five are dropped", || {
        let bans = node.json(&["ban", "list"]);
        (bans["bans"][0]["dropped"] == 15).then_some(bans)
    });
    assert_eq!(bans["bans"][0]["address"], "127.0.0.1");
    until("the engines have counted it", || {
        let counters = node.json(&["status"])["counters"].clone();
        (counters["banned"] == 1 && counters["dropped_flood"] == 15).then_some(())
    });
    let explained = node.json(&["route", "explain", "sip:bob@127.0.0.1", "--source", "127.0.0.1"]);
    assert!(
        explained["steps"][0]["why"].as_str().is_some_and(|w| w.contains("is banned for")),
        "{explained}"
    );
    let banned = "banned 127.0.0.1: more than 5 requests in 3600 s";
    until("it is in the log", || node.log().contains(banned).then_some(()));
    assert_eq!(node.log().matches(banned).count(), 1, "{}", node.log());

    fails(&node.say(&["ban", "clear", "192.0.2.7"]), 1, &["192.0.2.7 is not banned here", "relevo ban list"]);
    fails(&node.say(&["ban", "clear", "bob"]), 1, &["\"bob\" is no address", "cure: "]);
    let cleared = text(&node.say(&["ban", "clear", "127.0.0.1"]).stdout);
    assert!(cleared.contains("127.0.0.1 let in again"), "{cleared}");
    assert_eq!(node.json(&["ban", "list"])["bans"], serde_json::json!([]));
    assert_eq!(node.json(&["ban", "clear", "all"])["cleared"], 0);
}

#[test]
fn a_backend_that_falls_silent_is_in_the_log_once_and_once_more_when_it_is_back() {
    let mut node = Node::new();
    let file = fs::read_to_string(node.file()).expect("read");
    let probes = "[dispatcher]\nprobe_interval_s = 1\nprobe_timeout_s = 1\n";
    fs::write(node.file(), file + probes).expect("write");
    node.start();
    let backend = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let name = format!("destination sip:{backend} of set 1");
    assert!(node.say(&["dispatcher", "add", "1", &format!("sip:{backend}")]).status.success());
    let gone = format!("{name} does not answer: no new calls go there (see relevo dispatcher list)");
    until("the loss is in the log", || node.log().contains(&gone).then_some(()));

    let socket = std::net::UdpSocket::bind(backend).expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let back = format!("{name} is in service again");
    until("its return is in the log", || {
        let mut bytes = [0; 2048];
        if let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let request = text(&bytes[..length]);
            let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
            let headers = request.lines().filter(|l| kept.iter().any(|name| l.starts_with(name)));
            let headers: String = headers.map(|l| format!("{l}\r\n")).collect();
            let answer = format!("SIP/2.0 200 OK\r\n{headers}Content-Length: 0\r\n\r\n");
            socket.send_to(answer.as_bytes(), from).expect("sent");
        }
        node.log().contains(&back).then_some(())
    });
    assert_eq!(node.log().matches(&gone).count(), 1, "{}", node.log());
}

#[test]
fn a_clean_end_is_quick_and_leaves_no_socket_behind() {
    let mut node = Node::new();
    node.start();
    let status = node.signal(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0), "{}", node.log());
    assert!(!node.dir.path().join("data/admin.sock").exists());
    std::net::UdpSocket::bind(node.proxy()).expect("the port is free");
}

#[test]
fn tables_are_for_people_and_json_is_for_programs() {
    let mut node = Node::new();
    node.start();
    let mut bob = Ua::new("bob", node.proxy());
    bob.register(300);
    let table = text(&node.say(&["status"]).stdout);
    assert!(table.contains("node 1 (appliance): ACTIVE") && table.contains("bindings 1"), "{table}");
    let contacts = text(&node.say(&["ul", "show"]).stdout);
    assert!(contacts.contains("AOR") && contacts.contains(&bob.addr().to_string()), "{contacts}");
    let aor = node.json(&["ul", "show"])["bindings"][0]["aor"].as_str().expect("aor").to_owned();
    assert!(node.say(&["ul", "rm", &aor]).status.success());
    assert_eq!(node.json(&["ul", "show"])["bindings"], serde_json::json!([]));
    let none = node.say(&["switchover", "--json"]);
    assert_eq!(none.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&none.stdout).expect("JSON");
    assert!(said["error"].as_str().is_some_and(|e| e.contains("no other appliance")), "{said}");
    assert!(text(&none.stderr).contains("cure: "));
    assert!(node.json(&["version"])["version"].is_string());
}

#[test]
fn a_backup_is_for_its_owner_and_takes_the_place_of_no_file_unasked() {
    use std::os::unix::fs::PermissionsExt;
    let mut node = Node::new();
    node.start();
    Ua::new("bob", node.proxy()).register(300);
    let said = node.json(&["backup", "state.relevo"]);
    let file = node.dir.path().join("state.relevo");
    assert_eq!(said["file"].as_str().map(Path::new), Some(file.as_path()));
    let there = fs::metadata(&file).expect("it is there");
    assert_eq!((there.permissions().mode() & 0o777, Some(there.len())), (0o600, said["bytes"].as_u64()));
    let again = node.say(&["backup", "state.relevo"]);
    fails(&again, 1, &["is there already", "--force"]);
    assert!(node.say(&["backup", "state.relevo", "--force"]).status.success());
    fails(&node.say(&["backup", "no/such/folder/state"]), 1, &["no backup was made", "cure: "]);
    node.signal(Signal::SIGTERM);
    fails(&node.say(&["backup", "late"]), 1, &["no node answers"]);
}

#[test]
fn a_node_that_has_lost_everything_begins_with_its_backup() {
    let mut node = Node::new();
    node.start();
    Ua::new("bob", node.proxy()).register(300);
    let file = node.dir.path().join("state.relevo");
    let file = file.to_str().expect("utf-8");
    node.json(&["backup", file]);
    fails(&node.say(&["restore", file]), 1, &["in use by another relevo"]);
    let held = node.json(&["restore", file, "--check"]);
    assert_eq!((&held["counts"]["bindings"], &held["restored"]), (&Value::from(1), &Value::from(false)));
    node.signal(Signal::SIGTERM);
    fails(&node.say(&["restore", file]), 1, &["holds a store", "--replace"]);
    fs::remove_dir_all(node.dir.path().join("data")).expect("lost");
    assert_eq!(node.json(&["restore", file])["restored"], true);
    node.start();
    let status = node.status().expect("it answers");
    assert_eq!((&status["counts"]["bindings"], &status["rebirths"]), (&Value::from(1), &Value::from(1)));
    node.signal(Signal::SIGTERM);
    assert!(node.say(&["restore", file, "--replace"]).status.success());
    node.start();
    assert_eq!(node.status().expect("it answers")["counts"]["bindings"], 1);
}

#[test]
fn a_backup_that_is_damaged_or_of_another_cluster_or_none_at_all_is_told_apart_and_changes_nothing() {
    let mut node = Node::new();
    node.start();
    node.json(&["backup", "state.relevo"]);
    node.signal(Signal::SIGTERM);
    let file = node.dir.path().join("state.relevo");
    let mut bytes = fs::read(&file).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(node.dir.path().join("bad"), &bytes).expect("writes");
    fs::write(node.dir.path().join("text"), "no backup").expect("writes");
    fails(&node.say(&["restore", "bad"]), 1, &["is damaged", "an older backup"]);
    fails(&node.say(&["restore", "text"]), 1, &["is no backup of relevo"]);
    fails(&node.say(&["restore", "none"]), 1, &["No such file"]);
    let text = fs::read_to_string(node.file()).expect("reads");
    fs::write(node.file(), format!("{text}[cluster]\nname = \"elsewhere\"\n")).expect("writes");
    fails(&node.say(&["restore", "state.relevo"]), 1, &["is of cluster", "--other-cluster"]);
}

#[test]
fn a_damaged_store_stops_the_start_and_repair_goes_on_from_what_verifies_once_it_is_told_to() {
    const USERS: usize = 40;
    let mut node = Node::new();
    fails(&node.say(&["store", "check"]), 1, &["nothing was ever here"]);
    node.start();
    for n in 0..USERS {
        assert_eq!(Ua::new(&format!("user{n}"), node.proxy()).register(300).status(), 200);
    }
    fails(&node.say(&["store", "check"]), 1, &["in use by another relevo"]);
    node.signal(Signal::SIGTERM);
    let whole = node.say(&["store", "check"]);
    assert!(
        whole.status.success() && text(&whole.stdout).contains("nothing is lost"),
        "{}",
        text(&whole.stdout)
    );
    assert!(text(&node.say(&["store", "repair"]).stdout).contains("there is nothing to repair"));

    let segment = node.dir.path().join("data/raft/store/log/0000000000000000.seg");
    let mut bytes = fs::read(&segment).expect("the log");
    let middle = bytes.iter().rposition(|b| *b != 0).expect("records") / 2;
    bytes[middle] ^= 0x10;
    fs::write(&segment, &bytes).expect("damaged");
    let refused = node.say(&["run"]);
    assert_ne!(refused.status.code(), Some(0));
    let said = text(&refused.stderr) + &text(&refused.stdout);
    for word in
        ["0000000000000000.seg at byte ", "may be lost", "`relevo store repair`", "nothing was changed"]
    {
        assert!(said.contains(word), "{word:?} in {said}");
    }
    assert_eq!(fs::read(&segment).expect("the log"), bytes, "the start has changed nothing");

    let report = node.say(&["store", "check", "--json"]);
    assert_eq!(report.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let (newest, first) = (report["newest"].as_u64(), report["missing"][0].as_u64());
    assert!(newest.is_some() && first == newest.map(|n| n + 1), "{report}");
    fails(&node.say(&["store", "repair"]), 1, &["nobody can be asked here: add --yes"]);
    assert_eq!(fs::read(&segment).expect("the log"), bytes, "nor has a repair that nobody confirmed");
    let repaired = node.say(&["store", "repair", "--yes"]);
    assert!(repaired.status.success(), "{}", text(&repaired.stderr));
    assert!(text(&repaired.stdout).contains("the damaged store is kept as set-aside-"));
    node.start();
    let status = node.status().expect("it answers");
    let left = status["counts"]["bindings"].as_u64().expect("a number");
    assert!(left > 0 && left < USERS as u64, "{left} of {USERS}");
    assert_eq!(status["rebirths"], 1);
    assert_eq!(Ua::new("another", node.proxy()).register(300).status(), 200);
    node.signal(Signal::SIGTERM);
    let after = node.say(&["store", "check"]);
    assert!(after.status.success(), "{}", text(&after.stdout));
}

/// It ends by itself, not with success, and says what is wrong, and how it is mended, once.
fn fails(output: &Output, code: i32, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert_eq!(said.matches(word).count(), 1, "{word:?} once in\n{said}");
    }
}

/// What systemd and the guard do not start again: docs/operating.md has it as `RestartPreventExitStatus`.
const NEEDS_A_PERSON: i32 = 3;

#[test]
fn a_start_that_only_a_person_can_mend_ends_with_3_so_that_nothing_starts_it_again() {
    let mut node = Node::new();
    node.start();
    node.signal(Signal::SIGTERM);
    let data = node.dir.path().join("data");
    let file = fs::read_to_string(node.file()).expect("read");
    // A folder of another node.
    fs::write(node.file(), format!("{file}id = 2\n")).expect("written");
    fails(&node.say(&["run"]), NEEDS_A_PERSON, &["belongs to node 1, this is node 2"]);
    fs::write(node.file(), &file).expect("written");
    for copy in ["key", "key.copy"] {
        fs::write(data.join(copy), [7; 36]).expect("damaged");
    }
    fails(&node.say(&["run"]), NEEDS_A_PERSON, &["it does not hold a key"]);
    // Also where a guard reads it first, before it touches any interface.
    let vip = "[vip]\ninterface = \"lo\"\naddresses = [\"10.99.0.9/24\"]\n";
    let lines = file.lines().filter(|line| !line.starts_with("listen")).map(|line| format!("{line}\n"));
    fs::write(node.file(), lines.collect::<String>() + vip).expect("written");
    fails(&node.say(&["run"]), NEEDS_A_PERSON, &["it does not hold a key"]);
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

/// Everything in a folder, and the folder.
fn all_in(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_path_buf()];
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_type().expect("a type").is_dir() {
            all.extend(all_in(&entry.path()));
        } else {
            all.push(entry.path());
        }
    }
    all
}

#[test]
fn what_a_node_keeps_is_its_owners_alone_whoever_made_the_folder_and_records_are_for_a_group() {
    use std::os::unix::fs::PermissionsExt;
    for made_before in [false, true] {
        let mut node = Node::new();
        let data = node.dir.path().join("data");
        let records = node.dir.path().join("records/of/calls.json");
        let file = fs::read_to_string(node.file()).expect("read");
        let accounting = format!("[accounting]\njson = \"{}\"\n", records.display());
        fs::write(node.file(), file + &accounting).expect("written");
        if made_before {
            fs::create_dir(&data).expect("made");
            fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("wide");
        }
        node.start();
        assert_eq!(node.log().contains("could be read by others"), made_before, "{}", node.log());
        // The file of records is there with the first one.
        let (mut alice, mut bob) = (Ua::new("alice", node.proxy()), Ua::new("bob", node.proxy()));
        assert_eq!(bob.register(300).status(), 200);
        alice.invite("bob", "call-1");
        let invite = bob.expect("INVITE");
        bob.respond(&invite, "200 OK", "b");
        let ok = alice.expect("200");
        alice.in_dialog("ACK", &ok);
        bob.expect("ACK");
        alice.in_dialog("BYE", &ok);
        let bye = bob.expect("BYE");
        bob.respond(&bye, "200 OK", "b");
        alice.expect("200");
        until("the record is written", || records.exists().then_some(()));
        for path in all_in(&data) {
            assert_eq!(mode(&path) & 0o077, 0, "{} has {:o}", path.display(), mode(&path));
        }
        assert_eq!((mode(&data), mode(&data.join("admin.sock"))), (0o700, 0o600));
        assert_eq!(mode(&records), 0o640);
        let folder = records.parent().expect("a folder");
        assert_eq!((mode(folder), mode(folder.parent().expect("another"))), (0o755, 0o755));
    }
}

#[test]
fn an_unknown_key_is_one_message_and_nothing_is_made() {
    let node = Node::new();
    fs::write(node.file(), format!("[sip]\nprot = 5\n{}", node.rest())).expect("write");
    for args in [&["run"][..], &["config", "check"], &["status"]] {
        let output = node.say(args);
        fails(&output, 2, &["r.toml:2: unknown key \"prot\"", "did you mean port?"]);
    }
    assert!(!node.dir.path().join("data").exists());
}

#[test]
fn a_right_file_is_called_right() {
    let node = Node::new();
    let output = node.say(&["config", "check"]);
    assert!(output.status.success());
    assert!(text(&output.stdout).starts_with("OK: "), "{}", text(&output.stdout));
}

#[test]
fn a_port_in_use_is_one_message_and_the_node_ends() {
    let node = Node::new();
    let _other = std::net::UdpSocket::bind(node.proxy()).expect("take the port");
    fails(&node.say(&["run"]), 1, &["in use by another program", "ss -lunp"]);
}

/// Killed a moment ago, with much memory, on a busy machine: the kernel has not cleared it away yet.
#[test]
fn a_start_waits_for_what_a_killed_process_still_holds() {
    use std::os::unix::fs::DirBuilderExt;
    let mut node = Node::new();
    let data = node.dir.path().join("data");
    fs::DirBuilder::new().mode(0o700).recursive(true).create(data.join("raft")).expect("the data folder");
    let lock = fs::File::create(data.join("raft/lock")).expect("a file");
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).expect("locked");
    // In the order in which they are asked for.
    let sip = (
        std::net::UdpSocket::bind(node.proxy()).expect("the port"),
        std::net::TcpListener::bind(node.proxy()).expect("the port"),
    );
    let held: [(&str, Box<dyn std::any::Any + Send>); 3] = [
        (
            "the admin socket",
            Box::new(std::os::unix::net::UnixListener::bind(data.join("admin.sock")).expect("bound")),
        ),
        ("a SIP port", Box::new(sip)),
        ("the data folder", Box::new(lock)),
    ];
    let log = node.dir.path().join("log");
    let ends = std::thread::spawn(move || {
        for (what, holder) in held {
            until("it waits", || {
                let text = fs::read_to_string(&log).unwrap_or_default();
                text.lines().any(|l| l.contains("waiting up to") && l.contains(what)).then_some(())
            });
            drop(holder);
        }
    });
    node.start();
    ends.join().expect("each was waited for");
}

#[test]
fn without_the_right_to_hold_the_floating_ip_it_is_one_message_and_the_node_ends() {
    use std::os::unix::process::CommandExt;
    let node = Node::new();
    let port = node.port;
    let vip = "[vip]\ninterface = \"lo\"\naddresses = [\"10.99.99.1/32\"]\n";
    fs::write(node.file(), format!("{vip}[sip]\nport = {port}\n{}", node.rest())).expect("write");
    let mut command = Command::new(RELEVO);
    command.args(["run", "--config"]).arg(node.file()).current_dir(node.dir.path());
    if nix::unistd::geteuid().is_root() {
        // Nobody: neither rights nor files.
        std::os::unix::fs::chown(node.dir.path(), Some(65_534), Some(65_534)).expect("chown");
        command.uid(65_534).gid(65_534);
    }
    let output = command.stdin(Stdio::null()).output().expect("relevo ends");
    fails(&output, 1, &["no permission", "CAP_NET_ADMIN"]);
}

#[test]
fn a_second_node_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let mut node = Node::new();
    node.start();
    let file = node.file();
    let text =
        fs::read_to_string(&file).expect("read").replace(&node.port.to_string(), &free_port().to_string());
    let second = node.dir.path().join("second.toml");
    fs::write(&second, text).expect("write");
    let output = relevo(&["run", "--config", second.to_str().expect("utf-8")], node.dir.path());
    fails(&output, 1, &["belongs to a running relevo"]);
    assert_eq!(node.status().expect("the first lives")["active"], true);
}

#[test]
fn a_data_folder_of_another_cluster_is_refused_and_left_as_it_was() {
    let mut node = Node::new();
    node.start();
    node.signal(Signal::SIGTERM);
    let before = contents(&node.dir.path().join("data"));
    let mut file = fs::read_to_string(node.file()).expect("read");
    file += "[cluster]\nname = \"elsewhere\"\n";
    fs::write(node.file(), file).expect("write");
    fails(&node.say(&["run"]), 3, &["elsewhere"]);
    assert_eq!(contents(&node.dir.path().join("data")), before);
}

/// Every file below a folder with its bytes; the sled lock and the socket are no data.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut list = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folder").map(|e| e.expect("entry")) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_type().expect("type").is_file() {
                let bytes = fs::read(&path).expect("file");
                list.push((path, bytes));
            }
        }
    }
    list.sort();
    list
}

#[test]
fn asking_where_no_node_runs_says_how_to_start_one() {
    let node = Node::new();
    fails(&node.say(&["status"]), 1, &["no node answers on", "relevo run"]);
    assert!(!node.dir.path().join("data").exists());
}
