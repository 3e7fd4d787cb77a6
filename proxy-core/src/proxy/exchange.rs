//! A request that is neither INVITE nor ACK, in this engine.

use std::collections::VecDeque;

use crate::msg::Message;
use crate::state::{Backend, Branch, Flow, MediaSession, NextStep, ServerKey};
use crate::time::MonoTime;
use crate::transaction::{Nict, Nist, SharedBytes};

use super::call::Final;

/// Server transactions of requests other than INVITE are told apart by method, too (RFC 3261 §17.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ExchangeKey {
    pub(crate) key: ServerKey,
    pub(crate) method: String,
}

impl ExchangeKey {
    pub(crate) fn new(key: ServerKey, request: &Message<'_>) -> Self {
        let method = request.method().map_or_else(String::new, |m| m.as_str().to_owned());
        Self { key, method }
    }
}

/// One copy of the request.
#[derive(Debug)]
pub(crate) struct PlainBranch {
    /// What the copy was made of.
    pub(crate) record: Branch,
    pub(crate) nict: Nict,
    pub(crate) outcome: Option<Final>,
    /// The copy that answers a challenge, until it may be sent.
    pub(crate) next: Option<Box<Branch>>,
    /// Challenges answered so far.
    pub(crate) challenges: u32,
    /// When its server is given up, if it has said nothing by then.
    pub(crate) silent_at: Option<MonoTime>,
}

impl PlainBranch {
    /// Whether it goes to a trunk, which may ask for credentials.
    pub(crate) fn is_to_trunk(&self) -> bool {
        matches!(self.record.backing.backend, Some(Backend::Trunk { .. }))
    }
}

/// One request with its copies.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) key: ExchangeKey,
    /// CSeq number that the request came with.
    pub(crate) cseq: u32,
    pub(crate) flow: Flow,
    /// As received, with `received` and `rport`; gone once the final response is.
    pub(crate) request: Option<SharedBytes>,
    pub(crate) local_tag: String,
    pub(crate) nist: Nist,
    pub(crate) branches: Vec<PlainBranch>,
    /// What is tried when all copies of this round have failed, in order. Nothing of it is replicated: after a takeover
    /// the client's retransmission is a new request.
    pub(crate) plan: VecDeque<NextStep>,
    /// Where the copies of the newest round begin.
    pub(crate) round_from: usize,
    /// The final response that waits for the verdict on a proposal.
    pub(crate) held: Option<(u16, SharedBytes)>,
    /// A verdict decides what is answered.
    pub(crate) waits: bool,
    /// The media proxy; its SDP is in `request` already.
    pub(crate) media: Option<Box<MediaSession>>,
    /// When it is forgotten, whatever it waits for.
    pub(crate) hard_end: MonoTime,
    /// Bytes it holds, as counted at admission.
    pub(crate) cost: usize,
}

impl Exchange {
    /// The final responses among which that for the client is chosen: of the last round, or of all rounds if nobody
    /// said anything in the last.
    pub(crate) fn finals(&self) -> Vec<&Final> {
        let last = self.branches.get(self.round_from..).unwrap_or_default();
        let heard = last.iter().any(|b| b.outcome.as_ref().is_some_and(|f| !f.response.is_empty()));
        let counted = if heard { last } else { &self.branches };
        counted.iter().filter_map(|b| b.outcome.as_ref()).collect()
    }

    pub(crate) fn is_over(&self, now: MonoTime) -> bool {
        if now >= self.hard_end {
            return true;
        }
        // A copy that is sent again once that is safe is not done, also where its transaction ended with the challenge.
        let branches_done = self.branches.iter().all(|b| b.nict.is_terminated() && b.next.is_none());
        self.nist.is_terminated()
            || (self.nist.is_open() && !self.waits && self.held.is_none() && branches_done)
    }

    pub(crate) fn next_timeout(&self) -> MonoTime {
        let mut at = self.nist.next_timeout().unwrap_or(self.hard_end).min(self.hard_end);
        for branch in &self.branches {
            for t in [branch.nict.next_timeout(), branch.patience_ends()].into_iter().flatten() {
                at = at.min(t);
            }
        }
        at
    }
}
