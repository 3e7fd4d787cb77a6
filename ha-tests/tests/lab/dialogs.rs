//! Ends of calls, session timers, limits and the commands about calls, in the lab, over the loss of the active node.
//! Needs root and the lab's packages; says so without.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::{
    PATIENCE, active, all_agree, json, lab, lose_and_restart, lose_the_active_node, refused, say, until,
};
use crate::phone::{Phone, status, tag, talk};
use ha_tests::lab::state::{LabState, Role};
use ha_tests::lab::{net, status as ask_status};
use ha_tests::phones::tiny::header;
use serde_json::Value;

/// The BYE that Relevo makes for one side of a call: it looks as if the other side had sent it.
fn bye(phone: &mut Phone, call: &str, from: &str, to: &str) {
    let bye = phone.wait("BYE", |m| m.starts_with("BYE ") && header(m, "Call-ID") == Some(call));
    assert_eq!((tag(&bye, "From"), tag(&bye, "To")), (from.to_owned(), to.to_owned()), "{bye}");
    phone.answer(&bye, 200, "");
}

/// CDRs of a call.
fn cdrs(lab: &LabState, call: &str) -> Vec<Value> {
    let all = json(lab, &["cdr", "list", "--kind", "cdr"]);
    let all = all["records"].as_array().expect("a list").clone();
    all.into_iter().filter(|r| r["call_id"] == call).collect()
}

/// Waits for the one CDR of a call.
fn ended(lab: &LabState, call: &str, by: &str) -> Value {
    until("the end", || !cdrs(lab, call).is_empty());
    let all = cdrs(lab, call);
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!(all[0]["ended_by"], by, "{all:#?}");
    all[0].clone()
}

fn hang_up(caller: &mut Phone, callee: &mut Phone, ok: &str) {
    let bye = caller.within("BYE", ok, 9, "");
    caller.send(&bye);
    let end = callee.asked("BYE");
    callee.answer(&end, 200, "");
    assert_eq!(status(&caller.answer_to(&bye)), 200);
}

#[test]
fn the_longest_duration_ends_a_call_by_a_node_that_was_not_there_when_it_began() {
    let Some((mut guard, _logs)) = lab("\n[dialog]\nmax_duration_s = 10\n") else { return };
    let lab = &mut guard.lab;
    let (mut alice, mut bob) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "bob", 5072));
    bob.register(1, 3600);
    talk(&mut alice, &mut bob, "c1", "", "");
    let since = Instant::now();
    lose_and_restart(lab);
    bye(&mut alice, "c1", "tbob", "falice");
    assert!(since.elapsed() > Duration::from_secs(8), "after {:?}", since.elapsed());
    // One side has heard it, and the node is lost that said it.
    until("all nodes are the same", || all_agree(lab));
    lose_the_active_node(lab);
    bye(&mut bob, "c1", "falice", "tbob");
    let cdr = ended(lab, "c1", "timeout");
    assert!((9.9..35.0).contains(&cdr["duration_s"].as_f64().expect("a number")), "{cdr}");
    let more = alice.within_time(Duration::from_secs(1), |m| m.starts_with("BYE "));
    assert!(more.is_none(), "the second BYE is a repetition of the first: {more:#?}");
}

