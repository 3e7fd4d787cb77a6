//! The registrar from bytes to bytes: RFC 3261 §10.3, RFC 3327, RFC 5626.

use std::net::SocketAddr;

use proxy_core::io::EngineConfig;
use proxy_core::location::{Hop, canonical_aor, hop_of_uri, lookup};
use proxy_core::msg::{HeaderName, Message, Uri, ViaStamp};
use proxy_core::registrar::{
    MAX_CONTACTS_PER_REGISTER, RegisterRejection, answer, answer_refusal, contact_key, judge,
};
use proxy_core::state::{Binding, Flow, RegisterChange, SipCommand, SipState, Transport};
use proxy_core::time::{MonoTime, Now, RealTime, WallTime};

const PHONE: &str = "10.0.0.1:5062";
const PROXY: &str = "10.0.0.100:5060";

fn now(seconds: u64) -> Now {
    Now { mono: MonoTime(seconds * 1_000_000_000), wall: WallTime(1_700_000_000_000 + seconds * 1000) }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn flow_from(source: &str) -> Flow {
    Flow { transport: Transport::Udp, local: address(PROXY), remote: address(source) }
}

fn config() -> EngineConfig {
    EngineConfig {
        listen: vec![address(PROXY), address("[fd77::100]:5060")],
        server: String::from("Relevo/test"),
        ..EngineConfig::default()
    }
}

/// A REGISTER of alice with these header lines, from a phone at 10.0.0.1:5062.
fn request(cseq: u32, lines: &[&str]) -> String {
    let mut text = format!(
        "REGISTER sip:lab.test SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{cseq}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@lab.test>;tag=f\r\nTo: Alice <sip:%61lice@LAB.test:5060;x=y>\r\nCall-ID: c1\r\n\
         CSeq: {cseq} REGISTER\r\n"
    );
    lines.iter().for_each(|l| text.push_str(&format!("{l}\r\n")));
    text.push_str("Content-Length: 0\r\n\r\n");
    text
}

fn judged(lines: &[&str]) -> Result<RegisterChange, RegisterRejection> {
    let text = request(1, lines);
    let message = Message::parse(text.as_bytes()).expect("a message");
    judge(&message, &config(), flow_from(PHONE), now(0)).map(|c| c.change)
}

fn bindings(lines: &[&str]) -> Vec<Binding> {
    match judged(lines) {
        Ok(RegisterChange::Contacts(list)) => list,
        other => panic!("no contacts: {other:?}"),
    }
}

/// Seconds that each contact gets.
fn granted(lines: &[&str]) -> Vec<u64> {
    bindings(lines).iter().map(|b| (b.expires_at.0 - now(0).wall.0) / 1000).collect()
}

fn bad(reason: &'static str) -> Result<RegisterChange, RegisterRejection> {
    Err(RegisterRejection::Bad(reason))
}

/// A registrar alone: judges, applies, answers.
#[derive(Default)]
struct Registrar {
    state: SipState,
}

impl Registrar {
    fn register(&mut self, text: &str, source: &str, seconds: u64) -> String {
        let (config, now) = (config(), now(seconds));
        let message = Message::parse(text.as_bytes()).expect("a message");
        let mut out = Vec::new();
        let stamp = ViaStamp::default();
        match judge(&message, &config, flow_from(source), now) {
            Ok(command) => {
                let outcome = self.state.apply(&SipCommand::Register(command));
                answer(&message, &outcome, &config, (now, RealTime(now.wall.0)), "t", stamp, &mut out);
            }
            Err(why) => {
                answer_refusal(&message, &why, &config, "t", stamp, &mut out);
            }
        }
        let response = Message::parse(&out).expect("a response");
        response.check_response().expect("a response without fault");
        String::from_utf8(out).expect("text")
    }
}

fn status(response: &str) -> u16 {
    Message::parse(response.as_bytes()).expect("a response").status().expect("a status")
}

fn header<'r>(response: &'r str, name: &str) -> Vec<&'r str> {
    let prefix = format!("{name}: ");
    response.lines().filter_map(|l| l.strip_prefix(prefix.as_str())).collect()
}

