//! Destination sets of the dispatcher: what Kamailio keeps in its table `dispatcher` and in memory, replicated.
//!
//! Flags are Kamailio's bits, so that its table can be taken over as it is. What changes by itself:
//!
//! | state | observed up | observed down | operator |
//! |---|---|---|---|
//! | A active (no bit) | A | T, or I at once with a threshold of 1 | any |
//! | T trying | A | T, I at the threshold of failures | any |
//! | I inactive | I, A at the threshold of successes | I | any |
//! | D disabled | D | D | any |
//!
//! A and T are chosen, I and D are not (`ds_skip_dst` of Kamailio).

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::pmap::PMap;
use crate::time::WallTime;

/// All sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Dispatcher {
    /// By set id; within a set highest priority first, then in the order in which they were added.
    #[cbor(n(0), with = "crate::wire::map_of_lists", has_nil)]
    pub sets: PMap<u32, Vec<Destination>>,
    /// Moves with every change of which destinations may be chosen, so that an engine sees that there was one.
    #[n(1)]
    pub revision: u64,
}

/// One destination: a row of the table `dispatcher`, and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Destination {
    /// SIP URI, as the operator wrote it.
    #[n(0)]
    pub uri: String,
    /// Kamailio's bits, see [`flag`].
    #[n(1)]
    pub flags: u32,
    /// Higher is earlier.
    #[n(2)]
    pub priority: i32,
    /// Attributes, taken apart.
    #[n(3)]
    pub attrs: Attributes,
    /// For the operator.
    #[n(4)]
    pub description: String,
    /// Failures in a row while active or trying, successes in a row while inactive (Kamailio's `message_count`).
    #[n(5)]
    pub count: u32,
    /// When its state changed last.
    #[n(6)]
    pub changed_at: WallTime,
    /// Time of the newest observation that was news: one that comes twice counts once.
    #[n(7)]
    pub seen_at: WallTime,
}

/// The column `attrs` (`weight=50;duid=abc;maxload=100`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Attributes {
    /// Share of requests, for the algorithm by weight.
    #[n(0)]
    pub weight: u32,
    /// Calls at once, 0 = no bound.
    #[n(1)]
    pub max_load: u32,
    /// Identity for the operator (`duid`).
    #[n(2)]
    pub duid: String,
    /// The column as written, also with what is not known here.
    #[n(3)]
    pub body: String,
}

/// Bits of [`Destination::flags`].
pub mod flag {
    /// Not chosen: found dead.
    pub const INACTIVE: u32 = 1;
    /// Has failed, but not often enough.
    pub const TRYING: u32 = 2;
    /// Not chosen: the operator's word.
    pub const DISABLED: u32 = 4;
    /// Probed.
    pub const PROBING: u32 = 8;
    /// Its host is not resolved when it is read in. Kept for the table; there is nothing to do about it here.
    pub const NO_DNS: u32 = 16;
    /// Never probed.
    pub const NO_PING: u32 = 32;
    /// The bits that say how it fares.
    pub const STATES: u32 = INACTIVE | TRYING | DISABLED;
}

impl Attributes {
    /// Reads the column `attrs`. What is not understood stays in [`Attributes::body`] and does nothing.
    #[must_use]
    pub fn parse(body: &str) -> Self {
        let mut this = Self { body: body.to_owned(), ..Self::default() };
        for (name, value) in body.split(';').filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim(), value.trim());
            match name {
                "weight" => this.weight = value.parse().unwrap_or(0),
                "maxload" => this.max_load = value.parse().unwrap_or(0),
                "duid" => value.clone_into(&mut this.duid),
                _ => {}
            }
        }
        this
    }
}

impl Destination {
    /// Whether it may be chosen.
    #[must_use]
    pub fn is_eligible(&self) -> bool {
        self.flags & (flag::INACTIVE | flag::DISABLED) == 0
    }

