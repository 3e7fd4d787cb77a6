//! The asking side: one task per peer and lane keeps a connection and has several questions under way on it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::frame::Seal;
use super::{Credentials, Endpoint, handshake};
use crate::codec::{self, Kind};
use crate::node::client::{Lane, NoAnswer, Transport};
use crate::node::inbound::{Rpc, RpcReply};
use crate::node::types::{Member, Place, RaftId, place_of};

/// Questions that wait for a connection's task; more are refused.
const MAX_QUEUED: usize = 64;
/// Questions under way on one connection; more are refused.
const MAX_UNDER_WAY: usize = 256;
/// Time to connect and authenticate. A SYN lost in a partition must not cost a second once it has healed.
const CONNECT_LIMIT: Duration = Duration::from_millis(200);
/// A connection on which the peer's kernel acknowledges nothing for so long is dead (TCP_USER_TIMEOUT).
const DEAD_AFTER: Duration = Duration::from_millis(500);
/// On the control lane, a question unanswered for so long ends the connection: the next one goes by a fresh one.
const CONTROL_STALL: Duration = Duration::from_millis(200);
/// Pause between failed attempts to connect.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

struct Ask {
    target: RaftId,
    rpc: Rpc,
    reply: oneshot::Sender<Result<RpcReply, String>>,
    until: Instant,
}

/// The connections of a node to its peers; clones share them.
#[derive(Clone)]
pub struct TcpTransport(Arc<Inner>);

struct Inner {
    who: Credentials,
    source: Option<IpAddr>,
    known: BTreeMap<Place, SocketAddr>,
    links: Mutex<HashMap<(Place, Lane), mpsc::Sender<Ask>>>,
}

impl TcpTransport {
    /// `source` is the address that connections come from (this node's own, not a floating one); `known` the
    /// configured addresses, which count more than those in the membership.
    #[must_use]
    pub fn new(who: Credentials, source: Option<IpAddr>, known: &[Endpoint]) -> Self {
        let known = known.iter().map(|e| (e.place, e.addr)).collect();
        let source = source.filter(|ip| !ip.is_unspecified());
        Self(Arc::new(Inner { who, source, known, links: Mutex::new(HashMap::new()) }))
    }

    fn link(&self, place: Place, lane: Lane, member: Member) -> mpsc::Sender<Ask> {
        let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = links.get(&(place, lane)).filter(|link| !link.is_closed());
        if let Some(link) = alive {
            return link.clone();
        }
        let (tx, rx) = mpsc::channel(MAX_QUEUED);
        let link = Link {
            who: self.0.who.clone(),
            source: self.0.source,
            place,
            lane,
            addr: self.0.known.get(&place).copied().unwrap_or(member.addr),
        };
        tokio::spawn(link.run(rx));
        links.insert((place, lane), tx.clone());
        tx
    }
}

impl Transport for TcpTransport {
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
}

struct Link {
    who: Credentials,
    source: Option<IpAddr>,
    place: Place,
    lane: Lane,
    addr: SocketAddr,
}

impl Link {
    async fn run(self, mut asks: mpsc::Receiver<Ask>) {
        let mut last_error = String::new();
        while let Some(first) = asks.recv().await {
            if first.until <= Instant::now() {
                continue;
            }
            let stream = match timeout(CONNECT_LIMIT, self.connect()).await {
                Ok(Ok(connected)) => connected,
                failed => {
                    let why = failed.map_or_else(
                        |_| "it does not answer".to_owned(),
                        |r| r.err().map_or_else(String::new, |e| e.to_string()),
                    );
                    if why != last_error {
                        tracing::info!(peer = self.place, addr = %self.addr, %why, "no connection to a node");
                        last_error.clone_from(&why);
                    }
                    // The asker may have given up already.
                    drop(first.reply.send(Err(why)));
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
            };
            last_error.clear();
            if let Err(e) = self.talk(stream, first, &mut asks).await {
                tracing::debug!(peer = self.place, lane = ?self.lane, error = %e, "a connection to a node ended");
            }
        }
    }

    async fn connect(&self) -> io::Result<(TcpStream, handshake::Seals)> {
        let socket = if self.addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source.filter(|s| s.is_ipv4() == self.addr.is_ipv4()) {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let mut stream = socket.connect(self.addr).await?;
        stream.set_nodelay(true)?;
        socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(DEAD_AFTER))?;
        let seals = handshake::connect(&mut stream, &self.who, self.place, self.lane).await?;
        Ok((stream, seals))
    }

    async fn talk(
        &self,
        (stream, seals): (TcpStream, handshake::Seals),
        first: Ask,
        asks: &mut mpsc::Receiver<Ask>,
    ) -> io::Result<()> {
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
        let result = async {
            self.ask(&mut write, &mut outgoing, first, &mut number, &mut under_way).await?;
            loop {
                let oldest = under_way.values().map(|w: &Waiting| w.asked).min();
                let stall = async {
                    match (self.lane, oldest) {
                        (Lane::Control, Some(at)) => tokio::time::sleep_until(at + CONTROL_STALL).await,
                        _ => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    frame = arrived.recv() => match frame {
                        Some(frame) => answer(&frame?, &mut under_way)?,
                        None => return Err(io::ErrorKind::UnexpectedEof.into()),
                    },
                    () = stall => return Err(io::ErrorKind::TimedOut.into()),
                    ask = asks.recv() => match ask {
                        Some(ask) => self.ask(&mut write, &mut outgoing, ask, &mut number, &mut under_way).await?,
                        None => return Ok(()),
                    },
                }
            }
        }
        .await;
        reader.abort();
        result
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
        *number += 1;
        let mut body = number.to_le_bytes().to_vec();
        body.extend_from_slice(&ask.target.to_le_bytes());
        body.extend_from_slice(&codec::encode(Kind::Rpc, &ask.rpc)?);
        under_way.insert(*number, Waiting { reply: ask.reply, asked: now, until: ask.until });
        // A peer that reads nothing fills the socket: that, too, ends the connection.
        timeout(ask.until - now, seal.send(write, &body)).await.map_err(io::Error::from)?
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
