//! The stories that the sweep tells again and again, a node lost at another place each time.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::phones::*;
use crate::common::story::addr;
use proxy_core::dispatch::{Algorithm, DispatchConfig};
use proxy_core::dns::{Kind, Question, Record, Srv};
use proxy_core::routing::{Fork, RoutingConfig, Voicemail};
use proxy_core::state::dispatcher::{Attributes, Destination, DispatcherCommand};
use proxy_core::state::{SipCommand, SipState};
use proxy_core::time::WallTime;

pub const ALICE: &str = "10.77.0.201:5061";
pub const PLACES: [&str; 3] = ["10.77.0.202:5062", "10.77.0.202:5063", "10.77.0.202:5064"];
/// Servers, each on a machine of its own.
pub const SERVERS: [&str; 3] = ["10.77.0.211:5060", "10.77.0.212:5060", "10.77.0.213:5060"];
pub const BOB_URI: &str = "sip:bob@lab.test";

/// How the callees are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Three phones of one user, called at once.
    AtOnce,
    /// Three phones of one user, called one after the other, two seconds each.
    ByQ,
    /// Two phones of one user, called at once; after four seconds, or when they are busy, the third party: voicemail.
    Mailbox,
    /// Three backends of a dispatcher set, the first one first.
    Backends,
    /// Three servers of one name, where the user has registered.
    Addresses,
    /// One contact whose name stands for three servers, one before the other: its branch moves (RFC 3263 §4.3).
    Named,
}

impl Setup {
    pub fn contacts(self) -> [Option<&'static str>; 3] {
        match self {
            Self::AtOnce => [Some(""); 3],
            Self::ByQ => [Some(";q=1.0"), Some(";q=0.6"), Some(";q=0.3")],
            Self::Mailbox => [Some(""), Some(""), None],
            Self::Backends => [None; 3],
            Self::Addresses => [Some("<sip:bob@servers.test>"), None, None],
            Self::Named => [Some("<sip:bob@phone.test>"), None, None],
        }
    }

    pub fn places(self) -> [&'static str; 3] {
        if matches!(self, Self::Backends | Self::Addresses) { SERVERS } else { PLACES }
    }

    /// What the cluster knows beforehand.
    pub fn state(self) -> SipState {
        let mut state = SipState::default();
        let backends = SERVERS.iter().rev().filter(|_| self == Self::Backends);
        for (priority, at) in (0..).zip(backends) {
            let destination = Box::new(Destination {
                uri: format!("sip:{at}"),
                flags: 0,
                priority,
                attrs: Attributes::parse(""),
                description: String::new(),
                count: 0,
                changed_at: WallTime(0),
                seen_at: WallTime(0),
            });
            state.apply(&SipCommand::Dispatcher(DispatcherCommand::Put { set: 1, destination }));
        }
        state
    }

    pub fn dispatch(self) -> DispatchConfig {
        DispatchConfig {
            default_set: (self == Self::Backends).then_some(1),
            algorithm: Algorithm::Priority,
            probe_interval: Duration::ZERO,
            ..DispatchConfig::default()
        }
    }

    pub fn routing(self) -> RoutingConfig {
        match self {
            Self::AtOnce | Self::Named | Self::Backends | Self::Addresses => RoutingConfig::default(),
            Self::ByQ => RoutingConfig {
                fork: Fork::ByQ,
                fork_after: Duration::from_secs(2),
                ..RoutingConfig::default()
            },
            Self::Mailbox => RoutingConfig {
                voicemail: Some(Voicemail {
                    server: format!("sip:{}", PLACES[2]),
                    after: Some(Duration::from_secs(4)),
                    on: vec![486, 408],
                }),
                ..RoutingConfig::default()
            },
        }
    }
}

/// The servers of `phone.test`, and their addresses.
pub fn zone() -> Vec<(Question, Vec<Record>)> {
    named("phone.test", PLACES).into_iter().chain(named("servers.test", SERVERS)).collect()
}

