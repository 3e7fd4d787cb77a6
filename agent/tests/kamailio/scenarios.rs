//! What the phones do, the same with both proxies.

use std::time::Duration;

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

fn uri(user: &str) -> String {
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

fn call(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    s.send("alice", s.request("alice", "INVITE", &uri("bob"), "Subject: hello\r\nX-Own: 1\r\n"));
    let invite = s.wait("bob", "INVITE")?;
    s.answer("bob", &invite, "100 Trying", "");
    s.answer_with_contact("bob", &invite, "180 Ringing");
    s.wait("alice", "SIP/2.0 180")?;
    s.answer_with_contact("bob", &invite, "183 Session Progress");
    s.wait("alice", "SIP/2.0 183")?;
    s.answer_with_contact("bob", &invite, "200 OK");
    let ok = s.wait("alice", "SIP/2.0 200")?;
    s.send("alice", s.in_dialog("alice", "ACK", 1, &ok));
    s.wait("bob", "ACK")?;
    s.send("alice", s.in_dialog("alice", "BYE", 2, &ok));
    let bye = s.wait("bob", "BYE")?;
    s.answer("bob", &bye, "200 OK", "");
    Ok(())
}

/// A call of `user` that was answered; the INVITE as bob got it, and the 200 as alice got it.
fn answered(s: &mut Stage) -> Result<(crate::common::ua::Message, crate::common::ua::Message), Stopped> {
    s.is_registered("bob", "bob")?;
    s.send("alice", s.request("alice", "INVITE", &uri("bob"), ""));
    let invite = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &invite, "200 OK");
    let ok = s.wait("alice", "SIP/2.0 200")?;
    s.send("alice", s.in_dialog("alice", "ACK", 1, &ok));
    s.wait("bob", "ACK")?;
    Ok((invite, ok))
}

fn call_hold(s: &mut Stage) -> Result<(), Stopped> {
    let (_, ok) = answered(s)?;
    s.heard.clear();
    s.send("alice", s.in_dialog("alice", "INVITE", 2, &ok));
    let again = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &again, "200 OK");
    s.wait("alice", "SIP/2.0 200")?;
    s.send("alice", s.in_dialog("alice", "ACK", 2, &ok));
    s.wait("bob", "ACK")?;
    for (cseq, method) in [(3, "INFO"), (4, "UPDATE"), (5, "REFER"), (6, "MESSAGE"), (7, "NOTIFY")] {
        s.send("alice", s.in_dialog("alice", method, cseq, &ok));
        let request = s.wait("bob", method)?;
        s.answer("bob", &request, "200 OK", "");
        s.hush();
    }
    Ok(())
}

fn call_bye_back(s: &mut Stage) -> Result<(), Stopped> {
    let (invite, _) = answered(s)?;
    s.heard.clear();
    s.send("bob", s.in_dialog_back("bob", "BYE", 1, &invite));
    let bye = s.wait("alice", "BYE")?;
    s.answer("alice", &bye, "481 Call/Transaction Does Not Exist", "");
    Ok(())
}

/// Bob refuses with this.
fn refused(s: &mut Stage, status: &str, more: &str) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    let got = s.wait("bob", "INVITE")?;
    s.answer("bob", &got, status, more);
    s.wait("bob", "ACK")?;
    let code = status.split(' ').next().unwrap_or_default();
    // Which final the caller gets is what is compared.
    let class = s.wait("alice", &format!("SIP/2.0 {code}")).or_else(|_| s.wait("alice", "SIP/2.0 5"))?;
    s.send("alice", s.like("ACK", &invite, Some(&class)));
    Ok(())
}

fn call_busy(s: &mut Stage) -> Result<(), Stopped> {
    refused(s, "486 Busy Here", "X-Why: on the phone\r\n")
}

fn call_declined(s: &mut Stage) -> Result<(), Stopped> {
    refused(s, "603 Decline", "")
}

fn call_unavailable(s: &mut Stage) -> Result<(), Stopped> {
    refused(s, "503 Service Unavailable", "Retry-After: 20\r\n")
}

fn call_redirected(s: &mut Stage) -> Result<(), Stopped> {
    refused(s, "302 Moved Temporarily", "Contact: <sip:carol@192.0.2.1>\r\n")
}

fn call_challenged(s: &mut Stage) -> Result<(), Stopped> {
    refused(s, "407 Proxy Authentication Required", "Proxy-Authenticate: Digest realm=\"x\", nonce=\"y\"\r\n")
}

fn call_cancel(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    let got = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &got, "180 Ringing");
    s.wait("alice", "SIP/2.0 180")?;
    s.send("alice", s.like("CANCEL", &invite, None));
    let cancel = s.wait("bob", "CANCEL")?;
    s.answer("bob", &cancel, "200 OK", "");
    s.answer("bob", &got, "487 Request Terminated", "");
    s.wait("bob", "ACK")?;
    let failed = s.wait("alice", "SIP/2.0 487")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}

