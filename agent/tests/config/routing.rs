//! The sections that tune the stages, and the `[[route]]` tables: what is right is read, what is wrong is named with
//! its line and cure.

use std::path::Path;
use std::time::Duration;

use agent::config::Config;
use proxy_core::routing::{Action, Fork, Mode, RoutingConfig, Stage};

fn parse(text: &str) -> Result<RoutingConfig, String> {
    Config::parse(Path::new("r.toml"), text).map(|c| c.routing.engine).map_err(|e| e.to_string())
}

#[test]
fn without_a_word_about_routing_the_engines_have_their_defaults() {
    assert_eq!(parse(""), Ok(RoutingConfig::default()));
    let c = RoutingConfig::default();
    assert!(c.relay_from.is_empty() && c.rules.is_empty(), "no open relay");
    assert!(!c.follow_redirects && c.voicemail.is_none() && c.screen.flood.is_none());
}

#[test]
fn every_key_of_the_sections_is_read() {
    let c = parse(
        r#"[routing]
mode = "redirect"
fork = "q"
fork_after_s = 12
follow_redirects = true
p_hint = false
off = ["presence", "routes"]
relay_from = ["10.0.0.0/8", "2001:db8::1"]
max_message_bytes = 8000
max_uri_bytes = 300
max_forwards = 10
keepalive = false
scanners = ["Friendly"]
[flood]
requests = 30
per_s = 3
ban_s = 60
exempt = ["192.0.2.0/24"]
[voicemail]
server = "sip:192.0.2.9:5080"
after_s = 20
on = [486, 408]
[speed_dial]
12 = "sip:bob@lab.test"
13 = "tel:+4930123456"
"#,
    )
    .expect("right");
    assert_eq!((c.mode, c.fork, c.fork_after), (Mode::Redirect, Fork::ByQ, Duration::from_secs(12)));
    assert!(c.follow_redirects && !c.p_hint && !c.has(Stage::Policy) && c.has(Stage::Location));
    assert_eq!(c.relay_from.len(), 2);
    let s = &c.screen;
    assert_eq!((s.max_bytes, s.max_uri_bytes, s.max_forwards, s.keepalive), (8000, 300, 10, false));
    assert_eq!(s.scanners, ["friendly"]);
    let flood = s.flood.as_ref().expect("a limit");
    assert_eq!(
        (flood.requests, flood.window, flood.ban),
        (30, Duration::from_secs(3), Duration::from_secs(60))
    );
    let voicemail = c.voicemail.as_ref().expect("voicemail");
    assert_eq!(voicemail.server, "sip:192.0.2.9:5080");
    assert_eq!((voicemail.after, voicemail.on.as_slice()), (Some(Duration::from_secs(20)), &[486, 408][..]));
    assert_eq!(c.speed_dial.get("13").map(String::as_str), Some("tel:+4930123456"));
}

#[test]
fn routes_are_read_in_their_order_with_all_they_match_and_do() {
    let c = parse(
        r#"[[route]]
name = "outside line"
method = "INVITE"
domain = ["lab.test", "example.org"]
user = "0*"
user_regex = '^\+49\d+$'
source = ["10.0.0.0/8"]
header = ["X-Account: gold*", "X-Seen"]
strip = 1
prefix = "+49"
require_auth = true
ring_s = 45
action = "trunk"
trunk = "carrier"
[[route]]
user = ["1??", "2??"]
action = "location"
voicemail = "sip:192.0.2.9"
voicemail_after_s = 15
voicemail_on = [486, 404]
[[route]]
action = "dispatcher"
set = 3
[[route]]
action = "redirect"
contact = "sip:{user}@192.0.2.5"
permanent = true
[[route]]
action = "reject"
status = 603
reason = "No thanks"
[[route]]
source = "192.0.2.0/24"
action = "relay"
[[route]]
action = "continue"
prefix = "9"
"#,
    )
    .expect("right");
    let [out, user, set, moved, no, relay, more] = c.rules.as_slice() else { panic!("{:#?}", c.rules) };
    assert_eq!((out.name.as_str(), out.strip, out.prefix.as_str()), ("outside line", 1, "+49"));
    assert!(out.require_auth && out.ring == Some(Duration::from_secs(45)));
    let list = parse("[[route]]\naction = \"trunk\"\ntrunk = [\"a\", \"b\"]\n").expect("right");
    assert_eq!(list.rules[0].action, Action::Trunk(vec!["a".into(), "b".into()]));
    assert_eq!(out.action, Action::Trunk(vec!["carrier".into()]));
    assert_eq!((out.matching.methods.len(), out.matching.domains.len(), out.matching.users.len()), (1, 2, 2));
    assert_eq!((out.matching.sources.len(), out.matching.headers.len()), (1, 2));
    assert_eq!((user.name.as_str(), &user.action), ("2", &Action::Location));
    assert_eq!(user.voicemail.as_ref().map(|v| (v.server.as_str(), v.on.len())), Some(("sip:192.0.2.9", 2)));
    assert_eq!(set.action, Action::Dispatcher(3));
    let contacts = vec![String::from("sip:{user}@192.0.2.5")];
    assert_eq!(moved.action, Action::Redirect { contacts, permanent: true });
    assert_eq!(no.action, Action::Reject { status: 603, reason: "No thanks".into() });
    assert_eq!((&relay.action, &more.action), (&Action::Relay, &Action::Continue));
}

