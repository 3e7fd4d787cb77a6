//! Trunks: registration by one node after the other as one client.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::io::{EngineConfig, Refusal};
use proxy_core::msg::HeaderName;
use proxy_core::state::SipCommand;
use proxy_core::state::trunk::{Account, RegistrationState, TrunkCommand};

use crate::common::trunk::*;

#[test]
fn a_trunk_registers_with_digest_and_refreshes_as_the_same_client() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    let second = grant(&mut w, 300);
    assert_eq!(header(&second, "Contact").as_deref(), Some("<sip:carrier@10.77.0.100:5060>"));
    assert_eq!(header(&second, "Expires").as_deref(), Some("600"));
    assert_eq!(uri_of(&second), "sip:carrier.test");
    assert!(is_proved(&second, HeaderName::Authorization), "{second}");
    assert_eq!((cseq(&second), state(&w)), (2, RegistrationState::Registered));
    // Half of what was granted, as that is short.
    w.pass(Duration::from_secs(149));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(2));
    let refresh = grant(&mut w, 300);
    assert_eq!(cseq(&refresh), 4);
    for name in ["Call-ID", "Contact", "From"] {
        assert_eq!(header(&refresh, name), header(&second, name));
    }
}

#[test]
fn a_cseq_is_replicated_before_it_is_sent() {
    let mut w = world(account());
    w.cluster = Cluster::Waits;
    w.pass(Duration::from_millis(600));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(5));
    assert_eq!(w.waiting.len(), 1, "one attempt at a time");
    w.commit_all();
    one(&mut w, CARRIER, "REGISTER ");
}

#[test]
fn a_successor_does_not_register_a_second_time_and_refreshes_when_it_is_due() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    let before = grant(&mut w, 600);
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_secs(290));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(11));
    let after = grant(&mut w, 600);
    assert!(cseq(&after) > cseq(&before));
    for name in ["Call-ID", "Contact", "From"] {
        assert_eq!(header(&after, name), header(&before, name));
    }
}

#[test]
fn a_takeover_in_the_middle_of_a_registration_goes_on_at_once_with_the_next_cseq() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    let lost = one(&mut w, CARRIER, "REGISTER ");
    assert_eq!(state(&w), RegistrationState::Ongoing);
    w.fail_over(Duration::from_millis(300));
    // An answer for the lost one is a stray here.
    w.send(CARRIER, &challenge(&lost, 401));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_millis(600));
    let next = grant(&mut w, 600);
    assert_eq!((cseq(&lost), cseq(&next)), (1, 3));
    assert_eq!(state(&w), RegistrationState::Registered);
}

#[test]
fn a_registration_whose_grant_is_committed_only_after_the_takeover_is_not_begun_again() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    let first = one(&mut w, CARRIER, "REGISTER ");
    w.send(CARRIER, &challenge(&first, 401));
    let second = one(&mut w, CARRIER, "REGISTER ");
    w.cluster = Cluster::Waits;
    let contact = header(&second, "Contact").expect("Contact");
    w.send(CARRIER, &respond(&second, 200, "r", &format!("Contact: {contact};expires=600\r\n")));
    let late: Vec<SipCommand> = w.waiting.iter().map(|(_, command)| command.clone()).collect();
    w.fail_over(Duration::from_millis(300));
    w.pass(Duration::from_millis(600));
    assert!(!late.is_empty() && !w.waiting.is_empty(), "the successor begins, too");
    for command in &late {
        w.state.apply(command);
    }
    w.cluster = Cluster::Commits;
    w.commit_all();
    w.pass(Duration::from_secs(290));
    w.expect_nothing(CARRIER);
    assert_eq!(state(&w), RegistrationState::Registered);
    w.pass(Duration::from_secs(11));
    one(&mut w, CARRIER, "REGISTER ");
}

#[test]
fn a_proposal_whose_fate_is_unknown_does_not_stop_the_registration() {
    let mut w = world(account());
    w.cluster = Cluster::CommitsUnheard;
    w.pass(Duration::from_millis(600));
    w.expect_nothing(CARRIER);
    assert_eq!(state(&w), RegistrationState::Ongoing);
    w.cluster = Cluster::Refuses(Refusal::Unknown);
    w.pass(Duration::from_secs(2));
    w.expect_nothing(CARRIER);
    w.cluster = Cluster::Commits;
    w.pass(Duration::from_millis(600));
    assert_eq!(cseq(&grant(&mut w, 600)), 3);
}

#[test]
fn a_wrong_password_is_not_tried_for_ever() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    for _ in 0..3 {
        let request = one(&mut w, CARRIER, "REGISTER ");
        w.send(CARRIER, &challenge(&request, 401));
    }
    w.expect_nothing(CARRIER);
    assert_eq!(state(&w), RegistrationState::Failed);
    // 10 s, then 20 s.
    w.pass(Duration::from_secs(9));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(2));
    let request = one(&mut w, CARRIER, "REGISTER ");
    w.send(CARRIER, &respond(&request, 403, "r", ""));
    assert_eq!(w.state.trunk("carrier").expect("it").registration.last, "403 Forbidden");
    w.pass(Duration::from_secs(19));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(2));
    one(&mut w, CARRIER, "REGISTER ");
}

