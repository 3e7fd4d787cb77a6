//! What the phones do, the same with both proxies: the list, and all but the calls.

use crate::calls::*;
use crate::stage::{PROXY, Stage, Stopped};

type Play = fn(&mut Stage) -> Result<(), Stopped>;

/// A scenario that waits for a timer of half a minute or more.
pub const LONG: &[(&str, Play)] = &[("callee-silent", callee_silent)];

/// The others.
pub const SHORT: &[(&str, Play)] = &[
    ("register", register),
    ("register-two", register_two),
    ("register-order", register_order),
    ("options", options),
    ("call", call),
    ("call-hold", call_hold),
    ("call-bye-back", call_bye_back),
    ("call-busy", call_busy),
    ("call-cancel", call_cancel),
    ("call-unknown", call_unknown),
    ("call-declined", call_declined),
    ("call-unavailable", call_unavailable),
    ("call-redirected", call_redirected),
    ("call-challenged", call_challenged),
    ("fork", fork),
    ("fork-busy", fork_busy),
    ("fork-decline", fork_decline),
    ("invite-again", invite_again),
    ("cancel-stray", cancel_stray),
    ("cancel-again", cancel_again),
    ("cancel-early", cancel_early),
    ("cancel-late", cancel_late),
    ("cancel-crossing", cancel_crossing),
    ("ack-stray", ack_stray),
    ("in-dialog-stray", in_dialog_stray),
    ("response-stray", response_stray),
    ("no-user", no_user),
    ("elsewhere", elsewhere),
    ("max-forwards", max_forwards),
    ("no-max-forwards", no_max_forwards),
    ("proxy-require", proxy_require),
    ("preloaded-route", preloaded_route),
    ("methods", methods),
    ("method-filter", method_filter),
    ("breadth", breadth),
    ("options-require", options_require),
    ("contact-headers", contact_headers),
    ("presence", presence),
    ("large", large),
    ("scanner", scanner),
    ("escaped-user", escaped_user),
    ("case", letter_case),
];

pub fn uri(user: &str) -> String {
    format!("sip:{user}@{PROXY}")
}

fn register(s: &mut Stage) -> Result<(), Stopped> {
    let contact = format!("Contact: <sip:u1@{}>\r\n", s.addr("alice"));
    for (cseq, more) in [
        (1, contact.clone()),
        // Asks for what is there.
        (2, String::new()),
        (3, format!("{contact}Expires: 120\r\n")),
        (4, contact.replace(">\r\n", ">;expires=90;q=0.7\r\n")),
        (5, contact.replace(">\r\n", ">;expires=86400\r\n")),
        (6, contact.replace(">\r\n", ">;expires=0\r\n")),
        (
            7,
            contact.replace(
                ">\r\n",
                ">;q=0.3;+sip.instance=\"<urn:uuid:00000000-0000-0000-0000-000000000001>\";x=y\r\n",
            ),
        ),
        (8, String::from("Contact: *\r\nExpires: 0\r\n")),
        (9, String::new()),
    ] {
        s.send("alice", s.register("alice", "u1", cseq, &more));
        s.hush();
    }
    Ok(())
}

fn register_two(s: &mut Stage) -> Result<(), Stopped> {
    let (a, b) = (s.addr("alice"), s.addr("bob"));
    let two = format!("Contact: <sip:u2@{a}>;q=0.2, <sip:u2@{b}>;q=0.9\r\nExpires: 300\r\n");
    s.send("alice", s.register("alice", "u2", 1, &two));
    s.hush();
    s.send("bob", s.register("bob", "u2", 1, &format!("Contact: <sip:u2@{b}>;expires=0\r\n")));
    s.hush();
    Ok(())
}

/// REGISTERs that something is wrong with: name, Contact and further lines (`C` stands for the contact), and what is
/// replaced in the request.
pub const REFUSALS: &[(&str, &str, (&str, &str))] = &[
    ("register star", "Contact: *", ("", "")),
    ("register star-60", "Contact: *\r\nExpires: 60", ("", "")),
    ("register star-and-more", "Contact: *, C\r\nExpires: 0", ("", "")),
    ("register brief", "Contact: C;expires=10", ("", "")),
    ("register expires-abc", "Contact: C;expires=abc", ("", "")),
    ("register q-1.5", "Contact: C;q=1.5", ("", "")),
    ("register expires-never", "Contact: C\r\nExpires: never", ("", "")),
    ("register require", "Contact: C\r\nRequire: x-unheard-of", ("", "")),
    ("register reg-id", "Contact: C;reg-id=1", ("", "")),
    ("register no-host", "Contact: <sip:>", ("", "")),
    ("register elsewhere", "Contact: C", ("REGISTER sip:10.77.9.1", "REGISTER sip:elsewhere.example")),
    ("register for-another", "Contact: C", ("From: <sip:u3@", "From: <sip:eve@")),
    ("register to-elsewhere", "Contact: C", ("To: <sip:u3@10.77.9.1>", "To: <sip:u3@elsewhere.example>")),
    ("register tel", "Contact: C", ("To: <sip:u3@10.77.9.1>", "To: <tel:+34600000000>")),
];

