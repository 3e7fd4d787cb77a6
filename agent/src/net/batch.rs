//! Many datagrams with one system call: recvmmsg(2) and sendmmsg(2).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use socket2::{SockAddr, SockAddrStorage};

use super::{BATCH, MAX_DATAGRAM_BYTES};

/// One received datagram.
#[derive(Debug, Clone, Copy)]
pub struct Received<'b> {
    /// Who sent it.
    pub from: SocketAddr,
    /// What it says.
    pub bytes: &'b [u8],
    /// The kernel had to cut it.
    pub truncated: bool,
}

/// Buffers for one receive thread.
pub struct Receiver {
    buffers: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    /// Room for [`BATCH`] datagrams of the largest size.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: sockaddr_storage is plain integers, for which all zeroes is a value.
        let name: libc::sockaddr_storage = unsafe { MaybeUninit::zeroed().assume_init() };
        Self { buffers: vec![0; BATCH * MAX_DATAGRAM_BYTES], names: vec![name; BATCH] }
    }

    /// Waits for at least one datagram (or the socket's read timeout) and gives each to `each`.
    ///
    /// # Errors
    /// What the kernel says; `WouldBlock` after the read timeout.
    pub fn receive(&mut self, socket: &UdpSocket, mut each: impl FnMut(Received<'_>)) -> io::Result<()> {
        let mut parts: Vec<libc::iovec> = self
            .buffers
            .chunks_exact_mut(MAX_DATAGRAM_BYTES)
            .map(|b| libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: b.len() })
            .collect();
        let mut heads: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .zip(&mut self.names)
            .map(|(part, name)| {
                head(part, (name as *mut libc::sockaddr_storage).cast(), size_of::<libc::sockaddr_storage>())
            })
            .collect();
        // SAFETY: each header points to one iovec and one name of this call's own vectors, which live until its end;
        // the vectors have BATCH entries, the number that is passed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                heads.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (i, message) in heads.iter().take(count).enumerate() {
            let Some(name) = self.names.get(i) else { break };
            let Some(from) = address(name, message.msg_hdr.msg_namelen) else { continue };
            let start = i * MAX_DATAGRAM_BYTES;
            let length = (message.msg_len as usize).min(MAX_DATAGRAM_BYTES);
            let bytes = self.buffers.get(start..start + length).unwrap_or_default();
            each(Received { from, bytes, truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 });
        }
        Ok(())
    }
}

/// Sends datagrams without waiting and returns how many the kernel took; the rest is lost, as UDP may be.
pub fn send(socket: &UdpSocket, datagrams: &[(SocketAddr, Vec<u8>)]) -> usize {
    let mut sent = 0;
    for chunk in datagrams.chunks(BATCH) {
        let mut names: Vec<SockAddr> = chunk.iter().map(|(to, _)| SockAddr::from(*to)).collect();
        let mut parts: Vec<libc::iovec> = chunk
            .iter()
            .map(|(_, b)| libc::iovec { iov_base: b.as_ptr().cast_mut().cast(), iov_len: b.len() })
            .collect();
        let mut heads: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .zip(&mut names)
            .map(|(part, name)| head(part, name.as_ptr().cast_mut().cast(), name.len() as usize))
            .collect();
        let mut at = 0;
        while let Some(rest) = heads.get_mut(at..).filter(|rest| !rest.is_empty()) {
            // SAFETY: as in `receive`; sendmmsg only reads names and buffers, which live until the end of this turn,
            // and the length is that of the slice.
            let count = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(count) {
                Ok(count) if count > 0 => {
                    sent += count;
                    at += count;
                }
                // The first of the rest cannot be sent (an ICMP error of an earlier one, no route, buffer full).
                // One that only reports an earlier error is tried once more by sending it alone.
                _ => {
                    if let Some((to, bytes)) = chunk.get(at)
                        && socket.send_to(bytes, to).is_ok()
                    {
                        sent += 1;
                    }
                    at += 1;
                }
            }
        }
    }
    sent
}

fn head(part: &mut libc::iovec, name: *mut libc::c_void, name_len: usize) -> libc::mmsghdr {
    // SAFETY: msghdr is integers and pointers, for which all zeroes (null) is a value.
    let mut hdr: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    hdr.msg_name = name;
    hdr.msg_namelen = name_len as libc::socklen_t;
    hdr.msg_iov = part;
    hdr.msg_iovlen = 1;
    libc::mmsghdr { msg_hdr: hdr, msg_len: 0 }
}

fn address(name: &libc::sockaddr_storage, length: libc::socklen_t) -> Option<SocketAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: SockAddrStorage is a transparent wrapper of sockaddr_storage.
    unsafe { *storage.view_as::<libc::sockaddr_storage>() = *name };
    // SAFETY: the kernel wrote a name of this length, and the storage holds the largest there is.
    unsafe { SockAddr::new(storage, length) }.as_socket()
}
