//! `[failover]`: what is right is read, what is wrong is named with its line and cure.

use std::path::Path;
use std::time::Duration;

use agent::config::Config;
use proxy_core::failover::FailoverConfig;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("f.toml"), text).map_err(|e| e.to_string())
}

#[test]
fn without_a_word_phones_have_timer_b_and_servers_three_seconds() {
    let c = parse("").expect("right");
    assert_eq!(c.failover, FailoverConfig::default());
    assert_eq!((c.failover.fr_timer, c.failover.next_address), (None, Duration::from_secs(3)));
    assert_eq!((c.trunk.patience, c.dispatcher.patience), (Duration::from_secs(4), Duration::from_secs(3)));
}

#[test]
fn every_key_is_read() {
    let text = "[failover]\nfr_timer_ms = 30000\nnext_address_ms = 0\ndoubt_ms = 500\nringing = false\n\
                [trunk]\npatience_ms = 0\n";
    let c = parse(text).expect("right");
    let wanted = FailoverConfig {
        fr_timer: Some(Duration::from_secs(30)),
        next_address: Duration::ZERO,
        doubt: Duration::from_millis(500),
        ringing: false,
    };
    assert_eq!((c.failover, c.trunk.patience), (wanted, Duration::ZERO));
}

#[test]
fn an_fr_timer_before_the_next_address_is_a_fault_with_its_line_and_cure() {
    let why = parse("[failover]\nfr_timer_ms = 1000\n").expect_err("wrong");
    assert!(why.contains("f.toml:2") && why.contains("at least 3000"), "{why}");
    let why = parse("[failover]\n\nfr_timer_ms = 40000\n").expect_err("wrong");
    assert!(why.contains("f.toml:3"), "{why}");
    let why = parse("[failover]\nfr_timer = 1\n").expect_err("wrong");
    assert!(why.contains("fr_timer"), "{why}");
}
