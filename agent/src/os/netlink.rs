//! Netlink messages as bytes, and a socket that sends them. Messages that must get through when all else fails are
//! built beforehand; sending them takes one system call and no memory.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Bytes of answers read at once.
const ANSWER_BYTES: usize = 8192;
/// Bytes of a list read at once: the kernel puts no more into one part.
const LIST_BYTES: usize = 32 << 10;
/// Bytes of a list at most; what comes on top waits for the next reading.
const MAX_LIST_BYTES: usize = 4 << 20;
/// Bytes of the header of a message.
const HEADER: usize = 16;

/// Netlink message and attribute padding.
const ALIGN: usize = 4;

/// Builds one or more netlink messages.
#[derive(Debug, Clone, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    start: usize,
    nests: Vec<usize>,
    count: u32,
}

impl Messages {
    /// Begins a message of `kind` with `flags`; `header` is the family's own (ifaddrmsg, nfgenmsg).
    #[must_use]
    pub fn begin(mut self, kind: u16, flags: u16, header: &[u8]) -> Self {
        self.start = self.bytes.len();
        self.count += 1;
        // Length, filled in by `end`; the sequence number is the message's number, for reading answers.
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&self.count.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header);
        self.pad();
        self
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(ALIGN) {
            self.bytes.push(0);
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        // Values here are addresses, names and numbers: far below 64 KiB.
        let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds a name, ended by a zero.
    #[must_use]
    pub fn name(self, kind: u16, value: &str) -> Self {
        self.attr(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Begins an attribute of attributes.
    #[must_use]
    pub fn nest(mut self, kind: u16) -> Self {
        self.nests.push(self.bytes.len());
        self.attr(kind | libc::NLA_F_NESTED as u16, &[])
    }

    /// Ends the innermost one.
    #[must_use]
    pub fn unnest(mut self) -> Self {
        if let Some(at) = self.nests.pop() {
            let len = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
            self.bytes[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        }
        self
    }

    /// Length so far: where the next attribute begins.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Nothing has been added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Ends a message.
    #[must_use]
    pub fn end(mut self) -> Self {
        let len = u32::try_from(self.bytes.len() - self.start).unwrap_or(u32::MAX);
        self.bytes[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// The bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// A netlink socket.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens one for `protocol` (NETLINK_ROUTE, NETLINK_NETFILTER).
    ///
    /// # Errors
    /// The system's.
    pub fn open(protocol: i32) -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it becomes an owned descriptor.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Opens one that hears of what changes: `groups` are the kernel's bits (RTMGRP_LINK and the like).
    ///
    /// # Errors
    /// The system's.
    pub fn listen(protocol: i32, groups: u32) -> io::Result<Self> {
        let socket = Self::open(protocol)?;
        // SAFETY: sockaddr_nl is plain data, for which zeroes are valid.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = groups;
        let length = size_of::<libc::sockaddr_nl>() as u32;
        // SAFETY: the address lives through the call and its length is right.
        let bound = unsafe { libc::bind(socket.0.as_raw_fd(), (&raw const address).cast(), length) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
    }

    /// What has come since, or nothing; does not wait.
    ///
    /// # Errors
    /// The system's; ENOBUFS: something was lost.
    pub fn news(&self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = vec![0_u8; LIST_BYTES];
        while all.len() < MAX_LIST_BYTES {
            // SAFETY: the buffer lives through the call and its length is right.
            let got = unsafe {
                libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
            };
            match usize::try_from(got) {
                Ok(got) => all.extend_from_slice(buffer.get(..got).unwrap_or_default()),
                Err(_) => match io::Error::last_os_error() {
                    e if e.kind() == io::ErrorKind::WouldBlock => break,
                    e if e.kind() == io::ErrorKind::Interrupted => {}
                    e => return Err(e),
                },
            }
        }
        Ok(all)
    }

    /// Sends `question` and gives back all messages of the answer.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list(&self, question: &[u8]) -> io::Result<Vec<u8>> {
        // SAFETY: the buffer lives through the call and its length is right.
        let sent = unsafe {
            libc::send(self.0.as_raw_fd(), question.as_ptr().cast(), question.len(), libc::MSG_NOSIGNAL)
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        // The kernel has put the first part there before `send` returned, and the next whenever one is taken.
        let all = self.news()?;
        errors(&all, &[]).map_err(io::Error::from_raw_os_error)?;
        Ok(all)
    }

    /// For `poll`.
    #[must_use]
    pub fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Sends `messages` to the kernel, which works on them before this returns, and reads its answers. The first error
    /// among them counts, except those in `ignored`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, messages: &[u8], ignored: &[i32]) -> io::Result<()> {
        // SAFETY: the buffer lives through the call and its length is right.
        let sent = unsafe {
            libc::send(self.0.as_raw_fd(), messages.as_ptr().cast(), messages.len(), libc::MSG_NOSIGNAL)
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut first = Ok(());
        let mut buffer = [0_u8; ANSWER_BYTES];
        loop {
            // SAFETY: the buffer lives through the call and its length is right.
            let got = unsafe {
                libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
            };
            let Ok(got) = usize::try_from(got) else {
                let error = io::Error::last_os_error();
                return match error.kind() {
                    io::ErrorKind::WouldBlock => first,
                    io::ErrorKind::Interrupted => continue,
                    // Answers were lost: whether it worked is unknown.
                    _ => Err(error),
                };
            };
            if let Err(code) = errors(&buffer[..got], ignored) {
                first = first.and(Err(io::Error::from_raw_os_error(code)));
            }
        }
    }
}

/// The messages in some bytes: the kind of each, and what follows its header.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = u32::from_ne_bytes(*length) as usize;
        let kind = u16::from_ne_bytes(*rest.first_chunk()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The attributes in some bytes: the kind of each without its flags, and its value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let kind = u16::from_ne_bytes(*rest.first_chunk()?) & libc::NLA_TYPE_MASK as u16;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first error in a datagram of answers.
fn errors(mut answers: &[u8], ignored: &[i32]) -> Result<(), i32> {
    while answers.len() >= HEADER {
        let len = u32::from_ne_bytes([answers[0], answers[1], answers[2], answers[3]]) as usize;
        let kind = u16::from_ne_bytes([answers[4], answers[5]]);
        if i32::from(kind) == libc::NLMSG_ERROR
            && let Some(code) = answers.get(HEADER..HEADER + 4)
        {
            let code = -i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
            if code != 0 && !ignored.contains(&code) {
                return Err(code);
            }
        }
        answers = answers.get(len.next_multiple_of(ALIGN).max(HEADER)..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_length_that_it_says_and_nests_have_theirs() {
        let bytes = Messages::default()
            .begin(20, 0, &[2, 24, 0, 0, 1, 0, 0, 0])
            .nest(3)
            .attr(1, &[1, 2, 3])
            .unnest()
            .end()
            .finish();
        assert_eq!(bytes.len(), 16 + 8 + 4 + 8);
        assert_eq!(bytes[..4], u32::try_from(bytes.len()).expect("short").to_ne_bytes());
        assert_eq!(
            bytes[24..26],
            12_u16.to_ne_bytes(),
            "nest: its header, and an attribute of 7 bytes, padded"
        );
        assert_eq!(bytes[28..30], 7_u16.to_ne_bytes());
    }

    #[test]
    fn an_error_answer_is_found_and_an_acknowledgement_is_none() {
        let answer = |code: i32| {
            let mut bytes = vec![0; 36];
            bytes[..4].copy_from_slice(&36_u32.to_ne_bytes());
            bytes[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
            bytes[16..20].copy_from_slice(&(-code).to_ne_bytes());
            bytes
        };
        assert_eq!(errors(&answer(0), &[]), Ok(()));
        let both = [answer(0), answer(libc::EPERM)].concat();
        assert_eq!(errors(&both, &[]), Err(libc::EPERM));
        assert_eq!(errors(&both, &[libc::EPERM]), Ok(()));
        assert_eq!(errors(&both[..40], &[]), Ok(()), "a cut-off answer is no error");
    }
}
