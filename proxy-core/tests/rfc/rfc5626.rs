//! RFC 5626: flows of clients. The rules that the other stories do not prove.

use crate::common::story::*;
use proxy_core::io::EngineConfig;
use proxy_core::registrar::{OutboundMode, RegistrarConfig};

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const BOB2: &str = "10.77.0.202:5063";
const BOB_URI: &str = "sip:bob@lab.test";
const INSTANCE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000000000001>\"";

fn world() -> World {
    let registrar = RegistrarConfig { outbound: OutboundMode::Supported, ..RegistrarConfig::default() };
    World::with(EngineConfig { registrar, ..config() })
}

fn bob(at: &str, cseq: u32, params: &str) -> String {
    register("bob", at, cseq, &format!("<sip:bob@{at}>{params}"))
        .replace("Content-Length", "Supported: outbound, path\r\nContent-Length")
}

#[test]
fn a_reg_id_without_instance_makes_an_ordinary_binding_rfc5626_6() {
    let mut w = world();
    w.send(BOB, &bob(BOB, 1, ";reg-id=1"));
    let ok = w.expect(BOB, "SIP/2.0 200 ");
    assert_eq!(header(&ok, "Require"), None, "outbound is not in use");
    w.send(BOB2, &bob(BOB2, 1, ";reg-id=1"));
    w.expect(BOB2, "SIP/2.0 200 ");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(BOB, "INVITE ");
    w.expect(BOB2, "INVITE ");
}

#[test]
fn a_flow_that_is_made_anew_replaces_the_one_of_its_number_and_another_number_is_another_flow_rfc5626_6() {
    let mut w = world();
    let flow = |number: u32| format!(";{INSTANCE};reg-id={number}");
    w.send(BOB, &bob(BOB, 1, &flow(1)));
    w.expect(BOB, "SIP/2.0 200 ");
    w.send(BOB2, &bob(BOB2, 1, &flow(1)));
    let ok = w.expect(BOB2, "SIP/2.0 200 ");
    let contacts = header(&ok, "Contact").unwrap_or_default();
    assert!(contacts.contains(BOB2) && !contacts.contains(BOB), "{contacts}");
    w.send(BOB, &bob(BOB, 2, &flow(2)));
    let ok = w.expect(BOB, "SIP/2.0 200 ");
    assert_eq!(header(&ok, "Contact").unwrap_or_default().matches("<sip:bob@").count(), 2);
}

#[test]
fn a_binding_without_outbound_is_left_alone_by_flows_rfc5626_6() {
    let mut w = world();
    w.register("bob", BOB);
    w.send(BOB2, &bob(BOB2, 1, &format!(";{INSTANCE};reg-id=1")));
    w.expect(BOB2, "SIP/2.0 200 ");
    w.send(ALICE, &invite(BOB_URI, ALICE, "c1"));
    w.expect(BOB, "INVITE ");
    w.expect(BOB2, "INVITE ");
}
