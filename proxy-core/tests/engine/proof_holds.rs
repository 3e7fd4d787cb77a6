//! Dialogs prove themselves, and what goes on as it did: NATs, moves, forks, proxies between, carriers, subscriptions, and what
//! began before.

use std::time::Duration;

use crate::common::auth::{self, answered, challenge, register_bob};
use crate::common::dialogs::*;
use crate::common::story::*;
use crate::common::trunk;
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Mode, RoutingConfig};
use proxy_core::state::trunk::Account;

/// A subscription by a server behind us: SUBSCRIBE out to it, NOTIFY in. What the server got, and what the watcher.
fn subscribed(w: &mut World) -> (String, String) {
    w.send(ALICE, &request("SUBSCRIBE", BOB_URI, ALICE, "s1", "Event: dialog\r\n"));
    let got = w.expect(BOB, "SUBSCRIBE ");
    // The NOTIFY comes before the 200 (RFC 6665 §4.4.1).
    w.send(BOB, &in_dialog_of_callee("NOTIFY", 1, &got, "b1", BOB));
    let told = w.expect(ALICE, "NOTIFY ");
    w.send(ALICE, &respond(&told, 200, "", ""));
    w.expect(BOB, "SIP/2.0 200 ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    (got, ok)
}

#[test]
fn a_subscription_that_passes_goes_on_in_both_directions_and_after_a_takeover_rfc6665_4_4_1() {
    let mut w = World::new();
    w.register("bob", BOB);
    let (got, ok) = subscribed(&mut w);
    w.fail_over(Duration::from_millis(300));
    w.send(BOB, &in_dialog_of_callee("NOTIFY", 2, &got, "b1", BOB));
    let told = w.expect(ALICE, "NOTIFY ");
    w.send(ALICE, &respond(&told, 200, "", ""));
    w.expect(BOB, "SIP/2.0 200 ");
    w.send(ALICE, &in_dialog_of_caller("SUBSCRIBE", 2, &ok, ALICE));
    w.expect(BOB, "SUBSCRIBE ");
    assert_eq!(w.engine.counters().foreign, 0);
}

#[test]
fn who_has_learned_his_route_from_the_notify_of_a_fork_refreshes_by_it_rfc6665_4_4_1() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.send(ALICE, &request("SUBSCRIBE", BOB_URI, ALICE, "s1", "Event: dialog\r\n"));
    let got = w.expect(BOB, "SUBSCRIBE ");
    w.send(BOB, &in_dialog_of_callee("NOTIFY", 1, &got, "b1", BOB));
    let told = w.expect(ALICE, "NOTIFY ");
    // The watcher's own request, from what the NOTIFY says.
    let again = in_dialog_of_callee("SUBSCRIBE", 2, &told, "ac1", ALICE).replace(";tag=ac1\r\nTo", "\r\nTo");
    w.send(ALICE, &again);
    w.expect(BOB, "SUBSCRIBE ");
    assert_eq!(w.engine.counters().foreign, 0);
}

#[test]
fn a_watcher_who_has_registered_elsewhere_is_told_there() {
    let mut w = World::new();
    w.register("bob", BOB);
    let (got, _) = subscribed(&mut w);
    let elsewhere = "10.77.0.209:5099";
    w.register("alice", elsewhere);
    let notify = in_dialog_of_callee("NOTIFY", 2, &got, "b1", BOB);
    w.send(BOB, &aimed(&notify, &format!("sip:alice@{elsewhere}")));
    w.expect(elsewhere, "NOTIFY ");
    let third = in_dialog_of_callee("NOTIFY", 3, &got, "b1", BOB);
    w.send(BOB, &aimed(&third, &format!("sip:alice@{GATEWAY}")));
    w.expect_nothing(GATEWAY);
}