#[test]
fn a_session_that_is_refreshed_goes_on_and_one_that_is_not_ends_whichever_node_has_seen_it() {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let mut phones = ["alice", "bob", "carol", "dave"]
        .into_iter()
        .zip(5071..)
        .map(|(user, port)| Phone::open(lab, user, port))
        .collect::<Vec<_>>();
    let [alice, bob, carol, dave] = &mut phones[..] else { panic!("four") };
    bob.register(1, 3600);
    dave.register(1, 3600);
    // RFC 4028 §4: nobody may ask for less than Min-SE.
    let offer = "Supported: timer\r\nSession-Expires: 1800\r\n";
    let small = "Supported: timer\r\nSession-Expires: 89\r\n";
    let (by_caller, by_callee) = (
        "Require: timer\r\nSession-Expires: 8;refresher=uac\r\n",
        "Require: timer\r\nSession-Expires: 8;refresher=uas\r\n",
    );
    let (_, ok) = talk(alice, bob, "uac", offer, by_caller);
    let (invite, _) = talk(carol, dave, "uas", offer, by_callee);
    let first = Instant::now();
    lose_the_active_node(lab);
    let refused = alice.ask(&alice.first("INVITE", &bob.uri(), "small", small, ""));
    assert_eq!((status(&refused), header(&refused, "Min-SE")), (422, Some("90")), "{refused}");
    alice.send(&alice.request("ACK", &bob.uri(), "small", 1, &ack_of(&refused), ""));
    // Half of the time is over: the caller refreshes one call, the callee the other, at a node that has not begun them.
    let quiet =
        alice.within_time(Duration::from_secs(4).saturating_sub(first.elapsed()), |m| m.starts_with("BYE "));
    assert!(quiet.is_none(), "{quiet:#?}");
    let again = alice.within("INVITE", &ok, 2, offer);
    alice.send(&again);
    let came = bob.asked("INVITE");
    bob.answer(&came, 200, by_caller);
    let ok = alice.answer_to(&again);
    assert_eq!(status(&ok), 200);
    alice.send(&alice.within("ACK", &ok, 2, ""));
    bob.asked("ACK");
    let update = dave.within_as_callee(
        "UPDATE",
        &invite,
        1,
        "Supported: timer\r\nSession-Expires: 1800;refresher=uac\r\n",
    );
    dave.send(&update);
    let came = carol.asked("UPDATE");
    carol.answer(&came, 200, "Require: timer\r\nSession-Expires: 8;refresher=uac\r\n");
    assert_eq!(status(&dave.answer_to(&update)), 200);
    let refreshed = Instant::now();
    // Nobody refreshes again.
    bye(alice, "uac", "tbob", "falice");
    assert!(refreshed.elapsed() > Duration::from_secs(6), "after {:?}", refreshed.elapsed());
    bye(bob, "uac", "falice", "tbob");
    bye(carol, "uas", "tdave", "fcarol");
    bye(dave, "uas", "fcarol", "tdave");
    ended(lab, "uac", "session timer");
    ended(lab, "uas", "session timer");
}

/// From and To of the ACK to a refusal.
fn ack_of(refusal: &str) -> String {
    let value = |name| header(refusal, name).expect("the header");
    format!("From: {}\r\nTo: {}\r\n", value("From"), value("To"))
}

/// The status of an INVITE that is answered with it at once, or rings.
fn try_call(caller: &mut Phone, to: &str, call: &str) -> u16 {
    let request = caller.first("INVITE", to, call, "", "");
    let answer = caller.ask(&request);
    caller.send(&caller.request("ACK", to, call, 1, &ack_of(&answer), ""));
    status(&answer)
}

