//! Subscribers and authentication with the real program: its commands on every node, and real clients (SIPp, sipsak,
//! baresip) that prove who they are.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::nodes::Nodes;
use common::ua::{Message, Ua};
use common::{free_port, until};
use md5::{Digest, Md5};
use serde_json::json;

const AUTH: &str = "[auth]\nenabled = true\n";
const BOTH: &str = "[auth]\nenabled = true\nalgorithms = [\"SHA-256\", \"MD5\"]\n";

fn md5(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// A parameter of the last challenge of a response: the MD5 one.
fn param(challenge: &Message, name: &str) -> String {
    let header = challenge.all("WWW-Authenticate").pop().expect("a challenge");
    let value = header.split(&format!("{name}=\"")).nth(1).expect("the parameter");
    value.split('"').next().expect("its end").to_owned()
}

fn register(user: &str, contact: SocketAddr, cseq: u32, extra: &str) -> String {
    format!(
        "REGISTER sip:lab.test SIP/2.0\r\nVia: SIP/2.0/UDP {contact};rport;branch=z9hG4bKa{user}{cseq}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@lab.test>;tag=t\r\nTo: <sip:{user}@lab.test>\r\n\
         Call-ID: auth-{user}-{contact}\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:{user}@{contact}>\r\n\
         Expires: 300\r\n{extra}Content-Length: 0\r\n\r\n"
    )
}

/// The formula of RFC 2617 §3.2.2.1, written down a second time.
fn credentials(user: &str, password: &str, challenge: &Message, count: u32) -> String {
    let (realm, nonce) = (param(challenge, "realm"), param(challenge, "nonce"));
    let ha1 = md5(&format!("{user}:{realm}:{password}"));
    let ha2 = md5("REGISTER:sip:lab.test");
    let response = md5(&format!("{ha1}:{nonce}:{count:08x}:cn:auth:{ha2}"));
    format!(
        "Authorization: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"sip:lab.test\", \
         response=\"{response}\", algorithm=MD5, qop=auth, nc={count:08x}, cnonce=\"cn\"\r\n"
    )
}

#[test]
fn the_commands_say_what_kamctl_said_and_their_errors_what_why_and_cure() {
    let nodes = Nodes::up(1, 20, AUTH);
    let ok = |args: &[&str], input: &str| nodes.ok(1, args, input);
    let fails = |code: i32, args: &[&str], input: &str| nodes.fails(1, code, args, input);
    assert_eq!(ok(&["subscriber", "add", "alice"], "pw-a\n"), "new user 'alice@lab.test' added");
    let said = fails(1, &["subscriber", "add", "alice@LAB.test."], "x\n");
    assert!(said.contains("user 'alice@lab.test' already exists"), "{said}");
    assert_eq!(ok(&["subscriber", "passwd", "alice@lab.test"], "pw-b"), "password change succeeded");
    assert!(
        fails(1, &["subscriber", "passwd", "nobody"], "x\n").contains("non-existent user 'nobody@lab.test'")
    );
    let file = nodes.dir.path().join("password");
    fs::write(&file, "pw-c\nnot this line\n").expect("write");
    ok(&["subscriber", "add", "bob", "--password-file", file.to_str().expect("utf-8")], "");
    let ha1 = md5("carol:lab.test:pw");
    ok(&["subscriber", "add", "carol", "--ha1", &ha1], "");
    let list = nodes.json(1, &["subscriber", "list"]);
    let users: Vec<_> =
        list["subscribers"].as_array().expect("list").iter().map(|s| (&s["aor"], &s["algorithms"])).collect();
    let (both, one) = (json!(["SHA-256", "MD5"]), json!(["MD5"]));
    let want = ["alice", "bob", "carol"].map(|u| json!(format!("sip:{u}@lab.test")));
    assert_eq!(users, [(&want[0], &both), (&want[1], &both), (&want[2], &one)]);
    for (code, args, input, word) in [
        (2, &["subscriber", "add", "dave"][..], "", "password is empty"),
        (2, &["subscriber", "add", "dave", "--ha1", "12"], "", "32 or 64 hex digits"),
        (2, &["subscriber", "add", "dave", "--password-file", "/nowhere"], "", "cannot be read"),
        (1, &["subscriber", "add", "dave@far.test"], "x\n", "relevo domain add far.test"),
        (1, &["subscriber", "add", "@lab.test"], "x\n", "is no user"),
        (1, &["subscriber", "rm", "dave"], "", "non-existent user"),
        (1, &["domain", "add", "lab.test"], "", "in the configuration"),
        (1, &["domain", "add", "a b"], "", "is no domain"),
        (1, &["domain", "rm", "far.test"], "", "there is no domain 'far.test'"),
        (1, &["alias", "add", "alice", "bob"], "", "is a subscriber"),
        (1, &["alias", "add", "x", "x"], "", "stand for itself"),
        (1, &["alias", "rm", "x"], "", "there is no alias"),
        (1, &["acl", "add", "1", "10.0.0.0/33"], "", "no address or network"),
        (1, &["acl", "rm", "1", "10.0.0.0/8"], "", "is not in group 1"),
        (1, &["acl", "check", "1", "10.0.0.1"], "", "does not cover"),
    ] {
        let said = fails(code, args, input);
        assert!(said.contains(word), "{args:?}: {said}");
    }
    ok(&["acl", "add", "2", "10.0.0.0/8", "--port", "5070"], "");
    let said = fails(1, &["acl", "check", "2", "10.1.2.3"], "");
    assert!(
        said.contains("from port 5070 only") && said.contains("relevo acl check 2 10.1.2.3:5070"),
        "{said}"
    );
    assert!(ok(&["acl", "check", "2", "10.1.2.3:5070"], "").contains("10.0.0.0/8"));
    ok(&["acl", "rm", "2", "10.0.0.0/8", "--port", "5070"], "");
    ok(&["domain", "add", "Two.Test"], "");
    assert!(ok(&["domain", "list"], "").contains("two.test"));
    ok(&["subscriber", "add", "alice@two.test"], "x\n");
    assert!(ok(&["domain", "rm", "two.test"], "").contains("1 subscriber(s)"));
    ok(&["alias", "add", "100", "bob"], "");
    assert!(fails(1, &["subscriber", "add", "100"], "x\n").contains("is an alias"));
    assert_eq!(nodes.json(1, &["alias", "list"])["aliases"][0]["target"], "sip:bob@lab.test");
    ok(&["acl", "add", "1", "10.1.2.3/8", "--tag", "office"], "");
    assert_eq!(ok(&["acl", "check", "1", "10.9.9.9:5060"], ""), "covered by 10.0.0.0/8 (office) of group 1");
    let counts = &nodes.json(1, &["status"])["counts"];
    assert_eq!(
        (&counts["subscribers"], &counts["aliases"], &counts["acl"]),
        (&json!(4), &json!(1), &json!(1))
    );
    ok(&["subscriber", "rm", "bob"], "");
    assert_eq!(nodes.json(1, &["alias", "list"])["aliases"], json!([]));
    // The secrets are nowhere in what is printed or logged.
    let log = fs::read_to_string(nodes.home(1).join("log")).expect("log");
    let shown = ok(&["subscriber", "list", "--json"], "") + &log;
    assert!(!shown.contains(&ha1) && !shown.contains("pw-"), "{shown}");
}

#[test]
fn a_change_on_any_node_is_seen_on_all_and_a_challenge_of_one_holder_is_good_at_the_next() {
    let mut nodes = Nodes::up(3, 30, BOTH);
    let holder = nodes.active();
    let other = 3 - holder;
    // On the standby, and on the witness.
    nodes.ok(other, &["subscriber", "add", "alice"], "secret\n");
    nodes.ok(3, &["subscriber", "add", "bob"], "secret\n");
    for n in 1..=3 {
        until("all nodes show both", || {
            let list = nodes.json(n, &["subscriber", "list"]);
            (list["subscribers"].as_array().map(Vec::len) == Some(2)).then_some(())
        });
    }
    let before = Ua::new("alice", nodes.proxy(holder));
    before.send(&register("alice", before.addr(), 1, ""));
    let asked = before.expect("401");
    assert_eq!(asked.all("WWW-Authenticate").len(), 2, "{}", asked.text);
    nodes.kill(holder);
    until("the other node is active", || {
        (nodes.say(other, &["status", "--json"], "").status.success() && nodes.active() == other)
            .then_some(())
    });
    let after = Ua::new("alice", nodes.proxy(other));
    let proven = credentials("alice", "secret", &asked, 1);
    after.send(&register("alice", after.addr(), 2, &proven));
    let ok = after.receive();
    assert_eq!(ok.status(), 200, "{}", ok.text);
    // The same count again, in another call: a replay.
    let replay = register("alice", after.addr(), 3, &proven).replace("Call-ID: auth-", "Call-ID: replay-");
    after.send(&replay);
    let answer = after.expect("401");
    assert!(answer.text.contains("stale=TRUE"), "{}", answer.text);
    // The node that was killed comes back with all accounts, and a password changed meanwhile.
    nodes.ok(other, &["subscriber", "passwd", "alice"], "new\n");
    nodes.start(holder);
    until("it has caught up", || {
        let out = nodes.say(holder, &["subscriber", "list", "--json"], "");
        String::from_utf8_lossy(&out.stdout).contains("sip:bob@lab.test").then_some(())
    });
    after.send(&register("alice", after.addr(), 4, &credentials("alice", "secret", &answer, 1)));
    assert!(!after.expect("401").text.contains("stale"));
    after.send(&register("alice", after.addr(), 5, &credentials("alice", "new", &answer, 1)));
    after.expect("200");
}

/// Runs a client to its end, with a bound.
fn client(program: &str, args: &[&str], dir: &Path) -> Output {
    let mut all = vec!["20", program];
    all.extend(args);
    Command::new("timeout").args(all).current_dir(dir).stdin(Stdio::null()).output().expect("timeout(1)")
}

const SIPP_REGISTER: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="register">
<send retrans="500"><![CDATA[
REGISTER sip:lab.test SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:alice@lab.test>;tag=[call_number]
To: <sip:alice@lab.test>
Call-ID: [call_id]
CSeq: 1 REGISTER
Contact: <sip:alice@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="401" auth="true"/>
<send retrans="500"><![CDATA[
REGISTER sip:lab.test SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:alice@lab.test>;tag=[call_number]
To: <sip:alice@lab.test>
Call-ID: [call_id]
CSeq: 2 REGISTER
Contact: <sip:alice@[local_ip]:[local_port]>
[authentication username=alice password=secret]
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>
"#;

const SIPP_CALL: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="call">
<send retrans="500"><![CDATA[
INVITE sip:alice@lab.test SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:alice@lab.test>;tag=[call_number]
To: <sip:alice@lab.test>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:alice@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="407" auth="true"/>
<send><![CDATA[
ACK sip:alice@lab.test SIP/2.0
[last_Via:]
From: <sip:alice@lab.test>;tag=[call_number]
To: <sip:alice@lab.test>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
<send retrans="500"><![CDATA[
INVITE sip:nobody@lab.test SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:alice@lab.test>;tag=[call_number]
To: <sip:nobody@lab.test>
Call-ID: [call_id]
CSeq: 2 INVITE
Contact: <sip:alice@[local_ip]:[local_port]>
[authentication username=alice password=secret]
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="404"/>
<send><![CDATA[
ACK sip:nobody@lab.test SIP/2.0
[last_Via:]
From: <sip:alice@lab.test>;tag=[call_number]
To: <sip:nobody@lab.test>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
</scenario>
"#;

#[test]
fn sipp_sipsak_and_baresip_prove_who_they_are_and_a_wrong_password_does_not() {
    let nodes = Nodes::up(1, 40, AUTH);
    nodes.ok(1, &["subscriber", "add", "alice"], "secret\n");
    let dir = nodes.dir.path();
    let proxy = nodes.proxy(1).to_string();
    for (name, scenario) in [("register", SIPP_REGISTER), ("call", SIPP_CALL)] {
        let file = format!("{name}.xml");
        fs::write(dir.join(&file), scenario).expect("write");
        let port = free_port().to_string();
        let args = ["-sf", &file, "-m", "1", "-i", "127.0.0.1", "-p", &port, "-nostdin", &proxy];
        let out = client("sipp", &args, dir);
        assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    }
    let contacts = || nodes.json(1, &["ul", "show"])["bindings"].as_array().map_or(0, Vec::len);
    assert_eq!(contacts(), 1);

    let uri = format!("sip:alice@{proxy}");
    let sipsak = |password: &str, contact: &str| {
        let args = ["-U", "-i", "-C", contact, "-x", "60", "-s", &uri, "-u", "alice", "-a", password];
        client("sipsak", &args, dir)
    };
    let out = sipsak("secret", "sip:alice@127.0.0.1:9");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    assert_eq!(contacts(), 2);
    assert!(!sipsak("guess", "sip:alice@127.0.0.1:10").status.success());
    assert_eq!(contacts(), 2);

    let home = dir.join("baresip");
    fs::create_dir_all(&home).expect("folder");
    let port = free_port();
    fs::write(
        home.join("config"),
        format!(
            "sip_listen 127.0.0.1:{port}\nmodule_path /usr/lib/baresip/modules\nmodule g711.so\n\
             module_app account.so\nmodule_app menu.so\n"
        ),
    )
    .expect("write");
    let account =
        format!("<sip:alice@lab.test>;auth_user=alice;auth_pass=secret;outbound=\"sip:{proxy}\";regint=60\n");
    fs::write(home.join("accounts"), account).expect("write");
    let mut baresip = Command::new("baresip")
        .args(["-f", "baresip", "-t", "20"])
        .current_dir(dir)
        .env("HOME", &home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("baresip");
    until("baresip is registered", || (contacts() == 3).then_some(()));
    let _ = baresip.kill();
    let _ = baresip.wait();
}