#[test]
fn the_notify_of_a_transfer_comes_after_the_bye_of_its_call_rfc3515_2_4() {
    let (mut w, got, ok) = talking();
    w.send(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
    let bye = w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&bye, 200, "", ""));
    w.expect(ALICE, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 0);
    w.send(BOB, &in_dialog_of_callee("NOTIFY", 2, &got, "b1", BOB));
    w.expect(ALICE, "NOTIFY ");
    // But there is no call any more that could be changed.
    w.send(BOB, &in_dialog_of_callee("INVITE", 3, &got, "b1", BOB));
    w.expect(BOB, "SIP/2.0 404 ");
    w.expect_nothing(ALICE);
}

#[test]
fn early_dialogs_of_a_fork_have_each_their_own_token_also_after_a_takeover_rfc3262() {
    const BOB2: &str = "10.77.0.203:5063";
    for takeover in [false, true] {
        let mut w = World::new();
        w.register("bob", BOB);
        w.register("bob", BOB2);
        w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
        w.take(ALICE);
        let mut early = Vec::new();
        for (at, tag) in [(BOB, "b1"), (BOB2, "b2")] {
            let got = w.expect(at, "INVITE ");
            w.send(
                at,
                &respond(
                    &got,
                    183,
                    tag,
                    &format!("Contact: <sip:bob@{at}>\r\nRSeq: 1\r\nRequire: 100rel\r\n"),
                ),
            );
            early.push((at, tag, got, w.expect(ALICE, "SIP/2.0 183 ")));
        }
        if takeover {
            w.fail_over(Duration::from_millis(300));
            for at in [BOB, BOB2] {
                w.take(at);
            }
        }
        for (n, (at, tag, got, ringing)) in early.iter().enumerate() {
            w.send(ALICE, &in_dialog_of_caller("PRACK", 2 + n as u32, ringing, ALICE));
            let prack = w.expect(at, "PRACK ");
            w.send(at, &respond(&prack, 200, "", ""));
            w.expect(ALICE, "SIP/2.0 200 ");
            w.send(at, &in_dialog_of_callee("UPDATE", 1, got, tag, at));
            w.expect(ALICE, "UPDATE ");
            // Elsewhere it does not lead.
            let elsewhere = in_dialog_of_caller("UPDATE", 9, ringing, ALICE);
            w.send(ALICE, &aimed(&elsewhere, &format!("sip:+49900@{GATEWAY}")));
            w.expect_nothing(GATEWAY);
            w.take(ALICE);
        }
        assert_eq!(w.engine.counters().foreign, 2);
    }
}

#[test]
fn a_proxy_between_stays_on_the_way_in_both_directions_rfc3261_16_12() {
    const NEAR: &str = "10.77.0.80:5060";
    let mut w = World::new();
    w.register("bob", BOB);
    let by_proxy = invite(BOB_URI, ALICE, "c1").replace(
        "Via",
        &format!("Record-Route: <sip:{NEAR};lr>\r\nVia: SIP/2.0/UDP {NEAR};branch=z9hG4bKnear\r\nVia"),
    );
    w.send(NEAR, &by_proxy);
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.take(NEAR).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
    // The proxy has taken its own Route away.
    let own = format!("Route: <sip:{NEAR};lr>\r\n");
    let from_alice = |method: &str, cseq| in_dialog_of_caller(method, cseq, &ok, NEAR).replace(&own, "");
    w.send(NEAR, &from_alice("ACK", 1));
    w.expect(BOB, "ACK ");
    w.send(NEAR, &from_alice("INFO", 2));
    w.expect(BOB, "INFO ");
    w.send(BOB, &in_dialog_of_callee("INFO", 1, &got, "b1", BOB));
    let info = w.expect(NEAR, "INFO sip:alice@10.77.0.201:5061 ");
    assert_eq!(header(&info, "Route"), Some(format!("<sip:{NEAR};lr>")));
    let counters = w.engine.counters();
    assert_eq!((counters.foreign, counters.straightened), (0, 0));
}

#[test]
fn a_phone_whose_nat_gives_it_another_port_hangs_up_by_its_token() {
    for (mut w, _, ok) in [talking(), talking_with_passwords()] {
        let elsewhere = "10.77.0.201:40001";
        w.send(elsewhere, &moved(&in_dialog_of_caller("BYE", 9, &ok, ALICE), ALICE, elsewhere));
        let bye = w.expect(BOB, "BYE ");
        w.send(BOB, &respond(&bye, 200, "", ""));
        assert_eq!(w.state.counts().dialogs, 0);
    }
}

