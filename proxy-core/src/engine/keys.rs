//! Everything that is derived by hashing: shards, server transaction keys, branches, tags.
//!
//! All of it is a function of the messages and of the cluster key, so that a node that takes over derives the same
//! values. A branch that we write is `z9hG4bK<id>.<loop>`: `id` names the copy (RFC 3261 §8.1.1.7), `loop` is a digest
//! of what decides where the request goes (§16.6 step 8, RFC 5393 §4.2.1), by which a loop is told from a spiral.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::msg::{HeaderName, Message, Via};
use crate::state::{Flow, ServerKey};
use crate::uac::OwnRequest;

/// Which engine a message belongs to: the same for all messages of a call, on every node, in every version.
#[must_use]
pub fn shard_of(call_id: &[u8], shards: u16) -> u16 {
    let mut hasher = SipHasher13::new();
    hasher.write(call_id);
    u16::try_from(hasher.finish() % u64::from(shards.max(1))).unwrap_or(0)
}

/// The hash with the cluster key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    key: [u8; 16],
}

impl Keys {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// For MACs of other kinds.
    pub(crate) fn bytes(&self) -> &[u8; 16] {
        &self.key
    }

    /// Parts go in with their lengths, so that no two lists of parts are the same bytes.
    fn hash<'p>(&self, purpose: &str, parts: impl IntoIterator<Item = &'p [u8]>) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(purpose.as_bytes());
        for part in parts {
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part);
        }
        hasher.finish()
    }

    /// Decides the order of servers of equal rank (RFC 3263): the same for a request and its retransmissions.
    pub(crate) fn server_seed(&self, key: &ServerKey) -> u64 {
        self.hash("servers", [key.branch.as_bytes(), key.sent_by.as_bytes()])
    }

    /// The branch of the copy that goes on at another address: a function of the one before it.
    pub(crate) fn next_via_branch(&self, via_branch: &str, flow: Flow) -> String {
        let (remote, transport) = (flow.remote.to_string(), flow.transport.via_name());
        let parts = [via_branch.as_bytes(), remote.as_bytes(), transport.as_bytes()];
        let id = self.hash("moved", parts);
        format!("z9hG4bK{id:016x}.{:016x}", loop_digest_in(via_branch).unwrap_or_default())
    }

    /// The To tag of responses that are made here to this request. The ACK of such a response gives the same one.
    pub(crate) fn local_tag(&self, request: &Message<'_>) -> String {
        let cseq = request.cseq().map_or(0, |c| c.number).to_be_bytes();
        let call_id = request.call_id().unwrap_or_default().as_bytes();
        let from_tag = request.from_tag().unwrap_or_default().as_bytes();
        format!("rlv{:016x}", self.hash("tag", [call_id, from_tag, &cseq[..]]))
    }

    /// Digest of all that decides where a request goes.
    pub(crate) fn loop_digest(&self, request: &Message<'_>) -> u64 {
        self.digest_with_tag(request, request.to_tag().unwrap_or_default())
    }

    /// That of the INVITE, from the ACK of its failure: only the To tag has come since.
    pub(crate) fn loop_digest_of_invite(&self, ack: &Message<'_>) -> u64 {
        self.digest_with_tag(ack, "")
    }

    fn digest_with_tag(&self, request: &Message<'_>, to_tag: &str) -> u64 {
        let cseq = request.cseq().map_or(0, |c| c.number).to_be_bytes();
        let fixed: [&[u8]; 5] = [
            request.request_uri_str().as_bytes(),
            request.call_id().unwrap_or_default().as_bytes(),
            request.from_tag().unwrap_or_default().as_bytes(),
            to_tag.as_bytes(),
            &cseq,
        ];
        self.hash("loop", fixed.into_iter().chain(request.values(HeaderName::Route)))
    }

    /// Tells requests apart, and is the same for the retransmissions of one.
    pub(crate) fn transaction_digest(&self, request: &Message<'_>) -> u64 {
        let cseq = request.cseq().map_or(0, |c| c.number).to_be_bytes();
        let via = request.top_via().ok();
        let parts: [&[u8]; 4] = [
            via.map_or(&[], |v| v.branch().unwrap_or_default().as_bytes()),
            via.map_or(&[], |v| v.sent_by.as_bytes()),
            request.call_id().unwrap_or_default().as_bytes(),
            &cseq,
        ];
        self.hash("transaction", parts)
    }

    /// Tells requests apart by all that is in them and by where they came from, and is the same for the retransmissions of
    /// one: whoever has heard a proof of somebody else can only repeat his request. `request` is stamped.
    pub(crate) fn request_digest(&self, request: &Message<'_>) -> u64 {
        self.hash("request", [request.raw()])
    }

    /// What is the same in a MESSAGE, its retransmissions, and the copies that its sender makes with a new branch when
    /// it tries another server (RFC 3263 §4.3); and in no other, not even in the copies that a proxy before us has made
    /// for other users.
    pub(crate) fn message_receipt(&self, request: &Message<'_>) -> u64 {
        let cseq = request.cseq().map_or(0, |c| c.number).to_be_bytes();
        let parts: [&[u8]; 4] = [
            request.call_id().unwrap_or_default().as_bytes(),
            request.from_tag().unwrap_or_default().as_bytes(),
            request.request_uri_str().as_bytes(),
            &cseq,
        ];
        self.hash("receipt", parts)
    }

    /// The branch of the copy of a request that goes to `target`. `class` is the method, and that of the INVITE for
    /// its CANCEL and for the ACK of a failure; the ACK of a 2xx has its own.
    pub(crate) fn via_branch<'p>(
        &self,
        key: &'p ServerKey,
        class: &'p str,
        target: impl IntoIterator<Item = &'p [u8]>,
        loop_digest: u64,
    ) -> String {
        let head = [key.branch.as_bytes(), key.sent_by.as_bytes(), class.as_bytes()];
        let id = self.hash("branch", head.into_iter().chain(target));
        format!("z9hG4bK{id:016x}.{loop_digest:016x}")
    }

    /// The branch of a request of our own: the same request has the same one on every node.
    pub(crate) fn own_branch(&self, label: &str, request: &OwnRequest) -> String {
        let OwnRequest { method, call_id, to, cseq, thread, .. } = request;
        let texts = [label, method, call_id, to, thread].map(str::as_bytes);
        let cseq = cseq.to_be_bytes();
        let parts = texts.into_iter().chain([&cseq[..]]);
        format!("z9hG4bKrlv{:016x}", self.hash("own", parts))
    }

    /// The branch of a copy whose CSeq is moved to `to`, made of that of the copy with its CSeq moved to `from` (or not
    /// moved). Whichever way it came there, a copy has one branch for one CSeq: a successor that knows only the newest
    /// CSeq sends what a peer takes for a retransmission.
    pub(crate) fn moved_branch(&self, via_branch: &str, from: Option<u32>, to: u32) -> String {
        let mask = |cseq: u32| self.hash("cseq", [&cseq.to_be_bytes()[..]]);
        let id = via_branch.strip_prefix("z9hG4bK").and_then(|rest| rest.get(..16));
        let id = id.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default();
        let id = id ^ from.map_or(0, mask) ^ mask(to);
        format!("z9hG4bK{id:016x}.{:016x}", loop_digest_in(via_branch).unwrap_or_default())
    }

    /// A Call-ID of our own for these parts.
    pub(crate) fn own_call_id(&self, label: &str, parts: &[&[u8]], salt: u32) -> String {
        let salt = salt.to_be_bytes();
        let head: [&[u8]; 2] = [label.as_bytes(), &salt];
        format!("rlv-{label}-{:016x}", self.hash("call-id", head.into_iter().chain(parts.iter().copied())))
    }

    /// A number of our own for these parts.
    pub(crate) fn own_number(&self, label: &str, parts: &[&[u8]]) -> u64 {
        self.hash("number", [label.as_bytes()].into_iter().chain(parts.iter().copied()))
    }

    /// A tag of our own for these parts.
    pub(crate) fn own_tag(&self, label: &str, parts: &[&[u8]]) -> String {
        format!(
            "rlv{:016x}",
            self.hash("own-tag", [label.as_bytes()].into_iter().chain(parts.iter().copied()))
        )
    }

    /// Key of the server transaction that a request belongs to (§17.2.3); `None` without a readable top Via. An
    /// INVITE, its CANCEL and the ACK of its failure have the same one.
    pub(crate) fn server_key(&self, request: &Message<'_>) -> Option<ServerKey> {
        let via = request.top_via().ok()?;
        let sent_by = format!("{}:{}", via.host, via.port_or_default());
        let branch = match via.rfc3261_branch() {
            Some(branch) => branch.to_owned(),
            None => self.rfc2543_key(request, &via),
        };
        Some(ServerKey { branch, sent_by })
    }

    /// §17.2.3 for those that write no magic cookie. The To tag is left out, as the ACK has one and the INVITE not.
    fn rfc2543_key(&self, request: &Message<'_>, via: &Via<'_>) -> String {
        let cseq = request.cseq().map_or(0, |c| c.number).to_be_bytes();
        let parts: [&[u8]; 5] = [
            request.request_uri_str().as_bytes(),
            request.from_tag().unwrap_or_default().as_bytes(),
            request.call_id().unwrap_or_default().as_bytes(),
            &cseq,
            via.raw,
        ];
        format!("rfc2543-{:016x}", self.hash("server", parts))
    }
}

