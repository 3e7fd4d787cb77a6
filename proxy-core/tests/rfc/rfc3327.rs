//! RFC 3327: Path. The rules that the other stories do not prove.

use crate::common::story::*;

const ALICE: &str = "10.77.0.201:5061";
const BOB: &str = "10.77.0.202:5062";
const EDGE: &str = "10.77.0.210:5060";
const BOB_URI: &str = "sip:bob@lab.test";

#[test]
fn several_hops_of_a_path_are_said_back_and_followed_in_their_order_rfc3327_5_3() {
    let mut w = World::new();
    let path = format!(
        "Path: <sip:{EDGE};lr>, <sip:10.77.0.211;lr>\r\nPath: <sip:10.77.0.212;lr>\r\nSupported: path\r\n"
    );
    let text = register("bob", BOB, 1, &format!("<sip:bob@{BOB}>"));
    w.send(EDGE, &text.replace("Max-Forwards", &format!("{path}Max-Forwards")));
    let answer = w.expect(EDGE, "SIP/2.0 200 ");
    let hops = format!("<sip:{EDGE};lr>, <sip:10.77.0.211;lr>, <sip:10.77.0.212;lr>");
    assert_eq!(header(&answer, "Path").as_deref(), Some(hops.as_str()));
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "c1", ""));
    let at_edge = w.expect(EDGE, "MESSAGE ");
    assert_eq!(header(&at_edge, "Route").as_deref(), Some(hops.as_str()));
    assert_eq!(uri_of(&at_edge), format!("sip:bob@{BOB}"));
    w.expect_nothing(BOB);
}

#[test]
fn each_binding_has_the_path_it_was_made_by_and_a_refresh_replaces_it_rfc3327_5_3() {
    let mut w = World::new();
    let by = |cseq: u32, path: &str| {
        let text = register("bob", BOB, cseq, &format!("<sip:bob@{BOB}>"));
        text.replace("Max-Forwards", &format!("{path}Max-Forwards"))
    };
    w.send(EDGE, &by(1, &format!("Path: <sip:{EDGE};lr>\r\n")));
    w.expect(EDGE, "SIP/2.0 200 ");
    w.send(BOB, &by(2, ""));
    w.expect(BOB, "SIP/2.0 200 ");
    w.send(ALICE, &request("MESSAGE", BOB_URI, ALICE, "c1", ""));
    let at_bob = w.expect(BOB, "MESSAGE ");
    assert_eq!(header(&at_bob, "Route"), None);
    w.expect_nothing(EDGE);
}
