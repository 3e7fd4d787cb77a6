//! `[registrar]`, `[presence]` and `[message_store]`: what is right is read, what is wrong is named with its line and cure.

use std::path::Path;
use std::time::Duration;

use agent::config::Config;
use proxy_core::blf::{PresenceConfig, Watchers};
use proxy_core::offline::MessageStoreConfig;
use proxy_core::registrar::{OutboundMode, PathMode, RegistrarConfig};

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("p.toml"), text).map_err(|e| e.to_string())
}

#[test]
fn without_a_word_the_engines_have_their_defaults() {
    let c = parse("").expect("right");
    assert_eq!(c.registrar, RegistrarConfig::default());
    assert_eq!(c.presence, PresenceConfig::default());
    assert_eq!(c.message_store, MessageStoreConfig::default());
    assert!(!c.presence.enabled && !c.message_store.enabled && !c.registrar.gruu, "as Kamailio's defaults");
}

#[test]
fn every_key_of_the_sections_is_read() {
    let c = parse(
        r#"[registrar]
path = "strict"
service_route = ["<sip:192.0.2.1;lr>"]
outbound = "required"
flow_timer_s = 120
gruu = true
method_filter = false
refuse_content = true
[presence]
enabled = true
watchers = "anyone"
min_expires_s = 30
max_expires_s = 7200
[message_store]
enabled = true
max_per_user = 5
max_total = 6
expires_s = 3600
max_bytes = 100
"#,
    )
    .expect("right");
    let registrar = RegistrarConfig {
        path: PathMode::Strict,
        service_route: vec!["<sip:192.0.2.1;lr>".into()],
        outbound: OutboundMode::Required,
        flow_timer_s: Some(120),
        gruu: true,
        method_filter: false,
        refuse_content: true,
    };
    assert_eq!(c.registrar, registrar);
    let presence =
        PresenceConfig { enabled: true, watchers: Watchers::Anyone, min_expires_s: 30, max_expires_s: 7200 };
    assert_eq!(c.presence, presence);
    let store = MessageStoreConfig {
        enabled: true,
        max_per_user: 5,
        max_total: 6,
        life: Duration::from_secs(3600),
        max_bytes: 100,
    };
    assert_eq!(c.message_store, store);
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_its_cure() {
    let cases = [
        ("[registrar]\npath = \"none\"", "p.toml:2: path \"none\" is unknown", "\"lazy\""),
        (
            "[registrar]\nservice_route = [\"sip:a\"]",
            "p.toml:2: service_route \"sip:a\" is no route",
            "<sip:",
        ),
        ("[registrar]\nservice_route = [\"<sip:a>\"]", "is no route", ";lr>"),
        ("[registrar]\noutbound = true", "p.toml:2:", "outbound"),
        ("[presence]\nenabled = 1", "p.toml:2:", "enabled"),
        ("[presence]\nmin_expires_s = 9\nmax_expires_s = 8", "p.toml:3: max_expires_s = 8 is below", "raise"),
        ("[message_store]\nmax_bytes = 1000000", "p.toml:2:", "1 to 49152"),
        ("[message_store]\nmax_user = 1", "max_user", ""),
    ];
    for (text, what, cure) in cases {
        let error = parse(text).expect_err("wrong");
        assert!(error.contains(what) && error.contains(cure), "{text}: {error}");
    }
}