/// The loop digest in a branch that we may have written.
pub(crate) fn loop_digest_in(branch: &str) -> Option<u64> {
    let (id, digest) = branch.strip_prefix("z9hG4bK")?.split_once('.')?;
    if id.len() != 16 || digest.len() != 16 {
        return None;
    }
    u64::from_str_radix(digest, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_never_change() {
        // Engines of different versions must agree while one takes over from the other.
        assert_eq!([b"a".as_slice(), b"abc@host", b""].map(|id| shard_of(id, 64)), [19, 15, 44]);
        assert_eq!(shard_of(b"x", 0), 0);
        assert_eq!(shard_of(b"x", 1), 0);
    }

    #[test]
    fn a_copy_has_one_branch_for_one_cseq_whichever_way_it_came_there() {
        let keys = Keys::new([7; 16]);
        let base = "z9hG4bK0123456789abcdef.00000000000000ff";
        let two = keys.moved_branch(base, None, 2);
        let three = keys.moved_branch(&two, Some(2), 3);
        assert_eq!(three, keys.moved_branch(base, None, 3));
        assert!(two != three && two != base && loop_digest_in(&three) == Some(0xff));
    }

    #[test]
    fn a_branch_carries_its_loop_digest() {
        let key = ServerKey { branch: "z9hG4bKa".into(), sent_by: "h:5060".into() };
        let branch = Keys::new([7; 16]).via_branch(&key, "INVITE", [&b"sip:b@h"[..]], 0xabc);
        assert_eq!(loop_digest_in(&branch), Some(0xabc));
        assert_eq!(loop_digest_in("z9hG4bK-1-2.3"), None);
        let other = Keys::new([8; 16]).via_branch(&key, "INVITE", [&b"sip:b@h"[..]], 0xabc);
        assert_ne!(branch, other);
    }
}