#[test]
fn limits_of_users_and_trunks_hold_when_the_node_that_counted_is_lost() {
    let extra = "\n[trunk]\npstn = \"gate\"\n[limits]\ncalls_per_caller = 1\ncalls_per_callee = 1\n\
                 [[limits.trunk]]\nname = \"gate\"\ncalls = 1\n";
    let Some((mut guard, logs)) = lab(extra) else { return };
    let lab = &mut guard.lab;
    let password = logs.path().join("password");
    fs::write(&password, "secret\n").expect("written");
    let (password, proxy) = (password.to_str().expect("a path"), format!("sip:{}:5075", net::CLIENT4));
    let gate = [
        "trunk",
        "add",
        "gate",
        "us@carrier.test",
        "--proxy",
        &proxy,
        "--expires",
        "0",
        "--password-file",
        password,
    ];
    say(lab, &gate);
    let mut phones = ["alice", "bob", "carol", "dave", "gate", "erin"]
        .into_iter()
        .zip(5071..)
        .map(|(user, port)| Phone::open(lab, user, port))
        .collect::<Vec<_>>();
    let [alice, bob, carol, dave, gate, erin] = &mut phones[..] else { panic!("six") };
    bob.register(1, 3600);
    carol.register(1, 3600);
    let (_, ok) = talk(alice, bob, "c1", "", "");
    let number = "sip:+493012345@lab.test";
    let out = dave.first("INVITE", number, "out", "", "");
    dave.send(&out);
    let came = gate.asked("INVITE");
    gate.answer(&came, 200, "");
    let out = dave.wait("200", |m| status(m) == 200 && header(m, "Call-ID") == Some("out"));
    dave.send(&dave.within("ACK", &out, 1, ""));
    gate.asked("ACK");
    for round in 0..2 {
        if round == 1 {
            lose_and_restart(lab);
        }
        assert_eq!(try_call(alice, "sip:carol@lab.test", &format!("a{round}")), 403, "alice calls already");
        assert_eq!(try_call(erin, "sip:bob@lab.test", &format!("b{round}")), 486, "bob is in a call");
        assert_eq!(try_call(erin, number, &format!("t{round}")), 503, "the trunk is full");
    }
    hang_up(alice, bob, &ok);
    hang_up(dave, gate, &out);
    // There is room again, and a call that only rings counts, too, when its node is lost.
    until("all nodes are the same", || all_agree(lab));
    let ringing = alice.first("INVITE", "sip:carol@lab.test", "c2", "", "");
    alice.send(&ringing);
    let came = carol.asked("INVITE");
    carol.answer(&came, 180, "");
    alice.wait("180", |m| status(m) == 180);
    lose_the_active_node(lab);
    assert_eq!(try_call(alice, "sip:bob@lab.test", "a2"), 403);
    assert_eq!(try_call(erin, "sip:carol@lab.test", "b2"), 486);
    carol.answer(&came, 486, "");
    let end = alice.answer_to(&ringing);
    assert_eq!(status(&end), 486);
    alice.send(&alice.request("ACK", "sip:carol@lab.test", "c2", 1, &ack_of(&end), ""));
    let (_, ok) = talk(alice, carol, "c3", "", "");
    hang_up(alice, carol, &ok);
}

