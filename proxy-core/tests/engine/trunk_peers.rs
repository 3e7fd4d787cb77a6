//! Trunks that die after 100, that redirect, that are full, and what their registrars say of the way and of the account.

use std::time::Duration;

use crate::common::failover::*;
use crate::common::story::*;
use proxy_core::dialog::config::DialogConfig;
use proxy_core::io::EngineConfig;
use proxy_core::routing::Action;
use proxy_core::state::trunk::{Account, RegistrationState, TrunkCommand};
use proxy_core::state::trunk_style::{Redirects, TrunkStyle};
use proxy_core::state::{CountKey, SipCommand, SipResponse};

const GATEWAY: &str = "10.77.0.230:5060";

fn style(w: &mut World, uuid: &str, style: TrunkStyle) {
    let command = SipCommand::Trunk(TrunkCommand::Style { uuid: uuid.to_owned(), style });
    assert_eq!(w.state.apply(&command), SipResponse::Done);
}

fn probed(w: &mut World, uuid: &str) {
    style(w, uuid, TrunkStyle { probe: true, ..TrunkStyle::default() });
}

/// Time passes, and who is asked by OPTIONS answers from some addresses. The other messages stay.
fn pass_with(w: &mut World, seconds: u64, answering: &[&str]) {
    for _ in 0..seconds * 4 {
        w.pass(Duration::from_millis(250));
        for at in answering {
            for message in w.take(at) {
                if message.starts_with("OPTIONS ") {
                    w.send(at, &respond(&message, 404, "o", ""));
                } else {
                    w.inbox.entry(addr(at)).or_default().push_back(message);
                }
            }
        }
    }
}

fn first(w: &mut World, at: &str, method: &str) -> String {
    let all = w.take(at);
    let found = all.iter().find(|m| m.starts_with(method));
    found.unwrap_or_else(|| panic!("no {method} at {at}: {all:#?}")).clone()
}

#[test]
fn a_trunk_that_answers_503_to_probes_keeps_the_call_that_rings_there_rfc3261_21_5_4() {
    let mut w = trunks(|_| {});
    probed(&mut w, "one");
    probed(&mut w, "two");
    pass_with(&mut w, 2, &[FIRST, SECOND]);
    call(&mut w, OUT, "c1");
    let sent = first(&mut w, FIRST, "INVITE");
    w.send(FIRST, &respond(&sent, 180, "f", ""));
    let mut refused = false;
    for _ in 0..3_000 {
        w.pass(Duration::from_millis(250));
        for (at, status) in [(FIRST, 503), (SECOND, 404)] {
            for message in w.take(at) {
                match message.split(' ').next() {
                    Some("OPTIONS") => {
                        refused |= at == FIRST;
                        w.send(at, &respond(&message, status, "o", ""));
                    }
                    Some("CANCEL") => panic!("the call that rings is taken away: {message}"),
                    _ => assert_eq!(at, FIRST, "nobody else is called: {message}"),
                }
            }
        }
        if refused && w.state.trunk("one").is_some_and(|t| t.down) {
            break;
        }
    }
    assert!(w.state.trunk("one").is_some_and(|t| t.down), "it gets no new calls");
    w.pass(Duration::from_secs(2));
    assert!(w.take(FIRST).iter().all(|m| !m.starts_with("CANCEL ")));
    w.send(FIRST, &respond(&sent, 200, "f", &format!("Contact: <sip:x@{FIRST}>\r\n")));
    assert!(w.take(ALICE).iter().any(|m| m.starts_with("SIP/2.0 200 ")));
}

#[test]
fn a_trunk_that_says_100_and_dies_is_followed_by_the_next_also_across_a_takeover() {
    for takeover in [false, true] {
        let mut w = trunks(|_| {});
        probed(&mut w, "one");
        probed(&mut w, "two");
        pass_with(&mut w, 2, &[FIRST, SECOND]);
        call(&mut w, OUT, "c1");
        let sent = first(&mut w, FIRST, "INVITE");
        w.send(FIRST, &respond(&sent, 100, "", ""));
        if takeover {
            w.fail_over(Duration::from_millis(300));
            let sent = first(&mut w, FIRST, "INVITE");
            w.send(FIRST, &respond(&sent, 100, "", ""));
        }
        let waited = (0..15).find(|_| {
            pass_with(&mut w, 1, &[SECOND]);
            w.inbox.get(&addr(SECOND)).is_some_and(|all| all.iter().any(|m| m.starts_with("INVITE ")))
        });
        assert!(waited.is_some(), "within seconds, and not at the end of timer C");
        assert!(w.state.trunk("one").expect("it").down);
        let sent = first(&mut w, SECOND, "INVITE");
        w.send(SECOND, &respond(&sent, 200, "k", &format!("Contact: <sip:gw@{SECOND}>\r\n")));
        first(&mut w, ALICE, "SIP/2.0 200");
        // It is the last to be tried now, until it answers.
        call(&mut w, OUT, "c2");
        first(&mut w, SECOND, "INVITE");
        pass_with(&mut w, 60, &[FIRST, SECOND]);
        assert!(!w.state.trunk("one").expect("it").down);
    }
}

