//! The notice of death: "the agent of node N, which led in term T, is dead and its floating IP is down". It lets the
//! peers elect a successor at once, instead of waiting for a lease that nobody holds any more.
//!
//! It is believed if it carries the cluster's HMAC and speaks of the present leader in the present term. A repeated old
//! notice therefore changes nothing: in the term that it names, the leader is dead for good, because a restarted node
//! never leads again in an old term.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::question::{self, Word};
use crate::os::rt;

const MAGIC: &[u8; 8] = b"RELEVOX\x01";
const BODY: usize = 8 + 2 + 2 + 8;
const BYTES: usize = BODY + 32;

/// A notice of death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// Whose agent is dead.
    pub dead: u16,
    /// The term in which it led.
    pub term: u64,
    /// Who should lead now.
    pub heir: u16,
}

fn mac(key: &[u8; 32], body: &[u8]) -> Hmac<Sha256> {
    // A key of any length is accepted.
    let mut mac =
        <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap_or_else(|_| unreachable!("any length will do"));
    mac.update(b"relevo guard notice");
    mac.update(body);
    mac
}

/// The datagram.
#[must_use]
pub fn encode(notice: Notice, key: &[u8; 32]) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..10].copy_from_slice(&notice.dead.to_le_bytes());
    out[10..12].copy_from_slice(&notice.heir.to_le_bytes());
    out[12..20].copy_from_slice(&notice.term.to_le_bytes());
    let tag = mac(key, &out[..BODY]).finalize().into_bytes();
    out[BODY..].copy_from_slice(&tag);
    out
}

/// The notice in a datagram, if it is one of this cluster.
#[must_use]
pub fn verify(datagram: &[u8], key: &[u8; 32]) -> Option<Notice> {
    let datagram: &[u8; BYTES] = datagram.try_into().ok()?;
    let (body, tag) = datagram.split_at(BODY);
    if body[..8] != MAGIC[..] || mac(key, body).verify_slice(tag).is_err() {
        return None;
    }
    Some(Notice {
        dead: u16::from_le_bytes([body[8], body[9]]),
        heir: u16::from_le_bytes([body[10], body[11]]),
        term: u64::from_le_bytes(*body[12..].first_chunk()?),
    })
}

/// Hears notices on `addr` and gives them to `heard`, on a thread of its own, for the life of the process. Answers
/// guards that ask whether `me` serves.
///
/// # Errors
/// The address is taken, or the thread cannot be started.
pub fn listen(
    addr: SocketAddr,
    key: [u8; 32],
    me: u16,
    heard: impl Fn(Notice) + Send + 'static,
    serves: impl Fn() -> bool + Send + 'static,
) -> io::Result<()> {
    let socket = UdpSocket::bind(addr)?;
    std::thread::Builder::new().name("relevo-notices".into()).spawn(move || {
        rt::realtime_or_say(rt::RAFT_PRIORITY, "notices");
        // One byte more than a notice: what is longer is none.
        let mut buffer = [0; BYTES + 1];
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((n, from)) => match verify(&buffer[..n], &key) {
                    Some(notice) => heard(notice),
                    None if let Some(Word::Question { number, .. }) =
                        question::verify(&buffer[..n], &key) =>
                    {
                        let answer = Word::Answer { from: me, number, serves: serves() };
                        // One that is lost is asked for again.
                        drop(socket.send_to(&question::encode(answer, &key), from));
                    }
                    None => tracing::debug!(%from, "a datagram that is no notice of this cluster"),
                },
                // A refused datagram of ours, reported late: nothing to do with hearing.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    tracing::error!(error = %e, "notices of other guards are no longer heard");
                    return;
                }
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTICE: Notice = Notice { dead: 1, term: 7, heir: 2 };

    #[test]
    fn a_notice_is_believed_under_its_own_key_only() {
        let bytes = encode(NOTICE, &[1; 32]);
        assert_eq!(verify(&bytes, &[1; 32]), Some(NOTICE));
        assert_eq!(verify(&bytes, &[2; 32]), None);
    }

    #[test]
    fn no_bit_of_a_notice_can_be_changed_and_none_left_out() {
        let good = encode(NOTICE, &[1; 32]);
        for bit in 0..good.len() * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&bytes, &[1; 32]), None, "bit {bit}");
        }
        for n in 0..good.len() {
            assert_eq!(verify(&good[..n], &[1; 32]), None);
        }
    }
}
