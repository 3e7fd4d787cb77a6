//! The four transaction machines against the timing of RFC 3261 Table 4 and RFC 6026 §7.

use std::sync::Arc;
use std::time::Duration;

use proxy_core::io::EngineConfig;
use proxy_core::time::MonoTime;
use proxy_core::transaction::{
    Ict, IctAction, IctState, Ist, IstAction, IstState, Nict, NictAction, NictState, Nist, NistAction,
    NistState, SharedBytes, TimerConfig, TimerQueue,
};

const REQUEST: &[u8] = b"request";
const FINAL: &[u8] = b"final";
const ACK: &[u8] = b"ack";

fn bytes(text: &[u8]) -> SharedBytes {
    Arc::from(text)
}

fn ms(n: u64) -> MonoTime {
    MonoTime(n * 1_000_000)
}

fn as_ms(at: MonoTime) -> u64 {
    at.0 / 1_000_000
}

fn timers() -> TimerConfig {
    TimerConfig::default()
}

/// Fires every timer at its very time until there is none; the times in milliseconds with what came of them.
macro_rules! play {
    ($machine:expr) => {{
        let mut log = Vec::new();
        while let Some(at) = $machine.next_timeout() {
            assert!(log.len() < 100, "timers without end: {log:?}");
            log.push((as_ms(at), $machine.on_timeout(at)));
        }
        log
    }};
}

fn ict() -> Ict {
    Ict::new(ms(0), &timers(), false, bytes(REQUEST))
}

fn nict() -> Nict {
    Nict::new(ms(0), &timers(), false, bytes(REQUEST))
}

#[test]
fn invite_is_sent_again_with_doubling_intervals_until_timer_b_rfc3261_17_1_1_2() {
    let mut tx = ict();
    let again = |at| (at, IctAction::Transmit(bytes(REQUEST)));
    let expected = [
        again(500),
        again(1500),
        again(3500),
        again(7500),
        again(15_500),
        again(31_500),
        (32_000, IctAction::Timeout),
    ];
    assert_eq!(play!(tx), expected);
    assert!(tx.is_terminated());
}

#[test]
fn invite_over_a_reliable_transport_is_sent_once_but_still_times_out() {
    let mut tx = Ict::new(ms(0), &timers(), true, bytes(REQUEST));
    assert_eq!(play!(tx), [(32_000, IctAction::Timeout)]);
}

#[test]
fn a_provisional_response_ends_timers_a_and_b() {
    let mut tx = ict();
    assert_eq!(tx.on_response(ms(400), 180), IctAction::Pass);
    assert_eq!((tx.state(), tx.next_timeout()), (IctState::Proceeding, None));
    assert_eq!(tx.on_response(ms(600), 183), IctAction::Pass, "every provisional goes to the proxy");
}

#[test]
fn the_ack_of_a_refusal_leaves_only_once_it_is_handed_in() {
    let mut tx = ict();
    assert_eq!(tx.on_response(ms(100), 486), IctAction::Pass);
    assert_eq!(tx.state(), IctState::Completed);
    assert_eq!(tx.on_response(ms(600), 486), IctAction::None, "not committed yet: let the callee repeat");
    assert_eq!(tx.acknowledge(bytes(ACK)), IctAction::Transmit(bytes(ACK)));
    assert_eq!(tx.on_response(ms(1600), 486), IctAction::Transmit(bytes(ACK)));
    assert_eq!(tx.on_response(ms(1700), 200), IctAction::None, "the branch has ended otherwise");
    assert_eq!(play!(tx), [(32_100, IctAction::None)], "timer D");
    assert!(tx.is_terminated());
    assert_eq!(tx.acknowledge(bytes(ACK)), IctAction::None);
}

#[test]
fn timer_d_is_zero_on_a_reliable_transport_once_the_ack_is_out() {
    let mut tx = Ict::new(ms(0), &timers(), true, bytes(REQUEST));
    assert_eq!(tx.on_response(ms(5), 404), IctAction::Pass);
    assert!(!tx.is_terminated(), "the ACK is still owed");
    assert_eq!(tx.acknowledge(bytes(ACK)), IctAction::Transmit(bytes(ACK)));
    assert!(tx.is_terminated());
}