#[test]
fn each_fault_names_its_line_and_a_cure() {
    // The text, the line, and words of the message.
    let table: &[(&str, usize, &[&str])] = &[
        (
            "[routing]\nmode = \"b2b\"",
            2,
            &["mode \"b2b\" is unknown", "\"proxy\" or \"redirect\" or \"stateless\""],
        ),
        (
            "[routing]\noff = [\"dispatching\"]",
            2,
            &["\"dispatching\" is no stage", "reqinit, natdetect, cancel"],
        ),
        ("[routing]\nrelay_from = [\"10.0.0.0/33\"]", 2, &["no address block", "192.0.2.0/24"]),
        ("[routing]\nrelay_from = [\"0.0.0.0/0\"]", 2, &["every address", "networks of your own"]),
        ("[routing]\nfollow_redirects = 1", 2, &["wrong type (integer)", "write a boolean, such as true"]),
        ("[routing]\nscanners = [\"\"]", 2, &["in every User-Agent", "[] lets all in"]),
        ("[routing]\nmax_uri_bytes = 5", 2, &["out of range", "64 to 8192"]),
        ("[routing]\nmodus = \"proxy\"", 2, &["unknown key \"modus\"", "did you mean mode?"]),
        ("[flood]\nrequests = 0", 2, &["out of range"]),
        ("[voicemail]\nafter_s = 20", 1, &["no server", "sip:192.0.2.9:5060"]),
        ("[voicemail]\nserver = \"sip:vm@192.0.2.9\"", 2, &["no SIP server", "without a user"]),
        ("[voicemail]\nserver = \"sip:192.0.2.9\"\non = [486, 603]", 3, &["603 is a decision", "§16.7"]),
        ("[voicemail]\nserver = \"sip:192.0.2.9\"\non = [200]", 3, &["200 is no failure", "486, 408"]),
        ("[speed_dial]\n12 = \"bob\"", 2, &["no URI with a user", "sip:bob@example.org"]),
        ("[[route]]\nuser = \"0*\"", 1, &["no action", "location, dispatcher"]),
        ("[[route]]\naction = \"lcoation\"", 2, &["\"lcoation\" is unknown", "location, dispatcher"]),
        ("[[route]]\naction = \"relay\"", 2, &["open relay", "require_auth = true"]),
        ("[[route]]\naction = \"relay\"\nsource = \"::/0\"", 2, &["open relay"]),
        ("[[route]]\naction = \"dispatcher\"", 2, &["needs a set", "set = 1"]),
        ("[[route]]\naction = \"location\"\nset = 1", 3, &["set says nothing", "action = \"dispatcher\""]),
        ("[[route]]\naction = \"trunk\"", 2, &["needs a trunk"]),
        ("[[route]]\naction = \"redirect\"", 2, &["needs a contact", "{user}"]),
        ("[[route]]\naction = \"redirect\"\ncontact = \"here\"", 3, &["no URI"]),
        ("[[route]]\naction = \"reject\"\nstatus = 200", 3, &["no failure", "400 to 699"]),
        ("[[route]]\naction = \"voicemail\"", 2, &["no voicemail server"]),
        ("[[route]]\naction = \"location\"\nvoicemail_after_s = 5", 3, &["no voicemail server"]),
        (
            "[[route]]\naction = \"location\"\nuser_regex = \"(\"",
            3,
            &["user_regex cannot be used", "docs.rs/regex"],
        ),
        ("[[route]]\naction = \"location\"\nuser = []", 3, &["fits nothing", "remove it"]),
        ("[[route]]\naction = \"location\"\nheader = \": x\"", 3, &["no header", "X-Account"]),
        ("[[route]]\naction = \"location\"\nmethod = \"IN VITE\"", 3, &["no method"]),
        ("[[route]]\naction = \"location\"\nprefix = \"a b\"", 3, &["cannot stand in a user part"]),
        ("[[route]]\naction = \"location\"\nstrip = 65", 3, &["out of range"]),
        (
            "[[route]]\naction = \"location\"\ndomains = \"x\"",
            3,
            &["unknown key \"domains\"", "did you mean domain?"],
        ),
        ("route = 5", 1, &["wrong type", "[[section]]"]),
    ];
    for (text, line, words) in table {
        let said = parse(text).expect_err(text);
        assert!(said.contains(&format!("r.toml:{line}:")), "{text}: {said}");
        for word in *words {
            assert!(said.contains(word), "{text}: no {word:?} in {said}");
        }
    }
}

