//! The replicated SIP state: location bindings, pending INVITEs, dialogs, and the one function that changes
//! them. Deterministic and total: equal commands in equal order give equal states on every node.

pub mod accounting;
mod apply;
mod backing;
mod changes;
mod command;
pub mod dispatcher;
pub mod dress;
mod index;
pub mod limits;
pub mod media;
pub mod message_store;
mod news;
mod nonces;
mod parties;
pub mod pmap;
mod provision;
mod store;
pub mod subscriptions;
pub mod trunk;
pub mod trunk_style;
mod types;
mod undo;

pub use accounting::{
    AccountRecord, AccountingCommand, CallTimes, Outbox, OutboxFigures, PlaceId, RecordKind, RefusedCall,
};
pub use backing::{Backend, Backing, DialogBacking, Leg};
pub use changes::Changes;
pub use command::{
    ProvisionAnswer, ProvisionCommand, RegisterChange, RegisterCommand, RegisterRefusal, SipCommand,
    SipResponse,
};
pub use dress::{Asserted, Dress, Renamed, Swap};
pub use media::{Agreed, EarlyMedia, MediaCommand, MediaNodes, MediaSession, Spoken};
pub use news::NewsItem;
pub use nonces::{Count, CountUse, NonceCounts, NonceId};
pub use parties::{CallFacts, CallLimit, CountKey, EndedBy, Ending, SessionTimer, account_text};
pub use pmap::{Change, Lost, PMap};
pub use provision::{AclKey, Domain, Ha1, NonceKey, NonceSecret, Provision, Subscriber};
pub use types::{
    Binding, Branch, BranchState, CallId, Contact, DialogId, DialogRecord, Flow, InviteState, NextStep,
    PendingInvite, Place, ServerKey, Transport, When,
};
pub use undo::Kept;

use std::net::IpAddr;

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::{RealTime, WallOffset, WallTime};
use crate::wire::Room;
use index::Index;

/// The replicated SIP state. Only [`SipState::apply`] changes it; engines read it.
///
/// Its serialised form holds the records and nothing else, in the order of their keys: equal states give equal
/// bytes.
#[derive(Debug, Clone, Default)]
pub struct SipState {
    records: Records,
    index: Index,
}

/// What is replicated. Field order is the serialised form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "crate::wire::Room")]
struct Records {
    #[cbor(n(0), with = "crate::wire::map_of_lists", has_nil)]
    bindings: PMap<String, Vec<Binding>>,
    #[cbor(n(1), with = "crate::wire::map", has_nil)]
    pending: PMap<ServerKey, PendingInvite>,
    #[cbor(n(2), with = "crate::wire::map", has_nil)]
    dialogs: PMap<DialogId, DialogRecord>,
    #[n(3)]
    dispatcher: dispatcher::Dispatcher,
    #[n(4)]
    trunks: trunk::Trunks,
    #[n(5)]
    provision: Provision,
    #[n(6)]
    outbox: Outbox,
    #[n(7)]
    subscriptions: subscriptions::Subscriptions,
    #[n(8)]
    messages: message_store::MessageStore,
    #[n(9)]
    media: media::MediaNodes,
    #[n(10)]
    nonces: NonceCounts,
    /// How the holder's wall clock stands to the time of the cluster.
    #[cbor(n(11), with = "crate::wire::added", has_nil)]
    wall_offset: WallOffset,
}

impl PartialEq for SipState {
    fn eq(&self, other: &Self) -> bool {
        self.records == other.records
    }
}

impl Eq for SipState {}

impl Serialize for SipState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.records.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SipState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let records = Records::deserialize(deserializer)?;
        let index = Index::build(&records);
        Ok(Self { records, index })
    }
}

impl<C: Room> Encode<C> for SipState {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), encode::Error<W::Error>> {
        self.records.encode(e, ctx)
    }
}

impl<'b, C: Room> Decode<'b, C> for SipState {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        let records = Records::decode(d, ctx)?;
        let index = Index::build(&records);
        Ok(Self { records, index })
    }
}

impl<C: Room> CborLen<C> for SipState {
    fn cbor_len(&self, ctx: &mut C) -> usize {
        self.records.cbor_len(ctx)
    }
}

/// How many records there are, for `relevo status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Contacts, over all AORs.
    pub bindings: u64,
    /// Dialogs.
    pub dialogs: u64,
    /// INVITEs without an end.
    pub pending_invites: u64,
    /// Subscribers.
    pub subscribers: u64,
    /// Domains beside the configured ones.
    pub domains: u64,
    /// Aliases.
    pub aliases: u64,
    /// Access list entries.
    pub acl: u64,
    /// Subscriptions to the calls of users.
    pub subscriptions: u64,
    /// Messages that wait for their users.
    pub messages: u64,
}

