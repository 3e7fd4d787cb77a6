//! The bounds of the replicated state.
//!
//! They are part of what a log means: a node that replays an old log under other bounds could come to another
//! state. Whoever changes one has to do it together with the format version of the log.
//!
//! Bounds are checked where something is admitted (a new contact, a new call, a new branch). What ends or moves a
//! record that is in already is never refused for want of room, so that a full proxy can still finish its calls.

/// Contacts over all AORs.
pub const MAX_BINDINGS: u64 = 1_000_000;
/// Contacts of one AOR, whatever the configuration says: each REGISTER looks at all of them.
pub const MAX_BINDINGS_PER_AOR: usize = 256;
/// Changes in one REGISTER: each is compared with all contacts of the AOR.
pub const MAX_CHANGES_PER_REGISTER: usize = 256;
/// Media proxies that are put aside, or that are known to be dead.
pub const MAX_MEDIA_NODES: usize = 256;
/// Pending INVITEs.
pub const MAX_PENDING: usize = 200_000;
/// Dialogs and pending INVITEs together: each pending INVITE has room for its dialog reserved.
pub const MAX_DIALOGS: usize = 1_000_000;
/// Branches of one INVITE, over its whole life.
pub const MAX_BRANCHES: usize = 64;
/// Records of a kind that one `Expire` removes, so that everybody else waits for some milliseconds at most; what is left
/// is for the next one.
pub const MAX_EXPIRED_AT_ONCE: usize = 1_000;
/// Steps in the plan of one INVITE.
pub const MAX_STEPS: usize = 32;
/// Bytes of text in one binding.
pub const MAX_BINDING_BYTES: usize = 8 * 1024;
/// Bytes of text and messages in one pending INVITE when it is admitted, or when branches are added.
pub const MAX_PENDING_BYTES: usize = 256 * 1024;
/// Bytes of text in one dialog.
pub const MAX_DIALOG_BYTES: usize = 32 * 1024;
/// Bytes of SDP kept of what two phones have agreed on, offer and answer together: much less than a dialog may have, as
/// no dialog must be left out for it.
pub const MAX_AGREED_BYTES: usize = 16 * 1024;
/// Callees of one INVITE with whom media were settled or changed before the 2xx.
pub const MAX_EARLY_MEDIA: usize = 16;
/// Bytes of text and messages in all records together; what they take in memory is up to three times as much.
pub const MAX_STATE_BYTES: u64 = 1 << 30;
/// Destinations of the dispatcher over all sets.
pub const MAX_DESTINATIONS: usize = 10_000;
/// Bytes of text in one destination.
pub const MAX_DESTINATION_BYTES: usize = 2 * 1024;
/// Trunks.
pub const MAX_TRUNKS: usize = 10_000;
/// Bytes of text in one trunk.
pub const MAX_TRUNK_BYTES: usize = 8 * 1024;
/// Characters kept of what a registrar said last.
pub const MAX_TRUNK_WORDS: usize = 200;
/// Bytes of text in the Service-Route of a registrar, all values together.
pub const MAX_TRUNK_ROUTE_BYTES: usize = 1024;
/// Source addresses of one trunk.
pub const MAX_TRUNK_SOURCES: usize = 64;
/// Milliseconds past timer C after which a pending INVITE goes even if nobody ended it: much longer than any
/// takeover takes, so that only an entry that its engine lost is hit.
pub const PENDING_GRACE_MS: u64 = 10 * 60 * 1000;

