//! What the simulated proxies are set up with: their configuration, what an operator puts in, the zone of the DNS.
//!
//! | users | go to |
//! |---|---|
//! | `u…` | their phones at once |
//! | `q…` | their phones, one q after the other |
//! | `v…` | their phones, then [`MAILBOX`] |
//! | `d…` | dispatcher set 1: [`PBXS`] |
//! | `t…` | the trunk: [`CARRIER`] |
//! | `h…` | a phone whose Contact is a name with two servers |

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use proxy_core::blf::PresenceConfig;
use proxy_core::digest::ha1;
use proxy_core::dispatch::DispatchConfig;
use proxy_core::dns::{Answer, Kind, Question, Record, Srv};
use proxy_core::io::EngineConfig;
use proxy_core::media::{MediaConfig, Node, Usage};
use proxy_core::offline::MessageStoreConfig;
use proxy_core::routing::{Action, Fork, Match, Pattern, PatternError, RoutingConfig, Rule, Voicemail};
use proxy_core::state::dispatcher::{Attributes, Destination, DispatcherCommand};
use proxy_core::state::trunk::{Account, TrunkCommand};
use proxy_core::state::{SipCommand, SipState};
use proxy_core::time::WallTime;
use raft_store::node::Peer;

use super::broken::Mutation;
use super::distance::Distance;
use super::sip;

/// What all machines of a world share.
pub struct Site {
    /// Seed of the world.
    pub seed: u64,
    /// All places.
    pub places: Vec<Peer>,
    /// What is broken on purpose.
    pub mutation: Mutation,
    /// How far the nodes are from each other.
    pub distance: Distance,
}

/// The PBXs of dispatcher set 1.
pub const PBXS: [SocketAddr; 3] = [at(4, 5061), at(4, 5062), at(4, 5063)];
/// Voicemail.
pub const MAILBOX: SocketAddr = at(3, 5070);
/// The carrier of the trunk.
pub const CARRIER: SocketAddr = at(5, 5060);
/// Where the phones of calls are; each call has eight ports from [`FIRST_PORT`] on.
const PHONES: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 1, 1));
/// See [`PHONES`].
const FIRST_PORT: u16 = 10_000;
/// The rtpengines.
pub const RTPENGINES: [SocketAddr; 2] = [at(8, 2223), at(9, 2223)];
/// The trunk's name.
pub const TRUNK: &str = "carrier";
/// Call-ID of the trunk's registration.
pub const TRUNK_CALL: &str = "sim-trunk";
/// Realm and domain of the carrier.
pub const CARRIER_DOMAIN: &str = "carrier.test";

const fn at(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 1, host)), port)
}

/// Address `i` of call `n`.
#[must_use]
pub fn phone(n: u16, i: u16) -> SocketAddr {
    SocketAddr::new(PHONES, FIRST_PORT + n * 8 + i)
}

/// The name that the Contact of call `n` has.
#[must_use]
pub fn name_of(n: u16) -> String {
    format!("n{n}.phones.test")
}

/// What the DNS says: `nN.phones.test` has two servers, the addresses 1 and 2 of call N.
#[must_use]
pub fn zone(question: &Question) -> Answer {
    let ttl = Duration::from_secs(5);
    let number = |label: &str| label.strip_prefix('n').and_then(|n| n.parse::<u16>().ok());
    let labels: Vec<&str> =
        question.name.strip_suffix(".phones.test").unwrap_or_default().split('.').collect();
    let records = match (question.kind, &labels[..]) {
        (Kind::Srv, ["_sip", "_udp", name]) => number(name).map(|n| {
            let srv = |i: u16| {
                let target = format!("s{i}.{}", name_of(n));
                Record::Srv(Srv { priority: i, weight: 1, port: phone(n, i).port(), target })
            };
            vec![srv(1), srv(2)]
        }),
        (Kind::A, [_, name]) => number(name).map(|_| vec![Record::Address(PHONES)]),
        _ => None,
    };
    records.map_or(Answer::Absent { ttl }, |records| Answer::Records { records, ttl })
}

/// The floating IP's SIP address.
#[must_use]
pub fn vip() -> SocketAddr {
    SocketAddr::from(([10, 9, 0, 1], 5060))
}