pub fn refusal(s: &mut Stage, lines: &str, replaced: (&str, &str)) {
    let contact = format!("<sip:u3@{}>", s.addr("alice"));
    let lines = lines.replace(" C", &format!(" {contact}"));
    let request = s.register("alice", "u3", 1, &format!("{lines}\r\n"));
    s.send("alice", if replaced.0.is_empty() { request } else { request.replace(replaced.0, replaced.1) });
}

fn register_order(s: &mut Stage) -> Result<(), Stopped> {
    let contact = format!("Contact: <sip:u4@{}>\r\n", s.addr("alice"));
    for cseq in [5, 4, 6] {
        s.send("alice", s.register("alice", "u4", cseq, &contact));
        s.hush();
    }
    Ok(())
}

fn options(s: &mut Stage) -> Result<(), Stopped> {
    for to in [format!("sip:{PROXY}"), uri("nobody"), String::from("sip:elsewhere.example")] {
        let request = s.request("alice", "OPTIONS", &to, "");
        s.send("alice", request.replace("z9hG4bK", &format!("z9hG4bK{}", to.len())));
        s.hush();
    }
    Ok(())
}

fn ack_stray(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    s.send("alice", s.request("alice", "ACK", &uri("bob"), ""));
    let ack = s.request("alice", "ACK", &uri("bob"), "");
    s.send("alice", ack.replace(">\r\nCall-ID", ">;tag=tx\r\nCall-ID"));
    Ok(())
}

fn in_dialog_stray(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    for method in ["BYE", "INVITE", "NOTIFY", "OPTIONS", "SUBSCRIBE"] {
        let request = s.request("alice", method, &uri("bob"), "");
        s.send("alice", request.replace(">\r\nCall-ID", ">;tag=tx\r\nCall-ID"));
        s.hush();
    }
    Ok(())
}

fn response_stray(s: &mut Stage) -> Result<(), Stopped> {
    let (bob, scene) = (s.addr("bob"), s.scene.clone());
    s.send(
        "alice",
        format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {PROXY};branch=z9hG4bKnever\r\nVia: SIP/2.0/UDP {bob};branch=z9hG4bK{scene}-bob-x\r\n\
             From: <sip:bob@{PROXY}>;tag=tbob\r\nTo: <sip:alice@{PROXY}>;tag=talice\r\nCall-ID: {scene}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        ),
    );
    s.hush();
    s.send("alice", format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKnever\r\nFrom: <sip:b@c>;tag=1\r\nTo: <sip:a@c>\r\nCall-ID: {scene}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"));
    Ok(())
}

fn no_user(s: &mut Stage) -> Result<(), Stopped> {
    for method in ["INVITE", "MESSAGE"] {
        s.send("alice", s.request("alice", method, &format!("sip:{PROXY}"), ""));
        s.hush();
    }
    Ok(())
}

fn elsewhere(s: &mut Stage) -> Result<(), Stopped> {
    let carol = s.addr("carol");
    s.send("alice", s.request("alice", "MESSAGE", &format!("sip:carol@{carol}"), ""));
    s.hush();
    let stranger = s.request("alice", "INFO", &format!("sip:carol@{carol}"), "");
    s.send(
        "alice",
        stranger.replace(&format!("From: <sip:alice@{PROXY}>"), "From: <sip:alice@elsewhere.example>"),
    );
    Ok(())
}

fn max_forwards(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    for (n, method) in
        [("0", "MESSAGE"), ("1", "INFO"), ("200", "OPTIONS"), ("256", "NOTIFY"), ("x", "REFER")]
    {
        let request = s.request("alice", method, &uri("bob"), "");
        s.send("alice", request.replace("Max-Forwards: 70", &format!("Max-Forwards: {n}")));
        s.hush();
    }
    Ok(())
}

fn no_max_forwards(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    s.send("alice", s.request("alice", "MESSAGE", &uri("bob"), "").replace("Max-Forwards: 70\r\n", ""));
    let request = s.wait("bob", "MESSAGE")?;
    s.answer("bob", &request, "200 OK", "");
    Ok(())
}

fn proxy_require(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    s.send("alice", s.request("alice", "OPTIONS", &uri("bob"), "Proxy-Require: x-one, x-two\r\n"));
    s.hush();
    s.send("alice", s.request("alice", "MESSAGE", &uri("bob"), "Require: x-one\r\n"));
    Ok(())
}