#[test]
fn what_could_never_fit_a_request_is_named_instead_of_kept() {
    for (text, what) in [
        (
            "[[route]]\ndomain = \"sip:lab.test\"\naction = \"location\"",
            "r.toml:2: \"sip:lab.test\" is no domain",
        ),
        ("[[route]]\ndomain = \"lab.test:5060\"\naction = \"location\"", "without sip: and without a port"),
        (
            "[[route]]\nuser = \"0[1-9]*\"\naction = \"location\"",
            "r.toml:2: user = \"0[1-9]*\" would fit nobody",
        ),
        ("[sip]\ndomains = [\"lab.test:5060\"]", "r.toml:2: \"lab.test:5060\" is no domain"),
        (
            "[[dispatcher.set]]\nid = 2\nalgorithm = \"weight\"\n[[dispatcher.set]]\nid = 2\nalgorithm = \"call-id\"",
            "r.toml:4: set 2 is there twice",
        ),
        ("[sip]\ndomains = [\"sip:lab.test\"]", "without sip: and without a port"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(what), "{text}: {error}");
    }
}

#[test]
fn domains_are_kept_as_hosts_of_uris_are_compared_with_them() {
    let config = Config::parse(
        Path::new("r.toml"),
        "[sip]\ndomains = [\"LAB.test.\", \"2001:DB8::1\", \"[2001:db8::2]\", \"192.0.2.1\"]",
    );
    let domains = config.expect("a configuration").sip.domains;
    assert_eq!(domains, ["lab.test", "[2001:db8::1]", "[2001:db8::2]", "192.0.2.1"]);
}

#[test]
fn a_way_to_a_trunk_or_a_set_says_who_may_use_it_or_is_shut_to_strangers_with_file_line_and_cure() {
    let read = |text: &str| Config::parse(Path::new("r.toml"), text).expect(text);
    let shut = |c: &Config| c.routing.engine.rules.first().is_some_and(|r| r.require_auth);
    let ways = ["action = \"trunk\"\ntrunk = \"carrier\"", "action = \"dispatcher\"\nset = 1"];
    for way in ways {
        let with =
            |auth: bool, more: &str| read(&format!("[auth]\nenabled = {auth}\n[[route]]\n{more}\n{way}\n"));
        let unsaid = |c: &Config| {
            let list = c.warnings();
            list.into_iter().filter(|w| w.contains("does not say who may use it")).collect::<Vec<_>>()
        };
        let asked = with(true, "user = \"00*\"");
        assert!(shut(&asked), "{way}");
        let said = unsaid(&asked);
        for word in
            ["r.toml:5: route \"1\" to ", "kept out", "require_auth = true", "source = [", "open = true"]
        {
            assert!(said.len() == 1 && said[0].contains(word), "{way}: no {word:?} in {said:?}");
        }
        let all = with(true, "source = \"0.0.0.0/0\"");
        assert!(shut(&all) && unsaid(&all).len() == 1, "that is everybody");
        let unasked = with(false, "user = \"00*\"");
        assert!(!shut(&unasked));
        assert!(unsaid(&unasked)[0].contains("[auth] enabled = true"), "{:?}", unsaid(&unasked));
        for more in ["require_auth = true", "source = \"192.0.2.0/24\"", "open = true\nmethod = \"INVITE\""] {
            let said = with(true, more);
            assert!(said.warnings().is_empty(), "{more}: {:?}", said.warnings());
            assert_eq!(shut(&said), more.contains("require_auth"), "{more}");
        }
        let open = with(true, "open = true");
        assert_eq!(open.routing.engine.rules[0].matching.methods, ["INVITE", "ACK", "CANCEL"]);
        assert!(open.warnings()[0].contains("takes calls alone"), "{:?}", open.warnings());
    }
    for (text, line, what) in [
        ("[[route]]\nopen = true\nrequire_auth = true\naction = \"dispatcher\"\nset = 1", 2, "keeps out"),
        ("[[route]]\nopen = true\naction = \"location\"", 2, "open says nothing"),
        ("[dispatcher]\ndefault_set = 1\nopen = true\nrequire_auth = true", 3, "keeps out"),
        ("[dispatcher]\nopen = true", 2, "there is none"),
        ("[trunk]\nby_name = [\"\"]", 2, "by_name is empty"),
    ] {
        let said = parse(text).expect_err(text);
        assert!(said.contains(&format!("r.toml:{line}:")) && said.contains(what), "{text}: {said}");
    }
}

#[test]
fn the_default_set_says_who_may_use_it_too() {
    let read = |more: &str| {
        let text = format!("[auth]\nenabled = true\n[dispatcher]\ndefault_set = 1\n{more}\n");
        let c = Config::parse(Path::new("r.toml"), &text).expect("right");
        (c.dispatcher.default_open, c.dispatcher.default_sources.len(), c.warnings().join("\n"))
    };
    let (open, sources, said) = read("");
    assert!(!open && sources == 0 && said.contains("r.toml:4: dispatcher.default_set = 1"), "{said}");
    assert_eq!(read("open = true"), (true, 0, String::new()));
    assert_eq!(read("require_auth = true"), (false, 0, String::new()));
    assert_eq!(read("source = [\"192.0.2.0/24\"]"), (false, 1, String::new()));
}
