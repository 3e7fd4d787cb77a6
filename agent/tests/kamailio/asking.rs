//! Scenarios for proxies that ask for passwords: Kamailio with `WITH_AUTH` and `WITH_ALIASDB` over its text database,
//! Relevo with `[auth]` and the same users.

use proxy_core::digest::{Asked, Login, Password, answer_challenge};
use proxy_core::msg::Message as Parsed;

use crate::common::ua::Message;
use crate::stage::{PROXY, Stage, Stopped};

type Play = fn(&mut Stage) -> Result<(), Stopped>;

/// Users and their passwords.
pub const USERS: [(&str, &str); 2] = [("alice", "secret-a"), ("bob", "secret-b")];
/// An alias, and whom it stands for.
pub const ALIAS: (&str, &str) = ("info", "bob");

pub const SCENARIOS: &[(&str, Play)] = &[
    ("auth-register", register),
    ("auth-register-wrong", register_wrong),
    ("auth-register-other", register_other),
    ("auth-call", call),
    ("auth-cancel", cancel),
    ("auth-message", message),
    ("auth-other-identity", other_identity),
    ("auth-nonce", nonce),
    ("auth-alias", alias),
    ("auth-stranger", stranger),
    ("auth-outbound", outbound),
    ("auth-keepalive", keepalive),
];

fn uri(user: &str) -> String {
    format!("sip:{user}@{PROXY}")
}

/// The request again with credentials for the challenge, another CSeq and another branch.
fn proven(request: &str, challenge: &Message, user: &str, password: &str) -> String {
    let parsed = Parsed::parse(request.as_bytes()).expect("a request");
    let response = Parsed::parse(challenge.text.as_bytes()).expect("a response");
    let asked = Asked {
        method: parsed.method().expect("a method").as_str(),
        uri: parsed.request_uri_str(),
        body: b"",
        cnonce: "c0ffee",
        count: 1,
    };
    let login = Login { username: user, password: Password::Text(password) };
    let answers = answer_challenge(&response, &login, &asked).expect("a challenge that can be answered");
    let lines: String = answers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let number = parsed.cseq().expect("CSeq").number;
    let branch = request.split("branch=").nth(1).and_then(|b| b.split("\r\n").next()).expect("a branch");
    request
        .replace(&format!("CSeq: {number} "), &format!("CSeq: {} ", number + 1))
        .replace(branch, &format!("{branch}-p"))
        .replace("Content-Length", &format!("{lines}Content-Length"))
}

/// A request of alice's phone, challenged and proven. What was sent in the end.
fn asked(s: &mut Stage, request: String, password: &str) -> Result<String, Stopped> {
    s.send("alice", &request);
    let status = if request.starts_with("REGISTER") { "SIP/2.0 401" } else { "SIP/2.0 407" };
    let challenge = s.wait("alice", status)?;
    if request.starts_with("INVITE") {
        s.send("alice", s.like("ACK", &request, Some(&challenge)));
    }
    let proven = proven(&request, &challenge, "alice", password);
    s.hush();
    s.send("alice", &proven);
    Ok(proven)
}

/// Bob is there, which is no part of what is compared.
fn bob_is_there(s: &mut Stage) -> Result<(), Stopped> {
    let contact = format!("Contact: <sip:bob@{}>\r\n", s.addr("bob"));
    let request = s.register("bob", "bob", 1, &contact);
    s.send("bob", &request);
    let challenge = s.wait("bob", "SIP/2.0 401")?;
    s.send("bob", proven(&request, &challenge, "bob", "secret-b"));
    s.wait("bob", "SIP/2.0 200")?;
    s.heard.clear();
    Ok(())
}

fn register_of_alice(s: &Stage) -> String {
    s.register("alice", "alice", 1, &format!("Contact: <sip:alice@{}>\r\n", s.addr("alice")))
}

fn register(s: &mut Stage) -> Result<(), Stopped> {
    asked(s, register_of_alice(s), "secret-a").map(|_| ())
}

fn register_wrong(s: &mut Stage) -> Result<(), Stopped> {
    asked(s, register_of_alice(s), "guessed").map(|_| ())
}

/// Alice's password, Bob's address of record.
fn register_other(s: &mut Stage) -> Result<(), Stopped> {
    let request = register_of_alice(s).replace("To: <sip:alice@", "To: <sip:bob@");
    asked(s, request, "secret-a").map(|_| ())
}

