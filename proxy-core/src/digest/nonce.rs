//! Nonces: `version ‖ key id ‖ time ‖ salt ‖ MAC`, in hex. The MAC is over all before it and the realm, with the
//! replicated key: every node knows every nonce that any node gave, and nothing is kept of a challenge.

use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{hex, same, unhex};
use crate::state::NonceKey;
use crate::time::WallTime;

/// First byte; another layout gets another one.
const VERSION: u8 = 1;
/// Bytes before the MAC: version, key id, milliseconds, salt.
const HEAD: usize = 1 + 4 + 8 + 8;
/// Bytes of the MAC: half of SHA-256, which nobody guesses within the life of a nonce.
const MAC: usize = 16;
/// Separates this use of the key from any other.
const LABEL: &[u8] = b"relevo nonce";

/// What a nonce says of itself. Whether it is ours is another question: [`Nonce::is_made_with`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce {
    /// Which key made it.
    pub key_id: u32,
    /// When.
    pub made_at: WallTime,
    /// Tells apart nonces of one millisecond.
    pub salt: u64,
    mac: [u8; MAC],
}

impl Nonce {
    /// Makes a nonce. `salt` should differ between challenges of one millisecond, so that their counts do.
    #[must_use]
    pub fn make(key: &NonceKey, realm: &str, now: WallTime, salt: u64) -> String {
        let head = head(key.id, now, salt);
        let mut text = hex(&head);
        text.push_str(&hex(&mac(key, &head, realm)));
        text
    }

    /// Reads a nonce that one of our nodes may have made.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let bytes: [u8; HEAD + MAC] = unhex(text)?;
        let (version, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_first_chunk::<4>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (salt, mac) = rest.split_first_chunk::<8>()?;
        (*version == VERSION).then_some(Self {
            key_id: u32::from_be_bytes(*id),
            made_at: WallTime(u64::from_be_bytes(*time)),
            salt: u64::from_be_bytes(*salt),
            mac: mac.try_into().ok()?,
        })
    }

    /// Whether it was made with this key for this realm.
    #[must_use]
    pub fn is_made_with(&self, key: &NonceKey, realm: &str) -> bool {
        key.id == self.key_id
            && same(&mac(key, &head(self.key_id, self.made_at, self.salt), realm), &self.mac)
    }

    /// Whether it may still be used. The clock of the node that made it may be ahead of ours, but hardly by a life.
    #[must_use]
    pub fn is_alive(&self, now: WallTime, life: Duration) -> bool {
        self.made_at + life > now && self.made_at <= now + life
    }
}

fn head(id: u32, at: WallTime, salt: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let parts =
        [VERSION].into_iter().chain(id.to_be_bytes()).chain(at.0.to_be_bytes()).chain(salt.to_be_bytes());
    for (to, from) in head.iter_mut().zip(parts) {
        *to = from;
    }
    head
}

fn mac(key: &NonceKey, head: &[u8], realm: &str) -> [u8; MAC] {
    let mut out = [0; MAC];
    // HMAC takes keys of any length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.secret.bytes()) {
        mac.update(LABEL);
        mac.update(head);
        mac.update(realm.as_bytes());
        for (to, from) in out.iter_mut().zip(mac.finalize().into_bytes()) {
            *to = from;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NonceSecret;

    fn key(id: u32, byte: u8) -> NonceKey {
        NonceKey { id, secret: NonceSecret::new([byte; 32]), made_at: WallTime(0) }
    }

    #[test]
    fn every_node_with_the_key_knows_a_nonce_again_and_nobody_else_can_make_one() {
        let text = Nonce::make(&key(3, 7), "lab.test", WallTime(1_000), 42);
        let nonce = Nonce::read(&text).expect("reads");
        assert_eq!((nonce.key_id, nonce.made_at, nonce.salt), (3, WallTime(1_000), 42));
        assert!(nonce.is_made_with(&key(3, 7), "lab.test"));
        assert!(!nonce.is_made_with(&key(3, 8), "lab.test"));
        assert!(!nonce.is_made_with(&key(4, 7), "lab.test"));
        assert!(!nonce.is_made_with(&key(3, 7), "other.test"));
        assert_ne!(text, Nonce::make(&key(3, 7), "lab.test", WallTime(1_000), 43));
    }

    #[test]
    fn a_nonce_with_one_changed_digit_is_not_ours() {
        let text = Nonce::make(&key(3, 7), "lab.test", WallTime(1_000), 42);
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).expect("hex");
            let ours = Nonce::read(&forged).is_some_and(|n| n.is_made_with(&key(3, 7), "lab.test"));
            assert!(!ours, "digit {at}");
        }
        for bad in ["", "00", "zz", &text[1..], &format!("{text}00")] {
            assert!(Nonce::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_nonce_lives_its_time_also_if_clocks_differ() {
        let life = Duration::from_secs(300);
        let nonce = |at| Nonce::read(&Nonce::make(&key(1, 1), "r", WallTime(at), 0)).expect("reads");
        let now = WallTime(1_000_000);
        assert!(nonce(1_000_000).is_alive(now, life));
        assert!(nonce(700_001).is_alive(now, life));
        assert!(!nonce(700_000).is_alive(now, life));
        assert!(nonce(1_003_000).is_alive(now, life));
        assert!(!nonce(1_300_001).is_alive(now, life));
    }
}
