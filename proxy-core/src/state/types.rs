//! The records of the replicated SIP state.

use std::net::SocketAddr;
use std::time::Duration;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::backing::{Backing, DialogBacking};
use super::media::{EarlyMedia, MediaSession};
use super::parties::{CallFacts, EndedBy, SessionTimer};
use crate::time::WallTime;

/// Call-ID, compared byte for byte (RFC 3261 §20.8).
pub type CallId = String;

/// A Contact URI as registered, byte for byte as the client wrote it.
pub type Contact = String;

/// The transport a message came by. TLS and WebSocket come with their issue (append only).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[cbor(context_bound = "crate::wire::Room", index_only)]
pub enum Transport {
    /// RFC 3261 §18 over UDP.
    #[n(0)]
    Udp,
    /// RFC 3261 §18 over TCP.
    #[n(1)]
    Tcp,
}

impl Transport {
    /// Whether it repeats what is lost and says when it cannot: no timers A, E, G then, and D, I, J, K are zero
    /// (RFC 3261 §17).
    #[must_use]
    pub fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp => true,
        }
    }

    /// As a Via names it (§20.42).
    #[must_use]
    pub fn via_name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// As the `transport` parameter of a URI names it (§19.1.1).
    #[must_use]
    pub fn uri_name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// The transport that a `transport` parameter names; `None` for those that do not exist here.
    #[must_use]
    pub fn of_uri_name(name: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp].into_iter().find(|t| t.uri_name().eq_ignore_ascii_case(name))
    }
}

/// Where a message came from and to: the transport 4-tuple (a *flow* of RFC 5626). Of a connection that was opened
/// here, `local` is the listening address all the same: that is what names the connection, and where it comes from
/// but for the port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Flow {
    /// The transport.
    #[n(0)]
    pub transport: Transport,
    /// Our address; the one the peer sent to, and the one we send from.
    #[cbor(n(1), with = "crate::wire::addr")]
    pub local: SocketAddr,
    /// The peer's address.
    #[cbor(n(2), with = "crate::wire::addr")]
    pub remote: SocketAddr,
}

/// A registered contact (RFC 3261 §10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Binding {
    /// Contact URI, as the client wrote it.
    #[n(0)]
    pub contact: Contact,
    /// Key by which contacts are compared (§19.1.4, canonical form), so that `apply` compares strings.
    #[n(1)]
    pub contact_key: String,
    /// Flow the REGISTER came by; requests go back this way if the contact does not match its source.
    #[n(2)]
    pub flow: Flow,
    /// `true` if the source address differs from the contact: send to `flow.remote`, not to the contact.
    #[n(3)]
    pub natted: bool,
    /// Path header values, top first (RFC 3327).
    #[cbor(n(4), with = "crate::wire::list", has_nil)]
    pub path: Vec<String>,
    /// q in thousandths, 0..=1000; 1000 when absent.
    #[n(5)]
    pub q: u16,
    /// Absolute end. At or before the proposer's time: remove.
    #[n(6)]
    pub expires_at: WallTime,
    /// Call-ID of the REGISTER that wrote it.
    #[n(7)]
    pub call_id: CallId,
    /// CSeq of the REGISTER that wrote it.
    #[n(8)]
    pub cseq: u32,
    /// `+sip.instance`, if any (RFC 5626).
    #[n(9)]
    pub instance: Option<String>,
    /// `reg-id`, if any (RFC 5626).
    #[n(10)]
    pub reg_id: Option<u32>,
    /// User-Agent, for the operator.
    #[n(11)]
    pub user_agent: String,
    /// When it was written last.
    #[n(12)]
    pub updated_at: WallTime,
    /// The methods that the contact takes, one bit each ([`crate::registrar::method_names`]); all if `None`.
    #[n(13)]
    pub methods: Option<u32>,
    /// It is reached by its flow and by nothing else (RFC 5626).
    #[n(14)]
    pub outbound: bool,
    /// Name of the registration for temporary GRUUs (RFC 5627).
    #[n(15)]
    pub gruu: Option<u64>,
}

