//! What tells one message from all others without parsing it: who handles a message notes it first, so that it is known
//! which one it was that could not be survived.

use super::call_id::{call_id_of, value_of};

/// FNV-1a, 64 bits: the same in every version on every machine.
fn mix(hash: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    // The end of a part counts, too.
    bytes.iter().chain(&[0xff]).fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// The fingerprint of the message in `bytes`: of the first word (the method, or that it is a response), Call-ID and CSeq.
/// A retransmission has the same. One without a Call-ID is known by all its bytes. Never 0.
#[must_use]
pub fn fingerprint_of(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    let hash = match call_id_of(bytes) {
        None => mix(OFFSET, bytes),
        Some(call_id) => {
            let first = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(0);
            let word =
                bytes.get(first..).unwrap_or_default().split(|b| *b == b' ').next().unwrap_or_default();
            let cseq = value_of(bytes, b"cseq", None).unwrap_or_default();
            [word, call_id, cseq].into_iter().fold(OFFSET, mix)
        }
    };
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> u64 {
        fingerprint_of(text.as_bytes())
    }

    #[test]
    fn a_retransmission_has_the_same_fingerprint_and_every_other_message_another_one() {
        let invite =
            "INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=1\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n\r\n";
        assert_eq!(of(invite), of(&invite.replace("branch=1", "branch=2")));
        assert_eq!(of(invite), of(&format!("\r\n{invite}")), "after a keepalive of a stream");
        let others = [
            invite.replace("Call-ID: a", "Call-ID: b"),
            invite.replace("CSeq: 1 INVITE", "CSeq: 2 INVITE"),
            invite.replace("INVITE sip:b@x SIP/2.0", "ACK sip:b@x SIP/2.0"),
            invite.replace("INVITE sip:b@x SIP/2.0", "SIP/2.0 200 OK"),
            String::from("garbage"),
            String::from("garbage "),
            String::new(),
        ];
        let mut all: Vec<u64> = others.iter().map(|text| of(text)).chain([of(invite)]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), others.len() + 1);
        assert!(all[0] != 0);
    }
}
