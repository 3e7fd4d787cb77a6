//! What a node decides, its successor decides, too: the actions of `[[route]]` tables, the algorithms of the dispatcher
//! with real SIPp as PBXs, the redirect server and the stateless proxy, each before and after the loss of the active node.
//! Needs root and the lab's packages; says so without.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::common::{active, json, lab, lose_the_active_node, say, until};
use crate::phone::{Phone, status};
use ha_tests::lab::config::DOMAIN;
use ha_tests::lab::net;
use ha_tests::lab::state::LabState;
use ha_tests::phones::sipp::{Plan, Scenario, Sipp};
use ha_tests::phones::tiny::header;
use proxy_core::engine::shard_of;

/// Ports of the PBXs.
const PBXS: [u16; 2] = [5091, 5092];

/// Call-IDs that all meet the same engine: each counts its turns for itself.
fn call_ids(prefix: &str, n: usize) -> Vec<String> {
    let cores =
        std::thread::available_parallelism().map_or(1, |n| u16::try_from(n.get()).unwrap_or(64)).min(64);
    let all = (0..).map(|n: u32| format!("{prefix}{n}"));
    all.filter(|id| shard_of(id.as_bytes(), cores) == 0).take(n).collect()
}

fn pbx(lab: &LabState, logs: &Path, port: u16) -> Sipp {
    let name = format!("pbx{port}");
    let mut plan = Plan::new(&name, Scenario::Pbx, port, "pbx");
    (plan.answer, plan.calls, plan.limit) = (Duration::from_millis(50), 100_000, Duration::from_secs(300));
    let mut pbx = Sipp::start(lab, logs, &plan).expect("sipp");
    pbx.wait_bound(port).expect("its port");
    pbx
}

/// Which PBX has got a request of this call.
fn who(pbxs: &[Sipp], method: &str, call: &str) -> usize {
    let mut found = None;
    until("the request at a PBX", || {
        found = pbxs.iter().position(|p| p.events().iter().any(|e| e.asked(method) && e.call_id == call));
        found.is_some()
    });
    found.expect("it was found")
}

/// Which PBX each of these OPTIONS comes to.
fn chosen(alice: &mut Phone, pbxs: &[Sipp], user: &str, calls: &[String]) -> Vec<usize> {
    calls
        .iter()
        .map(|call| {
            let request = alice.first("OPTIONS", &format!("sip:{user}@{DOMAIN}"), call, "", "");
            assert_eq!(status(&alice.ask(&request)), 200);
            who(pbxs, "OPTIONS", call)
        })
        .collect()
}

/// A call to the set that counts its calls: which PBX has it, and the 200.
fn loaded(alice: &mut Phone, pbxs: &[Sipp], call: &str) -> (usize, String) {
    let invite = alice.first("INVITE", &format!("sip:load@{DOMAIN}"), call, "", "");
    let ok = alice.ask(&invite);
    assert_eq!(status(&ok), 200, "{ok}");
    alice.send(&alice.within("ACK", &ok, 1, ""));
    (who(pbxs, "INVITE", call), ok)
}

fn hang_up(alice: &mut Phone, ok: &str) {
    let bye = alice.within("BYE", ok, 2, "");
    assert_eq!(status(&alice.ask(&bye)), 200);
}

/// The PBX that the active node would choose for a call, without sending it.
fn foretold(lab: &LabState, call: &str) -> usize {
    let explained = json(
        lab,
        &[
            "route",
            "explain",
            &format!("OPTIONS sip:hash@{DOMAIN}"),
            "--header",
            &format!("Call-ID: {call}"),
            "--source",
            net::CLIENT4.to_string().as_str(),
        ],
    );
    let steps = explained["steps"].as_array().expect("steps").clone();
    let choice =
        steps.iter().find(|s| s["stage"] == "DISPATCH" && s["decision"] == "chooses").expect("a choice");
    let why = choice["why"].as_str().expect("a reason");
    let first = why.split(": ").nth(1).and_then(|l| l.split(", then ").next()).expect("the first");
    PBXS.iter().position(|port| first.ends_with(&format!(":{port}"))).expect("one of ours")
}

