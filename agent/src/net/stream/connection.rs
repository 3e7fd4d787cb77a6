//! One connection, whoever made it: what it reads goes to the engines, what they say is written.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proxy_core::engine::shard_of;
use proxy_core::msg::call_id_of;
use proxy_core::msg::frame::{Frame, Framer, refusal};
use proxy_core::state::Flow;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout, timeout_at};

use super::table::Inbox;
use super::{FULL_LIMIT, HOLD, Inner, MESSAGE_LIMIT, WRITE_LIMIT, count};
use crate::net::mailbox::Arrival;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Messages written with one system call.
const WRITE_BATCH: usize = 16;
/// How long a reader waits for room in the queue of an engine before it looks again.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// How long a last word may take to leave, and its reader to hear it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes of a refused sender that are read and thrown away, so that it hears why.
const FAREWELL_BYTES: usize = 256 * 1024;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By the peer, or the network.
    Closed,
    /// Silent, or in the middle of a message for too long.
    TimedOut,
    /// Takes nothing of what is written to it.
    Slow,
    /// No SIP.
    Garbage,
    /// It was told what is wrong.
    Refused,
    /// The engines had no room for too long.
    Full,
    /// Its place is somebody else's.
    GaveWay,
}

/// The place of a connection in the table: given back however it ends, and the engines hear of it.
pub(super) struct Held {
    inner: Arc<Inner>,
    flow: Flow,
    id: u64,
}

impl Held {
    pub(super) fn new(inner: &Arc<Inner>, flow: Flow, id: u64) -> Self {
        Self { inner: Arc::clone(inner), flow, id }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.table().remove(&self.flow, self.id);
        self.inner.failed(self.flow);
    }
}

/// Serves a connection that came in. One that came just before the service is kept for a moment.
pub(super) fn accepted(inner: &Arc<Inner>, stream: TcpStream, flow: Flow, inbox: Inbox) {
    let inner = Arc::clone(inner);
    inner.handle.clone().spawn(async move {
        let held = Held::new(&inner, flow, inbox.id);
        let mut turns = inner.generation.subscribe();
        let here = timeout(HOLD, turns.wait_for(|g| g % 2 == 1)).await;
        let Ok(Ok(generation)) = here.map(|g| g.map(|g| *g)) else { return };
        run(&inner, stream, flow, inbox, generation, held).await;
    });
}

/// Serves a connection until it ends.
pub(super) async fn run(
    inner: &Arc<Inner>,
    stream: TcpStream,
    flow: Flow,
    mut inbox: Inbox,
    generation: u64,
    held: Held,
) {
    // Messages are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let (mut reader, mut writer) = stream.into_split();
    let (_, empty) = tokio::sync::mpsc::channel(1);
    let messages = std::mem::replace(&mut inbox.messages, empty);
    let mut turns = inner.generation.subscribe();
    let (slow, leave) = (Arc::clone(&inbox.slow), Arc::clone(&inbox.leave));
    let end = tokio::select! {
        end = read(inner, &mut reader, flow, &inbox) => end,
        end = write(&mut writer, messages, &inbox) => end,
        () = slow.notified() => End::Slow,
        () = leave.notified() => End::GaveWay,
        _ = turns.wait_for(|g| *g != generation) => End::Closed,
    };
    match end {
        End::TimedOut => count(&inner.counts.timed_out),
        End::Slow => count(&inner.counts.slow),
        End::Garbage => count(&inner.counts.garbage),
        End::GaveWay => count(&inner.counts.gave_way),
        End::Refused => {
            count(&inner.counts.garbage);
            let _ = timeout(FAREWELL, farewell(&mut reader, &mut writer)).await;
        }
        End::Closed | End::Full => {}
    }
    tracing::debug!("connection with {}: {end:?}", flow.remote);
    drop(held);
}

/// Closes our side and reads what is still coming: a reset would take back the answer.
async fn farewell(reader: &mut OwnedReadHalf, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    writer.shutdown().await?;
    let mut rest = [0; 4096];
    let mut read = 0;
    while read < FAREWELL_BYTES {
        match reader.read(&mut rest).await? {
            0 => break,
            n => read += n,
        }
    }
    Ok(())
}