#[test]
fn the_commands_about_calls_say_what_is_and_refuse_what_cannot_be_on_every_node() {
    let Some((mut guard, _logs)) = lab("\n[accounting]\njson = \"cdr.jsonl\"\n") else { return };
    let lab = &mut guard.lab;
    let (mut alice, mut bob) = (Phone::open(lab, "alice", 5071), Phone::open(lab, "bob", 5072));
    bob.register(1, 3600);
    talk(&mut alice, &mut bob, "c1", "", "");
    let ringing = alice.first("INVITE", "sip:bob@lab.test", "c2", "", "");
    alice.send(&ringing);
    let came = bob.asked("INVITE");
    bob.answer(&came, 180, "");
    alice.wait("180", |m| status(m) == 180);
    // A standby has all that the active node has.
    until("all nodes are the same", || all_agree(lab));
    let holder = active(lab).id;
    let standby =
        lab.nodes.iter().find(|n| n.role == Role::Appliance && n.id != holder).expect("one").clone();
    let at = |lab: &LabState, args: &[&str]| -> Result<Value, String> {
        let args = [args, &["--json"]].concat();
        let text = ask_status::admin(lab, &standby, &args, PATIENCE).map_err(|e| e.to_string())?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    };
    for list in [json(lab, &["dlg", "list"]), at(lab, &["dlg", "list"]).expect("a standby knows it, too")] {
        let text = list.to_string();
        assert!(text.contains("\"c1\"") && text.contains("\"c2\""), "{text}");
    }
    let shown = at(lab, &["dlg", "show", "c1"]).expect("it is there");
    assert_eq!(shown["dialogs"][0]["state"], "confirmed", "{shown}");
    assert_eq!(
        (shown["dialogs"].as_array().map(Vec::len), &shown["pending_invites"]),
        (Some(1), &Value::from(Vec::<Value>::new()))
    );
    let shown = json(lab, &["dlg", "show", "c2"]);
    assert_eq!(
        (shown["dialogs"].as_array().map(Vec::len), shown["pending_invites"].as_array().map(Vec::len)),
        (Some(0), Some(1))
    );

    for verb in ["show", "end"] {
        let no = refused(lab, &["dlg", verb, "nobody"]);
        assert!(no.contains("there is no call nobody") && no.contains("relevo dlg list"), "{no}");
        let no = at(lab, &["dlg", verb, "nobody"]).expect_err("no such call");
        assert!(no.contains("there is no call nobody"), "{no}");
        assert!(refused(lab, &["dlg", verb]).contains("<CALL_ID>"), "without a Call-ID");
    }
    assert!(refused(lab, &["dlg", "stop", "c1"]).contains("stop"));

    // Asked of a standby, and the active node is lost before it can be sure of both answers.
    assert_eq!(at(lab, &["dlg", "end", "c1"]).expect("it is done")["ending"], 1);
    bye(&mut alice, "c1", "tbob", "falice");
    lose_and_restart(lab);
    bye(&mut bob, "c1", "falice", "tbob");
    ended(lab, "c1", "operator");
    // One that rings ends, too, and the node that was asked is not the one that has to see to it.
    until("all nodes are the same", || all_agree(lab));
    assert_eq!(json(lab, &["dlg", "end", "c2"])["ending_ringing"], 1);
    lose_and_restart(lab);
    let cancel = bob.asked("CANCEL");
    bob.answer(&cancel, 200, "");
    bob.answer(&came, 487, "");
    let end = alice.answer_to(&ringing);
    assert_eq!(status(&end), 480, "{end}");
    alice.send(&alice.request("ACK", "sip:bob@lab.test", "c2", 1, &ack_of(&end), ""));
    ended(lab, "c2", "operator");
    until("no call is left", || {
        let list = json(lab, &["dlg", "list"]).to_string();
        !list.contains("\"c1\"") && !list.contains("\"c2\"")
    });

    // Records: answered and cdr of the first, failed, missed and cdr of the second.
    let all = json(lab, &["cdr", "list"]);
    let mut kinds: Vec<&str> = all["records"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| r["kind"].as_str().expect("a kind"))
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["answered", "cdr", "cdr", "failed", "missed"]);
    let last = json(lab, &["cdr", "list", "--last", "1"]);
    assert_eq!(last["records"].as_array().map(Vec::len), Some(1));
    assert_eq!(last["records"][0]["seq"], 5, "the newest");
    assert_eq!(json(lab, &["cdr", "list", "--last", "0"])["records"], Value::from(Vec::<Value>::new()));
    let no = refused(lab, &["cdr", "list", "--kind", "calls"]);
    assert!(no.contains("calls") && no.contains("missed"), "what there is, is said: {no}");
    assert!(refused(lab, &["cdr", "list", "--last", "-1"]).contains("-1"));
    until("both nodes have written", || {
        let v = json(lab, &["cdr", "status"]);
        v["waiting"] == 0
            && v["nodes"].as_array().is_some_and(|n| n.len() == 2 && n.iter().all(|n| n["up_to"] == 5))
    });
    let no = refused(lab, &["cdr", "forget", "2"]);
    assert!(no.contains("configuration") && no.contains("[[cluster.node]]"), "{no}");
    let no = refused(lab, &["cdr", "forget", "9"]);
    assert!(no.contains("node 9 is not among those"), "{no}");
    for wrong in ["x", "70000", "-1"] {
        assert!(refused(lab, &["cdr", "forget", wrong]).contains(wrong));
    }
    assert!(refused(lab, &["cdr", "forget"]).contains("<NODE>"));
}
