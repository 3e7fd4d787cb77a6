//! HEPv3: one captured message as one datagram for the collector (Homer, heplify-server, sipcapture).
//!
//! `HEP3`, length of the whole (2 bytes), then chunks: vendor (2 bytes, 0: generic), type (2), length of the chunk with
//! its six bytes of header (2), value. All numbers are big-endian.
//!
//! | type | value | here |
//! |---|---|---|
//! | 1 | IP family | 2: IPv4, 10: IPv6 |
//! | 2 | IP protocol | 17: UDP, 6: TCP |
//! | 3, 4 (5, 6) | source and destination address, IPv4 (IPv6) | of the message |
//! | 7, 8 | source and destination port | of the message |
//! | 9, 10 | time: seconds, microseconds of the second | when the message was handled |
//! | 11 | protocol | 1: SIP |
//! | 12 | capture agent | `hep.capture_id` |
//! | 14 | password | `hep.password`, if there is one |
//! | 15 | payload | the message |
//! | 17 | correlation | the Call-ID |
//! | 19 | name of the capture agent | `hep.name` |

use std::net::IpAddr;

use proxy_core::msg::call_id_of;
use proxy_core::state::{Flow, Transport};
use proxy_core::time::RealTime;

use super::{Direction, HepConfig};

/// Largest datagram that UDP over IPv4 carries, bytes: a message that does not fit with its chunks is not copied.
pub const MAX_PACKET_BYTES: usize = 65_507;
/// Vendor and type and length of a chunk, bytes.
const CHUNK_HEADER: usize = 6;

/// One packet; `None` if it would be larger than a datagram.
#[must_use]
pub fn encode(
    config: &HepConfig,
    direction: Direction,
    flow: &Flow,
    bytes: &[u8],
    at: RealTime,
) -> Option<Vec<u8>> {
    let (source, destination) = match direction {
        Direction::In => (flow.remote, flow.local),
        Direction::Out => (flow.local, flow.remote),
    };
    let protocol = match flow.transport {
        Transport::Udp => 17_u8,
        Transport::Tcp => 6,
    };
    let mut out = Vec::with_capacity(bytes.len() + 256);
    out.extend_from_slice(b"HEP3\0\0");
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            chunk(&mut out, 1, &[2])?;
            chunk(&mut out, 2, &[protocol])?;
            chunk(&mut out, 3, &from.octets())?;
            chunk(&mut out, 4, &to.octets())?;
        }
        (from, to) => {
            chunk(&mut out, 1, &[10])?;
            chunk(&mut out, 2, &[protocol])?;
            chunk(&mut out, 5, &v6(from))?;
            chunk(&mut out, 6, &v6(to))?;
        }
    }
    chunk(&mut out, 7, &source.port().to_be_bytes())?;
    chunk(&mut out, 8, &destination.port().to_be_bytes())?;
    let seconds = u32::try_from(at.0 / 1000).unwrap_or(u32::MAX);
    let micros = u32::try_from(at.0 % 1000 * 1000).unwrap_or(0);
    chunk(&mut out, 9, &seconds.to_be_bytes())?;
    chunk(&mut out, 10, &micros.to_be_bytes())?;
    chunk(&mut out, 11, &[1])?;
    chunk(&mut out, 12, &config.capture_id.to_be_bytes())?;
    chunk(&mut out, 19, config.node.as_bytes())?;
    if let Some(password) = &config.password {
        chunk(&mut out, 14, password.as_bytes())?;
    }
    if let Some(id) = call_id_of(bytes) {
        chunk(&mut out, 17, id)?;
    }
    chunk(&mut out, 15, bytes)?;
    let length = u16::try_from(out.len()).ok().filter(|_| out.len() <= MAX_PACKET_BYTES)?;
    out.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
    Some(out)
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn chunk(out: &mut Vec<u8>, kind: u16, value: &[u8]) -> Option<()> {
    let length = u16::try_from(CHUNK_HEADER + value.len()).ok()?;
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
    Some(())
}
