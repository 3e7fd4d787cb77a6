//! What the kernel knows of a connection: how far the peer has acknowledged, and how large packets are.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// Bytes of IP and TCP header in a packet without options.
const HEADERS_V4: u32 = 40;
/// The same for IPv6.
const HEADERS_V6: u32 = 60;
/// Bytes of the timestamp option, which the kernel puts into each packet of a connection that has it.
const TIMESTAMPS: u32 = 12;
/// The connection has timestamps (`TCPI_OPT_TIMESTAMPS`).
const OPT_TIMESTAMPS: u8 = 1;
/// Bytes of the kernel's `struct tcp_info` that are read here.
const LEN: usize = 128;

/// One look at a connection (`TCP_INFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Packets that are on the way, without an acknowledgement.
    pub unacked: u32,
    /// Packets sent again since the connection was made.
    pub repeated: u32,
    /// Bytes that the peer has acknowledged without a gap since the connection was made.
    pub acked: u64,
    /// Largest packet sent, bytes with its headers.
    pub packet: u32,
    /// Bytes of ours in such a packet.
    pub segment: u32,
}

impl Progress {
    /// Reads it from the kernel.
    ///
    /// # Errors
    /// The system's.
    pub fn of(socket: &impl AsFd, v4: bool) -> io::Result<Self> {
        let mut info = [0_u8; LEN];
        let mut len = libc::socklen_t::try_from(size_of::<[u8; LEN]>()).unwrap_or(0);
        // SAFETY: the kernel writes at most `len` bytes into `info`, which lives through the call; the socket is borrowed.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self::read(&info, v4))
    }

    /// `info` is laid out as in Linux' include/uapi/linux/tcp.h, which only grows at its end.
    fn read(info: &[u8; LEN], v4: bool) -> Self {
        let u32_at =
            |at: usize| info.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let u64_at =
            |at: usize| info.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
        let options = if info[5] & OPT_TIMESTAMPS != 0 { TIMESTAMPS } else { 0 };
        let segment = u32_at(16);
        Self {
            segment,
            packet: segment + options + if v4 { HEADERS_V4 } else { HEADERS_V6 },
            unacked: u32_at(24),
            repeated: u32_at(100),
            acked: u64_at(120),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn a_smaller_segment_size_is_kept_by_both_ends_and_what_was_read_is_acknowledged() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(addr).await.expect("binds");
            let addr = listener.local_addr().expect("bound");
            let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            let socket = socket.expect("a socket");
            socket2::SockRef::from(&socket).set_tcp_mss(1000).expect("takes it");
            let mut client = socket.connect(addr).await.expect("connects");
            let (mut server, _) = listener.accept().await.expect("accepts");
            client.write_all(&[7; 5000]).await.expect("sent");
            server.read_exact(&mut [0; 5000]).await.expect("read");
            server.write_all(&[7; 5000]).await.expect("sent");
            client.read_exact(&mut [0; 5000]).await.expect("read");
            let headers = if addr.is_ipv4() { 40 } else { 60 };
            let seen = Progress::of(&client, addr.is_ipv4()).expect("TCP_INFO");
            assert!(seen.acked >= 5000 && seen.unacked == 0, "{seen:?}");
            assert_eq!(seen.packet, 1000 + headers, "{seen:?}");
            let seen = Progress::of(&server, addr.is_ipv4()).expect("TCP_INFO");
            assert_eq!(seen.packet, 1000 + headers, "the answering end: {seen:?}");
        }
    }
}
