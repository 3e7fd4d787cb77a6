//! The asking side: one task per peer and lane keeps a connection and has several questions under way on it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::dial::Dial;
use super::frame::Seal;
use super::path::{Path, Paths, SMALLEST_SEGMENT};
use super::probe::Prober;
use super::progress::Progress;
use super::{Credentials, Endpoint, handshake};
use crate::codec::{self, Kind};
use crate::command::Versions;
use crate::node::client::{Lane, NoAnswer, Transport};
use crate::node::inbound::{Rpc, RpcReply};
use crate::node::net::Waits;
use crate::node::types::{Member, Place, RaftId, Role, place_of, raft_id};

/// Questions that wait for a connection's task; more are refused.
const MAX_QUEUED: usize = 64;
/// Questions under way on one connection; more are refused.
const MAX_UNDER_WAY: usize = 256;
/// Pause between failed attempts to connect.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Time between two looks at a bulk connection while something is under way on it.
const LOOK: Duration = Duration::from_millis(50);
/// Time between two questions that keep a bulk connection ready.
const READY_EVERY: Duration = Duration::from_secs(3);
/// Time for such a question.
const READY_LIMIT: Duration = Duration::from_secs(1);
/// Where the last look was longer ago, nothing was under way in between.
const PAUSED_AFTER: Duration = Duration::from_millis(200);

struct Ask {
    target: RaftId,
    rpc: Rpc,
    reply: oneshot::Sender<Result<RpcReply, String>>,
    until: Instant,
}

/// The connections of a node to its peers; clones share them.
#[derive(Clone)]
pub struct TcpTransport(Arc<Inner>);

/// Where a link leads, and what takes its questions.
type Known = (SocketAddr, mpsc::Sender<Ask>);

struct Inner {
    who: Credentials,
    source: Option<IpAddr>,
    known: BTreeMap<Place, SocketAddr>,
    paths: Paths,
    links: Mutex<HashMap<(Place, Lane), Known>>,
    waits: Waits,
}

impl TcpTransport {
    /// `source` is the address that connections come from (this node's own, not a floating one); `known` the
    /// configured addresses, which count more than those in the membership; `waits` go with the cluster's times.
    #[must_use]
    pub fn new(who: Credentials, source: Option<IpAddr>, known: &[Endpoint], waits: Waits) -> Self {
        let known = known.iter().map(|e| (e.place, e.addr)).collect();
        let source = source.filter(|ip| !ip.is_unspecified());
        let (paths, links) = (Paths::default(), Mutex::default());
        Self(Arc::new(Inner { who, source, known, paths, links, waits }))
    }

    /// Measures the ways to all other nodes of the configuration, and keeps connections to them ready, for as long as the
    /// runtime lives.
    pub fn watch_paths(&self) {
        for (&place, &addr) in self.0.known.iter().filter(|(place, _)| **place != self.0.who.place) {
            let prober = Prober { dial: Arc::new(self.dial(place, addr)), paths: self.0.paths.clone() };
            tokio::spawn(prober.run());
            tokio::spawn(self.clone().keep_ready(Member { addr, role: Role::Witness }, place));
        }
    }

    /// Asks something small on the bulk lane now and then. A new leader has its first entry to send, and whoever waits for
    /// it waits for the connection, too; and one that was left idle may be dead by then without anybody knowing.
    async fn keep_ready(self, member: Member, place: Place) {
        loop {
            // Whatever the answer: there is a connection by then, or none can be made.
            drop(self.call(raft_id(0, place), member, Lane::Bulk, Rpc::Hello, READY_LIMIT).await);
            tokio::time::sleep(READY_EVERY).await;
        }
    }

    fn dial(&self, place: Place, addr: SocketAddr) -> Dial {
        Dial { who: self.0.who.clone(), source: self.0.source, place, addr, waits: self.0.waits }
    }