const ROUTES: &str = r#"
[dispatcher]
probe_interval_s = 0
[[dispatcher.set]]
id = 1
algorithm = "round-robin"
[[dispatcher.set]]
id = 2
algorithm = "weight"
[[dispatcher.set]]
id = 3
algorithm = "call-id"
[[dispatcher.set]]
id = 4
algorithm = "call-load"
[speed_dial]
12 = "sip:bob@lab.test"
[[route]]
user = "turns"
action = "dispatcher"
set = 1
[[route]]
user = "weights"
action = "dispatcher"
set = 2
[[route]]
user = "hash"
action = "dispatcher"
set = 3
[[route]]
user = "load"
action = "dispatcher"
set = 4
[[route]]
user = "90*"
action = "redirect"
contact = "sip:{user}@192.0.2.5"
[[route]]
user = "91*"
action = "reject"
status = 488
reason = "Not this one"
[[route]]
user = "00*"
strip = 2
prefix = "+"
action = "location"
[[route]]
user = "secret"
require_auth = true
action = "location"
"#;

/// What each action comes to: status, the rest of the first line or the Contact, and who was called.
fn actions(alice: &mut Phone, bob: &mut Phone, number: &mut Phone, round: &str) {
    let uri = |user: &str| format!("sip:{user}@{DOMAIN}");
    let moved = alice.ask(&alice.first("INVITE", &uri("9012"), &format!("moved{round}"), "", ""));
    assert_eq!((status(&moved), header(&moved, "Contact")), (302, Some("<sip:9012@192.0.2.5>")));
    let refused = alice.ask(&alice.first("INVITE", &uri("9112"), &format!("refused{round}"), "", ""));
    assert!(refused.starts_with("SIP/2.0 488 Not this one\r\n"), "{refused}");
    let asked = alice.ask(&alice.first("INVITE", &uri("secret"), &format!("secret{round}"), "", ""));
    assert!(status(&asked) == 407 && header(&asked, "Proxy-Authenticate").is_some(), "{asked}");
    // MESSAGEs find their phones by the same stages as calls.
    for (user, callee) in [("12", &mut *bob), ("004930", &mut *number)] {
        let request = alice.first("MESSAGE", &uri(user), &format!("to{user}{round}"), "", "");
        alice.send(&request);
        let came = callee.asked("MESSAGE");
        assert!(came.starts_with(&format!("MESSAGE {} ", callee.contact())), "{came}");
        callee.answer(&came, 200, "");
        assert_eq!(status(&alice.answer_to(&request)), 200);
    }
}

