//! Media proxies: rtpengine, spoken to in its `ng` protocol.
//!
//! SDP is taken out of a message before the message goes on, and put back as the rtpengine made it. So all that comes
//! after it (branches, replicated records, retransmissions, what a node sends that takes over) has the SDP that counts.
//!
//! | message | asked | by |
//! |---|---|---|
//! | INVITE, re-INVITE, UPDATE with SDP | offer | RELAY, before anything is proposed or sent |
//! | PRACK with SDP | offer; answer if its INVITE had none (RFC 3262 §5) | the same |
//! | 18x, 2xx to one of these | answer | the response, before it reaches its branch |
//! | 18x, 2xx to an INVITE without SDP | offer | the same |
//! | ACK with SDP | answer | WITHINDLG |
//! | a failure of one of these within a call | offer and answer of what holds | the failure |
//! | BYE, CANCEL, failure, longest duration, session timer | delete | the end of the call, as it is replicated |
//!
//! What waits for an rtpengine is put aside; when it comes again meanwhile it is absorbed.
//!
//! | file | what |
//! |---|---|
//! | `bencode` | how the protocol writes things down |
//! | `ng` | its questions and answers |
//! | `flags` | what an rtpengine is told about a side |
//! | `config` | which there are, and for which calls |
//! | `sdp`, `multipart` | the SDP of a message, also as one part of several |
//! | `choice` | which one gets a call |
//! | `ask` | questions under way: retransmission, who does not answer, pings |
//! | `park` | messages that wait |
//! | `offer` | requests |
//! | `answer` | responses |
//! | `end` | calls that are over |
//! | `restore` | offers within a call that come to nothing |

mod answer;
mod ask;
pub mod bencode;
mod choice;
mod config;
mod end;
pub mod flags;
mod multipart;
pub mod ng;
mod offer;
mod park;
mod restore;
mod sdp;

pub use ask::{DEAD_PING, MAX_QUESTIONS};
pub use choice::Health;
pub use config::{DEFAULT_FLAGS, MAX_NODES, MediaConfig, Node, OnFailure, RouteMedia, Usage};
pub use park::MAX_WAITING;

pub(crate) use park::Treated;
pub(crate) use restore::agreed_by;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::engine::Engine;
use crate::state::DialogId;
use ask::Questions;
use choice::Fares;
use park::Waiting;

/// What an engine remembers of media proxies while it is active.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    fares: Fares,
    questions: Questions,
    waiting: Waiting,
    /// Exchanges without a final response that have brought an offer, and their Call-IDs.
    offering: BTreeMap<u64, String>,
    /// Dialogs whose end is told, until they are gone: not more than there are. They do not keep a session alive.
    ended: BTreeSet<DialogId>,
    /// Calls whose rtpengine has been told that they are over, until their last dialog is gone: not more than there are.
    told: BTreeSet<String>,
    /// How much of the news is read. `None`: this engine has just become active.
    seen: Option<u64>,
}

impl Memory {
    /// An exchange has brought an offer.
    pub(crate) fn offers_in(&mut self, exchange: u64, call_id: &str) {
        self.offering.insert(exchange, call_id.to_owned());
    }

    /// It has its final response, or is forgotten.
    pub(crate) fn offers_no_more(&mut self, exchange: u64) {
        self.offering.remove(&exchange);
    }

    fn offering_of(&self, call_id: &str) -> impl Iterator<Item = u64> {
        self.offering.iter().filter(move |(_, of)| *of == call_id).map(|(id, _)| *id)
    }
}

impl Engine {
    /// How each media proxy fares, as far as this engine has noticed.
    #[must_use]
    pub fn media_health(&self) -> Vec<(SocketAddr, Health)> {
        self.media.fares.iter().map(|(node, health)| (*node, *health)).collect()
    }
}
