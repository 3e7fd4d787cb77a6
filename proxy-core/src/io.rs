//! The contract of the SIP engine with its shell: what goes in, what comes out.
//!
//! The engine is one shard (chosen by a hash of the Call-ID); the shell runs one per core. In go datagrams,
//! verdicts on proposals, and the passing of time; out come transmissions and proposals. Nothing in here
//! blocks, reads a clock or owns a socket.

use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::AuthConfig;
use crate::dns::{DnsConfig, Question};
use crate::nat::NatConfig;
use crate::routing::RoutingConfig;
use crate::state::{Flow, SipCommand};

/// Names a proposal of one engine until its verdict comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the engine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this message, now.
    Transmit {
        /// From `flow.local` to `flow.remote`.
        flow: Flow,
        /// The whole message.
        bytes: Vec<u8>,
    },
    /// Have this committed by a majority and say `handle_committed` or `handle_refused`.
    Propose {
        /// Name of the proposal.
        ticket: Ticket,
        /// What to remember.
        command: SipCommand,
    },
    /// Send this to a media proxy, from any port, and say `handle_media` with what comes back there.
    Media {
        /// Where its `ng` protocol is spoken.
        to: SocketAddr,
        /// The whole datagram.
        bytes: Vec<u8>,
    },
    /// Ask the DNS and say `handle_resolved`, also when there is no answer. Each question is asked once at a time.
    Resolve {
        /// What to ask.
        question: Question,
    },
}

/// Which transports there are, and when a request may not go by UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportConfig {
    /// TCP is listened on and used, on the same addresses and ports as UDP.
    pub tcp: bool,
    /// Requests longer than this many bytes that would go by UDP are tried by TCP first (RFC 3261 §18.1.1 says 1300);
    /// 0 never does, as Kamailio's `udp_mtu`.
    pub udp_max_bytes: usize,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self { tcp: true, udp_max_bytes: 0 }
    }
}

/// Why a proposal has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// This node is not active (any more): whoever is will see the retransmission.
    NotActive,
    /// The queue of proposals is full.
    Overloaded,
    /// Nobody knows whether it was committed (leader lost, timeout).
    Unknown,
    /// It was committed and cannot be applied: a fault of this program, and the same on every node.
    Poisoned,
    /// A node of an older version could not read it.
    Unread,
}

/// What the engine is told once. Times in RFC 3261 Table 4 terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// This engine's number and how many there are: it rebuilds only the calls of its shard.
    pub shard: u16,
    /// Number of engines.
    pub shards: u16,
    /// Addresses the proxy answers on (VIPs, or the host's own), IPv4 and IPv6; used in Via and Record-Route.
    /// The first of a family is the one used towards that family.
    pub listen: Vec<SocketAddr>,
    /// Domains it is responsible for, lower case; the listen addresses always count as local.
    pub domains: Vec<String>,
    /// Accept any domain as local for REGISTER and lookup (the embedded default without configuration).
    pub any_domain: bool,
    /// Key of deterministic branches and tags: equal on all nodes.
    pub key: [u8; 16],
    /// T1, default 500 ms.
    pub t1: Duration,
    /// T2, default 4 s.
    pub t2: Duration,
    /// T4, default 5 s.
    pub t4: Duration,
    /// Timer C, default 180 s.
    pub timer_c: Duration,
    /// Smallest expiry accepted, in seconds (423 below).
    pub min_expires_s: u32,
    /// Expiry given when none is asked, in seconds.
    pub default_expires_s: u32,
    /// Largest expiry granted, in seconds.
    pub max_expires_s: u32,
    /// Contacts per AOR.
    pub max_contacts: u16,
    /// Longest life of a dialog, default 12 h.
    pub dialog_lifetime: Duration,
    /// Session timers and limits.
    pub dialog: crate::dialog::config::DialogConfig,
    /// Records of calls.
    pub accounting: crate::accounting::AccountingConfig,
    /// Value of the Server header in responses made here.
    pub server: String,
    /// How long silence is borne.
    pub failover: crate::failover::FailoverConfig,
    /// Trunks.
    pub trunk: crate::trunk::TrunkConfig,
    /// The dispatcher.
    pub dispatch: crate::dispatch::DispatchConfig,
    /// Transports.
    pub transport: TransportConfig,
    /// Resolution of names.
    pub dns: DnsConfig,
    /// Clients behind a NAT.
    pub nat: NatConfig,
    /// Stages and routes.
    pub routing: RoutingConfig,
    /// Who has to prove who he is.
    pub auth: AuthConfig,
    /// The registrar, beyond RFC 3261.
    pub registrar: crate::registrar::RegistrarConfig,
    /// SUBSCRIBE and PUBLISH; who watches calls.
    pub presence: crate::blf::PresenceConfig,
    /// Messages for users without a phone.
    pub message_store: crate::offline::MessageStoreConfig,
    /// Media proxies.
    pub media: crate::media::MediaConfig,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            shard: 0,
            shards: 1,
            listen: Vec::new(),
            domains: Vec::new(),
            any_domain: false,
            key: [0; 16],
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(180),
            min_expires_s: 60,
            default_expires_s: 3600,
            max_expires_s: 3600,
            max_contacts: 10,
            dialog_lifetime: Duration::from_secs(12 * 3600),
            dialog: crate::dialog::config::DialogConfig::default(),
            accounting: crate::accounting::AccountingConfig::default(),
            server: String::from("Relevo"),
            failover: crate::failover::FailoverConfig::default(),
            trunk: crate::trunk::TrunkConfig::default(),
            dispatch: crate::dispatch::DispatchConfig::default(),
            transport: TransportConfig::default(),
            dns: DnsConfig::default(),
            nat: NatConfig::default(),
            routing: RoutingConfig::default(),
            auth: AuthConfig::default(),
            registrar: crate::registrar::RegistrarConfig::default(),
            presence: crate::blf::PresenceConfig::default(),
            message_store: crate::offline::MessageStoreConfig::default(),
            media: crate::media::MediaConfig::default(),
        }
    }
}