#[test]
fn routes_and_algorithms_of_the_dispatcher_decide_alike_when_the_active_node_is_lost() {
    let Some((mut guard, logs)) = lab(ROUTES) else { return };
    let lab = &mut guard.lab;
    let pbxs = PBXS.map(|port| pbx(lab, logs.path(), port));
    let weights = ["weight=75", "weight=25"];
    for set in 1..=4 {
        for (port, weight) in PBXS.iter().zip(weights) {
            let uri = format!("sip:{}:{port}", net::CLIENT4);
            say(lab, &["dispatcher", "add", &set.to_string(), &uri, "--attrs", weight]);
        }
    }
    let mut alice = Phone::open(lab, "alice", 5061);
    let mut bob = Phone::open(lab, "bob", 5071);
    let mut number = Phone::open(lab, "+4930", 5072);
    bob.register(1, 600);
    number.register(1, 600);

    let rounds = |alice: &mut Phone, round: &str| {
        let turns = chosen(alice, &pbxs, "turns", &call_ids(&format!("turns{round}"), 4));
        assert!(turns.windows(2).all(|w| w[0] != w[1]), "one after the other: {turns:?}");
        let mut shares: BTreeMap<usize, usize> = BTreeMap::new();
        for at in chosen(alice, &pbxs, "weights", &call_ids(&format!("weights{round}"), 20)) {
            *shares.entry(at).or_default() += 1;
        }
        assert!((14..=16).contains(&shares[&0]) && shares[&0] + shares[&1] == 20, "75 to 25: {shares:?}");
    };
    let hashed: Vec<String> = (0..16).map(|n| format!("hash{n}")).collect();
    let foretelling: Vec<usize> = hashed.iter().map(|call| foretold(lab, call)).collect();
    assert!(foretelling.contains(&0) && foretelling.contains(&1), "{foretelling:?}");
    let (first, second) = hashed.split_at(8);

    actions(&mut alice, &mut bob, &mut number, "1");
    rounds(&mut alice, "1");
    assert_eq!(chosen(&mut alice, &pbxs, "hash", first), foretelling[..8]);
    let (at, call) = loaded(&mut alice, &pbxs, "load1");
    assert_eq!(at, 0, "equals: the first of the set");

    lose_the_active_node(lab);
    active(lab);
    actions(&mut alice, &mut bob, &mut number, "2");
    rounds(&mut alice, "2");
    assert_eq!(chosen(&mut alice, &pbxs, "hash", second), foretelling[8..], "the same Call-ID, the same PBX");
    // The call of before the loss counts.
    let (at, other) = loaded(&mut alice, &pbxs, "load2");
    assert_eq!(at, 1, "the first one has a call");
    hang_up(&mut alice, &call);
    let (at, last) = loaded(&mut alice, &pbxs, "load3");
    assert_eq!(at, 0, "its call is over, that of the other is not");
    hang_up(&mut alice, &other);
    hang_up(&mut alice, &last);
    assert_eq!(json(lab, &["dlg", "list"])["dialogs"], serde_json::json!([]));
}

#[test]
fn a_redirect_server_redirects_alike_when_the_active_node_is_lost() {
    let Some((mut guard, _logs)) = lab("\n[routing]\nmode = \"redirect\"\n") else { return };
    let lab = &mut guard.lab;
    let mut alice = Phone::open(lab, "alice", 5061);
    let mut bob = Phone::open(lab, "bob", 5071);
    bob.register(1, 600);
    let place = format!("<{}>;q=1.000", bob.contact());
    // Lost between the 302 and its ACK, which is the client's affair alone.
    for round in ["one", "two"] {
        let invite = alice.first("INVITE", &bob.uri(), round, "", "");
        let moved = alice.ask(&invite);
        assert_eq!((status(&moved), header(&moved, "Contact")), (302, Some(place.as_str())), "{moved}");
        if round == "one" {
            lose_the_active_node(lab);
            active(lab);
        }
    }
    assert_eq!(json(lab, &["dlg", "list"])["pending_invites"], serde_json::json!([]));
}

#[test]
fn a_call_through_a_stateless_proxy_goes_on_when_the_active_node_is_lost_while_it_rings() {
    let Some((mut guard, _logs)) = lab("\n[routing]\nmode = \"stateless\"\n") else { return };
    let lab = &mut guard.lab;
    let mut alice = Phone::open(lab, "alice", 5061);
    let mut bob = Phone::open(lab, "bob", 5071);
    bob.register(1, 600);
    let invite = alice.first("INVITE", &bob.uri(), "stateless", "", "");
    alice.send(&invite);
    let came = bob.asked("INVITE");
    bob.answer(&came, 180, "");
    alice.wait("180", |m| status(m) == 180);
    lose_the_active_node(lab);
    active(lab);
    bob.answer(&came, 200, "");
    let ok = alice.answer_to(&invite);
    assert_eq!(status(&ok), 200, "{ok}");
    alice.send(&alice.within("ACK", &ok, 1, ""));
    bob.asked("ACK");
    let bye = alice.within("BYE", &ok, 2, "");
    alice.send(&bye);
    let came = bob.asked("BYE");
    bob.answer(&came, 200, "");
    assert_eq!(status(&alice.answer_to(&bye)), 200);
    let left = json(lab, &["dlg", "list"]);
    assert_eq!(
        (&left["dialogs"], &left["pending_invites"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
}
