//! Media in the lab: two real rtpengines in user space, two real phones that talk through them, and the loss of the
//! active node or of an rtpengine in the middle of it. Needs root and the lab's packages; says so without.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::common::{PATIENCE, json, lab, lose_the_active_node, say, until};
use ha_tests::lab::cluster::{DownGuard, in_path};
use ha_tests::lab::net::CLIENT4;
use ha_tests::phones::baresip::Baresip;
use ha_tests::phones::rtpengine::Rtpengine;
use ha_tests::phones::sipp::{self, Plan, Scenario, Sipp};

/// Packets of one party that say that media flow: half a second of it.
const FLOWS: i64 = 25;

/// A lab whose calls all go through the rtpengines on these ports.
fn media_lab(ports: &[u16]) -> Option<(DownGuard, tempfile::TempDir)> {
    media_lab_of(ports, "")
}

/// The same with further keys.
fn media_lab_of(ports: &[u16], keys: &str) -> Option<(DownGuard, tempfile::TempDir)> {
    if in_path("rtpengine").is_none() {
        println!("skipped: no rtpengine; apt-get install rtpengine-daemon");
        return None;
    }
    let mut extra = String::from("\n[rtpengine]\nuse = \"always\"\ntimeout_ms = 400\nping_s = 1\n");
    extra.push_str(keys);
    for port in ports {
        extra.push_str(&format!("[[rtpengine.node]]\naddr = \"{CLIENT4}:{port}\"\n"));
    }
    lab(&extra)
}

/// Words for a callee with a browser's media and a caller with plain ones.
const TO_BROWSERS: &str = "caller = \"RTP/AVP ICE=remove rtcp-mux-demux replace-origin replace-session-connection\"\n\
                           callee = \"UDP/TLS/RTP/SAVPF ICE=force SDES-off rtcp-mux-offer replace-origin \
                           replace-session-connection\"\n";

/// The only call of an rtpengine.
fn only_call(engine: &Rtpengine) -> String {
    let calls = engine.calls().expect("it answers");
    assert_eq!(calls.len(), 1, "{calls:?}");
    calls.into_iter().next().expect("one")
}

/// Waits until both parties have sent more packets through it than before.
fn flows(engine: &Rtpengine, call: &str) {
    // Of the party that has sent fewer.
    let least = || {
        let counts = engine.packets(call).expect("it answers");
        if counts.len() < 2 { 0 } else { counts.first().copied().unwrap_or_default() }
    };
    let mut before = least();
    until("media of both phones", || {
        let now = least();
        // A re-INVITE may begin to count anew.
        before = before.min(now);
        now >= before + FLOWS
    });
}

fn node(list: &serde_json::Value, port: u16) -> &serde_json::Value {
    let nodes = list["nodes"].as_array().expect("nodes");
    let addr = format!("{CLIENT4}:{port}");
    nodes.iter().find(|n| n["addr"] == addr.as_str()).expect("it is of this lab")
}

#[test]
fn media_go_on_when_the_active_node_is_lost_and_the_next_one_ends_them() {
    let Some((mut guard, logs)) = media_lab(&[2223]) else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let engine = Rtpengine::start(lab, logs, 2223, 30_000).expect("rtpengine");
    let mut bob = Baresip::start(lab, logs, "bob", 5081).expect("bob");
    let mut alice = Baresip::start(lab, logs, "alice", 5091).expect("alice");
    alice.wait_registered(PATIENCE).expect("registered");
    bob.wait_registered(PATIENCE).expect("registered");

    alice.command("dial", "sip:bob@lab.test").expect("dialled");
    alice.wait_for("CALL_ESTABLISHED", 1, PATIENCE).expect("answered");
    let call = only_call(&engine);
    flows(&engine, &call);
    until("its health is known", || node(&json(lab, &["rtpengine", "list"]), 2223)["health"] == "alive");
    assert_eq!(node(&json(lab, &["rtpengine", "list"]), 2223)["calls"], 1);

    lose_the_active_node(lab);
    flows(&engine, &call);
    // A re-INVITE after the takeover is treated by who took over.
    bob.command("hold", "").expect("held");
    alice.wait_for("CALL_HOLD", 1, PATIENCE).ok();
    bob.command("resume", "").expect("resumed");
    flows(&engine, &call);
    alice.command("hangup", "").expect("hung up");
    bob.wait_for("CALL_CLOSED", 1, PATIENCE).expect("over");
    until("the media are ended", || engine.calls().expect("it answers").is_empty());
    assert_eq!(node(&json(lab, &["rtpengine", "list"]), 2223)["calls"], 0);
}