    fn link(&self, place: Place, lane: Lane, member: Member) -> mpsc::Sender<Ask> {
        let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        let addr = self.0.known.get(&place).copied().unwrap_or(member.addr);
        // A node that the configuration does not name may come back at another address.
        let alive = links.get(&(place, lane)).filter(|(at, link)| *at == addr && !link.is_closed());
        if let Some((_, link)) = alive {
            return link.clone();
        }
        let (tx, rx) = mpsc::channel(MAX_QUEUED);
        let link = Link { dial: self.dial(place, addr), lane, paths: self.0.paths.clone() };
        tokio::spawn(link.run(rx));
        links.insert((place, lane), (addr, tx.clone()));
        tx
    }
}

impl Transport for TcpTransport {
    fn reads(&self, place: Place) -> Option<Versions> {
        self.0.who.heard.of(place)
    }

    async fn call(
        &self,
        target: RaftId,
        member: Member,
        lane: Lane,
        rpc: Rpc,
        limit: Duration,
    ) -> Result<RpcReply, NoAnswer> {
        let no = |why: String| NoAnswer { target, why };
        let (reply, answer) = oneshot::channel();
        let ask = Ask { target, rpc, reply, until: Instant::now() + limit };
        self.link(place_of(target), lane, member)
            .try_send(ask)
            .map_err(|_| no("too many questions wait for it".into()))?;
        match timeout(limit, answer).await {
            Ok(Ok(result)) => result.map_err(no),
            Ok(Err(_)) => Err(no("the connection broke".into())),
            Err(_) => Err(no(format!("nothing came within {} ms", limit.as_millis()))),
        }
    }

    fn path(&self, place: Place) -> Path {
        self.0.paths.of(place, Instant::now())
    }
}

struct Link {
    dial: Dial,
    lane: Lane,
    paths: Paths,
}