#[test]
fn every_2xx_is_passed_until_timer_m_rfc6026_7_2() {
    let mut tx = ict();
    assert_eq!(tx.on_response(ms(0), 180), IctAction::Pass);
    assert_eq!(tx.on_response(ms(1000), 200), IctAction::Pass);
    assert_eq!(tx.state(), IctState::Accepted);
    assert_eq!(tx.on_response(ms(1500), 200), IctAction::Pass, "a repetition, or another fork");
    assert_eq!(tx.on_response(ms(1600), 486), IctAction::None);
    assert_eq!(tx.on_response(ms(1600), 180), IctAction::None);
    assert_eq!(play!(tx), [(33_000, IctAction::None)]);
}

#[test]
fn a_cancelled_invite_without_a_final_response_ends_after_64_t1_rfc3261_9_1() {
    let mut tx = ict();
    assert_eq!(tx.on_response(ms(0), 180), IctAction::Pass);
    tx.on_cancel_sent(ms(5000));
    tx.on_cancel_sent(ms(9000));
    assert_eq!(tx.on_response(ms(6000), 180), IctAction::Pass);
    assert_eq!(play!(tx), [(37_000, IctAction::Timeout)]);
    // Before any provisional response timer B counts on.
    let mut tx = Ict::new(ms(0), &timers(), true, bytes(REQUEST));
    tx.on_cancel_sent(ms(5000));
    assert_eq!(play!(tx), [(32_000, IctAction::Timeout)]);
}

#[test]
fn a_2xx_that_crosses_the_cancel_is_passed() {
    let mut tx = ict();
    assert_eq!(tx.on_response(ms(0), 180), IctAction::Pass);
    tx.on_cancel_sent(ms(10));
    assert_eq!(tx.on_response(ms(20), 200), IctAction::Pass);
    assert_eq!(tx.state(), IctState::Accepted);
}

#[test]
fn client_transactions_resumed_after_a_takeover_answer_repetitions() {
    let mut tx = Ict::resume_completed(ms(0), &timers(), false, bytes(REQUEST), bytes(ACK));
    assert_eq!(tx.on_response(ms(1), 486), IctAction::Transmit(bytes(ACK)));
    assert_eq!(play!(tx), [(32_000, IctAction::None)]);
    let mut tx = Ict::resume_accepted(ms(0), &timers(), false, bytes(REQUEST));
    assert_eq!(tx.on_response(ms(1), 200), IctAction::Pass);
    assert_eq!(play!(tx), [(32_000, IctAction::None)]);
}

#[test]
fn other_requests_are_sent_again_with_intervals_capped_by_t2_until_timer_f_rfc3261_17_1_2_2() {
    let mut tx = nict();
    let mut expected: Vec<(u64, NictAction)> =
        [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]
            .map(|at| (at, NictAction::Transmit(bytes(REQUEST))))
            .to_vec();
    expected.push((32_000, NictAction::Timeout));
    assert_eq!(play!(tx), expected);
}

#[test]
fn after_a_provisional_response_other_requests_are_sent_again_every_t2() {
    let mut tx = nict();
    assert_eq!(tx.on_response(ms(100), 100), NictAction::Pass);
    let mut expected: Vec<(u64, NictAction)> = [500, 4500, 8500, 12_500, 16_500, 20_500, 24_500, 28_500]
        .map(|at| (at, NictAction::Transmit(bytes(REQUEST))))
        .to_vec();
    expected.push((32_000, NictAction::Timeout));
    assert_eq!(play!(tx), expected);
}

#[test]
fn repeated_final_responses_are_swallowed_until_timer_k() {
    let mut tx = nict();
    assert_eq!(tx.on_response(ms(100), 200), NictAction::Pass);
    assert_eq!(tx.on_response(ms(200), 200), NictAction::None);
    assert_eq!(tx.on_response(ms(200), 404), NictAction::None);
    assert_eq!(tx.state(), NictState::Completed);
    assert_eq!(play!(tx), [(5100, NictAction::None)], "timer K is T4");
    let mut tx = Nict::new(ms(0), &timers(), true, bytes(REQUEST));
    assert_eq!(tx.next_timeout(), Some(ms(32_000)), "no timer E");
    assert_eq!(tx.on_response(ms(1), 200), NictAction::Pass);
    assert!(tx.is_terminated(), "no timer K");
}