#[test]
fn register_is_answered_with_all_current_contacts_rfc3261_10_3_step_8() {
    let mut registrar = Registrar::default();
    let first = request(1, &["Contact: <sip:alice@10.0.0.1:5062>;q=0.5", "Expires: 600"]);
    registrar.register(&first, PHONE, 0);
    let second =
        request(2, &["m: \"Cell\" <sip:alice@10.0.0.2>;expires=120;+sip.instance=\"<urn:uuid:1>\";reg-id=1"]);
    let response = registrar.register(&second, PHONE, 100);
    assert_eq!(status(&response), 200);
    let expected = [
        "<sip:alice@10.0.0.2>;expires=120;+sip.instance=\"<urn:uuid:1>\";reg-id=1",
        "<sip:alice@10.0.0.1:5062>;expires=500;q=0.5",
    ];
    assert_eq!(header(&response, "Contact"), expected);
    assert_eq!(header(&response, "To"), ["Alice <sip:%61lice@LAB.test:5060;x=y>;tag=t"]);
    assert_eq!(header(&response, "Date"), ["Tue, 14 Nov 2023 22:15:00 GMT"]);
    assert_eq!(header(&response, "Supported"), ["path"]);
    assert_eq!(header(&response, "Server"), ["Relevo/test"]);
    assert_eq!(header(&response, "Path").len(), 0);
    let query = registrar.register(&request(3, &[]), PHONE, 100);
    assert_eq!(header(&query, "Contact"), expected, "a REGISTER without Contact asks");
    assert_eq!(registrar.state.aors().map(|(aor, _)| aor).collect::<Vec<_>>(), ["sip:alice@lab.test"]);
}

#[test]
fn a_retransmitted_register_gets_the_same_response_even_from_a_node_that_never_saw_it() {
    let mut registrar = Registrar::default();
    let text = request(1, &["Contact: <sip:alice@10.0.0.1:5062>", "Expires: 600"]);
    let first = registrar.register(&text, PHONE, 0);
    let again = registrar.register(&text, PHONE, 0);
    assert_eq!((status(&first), &first), (200, &again));
}

#[test]
fn an_overtaken_register_is_refused_rfc3261_10_3_step_7() {
    let mut registrar = Registrar::default();
    registrar.register(&request(5, &["Contact: <sip:alice@10.0.0.1>"]), PHONE, 0);
    let response = registrar.register(&request(4, &["Contact: <sip:alice@10.0.0.1>;expires=0"]), PHONE, 1);
    assert_eq!(status(&response), 500);
    assert_eq!(registrar.state.counts().bindings, 1);
}

#[test]
fn expires_of_the_contact_goes_before_the_header_and_that_before_the_default() {
    let contact = "Contact: <sip:a@h>;expires=100, <sip:b@h>, <sip:c@h>;expires=0";
    assert_eq!(granted(&[contact, "Expires: 200"]), [100, 200, 0]);
    assert_eq!(granted(&[contact]), [100, 3600, 0]);
}

#[test]
fn malformed_expires_counts_as_the_default_and_a_huge_one_as_the_maximum_rfc3261_10_2_1_1() {
    assert_eq!(granted(&["Contact: <sip:a@h>;expires=soon", "Expires: 100"]), [3600]);
    assert_eq!(granted(&["Contact: <sip:a@h>;expires", "Expires: 100"]), [3600]);
    assert_eq!(granted(&["Contact: <sip:a@h>", "Expires: never"]), [3600]);
    assert_eq!(granted(&["Contact: <sip:a@h>;expires=99999999999999999999"]), [3600]);
    assert_eq!(granted(&["Contact: <sip:a@h>", "Expires: 99999999999999999999"]), [3600]);
    assert_eq!(granted(&["Contact: <sip:a@h>;expires=-1"]), [3600]);
}

