//! An engine that dies at a message, on order: what goes on, and what becomes of the message. Only a debug build can.
#![cfg(debug_assertions)]

mod common;

use std::path::PathBuf;

use agent::net::drill;
use common::node::start_with;
use common::ua::Ua;

const POISON: &str = "X-Drill: a message to die of";

fn options(from: &mut Ua, call_id: &str, more: &str) {
    let via = from.via();
    from.send(&format!(
        "OPTIONS sip:127.0.0.1 SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:x@lab.test>;tag=x\r\nTo: <sip:127.0.0.1>\r\n\
         Call-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\n{more}Content-Length: 0\r\n\r\n"
    ));
}

#[test]
fn an_engine_that_dies_at_a_message_goes_on_with_its_calls_and_refuses_the_message_after_the_second_death() {
    drill::order(&format!("panic:{POISON}"));
    let mut data = PathBuf::new();
    let node = start_with("127.0.0.1", |config| {
        // One: the call and the message meet in it.
        config.sip.engines = 1;
        data.clone_from(&config.data);
    });
    let (mut alice, mut bob) = (Ua::new("alice", node.proxy), Ua::new("bob", node.proxy));
    let mut stranger = Ua::new("stranger", node.proxy);
    assert_eq!(bob.register(300).status(), 200);
    alice.invite("bob", "call-1");
    assert_eq!(alice.receive().status(), 100);
    let invite = bob.expect("INVITE");
    bob.respond(&invite, "180 Ringing", "b");
    assert_eq!(alice.expect("180").status(), 180);

    for death in 0..2 {
        options(&mut stranger, "poison", &format!("{POISON}\r\n"));
        // The next message is answered by an engine that has begun anew.
        options(&mut stranger, &format!("fine-{death}"), "");
        assert_eq!(stranger.receive().one("Call-ID"), format!("fine-{death}"));
    }
    options(&mut stranger, "poison", &format!("{POISON}\r\n"));
    let refused = stranger.receive();
    assert_eq!((refused.status(), refused.one("Call-ID").as_str()), (500, "poison"));
    let kept: Vec<_> = std::fs::read_dir(data.join("to-send-in")).expect("a folder").collect();
    assert_eq!(kept.len(), 1);

    bob.respond(&invite, "200 OK", "b");
    let ok = alice.expect("200");
    alice.in_dialog("ACK", &ok);
    bob.expect("ACK");
}