#[test]
fn a_trunk_that_answers_probes_may_take_its_time_and_one_that_is_not_probed_is_not_asked() {
    let mut w = trunks(|_| {});
    probed(&mut w, "one");
    call(&mut w, OUT, "c1");
    let sent = first(&mut w, FIRST, "INVITE");
    w.send(FIRST, &respond(&sent, 100, "", ""));
    pass_with(&mut w, 60, &[FIRST]);
    assert!(!w.state.trunk("one").expect("it").down);
    w.expect_nothing(SECOND);
}

fn limited(c: &mut EngineConfig) {
    let mut dialog = DialogConfig::default();
    for uuid in ["one", "two"] {
        dialog.limits.trunks.insert(uuid.to_owned(), 1);
    }
    c.dialog = dialog;
}

#[test]
fn a_call_counts_under_the_trunk_that_carries_it() {
    let mut w = trunks(limited);
    let calls = |w: &World, uuid: &str| w.state.calls_of(&CountKey::Trunk(uuid.to_owned()));
    call(&mut w, OUT, "c1");
    assert_eq!((calls(&w, "one"), calls(&w, "two")), (1, 0));
    let sent = first(&mut w, FIRST, "INVITE");
    w.send(FIRST, &respond(&sent, 503, "k", ""));
    assert_eq!((calls(&w, "one"), calls(&w, "two")), (0, 1));
    let sent = first(&mut w, SECOND, "INVITE");
    w.send(SECOND, &respond(&sent, 200, "k", &format!("Contact: <sip:gw@{SECOND}>\r\n")));
    assert_eq!((calls(&w, "one"), calls(&w, "two")), (0, 1), "and so does the dialog");
    // The first is free; when it fails, the second is full, and nobody calls there.
    w.take(FIRST);
    w.take(ALICE);
    call(&mut w, OUT, "c2");
    let sent = first(&mut w, FIRST, "INVITE");
    w.send(FIRST, &respond(&sent, 503, "k", ""));
    assert!(!w.take(SECOND).iter().any(|m| m.starts_with("INVITE ")));
    first(&mut w, ALICE, "SIP/2.0 500");
}

#[test]
fn a_call_that_came_by_a_full_trunk_may_go_on_by_it_as_it_has_its_place_there_also_after_a_takeover() {
    for takeover in [false, true] {
        let mut w = trunks(|c| {
            limited(c);
            let Some(rule) = c.routing.rules.first_mut() else { return };
            rule.action = Action::Trunk(vec![String::from("two"), String::from("one")]);
        });
        let known = w.state.trunk("one").expect("it").account.clone();
        let account = Box::new(Account { sources: vec![addr(FIRST).ip().to_string()], ..known });
        let at = w.now.wall;
        w.state.apply(&SipCommand::Trunk(TrunkCommand::Put { account, call_id: "x".into(), at }));
        let calls = |w: &World, uuid: &str| w.state.calls_of(&CountKey::Trunk(uuid.to_owned()));
        w.send(FIRST, &invite(OUT, FIRST, "c1"));
        assert_eq!((calls(&w, "one"), calls(&w, "two")), (1, 1));
        let mut sent = first(&mut w, SECOND, "INVITE");
        if takeover {
            w.fail_over(Duration::from_millis(300));
            sent = first(&mut w, SECOND, "INVITE");
        }
        w.send(SECOND, &respond(&sent, 503, "k", ""));
        first(&mut w, FIRST, "INVITE");
        assert_eq!((calls(&w, "one"), calls(&w, "two")), (1, 0));
        // For a second one there is no room.
        w.send(FIRST, &invite(OUT, FIRST, "c2"));
        first(&mut w, FIRST, "SIP/2.0 503");
    }
}

/// The first trunk redirects a call to these contacts.
fn redirected(redirects: Redirects, contacts: &str) -> World {
    let mut w = trunks(|_| {});
    style(&mut w, "one", TrunkStyle { redirects, ..TrunkStyle::default() });
    call(&mut w, OUT, "c1");
    let sent = first(&mut w, FIRST, "INVITE");
    w.send(FIRST, &respond(&sent, 302, "k", &format!("Contact: {contacts}\r\n")));
    w
}

#[test]
fn a_redirect_of_a_trunk_goes_to_the_caller_unless_it_may_be_followed() {
    for redirects in [Redirects::Routing, Redirects::Pass] {
        let mut w = redirected(redirects, &format!("<sip:0301234@{GATEWAY}>"));
        first(&mut w, ALICE, "SIP/2.0 302");
        w.expect_nothing(GATEWAY);
    }
    let mut w = redirected(Redirects::Any, &format!("<sip:0301234@{GATEWAY}>"));
    first(&mut w, GATEWAY, "INVITE");
}

