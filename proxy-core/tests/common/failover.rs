//! Backends, servers of a name, and trunks, of which some are dead.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::digest::ha1;
use proxy_core::dispatch::{Algorithm, DispatchConfig};
use proxy_core::dns::{Kind, Question, Record, Srv};
use proxy_core::io::EngineConfig;
use proxy_core::routing::{Action, Match, Pattern, RoutingConfig, Rule};
use proxy_core::state::SipCommand;
use proxy_core::state::dispatcher::{Attributes, Destination, DispatcherCommand};
use proxy_core::state::trunk::{Account, TrunkCommand};
use proxy_core::time::WallTime;

pub const ALICE: &str = "10.77.0.201:5061";
pub const BOB: &str = "10.77.0.202:5062";
pub const FIRST: &str = "10.77.0.211:5081";
pub const SECOND: &str = "10.77.0.212:5082";
pub const NUMBER: &str = "sip:100@lab.test";
pub const BOB_URI: &str = "sip:bob@lab.test";

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A backend of set 1.
pub fn put_backend(w: &mut World, uri: &str, priority: i32) {
    let destination = Box::new(Destination {
        uri: uri.to_owned(),
        flags: 0,
        priority,
        attrs: Attributes::parse(""),
        description: String::new(),
        count: 0,
        changed_at: WallTime(0),
        seen_at: WallTime(0),
    });
    w.state.apply(&SipCommand::Dispatcher(DispatcherCommand::Put { set: 1, destination }));
}

/// Two backends, the first one first, which are probed.
pub fn backends(change: impl FnOnce(&mut EngineConfig)) -> World {
    let dispatch = DispatchConfig {
        default_set: Some(1),
        algorithm: Algorithm::Priority,
        probe_interval: seconds(600),
        probe_timeout: seconds(2),
        ..DispatchConfig::default()
    };
    let mut config = EngineConfig { dispatch, ..config() };
    change(&mut config);
    let mut w = World::with(config);
    for (at, priority) in [(FIRST, 9), (SECOND, 1)] {
        put_backend(&mut w, &format!("sip:{at}"), priority);
    }
    // The first probes find both alive.
    w.pass(Duration::from_millis(600));
    for at in [FIRST, SECOND] {
        for probe in w.take(at) {
            w.send(at, &respond(&probe, 200, "o", ""));
        }
    }
    w
}

/// `bob` has registered at a name with two servers.
pub fn servers(change: impl FnOnce(&mut EngineConfig)) -> World {
    let mut config = config();
    change(&mut config);
    let mut w = World::with(config);
    let srv =
        |priority, port, target: &str| Record::Srv(Srv { priority, weight: 1, port, target: target.into() });
    let question = |kind, name: &str| Question { kind, name: name.into() };
    let services = vec![srv(20, 5082, "second.test"), srv(10, 5081, "first.test")];
    w.zone.insert(question(Kind::Srv, "_sip._udp.phone.test"), services);
    for (name, at) in [("first.test", FIRST), ("second.test", SECOND)] {
        w.zone.insert(question(Kind::A, name), vec![Record::Address(addr(at).ip())]);
    }
    w.send(BOB, &register("bob", BOB, 1, "<sip:bob@phone.test>"));
    w.take(BOB);
    w
}

pub fn call(w: &mut World, uri: &str, id: &str) {
    w.send(ALICE, &invite(uri, ALICE, id));
    w.resolve();
    w.expect(ALICE, "SIP/2.0 100 ");
}

pub fn contact(at: &str) -> String {
    format!("Contact: <sip:pbx@{at}>\r\n")
}

/// How many of each request an address has got.
pub fn count(messages: &[String], method: &str) -> usize {
    messages.iter().filter(|m| m.starts_with(&format!("{method} "))).count()
}

/// Calls to numbers go out by the first of two trunks, which need no registration.
pub fn trunks(change: impl FnOnce(&mut EngineConfig)) -> World {
    let rule = Rule {
        name: String::from("out"),
        matching: Match { users: vec![Pattern::glob("0*").expect("a pattern")], ..Match::default() },
        strip: 0,
        prefix: String::new(),
        require_auth: false,
        action: Action::Trunk(vec![String::from("one"), String::from("two")]),
        voicemail: None,
        ring: None,
        media: None,
    };
    let mut config =
        EngineConfig { routing: RoutingConfig { rules: vec![rule], ..RoutingConfig::default() }, ..config() };
    change(&mut config);
    let mut w = World::with(config);
    for (uuid, at) in [("one", FIRST), ("two", SECOND)] {
        put_trunk(&mut w, uuid, at, 0);
    }
    w
}

pub fn put_trunk(w: &mut World, uuid: &str, at: &str, expires_s: u32) {
    let account = Box::new(Account {
        uuid: uuid.into(),
        remote_user: "acc".into(),
        remote_domain: format!("{uuid}.test"),
        realm: format!("{uuid}.test"),
        auth_user: "acc".into(),
        ha1: ha1("acc", &format!("{uuid}.test"), "secret"),
        proxy: format!("sip:{at}"),
        expires_s,
        contact_user: uuid.into(),
        ..Account::default()
    });
    let at = w.now.wall;
    let put = TrunkCommand::Put { account, call_id: format!("reg-{uuid}"), at };
    w.state.apply(&SipCommand::Trunk(put));
}

pub const OUT: &str = "sip:0301234@lab.test";
