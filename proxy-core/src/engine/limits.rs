//! The bounds of one engine: whatever comes in, its memory and the work per datagram end here.

use std::time::Duration;

/// INVITE transactions at once; more INVITEs get a 503.
pub const MAX_CALLS: usize = 50_000;
/// Other transactions at once; the oldest finished ones give way, and if there is none, requests get a 503.
pub const MAX_EXCHANGES: usize = 100_000;
/// Requests of our own at once; what would start more is refused, and tried again by whoever wants it.
pub const MAX_ERRANDS: usize = 50_000;
/// Bytes of messages kept for all transactions; a request that would go beyond gets a 503.
pub const MAX_HELD_BYTES: usize = 512 << 20;
/// Bytes counted for a transaction besides its messages.
pub const TRANSACTION_BYTES: usize = 1024;
/// Proposals without a verdict; a request that needs one more is refused as if the cluster had said "overloaded".
pub const MAX_TICKETS: usize = 100_000;
/// Outputs that nobody has fetched; further transmissions are lost, as if the network had lost them.
pub const MAX_OUTPUTS: usize = 400_000;
/// Copies of one request sent at once (RFC 5393 asks for a bound): further bindings of the user are not tried.
pub const MAX_FORKS: usize = 32;
/// Other addresses of one target that a branch may go on at (RFC 3263 §4.3).
pub const MAX_NEXT_FLOWS: usize = 7;
/// Other flows of one phone that a branch may go on by (RFC 5626 §7).
pub const MAX_OTHER_FLOWS: usize = 3;
/// How often one request may come through this proxy with different targets (a spiral) before that is a loop.
pub const MAX_SPIRALS: usize = 4;
/// Rounds of branches of one call; a 3xx that comes later is passed on, not followed.
pub const MAX_REDIRECT_ROUNDS: u16 = 8;
/// Different 2xx (by To tag) of one branch that are passed on.
pub const MAX_ANSWERS_PER_BRANCH: usize = 8;
/// Changes of a branch's provisional state that are replicated, apart from those that move timer C.
pub const MAX_PROGRESS_PER_BRANCH: u8 = 8;
/// Largest request in bytes; beyond it is a 513.
pub const MAX_REQUEST_BYTES: usize = 16_384;
/// Longest Request-URI in bytes; beyond it is a 414.
pub const MAX_REQUEST_URI_BYTES: usize = 512;
/// Longest Call-ID, tag or top branch in bytes that is accepted in a request; they are keys of what is remembered.
pub const MAX_KEY_BYTES: usize = 256;
/// Seconds that a client is told to wait after a 503.
pub const RETRY_AFTER_S: &str = "2";
/// The same where the disks have no room for more.
pub const NO_ROOM_RETRY_AFTER_S: &str = "30";
/// Seconds that a stranger is told to wait when as much is kept for strangers as may be.
pub const STRANGER_RETRY_AFTER_S: &str = "10";
/// How often the engine of shard 0 looks whether replicated records have come to their end.
pub const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
/// Destinations of a set, or trunks, that one request is tried at one after the other.
pub const MAX_FAILOVERS: usize = 16;
/// Probes of dispatcher destinations sent in one go of the chores.
pub const MAX_PROBES_PER_TICK: usize = 200;
/// Registrations at trunks begun in one go of the chores.
pub const MAX_TRUNKS_PER_TICK: usize = 100;
/// Addresses of record whose contacts are pinged in one tick: with a million of them a lap takes 100 s instead of 30.
pub const MAX_PINGS_PER_TICK: usize = 5_000;
/// Dialogs whose BYEs are begun in one go of the chores.
pub const MAX_ENDS_PER_TICK: usize = 100;
/// Nonce counts that wait for a command to travel with; then they go by themselves.
pub const MAX_COUNTS: usize = 64;
/// How often an engine looks what it has to do by itself: probes, registrations at trunks, pings, ends of calls.
pub const CHORES_INTERVAL: Duration = Duration::from_millis(500);
/// NOTIFYs numbered by one engine between two goes of the chores: also how fast all watchers are told after a takeover.
pub const MAX_NOTIFIES_PER_TICK: usize = 200;
/// Users whose stored messages are delivered in one go.
pub const MAX_DELIVERIES_PER_TICK: usize = 100;