pub fn named(name: &str, places: [&str; 3]) -> Vec<(Question, Vec<Record>)> {
    let host = |n: usize| format!("server{n}.{name}");
    let places: Vec<SocketAddr> = places.iter().map(|p| addr(p)).collect();
    let servers = (1..).zip(&places).map(|(n, at)| {
        let target = host(n);
        Record::Srv(Srv { priority: u16::try_from(n).expect("few"), weight: 1, port: at.port(), target })
    });
    let all = Question { kind: Kind::Srv, name: format!("_sip._udp.{name}") };
    let addresses = (1..)
        .zip(&places)
        .map(|(n, at)| (Question { kind: Kind::A, name: host(n) }, vec![Record::Address(at.ip())]));
    std::iter::once((all, servers.collect())).chain(addresses).collect()
}

/// A story: what the caller does, what the callees do, and the status that the caller must see.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    pub setup: Setup,
    pub plan: Plan,
    pub manners: [Manner; 3],
    pub timer_c_s: u64,
    pub wants: u16,
}

pub const STORIES: [Story; 34] = [
    // One of three answers.
    Story {
        setup: Setup::AtOnce,
        plan: Plan::HangUpAfter(1000),
        manners: [Manner::Rings, Manner::Answers(300), Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // It takes until after the takeover.
    Story {
        setup: Setup::AtOnce,
        plan: Plan::HangUpAfter(1000),
        manners: [Manner::Refuses(100, 486), Manner::Answers(3000), Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // The caller hangs up.
    Story {
        setup: Setup::AtOnce,
        plan: Plan::CancelAt(200),
        manners: [Manner::Rings, Manner::Rings, Manner::Refuses(50, 486)],
        timer_c_s: 60,
        wants: 487,
    },
    // Nobody answers.
    Story {
        setup: Setup::AtOnce,
        plan: Plan::HangUpAfter(0),
        manners: [Manner::Rings; 3],
        timer_c_s: 14,
        wants: 408,
    },
    // All refuse.
    Story {
        setup: Setup::AtOnce,
        plan: Plan::HangUpAfter(0),
        manners: [Manner::Refuses(100, 486), Manner::Refuses(200, 480), Manner::Refuses(90, 404)],
        timer_c_s: 60,
        wants: 486,
    },
    // One declines for all.
    Story {
        setup: Setup::AtOnce,
        plan: Plan::HangUpAfter(0),
        manners: [Manner::Rings, Manner::Refuses(100, 603), Manner::Rings],
        timer_c_s: 60,
        wants: 603,
    },
    // An answered call is changed before it ends.
    Story {
        setup: Setup::AtOnce,
        plan: Plan::ChangeAfter(200),
        manners: [Manner::Answers(50), Manner::Rings, Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // Two at once.
    Story {
        setup: Setup::AtOnce,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Answers(300), Manner::Rings, Manner::Answers(300)],
        timer_c_s: 60,
        wants: 200,
    },
    // Hung up while one answers.
    Story {
        setup: Setup::AtOnce,
        plan: Plan::CancelAt(303),
        manners: [Manner::Answers(300), Manner::Rings, Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // At once.
    Story {
        setup: Setup::AtOnce,
        plan: Plan::HangUpAfter(0),
        manners: [Manner::Answers(0), Manner::Rings, Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // Busy everywhere: voicemail takes it.
    Story {
        setup: Setup::Mailbox,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Refuses(100, 486), Manner::Refuses(200, 486), Manner::Answers(100)],
        timer_c_s: 60,
        wants: 200,
    },
    // One is busy, the other rings too long.
    Story {
        setup: Setup::Mailbox,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Refuses(100, 486), Manner::Rings, Manner::Answers(100)],
        timer_c_s: 60,
        wants: 200,
    },
    // A phone answers just when it is given up.
    Story {
        setup: Setup::Mailbox,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Answers(4004), Manner::Rings, Manner::Answers(100)],
        timer_c_s: 60,
        wants: 200,
    },
    // Hung up while voicemail is called.
    Story {
        setup: Setup::Mailbox,
        plan: Plan::CancelAt(4500),
        manners: [Manner::Rings, Manner::Rings, Manner::Rings],
        timer_c_s: 60,
        wants: 487,
    },
    // Hung up just when the phones are given up.
    Story {
        setup: Setup::Mailbox,
        plan: Plan::CancelAt(4005),
        manners: [Manner::Rings, Manner::Rings, Manner::Rings],
        timer_c_s: 60,
        wants: 487,
    },
    // A phone declines for all: no voicemail.
    Story {
        setup: Setup::Mailbox,
        plan: Plan::HangUpAfter(0),
        manners: [Manner::Rings, Manner::Refuses(100, 603), Manner::Answers(100)],
        timer_c_s: 60,
        wants: 603,
    },
    // There is no such mailbox.
    Story {
        setup: Setup::Mailbox,
        plan: Plan::HangUpAfter(0),
        manners: [Manner::Rings, Manner::Rings, Manner::Refuses(100, 404)],
        timer_c_s: 60,
        wants: 404,
    },
    // Voicemail does not answer either.
    Story {
        setup: Setup::Mailbox,
        plan: Plan::HangUpAfter(0),
        manners: [Manner::Rings, Manner::Rings, Manner::Rings],
        timer_c_s: 14,
        wants: 408,
    },
    // One after the other, and the last answers.
    Story {
        setup: Setup::ByQ,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Refuses(100, 404), Manner::Rings, Manner::Answers(200)],
        timer_c_s: 60,
        wants: 200,
    },
    // One after the other, and nobody wants to.
    Story {
        setup: Setup::ByQ,
        plan: Plan::HangUpAfter(0),
        manners: [Manner::Refuses(100, 404), Manner::Rings, Manner::Refuses(50, 480)],
        timer_c_s: 60,
        wants: 480,
    },
    // A backend is dead.
    Story {
        setup: Setup::Backends,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Silent, Manner::Answers(300), Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // It was only stopped, and rings while the next one does.
    Story {
        setup: Setup::Backends,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Wakes(3500, 100), Manner::Answers(2000), Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // The same, and it answers before it can be told to stop.
    Story {
        setup: Setup::Backends,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Wakes(3500, 0), Manner::Answers(2000), Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // All are dead.
    Story {
        setup: Setup::Backends,
        plan: Plan::HangUpAfter(0),
        manners: [Manner::Silent; 3],
        timer_c_s: 60,
        wants: 408,
    },
    // A server of a name is dead.
    Story {
        setup: Setup::Addresses,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Silent, Manner::Answers(300), Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // It was only stopped, and answers while the next one rings: it hears BYE.
    Story {
        setup: Setup::Addresses,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Wakes(3500, 0), Manner::Answers(2000), Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // It wakes up just when the call moves on.
    Story {
        setup: Setup::Addresses,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Wakes(2999, 0), Manner::Answers(2000), Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // Hung up while one rings that was given up.
    Story {
        setup: Setup::Addresses,
        plan: Plan::CancelAt(3600),
        manners: [Manner::Wakes(3500, 9000), Manner::Rings, Manner::Rings],
        timer_c_s: 60,
        wants: 487,
    },
    // Somebody answers when the caller has just been told that nobody does.
    Story {
        setup: Setup::AtOnce,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Rings, Manner::Answers(14_004), Manner::Rings],
        timer_c_s: 14,
        wants: 408,
    },
    // The first server is out of service, the next one takes it.
    Story {
        setup: Setup::Named,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Refuses(50, 503), Manner::Answers(100), Manner::Rings],
        timer_c_s: 60,
        wants: 200,
    },
    // One is not there, the next one out of service.
    Story {
        setup: Setup::Named,
        plan: Plan::HangUpAfter(500),
        manners: [Manner::Absent, Manner::Refuses(50, 503), Manner::Answers(300)],
        timer_c_s: 60,
        wants: 200,
    },
    // None of them.
    Story {
        setup: Setup::Named,
        plan: Plan::HangUpAfter(0),
        manners: [Manner::Refuses(20, 503), Manner::Absent, Manner::Refuses(20, 503)],
        timer_c_s: 60,
        wants: 500,
    },
    // Hung up just when the branch moves.
    Story {
        setup: Setup::Named,
        plan: Plan::CancelAt(54),
        manners: [Manner::Refuses(50, 503), Manner::Rings, Manner::Rings],
        timer_c_s: 60,
        wants: 487,
    },
    // Moved, and refused there.
    Story {
        setup: Setup::Named,
        plan: Plan::HangUpAfter(0),
        manners: [Manner::Absent, Manner::Refuses(100, 486), Manner::Answers(100)],
        timer_c_s: 60,
        wants: 486,
    },
];