/// What happened, counted; read by `relevo status` and the tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams seen.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Dropped: not SIP, truncated, oversized, or a broken response.
    pub dropped_malformed: u64,
    /// Dropped: a response that matches no transaction.
    pub dropped_stray: u64,
    /// Requests within dialogs that nothing showed to belong to them: ACKs were dropped, others judged as requests outside.
    pub foreign: u64,
    /// Requests within dialogs that would have gone elsewhere, and were sent where their dialog goes.
    pub straightened: u64,
    /// Dropped: this node is not active.
    pub dropped_inactive: u64,
    /// Dropped or refused: a bound of the engine is reached.
    pub dropped_overload: u64,
    /// Requests dropped because their source sends too many.
    pub dropped_flood: u64,
    /// Sources banned for that.
    pub banned: u64,
    /// Requests dropped because of a scanner's User-Agent.
    pub dropped_scanner: u64,
    /// Requests answered with an error made here.
    pub rejected: u64,
    /// Calls refused because there were as many as are allowed.
    pub limited: u64,
    /// Retransmissions absorbed.
    pub retransmissions_in: u64,
    /// Retransmissions sent.
    pub retransmissions_out: u64,
    /// Calls rebuilt at takeover.
    pub rebuilt: u64,
    /// Branches given up because their backend did not answer or was found dead.
    pub abandoned: u64,
    /// Requests made here: probes, registrations at trunks, pings and the like.
    pub originated: u64,
    /// Of those, not sent because a bound was reached.
    pub originated_refused: u64,
    /// Of those, without an answer.
    pub originated_timeouts: u64,
    /// Questions to the DNS.
    pub dns_asked: u64,
    /// Of these, failed or without an answer in time.
    pub dns_failed: u64,
    /// Pings sent to keep the entries of NATs alive.
    pub nat_pings: u64,
    /// Branches answered when nobody waited for them any more: they were told BYE.
    pub late_answers: u64,
    /// Branches that went on at another address of their target.
    pub moved: u64,
    /// Flows reported as failed.
    pub transport_failures: u64,
    /// Offers that media proxies were asked to take.
    pub media_offers: u64,
    /// Answers that media proxies were asked to take.
    pub media_answers: u64,
    /// Calls that media proxies were told to forget.
    pub media_deletes: u64,
    /// Questions that a media proxy did not answer in time.
    pub media_timeouts: u64,
    /// SDP that went on as it was, or was refused, as no media proxy took it.
    pub media_failed: u64,
    /// Calls whose media go through another media proxy than before.
    pub media_moved: u64,
    /// Offers within a call that were refused, so that its media proxy was told again what was agreed on before.
    pub media_restored: u64,
    /// Refused calls that left no record: there were too many at once, or the outbox is filling.
    pub refused_unrecorded: u64,
    /// Requests refused because as much is kept for their source, or for all who have proved nothing, as may be.
    pub strangers_refused: u64,
    /// Calls, dialogs, contacts and the like, and chores, that a fault of this program was kept away from all others by
    /// leaving them out.
    pub left_out: u64,
}
