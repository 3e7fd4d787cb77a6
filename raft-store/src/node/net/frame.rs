//! Frames on an authenticated connection: length, body, tag. The tag is SipHash-2-4 with 128 bits over a key of this
//! connection and direction, the frame's number and its body, so that nothing can be put in, repeated or left out.

use std::hash::Hasher;
use std::io;

use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest body of a frame (48 MiB): more than the largest log record.
pub const MAX_FRAME_BYTES: usize = 48 << 20;
const TAG_BYTES: usize = 16;

/// Numbers and seals the frames of one direction.
pub struct Seal {
    key: [u8; 16],
    number: u64,
}

impl Seal {
    pub fn new(key: [u8; 16]) -> Self {
        Self { key, number: 0 }
    }

    fn next_tag(&mut self, body: &[u8]) -> [u8; TAG_BYTES] {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(&self.number.to_le_bytes());
        hasher.write(body);
        self.number += 1;
        hasher.finish128().as_bytes()
    }

    /// Appends the frame of `body` to `out`.
    pub fn write(&mut self, body: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME_BYTES);
        let len =
            len.ok_or_else(|| io::Error::other(format!("a frame of {} bytes is too large", body.len())))?;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(&self.next_tag(body));
        Ok(())
    }

    /// Sends one frame.
    pub async fn send(&mut self, to: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> io::Result<()> {
        let mut out = Vec::with_capacity(body.len() + 4 + TAG_BYTES);
        self.write(body, &mut out)?;
        to.write_all(&out).await
    }

    /// Receives one frame. Not cancel-safe.
    pub async fn receive(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
        let len = from.read_u32_le().await? as usize;
        if len > MAX_FRAME_BYTES {
            return Err(bad(format!("a frame of {len} bytes, at most {MAX_FRAME_BYTES} are allowed")));
        }
        let mut body = Vec::new();
        // Grows with what really arrives: a length alone must not take memory.
        from.take(len as u64).read_to_end(&mut body).await?;
        if body.len() != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut tag = [0; TAG_BYTES];
        from.read_exact(&mut tag).await?;
        if tag != self.next_tag(&body) {
            return Err(bad("the tag of a frame is wrong"));
        }
        Ok(body)
    }
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bodies: &[&[u8]]) -> Vec<u8> {
        let (mut seal, mut out) = (Seal::new([7; 16]), Vec::new());
        for body in bodies {
            seal.write(body, &mut out).expect("small");
        }
        out
    }

    async fn read_all(bytes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let (mut seal, mut from, mut all) = (Seal::new([7; 16]), bytes, Vec::new());
        while !from.is_empty() {
            all.push(seal.receive(&mut from).await?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in() {
        let all = read_all(&frames(&[b"one", b"", b"three"])).await.expect("good");
        assert_eq!(all, [b"one".to_vec(), vec![], b"three".to_vec()]);
    }

    #[tokio::test]
    async fn any_changed_byte_ends_the_connection() {
        let good = frames(&[b"one", b"two"]);
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(read_all(&changed).await.is_err(), "byte {at}");
        }
    }

    #[tokio::test]
    async fn a_repeated_or_left_out_frame_is_noticed() {
        let one = frames(&[b"same"]);
        assert!(read_all(&[&one[..], &one[..]].concat()).await.is_err());
        assert!(read_all(&frames(&[b"same", b"next"])[one.len()..]).await.is_err());
    }

    #[tokio::test]
    async fn an_absurd_length_is_refused_before_anything_is_read() {
        let e = read_all(&u32::MAX.to_le_bytes()).await.expect_err("too large");
        assert_eq!(e.kind(), io::ErrorKind::InvalidData);
    }
}