#[test]
fn a_trunk_may_redirect_to_itself_and_is_answered_with_its_credentials_also_after_a_takeover() {
    // To a stranger it may not.
    let mut w = redirected(Redirects::Own, &format!("<sip:0301234@{GATEWAY}>"));
    first(&mut w, ALICE, "SIP/2.0 302");
    w.expect_nothing(GATEWAY);
    // To its domain: by its proxy. The stranger beside it is left out.
    let mut w = redirected(Redirects::Own, &format!("<sip:0301234@{GATEWAY}>;q=1, <sip:99@ONE.test>;q=0.5"));
    w.expect_nothing(GATEWAY);
    let sent = first(&mut w, FIRST, "INVITE sip:99@ONE.test");
    w.fail_over(Duration::from_millis(300));
    assert!(w.take(FIRST).contains(&sent));
    let asks = "Proxy-Authenticate: Digest realm=\"one.test\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n";
    w.send(FIRST, &respond(&sent, 407, "ch", asks));
    let again = first(&mut w, FIRST, "INVITE sip:99@ONE.test");
    assert!(again.contains("Proxy-Authorization: "), "{again}");
    // To an address that its calls come from.
    let mut w = redirected(Redirects::Own, &format!("<sip:99@{}>", FIRST.replace(":5081", ":5090")));
    first(&mut w, &FIRST.replace(":5081", ":5090"), "INVITE sip:99@");
}

#[test]
fn redirects_in_a_circle_come_to_an_end() {
    let mut w = redirected(Redirects::Own, "<sip:n0@one.test>");
    for n in 1..40 {
        let Some(sent) = w.take(FIRST).into_iter().find(|m| m.starts_with("INVITE ")) else { break };
        w.send(FIRST, &respond(&sent, 302, "k", &format!("Contact: <sip:n{n}@one.test>\r\n")));
    }
    first(&mut w, ALICE, "SIP/2.0 302");
    w.expect_nothing(FIRST);
}

/// The REGISTER with credentials, after its challenge.
fn registering(w: &mut World) -> String {
    w.pass(Duration::from_secs(1));
    let asked = first(w, FIRST, "REGISTER");
    let asks = "WWW-Authenticate: Digest realm=\"one.test\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n";
    w.send(FIRST, &respond(&asked, 401, "ch", asks));
    first(w, FIRST, "REGISTER")
}

#[test]
fn calls_out_take_the_service_route_of_the_registrar_also_after_a_takeover_rfc3608_6_1() {
    let mut w = trunks(|_| {});
    put_trunk(&mut w, "one", FIRST, 600);
    let asked = registering(&mut w);
    let contact = header(&asked, "Contact").expect("Contact");
    let route = format!("Service-Route: <sip:edge@{FIRST};lr>, <sip:core.one.test;lr>\r\n");
    w.send(FIRST, &respond(&asked, 200, "r", &format!("Contact: {contact};expires=600\r\n{route}")));
    w.fail_over(Duration::from_millis(300));
    call(&mut w, OUT, "c1");
    let sent = first(&mut w, FIRST, "INVITE sip:0301234@one.test");
    let routes = header(&sent, "Route").expect("Route");
    assert_eq!(routes, format!("<sip:edge@{FIRST};lr>, <sip:core.one.test;lr>"));
    // Without an outbound proxy the first of them is the next hop.
    let account = w.state.trunk("one").expect("it").account.clone();
    let account = Box::new(Account { proxy: String::new(), ..account });
    let at = w.now.wall;
    w.state.apply(&SipCommand::Trunk(TrunkCommand::Put { account, call_id: "x".into(), at }));
    w.take(FIRST);
    call(&mut w, OUT, "c2");
    first(&mut w, FIRST, "INVITE sip:0301234@one.test");
}

