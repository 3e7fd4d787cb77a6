//! What a guard without an agent asks the other nodes: "do you serve?" The agents answer, on the port of the notices.
//!
//! Both carry the cluster's HMAC. An answer repeats the number of its question, so that an old one says nothing.

use hmac::{Hmac, Mac};
use sha2::Sha256;

const QUESTION: &[u8; 8] = b"RELEVOQ\x01";
const ANSWER: &[u8; 8] = b"RELEVOA\x01";
const BODY: usize = 8 + 2 + 8 + 1;
/// Bytes of either.
pub const BYTES: usize = BODY + 32;

/// One of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// "Does anybody serve?"
    Question {
        /// Whose guard asks.
        from: u16,
        /// Names the question.
        number: u64,
    },
    /// The answer.
    Answer {
        /// Whose agent answers.
        from: u16,
        /// Of the question.
        number: u64,
        /// It serves at this moment.
        serves: bool,
    },
}

fn mac(key: &[u8; 32], body: &[u8]) -> Hmac<Sha256> {
    // A key of any length is accepted.
    let mut mac =
        <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap_or_else(|_| unreachable!("any length will do"));
    mac.update(b"relevo guard question");
    mac.update(body);
    mac
}

/// The datagram. Takes no memory.
#[must_use]
pub fn encode(word: Word, key: &[u8; 32]) -> [u8; BYTES] {
    let (magic, from, number, serves) = match word {
        Word::Question { from, number } => (QUESTION, from, number, false),
        Word::Answer { from, number, serves } => (ANSWER, from, number, serves),
    };
    let mut out = [0; BYTES];
    out[..8].copy_from_slice(magic);
    out[8..10].copy_from_slice(&from.to_le_bytes());
    out[10..18].copy_from_slice(&number.to_le_bytes());
    out[18] = u8::from(serves);
    let tag = mac(key, &out[..BODY]).finalize().into_bytes();
    out[BODY..].copy_from_slice(&tag);
    out
}

/// What a datagram says, if it is of this cluster.
#[must_use]
pub fn verify(datagram: &[u8], key: &[u8; 32]) -> Option<Word> {
    let datagram: &[u8; BYTES] = datagram.try_into().ok()?;
    let (body, tag) = datagram.split_at(BODY);
    mac(key, body).verify_slice(tag).ok()?;
    let from = u16::from_le_bytes([body[8], body[9]]);
    let number = u64::from_le_bytes(*body[10..].first_chunk()?);
    match (body.first_chunk()?, body[18]) {
        (QUESTION, _) => Some(Word::Question { from, number }),
        (ANSWER, serves) => Some(Word::Answer { from, number, serves: serves == 1 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_believed_under_their_own_key_and_no_bit_can_be_changed() {
        let words = [
            Word::Question { from: 1, number: 7 },
            Word::Answer { from: 2, number: 7, serves: true },
            Word::Answer { from: 2, number: 8, serves: false },
        ];
        for word in words {
            let good = encode(word, &[1; 32]);
            assert_eq!(verify(&good, &[1; 32]), Some(word));
            assert_eq!(verify(&good, &[2; 32]), None);
            for bit in 0..good.len() * 8 {
                let mut bytes = good;
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(verify(&bytes, &[1; 32]), None, "bit {bit}");
            }
        }
    }
}
