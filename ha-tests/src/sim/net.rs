//! The simulated network: letters between nodes and datagrams of phones, with delay, loss, order kept only within a
//! connection, and cuts in one direction or both.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proxy_core::dns::Question;
use raft_store::node::client::Lane;
use raft_store::node::inbound::{Rpc, RpcReply};
use raft_store::node::{Place, RaftId};

use super::base::{MS, Rng};

/// Time after which TCP has repeated what was lost at the latest, ms.
const REPEAT_MS: u64 = 300;

/// What one node says to another.
#[derive(Debug, Clone)]
pub enum Body {
    /// A question.
    Ask {
        /// Number of the question at its asker.
        call: u64,
        /// Run of the asker's process.
        run: u32,
        /// Whom it means.
        target: RaftId,
        /// Its connection.
        lane: Lane,
        /// What.
        rpc: Rpc,
    },
    /// An answer; `None`: nobody listens there.
    Answer {
        /// Number of the question.
        call: u64,
        /// Run of the asker's process.
        run: u32,
        /// Its connection.
        lane: Lane,
        /// What.
        reply: Option<RpcReply>,
        /// It answers the question for a vote, not for what a vote would be.
        vote: bool,
    },
    /// A guard: the agent of the sender, which led in `term`, is dead.
    Notice {
        /// The term.
        term: u64,
        /// Who should follow.
        heir: Place,
    },
}

/// Something from one node to another.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Sender.
    pub from: Place,
    /// Receiver.
    pub to: Place,
    /// Contents.
    pub body: Body,
}

impl Letter {
    /// For the trace: votes, transfers, snapshots and refusals as they are, appends in short.
    #[must_use]
    pub fn short(&self) -> String {
        let Letter { from, to, body } = self;
        let what = match body {
            Body::Ask { rpc: Rpc::Append(a), .. } => format!(
                "append {} prev {:?} n {} commit {:?}",
                a.vote.leader_id.term,
                a.prev_log_id.as_ref().map(|l| l.index),
                a.entries.len(),
                a.leader_commit.as_ref().map(|l| l.index)
            ),
            Body::Ask { rpc: Rpc::Vote(v), .. } => format!("vote? {}", v.vote),
            Body::Ask { rpc: Rpc::PreVote(v), .. } => format!("pre-vote? {}", v.vote),
            Body::Ask { rpc: Rpc::Snapshot { offset, last, .. }, .. } => {
                format!("snapshot at {offset} last {last}")
            }
            Body::Ask { rpc: Rpc::TransferLeader(_), .. } => "lead!".into(),
            Body::Ask { rpc: Rpc::Hello, .. } => "hello?".into(),
            Body::Ask { rpc: Rpc::Disk, .. } => "disk?".into(),
            Body::Ask { rpc: Rpc::Join { id, .. }, .. } => format!("join? {id}"),
            Body::Ask { rpc: Rpc::Propose(batch), .. } => format!("propose {batch}"),
            Body::Ask { rpc: Rpc::Time(told), .. } => format!("time? {:?}", told.time),
            Body::Ask { rpc: Rpc::Members(ask), .. } => format!("members? {ask:?}"),
            Body::Answer { reply: Some(RpcReply::Append(a)), .. } => format!("appended {a}"),
            Body::Answer { reply: Some(RpcReply::Vote(v)), .. } => {
                format!("vote {} granted {}", v.vote, v.vote_granted)
            }
            Body::Answer { reply: Some(RpcReply::Unavailable(why)), .. } => format!("unavailable: {why}"),
            Body::Answer { reply: Some(RpcReply::Time(told)), .. } => format!("time {:?}", told.time),
            Body::Answer { reply: Some(RpcReply::Join(j)), .. } => format!("joined {j:?}"),
            Body::Answer { reply: Some(_), .. } => "answer".into(),
            Body::Answer { reply: None, .. } => "refused".into(),
            Body::Notice { .. } => "notice".into(),
        };
        format!("{from}>{to} {what}")
    }
}

/// Datagrams from and to rtpengines that are lost, in percent. All four of a question that nobody answers: one in a
/// million.
const MEDIA_LOSS: u64 = 3;