#[test]
fn a_repeated_invite_gets_the_last_provisional_and_nothing_before_there_is_one() {
    let mut tx = Ist::new(&timers(), false);
    assert_eq!(tx.on_request_retransmit(), IstAction::None, "the 100 waits for the commit");
    assert_eq!(tx.send_response(ms(1), 100, bytes(b"100")), IstAction::Transmit(bytes(b"100")));
    assert_eq!(tx.on_request_retransmit(), IstAction::Transmit(bytes(b"100")));
    assert_eq!(tx.send_response(ms(2), 180, bytes(b"180")), IstAction::Transmit(bytes(b"180")));
    assert_eq!(tx.on_request_retransmit(), IstAction::Transmit(bytes(b"180")));
    assert_eq!(tx.next_timeout(), None);
}

#[test]
fn a_refusal_is_sent_again_with_intervals_capped_by_t2_until_timer_h_rfc3261_17_2_1() {
    let mut tx = Ist::new(&timers(), false);
    assert_eq!(tx.send_response(ms(0), 486, bytes(FINAL)), IstAction::Transmit(bytes(FINAL)));
    assert_eq!(tx.on_request_retransmit(), IstAction::Transmit(bytes(FINAL)));
    let mut expected: Vec<(u64, IstAction)> =
        [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]
            .map(|at| (at, IstAction::Transmit(bytes(FINAL))))
            .to_vec();
    expected.push((32_000, IstAction::Timeout));
    assert_eq!(play!(tx), expected);
}

#[test]
fn an_ack_ends_the_repetitions_and_timer_i_swallows_its_own() {
    let mut tx = Ist::new(&timers(), false);
    tx.send_response(ms(0), 404, bytes(FINAL));
    assert_eq!(tx.on_ack(ms(700)), IstAction::None);
    assert_eq!(tx.state(), IstState::Confirmed);
    assert_eq!(tx.on_ack(ms(800)), IstAction::None);
    assert_eq!(tx.on_request_retransmit(), IstAction::None);
    assert_eq!(tx.send_response(ms(900), 200, bytes(b"200")), IstAction::None);
    assert_eq!(play!(tx), [(5700, IstAction::None)], "timer I is T4");
    let mut tx = Ist::new(&timers(), true);
    tx.send_response(ms(0), 404, bytes(FINAL));
    assert_eq!(tx.next_timeout(), Some(ms(32_000)), "no timer G");
    assert_eq!(tx.on_ack(ms(1)), IstAction::None);
    assert!(tx.is_terminated(), "timer I is zero");
}

#[test]
fn an_accepted_invite_swallows_repetitions_and_passes_acks_until_timer_l_rfc6026_7_1() {
    let mut tx = Ist::new(&timers(), false);
    assert_eq!(tx.send_response(ms(1000), 200, bytes(FINAL)), IstAction::Transmit(bytes(FINAL)));
    assert_eq!(tx.state(), IstState::Accepted);
    assert_eq!(tx.on_request_retransmit(), IstAction::None);
    assert_eq!(tx.send_response(ms(1500), 200, bytes(FINAL)), IstAction::Transmit(bytes(FINAL)));
    assert_eq!(tx.send_response(ms(1500), 180, bytes(b"180")), IstAction::None);
    assert_eq!(tx.send_response(ms(1500), 486, bytes(b"486")), IstAction::None);
    assert_eq!(tx.on_ack(ms(1600)), IstAction::Pass);
    assert_eq!(play!(tx), [(33_000, IstAction::None)], "timer L runs from the first 2xx, and is no failure");
}