/// The media ports in the SDP that a SIPp phone was sent.
fn ports_heard(logs: &Path, phone: &str) -> Vec<u16> {
    let text = fs::read_to_string(logs.join(format!("{phone}.msg"))).unwrap_or_default();
    let heard = text
        .split("-----------------------------------------------")
        .filter(|m| m.contains("message received"));
    let lines = heard.flat_map(str::lines).filter_map(|l| l.strip_prefix("m=audio "));
    lines.filter_map(|l| l.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn a_call_that_rings_when_the_active_node_is_lost_is_answered_with_media_and_a_cancelled_one_is_ended() {
    let Some((mut guard, logs)) = media_lab(&[2223]) else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let engine = Rtpengine::start(lab, logs, 2223, 30_000).expect("rtpengine");
    sipp::register(lab, logs, "bob", 5080, false).expect("sipp").finish().expect("registered");
    let mut plan = Plan::new("callee", Scenario::CalleeRings, 5080, "bob");
    plan.answer = Duration::from_secs(6);
    let mut callee = Sipp::start(lab, logs, &plan).expect("sipp");
    callee.wait_bound(5080).expect("its port");
    let mut caller =
        Sipp::start(lab, logs, &Plan::new("caller", Scenario::CallerWaits, 5061, "bob")).expect("sipp");
    caller.wait_for("180", PATIENCE, |e| e.iter().any(|e| e.got("180", "INVITE"))).expect("ringing");
    only_call(&engine);
    lose_the_active_node(lab);
    caller.finish().expect("answered and ended");
    callee.finish().expect("answered and ended");
    until("the media are ended", || engine.calls().expect("it answers").is_empty());
    for phone in ["caller", "callee"] {
        let ports = ports_heard(logs, phone);
        assert!(
            !ports.is_empty() && ports.iter().all(|p| (30_000..=30_400).contains(p)),
            "{phone}: {ports:?}"
        );
    }

    // Rings, is lost, and the caller hangs up.
    plan.name = "callee2";
    plan.answer = Duration::from_secs(3600);
    let mut callee = Sipp::start(lab, logs, &plan).expect("sipp");
    callee.wait_bound(5080).expect("its port");
    let mut hangs_up = Plan::new("caller2", Scenario::CallerHangsUp, 5062, "bob");
    hangs_up.hold = Duration::from_secs(3);
    let mut caller = Sipp::start(lab, logs, &hangs_up).expect("sipp");
    caller.wait_for("180", PATIENCE, |e| e.iter().any(|e| e.got("180", "INVITE"))).expect("ringing");
    only_call(&engine);
    caller.finish().expect("487");
    callee.finish().expect("cancelled");
    until("the media are ended", || engine.calls().expect("it answers").is_empty());
}

#[test]
fn the_next_offer_goes_to_another_rtpengine_when_one_has_ended() {
    let Some((mut guard, logs)) = media_lab(&[2223, 2224]) else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let first = Rtpengine::start(lab, logs, 2223, 30_000).expect("rtpengine");
    let second = Rtpengine::start(lab, logs, 2224, 31_000).expect("rtpengine");
    // The second one is put aside, so that the call is at the first.
    say(lab, &["rtpengine", "set-state", "disabled", &second.address().to_string()]);
    let mut bob = Baresip::start(lab, logs, "bob", 5081).expect("bob");
    let mut alice = Baresip::start(lab, logs, "alice", 5091).expect("alice");
    alice.wait_registered(PATIENCE).expect("registered");
    bob.wait_registered(PATIENCE).expect("registered");
    alice.command("dial", "sip:bob@lab.test").expect("dialled");
    alice.wait_for("CALL_ESTABLISHED", 1, PATIENCE).expect("answered");
    let call = only_call(&first);
    flows(&first, &call);
    say(lab, &["rtpengine", "set-state", "enabled", "all"]);
    assert!(second.calls().expect("it answers").is_empty());

    drop(first);
    until("it is dead", || node(&json(lab, &["rtpengine", "list"]), 2223)["health"] == "dead");
    // The next offer of the call takes it to the second.
    alice.command("hold", "").expect("held");
    until("the call is at the second", || second.calls().expect("it answers") == [call.clone()]);
    alice.command("resume", "").expect("resumed");
    flows(&second, &call);
    let list = json(lab, &["rtpengine", "list"]);
    assert_eq!((&node(&list, 2223)["calls"], &node(&list, 2224)["calls"]), (&0.into(), &1.into()));
    lose_the_active_node(lab);
    flows(&second, &call);
    bob.command("hangup", "").expect("hung up");
    alice.wait_for("CALL_CLOSED", 1, PATIENCE).expect("over");
    until("the media are ended", || second.calls().expect("it answers").is_empty());
}

#[test]
fn a_plain_phone_and_one_with_dtls_srtp_and_ice_talk_before_and_after_the_active_node_is_lost() {
    let Some((mut guard, logs)) = media_lab_of(&[2223], TO_BROWSERS) else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let engine = Rtpengine::start(lab, logs, 2223, 30_000).expect("rtpengine");
    let mut bob = Baresip::start_secure(lab, logs, "bob", 5081).expect("bob");
    let mut alice = Baresip::start(lab, logs, "alice", 5091).expect("alice");
    alice.wait_registered(PATIENCE).expect("registered");
    bob.wait_registered(PATIENCE).expect("registered");

    alice.command("dial", "sip:bob@lab.test").expect("dialled");
    alice.wait_for("CALL_ESTABLISHED", 1, PATIENCE).expect("answered");
    let call = only_call(&engine);
    // Bob sends nothing before the keys are agreed on.
    flows(&engine, &call);

    lose_the_active_node(lab);
    flows(&engine, &call);
    // A re-INVITE after the takeover is made for both sides again.
    alice.command("hold", "").expect("held");
    alice.command("resume", "").expect("resumed");
    flows(&engine, &call);
    alice.command("hangup", "").expect("hung up");
    bob.wait_for("CALL_CLOSED", 1, PATIENCE).expect("over");
    // What each side was told, as far as the phones have written it down by now.
    bob.wait_trace("UDP/TLS/RTP/SAVPF", 1, PATIENCE).expect("a browser's media");
    bob.wait_trace("a=ice-ufrag:", 1, PATIENCE).expect("ICE");
    alice.wait_trace("RTP/AVP", 1, PATIENCE).expect("plain media");
    assert!(alice.traced("SAVPF") == 0 && alice.traced("a=ice-") == 0);
    until("the media are ended", || engine.calls().expect("it answers").is_empty());
}
