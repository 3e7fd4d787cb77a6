//! From TOML text to raw values that remember their lines. Every fault is noted and reading goes on, so that
//! the operator sees all of them at once.

use toml::de::DeTable;

use super::fault::Fault;
use super::table::{At, Reader, Table};
use super::{
    accounting, auth, dialog, dispatcher, dns, failover, hep, message_store, nat, presence, registrar,
    routing, rtpengine, sip, trunk,
};

/// One `[[cluster.node]]`.
#[derive(Debug, Clone, Default)]
pub(super) struct RawNode {
    pub line: usize,
    pub id: Option<At<i64>>,
    pub role: Option<At<String>>,
    pub addr: Option<At<String>>,
}

/// The file as it stands there: right types, nothing compared yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Raw {
    pub id: Option<At<i64>>,
    pub role: Option<At<String>>,
    pub data: Option<At<String>>,
    pub log: Option<At<String>>,
    pub admin: Option<At<String>>,
    pub cluster_line: Option<usize>,
    pub name: Option<At<String>>,
    pub key: Option<At<String>>,
    pub times: Option<At<String>>,
    pub heartbeat_ms: Option<At<i64>>,
    pub election_min_ms: Option<At<i64>>,
    pub election_max_ms: Option<At<i64>>,
    pub durability: Option<At<String>>,
    pub nodes: Vec<RawNode>,
    pub vip_line: Option<usize>,
    pub interface: Option<At<String>>,
    pub addresses: Option<At<Vec<At<String>>>>,
}

/// The sections that are read and checked by a file of their own.
#[derive(Debug, Clone, Default)]
pub(super) struct Sections {
    pub sip: sip::Sip,
    pub routing: routing::Routing,
    pub auth: auth::Auth,
    pub dispatcher: (proxy_core::dispatch::DispatchConfig, Option<super::doors::Door>),
    pub trunk: proxy_core::trunk::TrunkConfig,
    pub dns: dns::Dns,
    pub nat: proxy_core::nat::NatConfig,
    pub hep: Option<crate::capture::HepConfig>,
    pub accounting: accounting::Accounting,
    pub dialog: dialog::Dialog,
    pub registrar: proxy_core::registrar::RegistrarConfig,
    pub presence: proxy_core::blf::PresenceConfig,
    pub failover: proxy_core::failover::FailoverConfig,
    pub message_store: proxy_core::offline::MessageStoreConfig,
    pub media: proxy_core::media::MediaConfig,
}

/// Reads what can be read and says what cannot.
pub(super) fn read(text: &str) -> (Raw, Sections, Vec<Fault>) {
    let mut reader = Reader::new(text);
    let mut raw = Raw::default();
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = error.span().map_or(1, |s| reader.line(&s));
        let what = error.message().replace('\n', ", ");
        reader.fault(line, format!("this is not TOML: {what}"), "see https://toml.io for the syntax");
    }
    if !reader.faults.is_empty() {
        // What the parser made of a broken file would be blamed for things nobody wrote.
        return (raw, Sections::default(), reader.faults);
    }
    let mut root = Table::new(&reader, &root, "the file");
    if let Some(mut t) = root.table(&mut reader, "node") {
        raw.id = t.integer(&mut reader, "id");
        raw.role = t.string(&mut reader, "role");
        raw.data = t.string(&mut reader, "data");
        raw.log = t.string(&mut reader, "log");
        raw.admin = t.string(&mut reader, "admin");
        t.done(&mut reader);
    }
    if let Some(mut t) = root.table(&mut reader, "cluster") {
        raw.cluster_line = Some(t.line);
        raw.name = t.string(&mut reader, "name");
        raw.key = t.string(&mut reader, "key");
        raw.times = t.string(&mut reader, "times");
        raw.heartbeat_ms = t.integer(&mut reader, "heartbeat_ms");
        raw.election_min_ms = t.integer(&mut reader, "election_min_ms");
        raw.election_max_ms = t.integer(&mut reader, "election_max_ms");
        raw.durability = t.string(&mut reader, "durability");
        for mut n in t.tables(&mut reader, "node", "[[cluster.node]]") {
            let id = n.integer(&mut reader, "id");
            let role = n.string(&mut reader, "role");
            let addr = n.string(&mut reader, "addr");
            n.done(&mut reader);
            raw.nodes.push(RawNode { line: n.line, id, role, addr });
        }
        t.done(&mut reader);
    }
    if let Some(mut t) = root.table(&mut reader, "vip") {
        raw.vip_line = Some(t.line);
        raw.interface = t.string(&mut reader, "interface");
        raw.addresses = t.strings(&mut reader, "addresses");
        t.done(&mut reader);
    }
    let sections = Sections {
        sip: sip::read(&mut root, &mut reader),
        routing: routing::read(&mut root, &mut reader),
        auth: auth::read(&mut root, &mut reader),
        dispatcher: dispatcher::read(&mut root, &mut reader),
        trunk: trunk::read(&mut root, &mut reader),
        dns: dns::read(&mut root, &mut reader),
        nat: nat::read(&mut root, &mut reader),
        hep: hep::read(&mut root, &mut reader),
        accounting: accounting::read(&mut root, &mut reader),
        dialog: dialog::read(&mut root, &mut reader),
        registrar: registrar::read(&mut root, &mut reader),
        presence: presence::read(&mut root, &mut reader),
        failover: failover::read(&mut root, &mut reader),
        message_store: message_store::read(&mut root, &mut reader),
        media: rtpengine::read(&mut root, &mut reader),
    };
    root.done(&mut reader);
    (raw, sections, reader.faults)
}