impl SipState {
    /// Derives anew what is derived from the records: after a fault in [`SipState::apply`], which may have left it half done.
    fn mend(&mut self) {
        self.index = Index::build(&self.records);
    }

    /// A copy to be written down, which costs nothing however large the state is. What is derived from the
    /// records is not in it, so that nothing else is to be asked of it.
    #[must_use]
    pub fn frozen(&self) -> Self {
        Self { records: self.records.clone(), index: Index::default() }
    }

    /// What people read for a time of the cluster: by the wall clock of who holds the service.
    #[must_use]
    pub fn real(&self, time: WallTime) -> RealTime {
        self.records.wall_offset.real(time)
    }

    /// How the holder's wall clock stands to the time of the cluster.
    #[must_use]
    pub fn wall_offset(&self) -> WallOffset {
        self.records.wall_offset
    }

    /// Takes in how the holder's wall clock stands to the time of the cluster: part of the application of a stamp.
    pub fn set_wall_offset(&mut self, offset: WallOffset) {
        self.records.wall_offset = offset;
    }

    /// The contacts of an AOR, highest q first, then newest first; may hold expired ones (compare with `now`).
    #[must_use]
    pub fn bindings(&self, aor: &str) -> &[Binding] {
        self.records.bindings.get(aor).map_or(&[], Vec::as_slice)
    }

    /// The user and the contact of the registration with this name (RFC 5627).
    #[must_use]
    pub fn registration(&self, name: u64) -> Option<(&str, &Binding)> {
        let aor = self.index.gruus.get(&name)?;
        Some((aor, self.bindings(aor).iter().find(|b| b.gruu == Some(name))?))
    }

    /// All AORs in order.
    pub fn aors(&self) -> impl Iterator<Item = (&str, &[Binding])> {
        self.records.bindings.iter().map(|(a, b)| (a.as_str(), b.as_slice()))
    }