#[test]
fn a_redirect_to_the_own_domain_of_a_trunk_takes_its_service_route_too_rfc3608_6_1() {
    for proxy in [true, false] {
        let mut w = trunks(|_| {});
        put_trunk(&mut w, "one", FIRST, 600);
        style(&mut w, "one", TrunkStyle { redirects: Redirects::Own, ..TrunkStyle::default() });
        let asked = registering(&mut w);
        let contact = header(&asked, "Contact").expect("Contact");
        let edge = if proxy { FIRST } else { GATEWAY };
        let route = format!("Service-Route: <sip:edge@{edge};lr>, <sip:core.one.test;lr>\r\n");
        w.send(FIRST, &respond(&asked, 200, "r", &format!("Contact: {contact};expires=600\r\n{route}")));
        if !proxy {
            let account = w.state.trunk("one").expect("it").account.clone();
            let account = Box::new(Account { proxy: String::new(), ..account });
            let at = w.now.wall;
            w.state.apply(&SipCommand::Trunk(TrunkCommand::Put { account, call_id: "x".into(), at }));
        }
        w.take(FIRST);
        call(&mut w, OUT, "c1");
        let sent = first(&mut w, edge, "INVITE");
        // An address of the trunk is not its domain: the way there is that address.
        let own = format!("Contact: <sip:99@one.test>;q=1, <sip:98@{edge}>;q=0.5\r\n");
        w.send(edge, &respond(&sent, 302, "k", &own));
        let to_domain = format!("<sip:edge@{edge};lr>, <sip:core.one.test;lr>");
        let sent = w.take(edge);
        let routed = |uri: &str| {
            let it = sent.iter().find(|m| m.starts_with(&format!("INVITE {uri} ")));
            header(it.unwrap_or_else(|| panic!("none to {uri}: {sent:#?}")), "Route")
        };
        assert_eq!(routed("sip:99@one.test"), Some(to_domain));
        assert_eq!(routed(&format!("sip:98@{edge}")), None);
        w.fail_over(Duration::from_millis(300));
        let again = w.take(edge);
        assert!(
            sent.iter().filter(|m| m.contains("sip:99@one.test")).all(|m| again.contains(m)),
            "{again:#?}"
        );
    }
}

#[test]
fn the_service_route_of_another_registrar_or_of_none_is_not_taken_rfc3608() {
    let changes: [fn(Account) -> Account; 2] = [
        |known| Account { remote_domain: String::from("other.test"), ..known },
        |known| Account { expires_s: 0, ..known },
    ];
    for change in changes {
        let mut w = trunks(|_| {});
        put_trunk(&mut w, "one", FIRST, 600);
        let asked = registering(&mut w);
        let contact = header(&asked, "Contact").expect("Contact");
        let route = format!("Service-Route: <sip:edge@{GATEWAY};lr>\r\n");
        w.send(FIRST, &respond(&asked, 200, "r", &format!("Contact: {contact};expires=600\r\n{route}")));
        call(&mut w, OUT, "c1");
        assert!(header(&first(&mut w, FIRST, "INVITE"), "Route").is_some());
        let account = Box::new(change(w.state.trunk("one").expect("it").account.clone()));
        let at = w.now.wall;
        w.state.apply(&SipCommand::Trunk(TrunkCommand::Put { account, call_id: "x".into(), at }));
        call(&mut w, OUT, "c2");
        assert_eq!(header(&first(&mut w, FIRST, "INVITE"), "Route"), None);
    }
}

#[test]
fn a_trunk_that_is_probed_no_longer_is_not_known_to_be_down() {
    let mut w = trunks(|_| {});
    probed(&mut w, "one");
    pass_with(&mut w, 60, &[SECOND]);
    let known = w.state.trunk("one").expect("it");
    assert!(known.down);
    let account = Box::new(Account { style: TrunkStyle::default(), ..known.account.clone() });
    let at = w.now.wall;
    w.state.apply(&SipCommand::Trunk(TrunkCommand::Put { account, call_id: "x".into(), at }));
    assert!(!w.state.trunk("one").expect("it").down, "nobody would ever find it to be up");
}

#[test]
fn a_trunk_that_was_down_is_in_use_again_when_probes_are_switched_off() {
    let mut w = trunks(|_| {});
    probed(&mut w, "one");
    pass_with(&mut w, 60, &[SECOND]);
    assert!(w.state.trunk("one").expect("it").down);
    w.take(FIRST);
    // The next owner has `probe_interval_s = 0`: nobody would ever find it to be up.
    w.config.dispatch.probe_interval = Duration::ZERO;
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(1));
    assert!(!w.state.trunk("one").expect("it").down);
    w.expect_nothing(FIRST);
    call(&mut w, OUT, "c1");
    first(&mut w, FIRST, "INVITE");
}

#[test]
fn an_account_that_is_refused_three_times_is_tried_after_the_longest_pause_and_an_outage_soon() {
    for (status, soon) in [(403, false), (404, false), (500, true), (503, true)] {
        let mut w = trunks(|_| {});
        put_trunk(&mut w, "one", FIRST, 600);
        let mut pauses = Vec::new();
        for _ in 0..3 {
            let asked = registering(&mut w);
            w.send(FIRST, &respond(&asked, status, "r", ""));
            let registration = w.state.trunk("one").expect("it").registration.clone();
            assert_eq!(registration.state, RegistrationState::Failed);
            let pause = w.now.wall.until(registration.next_at);
            pauses.push(pause.as_secs());
            w.pass(pause);
        }
        assert_eq!(pauses, [10, 20, if soon { 40 } else { 600 }], "after {status}");
    }
}