async fn read(inner: &Inner, reader: &mut OwnedReadHalf, flow: Flow, inbox: &Inbox) -> End {
    let mut framer = Framer::new();
    let mut buffer = vec![0; READ_BYTES];
    // Until the first message, as within one, the peer has little time.
    let mut due = Some(Instant::now() + MESSAGE_LIMIT);
    loop {
        let until = due.unwrap_or_else(|| Instant::now() + inner.limits.idle);
        let bytes = match timeout_at(until, reader.read(&mut buffer)).await {
            Err(_) => return End::TimedOut,
            Ok(Err(_) | Ok(0)) => return End::Closed,
            Ok(Ok(n)) => buffer.get(..n).unwrap_or_default(),
        };
        framer.push(bytes);
        let mut heard = false;
        while let Some(frame) = framer.next() {
            match frame {
                Frame::Message(message) => {
                    heard = true;
                    inbox.spoke.store(true, Ordering::Relaxed);
                    count(&inner.counts.messages);
                    if !deliver(inner, flow, message).await {
                        return End::Full;
                    }
                }
                // Keepalives keep a flow alive that has been used (RFC 5626 §4.4): who has never sent a message has none.
                Frame::Ping => {
                    heard |= inbox.spoke.load(Ordering::Relaxed);
                    count(&inner.counts.pings);
                    inbox.say(b"\r\n".to_vec());
                }
                Frame::Garbage => return End::Garbage,
                Frame::Refused { head, status, reason } => {
                    return refuse(flow, inbox, &head, status, reason).await;
                }
            }
        }
        due = match (framer.is_within_message(), due) {
            (true, Some(at)) if !heard => Some(at),
            (true, _) => Some(Instant::now() + MESSAGE_LIMIT),
            // A lone line end is no message.
            (false, Some(at)) if !heard => Some(at),
            (false, _) => None,
        };
    }
}

/// Says what is wrong, and waits until that has left.
async fn refuse(flow: Flow, inbox: &Inbox, head: &[u8], status: u16, reason: &str) -> End {
    let mut hasher = DefaultHasher::new();
    head.hash(&mut hasher);
    let tag = format!("rlv{:016x}", hasher.finish());
    let Some(response) = refusal(head, flow.remote, status, reason, &tag) else { return End::Garbage };
    inbox.say(response);
    let left = async {
        while inbox.queued.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(FULL_PAUSE).await;
        }
    };
    let _ = timeout(FAREWELL, left).await;
    End::Refused
}

/// Hands a message to its engine; a full engine holds the stream up, as nobody repeats what came by it.
async fn deliver(inner: &Inner, flow: Flow, message: Vec<u8>) -> bool {
    let shards = u16::try_from(inner.engines.len()).unwrap_or(u16::MAX).max(1);
    let shard = call_id_of(&message).map_or(0, |call_id| usize::from(shard_of(call_id, shards)));
    let Some(mailbox) = inner.engines.get(shard) else { return false };
    let mut arrival = Arrival::Message(flow, message);
    let until = Instant::now() + FULL_LIMIT;
    loop {
        match mailbox.offer(arrival) {
            None => return true,
            Some(back) => arrival = back,
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(FULL_PAUSE).await;
    }
}

async fn write(writer: &mut OwnedWriteHalf, mut messages: Receiver<Vec<u8>>, inbox: &Inbox) -> End {
    let mut batch = Vec::with_capacity(WRITE_BATCH);
    loop {
        if messages.recv_many(&mut batch, WRITE_BATCH).await == 0 {
            return End::Closed;
        }
        let bytes = match batch.as_mut_slice() {
            [one] => std::mem::take(one),
            many => many.concat(),
        };
        batch.clear();
        let sent = timeout(WRITE_LIMIT, writer.write_all(&bytes)).await;
        inbox.queued.fetch_sub(bytes.len(), Ordering::Relaxed);
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Closed,
            Err(_) => return End::Slow,
        }
    }
}