#[test]
fn too_brief_expires_is_refused_with_min_expires_rfc3261_10_3_step_7() {
    assert_eq!(judged(&["Contact: <sip:a@h>;expires=59"]), Err(RegisterRejection::TooBrief(60)));
    assert_eq!(granted(&["Contact: <sip:a@h>;expires=60"]), [60]);
    let response =
        Registrar::default().register(&request(1, &["Contact: <sip:a@h>", "Expires: 1"]), PHONE, 0);
    assert_eq!((status(&response), header(&response, "Min-Expires")), (423, vec!["60"]));
    // Nobody may be refused who asks for an hour, whatever the configuration wants.
    let config = EngineConfig { min_expires_s: 7200, max_expires_s: 9000, ..config() };
    let text = request(1, &["Contact: <sip:a@h>;expires=3600, <sip:b@h>;expires=0"]);
    let message = Message::parse(text.as_bytes()).expect("a message");
    assert!(judge(&message, &config, flow_from(PHONE), now(0)).is_ok());
}

#[test]
fn star_must_stand_alone_with_expires_0_rfc3261_10_3_step_6() {
    assert_eq!(judged(&["Contact: *", "Expires: 0"]), Ok(RegisterChange::RemoveAll));
    let unpaired = bad("Contact * Without Expires 0");
    assert_eq!(judged(&["Contact: *"]), unpaired);
    assert_eq!(judged(&["Contact: *", "Expires: 3600"]), unpaired);
    assert_eq!(judged(&["Contact: *", "Expires: x"]), unpaired);
    let crowded = bad("Contact * With Other Contacts");
    assert_eq!(judged(&["Contact: *, <sip:a@h>", "Expires: 0"]), crowded);
    assert_eq!(judged(&["Contact: *", "Contact: *", "Expires: 0"]), crowded);
    let mut registrar = Registrar::default();
    registrar.register(&request(1, &["Contact: <sip:a@h>, <sip:b@h>"]), PHONE, 0);
    let response = registrar.register(&request(2, &["Contact: *", "Expires: 0"]), PHONE, 1);
    assert_eq!((status(&response), header(&response, "Contact").len()), (200, 0));
    assert_eq!(registrar.state.counts().bindings, 0);
}

#[test]
fn q_is_read_in_thousandths_and_a_bad_one_is_refused() {
    let q = |text: &str| judged(&[&format!("Contact: <sip:a@h>;q={text}")]);
    for (text, expected) in [("0", 0), ("0.0", 0), ("0.05", 50), ("0.999", 999), ("1", 1000), ("1.000", 1000)]
    {
        let Ok(RegisterChange::Contacts(list)) = q(text) else { panic!("q={text} is refused") };
        assert_eq!(list[0].q, expected, "q={text}");
    }
    for text in ["1.001", "2", "-1", "0.1234", "high", ""] {
        assert_eq!(q(text), bad("Bad q"), "q={text}");
    }
    let mut registrar = Registrar::default();
    let contacts = "Contact: <sip:a@h>;q=0.0, <sip:b@h>;q=0.050, <sip:c@h>;q=0.1, <sip:d@h>;q=1.0";
    let response = registrar.register(&request(1, &[contacts]), PHONE, 0);
    let q_of: Vec<&str> =
        header(&response, "Contact").iter().map(|c| c.split_once(";q=").map_or("", |(_, q)| q)).collect();
    assert_eq!(q_of, ["", "0.1", "0.05", "0.0"]);
}

#[test]
fn unknown_required_extensions_are_named_in_a_420_rfc3261_8_2_2_3() {
    let text = request(1, &["Contact: <sip:a@h>", "Require: path, gruu", "Require: outbound"]);
    let response = Registrar::default().register(&text, PHONE, 0);
    assert_eq!((status(&response), header(&response, "Unsupported")), (420, vec!["gruu, outbound"]));
    assert!(judged(&["Contact: <sip:a@h>", "Require: PATH"]).is_ok());
}