    /// Whether OPTIONS go to it. `all`: to every one that does not refuse (Kamailio's `ds_probing_mode` 1), else only
    /// to those marked for it.
    #[must_use]
    pub fn is_probed(&self, all: bool) -> bool {
        self.flags & (flag::DISABLED | flag::NO_PING) == 0 && (all || self.flags & flag::PROBING != 0)
    }

    /// The two letters of Kamailio's `dispatcher.list`: A, I, T or D, and P or X.
    #[must_use]
    pub fn letters(&self, all: bool) -> &'static str {
        let state = if self.flags & flag::DISABLED != 0 {
            3
        } else if self.flags & flag::INACTIVE != 0 {
            1
        } else if self.flags & flag::TRYING != 0 {
            2
        } else {
            0
        };
        let probed = self.flags & flag::NO_PING == 0 && (all || self.flags & flag::PROBING != 0);
        match (state, probed) {
            (0, true) => "AP",
            (0, false) => "AX",
            (1, true) => "IP",
            (1, false) => "IX",
            (2, true) => "TP",
            (2, false) => "TX",
            (_, true) => "DP",
            (_, false) => "DX",
        }
    }

    /// What an observation makes of it. Reads as Kamailio's `ds_update_state`.
    pub(super) fn observe(&mut self, up: bool, failures: u32, successes: u32) {
        if self.flags & flag::DISABLED != 0 {
            return;
        }
        let inactive = self.flags & flag::INACTIVE != 0;
        self.flags = self.flags & !flag::STATES | flag::PROBING;
        match (up, inactive) {
            (true, false) => self.count = 0,
            (true, true) => {
                self.count = self.count.saturating_add(1);
                if self.count >= successes.max(1) {
                    self.count = 0;
                } else {
                    self.flags |= flag::INACTIVE;
                }
            }
            (false, true) => {
                self.flags |= flag::INACTIVE;
                self.count = 0;
            }
            (false, false) => {
                self.count = self.count.saturating_add(1);
                if self.count >= failures.max(1) {
                    self.flags |= flag::INACTIVE;
                    self.count = 0;
                } else {
                    self.flags |= flag::TRYING;
                }
            }
        }
    }

    /// Whether an observation would change anything.
    #[must_use]
    pub fn is_news(&self, up: bool, failures: u32, successes: u32) -> bool {
        let mut after = self.clone();
        after.observe(up, failures, successes);
        (after.flags, after.count) != (self.flags, self.count)
    }
}

/// A change of the sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum DispatcherCommand {
    /// Adds a destination, or replaces the one with the same URI, whose state stays unless `flags` says otherwise.
    #[n(0)]
    Put {
        /// Into which set.
        #[n(0)]
        set: u32,
        /// What.
        #[n(1)]
        destination: Box<Destination>,
    },
    /// Removes a destination, or a whole set.
    #[n(1)]
    Remove {
        /// From which set.
        #[n(0)]
        set: u32,
        /// Which; all if `None`.
        #[n(1)]
        uri: Option<String>,
    },
    /// The operator's word on a state.
    #[n(2)]
    SetState {
        /// In which set.
        #[n(0)]
        set: u32,
        /// Which; all if `None`.
        #[n(1)]
        uri: Option<String>,
        /// The bits of [`flag::STATES`] and [`flag::PROBING`] as they are to be.
        #[n(2)]
        flags: u32,
        /// Wall time of the proposer.
        #[n(3)]
        at: WallTime,
    },
    /// A probe or a call found it up or down.
    #[n(3)]
    Observed {
        /// In which set.
        #[n(0)]
        set: u32,
        /// Which.
        #[n(1)]
        uri: String,
        /// How.
        #[n(2)]
        up: bool,
        /// Failures in a row that make it inactive.
        #[n(3)]
        failures: u32,
        /// Successes in a row that make it active.
        #[n(4)]
        successes: u32,
        /// Wall time of the proposer.
        #[n(5)]
        at: WallTime,
    },
}