fn call_unknown(s: &mut Stage) -> Result<(), Stopped> {
    let invite = s.request("alice", "INVITE", &uri("nobody"), "");
    s.send("alice", &invite);
    let failed = s.wait("alice", "SIP/2.0 404")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}

/// Two phones of one user ring.
fn forked(s: &mut Stage) -> Result<(String, [crate::common::ua::Message; 2]), Stopped> {
    for phone in ["bob", "carol"] {
        let contact = format!("Contact: <sip:{phone}@{}>\r\n", s.addr(phone));
        s.send(phone, s.register(phone, "team", 1, &contact));
        s.wait(phone, "SIP/2.0 200")?;
    }
    s.hush();
    s.heard.clear();
    let invite = s.request("alice", "INVITE", &uri("team"), "");
    s.send("alice", &invite);
    let both = [s.wait("bob", "INVITE")?, s.wait("carol", "INVITE")?];
    s.answer_with_contact("bob", &both[0], "180 Ringing");
    s.hush();
    s.answer_with_contact("carol", &both[1], "180 Ringing");
    s.hush();
    Ok((invite, both))
}

fn fork(s: &mut Stage) -> Result<(), Stopped> {
    let (_, both) = forked(s)?;
    s.answer_with_contact("carol", &both[1], "200 OK");
    let ok = s.wait("alice", "SIP/2.0 200")?;
    s.send("alice", s.in_dialog("alice", "ACK", 1, &ok));
    let cancel = s.wait("bob", "CANCEL")?;
    s.answer("bob", &cancel, "200 OK", "");
    s.answer("bob", &both[0], "487 Request Terminated", "");
    s.wait("bob", "ACK")?;
    Ok(())
}

fn fork_busy(s: &mut Stage) -> Result<(), Stopped> {
    let (invite, both) = forked(s)?;
    s.answer("bob", &both[0], "486 Busy Here", "");
    s.hush();
    s.answer("carol", &both[1], "404 Not Found", "");
    let failed = s.wait("alice", "SIP/2.0 4")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}

fn fork_decline(s: &mut Stage) -> Result<(), Stopped> {
    let (invite, both) = forked(s)?;
    s.answer("bob", &both[0], "603 Decline", "");
    let cancel = s.wait("carol", "CANCEL")?;
    s.answer("carol", &cancel, "200 OK", "");
    s.answer("carol", &both[1], "487 Request Terminated", "");
    let failed = s.wait("alice", "SIP/2.0 6")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}

fn invite_again(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    let got = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &got, "180 Ringing");
    s.wait("alice", "SIP/2.0 180")?;
    s.send("alice", &invite);
    s.hush();
    s.answer("bob", &got, "486 Busy Here", "");
    let failed = s.wait("alice", "SIP/2.0 486")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    s.hush();
    s.send("alice", &invite);
    Ok(())
}

fn cancel_stray(s: &mut Stage) -> Result<(), Stopped> {
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", s.like("CANCEL", &invite, None));
    Ok(())
}

fn cancel_again(s: &mut Stage) -> Result<(), Stopped> {
    call_cancel(s)?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.hush();
    s.send("alice", s.like("CANCEL", &invite, None));
    Ok(())
}

/// Before the phone has said anything.
fn cancel_early(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    let got = s.wait("bob", "INVITE")?;
    s.send("alice", s.like("CANCEL", &invite, None));
    s.hush();
    s.answer_with_contact("bob", &got, "180 Ringing");
    let cancel = s.wait("bob", "CANCEL")?;
    s.answer("bob", &cancel, "200 OK", "");
    s.answer("bob", &got, "487 Request Terminated", "");
    let failed = s.wait("alice", "SIP/2.0 487")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}

/// After the answer.
fn cancel_late(s: &mut Stage) -> Result<(), Stopped> {
    let (_, ok) = answered(s)?;
    s.heard.clear();
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", s.like("CANCEL", &invite, None));
    s.hush();
    s.send("alice", s.in_dialog("alice", "BYE", 2, &ok));
    let bye = s.wait("bob", "BYE")?;
    s.answer("bob", &bye, "200 OK", "");
    Ok(())
}

/// The phone answers while it is being cancelled.
fn cancel_crossing(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    let got = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &got, "180 Ringing");
    s.wait("alice", "SIP/2.0 180")?;
    s.send("alice", s.like("CANCEL", &invite, None));
    let cancel = s.wait("bob", "CANCEL")?;
    s.answer_with_contact("bob", &got, "200 OK");
    s.answer("bob", &cancel, "481 Call/Transaction Does Not Exist", "");
    s.hush();
    // Not that of the CANCEL.
    let mut heard = s.heard.get("alice").into_iter().flatten();
    let ok =
        heard.find(|m| m.status() == 200 && m.one("CSeq").ends_with("INVITE")).cloned().ok_or(Stopped)?;
    s.send("alice", s.in_dialog("alice", "ACK", 1, &ok));
    s.wait("bob", "ACK")?;
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

fn callee_silent(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    s.wait("bob", "INVITE")?;
    let failed = s.wait_as("alice", "SIP/2.0 4", Duration::from_secs(40))?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}