/// What travels.
#[derive(Debug, Clone)]
pub enum Parcel {
    /// Between nodes.
    Letter(Letter),
    /// A phone's datagram to the floating IP.
    ToProxy {
        /// The phone.
        from: SocketAddr,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The proxy's datagram to a phone.
    ToPhone {
        /// The phone.
        to: SocketAddr,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A node's question to an rtpengine, from an address of its own.
    ToMedia {
        /// The node.
        place: Place,
        /// The rtpengine.
        to: SocketAddr,
        /// What it is asked.
        bytes: Vec<u8>,
    },
    /// What the rtpengine says to that.
    FromMedia {
        /// The node.
        place: Place,
        /// The rtpengine.
        from: SocketAddr,
        /// What it says.
        bytes: Vec<u8>,
    },
    /// An ICMP error for the floating IP: nothing listens at that address.
    Unreachable {
        /// Which.
        at: SocketAddr,
    },
    /// The DNS has an answer for a node.
    Resolved {
        /// Which node.
        place: Place,
        /// What it had asked.
        question: Question,
    },
}

/// One direction between two nodes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// Nothing arrives.
    pub cut: bool,
    /// Nothing large arrives.
    pub narrow: bool,
    /// Parts of 100 that are lost once.
    pub loss: u64,
    /// Extra delay, at most so many ms.
    pub slow_ms: u64,
}

/// Counted for the summary.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetCounts {
    /// Letters taken.
    pub letters: u64,
    /// Letters that never arrived.
    pub lost: u64,
    /// Letters that waited for the end of a cut.
    pub held: u64,
}

/// The network.
#[derive(Debug)]
pub struct Net {
    seed: u64,
    order: u64,
    on_the_way: BTreeMap<(u64, u64), Parcel>,
    links: BTreeMap<(Place, Place), Link>,
    rngs: BTreeMap<(Place, Place), Rng>,
    /// The time at which the newest letter of a connection arrives, ns.
    last: BTreeMap<(Place, Place, u8), u64>,
    held: Vec<Letter>,
    phones: Rng,
    /// Usual delay between nodes, ms.
    pub delay_ms: (u64, u64),
    /// Loss between phones and proxy, parts of 100.
    pub phone_loss: u64,
    /// Counted.
    pub counts: NetCounts,
}

fn lane(body: &Body) -> u8 {
    match body {
        Body::Ask { lane: Lane::Control, .. } => 0,
        Body::Ask { lane: Lane::Bulk, .. } => 1,
        Body::Answer { lane: Lane::Control, .. } => 2,
        Body::Answer { lane: Lane::Bulk, .. } => 3,
        Body::Notice { .. } => 4,
        Body::Ask { lane: Lane::Probe, .. } => 5,
        Body::Answer { lane: Lane::Probe, .. } => 6,
    }
}