/// Key of a server transaction (RFC 3261 §17.2.3): top Via branch, sent-by; INVITE and its ACK/CANCEL share it.
/// For peers without the magic cookie the branch field holds a digest of the §17.2.3 RFC 2543 fields.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct ServerKey {
    /// Branch of the top Via of the received request.
    #[n(0)]
    pub branch: String,
    /// `host:port` of the top Via, lower case, as sent.
    #[n(1)]
    pub sent_by: String,
}

/// An INVITE between its `100` and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct PendingInvite {
    /// Transaction of the caller.
    #[n(0)]
    pub key: ServerKey,
    /// Call-ID, also the shard key.
    #[n(1)]
    pub call_id: CallId,
    /// The request as received, with `received`/`rport` stamped: the forwarded requests are made of it.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub request: Vec<u8>,
    /// Flow of the caller: responses go back this way.
    #[n(3)]
    pub flow: Flow,
    /// When it was received.
    #[n(4)]
    pub received_at: WallTime,
    /// Timer C of the call (RFC 3261 §16.6 step 11): no final answer until then ends it.
    #[n(5)]
    pub timer_c_at: WallTime,
    /// To tag of responses that the proxy makes itself (100 has none).
    #[n(6)]
    pub local_tag: String,
    /// The target set so far, in order.
    #[cbor(n(7), with = "crate::wire::list", has_nil)]
    pub branches: Vec<Branch>,
    /// Where the call stands.
    #[n(8)]
    pub state: InviteState,
    /// What is tried when all branches so far have failed, in order: fixed at admission, so that a node that takes
    /// over goes on with it.
    #[cbor(n(9), with = "crate::wire::list", has_nil)]
    pub plan: Vec<NextStep>,
    /// How many entries of `plan` have been used or passed over.
    #[n(10)]
    pub steps_used: u16,
    /// The newest round of branches (`Branch::round`); those of earlier rounds count no more.
    #[n(11)]
    pub round: u16,
    /// When the branches of this round are given up, if they have not answered. Timer C holds besides.
    #[n(12)]
    pub no_answer_at: Option<WallTime>,
    /// Who calls whom; `None` within a dialog.
    #[cbor(n(13), with = "crate::wire::opt", has_nil)]
    pub facts: Option<Box<CallFacts>>,
    /// The media proxy; its SDP is in `request` already.
    #[cbor(n(14), with = "crate::wire::opt", has_nil)]
    pub media: Option<Box<MediaSession>>,
    /// Somebody wants the proxy to end it. Its dialogs inherit that.
    #[cbor(n(15), with = "crate::wire::opt", has_nil)]
    pub ending: Option<EndedBy>,
    /// What callees have settled or changed of their media before the 2xx.
    #[cbor(n(16), with = "crate::wire::list", has_nil)]
    pub early_media: Vec<EarlyMedia>,
}

/// What is tried next in a call (serial forking): failover to another backend or address, voicemail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct NextStep {
    /// How the branches before must have ended for this step to be taken; if it does not fit, the one after it is
    /// looked at, and this one is gone.
    #[n(0)]
    pub when: When,
    /// The copies of this step, ready but for `Branch::round`, which is set when the step is taken.
    #[cbor(n(1), with = "crate::wire::list", has_nil)]
    pub branches: Vec<Branch>,
    /// How long they may ring; only timer C if `None`.
    #[n(2)]
    pub after: Option<Duration>,
}

/// How a round of branches ended, as conditions: any that fits will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct When {
    /// The best final response of the round lies in one of these ranges of status codes, ends included.
    #[cbor(n(0), with = "crate::wire::list", has_nil)]
    pub statuses: Vec<(u16, u16)>,
    /// Nobody answered in time: no-answer timer, timer C, or no reply at all (Kamailio's 408 of either timer).
    #[n(1)]
    pub timeout: bool,
    /// No reply at all, or the transport failed: the peer is not there.
    #[n(2)]
    pub unreachable: bool,
}

impl When {
    /// Whatever happened, except a 6xx (RFC 3261 §16.7 step 5).
    #[must_use]
    pub fn any() -> Self {
        Self { statuses: vec![(300, 599)], timeout: true, unreachable: true }
    }

    /// These final statuses; 408 means a timeout, too, as it does in a `failure_route` of Kamailio.
    #[must_use]
    pub fn statuses(list: &[u16]) -> Self {
        let timeout = list.contains(&408);
        Self { statuses: list.iter().map(|s| (*s, *s)).collect(), timeout, unreachable: timeout }
    }