#[test]
fn a_challenge_of_another_realm_says_so() {
    let mut w = world(Account { realm: String::from("elsewhere"), ..account() });
    w.pass(Duration::from_millis(600));
    let request = one(&mut w, CARRIER, "REGISTER ");
    w.send(CARRIER, &challenge(&request, 401));
    w.expect_nothing(CARRIER);
    let last = w.state.trunk("carrier").expect("it").registration.last.clone();
    assert!(last.contains("elsewhere") && last.contains("carrier.test"), "{last}");
}

#[test]
fn retry_after_of_the_registrar_is_respected_and_423_asks_for_more() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    let request = one(&mut w, CARRIER, "REGISTER ");
    w.send(CARRIER, &respond(&request, 503, "r", "Retry-After: 120 (later)\r\n"));
    w.pass(Duration::from_secs(118));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(3));
    let request = one(&mut w, CARRIER, "REGISTER ");
    w.send(CARRIER, &respond(&request, 423, "r", "Min-Expires: 1800\r\n"));
    w.pass(Duration::from_millis(600));
    let request = one(&mut w, CARRIER, "REGISTER ");
    assert_eq!(header(&request, "Expires").as_deref(), Some("1800"));
    w.send(CARRIER, &respond(&request, 200, "r", ""));
    assert_eq!(state(&w), RegistrationState::Registered);
    // Ten minutes before the end, as that is long.
    w.pass(Duration::from_secs(1198));
    w.expect_nothing(CARRIER);
    w.pass(Duration::from_secs(3));
    one(&mut w, CARRIER, "REGISTER ");
}

#[test]
fn a_registrar_that_says_at_once_or_never_is_not_believed() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    for extra in ["Retry-After: 0\r\n", "Retry-After: 0\r\n"] {
        let request = one(&mut w, CARRIER, "REGISTER ");
        w.send(CARRIER, &respond(&request, 503, "r", extra));
        w.pass(Duration::from_millis(400));
        w.expect_nothing(CARRIER);
        w.pass(Duration::from_secs(2));
    }
    let request = one(&mut w, CARRIER, "REGISTER ");
    w.send(CARRIER, &respond(&request, 423, "r", "Min-Expires: 4294967295\r\n"));
    let again = |w: &mut World| {
        w.pass(Duration::from_secs(5));
        w.take(CARRIER).into_iter().rfind(|m| m.starts_with("REGISTER "))
    };
    let request = (0..720).find_map(|_| again(&mut w)).expect("a REGISTER within the hour");
    assert_ne!(header(&request, "Expires").as_deref(), Some("4294967295"));
    let contact = header(&request, "Contact").expect("Contact");
    w.send(CARRIER, &respond(&request, 200, "r", &format!("Contact: {contact};expires=4294967295\r\n")));
    assert_eq!(state(&w), RegistrationState::Registered);
    // Within a day it is refreshed.
    w.pass(Duration::from_secs(86_400));
    assert!(again(&mut w).is_some());
}

#[test]
fn a_registrar_that_does_not_answer_is_tried_again_later() {
    let mut w = world(account());
    w.pass(Duration::from_secs(34));
    let all = w.take(CARRIER);
    assert!(all.len() > 5 && all.iter().all(|m| m == &all[0]), "retransmissions of one REGISTER");
    assert_eq!(state(&w), RegistrationState::Failed);
    assert_eq!(w.state.trunk("carrier").expect("it").registration.last, "no answer");
    w.pass(Duration::from_secs(10));
    assert!(cseq(&w.take(CARRIER)[0]) == 2);
}

#[test]
fn switching_a_trunk_off_ends_its_registration_once_and_on_again_registers() {
    let mut w = world(account());
    w.pass(Duration::from_millis(600));
    grant(&mut w, 600);
    let at = w.now.wall;
    command(&mut w, TrunkCommand::Enable { uuid: String::from("carrier"), enabled: false, at });
    w.pass(Duration::from_millis(600));
    let end = grant(&mut w, 0);
    assert_eq!(header(&end, "Expires").as_deref(), Some("0"));
    assert_eq!(state(&w), RegistrationState::Idle);
    w.pass(Duration::from_secs(3600));
    w.expect_nothing(CARRIER);
    let at = w.now.wall;
    command(&mut w, TrunkCommand::Enable { uuid: String::from("carrier"), enabled: true, at });
    w.pass(Duration::from_millis(600));
    grant(&mut w, 600);
    assert_eq!(state(&w), RegistrationState::Registered);
}

#[test]
fn only_the_engine_that_gets_the_answers_registers() {
    let mut sent = 0;
    for shard in 0..4 {
        let mut w = World::with(EngineConfig { shard, shards: 4, ..config() });
        put(&mut w, account());
        w.pass(Duration::from_secs(2));
        sent += usize::from(!w.take(CARRIER).is_empty());
    }
    assert_eq!(sent, 1);
}

#[test]
fn the_index_is_that_of_the_records_also_when_a_trunk_that_is_down_changes_again() {
    let style = proxy_core::state::trunk_style::TrunkStyle { probe: true, ..Default::default() };
    let mut w = world(Account { style, ..account() });
    for _ in 0..2 {
        let down = TrunkCommand::Probed { uuid: account().uuid, up: false };
        assert_eq!(command(&mut w, down), proxy_core::state::SipResponse::Done);
    }
    assert!(w.state.index_is_right());
}
