//! How fit a node is to hold the service. Ailments order the candidates and never empty the list: who has none comes
//! first, and who has the gravest serves all the same when nobody else can.
//!
//! | ailment | who says so | moves the service |
//! |---|---|---|
//! | drift | the node itself | no |
//! | clock, full | the node itself | no |
//! | disk, path, pulse | the node itself, or the leader of another | yes |
//! | crashes | the node itself, until it has lived for a minute | yes |
//! | resources | the node itself | yes |
//! | unhealthy | [`Command::Health`](crate::command::Command::Health) | yes |
//! | drained | [`Command::Drain`](crate::command::Command::Drain), the operator | yes |
//! | link | the node itself: the interface of the floating IP carries nothing | yes |
//!
//! *Moves the service*: a holder that has it hands over to a node that is better off. The others only count where a
//! holder has to be chosen anyway.

use std::fmt;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

/// What makes a node a worse choice than another. The number is the bit in a [`Fitness`]; a larger one is graver.
/// Append-only: bits are stored and sent. The gaps are for ailments to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Ailment {
    /// Its configuration differs from that of the others.
    Drift = 0,
    /// Its wall clock is wrong.
    Clock = 4,
    /// Its disk has little room left.
    Full = 6,
    /// Its disk is slow.
    Disk = 12,
    /// Large frames do not pass between it and the others.
    Path = 14,
    /// A thread that calls need does not go on.
    Pulse = 16,
    /// Its agent has died again and again.
    Crashes = 20,
    /// It could not bring the service up.
    Resources = 24,
    /// It says that it could not hold the service.
    Unhealthy = 26,
    /// The operator wants it to hold nothing.
    Drained = 30,
    /// The interface of the floating IP carries nothing. The gravest: nobody could reach the service there.
    Link = 31,
}

/// All of them, the lightest first.
pub const AILMENTS: [Ailment; 11] = [
    Ailment::Drift,
    Ailment::Clock,
    Ailment::Full,
    Ailment::Disk,
    Ailment::Path,
    Ailment::Pulse,
    Ailment::Crashes,
    Ailment::Resources,
    Ailment::Unhealthy,
    Ailment::Drained,
    Ailment::Link,
];

/// The bits from which on an ailment moves the service.
const GRAVE: u32 = u32::MAX << Ailment::Disk as u8;

impl fmt::Display for Ailment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drift => "drift",
            Self::Link => "link",
            Self::Clock => "clock",
            Self::Full => "full",
            Self::Disk => "disk",
            Self::Path => "path",
            Self::Pulse => "pulse",
            Self::Crashes => "crashes",
            Self::Resources => "resources",
            Self::Unhealthy => "unhealthy",
            Self::Drained => "drained",
        })
    }
}

impl Ailment {
    /// What it means, for people: to be read behind the name of a node.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Drift => "its configuration differs from that of the others",
            Self::Clock => "its wall clock is wrong",
            Self::Full => "its disk has little room left",
            Self::Disk => "its disk is slow",
            Self::Path => "large packets do not pass between it and the others",
            Self::Pulse => "a thread that calls need does not go on",
            Self::Crashes => "its agent has died again and again",
            Self::Resources => "it could not bring the service up",
            Self::Unhealthy => "it says that it could not hold the service",
            Self::Drained => "it is drained",
            Self::Link => "the interface of its floating IP has no link",
        }
    }
}

/// The ailments of one node. The less of two is the better choice: the gravest ailment decides, then the next.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Encode,
    Decode,
    CborLen,
)]
#[cbor(context_bound = "proxy_core::wire::Room", transparent)]
pub struct Fitness(#[n(0)] u32);

impl Fitness {
    /// Nothing ails it.
    pub const FIT: Self = Self(0);

    /// The same, with this ailment, too.
    #[must_use]
    pub const fn with(self, ailment: Ailment) -> Self {
        Self(self.0 | 1 << ailment as u8)
    }

    /// The same, with this ailment if `ails`, and without it otherwise.
    #[must_use]
    pub const fn set(self, ailment: Ailment, ails: bool) -> Self {
        if ails { self.with(ailment) } else { Self(self.0 & !(1 << ailment as u8)) }
    }

    /// What either has.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has this one.
    #[must_use]
    pub const fn has(self, ailment: Ailment) -> bool {
        self.0 & 1 << ailment as u8 != 0
    }

    /// Whether it has one that moves the service.
    #[must_use]
    pub const fn is_grave(self) -> bool {
        self.0 & GRAVE != 0
    }

    /// Whether a holder with `self` hands over to a node with `other`: only for what is grave, or the service would
    /// move to and fro.
    #[must_use]
    pub const fn yields_to(self, other: Self) -> bool {
        self.0 & GRAVE > other.0 & GRAVE
    }

    /// Its ailments by name, the gravest first. What a later version has put there has no name here.
    pub fn ailments(self) -> impl Iterator<Item = Ailment> {
        AILMENTS.into_iter().rev().filter(move |a| self.has(*a))
    }

    /// As it is stored and sent.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// From what was stored or sent, perhaps by a later version.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_ailment_decides_and_only_a_grave_one_moves_the_service() {
        let fit = Fitness::FIT;
        let order = [fit, fit.with(Ailment::Clock), fit.with(Ailment::Full), fit.with(Ailment::Path)];
        assert!(order.is_sorted() && order[3] < fit.with(Ailment::Drained));
        assert!(!order[2].is_grave() && order[3].is_grave());
        assert!(order[3].yields_to(order[2]) && !order[2].yields_to(fit), "a full disk stays where it is");
        assert!(!order[3].yields_to(order[3].with(Ailment::Clock)), "equals do not hand over");
    }

    #[test]
    fn an_ailment_that_is_taken_back_leaves_no_trace_and_the_list_is_complete() {
        let all = AILMENTS.into_iter().fold(Fitness::FIT, Fitness::with);
        assert_eq!(all.ailments().count(), AILMENTS.len());
        assert!(AILMENTS.is_sorted());
        assert_eq!(AILMENTS.into_iter().fold(all, |f, a| f.set(a, false)), Fitness::FIT);
        assert_eq!(
            Fitness::from_bits(all.bits() | 2).ailments().count(),
            AILMENTS.len(),
            "a later version's"
        );
    }
}