    /// The peer is not there or cannot take calls: no reply, transport failure, 503, or another 5xx of `list`.
    #[must_use]
    pub fn backend_down(list: &[u16]) -> Self {
        let statuses = std::iter::once(503).chain(list.iter().copied()).map(|s| (s, s)).collect();
        Self { statuses, timeout: false, unreachable: true }
    }
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words: Vec<String> = Vec::new();
        for (from, to) in &self.statuses {
            words.push(if from == to { from.to_string() } else { format!("{from}-{to}") });
        }
        if self.timeout {
            words.push(String::from("no answer"));
        }
        if self.unreachable {
            words.push(String::from("not reachable"));
        }
        f.write_str(&words.join(", "))
    }
}

/// Where a pending INVITE stands. States only move downwards in this list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum InviteState {
    /// Forwarded, no final answer.
    #[n(0)]
    Proceeding,
    /// The caller sent CANCEL.
    #[n(1)]
    Cancelled,
    /// A 2xx was passed on.
    #[n(2)]
    Answered {
        /// The branch that answered first.
        #[n(0)]
        branch: u16,
        /// The 2xx as sent to the caller.
        #[cbor(n(1), with = "minicbor::bytes")]
        response: Vec<u8>,
        /// When to forget the entry.
        #[n(2)]
        forget_at: WallTime,
    },
    /// A non-2xx final was decided.
    #[n(3)]
    Failed {
        /// The response as sent to the caller.
        #[cbor(n(0), with = "minicbor::bytes")]
        response: Vec<u8>,
        /// When to forget the entry.
        #[n(1)]
        forget_at: WallTime,
    },
}

/// One forwarded copy of an INVITE. The bytes sent are a function of (`PendingInvite::request`, this record,
/// the configuration), so that a node that takes over sends the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Branch {
    /// Request-URI of the copy.
    #[n(0)]
    pub target: String,
    /// Route headers to put in front (Path of the binding), top first.
    #[cbor(n(1), with = "crate::wire::list", has_nil)]
    pub route: Vec<String>,
    /// Flow to send on: local (VIP) and remote address.
    #[n(2)]
    pub flow: Flow,
    /// Deterministic branch parameter of our Via.
    #[n(3)]
    pub via_branch: String,
    /// What is known of it.
    #[n(4)]
    pub state: BranchState,
    /// The backend behind it, and what that asks for.
    #[n(5)]
    pub backing: Backing,
    /// Headers to put into the copy, name and value, in order (P-Hint, Diversion).
    #[cbor(n(6), with = "crate::wire::list", has_nil)]
    pub headers: Vec<(String, String)>,
    /// The round of serial forking it belongs to; 0 is the first.
    #[n(7)]
    pub round: u16,
    /// Other flows to the same target, tried in order when this one leads nowhere (RFC 3263 §4.3, RFC 3261 §18.1.1).
    #[cbor(n(8), with = "crate::wire::list", has_nil)]
    pub next: Vec<Flow>,
    /// The copies at places that it has left, by the branch parameter of our Via: somebody may answer there after all.
    #[cbor(n(9), with = "crate::wire::list", has_nil)]
    pub left: Vec<(String, Place)>,
    /// Other flows of the same phone (RFC 5626 §7), tried in order when this one and those of `next` turn out to be dead.
    #[cbor(n(10), with = "crate::wire::list", has_nil)]
    pub others: Vec<Place>,
}

/// Where a copy goes, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct Place {
    /// Request-URI of the copy.
    #[n(0)]
    pub target: String,
    /// Route headers to put in front, top first.
    #[cbor(n(1), with = "crate::wire::list", has_nil)]
    pub route: Vec<String>,
    /// Flow to send on.
    #[n(2)]
    pub flow: Flow,
}

