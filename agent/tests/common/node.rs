//! A whole node but for Raft and disk, with TCP and names.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;

use agent::admin::{Reply, Request, client, server};
use agent::config::Config;
use agent::net::sip;
use agent::run::service::{self, Opened, Service};
use agent::run::setup;
use serde_json::Value;

use super::memory::{Memory, clock};
use super::{PATIENCE, free_port, until};

/// A running node.
pub struct Running {
    _dir: tempfile::TempDir,
    _service: Service,
    admin: PathBuf,
    pub proxy: SocketAddr,
}

pub fn start_with(ip: &str, change: impl FnOnce(&mut Config)) -> Running {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut config = Config::embedded(&dir.path().join("data"));
    let ip: IpAddr = ip.parse().expect("address");
    config.sip.listen = vec![ip];
    config.sip.port = free_port();
    config.sip.engines = 2;
    change(&mut config);
    let addresses = setup::listen_addresses(&config).expect("addresses");
    let listening = sip::listen(&addresses, false).expect("listen").with_dns(config.dns.servers.clone());
    let opened = Opened {
        admin: server::bind(&config.admin).expect("admin"),
        listening: Some(listening.with_streams(config.sip.streams).expect("listen")),
        address: None,
        ears: None,
        pet: None,
        deaths: 0,
        marks: None,
        suspects: agent::guard::suspects::Suspects::default(),
        on_control_thread: None,
    };
    let engine = setup::engine_config(&config, &[1; 32]);
    let service = service::start(&config, &engine, Memory::new(), opened, clock).expect("start");
    let running = Running { _dir: dir, _service: service, admin: config.admin, proxy: addresses[0] };
    until("the node is active", || (running.status()["active"] == true).then_some(()));
    running
}

pub fn start(ip: &str) -> Running {
    start_with(ip, |_| {})
}

impl Running {
    pub fn status(&self) -> Value {
        match client::ask(&self.admin, &Request::Status {}).expect("an answer") {
            Reply::Ok { ok } => ok,
            Reply::Error { error, cure } => panic!("{error}; {cure}"),
        }
    }

    pub fn tcp(&self, counter: &str) -> u64 {
        self.status()["counters"]["tcp"][counter].as_u64().expect("a counter")
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.proxy).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }
}