#[test]
fn too_many_contacts_are_refused_with_retry_after() {
    let mut registrar = Registrar::default();
    for n in 0..=config().max_contacts {
        let contact = format!("Contact: <sip:a{n}@h>");
        let response = registrar.register(&request(u32::from(n) + 1, &[&contact]), PHONE, 0);
        let fits = n < config().max_contacts;
        assert_eq!(status(&response), if fits { 200 } else { 503 });
        assert_eq!(header(&response, "Retry-After").is_empty(), fits);
    }
    let crowd: Vec<String> =
        (0..=MAX_CONTACTS_PER_REGISTER).map(|n| format!("Contact: <sip:b{n}@h>")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    assert_eq!(judged(&crowd), bad("Too Many Contacts"));
}

#[test]
fn path_is_kept_and_repeated_only_to_who_understands_it_rfc3327_5_3() {
    let mut registrar = Registrar::default();
    let path = ["Path: <sip:edge1.test;lr>, <sip:10.0.0.50:5070;lr>", "Path: <sip:p3;lr>"];
    let contact = "Contact: <sip:alice@192.168.0.9>";
    let response = registrar.register(&request(1, &[contact, path[0], path[1]]), "10.0.0.50:5070", 0);
    assert_eq!((status(&response), header(&response, "Path").len()), (200, 0));
    let values = ["<sip:edge1.test;lr>", "<sip:10.0.0.50:5070;lr>", "<sip:p3;lr>"];
    assert_eq!(registrar.state.bindings("sip:alice@lab.test")[0].path, values);
    let lines = [contact, path[0], path[1], "Supported: path"];
    let response = registrar.register(&request(2, &lines), "10.0.0.50:5070", 0);
    assert_eq!(header(&response, "Path"), values);
    assert_eq!(judged(&[contact, "Path: <sip:>"]), bad("Bad Path"));
    assert_eq!(judged(&[contact, "Path: <tel:+1>"]), bad("Bad Path"));
    let long = format!("Path: {}", ["<sip:p;lr>"; 17].join(","));
    assert_eq!(judged(&[contact, &long]), bad("Path Too Long"));
    let folded = "Path: <sip:p;lr>;x=\"a\r\n b\"";
    assert_eq!(judged(&[contact, folded]), bad("Bad Path"), "it goes into other messages as it is");
}

#[test]
fn broken_contacts_and_addresses_of_record_are_refused_with_400() {
    assert_eq!(judged(&["Contact: <sip:>"]), bad("Bad Contact"));
    assert_eq!(judged(&["Contact: nonsense"]), bad("Bad Contact"));
    assert_eq!(judged(&[&format!("Contact: <sip:a@h;x={}>", "y".repeat(2000))]), bad("Contact Too Long"));
    for instance in ["\"\"", "\"a\\\"b\"", "\"a\tb\""] {
        let contact = format!("Contact: <sip:a@h>;+sip.instance={instance};reg-id=1");
        assert_eq!(judged(&[&contact]), bad("Bad Instance"), "{instance}");
    }
    let long = format!("Contact: <sip:a@h>;+sip.instance=\"{}\"", "x".repeat(300));
    assert_eq!(judged(&[&long]), bad("Bad Instance"));
    let text = request(1, &[]).replace("%61lice", &"a".repeat(600));
    let message = Message::parse(text.as_bytes()).expect("a message");
    let verdict = judge(&message, &config(), flow_from(PHONE), now(0));
    assert_eq!(verdict.map(|c| c.change), bad("Address of Record Too Long"));
    for reg_id in ["0", "x", "-1"] {
        let contact = format!("Contact: <sip:a@h>;+sip.instance=\"<i>\";reg-id={reg_id}");
        assert_eq!(judged(&[&contact]), bad("Bad reg-id"), "{reg_id}");
    }
    // Without an instance the reg-id means nothing (RFC 5626 §6).
    assert_eq!(bindings(&["Contact: <sip:a@h>;reg-id=x"])[0].reg_id, None);
    for (to, reason) in [("tel:+123", "Address of Record Is No SIP URI"), ("sip:", "Bad To")] {
        let text = request(1, &[]).replace("sip:%61lice@LAB.test:5060;x=y", to);
        let message = Message::parse(text.as_bytes()).expect("a message");
        let verdict = judge(&message, &config(), flow_from(PHONE), now(0));
        assert_eq!(verdict.map(|c| c.change), bad(reason), "{to}");
    }
}

#[test]
fn what_a_phone_says_of_itself_is_kept_short_and_printable() {
    let agent = format!("User-Agent: Evil\u{1b}[2J {}", "é".repeat(500));
    let kept = &bindings(&["Contact: <sip:a@h>", &agent])[0].user_agent;
    assert!(kept.starts_with("Evil [2J é") && !kept.chars().any(char::is_control));
    assert!(kept.len() < 200);
}

#[test]
fn a_contact_behind_a_nat_is_reached_where_its_register_came_from() {
    let natted = |via: &str, contact: &str, source: &str| {
        let text = request(1, &[&format!("Contact: <{contact}>")])
            .replace(&format!("UDP {PHONE}"), &format!("UDP {via}"));
        let message = Message::parse(text.as_bytes()).expect("a message");
        match judge(&message, &config(), flow_from(source), now(0)).map(|c| c.change) {
            Ok(RegisterChange::Contacts(list)) => list[0].natted,
            other => panic!("no contact: {other:?}"),
        }
    };
    assert!(!natted(PHONE, "sip:a@10.0.0.1:5062", PHONE), "no NAT");
    assert!(
        natted("192.168.1.5:5060", "sip:a@192.168.1.5:5060", "203.0.113.7:40000"),
        "private behind a NAT"
    );
    assert!(natted("10.0.0.1:5060", "sip:a@10.0.0.1:5060", "10.0.0.1:40000"), "only the port is mapped");
    assert!(natted("192.168.1.5:5060", "sip:a@192.168.1.5:5060", "203.0.113.7:5060"), "only the address is");
    assert!(!natted("192.168.1.5:5060", "sip:a@203.0.113.7:40000", "203.0.113.7:40000"), "STUN");
    assert!(!natted(PHONE, "sip:a@10.0.0.1:5090", PHONE), "listens on another port");
    assert!(!natted(PHONE, "sip:gateway@10.0.0.77", PHONE), "on behalf of another, §10.2");
    assert!(natted(PHONE, "sip:x@df7jal23ls0d.invalid", PHONE), "does not know its address, RFC 7118 §5");
    assert!(natted(PHONE, "sip:a@0.0.0.0", PHONE));
    assert!(!natted("phone.test:5062", "sip:a@10.0.0.1:5090", PHONE), "a name says nothing about NATs");
    assert!(natted("phone.test:5060", "sip:a@10.0.0.1:5090", PHONE));
    assert!(!natted(PHONE, "mailto:a@h", PHONE));
    assert!(!natted("[fd77::1]:5062", "sip:a@[fd77::1]:5062", "[fd77:0::1]:5062"));
}

#[test]
fn contact_keys_follow_the_comparison_rules_of_rfc3261_19_1_4() {
    let key = |text: &str| contact_key(&Uri::parse(text).expect("a URI"));
    let same = [
        ("sip:%61lice@Atlanta.COM;transport=TCP", "SIP:alice@AtLanTa.com;Transport=tcp"),
        ("sip:a@h;x=1;y=2", "sip:a@h;Y=2;x=1"),
        ("sip:a@[2001:db8:0::1]:5060", "sip:a@[2001:DB8::1]:5060"),
    ];
    let different = [
        ("sip:alice@h", "sip:ALICE@h"),
        ("sip:a@h", "sip:a@h:5060"),
        ("sip:a@h", "sip:a@h;transport=udp"),
        ("sip:a@h", "sips:a@h"),
        ("sip:a@h;rinstance=1", "sip:a@h;rinstance=2"),
        ("sip:a:pw1@h", "sip:a:pw2@h"),
        ("sip:a@h?Subject=x", "sip:a@h?Subject=y"),
        ("sip:h", "sip:h@h"),
        ("mailto:a@h", "sip:a@h"),
        ("sip:a%40b@h", "sip:a@h"),
    ];
    for (a, b) in same {
        assert_eq!(key(a), key(b));
    }
    for (a, b) in different {
        assert_ne!(key(a), key(b));
    }
}

#[test]
fn an_address_of_record_has_one_canonical_form_rfc3261_10_3_step_5() {
    let aor = |text: &str| canonical_aor(&Uri::parse(text).expect("a URI"));
    for text in
        ["sip:%61lice@LAB.Test", "sip:alice:pw@lab.test:5060;user=phone?x=y", "sips:alice@lab.test:5061"]
    {
        assert_eq!(aor(text).as_deref(), Some("sip:alice@lab.test"), "{text}");
    }
    assert_eq!(aor("sip:Alice@lab.test").as_deref(), Some("sip:Alice@lab.test"), "users have a case");
    assert_eq!(aor("sip:a%40b@lab.test").as_deref(), Some("sip:a%40b@lab.test"), "not a@b at lab.test");
    assert_eq!(aor("sip:x@[FD77:0::1]").as_deref(), Some("sip:x@[fd77::1]"));
    assert_eq!(aor("sip:lab.test").as_deref(), Some("sip:lab.test"));
    assert_eq!(aor("tel:+1-201-555").as_deref(), Some("tel:+1201555"));
    assert_eq!(aor("mailto:a@b"), None);
}

fn send(remote: &str) -> Hop {
    Hop::Send(flow_from(remote))
}

#[test]
fn lookup_gives_all_current_contacts_with_the_way_to_each() {
    let mut registrar = Registrar::default();
    let contacts = [
        "Contact: <sip:direct@10.0.0.1:5062;ob>;q=0.9;expires=600",
        "Contact: <sip:elsewhere@10.0.0.9>;q=0.8;expires=600",
        "Contact: <sip:brief@10.0.0.8>;q=0.7;expires=60",
        "Contact: <sip:six@[fd77::9]:5070>;q=0.6",
        "Contact: <sip:named@Phone.test:5070>;q=0.5",
        "Contact: <sip:tcp@10.0.0.1;transport=tcp>;q=0.4, <sips:tls@10.0.0.1>;q=0.3",
        "Contact: <sip:pinned@h;maddr=10.0.0.6>;q=0.2, <mailto:a@h>;q=0.1",
    ];
    let response = registrar.register(&request(1, &contacts), PHONE, 0);
    assert_eq!(status(&response), 200);
    let aor = "sip:alice@lab.test";
    let targets = lookup(&registrar.state, aor, now(60).wall, &config().listen);
    let found: Vec<(&str, &Hop)> = targets.iter().map(|t| (t.uri.as_str(), &t.hop)).collect();
    let six = Hop::Send(Flow {
        transport: Transport::Udp,
        local: address("[fd77::100]:5060"),
        remote: address("[fd77::9]:5070"),
    });
    let name = Hop::Name { host: String::from("phone.test"), port: Some(5070), transport: None };
    let by_tcp = Hop::Send(Flow { transport: Transport::Tcp, ..flow_from("10.0.0.1:5060") });
    let expected = [
        ("sip:direct@10.0.0.1:5062;ob", &send(PHONE)),
        ("sip:elsewhere@10.0.0.9", &send("10.0.0.9:5060")),
        ("sip:six@[fd77::9]:5070", &six),
        ("sip:named@Phone.test:5070", &name),
        ("sip:tcp@10.0.0.1;transport=tcp", &by_tcp),
        ("sips:tls@10.0.0.1", &Hop::None),
        ("sip:pinned@h;maddr=10.0.0.6", &send("10.0.0.6:5060")),
        ("mailto:a@h", &Hop::None),
    ];
    assert_eq!(found, expected);
    assert_eq!(lookup(&registrar.state, "sip:nobody@lab.test", now(0).wall, &config().listen), []);
}

#[test]
fn lookup_sends_to_a_natted_phone_on_its_flow_and_to_a_path_by_its_first_hop() {
    let mut registrar = Registrar::default();
    let source = "203.0.113.7:40000";
    registrar.register(&request(1, &["Contact: <sip:alice@192.168.1.5>"]), source, 0);
    let aor = "sip:alice@lab.test";
    let hops = |registrar: &Registrar, listen: &[SocketAddr]| -> Vec<Hop> {
        lookup(&registrar.state, aor, now(1).wall, listen).into_iter().map(|t| t.hop).collect()
    };
    assert_eq!(hops(&registrar, &config().listen), [send(source)]);
    // The floating IP was renumbered since: better from the new one than not at all.
    let moved = address("10.0.0.200:5060");
    let expected = Hop::Send(Flow { local: moved, ..flow_from(source) });
    assert_eq!(hops(&registrar, &[moved]), [expected]);
    assert_eq!(hops(&registrar, &[address("[fd77::100]:5060")]), [Hop::None], "no such family");
    let second = address("10.0.1.100:5060");
    assert_eq!(hops(&registrar, &[second, address(PROXY)]), [send(source)], "from where the phone knows us");
    assert_eq!(hops(&registrar, &[second, address("0.0.0.0:5060")]), [send(source)], "a wildcard covers it");
    let lines = ["Contact: <sip:alice@192.168.1.5>", "Path: <sip:10.0.0.50:5070;lr>"];
    registrar.register(&request(2, &lines), source, 0);
    let targets = lookup(&registrar.state, aor, now(1).wall, &config().listen);
    assert_eq!(targets[0].hop, send("10.0.0.50:5070"));
    assert_eq!(targets[0].route, ["<sip:10.0.0.50:5070;lr>"]);
    assert!(!registrar.state.bindings(aor)[0].natted, "the source is the edge, not the phone");
}

#[test]
fn lookup_gives_one_flow_per_instance_rfc5626_7() {
    let mut registrar = Registrar::default();
    let flow =
        |n: u32, id: &str| format!("Contact: <sip:alice@10.0.0.{n}>;+sip.instance=\"<{id}>\";reg-id={n}");
    for (cseq, n, id) in [(1, 1, "phone"), (2, 2, "phone"), (3, 3, "other")] {
        registrar.register(&request(cseq, &[&flow(n, id)]), PHONE, u64::from(cseq));
    }
    let targets = lookup(&registrar.state, "sip:alice@lab.test", now(5).wall, &config().listen);
    let uris: Vec<&str> = targets.iter().map(|t| t.uri.as_str()).collect();
    assert_eq!(uris, ["sip:alice@10.0.0.3", "sip:alice@10.0.0.2"]);
    registrar.register(&request(8, &[&flow(2, "third"), &flow(2, "fourth")]), PHONE, 8);
    let targets = lookup(&registrar.state, "sip:alice@lab.test", now(8).wall, &config().listen);
    assert_eq!(targets.len(), 2, "the same place twice is one target, RFC 3261 §16.5");
    // Without reg-id there are no flows to choose among, only contacts.
    let plain = |n: u32| format!("Contact: <sip:alice@10.0.0.{n}>;+sip.instance=\"<plain>\"");
    registrar.register(&request(9, &["Contact: *", "Expires: 0"]), PHONE, 8);
    registrar.register(&request(10, &[&plain(1), &plain(2)]), PHONE, 9);
    assert_eq!(lookup(&registrar.state, "sip:alice@lab.test", now(9).wall, &config().listen).len(), 2);
}

#[test]
fn a_hop_to_nowhere_is_none() {
    let hop = |text: &str| hop_of_uri(&Uri::parse(text).expect("a URI"), &config().listen);
    assert_eq!(hop("sip:a@0.0.0.0"), Hop::None);
    assert_eq!(hop("sip:a@[::]"), Hop::None);
    assert_eq!(hop("sip:a@10.0.0.1:0"), Hop::None);
    assert_eq!(
        hop("sip:a@h;maddr=x y".trim_end_matches(" y")),
        Hop::Name { host: String::from("x"), port: None, transport: None }
    );
    assert_eq!(hop("sip:a@[::ffff:10.0.0.1]"), send("10.0.0.1:5060"), "a mapped address is an IPv4 one");
    assert_eq!(hop("tel:+1"), Hop::None);
}

#[test]
fn every_header_of_a_200_can_be_read_again() {
    let mut registrar = Registrar::default();
    let lines = [
        "Contact: \"A, B\" <sip:a@h;x=\"q\">;q=0.2",
        "Contact: <sip:a%3Cb@h?Subject=x%20y>;expires=100;+sip.instance=\"<urn:uuid:1;2>\";reg-id=3",
    ];
    let response = registrar.register(&request(1, &lines), PHONE, 0);
    // A quote is in no URI: that contact is refused, not repeated.
    assert_eq!(status(&response), 400);
    let response = registrar.register(&request(2, &lines[1..]), PHONE, 0);
    let message = Message::parse(response.as_bytes()).expect("a response");
    let contact = message.contacts().next().expect("a contact").expect("that can be read");
    assert_eq!(contact.uri, "sip:a%3Cb@h?Subject=x%20y");
    assert_eq!((contact.expires(), contact.reg_id()), (Some(100), Some(3)));
    assert_eq!(contact.instance(), Some("<urn:uuid:1;2>"));
    assert!(message.has(HeaderName::Date));
}