impl Branch {
    /// Where it goes now.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { target: self.target.clone(), route: self.route.clone(), flow: self.flow }
    }

    /// The flow that it would go on at: another address of its target, then another flow of the same phone.
    #[must_use]
    pub fn following(&self) -> Option<Flow> {
        self.next.first().copied().or_else(|| self.others.first().map(|place| place.flow))
    }

    /// Goes there as `via_branch`; what it has left is not noted. Without another flow nothing changes.
    pub fn follow(&mut self, via_branch: String) {
        if !self.next.is_empty() {
            self.flow = self.next.remove(0);
        } else if !self.others.is_empty() {
            Place { target: self.target, route: self.route, flow: self.flow } = self.others.remove(0);
        } else {
            return;
        }
        self.via_branch = via_branch;
    }
}

/// What is known of a branch. States only move downwards in this list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room", flat)]
pub enum BranchState {
    /// Sent (or about to be); no answer.
    #[n(0)]
    Trying,
    /// A provisional response came.
    #[n(1)]
    Proceeding {
        /// Its status, 101..=199.
        #[n(0)]
        status: u16,
        /// To tag, if any.
        #[n(1)]
        to_tag: Option<String>,
    },
    /// A final response came (or timer B/C/transport error, as 408/503 made here).
    #[n(2)]
    Final {
        /// 200..=699.
        #[n(0)]
        status: u16,
        /// The response without our Via, for best-response selection after a takeover; empty if made here, and once
        /// the call is decided. Of a second 2xx: the response as it went to the caller.
        #[cbor(n(1), with = "minicbor::bytes")]
        response: Vec<u8>,
    },
}

/// Identity of a dialog as a proxy sees it: caller's tag first.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct DialogId {
    /// Call-ID.
    #[n(0)]
    pub call_id: CallId,
    /// From tag of the INVITE.
    #[n(1)]
    pub from_tag: String,
    /// To tag of the 2xx.
    #[n(2)]
    pub to_tag: String,
}

/// A confirmed dialog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
pub struct DialogRecord {
    /// Identity.
    #[n(0)]
    pub id: DialogId,
    /// From URI.
    #[n(1)]
    pub from_uri: String,
    /// To URI.
    #[n(2)]
    pub to_uri: String,
    /// Request-URI of the INVITE as received.
    #[n(3)]
    pub request_uri: String,
    /// Contact of the caller.
    #[n(4)]
    pub caller_target: String,
    /// Contact of the callee.
    #[n(5)]
    pub callee_target: String,
    /// Route set towards the caller beyond this proxy, nearest first.
    #[cbor(n(6), with = "crate::wire::list", has_nil)]
    pub caller_route: Vec<String>,
    /// Route set towards the callee beyond this proxy, nearest first.
    #[cbor(n(7), with = "crate::wire::list", has_nil)]
    pub callee_route: Vec<String>,
    /// CSeq number of the INVITE, or of a later request of the caller.
    #[n(8)]
    pub caller_cseq: u32,
    /// CSeq number of a request of the callee; 0 if it has made none that had to be remembered.
    #[n(9)]
    pub callee_cseq: u32,
    /// Flow towards the caller.
    #[n(10)]
    pub caller_flow: Flow,
    /// Flow towards the callee.
    #[n(11)]
    pub callee_flow: Flow,
    /// When the INVITE came. Set in `apply`.
    #[n(12)]
    pub invited_at: WallTime,
    /// When the 2xx came.
    #[n(13)]
    pub started_at: WallTime,
    /// Longest life (Kamailio's `default_timeout`, 12 h): then the proxy ends it.
    #[n(14)]
    pub expires_at: WallTime,
    /// The backends it goes through.
    #[n(15)]
    pub backing: DialogBacking,
    /// Who called whom. Set in `apply`, from the INVITE.
    #[cbor(n(16), with = "crate::wire::opt", has_nil)]
    pub facts: Option<Box<CallFacts>>,
    /// Its session timer, if there is one (RFC 4028).
    #[cbor(n(17), with = "crate::wire::opt", has_nil)]
    pub session: Option<SessionTimer>,
    /// Somebody wants the proxy to end it.
    #[cbor(n(18), with = "crate::wire::opt", has_nil)]
    pub ending: Option<EndedBy>,
    /// The media proxy.
    #[cbor(n(19), with = "crate::wire::opt", has_nil)]
    pub media: Option<Box<MediaSession>>,
    /// The caller has not acknowledged the 2xx: at that time the proxy ends it. `None` when it has, or if that is of no
    /// interest.
    #[n(20)]
    pub ack_until: Option<WallTime>,
}
