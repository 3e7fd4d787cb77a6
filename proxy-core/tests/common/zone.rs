//! A zone in a table, and names resolved in it as the engine does.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use proxy_core::dns::{
    Answer, Cache, Destination, DnsConfig, Kind, Located, Naptr, Question, Reach, Record, Srv, Wanted, locate,
};
use proxy_core::state::Transport;
use proxy_core::time::MonoTime;

/// IPv4, UDP and TCP.
pub const REACH: Reach = Reach { ipv4: true, ipv6: false, tcp: true };

#[derive(Default)]
pub struct Zone {
    pub records: BTreeMap<Question, Vec<Record>>,
    pub broken: Vec<Question>,
    pub config: DnsConfig,
    /// What was asked, round by round.
    pub rounds: Vec<Vec<Question>>,
}

pub fn question(kind: Kind, name: &str) -> Question {
    Question { kind, name: name.to_owned() }
}

impl Zone {
    pub fn add(mut self, kind: Kind, name: &str, record: Record) -> Self {
        self.records.entry(question(kind, name)).or_default().push(record);
        self
    }

    pub fn a(self, name: &str, ip: &str) -> Self {
        let ip: IpAddr = ip.parse().expect("an address");
        self.add(if ip.is_ipv4() { Kind::A } else { Kind::Aaaa }, name, Record::Address(ip))
    }

    pub fn srv(self, name: &str, priority: u16, weight: u16, port: u16, target: &str) -> Self {
        self.add(Kind::Srv, name, Record::Srv(Srv { priority, weight, port, target: target.into() }))
    }

    pub fn naptr(self, name: &str, order: u16, service: &str, replacement: &str) -> Self {
        let rule = Naptr {
            order,
            preference: 10,
            flags: "s".into(),
            service: service.into(),
            replacement: replacement.into(),
        };
        self.add(Kind::Naptr, name, Record::Naptr(rule))
    }

    /// Asks until it is clear, as the engine does.
    pub fn find(&mut self, wanted: Wanted<'_>, reach: Reach, seed: u64) -> Located {
        let (now, mut cache) = (MonoTime(1_000_000_000), Cache::new());
        self.rounds.clear();
        loop {
            match locate(&cache, now, &self.config, wanted, reach, seed) {
                Located::Ask(open) => {
                    assert!(self.rounds.len() < 6, "it never ends: {:?}", self.rounds);
                    for question in &open {
                        let answer = match self.records.get(question) {
                            _ if self.broken.contains(question) => Answer::Failed,
                            Some(list) => {
                                Answer::Records { records: list.clone(), ttl: Duration::from_secs(60) }
                            }
                            None => Answer::Absent { ttl: Duration::from_secs(60) },
                        };
                        cache.insert(now, &self.config, question.clone(), answer);
                    }
                    self.rounds.push(open);
                }
                done => return done,
            }
        }
    }

    pub fn list(&mut self, host: &str, port: Option<u16>, transport: Option<Transport>) -> Vec<String> {
        match self.find(Wanted { host, port, transport }, REACH, 1) {
            Located::Found(list) => list.iter().map(text).collect(),
            other => panic!("{other:?}"),
        }
    }
}

pub fn text(d: &Destination) -> String {
    format!("{}:{}", d.transport.uri_name(), d.address)
}