fn preloaded_route(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let carol = s.addr("carol");
    s.send("alice", s.request("alice", "MESSAGE", &uri("bob"), &format!("Route: <sip:{PROXY};lr>\r\n")));
    s.hush();
    s.send(
        "alice",
        s.request("alice", "INFO", &uri("bob"), &format!("Route: <sip:{PROXY};lr>, <sip:{carol};lr>\r\n")),
    );
    s.hush();
    s.send("alice", s.request("alice", "NOTIFY", &uri("bob"), &format!("Route: <sip:{carol};lr>\r\n")));
    Ok(())
}

fn methods(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    for method in ["MESSAGE", "OPTIONS", "INFO", "NOTIFY", "REFER", "UPDATE", "PRACK", "BYE", "X-ODD"] {
        s.send("alice", s.request("alice", method, &uri("bob"), ""));
        if let Ok(request) = s.wait("bob", method) {
            s.answer("bob", &request, "200 OK", "X-From: bob\r\n");
        }
        s.hush();
    }
    Ok(())
}

/// A phone that takes calls and nothing else.
fn method_filter(s: &mut Stage) -> Result<(), Stopped> {
    let contact = format!("Contact: <sip:bob@{}>;methods=\"INVITE,ACK,BYE,CANCEL\"\r\n", s.addr("bob"));
    s.send("bob", s.register("bob", "picky", 1, &contact));
    s.wait("bob", "SIP/2.0 200")?;
    s.heard.clear();
    s.send("alice", s.request("alice", "MESSAGE", &uri("picky"), ""));
    Ok(())
}

/// Two phones, and a request that may be there once.
fn breadth(s: &mut Stage) -> Result<(), Stopped> {
    for phone in ["bob", "carol"] {
        let contact = format!("Contact: <sip:{phone}@{}>\r\n", s.addr(phone));
        s.send(phone, s.register(phone, "two", 1, &contact));
        s.wait(phone, "SIP/2.0 200")?;
    }
    s.hush();
    s.heard.clear();
    s.send("alice", s.request("alice", "MESSAGE", &uri("two"), "Max-Breadth: 1\r\n"));
    Ok(())
}

fn options_require(s: &mut Stage) -> Result<(), Stopped> {
    s.send("alice", s.request("alice", "OPTIONS", &format!("sip:{PROXY}"), "Require: x-unheard-of\r\n"));
    Ok(())
}

/// A Contact with what no Request-URI may have.
fn contact_headers(s: &mut Stage) -> Result<(), Stopped> {
    let contact = format!("Contact: <sip:bob@{};method=INVITE?Subject=x>\r\n", s.addr("bob"));
    s.send("bob", s.register("bob", "odd", 1, &contact));
    s.wait("bob", "SIP/2.0 200")?;
    s.heard.clear();
    s.send("alice", s.request("alice", "MESSAGE", &uri("odd"), ""));
    Ok(())
}

fn presence(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    for (method, event) in [("SUBSCRIBE", "presence"), ("PUBLISH", "presence")] {
        s.send(
            "alice",
            s.request("alice", method, &uri("bob"), &format!("Event: {event}\r\nExpires: 60\r\n")),
        );
        s.hush();
    }
    s.scene = String::from("presence-mwi");
    s.send(
        "alice",
        s.request("alice", "SUBSCRIBE", &uri("bob"), "Event: message-summary\r\nExpires: 60\r\n"),
    );
    Ok(())
}

fn large(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    for (method, length) in [("MESSAGE", 1200), ("INFO", 4000), ("OPTIONS", 30_000)] {
        s.send(
            "alice",
            s.request("alice", method, &uri("bob"), &format!("X-Fill: {}\r\n", "x".repeat(length))),
        );
        s.hush();
    }
    s.send("alice", s.request("alice", "NOTIFY", &uri(&"u".repeat(600)), ""));
    Ok(())
}

fn scanner(s: &mut Stage) -> Result<(), Stopped> {
    for (agent, method) in [
        ("friendly-scanner", "OPTIONS"),
        ("sipcli/v1.8", "INVITE"),
        ("sundayddr", "INFO"),
        ("Good Phone", "MESSAGE"),
    ] {
        s.send("alice", s.request("alice", method, &uri("nobody"), &format!("User-Agent: {agent}\r\n")));
        s.hush();
    }
    Ok(())
}

fn escaped_user(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    s.send("alice", s.request("alice", "MESSAGE", &uri("b%6fb"), ""));
    Ok(())
}

fn letter_case(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    s.send("alice", s.request("alice", "MESSAGE", &uri("BOB"), ""));
    s.hush();
    s.send("alice", s.request("alice", "INFO", &format!("SIP:bob@{PROXY}:5060;transport=udp"), ""));
    Ok(())
}