    /// The AORs after `aor` in their order, to go on where a walk was left.
    pub fn aors_after<'a>(&'a self, aor: &str) -> impl Iterator<Item = (&'a str, &'a [Binding])> + use<'a> {
        use std::ops::Bound::{Excluded, Unbounded};
        let rest = self.records.bindings.range::<str, _>((Excluded(aor), Unbounded));
        rest.map(|(a, b)| (a.as_str(), b.as_slice()))
    }

    /// How many AORs have contacts. Costs nothing.
    #[must_use]
    pub fn aor_count(&self) -> usize {
        self.records.bindings.len()
    }

    /// A pending INVITE.
    #[must_use]
    pub fn pending(&self, key: &ServerKey) -> Option<&PendingInvite> {
        self.records.pending.get(key)
    }

    /// All pending INVITEs in order.
    pub fn pending_invites(&self) -> impl Iterator<Item = &PendingInvite> {
        self.records.pending.values()
    }

    /// A dialog.
    #[must_use]
    pub fn dialog(&self, id: &DialogId) -> Option<&DialogRecord> {
        self.records.dialogs.get(id)
    }

    /// The dialog with this Call-ID and these two tags, whichever side wrote the message they were taken from.
    /// The caller's tag is `id.from_tag` of what is returned. Costs two look-ups.
    #[must_use]
    pub fn dialog_of(&self, call_id: &str, tag_a: &str, tag_b: &str) -> Option<&DialogRecord> {
        let mut id =
            DialogId { call_id: call_id.to_owned(), from_tag: tag_a.to_owned(), to_tag: tag_b.to_owned() };
        if let Some(found) = self.records.dialogs.get(&id) {
            return Some(found);
        }
        std::mem::swap(&mut id.from_tag, &mut id.to_tag);
        self.records.dialogs.get(&id)
    }

    /// All dialogs with this Call-ID, in order of their tags: more than one if the call was forked.
    pub fn dialogs_of_call<'s>(&'s self, call_id: &'s str) -> impl Iterator<Item = &'s DialogRecord> {
        let first = DialogId { call_id: call_id.to_owned(), from_tag: String::new(), to_tag: String::new() };
        self.records.dialogs.range(first..).map(|(_, d)| d).take_while(move |d| d.id.call_id == call_id)
    }

    /// All dialogs in order.
    pub fn dialogs(&self) -> impl Iterator<Item = &DialogRecord> {
        self.records.dialogs.values()
    }

    /// Dialogs that have to be ended by the proxy, those that are due first: longest duration, session timer.
    pub fn dialogs_due(&self, now: WallTime) -> impl Iterator<Item = &DialogRecord> {
        let due = self.index.dialogs.iter().take_while(move |(end, _)| *end <= now);
        due.filter_map(|(_, id)| self.records.dialogs.get(id))
    }

    /// Dialogs that somebody has asked to be ended.
    pub fn dialogs_ending(&self) -> impl Iterator<Item = &DialogRecord> {
        self.index.ending.iter().filter_map(|id| self.records.dialogs.get(id))
    }

    /// Pending INVITEs that somebody has asked to be ended, and that are not decided.
    pub fn invites_ending(&self) -> impl Iterator<Item = &PendingInvite> {
        self.index.invites_ending.iter().filter_map(|key| self.records.pending.get(key))
    }

    /// Calls under way and answered that are counted under a key.
    #[must_use]
    pub fn calls_of(&self, key: &CountKey) -> u32 {
        self.index.counts.get(key).copied().unwrap_or(0)
    }

    /// All keys under which calls are counted, with how many.
    pub fn calls_by_key(&self) -> impl Iterator<Item = (&CountKey, u32)> {
        self.index.counts.iter().map(|(key, count)| (key, *count))
    }

    /// Records of accounting that wait.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.records.outbox
    }

    /// How much waits in the outbox. Costs nothing.
    #[must_use]
    pub fn outbox_figures(&self) -> OutboxFigures {
        let outbox = &self.records.outbox;
        OutboxFigures {
            waiting: outbox.records.len() as u64,
            bytes: self.index.outbox_bytes,
            newest: outbox.newest,
            lost: outbox.lost,
            oldest_at: outbox.records.values().next().map(|r| r.at),
        }
    }

    /// The dispatcher's sets.
    #[must_use]
    pub fn dispatcher(&self) -> &dispatcher::Dispatcher {
        &self.records.dispatcher
    }

    /// Calls at a destination, under way or answered. Costs two look-ups.
    #[must_use]
    pub fn load_of(&self, set: u32, uri: &str) -> u32 {
        self.index.loads.get(&set).and_then(|list| list.get(uri)).copied().unwrap_or(0)
    }

    /// What the operator says of media proxies.
    #[must_use]
    pub fn media_nodes(&self) -> &MediaNodes {
        &self.records.media
    }

    /// Calls at a media proxy, under way or answered. Costs a look-up.
    #[must_use]
    pub fn media_load(&self, node: std::net::SocketAddr) -> u32 {
        self.index.media.get(&node).copied().unwrap_or(0)
    }

    /// A trunk by its name.
    #[must_use]
    pub fn trunk(&self, uuid: &str) -> Option<&trunk::Trunk> {
        self.records.trunks.trunks.get(uuid)
    }

    /// All trunks in order of their names.
    pub fn trunks(&self) -> impl Iterator<Item = &trunk::Trunk> {
        self.records.trunks.trunks.values()
    }

    /// Whether there is any trunk.
    #[must_use]
    pub fn has_trunks(&self) -> bool {
        !self.records.trunks.trunks.is_empty()
    }

    /// Trunks whose registrations have this user in their Contact.
    pub fn trunks_with_contact<'s>(&'s self, user: &'s str) -> impl Iterator<Item = &'s trunk::Trunk> {
        self.index.trunks.with_contact(user).filter_map(|uuid| self.trunk(uuid))
    }

    /// Changes whenever a trunk is found dead.
    #[must_use]
    pub fn trunk_losses(&self) -> u64 {
        self.index.trunks.losses.0
    }

    /// Trunks whose calls come from this address, the longest prefix first.
    pub fn trunks_with_source(&self, address: IpAddr) -> impl Iterator<Item = &trunk::Trunk> {
        self.index.trunks.with_source(address).filter_map(|uuid| self.trunk(uuid))
    }

    /// Trunks that have something to register, earliest first, with when that is due.
    pub fn trunks_by_time(&self) -> impl Iterator<Item = (WallTime, &str)> {
        self.index.trunks.due.iter().map(|(at, uuid)| (*at, uuid.as_str()))
    }

    /// Subscribers, domains, aliases, access lists, and the key of nonces.
    #[must_use]
    pub fn provision(&self) -> &Provision {
        &self.records.provision
    }

    /// The access list entry of `group` that covers a source, with its tag: the one with the longest prefix, and with
    /// that port rather than any. Costs one look-up per prefix length that the group uses.
    #[must_use]
    pub fn acl_match(&self, group: u32, source: IpAddr, port: u16) -> Option<(&AclKey, Option<&str>)> {
        let source = source.to_canonical();
        let v6 = source.is_ipv6();
        let lengths = self.index.provision.prefixes.range((group, v6, 0)..=(group, v6, u8::MAX)).rev();
        lengths.map(|((_, _, prefix), _)| *prefix).find_map(|prefix| {
            let address = provision::network(source, prefix)?;
            [port, 0].into_iter().find_map(|port| {
                let key = AclKey { group, address, prefix, port };
                self.records.provision.acl.get_key_value(&key).map(|(k, tag)| (k, tag.as_deref()))
            })
        })
    }

    /// Which nonce counts were used, by requests to any node.
    #[must_use]
    pub fn nonce_counts(&self) -> &NonceCounts {
        &self.records.nonces
    }

    /// A subscription.
    #[must_use]
    pub fn subscription(&self, id: &DialogId) -> Option<&subscriptions::Subscription> {
        self.records.subscriptions.all.get(id)
    }

    /// All subscriptions in order.
    pub fn subscriptions(&self) -> impl Iterator<Item = &subscriptions::Subscription> {
        self.records.subscriptions.all.values()
    }

    /// Who watches the calls of a user.
    pub fn watchers(&self, aor: &str) -> impl Iterator<Item = &DialogId> {
        self.index.subscriptions.watchers.get(aor).into_iter().flatten()
    }

    /// The subscriptions that end at or before `now`, earliest first.
    pub fn subscriptions_ended(&self, now: WallTime) -> impl Iterator<Item = &DialogId> {
        self.index.subscriptions.ends.iter().take_while(move |(end, _)| *end <= now).map(|(_, id)| id)
    }

    /// The messages kept for a user, with their numbers, in order.
    pub fn messages_of(&self, aor: &str) -> impl Iterator<Item = (u64, &message_store::StoredMessage)> {
        self.records.messages.users.get(aor).into_iter().flatten().map(|(number, m)| (*number, m))
    }

    /// Whether a message with this receipt was taken a moment ago, or waits.
    #[must_use]
    pub fn has_taken_message(&self, receipt: u64) -> bool {
        self.records.messages.receipts.contains_key(&receipt)
    }

    /// Receipts of messages that were taken.
    #[must_use]
    pub fn message_receipts(&self) -> u64 {
        self.records.messages.receipts.len() as u64
    }

    /// All users for whom messages are kept.
    pub fn users_with_messages(&self) -> impl Iterator<Item = &str> {
        self.records.messages.users.keys().map(String::as_str)
    }

    /// Users whose messages are to be tried again at or before `now`, earliest first.
    pub fn messages_due(&self, now: WallTime) -> impl Iterator<Item = &str> {
        self.index.messages.due.iter().take_while(move |(at, _)| *at <= now).map(|(_, aor)| aor.as_str())
    }

    /// INVITEs and dialogs in which a user of ours is calling or being called, in order.
    pub fn calls_of_user(&self, aor: &str) -> (Vec<&PendingInvite>, Vec<&DialogRecord>) {
        let Some(calls) = self.index.calls.get(aor) else { return (Vec::new(), Vec::new()) };
        let pending = calls.pending.iter().filter_map(|key| self.records.pending.get(key));
        let dialogs = calls.dialogs.iter().filter_map(|id| self.records.dialogs.get(id));
        (pending.collect(), dialogs.collect())
    }

    /// How much news there has been; see [`SipState::news_since`].
    #[must_use]
    pub fn news_count(&self) -> u64 {
        self.index.news.count()
    }

    /// What is new since there were so many; `None` if that is not known (any more). Not replicated: each node counts
    /// for itself.
    #[must_use]
    pub fn news_since(&self, seen: u64) -> Option<impl Iterator<Item = &NewsItem>> {
        self.index.news.since(seen)
    }

    /// How many records there are. Costs nothing.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            bindings: self.index.binding_count,
            dialogs: self.records.dialogs.len() as u64,
            pending_invites: self.records.pending.len() as u64,
            subscribers: self.index.provision.subscriber_count,
            domains: self.records.provision.domains.len() as u64,
            aliases: self.records.provision.aliases.len() as u64,
            acl: self.records.provision.acl.len() as u64,
            subscriptions: self.records.subscriptions.all.len() as u64,
            messages: self.index.messages.count,
        }
    }

    /// Bytes of text and messages in all records but those of accounting, as bounded by [`limits::MAX_STATE_BYTES`]. Costs nothing.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.index.bytes
    }

    /// When the next record comes to its end: an `Expire` up to then would find it. Costs nothing.
    #[must_use]
    pub fn next_end(&self) -> Option<WallTime> {
        let bindings = self.index.bindings.first().map(|(end, _)| *end);
        let pending = self.index.pending.first().map(|(end, _)| *end);
        let dialogs = self.index.dialogs.first().map(|(end, _)| index::dialog_forgotten(*end));
        let subscriptions = self.index.subscriptions.next_end();
        let messages = self.index.messages.next_end();
        let nonces = self.records.nonces.next_end();
        [bindings, pending, dialogs, subscriptions, messages, nonces].into_iter().flatten().min()
    }

    /// Whether the derived index says what the records say; for tests and simulations. Walks over everything.
    #[must_use]
    pub fn index_is_right(&self) -> bool {
        self.index == Index::build(&self.records)
    }
}