#[test]
fn other_requests_again_get_the_last_response_until_timer_j_rfc3261_17_2_2() {
    let mut tx = Nist::new(&timers(), false);
    assert_eq!(tx.on_request_retransmit(), NistAction::None);
    assert_eq!(tx.send_response(ms(1), 100, bytes(b"100")), NistAction::Transmit(bytes(b"100")));
    assert_eq!(tx.on_request_retransmit(), NistAction::Transmit(bytes(b"100")));
    assert_eq!(tx.send_response(ms(2), 200, bytes(FINAL)), NistAction::Transmit(bytes(FINAL)));
    assert_eq!(tx.on_request_retransmit(), NistAction::Transmit(bytes(FINAL)));
    assert_eq!(tx.send_response(ms(3), 500, bytes(b"500")), NistAction::None);
    assert_eq!(tx.state(), NistState::Completed);
    assert_eq!(play!(tx), [(32_002, NistAction::None)]);
    let mut tx = Nist::new(&timers(), true);
    assert_eq!(tx.send_response(ms(2), 200, bytes(FINAL)), NistAction::Transmit(bytes(FINAL)));
    assert!(tx.is_terminated());
}

#[test]
fn a_transport_error_ends_client_transactions_and_not_the_invite_server_one_rfc6026() {
    let mut tx = ict();
    assert_eq!(tx.on_transport_error(), IctAction::TransportError);
    assert!(tx.is_terminated() && tx.next_timeout().is_none());
    assert_eq!(tx.on_transport_error(), IctAction::None, "told once");
    let mut tx = ict();
    tx.on_response(ms(1), 200);
    assert_eq!(tx.on_transport_error(), IctAction::None);
    let mut tx = nict();
    assert_eq!(tx.on_transport_error(), NictAction::TransportError);
    assert!(tx.is_terminated());
    let mut tx = Ist::new(&timers(), false);
    tx.send_response(ms(1), 200, bytes(FINAL));
    assert_eq!(tx.on_transport_error(), IstAction::TransportError);
    assert_eq!(tx.state(), IstState::Accepted);
    let mut tx = Nist::new(&timers(), false);
    tx.send_response(ms(1), 200, bytes(FINAL));
    assert_eq!(tx.on_transport_error(), NistAction::TransportError);
    assert!(tx.is_terminated());
}

#[test]
fn a_process_that_was_stopped_sends_once_and_not_in_a_burst() {
    let mut tx = ict();
    assert_eq!(tx.on_timeout(ms(499)), IctAction::None, "too early");
    assert_eq!(tx.on_timeout(ms(20_000)), IctAction::Transmit(bytes(REQUEST)));
    assert_eq!(tx.on_timeout(ms(20_000)), IctAction::None);
    assert_eq!(tx.next_timeout(), Some(ms(21_000)));
    assert_eq!(tx.on_timeout(ms(60_000)), IctAction::Timeout, "what has ended is not sent again");
}

#[test]
fn absurd_timer_values_neither_spin_nor_overflow() {
    let zero = TimerConfig::new(Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut tx = Nict::new(ms(0), &zero, false, bytes(REQUEST));
    let log = play!(tx);
    assert_eq!((log.len(), log.last()), (64, Some(&(64, NictAction::Timeout))));
    let huge = TimerConfig::new(Duration::MAX, Duration::MAX, Duration::MAX);
    let mut tx = Ict::new(ms(1), &huge, false, bytes(REQUEST));
    assert_eq!(tx.on_timeout(MonoTime(u64::MAX)), IctAction::Timeout);
}

#[test]
fn timer_values_come_from_the_configuration() {
    let config = EngineConfig { t1: Duration::from_millis(100), ..EngineConfig::default() };
    let timers = TimerConfig::from(&config);
    assert_eq!((timers.t1(), timers.t1_64()), (config.t1, Duration::from_millis(6400)));
    assert_eq!((timers.t2(), timers.t4()), (config.t2, config.t4));
}

#[test]
fn timer_queue_gives_the_earliest_first_and_each_owner_has_one_deadline() {
    let mut queue = TimerQueue::new();
    queue.set('b', Some(ms(5)));
    queue.set('a', Some(ms(5)));
    queue.set('c', Some(ms(9)));
    queue.set('c', Some(ms(3)));
    queue.set('d', Some(ms(1)));
    queue.set('d', None);
    assert_eq!((queue.len(), queue.next(), queue.get(&'c')), (3, Some(ms(3)), Some(ms(3))));
    assert_eq!(queue.pop_due(ms(2)), None);
    let due: Vec<char> = std::iter::from_fn(|| queue.pop_due(ms(5))).collect();
    assert_eq!(due, ['c', 'a', 'b']);
    assert!(queue.is_empty() && queue.next().is_none());
}