/// Bytes kept of one text in accounting: what Kamailio's columns hold.
pub const MAX_ACCOUNT_TEXT: usize = 255;
/// Records of accounting that wait for a place to write them: then the oldest go.
pub const MAX_OUTBOX_RECORDS: usize = 500_000;
/// Bytes of the records that wait.
pub const MAX_OUTBOX_BYTES: u64 = 192 << 20;
/// Records kept for `cdr list` where no place writes any.
pub const MAX_OUTBOX_UNCLAIMED: usize = 1_000;
/// Places that write records.
pub const MAX_OUTBOX_PLACES: usize = 64;
/// Refused calls that leave a record in one second, at most.
pub const MAX_REFUSED_PER_S: u32 = 1_000;
/// Seconds for which a refused INVITE may be repeated: 64*T1 (RFC 3261 §17.1.1.2).
pub const REPEATED_S: usize = 32;
/// Refused calls whose repetitions are known: all that are recorded while one of them may be repeated. 16 bytes each.
pub const MAX_REFUSED_KNOWN: usize = MAX_REFUSED_PER_S as usize * REPEATED_S;
/// Keys under which one call is counted.
pub const MAX_COUNT_KEYS: usize = 16;
/// Milliseconds past its end after which a dialog goes even if nobody has ended it: much longer than any takeover and the
/// BYE to both sides take.
pub const DIALOG_GRACE_MS: u64 = 10 * 60 * 1000;

/// Subscribers.
pub const MAX_SUBSCRIBERS: u64 = 1_000_000;
/// Domains beside the configured ones.
pub const MAX_DOMAINS: usize = 10_000;
/// Aliases.
pub const MAX_ALIASES: usize = 1_000_000;
/// Access list entries over all groups.
pub const MAX_ACL: usize = 100_000;
/// Bytes of one text in what is provisioned: a name, a domain, a realm, a tag, an AOR.
pub const MAX_PROVISION_TEXT: usize = 255;

/// Subscriptions.
pub const MAX_SUBSCRIPTIONS: usize = 200_000;
/// Subscriptions to the calls of one user: each change of a call is told to all of them.
pub const MAX_WATCHERS_PER_AOR: usize = 512;
/// Bytes of text in one subscription when it is made or refreshed.
pub const MAX_SUBSCRIPTION_BYTES: usize = 8 * 1024;
/// Calls of one user that a watcher is told of.
pub const MAX_SHOWN: usize = 32;
/// Messages that wait, over all users, whatever the configuration says.
pub const MAX_MESSAGES: u64 = 1_000_000;
/// Messages that wait for one user, whatever the configuration says.
pub const MAX_MESSAGES_PER_USER: usize = 1000;
/// Bytes of text in one message that waits.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Receipts of messages that were taken: then the oldest go, whose senders are the least likely to repeat them.
pub const MAX_RECEIPTS: usize = 200_000;
/// Bytes counted for a receipt.
pub const RECEIPT_BYTES: usize = 16;
/// Nonces whose counts are remembered; then the oldest go, and are not taken again.
pub const MAX_NONCES: usize = 200_000;
/// Bytes counted for one of them.
pub const NONCE_BYTES: usize = 64;

/// Whether one more INVITE is admitted beside so many.
pub(super) fn admits_invite(pending: usize, dialogs: usize) -> bool {
    pending < MAX_PENDING && pending + dialogs < MAX_DIALOGS
}

/// Whether so many more contacts and bytes are admitted beside so many.
pub(super) fn admits_contacts(bindings: u64, more: u64, bytes: u64, more_bytes: u64) -> bool {
    (more == 0 || bindings + more <= MAX_BINDINGS) && admits_bytes(bytes, more_bytes)
}

/// Whether so many more bytes are admitted beside so many; no more always are.
pub(super) fn admits_bytes(bytes: u64, more: u64) -> bool {
    more == 0 || bytes + more <= MAX_STATE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_admitted_only_with_room_for_its_dialog() {
        assert!(admits_invite(0, MAX_DIALOGS - 1));
        assert!(!admits_invite(0, MAX_DIALOGS));
        assert!(!admits_invite(1, MAX_DIALOGS - 1));
        assert!(admits_invite(MAX_PENDING - 1, 0));
        assert!(!admits_invite(MAX_PENDING, 0));
    }

    #[test]
    fn a_full_location_service_still_refreshes_and_removes() {
        assert!(admits_contacts(MAX_BINDINGS - 1, 1, 0, 1));
        assert!(!admits_contacts(MAX_BINDINGS, 1, 0, 1));
        assert!(!admits_contacts(0, 1, MAX_STATE_BYTES, 1));
        assert!(admits_contacts(0, 1, MAX_STATE_BYTES - 1, 1));
        assert!(admits_contacts(MAX_BINDINGS, 0, MAX_STATE_BYTES, 0));
    }
}