fn rule(users: &str, action: Action) -> Result<Rule, PatternError> {
    Ok(Rule {
        name: users.to_owned(),
        matching: Match { users: vec![Pattern::glob(users)?], ..Match::default() },
        strip: 0,
        prefix: String::new(),
        require_auth: false,
        action,
        voicemail: None,
        ring: None,
        media: None,
    })
}

fn rules() -> Result<Vec<Rule>, PatternError> {
    let mailbox = Voicemail {
        server: format!("sip:{MAILBOX}"),
        after: Some(Duration::from_millis(1_500)),
        on: vec![486, 408],
    };
    Ok(vec![
        Rule { voicemail: Some(mailbox), ..rule("v*", Action::Location)? },
        rule("d*", Action::Dispatcher(1))?,
        rule("t*", Action::Trunk(vec![TRUNK.to_owned()]))?,
    ])
}

/// The configuration of all engines.
#[must_use]
pub fn engine_config(mutation: Mutation) -> EngineConfig {
    let mut dispatch = DispatchConfig {
        probe_interval: Duration::from_secs(2),
        probe_timeout: Duration::from_secs(1),
        failures: 2,
        patience: Duration::from_secs(1),
        ..DispatchConfig::default()
    };
    if mutation == Mutation::NoFailover {
        (dispatch.probe_interval, dispatch.patience) = (Duration::ZERO, Duration::ZERO);
    }
    EngineConfig {
        listen: vec![vip()],
        domains: vec![String::from(sip::DOMAIN)],
        key: [7; 16],
        routing: RoutingConfig {
            // Constant patterns: a test reads them.
            rules: rules().unwrap_or_default(),
            fork: Fork::ByQ,
            fork_after: Duration::from_millis(1_500),
            ..RoutingConfig::default()
        },
        dispatch,
        presence: PresenceConfig { enabled: true, min_expires_s: 1, ..PresenceConfig::default() },
        media: MediaConfig {
            nodes: RTPENGINES.map(|address| Node { address, weight: 1, set: 0 }).to_vec(),
            usage: Usage::Always,
            ..MediaConfig::default()
        },
        message_store: MessageStoreConfig { enabled: true, ..MessageStoreConfig::default() },
        ..EngineConfig::default()
    }
}

/// What an operator puts in.
#[must_use]
pub fn provisioning(now: WallTime) -> Vec<SipCommand> {
    let destination = |uri: String| {
        let destination = Box::new(Destination {
            uri,
            flags: 0,
            priority: 0,
            attrs: Attributes::parse(""),
            description: String::new(),
            count: 0,
            changed_at: now,
            seen_at: now,
        });
        SipCommand::Dispatcher(DispatcherCommand::Put { set: 1, destination })
    };
    let account = Account {
        uuid: TRUNK.to_owned(),
        remote_user: String::from("100"),
        remote_domain: CARRIER_DOMAIN.to_owned(),
        realm: CARRIER_DOMAIN.to_owned(),
        auth_user: String::from("100"),
        ha1: ha1("100", CARRIER_DOMAIN, "secret"),
        proxy: format!("sip:{CARRIER}"),
        expires_s: 600,
        contact_user: TRUNK.to_owned(),
        ..Account::default()
    };
    let call_id = TRUNK_CALL.to_owned();
    let trunk = TrunkCommand::Put { account: Box::new(account), call_id, at: now };
    let pbxs = PBXS.iter().map(|at| destination(format!("sip:{at}")));
    pbxs.chain(std::iter::once(SipCommand::Trunk(trunk))).collect()
}

/// Whether all of it is there.
#[must_use]
pub fn is_provisioned(state: &SipState) -> bool {
    state.trunk(TRUNK).is_some() && state.dispatcher().sets.get(&1).is_some_and(|set| set.len() == PBXS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_and_the_zone_can_be_read() {
        assert_eq!(rules().map(|r| r.len()).unwrap_or_default(), 3);
        let ask = |kind, name: &str| zone(&Question { kind, name: name.to_owned() });
        let srv = ask(Kind::Srv, "_sip._udp.n3.phones.test");
        assert!(matches!(srv, Answer::Records { records, .. } if records.len() == 2));
        assert!(matches!(ask(Kind::A, "s2.n3.phones.test"), Answer::Records { .. }));
        assert!(matches!(ask(Kind::Srv, "_sip._tcp.n3.phones.test"), Answer::Absent { .. }));
    }
}
