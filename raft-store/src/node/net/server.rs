//! The answering side: a listener, and one task per authenticated connection.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::complaints::Complaints;
use super::{Credentials, Heard, handshake, probe};
use crate::codec::{self, Kind};
use crate::node::client::Lane;
use crate::node::inbound::{Inbound, Rpc};
use crate::node::patience;
use crate::node::types::Place;
use crate::wire::FIRST_VERSION;

/// Connections that have not yet proved who they are.
const MAX_STRANGERS: usize = 32;
/// Time they have for it.
const STRANGER_LIMIT: Duration = Duration::from_secs(1);
/// Questions of one connection answered at once.
const MAX_AT_ONCE: usize = 64;
/// Time an answer may take to be sent.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// Pause after the listener failed (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a node cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be had.
    #[error(
        "cannot listen for the other nodes on {addr}: {why}; is another relevo running, is the address this node's?"
    )]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        why: io::Error,
    },
}

/// A bound listener.
pub struct Server {
    listener: TcpListener,
    who: Credentials,
}

type Known = Arc<Mutex<HashMap<(Place, Lane), AbortHandle>>>;

impl Server {
    /// Binds `addr`; waits for a former process that still holds it, for [`patience::LIMIT`] at most.
    pub async fn bind(addr: SocketAddr, who: Credentials) -> Result<Self, ServerError> {
        let fail = |why| ServerError::Bind { addr, why };
        for tried in 1..patience::TRIES {
            match TcpListener::bind(addr).await {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                    if tried == 1 {
                        patience::said(&format!("port {} of this node", addr.port()));
                    }
                    tokio::time::sleep(patience::PAUSE).await;
                }
                result => return result.map(|listener| Self { listener, who }).map_err(fail),
            }
        }
        TcpListener::bind(addr).await.map(|listener| Self { listener, who }).map_err(fail)
    }

    /// Where it listens.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers for `inbound` until it is dropped.
    pub async fn run<I: Inbound>(self, inbound: Arc<I>) {
        let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
        let known = Known::default();
        let who = Arc::new(self.who);
        let complaints = Arc::new(Mutex::new(Complaints::default()));
        loop {
            let (stream, from) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::warn!(error = %e, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = strangers.clone().try_acquire_owned() else {
                // Closed at once: whoever is a node tries again.
                continue;
            };
            let (who, known, inbound) = (who.clone(), known.clone(), inbound.clone());
            let complaints = complaints.clone();
            tokio::spawn(async move {
                let met = timeout(STRANGER_LIMIT, meet(stream, &who)).await;
                drop(permit);
                let is_news = |why: &str| {
                    let mut complaints = complaints.lock().unwrap_or_else(PoisonError::into_inner);
                    complaints.is_news(from.ip(), why, Instant::now())
                };
                match met {
                    Ok(Ok((place, lane, mut stream, seals))) => {
                        let task = match lane {
                            // Ends when the other end hangs up; nothing is to be said of it.
                            Lane::Probe => tokio::spawn(async move {
                                drop(probe::answer(&mut stream, seals).await);
                            }),
                            Lane::Control | Lane::Bulk => {
                                let heard = who.heard.clone();
                                tokio::spawn(serve(stream, seals, place, lane, inbound, heard))
                            }
                        };
                        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                        // A node has one connection of a kind: an older one is half dead at best.
                        if let Some(old) = known.insert((place, lane), task.abort_handle()) {
                            old.abort();
                        }
                    }
                    Ok(Err(e)) => {
                        let why = e.to_string();
                        match e.kind() {
                            io::ErrorKind::PermissionDenied if is_news(&why) => {
                                tracing::warn!(%from, why, "a connection was refused");
                            }
                            io::ErrorKind::PermissionDenied => {}
                            // Its patience was over, or it is ended: nothing that this node could cure.
                            _ => tracing::debug!(%from, why, "a connection ended before it was accepted"),
                        }
                    }
                    Err(_) if is_news("silence") => {
                        tracing::warn!(%from, "a connection was refused: it said nothing")
                    }
                    Err(_) => {}
                }
            });
        }
    }
}

async fn meet(
    mut stream: TcpStream,
    who: &Credentials,
) -> io::Result<(Place, Lane, TcpStream, handshake::Seals)> {
    stream.set_nodelay(true)?;
    let (place, lane, seals) = handshake::accept(&mut stream, who).await?;
    Ok((place, lane, stream, seals))
}

async fn serve<I: Inbound>(
    stream: TcpStream,
    seals: handshake::Seals,
    from: Place,
    lane: Lane,
    inbound: Arc<I>,
    heard: Heard,
) {
    let (mut read, mut write) = stream.into_split();
    let handshake::Seals { mut outgoing, mut incoming } = seals;
    let (asked_tx, mut asked) = mpsc::channel(MAX_AT_ONCE);
    let reading = async move {
        loop {
            let frame = incoming.receive(&mut read).await?;
            let (number, body) = frame.split_first_chunk::<8>().ok_or(io::ErrorKind::InvalidData)?;
            let (to, body) = body.split_first_chunk::<8>().ok_or(io::ErrorKind::InvalidData)?;
            let rpc: Rpc = codec::decode(Kind::Rpc, body)?;
            if asked_tx.send((*number, u64::from_le_bytes(*to), rpc)).await.is_err() {
                return Ok::<(), io::Error>(());
            }
        }
    };
    let answering = async move {
        let mut answers = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some((number, reply)) = answers.next() => {
                    let number: [u8; 8] = number;
                    let mut body = number.to_vec();
                    body.extend_from_slice(&codec::encode(Kind::Rpc, &reply)?);
                    let mut out = Vec::with_capacity(body.len() + 32);
                    outgoing.write(&body, &mut out)?;
                    timeout(SEND_LIMIT, write.write_all(&out)).await.map_err(io::Error::from)??;
                }
                ask = asked.recv(), if answers.len() < MAX_AT_ONCE => match ask {
                    Some((number, to, rpc)) => {
                        let inbound = inbound.clone();
                        let last = heard.of(from).map_or(FIRST_VERSION, |theirs| theirs.last);
                        answers.push(async move { (number, inbound.handle(from, to, lane, rpc).await.for_reader(last)) });
                    }
                    None => return Ok::<(), io::Error>(()),
                },
            }
        }
    };
    let ended = tokio::select! { r = reading => r, r = answering => r };
    if let Err(e) = ended
        && e.kind() == io::ErrorKind::InvalidData
    {
        tracing::warn!(from, error = %e, "a node said something that cannot be read");
    }
}