#[test]
fn a_call_that_began_without_tokens_goes_on_from_where_its_sides_are() {
    let (mut w, got, ok) = talking();
    w.fail_over(Duration::from_millis(300));
    w.send(ALICE, &bare(&in_dialog_of_caller("INFO", 2, &ok, ALICE)));
    w.expect(BOB, "INFO ");
    w.send(BOB, &bare(&in_dialog_of_callee("BYE", 1, &got, "b1", BOB)));
    let bye = w.expect(ALICE, "BYE ");
    w.send(ALICE, &respond(&bye, 200, "", ""));
    assert_eq!(w.state.counts().dialogs, 0);
    assert_eq!(w.engine.counters().foreign, 0);
}

#[test]
fn a_call_that_began_without_tokens_is_ended_from_elsewhere_with_the_password_of_its_side() {
    let (mut w, _, ok) = talking_with_passwords();
    w.take(ALICE);
    let elsewhere = "10.77.0.201:40001";
    let bye = moved(&bare(&in_dialog_of_caller("BYE", 9, &ok, ALICE)), ALICE, elsewhere);
    let asked = challenge(&mut w, elsewhere, &bye);
    w.expect_nothing(BOB);
    w.send(elsewhere, &answered(&bye, &asked, "alice", "secret-a"));
    let at_bob = w.expect(BOB, &format!("BYE sip:bob@{BOB} "));
    assert_eq!(header(&at_bob, "Proxy-Authorization"), None);
    w.send(BOB, &respond(&at_bob, 200, "", ""));
    w.expect(elsewhere, "SIP/2.0 200 ");
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn a_subscription_that_began_without_tokens_is_judged_as_one_outside_of_dialogs() {
    let mut w = auth::world();
    register_bob(&mut w);
    let refresh =
        request("SUBSCRIBE", &format!("sip:bob@{BOB}"), ALICE, "s1", &format!("Route: <sip:{VIP};lr>\r\n"));
    let refresh = refresh.replace(&format!("To: <sip:bob@{BOB}>"), &format!("To: <{BOB_URI}>;tag=b1"));
    let asked = challenge(&mut w, ALICE, &refresh);
    w.send(ALICE, &answered(&refresh, &asked, "alice", "secret-a"));
    assert_eq!(header(&w.expect(BOB, "SUBSCRIBE "), "Route"), None);
    // Who is nobody of ours is not asked, and does not get through.
    w.send(EVE, &made_up("NOTIFY", BOB_URI, &format!("Route: <sip:{VIP};lr>\r\n"), 1));
    w.expect(EVE, "SIP/2.0 404 ");
    w.expect_nothing(BOB);
}

#[test]
fn a_carrier_hangs_up_from_another_of_its_addresses_with_token_or_without() {
    let second = "10.77.0.221:5060";
    for with_token in [true, false] {
        let sources = vec![String::from("10.77.0.220"), String::from("10.77.0.221")];
        let mut w = trunk::world(Account { expires_s: 0, sources, ..trunk::account() });
        w.send(ALICE, &invite("sip:+4930123@lab.test", ALICE, "c1"));
        let got = w.expect(trunk::CARRIER, "INVITE ");
        w.send(
            trunk::CARRIER,
            &respond(&got, 200, "k1", &format!("Contact: <sip:gw@{}>\r\n", trunk::CARRIER)),
        );
        let ok = w.take(ALICE).into_iter().find(|m| m.starts_with("SIP/2.0 200 ")).expect("200");
        w.send(ALICE, &in_dialog_of_caller("ACK", 1, &ok, ALICE));
        w.expect(trunk::CARRIER, "ACK ");
        let bye = moved(&in_dialog_of_callee("BYE", 1, &got, "k1", trunk::CARRIER), trunk::CARRIER, second);
        w.send(second, &if with_token { bye } else { bare(&bye) });
        let at_alice = w.expect(ALICE, "BYE ");
        w.send(ALICE, &respond(&at_alice, 200, "", ""));
        assert_eq!(w.state.counts().dialogs, 0);
    }
}

#[test]
fn who_is_on_the_access_list_hangs_up_a_call_that_began_without_tokens() {
    let (mut w, _, ok) = talking_with_passwords();
    let bye = moved(&bare(&in_dialog_of_caller("BYE", 9, &ok, ALICE)), ALICE, EVE);
    auth::allow(&mut w.state, 1, "10.99.0.66", 32, 0);
    w.send(EVE, &bye);
    let at_bob = w.expect(BOB, "BYE ");
    w.send(BOB, &respond(&at_bob, 200, "", ""));
    assert_eq!(w.state.counts().dialogs, 0);
}

#[test]
fn both_sides_follow_a_phone_that_has_moved_also_before_the_cluster_knows_rfc3261_12_2_1_2() {
    for waits in [false, true] {
        let (mut w, got, ok) = talking();
        let elsewhere = "10.77.0.209:5099";
        let change = in_dialog_of_caller("INVITE", 2, &ok, elsewhere);
        w.send(elsewhere, &change);
        let at_bob = w.expect(BOB, "INVITE ");
        if waits {
            w.cluster = Cluster::Waits;
        }
        w.send(BOB, &respond(&at_bob, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
        let info = in_dialog_of_callee("INFO", 5, &got, "b1", BOB);
        w.send(BOB, &aimed(&info, &format!("sip:alice@{elsewhere}")));
        assert!(w.take(elsewhere).iter().any(|m| m.starts_with("INFO ")), "waits: {waits}");
        assert_eq!(w.engine.counters().straightened, 0);
    }
}

#[test]
fn a_phone_that_has_registered_elsewhere_is_followed_there() {
    let (mut w, _, ok) = talking();
    let elsewhere = "10.77.0.209:5099";
    w.register("bob", elsewhere);
    w.send(ALICE, &aimed(&in_dialog_of_caller("BYE", 2, &ok, ALICE), &format!("sip:bob@{elsewhere}")));
    w.expect(elsewhere, "BYE ");
}

#[test]
fn a_phone_that_drops_the_alias_of_another_is_sent_the_right_way() {
    let mut w = World::new();
    w.register("bob", BOB);
    let private = invite(BOB_URI, ALICE, "c1")
        .replace(&format!("Contact: <sip:alice@{ALICE}>"), "Contact: <sip:alice@192.168.9.9>");
    w.send("198.51.100.7:31000", &private);
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    w.take("198.51.100.7:31000");
    w.send(BOB, &aimed(&in_dialog_of_callee("INFO", 1, &got, "b1", BOB), "sip:alice@192.168.9.9"));
    assert!(w.take("198.51.100.7:31000").iter().any(|m| m.starts_with("INFO ")));
}

#[test]
fn without_state_a_token_is_all_there_is_and_holds_rfc3261_16_11() {
    let routing = RoutingConfig { mode: Mode::Stateless, ..RoutingConfig::default() };
    let mut w = World::with(EngineConfig { routing, ..config() });
    w.register("bob", BOB);
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    let got = w.expect(BOB, "INVITE ");
    w.send(BOB, &respond(&got, 200, "b1", &format!("Contact: <sip:bob@{BOB}>\r\n")));
    let ok = w.expect(ALICE, "SIP/2.0 200 ");
    for (method, cseq) in [("ACK", 1), ("INVITE", 2), ("BYE", 3)] {
        let text = in_dialog_of_caller(method, cseq, &ok, ALICE);
        w.send(
            ALICE,
            &aimed(&text, &format!("sip:+49900@{GATEWAY}")).replace("branch=z9hG4bK", "branch=z9hG4bKx"),
        );
        w.expect_nothing(GATEWAY);
        w.send(ALICE, &bare(&text).replace("branch=z9hG4bK", "branch=z9hG4bKy"));
        w.expect_nothing(BOB);
        w.send(ALICE, &text);
        w.expect(BOB, method);
    }
    w.send(BOB, &in_dialog_of_callee("BYE", 1, &got, "b1", BOB));
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("BYE ")));
}