impl Link {
    async fn run(self, mut asks: mpsc::Receiver<Ask>) {
        let (place, addr) = (self.dial.place, self.dial.addr);
        let mut last_error = String::new();
        let mut left = None;
        while let Some(first) = match left.take() {
            Some(ask) => Some(ask),
            None => asks.recv().await,
        } {
            if first.until <= Instant::now() {
                continue;
            }
            let segment = self.segment();
            let (stream, seals) = match self.dial.connect(self.lane, segment).await {
                Ok(connected) => connected,
                Err(e) => {
                    let why = e.to_string();
                    if why != last_error {
                        tracing::info!(peer = place, %addr, %why, "no connection to a node");
                        last_error.clone_from(&why);
                    }
                    // The asker may have given up already.
                    drop(first.reply.send(Err(why)));
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
            };
            last_error.clear();
            match self.talk(stream, seals, segment, first, &mut asks).await {
                Ok(unasked) => left = unasked,
                Err(e) => {
                    tracing::debug!(peer = place, lane = ?self.lane, error = %e, "a connection to a node ended");
                    if self.lane == Lane::Bulk && e.kind() == io::ErrorKind::TimedOut {
                        self.stuck(segment);
                    }
                }
            }
        }
    }

    /// What was sent on a bulk connection was not acknowledged in time.
    fn stuck(&self, segment: Option<u32>) {
        let place = self.dial.place;
        if self.paths.stuck(place, Instant::now(), self.dial.waits.heard) && segment != Some(SMALLEST_SEGMENT)
        {
            tracing::warn!(
                "node {place} answers small messages and does not acknowledge large ones: is the MTU of the way right? \
                 They go in smaller packets for now"
            );
        }
    }

    /// The segment size of a new connection. What is small goes in small segments always: sent again after a loss, the
    /// kernel may put several messages into one packet.
    fn segment(&self) -> Option<u32> {
        match self.lane {
            Lane::Control => Some(SMALLEST_SEGMENT),
            Lane::Bulk | Lane::Probe => self.paths.segment(self.dial.place, Instant::now()),
        }
    }

    /// Asks until the connection ends; what is left to ask by another one, if it ends for the size of its segments.
    async fn talk(
        &self,
        stream: TcpStream,
        seals: handshake::Seals,
        segment: Option<u32>,
        first: Ask,
        asks: &mut mpsc::Receiver<Ask>,
    ) -> io::Result<Option<Ask>> {
        let (mut read, mut write) = stream.into_split();
        let handshake::Seals { mut outgoing, mut incoming } = seals;
        let (arrived_tx, mut arrived) = mpsc::channel::<io::Result<Vec<u8>>>(MAX_QUEUED);
        // Reading a frame cannot be interrupted, so that it has a task of its own; it ends with the connection.
        let reader = tokio::spawn(async move {
            loop {
                let frame = incoming.receive(&mut read).await;
                let ended = frame.is_err();
                if arrived_tx.send(frame).await.is_err() || ended {
                    return;
                }
            }
        });
        let mut under_way = BTreeMap::new();
        let mut number = 0_u64;
        let mut watch = Watch { segment, ..Watch::new(self.dial.waits.stuck) };
        let result = async {
            self.ask(&mut write, &mut outgoing, first, &mut number, &mut under_way).await?;
            loop {
                let oldest = under_way.values().map(|w: &Waiting| w.asked).min();
                let stall = async {
                    match (self.lane, oldest) {
                        (Lane::Control, Some(at)) => tokio::time::sleep_until(at + self.dial.waits.stall).await,
                        _ => std::future::pending().await,
                    }
                };
                let look = async {
                    match (self.lane, oldest) {
                        (Lane::Bulk, Some(at)) => tokio::time::sleep_until(watch.next_look(at)).await,
                        _ => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    frame = arrived.recv() => match frame {
                        Some(frame) => {
                            answer(&frame?, &mut under_way)?;
                            if self.lane == Lane::Control {
                                self.paths.heard(self.dial.place, Instant::now());
                            }
                        }
                        None => return Err(io::ErrorKind::UnexpectedEof.into()),
                    },
                    () = stall => return Err(io::ErrorKind::TimedOut.into()),
                    () = look => self.look(write.as_ref(), &mut watch)?,
                    ask = asks.recv() => match ask {
                        // Nothing is lost by making it anew now.
                        Some(ask) if self.lane == Lane::Bulk && oldest.is_none() && segment != self.segment() => {
                            return Ok(Some(ask));
                        }
                        Some(ask) => self.ask(&mut write, &mut outgoing, ask, &mut number, &mut under_way).await?,
                        None => return Ok(None),
                    },
                }
            }
        }
        .await;
        reader.abort();
        result
    }

    /// Whether the connection makes progress.
    fn look(&self, stream: &TcpStream, watch: &mut Watch) -> io::Result<()> {
        let (place, now) = (self.dial.place, Instant::now());
        let seen = Progress::of(stream, self.dial.addr.is_ipv4())?;
        let narrower = self.segment().filter(|size| watch.segment.is_none_or(|now| *size < now));
        match watch.see(seen, now) {
            Seen::Fine if watch.repeats() => {
                // Some packets are lost: is it the large ones?
                self.paths.look(place).notify_one();
                Ok(())
            }
            Seen::Fine => Ok(()),
            Seen::Slow if narrower.is_none() => Ok(()),
            Seen::Slow => Err(io::Error::other("its packets are too large for the way")),
            Seen::Stuck => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "nothing that was sent is acknowledged"))
            }
        }
    }

    async fn ask(
        &self,
        write: &mut (impl AsyncWriteExt + Unpin),
        seal: &mut Seal,
        ask: Ask,
        number: &mut u64,
        under_way: &mut BTreeMap<u64, Waiting>,
    ) -> io::Result<()> {
        let now = Instant::now();
        under_way.retain(|_, waiting| {
            !waiting.reply.is_closed() || self.lane == Lane::Control && waiting.until > now
        });
        if ask.until <= now || under_way.len() >= MAX_UNDER_WAY {
            return Ok(());
        }
        let since = ask.rpc.since_version();
        if let Some(theirs) = self.dial.who.heard.of(self.dial.place).filter(|theirs| theirs.last < since) {
            // The asker may have given up already.
            drop(
                ask.reply.send(Err(format!(
                    "it reads format version {theirs}, and this needs {since}: upgrade it"
                ))),
            );
            return Ok(());
        }
        *number += 1;
        let mut body = number.to_le_bytes().to_vec();
        body.extend_from_slice(&ask.target.to_le_bytes());
        body.extend_from_slice(&codec::encode(Kind::Rpc, &ask.rpc)?);
        under_way.insert(*number, Waiting { reply: ask.reply, asked: now, until: ask.until });
        // A peer that reads nothing fills the socket: that, too, ends the connection.
        timeout(ask.until - now, seal.send(write, &body)).await.map_err(io::Error::from)?
    }
}

