//! Any events in any order: the machines do not panic, say nothing twice that is said once, and come to an end.

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proxy_core::time::MonoTime;
use proxy_core::transaction::{
    Ict, IctAction, Ist, IstAction, Nict, NictAction, Nist, NistAction, SharedBytes, TimerConfig,
};

/// Timer events that any transaction may need to end: T1 doubles 6 times in 64*T1 and goes on every T2.
const MOST_TIMEOUTS: usize = 100;

#[derive(Debug, Clone)]
enum Event {
    Response(u16),
    Request,
    Ack,
    Cancel,
    TransportError,
    Wait(u64),
    Timeout,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (90u16..720).prop_map(Event::Response),
        2 => prop_oneof![Just(100u16), Just(180), Just(200), Just(486)].prop_map(Event::Response),
        2 => Just(Event::Request),
        2 => Just(Event::Ack),
        1 => Just(Event::Cancel),
        1 => Just(Event::TransportError),
        3 => (0u64..40_000).prop_map(Event::Wait),
        3 => Just(Event::Timeout),
    ];
    vec(event, 0..40)
}

fn bytes() -> SharedBytes {
    Arc::from(&b"x"[..])
}

fn timers() -> TimerConfig {
    TimerConfig::new(Duration::from_millis(500), Duration::from_secs(4), Duration::from_secs(5))
}

proptest! {
    #[test]
    fn invite_client_transactions_end_and_report_one_end(events in events(), reliable: bool) {
        let mut now = MonoTime(1);
        let mut tx = Ict::new(now, &timers(), reliable, bytes());
        let (mut ends, mut finals) = (0, 0);
        for event in events {
            let (was_open, was_terminated) = (tx.is_open(), tx.is_terminated());
            let action = match event {
                Event::Response(status) => {
                    let action = tx.on_response(now, status);
                    if action == IctAction::Pass && (300..700).contains(&status) {
                        finals += 1;
                        prop_assert!(was_open);
                    }
                    action
                }
                Event::Ack => tx.acknowledge(bytes()),
                Event::Cancel | Event::Request => {
                    tx.on_cancel_sent(now);
                    IctAction::None
                }
                Event::TransportError => tx.on_transport_error(),
                Event::Wait(ms) => {
                    now = now + Duration::from_millis(ms);
                    IctAction::None
                }
                Event::Timeout => tx.on_timeout(now),
            };
            ends += u32::from(matches!(action, IctAction::Timeout | IctAction::TransportError));
            if was_terminated {
                prop_assert_eq!(action, IctAction::None);
            }
        }
        prop_assert!(ends + finals <= 2 && finals <= 1 && ends <= 1);
        tx.on_cancel_sent(now);
        for _ in 0..MOST_TIMEOUTS {
            let Some(at) = tx.next_timeout() else { break };
            now = now.max(at);
            tx.on_timeout(now);
            prop_assert!(tx.next_timeout().is_none_or(|next| next > now), "timers move on");
        }
        prop_assert!(tx.is_terminated() && tx.next_timeout().is_none());
    }

    #[test]
    fn other_client_transactions_end_and_report_exactly_one_result(events in events(), reliable: bool) {
        let mut now = MonoTime(1);
        let mut tx = Nict::new(now, &timers(), reliable, bytes());
        let mut results = 0;
        let mut count = |action: &NictAction, status: u16| {
            let is_final = *action == NictAction::Pass && status >= 200;
            results += u32::from(is_final || matches!(action, NictAction::Timeout | NictAction::TransportError));
        };
        for event in events {
            match event {
                Event::Response(status) => count(&tx.on_response(now, status), status),
                Event::TransportError => count(&tx.on_transport_error(), 0),
                Event::Wait(ms) => now = now + Duration::from_millis(ms),
                _ => count(&tx.on_timeout(now), 0),
            }
        }
        for _ in 0..MOST_TIMEOUTS {
            let Some(at) = tx.next_timeout() else { break };
            now = now.max(at);
            count(&tx.on_timeout(now), 0);
            prop_assert!(tx.next_timeout().is_none_or(|next| next > now), "timers move on");
        }
        prop_assert!(tx.is_terminated() && tx.next_timeout().is_none());
        prop_assert_eq!(results, 1);
    }

    #[test]
    fn invite_server_transactions_end_once_answered_and_send_one_kind_of_final(
        events in events(),
        reliable: bool,
    ) {
        let mut now = MonoTime(1);
        let mut tx = Ist::new(&timers(), reliable);
        let (mut successes, mut refusals) = (0, 0);
        let mut timeouts = 0;
        for event in events {
            let was_terminated = tx.is_terminated();
            let action = match event {
                Event::Response(status) => {
                    let action = tx.send_response(now, status, bytes());
                    let sent = action != IstAction::None;
                    successes += u32::from(sent && (200..300).contains(&status));
                    refusals += u32::from(sent && status >= 300);
                    action
                }
                Event::Request | Event::Cancel => tx.on_request_retransmit(),
                Event::Ack => tx.on_ack(now),
                Event::TransportError => tx.on_transport_error(),
                Event::Wait(ms) => {
                    now = now + Duration::from_millis(ms);
                    IstAction::None
                }
                Event::Timeout => tx.on_timeout(now),
            };
            timeouts += u32::from(action == IstAction::Timeout);
            if was_terminated {
                prop_assert_eq!(action, IstAction::None);
            }
        }
        prop_assert!(refusals == 0 || (refusals == 1 && successes == 0));
        tx.send_response(now, 500, bytes());
        for _ in 0..MOST_TIMEOUTS {
            let Some(at) = tx.next_timeout() else { break };
            now = now.max(at);
            timeouts += u32::from(tx.on_timeout(now) == IstAction::Timeout);
            prop_assert!(tx.next_timeout().is_none_or(|next| next > now), "timers move on");
        }
        prop_assert!(tx.is_terminated() && tx.next_timeout().is_none());
        prop_assert!(timeouts <= 1);
    }

    #[test]
    fn other_server_transactions_end_once_answered_and_send_one_final(events in events(), reliable: bool) {
        let mut now = MonoTime(1);
        let mut tx = Nist::new(&timers(), reliable);
        let mut finals = 0;
        for event in events {
            match event {
                Event::Response(status) => {
                    let sent = tx.send_response(now, status, bytes()) != NistAction::None;
                    finals += u32::from(sent && status >= 200);
                }
                Event::Request | Event::Ack | Event::Cancel => {
                    let answered = tx.on_request_retransmit() != NistAction::None;
                    prop_assert!(!answered || !tx.is_terminated());
                }
                Event::TransportError => {
                    tx.on_transport_error();
                }
                Event::Wait(ms) => now = now + Duration::from_millis(ms),
                Event::Timeout => prop_assert_eq!(tx.on_timeout(now), NistAction::None),
            }
        }
        prop_assert!(finals <= 1);
        tx.send_response(now, 500, bytes());
        if let Some(at) = tx.next_timeout() {
            tx.on_timeout(now.max(at));
        }
        prop_assert!(tx.is_terminated() && tx.next_timeout().is_none());
    }
}
