//! Full packets to and from each other node now and then, so that a way that drops them is known before it is needed.
//!
//! A probe has a connection of its own ([`Lane::Probe`]). Its question says how long the answer shall be; either is
//! many full packets long, or a few bytes. Where full packets do not pass, smaller segments are tried, largest first.
//!
//! | what is seen | verdict |
//! |---|---|
//! | full packets pass, hardly one is sent twice | whole |
//! | no connection, or nothing passes for a moment and then all does | none: the node is away, or was |
//! | full ones fail twice, and smaller ones pass in between | narrow: so large, not larger |
//! | connections are made, no size passes | blocked |

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::dial::Dial;
use super::frame::Seal;
use super::handshake;
use super::path::{Direction, Found, Paths, SEGMENTS};
use super::progress::Progress;
use crate::node::client::Lane;
use crate::node::types::Place;

/// Packets of a probe. One in eight may be sent twice before the way counts as one that drops them.
const PACKETS: u32 = 16;
/// Packets of a probe that may be sent twice: chance, or a busy machine.
const REPEATED: u32 = PACKETS / 8;
/// Longest message of a probe, bytes: where packets are huge (loopback), fewer of them do.
const MAX_BYTES: u32 = 128 << 10;
/// Length of the other message of a probe, bytes.
const SHORT: u32 = 16;
/// Time that a message of a probe may take. It is sent again after 200 ms, and after 400 ms more.
const LIMIT: Duration = Duration::from_millis(900);
/// Time from one look at a way to the next.
const EVERY: Duration = Duration::from_secs(10);
/// The same while it is not whole.
const EVERY_NARROW: Duration = Duration::from_secs(20);
/// Shortest time between two looks, however often a connection is stuck.
const PAUSE: Duration = Duration::from_millis(500);

/// A message of `len` bytes that no tunnel can compress.
fn filler(len: u32) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let word = std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    });
    word.flatten().take(len as usize).collect()
}

/// Answers the probes of one connection until it ends.
pub(super) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    seals: handshake::Seals,
) -> io::Result<()> {
    let handshake::Seals { mut outgoing, mut incoming } = seals;
    loop {
        let question = incoming.receive(stream).await?;
        let (wanted, _) = question.split_first_chunk::<4>().ok_or(io::ErrorKind::InvalidData)?;
        let wanted = u32::from_le_bytes(*wanted).min(MAX_BYTES);
        outgoing.send(stream, &filler(wanted)).await?;
    }
}

/// One message there, one back.
async fn ask(
    stream: &mut TcpStream,
    seals: &mut handshake::Seals,
    length: u32,
    wanted: u32,
) -> io::Result<()> {
    let mut question = wanted.to_le_bytes().to_vec();
    question.extend_from_slice(&filler(length));
    let handshake::Seals { outgoing, incoming }: &mut handshake::Seals = seals;
    let (outgoing, incoming): (&mut Seal, &mut Seal) = (outgoing, incoming);
    outgoing.send(stream, &question).await?;
    let answer = incoming.receive(stream).await?;
    if answer.len() == wanted as usize { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// What one try has shown.
struct Tried {
    /// Size of its packets, bytes.
    packet: u32,
    passes: bool,
}

/// Measures the ways between this node and one other.
pub(super) struct Prober {
    pub(super) dial: Arc<Dial>,
    pub(super) paths: Paths,
}

impl Prober {
    fn place(&self) -> Place {
        self.dial.place
    }

    /// Measures again and again.
    pub(super) async fn run(self) {
        let wake = self.paths.look(self.place());
        loop {
            self.look().await;
            sleep(PAUSE).await;
            let is_whole = self.paths.of(self.place(), Instant::now()).is_whole();
            let pause = if is_whole { EVERY } else { EVERY_NARROW };
            // Woken or not: in either case it is time.
            let _ = timeout(pause, wake.notified()).await;
        }
    }

    async fn look(&self) {
        for direction in [Direction::Toward, Direction::From] {
            // No verdict where no connection is made: that the node is away, others say.
            if let Ok(Some(found)) = self.measure(direction).await
                && self.paths.found(self.place(), direction, found, Instant::now())
            {
                say(self.place(), direction, found);
            }
        }
    }

    async fn measure(&self, direction: Direction) -> io::Result<Option<Found>> {
        let full = self.attempt(direction, None).await?;
        if full.passes {
            return Ok(Some(Found::Whole { bytes: full.packet }));
        }
        let mut lost = full.packet;
        for segment in SEGMENTS {
            let tried = self.attempt(direction, Some(segment)).await?;
            if tried.packet >= full.packet {
                continue;
            }
            if !tried.passes {
                lost = tried.packet;
                continue;
            }
            // Was it the size, or did nothing pass for a moment?
            let again = self.attempt(direction, None).await?;
            let found = Found::Narrow { bytes: tried.packet, lost, segment };
            return Ok(Some(if again.passes { Found::Whole { bytes: again.packet } } else { found }));
        }
        Ok(Some(Found::Blocked { lost }))
    }

    /// Sends packets of one size and waits until they are answered.
    async fn attempt(&self, direction: Direction, segment: Option<u32>) -> io::Result<Tried> {
        let (mut stream, mut seals) = self.dial.connect(Lane::Probe, segment).await?;
        let v4 = self.dial.addr.is_ipv4();
        let before = Progress::of(&stream, v4)?;
        let long = (PACKETS * before.segment).min(MAX_BYTES);
        let (length, wanted) = match direction {
            Direction::Toward => (long, SHORT),
            Direction::From => (SHORT, long),
        };
        let answered =
            matches!(timeout(LIMIT, ask(&mut stream, &mut seals, length, wanted)).await, Ok(Ok(())));
        let after = Progress::of(&stream, v4)?;
        let repeated = after.repeated.saturating_sub(before.repeated);
        Ok(Tried { packet: before.packet, passes: answered && repeated <= REPEATED })
    }
}

fn say(place: Place, direction: Direction, found: Found) {
    match (direction, found) {
        (Direction::Toward, Found::Whole { bytes }) => {
            tracing::info!("packets of {bytes} bytes reach node {place} again");
        }
        (Direction::From, Found::Whole { bytes }) => {
            tracing::info!("packets of {bytes} bytes from node {place} arrive again");
        }
        (Direction::Toward, Found::Narrow { bytes, .. }) => tracing::warn!(
            "packets over {bytes} bytes do not reach node {place}: is the MTU of the way right? Messages to it go in \
             smaller packets"
        ),
        (Direction::From, Found::Narrow { bytes, .. }) => tracing::warn!(
            "packets over {bytes} bytes from node {place} do not arrive here: is the MTU of the way right? It is asked \
             for smaller ones"
        ),
        (Direction::Toward, Found::Blocked { lost }) => tracing::warn!(
            "large messages do not reach node {place}, not even in packets of {lost} bytes: is the MTU of the way right?"
        ),
        (Direction::From, Found::Blocked { lost }) => tracing::warn!(
            "large messages from node {place} do not arrive here, not even in packets of {lost} bytes: is the MTU of the \
             way right?"
        ),
    }
}