fn call(s: &mut Stage) -> Result<(), Stopped> {
    bob_is_there(s)?;
    let request = s.request("alice", "INVITE", &uri("bob"), "");
    let invite = asked(s, request, "secret-a")?;
    let got = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &got, "180 Ringing");
    s.hush();
    s.answer("bob", &got, "486 Busy Here", "");
    let failed = s.wait("alice", "SIP/2.0 486")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}

fn cancel(s: &mut Stage) -> Result<(), Stopped> {
    bob_is_there(s)?;
    let request = s.request("alice", "INVITE", &uri("bob"), "");
    let invite = asked(s, request, "secret-a")?;
    let got = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &got, "180 Ringing");
    s.wait("alice", "SIP/2.0 180")?;
    // Without credentials: a CANCEL cannot be sent again with another CSeq.
    let bare: String =
        invite.split_inclusive("\r\n").filter(|line| !line.starts_with("Proxy-Authorization")).collect();
    s.send("alice", s.like("CANCEL", &bare, None));
    let cancel = s.wait("bob", "CANCEL")?;
    s.answer("bob", &cancel, "200 OK", "");
    s.answer("bob", &got, "487 Request Terminated", "");
    let failed = s.wait("alice", "SIP/2.0 487")?;
    s.send("alice", s.like("ACK", &bare, Some(&failed)));
    Ok(())
}

fn message(s: &mut Stage) -> Result<(), Stopped> {
    bob_is_there(s)?;
    let request = s.request("alice", "MESSAGE", &uri("bob"), "");
    asked(s, request, "secret-a")?;
    let got = s.wait("bob", "MESSAGE")?;
    s.answer("bob", &got, "200 OK", "");
    Ok(())
}

/// Alice's password, Bob's From.
fn other_identity(s: &mut Stage) -> Result<(), Stopped> {
    bob_is_there(s)?;
    let request = s.request("alice", "MESSAGE", &uri("bob"), "");
    asked(s, request.replace("From: <sip:alice@", "From: <sip:bob@"), "secret-a").map(|_| ())
}

/// A nonce that nobody has given.
fn nonce(s: &mut Stage) -> Result<(), Stopped> {
    let request = register_of_alice(s);
    s.send("alice", &request);
    let mut challenge = s.wait("alice", "SIP/2.0 401")?;
    let given = challenge.text.split("nonce=\"").nth(1).and_then(|n| n.split('"').next()).unwrap_or_default();
    challenge.text = challenge.text.replace(given, "bm9ib2R5IGhhcyBnaXZlbiBpdA==");
    s.hush();
    s.send("alice", proven(&request, &challenge, "alice", "secret-a"));
    Ok(())
}

fn alias(s: &mut Stage) -> Result<(), Stopped> {
    bob_is_there(s)?;
    let request = s.request("alice", "MESSAGE", &uri(ALIAS.0), "");
    asked(s, request, "secret-a")?;
    let got = s.wait("bob", "MESSAGE")?;
    s.answer("bob", &got, "200 OK", "");
    Ok(())
}

/// Somebody of another domain calls Bob, and then somebody else elsewhere.
fn stranger(s: &mut Stage) -> Result<(), Stopped> {
    bob_is_there(s)?;
    let carol = s.addr("carol");
    let from = |text: String| {
        text.replace(&format!("From: <sip:alice@{PROXY}>"), "From: <sip:eve@elsewhere.example>")
    };
    s.send("alice", from(s.request("alice", "MESSAGE", &uri("bob"), "")));
    let got = s.wait("bob", "MESSAGE")?;
    s.answer("bob", &got, "200 OK", "");
    s.hush();
    s.send("alice", from(s.request("alice", "INFO", &format!("sip:carol@{carol}"), "")));
    Ok(())
}

/// A user of ours calls somebody elsewhere.
fn outbound(s: &mut Stage) -> Result<(), Stopped> {
    let carol = s.addr("carol");
    let request = s.request("alice", "MESSAGE", &format!("sip:carol@{carol}"), "");
    asked(s, request, "secret-a")?;
    let got = s.wait("carol", "MESSAGE")?;
    s.answer("carol", &got, "200 OK", "");
    Ok(())
}

/// OPTIONS to the proxy is not asked.
fn keepalive(s: &mut Stage) -> Result<(), Stopped> {
    s.send("alice", s.request("alice", "OPTIONS", &format!("sip:{PROXY}"), ""));
    Ok(())
}