/// How a bulk connection gets on.
struct Watch {
    stuck_after: Duration,
    /// Its segment size, where that was chosen.
    segment: Option<u32>,
    looked: Option<Instant>,
    acked: u64,
    /// When the peer was seen to have acknowledged something new, and how many packets were sent again until then.
    moved: Option<(Instant, u32)>,
    /// Packets sent again, at this look and at the one before.
    repeated: [u32; 2],
}

/// What a look shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It moves.
    Fine,
    /// All is acknowledged, and no answer comes for a while.
    Slow,
    /// What was sent again and again is not acknowledged.
    Stuck,
}

impl Watch {
    fn new(stuck_after: Duration) -> Self {
        Self { stuck_after, segment: None, looked: None, acked: 0, moved: None, repeated: [0; 2] }
    }

    /// When to look at a connection whose oldest question was asked at `asked`.
    fn next_look(&self, asked: Instant) -> Instant {
        let first = asked + LOOK;
        self.looked.map_or(first, |at| first.max(at + LOOK))
    }

    fn see(&mut self, seen: Progress, now: Instant) -> Seen {
        // After a pause in which nothing was under way, time counts from now.
        let paused = self.looked.is_none_or(|at| now.saturating_duration_since(at) > PAUSED_AFTER);
        self.looked = Some(now);
        self.repeated = [seen.repeated, if paused { seen.repeated } else { self.repeated[0] }];
        let moved = self.moved.filter(|_| !paused && seen.acked == self.acked);
        let (since, repeated) = *self.moved.insert(moved.unwrap_or((now, seen.repeated)));
        self.acked = seen.acked;
        if now.saturating_duration_since(since) < self.stuck_after {
            Seen::Fine
        } else if seen.unacked == 0 {
            Seen::Slow
        } else if seen.repeated > repeated {
            Seen::Stuck
        } else {
            Seen::Fine
        }
    }

    fn repeats(&self) -> bool {
        self.repeated[0] > self.repeated[1]
    }
}

struct Waiting {
    reply: oneshot::Sender<Result<RpcReply, String>>,
    asked: Instant,
    until: Instant,
}

fn answer(frame: &[u8], under_way: &mut BTreeMap<u64, Waiting>) -> io::Result<()> {
    let (number, body) = frame.split_first_chunk::<8>().ok_or(io::ErrorKind::InvalidData)?;
    let reply = codec::decode(Kind::Rpc, body)?;
    if let Some(waiting) = under_way.remove(&u64::from_le_bytes(*number)) {
        // Too late for the asker, perhaps.
        drop(waiting.reply.send(Ok(reply)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(acked: u64, unacked: u32, repeated: u32) -> Progress {
        Progress { acked, unacked, repeated, ..Progress::default() }
    }

    fn last(looks: &[Progress]) -> Seen {
        let (mut watch, mut now) = (Watch::new(Waits::default().stuck), Instant::now());
        let mut seen = Seen::Fine;
        for look in looks {
            seen = watch.see(*look, now);
            now += LOOK;
        }
        seen
    }

    #[tokio::test]
    async fn a_connection_is_stuck_only_if_what_was_sent_again_is_not_acknowledged_either() {
        assert_eq!(
            last(&[at(1, 2, 0), at(1, 2, 0), at(1, 2, 0), at(1, 2, 0), at(1, 2, 1), at(1, 2, 1)]),
            Seen::Stuck
        );
        assert_eq!(last(&[at(1, 2, 0); 5]), Seen::Fine, "too early to say");
        assert_eq!(last(&[at(1, 2, 3); 9]), Seen::Fine, "a long way: nothing was sent again since");
        assert_eq!(last(&[at(1, 0, 0); 9]), Seen::Slow, "the peer has it, and is slow");
        let moving: Vec<_> = (0..9).map(|n| at(n, 2, u32::try_from(n).unwrap_or(0))).collect();
        assert_eq!(last(&moving), Seen::Fine, "lossy, but it moves");
    }
}