impl Net {
    /// A network without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::of(seed, 0x6e65_7400);
        let low = rng.between(1, 3);
        Self {
            seed,
            order: 0,
            on_the_way: BTreeMap::new(),
            links: BTreeMap::new(),
            rngs: BTreeMap::new(),
            last: BTreeMap::new(),
            held: Vec::new(),
            phones: Rng::of(seed, 0x7068_6f6e),
            delay_ms: (low, low + rng.between(0, 3)),
            phone_loss: 0,
            counts: NetCounts::default(),
        }
    }

    /// The link in one direction.
    pub fn link(&mut self, from: Place, to: Place) -> &mut Link {
        self.links.entry((from, to)).or_default()
    }

    /// Whether what is said in this direction arrives, and at once.
    #[must_use]
    pub fn is_clear(&self, from: Place, to: Place) -> bool {
        self.links
            .get(&(from, to))
            .is_none_or(|link| !link.cut && !link.narrow && link.loss == 0 && link.slow_ms == 0)
    }

    /// Whether nothing that is said in this direction arrives.
    #[must_use]
    pub fn is_cut(&self, from: Place, to: Place) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.cut)
    }

    /// Whether large messages vanish anywhere.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        self.links.values().any(|link| link.narrow)
    }

    /// All links as new; what waited for the end of a cut arrives now or never.
    pub fn heal(&mut self, now: u64) {
        self.links.clear();
        self.phone_loss = 0;
        self.release(now);
    }

    /// Letters that a cut held back, and whose link is whole again, go on.
    pub fn release(&mut self, now: u64) {
        for letter in std::mem::take(&mut self.held) {
            if self.link(letter.from, letter.to).cut {
                self.held.push(letter);
            } else {
                self.send(now, letter);
            }
        }
    }

    fn put(&mut self, at: u64, parcel: Parcel) {
        self.order += 1;
        self.on_the_way.insert((at, self.order), parcel);
    }

    /// Takes a letter.
    pub fn send(&mut self, now: u64, letter: Letter) {
        let (from, to) = (letter.from, letter.to);
        let link = *self.link(from, to);
        let seed = self.seed;
        let rng = self
            .rngs
            .entry((from, to))
            .or_insert_with(|| Rng::of(seed, u64::from(from) << 16 | u64::from(to) | 1 << 40));
        self.counts.letters += 1;
        let (hold, lost) = (rng.chance(30), rng.chance(link.loss));
        let mut delay = rng.between(self.delay_ms.0, self.delay_ms.1) + rng.between(0, link.slow_ms);
        let repeat = rng.between(1, REPEAT_MS);
        let datagram = matches!(letter.body, Body::Notice { .. });
        let is_large = matches!(letter.body, Body::Ask { lane: Lane::Bulk, .. });
        if link.narrow && is_large {
            self.counts.lost += 1;
            return;
        }
        if link.cut {
            // TCP repeats what was not acknowledged, if the connection lives on until the cut ends.
            if hold && !datagram {
                self.counts.held += 1;
                self.held.push(letter);
            } else {
                self.counts.lost += 1;
            }
            return;
        }
        if lost {
            if datagram {
                self.counts.lost += 1;
                return;
            }
            delay += repeat;
        }
        // One connection keeps its order; connections do not keep any order among themselves.
        let newest = self.last.entry((from, to, lane(&letter.body))).or_default();
        let at = (now + delay * MS).max(*newest);
        *newest = at;
        self.put(at, Parcel::Letter(letter));
    }

    /// Takes a datagram from or to a phone.
    pub fn datagram(&mut self, now: u64, parcel: Parcel) {
        let (lost, twice) = (self.phones.chance(self.phone_loss), self.phones.chance(1));
        let delays = [self.phones.between(1, 3), self.phones.between(1, 20)];
        if lost {
            return;
        }
        if twice {
            self.put(now + delays[1] * MS, parcel.clone());
        }
        self.put(now + delays[0] * MS, parcel);
    }

    /// Takes a datagram from or to an rtpengine. `false`: it is lost.
    pub fn media(&mut self, now: u64, parcel: Parcel) -> bool {
        let (lost, delay) = (self.phones.chance(MEDIA_LOSS), self.phones.between(1, 3));
        if !lost {
            self.put(now + delay * MS, parcel);
        }
        !lost
    }

    /// A node asks the DNS, which does answer.
    pub fn ask(&mut self, now: u64, place: Place, question: Question) {
        let delay = self.phones.between(1, 30);
        self.put(now + delay * MS, Parcel::Resolved { place, question });
    }

    /// What arrives by now, in order.
    pub fn arrivals(&mut self, now: u64) -> Vec<Parcel> {
        let later = self.on_the_way.split_off(&(now + 1, 0));
        std::mem::replace(&mut self.on_the_way, later).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(to: Place, term: u64) -> Letter {
        Letter { from: 1, to, body: Body::Notice { term, heir: 2 } }
    }

    #[test]
    fn a_cut_stops_one_direction_only() {
        let mut net = Net::new(3);
        net.link(1, 2).cut = true;
        net.send(0, notice(2, 1));
        net.send(0, notice(3, 1));
        let arrived = net.arrivals(1000 * MS);
        assert!(matches!(&arrived[..], [Parcel::Letter(l)] if l.to == 3));
    }

    #[test]
    fn a_connection_keeps_its_order_under_any_delay() {
        let mut net = Net::new(4);
        net.link(1, 2).slow_ms = 50;
        for term in 0..50 {
            net.send(term * MS, notice(2, term));
        }
        let terms: Vec<_> = net
            .arrivals(1000 * MS)
            .into_iter()
            .filter_map(|p| match p {
                Parcel::Letter(Letter { body: Body::Notice { term, .. }, .. }) => Some(term),
                _ => None,
            })
            .collect();
        assert_eq!(terms, (0..50).collect::<Vec<_>>());
    }
}
