//! What is derived from the records: who ends when, how many there are, how large they are.
//!
//! It is not serialised and does not count in comparisons; it is rebuilt on load. With it an `Expire` that finds
//! nothing due costs three look-ups, however many records there are; one that does costs by what it removes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::accounting::record_bytes;
use super::backing::{Backend, backend_bytes};
use super::dispatcher::{Destination, Dispatcher};
use super::limits::{DIALOG_GRACE_MS, NONCE_BYTES, PENDING_GRACE_MS};
use super::media::{early_bytes, media_bytes, media_of_pending};
use super::message_store::{MessageIndex, StoredMessage, messages_bytes, receipts_bytes};
use super::news::{News, NewsItem};
use super::parties::{CallFacts, CallLimit, CountKey, facts_bytes};
use super::provision::ProvisionIndex;
use super::subscriptions::{Subscription, SubscriptionIndex, subscription_bytes};
use super::trunk::{Trunk, TrunkIndex};
use super::{
    Binding, Branch, BranchState, DialogId, DialogRecord, InviteState, PendingInvite, Place, Records,
    ServerKey,
};
use crate::time::WallTime;

/// Bytes counted for a flow in a list.
const FLOW_BYTES: usize = 64;

/// Ends and sizes, derived from [`Records`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Earliest end among the contacts of each AOR.
    pub(super) bindings: BTreeSet<(WallTime, String)>,
    /// End of each pending INVITE.
    pub(super) pending: BTreeSet<(WallTime, ServerKey)>,
    /// When the proxy has to end each dialog.
    pub(super) dialogs: BTreeSet<(WallTime, DialogId)>,
    /// Dialogs that somebody has asked to be ended.
    pub(super) ending: BTreeSet<DialogId>,
    /// Pending INVITEs that somebody has asked to be ended.
    pub(super) invites_ending: BTreeSet<ServerKey>,
    /// Calls under way and answered.
    pub(super) counts: BTreeMap<CountKey, u32>,
    /// Ways back to the trunks.
    pub(super) trunks: TrunkIndex,
    /// Calls at each destination of the dispatcher: those under way and those that are answered.
    pub(super) loads: BTreeMap<u32, BTreeMap<String, u32>>,
    /// Contacts over all AORs.
    pub(super) binding_count: u64,
    /// Bytes of text and messages in all records.
    pub(super) bytes: u64,
    /// Bytes of the records that wait.
    pub(super) outbox_bytes: u64,
    /// Refused calls whose repetitions are known.
    pub(super) refused: BTreeSet<[u8; 16]>,
    /// Of what is provisioned.
    pub(super) provision: ProvisionIndex,
    /// Users by the names of their registrations (RFC 5627).
    pub(super) gruus: BTreeMap<u64, String>,
    /// Watchers.
    pub(super) subscriptions: SubscriptionIndex,
    /// Messages that wait.
    pub(super) messages: MessageIndex,
    /// Calls of each user of ours who makes or gets some.
    pub(super) calls: BTreeMap<String, UserCalls>,
    /// Calls at each media proxy: those under way and those that are answered.
    pub(super) media: BTreeMap<SocketAddr, u32>,
    /// What engines may want to know.
    pub(super) news: News,
}

/// Calls of one user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UserCalls {
    /// INVITEs without an end.
    pub(super) pending: BTreeSet<ServerKey>,
    /// Dialogs.
    pub(super) dialogs: BTreeSet<DialogId>,
}

impl Index {
    pub(super) fn build(records: &Records) -> Self {
        let mut this = Self::default();
        records.bindings.iter().for_each(|(aor, list)| this.add_bindings(aor, list));
        records.pending.values().for_each(|p| this.add_pending(p));
        records.dialogs.values().for_each(|d| this.add_dialog(d));
        this.add_dispatcher(&records.dispatcher);
        records.trunks.trunks.values().for_each(|t| this.add_trunk(t));
        let (provision, bytes) = ProvisionIndex::build(&records.provision);
        this.provision = provision;
        this.outbox_bytes = records.outbox.records.values().map(|r| record_bytes(r) as u64).sum();
        this.refused = records.outbox.refused.iter().copied().collect();
        this.bytes += bytes;
        records.subscriptions.all.values().for_each(|s| this.add_subscription(s));
        records.messages.users.iter().for_each(|(aor, list)| this.add_messages(aor, list));
        records.messages.receipts.iter().for_each(|(receipt, ends)| this.add_receipt(*receipt, *ends));
        this.add_nonces(records.nonces.len());
        this
    }

    pub(super) fn add_bindings(&mut self, aor: &str, list: &[Binding]) {
        if let Some(end) = earliest_end(list) {
            self.bindings.insert((end, aor.to_owned()));
        }
        self.binding_count += list.len() as u64;
        self.bytes += bindings_bytes(aor, list);
        for name in list.iter().filter_map(|b| b.gruu) {
            self.gruus.insert(name, aor.to_owned());
        }
    }

    /// Says that a user has other contacts now, if messages wait for him.
    pub(super) fn tell_contacts(&mut self, aor: &str) {
        self.news.push(NewsItem::Contacts { aor: aor.to_owned() });
    }

    fn tell_calls(&mut self, aor: &str) {
        if self.subscriptions.is_watched(aor) {
            self.news.push(NewsItem::Calls { aor: aor.to_owned() });
        }
    }

    fn add_call(&mut self, aor: &str, add: impl FnOnce(&mut UserCalls)) {
        self.tell_calls(aor);
        add(self.calls.entry(aor.to_owned()).or_default());
    }

    fn remove_call(&mut self, aor: &str, remove: impl FnOnce(&mut UserCalls)) {
        self.tell_calls(aor);
        if let Some(calls) = self.calls.get_mut(aor) {
            remove(calls);
            if calls.pending.is_empty() && calls.dialogs.is_empty() {
                self.calls.remove(aor);
            }
        }
    }

    pub(super) fn add_subscription(&mut self, s: &Subscription) {
        self.subscriptions.add(s);
        self.bytes += subscription_bytes(s) as u64;
    }

    pub(super) fn remove_subscription(&mut self, s: &Subscription) {
        self.subscriptions.remove(s);
        self.bytes = self.bytes.saturating_sub(subscription_bytes(s) as u64);
    }

    pub(super) fn add_messages(&mut self, aor: &str, list: &BTreeMap<u64, StoredMessage>) {
        self.messages.add(aor, list);
        self.bytes += messages_bytes(aor, list) as u64;
    }

    pub(super) fn remove_messages(&mut self, aor: &str, list: &BTreeMap<u64, StoredMessage>) {
        self.messages.remove(aor, list);
        self.bytes = self.bytes.saturating_sub(messages_bytes(aor, list) as u64);
    }

    pub(super) fn add_nonces(&mut self, count: usize) {
        self.bytes += (count * NONCE_BYTES) as u64;
    }

    pub(super) fn remove_nonces(&mut self, count: usize) {
        self.bytes = self.bytes.saturating_sub((count * NONCE_BYTES) as u64);
    }

    pub(super) fn add_receipt(&mut self, receipt: u64, ends: WallTime) {
        self.messages.receipts.insert((ends, receipt));
        self.bytes += receipts_bytes(1);
    }

    pub(super) fn remove_first_receipt(&mut self) -> Option<(WallTime, u64)> {
        let first = self.messages.receipts.pop_first()?;
        self.bytes = self.bytes.saturating_sub(receipts_bytes(1));
        Some(first)
    }

    pub(super) fn remove_bindings(&mut self, aor: &str, list: &[Binding]) {
        if let Some(end) = earliest_end(list) {
            self.bindings.remove(&(end, aor.to_owned()));
        }
        self.binding_count = self.binding_count.saturating_sub(list.len() as u64);
        self.bytes = self.bytes.saturating_sub(bindings_bytes(aor, list));
        for name in list.iter().filter_map(|b| b.gruu) {
            self.gruus.remove(&name);
        }
    }

    pub(super) fn add_pending(&mut self, record: &PendingInvite) {
        self.pending.insert((pending_end(record), record.key.clone()));
        if record.ending.is_some() && is_undecided(record) {
            self.invites_ending.insert(record.key.clone());
        }
        for aor in users_of_pending(record) {
            self.add_call(aor, |calls| {
                calls.pending.insert(record.key.clone());
            });
        }
        self.bytes += pending_bytes(record) as u64;
        self.count(counted(record));
        for (set, uri) in serving(record) {
            *self.loads.entry(set).or_default().entry(uri.to_owned()).or_default() += 1;
        }
        self.load_media(media_of_pending(record));
    }

    pub(super) fn remove_pending(&mut self, record: &PendingInvite) {
        self.pending.remove(&(pending_end(record), record.key.clone()));
        self.invites_ending.remove(&record.key);
        for aor in users_of_pending(record) {
            self.remove_call(aor, |calls| {
                calls.pending.remove(&record.key);
            });
        }
        self.bytes = self.bytes.saturating_sub(pending_bytes(record) as u64);
        self.uncount(counted(record));
        serving(record).for_each(|(set, uri)| self.unload(set, uri));
        self.unload_media(media_of_pending(record));
    }

    pub(super) fn add_dialog(&mut self, record: &DialogRecord) {
        self.dialogs.insert((dialog_end(record), record.id.clone()));
        if record.ending.is_some() {
            self.ending.insert(record.id.clone());
        }
        self.count(record.facts.as_deref());
        for aor in users_of_dialog(record) {
            self.add_call(aor, |calls| {
                calls.dialogs.insert(record.id.clone());
            });
        }
        self.bytes += dialog_bytes(record) as u64;
        if let Some(Backend::Destination { set, uri }) = &record.backing.backend {
            *self.loads.entry(*set).or_default().entry(uri.clone()).or_default() += 1;
        }
        self.load_media(record.media.as_ref().map(|m| m.node));
    }

    pub(super) fn remove_dialog(&mut self, record: &DialogRecord) {
        self.dialogs.remove(&(dialog_end(record), record.id.clone()));
        self.ending.remove(&record.id);
        self.uncount(record.facts.as_deref());
        for aor in users_of_dialog(record) {
            self.remove_call(aor, |calls| {
                calls.dialogs.remove(&record.id);
            });
        }
        self.bytes = self.bytes.saturating_sub(dialog_bytes(record) as u64);
        if let Some(Backend::Destination { set, uri }) = &record.backing.backend {
            self.unload(*set, uri);
        }
        self.unload_media(record.media.as_ref().map(|m| m.node));
    }

    fn load_media(&mut self, node: Option<SocketAddr>) {
        if let Some(node) = node {
            *self.media.entry(node).or_default() += 1;
        }
    }

    fn unload_media(&mut self, node: Option<SocketAddr>) {
        let Some(node) = node else { return };
        if let Some(count) = self.media.get_mut(&node) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.media.remove(&node);
            }
        }
    }

    fn count(&mut self, facts: Option<&CallFacts>) {
        for CallLimit { key, .. } in facts.into_iter().flat_map(|f| &f.counted) {
            *self.counts.entry(key.clone()).or_default() += 1;
        }
    }

    fn uncount(&mut self, facts: Option<&CallFacts>) {
        for CallLimit { key, .. } in facts.into_iter().flat_map(|f| &f.counted) {
            if let Some(count) = self.counts.get_mut(key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.counts.remove(key);
                }
            }
        }
    }

    /// One call less. What comes to nothing goes, so that an index kept up is equal to one that was built.
    fn unload(&mut self, set: u32, uri: &str) {
        let Some(list) = self.loads.get_mut(&set) else { return };
        if let Some(count) = list.get_mut(uri) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                list.remove(uri);
            }
        }
        if list.is_empty() {
            self.loads.remove(&set);
        }
    }

    pub(super) fn add_dispatcher(&mut self, dispatcher: &Dispatcher) {
        self.bytes += dispatcher_bytes(dispatcher);
    }

    pub(super) fn remove_dispatcher(&mut self, dispatcher: &Dispatcher) {
        self.bytes = self.bytes.saturating_sub(dispatcher_bytes(dispatcher));
    }

    pub(super) fn add_trunk(&mut self, trunk: &Trunk) {
        self.trunks.add(trunk);
        self.bytes += trunk_bytes(trunk) as u64;
    }

    pub(super) fn remove_trunk(&mut self, trunk: &Trunk) {
        self.trunks.remove(trunk);
        self.bytes = self.bytes.saturating_sub(trunk_bytes(trunk) as u64);
    }
}

/// Our users in a call that is not decided: who calls, and who is called now.
fn users_of_pending(record: &PendingInvite) -> BTreeSet<&str> {
    let undecided = record.state == InviteState::Proceeding;
    let caller = record.facts.as_ref().and_then(|f| f.caller.as_deref());
    let called = record.branches.iter().filter_map(|b| b.backing.called.as_deref());
    // Within a dialog there is no new call.
    let is_call = record.facts.is_some();
    caller.into_iter().chain(called).filter(|_| undecided && is_call).collect()
}

fn users_of_dialog(record: &DialogRecord) -> BTreeSet<&str> {
    let caller = record.facts.as_ref().and_then(|f| f.caller.as_deref());
    caller.into_iter().chain(record.backing.called.as_deref()).collect()
}

fn is_undecided(record: &PendingInvite) -> bool {
    matches!(record.state, InviteState::Proceeding | InviteState::Cancelled)
}

/// What a call is counted under while it is not decided; then its dialogs count.
fn counted(record: &PendingInvite) -> Option<&CallFacts> {
    let undecided = matches!(record.state, InviteState::Proceeding | InviteState::Cancelled);
    record.facts.as_deref().filter(|_| undecided)
}

/// When the proxy has to end a dialog.
fn dialog_end(record: &DialogRecord) -> WallTime {
    let session = record.session.map(|s| s.expires_at);
    [session, record.ack_until].into_iter().flatten().fold(record.expires_at, WallTime::min)
}

/// When a dialog goes that should have been ended then.
pub(super) fn dialog_forgotten(end: WallTime) -> WallTime {
    WallTime(end.0.saturating_add(DIALOG_GRACE_MS))
}

/// Destinations that a call is at while it is not answered.
fn serving(record: &PendingInvite) -> impl Iterator<Item = (u32, &str)> {
    let undecided = matches!(record.state, InviteState::Proceeding | InviteState::Cancelled);
    record
        .branches
        .iter()
        .filter(move |b| undecided && !matches!(b.state, BranchState::Final { .. }))
        .filter_map(|b| match &b.backing.backend {
            Some(Backend::Destination { set, uri }) => Some((*set, uri.as_str())),
            _ => None,
        })
}

fn dispatcher_bytes(dispatcher: &Dispatcher) -> u64 {
    dispatcher.sets.values().flatten().map(|d| destination_bytes(d) as u64).sum()
}

/// Bytes of text in a destination.
pub(super) fn destination_bytes(d: &Destination) -> usize {
    d.uri.len() + d.attrs.duid.len() + d.attrs.body.len() + d.description.len()
}

/// Bytes of text in a trunk. What happened last is left out: it has a bound of its own.
pub(super) fn trunk_bytes(t: &Trunk) -> usize {
    let a = &t.account;
    let names = [
        &a.uuid,
        &a.local_user,
        &a.local_domain,
        &a.remote_user,
        &a.remote_domain,
        &a.realm,
        &a.auth_user,
        &a.proxy,
        &a.contact_user,
        &t.registration.call_id,
    ];
    names.iter().map(|n| n.len()).sum::<usize>()
        + texts(&a.sources)
        + texts(&t.registration.service_route)
        + a.style.bytes()
}

fn earliest_end(list: &[Binding]) -> Option<WallTime> {
    list.iter().map(|b| b.expires_at).min()
}

/// When a pending INVITE may be forgotten: when its answer needs no more care, or long after timer C.
fn pending_end(record: &PendingInvite) -> WallTime {
    match &record.state {
        InviteState::Proceeding | InviteState::Cancelled => {
            WallTime(record.timer_c_at.0.saturating_add(PENDING_GRACE_MS))
        }
        InviteState::Answered { forget_at, .. } | InviteState::Failed { forget_at, .. } => *forget_at,
    }
}

fn bindings_bytes(aor: &str, list: &[Binding]) -> u64 {
    if list.is_empty() { 0 } else { (aor.len() + list.iter().map(binding_bytes).sum::<usize>()) as u64 }
}

/// Bytes of text in a binding.
pub(super) fn binding_bytes(b: &Binding) -> usize {
    b.contact.len()
        + b.contact_key.len()
        + texts(&b.path)
        + b.call_id.len()
        + b.instance.as_ref().map_or(0, String::len)
        + b.user_agent.len()
}

/// Bytes of text and messages in a pending INVITE.
pub(super) fn pending_bytes(p: &PendingInvite) -> usize {
    let state = match &p.state {
        InviteState::Proceeding | InviteState::Cancelled => 0,
        InviteState::Answered { response, .. } | InviteState::Failed { response, .. } => response.len(),
    };
    let planned = p.plan.iter().flat_map(|step| &step.branches);
    let branches: usize = p.branches.iter().chain(planned).map(branch_bytes).sum();
    facts_bytes(p.facts.as_deref())
        + media_bytes(p.media.as_deref())
        + early_bytes(&p.early_media)
        + key_bytes(&p.key)
        + p.call_id.len()
        + p.request.len()
        + p.local_tag.len()
        + state
        + branches
}

fn branch_bytes(b: &Branch) -> usize {
    let headers: usize = b.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let backing =
        backend_bytes(b.backing.backend.as_ref()) + b.backing.from_trunk.as_ref().map_or(0, String::len);
    let called = b.backing.called.as_ref().map_or(0, String::len);
    let left: usize = b.left.iter().map(|(via_branch, place)| via_branch.len() + place_bytes(place)).sum();
    let others: usize = b.others.iter().map(place_bytes).sum();
    let flows = b.next.len() * FLOW_BYTES + left + others;
    let texts = b.target.len() + texts(&b.route) + b.via_branch.len() + headers + backing;
    let dress = b.backing.dress.as_ref().map_or(0, |d| d.bytes());
    texts + flows + called + dress + branch_state_bytes(&b.state)
}

fn place_bytes(place: &Place) -> usize {
    place.target.len() + texts(&place.route) + FLOW_BYTES
}

/// Bytes of text and messages in the state of a branch.
pub(super) fn branch_state_bytes(state: &BranchState) -> usize {
    match state {
        BranchState::Trying => 0,
        BranchState::Proceeding { to_tag, .. } => to_tag.as_ref().map_or(0, String::len),
        BranchState::Final { response, .. } => response.len(),
    }
}

/// Bytes of text in a dialog.
pub(super) fn dialog_bytes(d: &DialogRecord) -> usize {
    backend_bytes(d.backing.backend.as_ref())
        + facts_bytes(d.facts.as_deref())
        + media_bytes(d.media.as_deref())
        + d.backing.called.as_ref().map_or(0, String::len)
        + d.backing.towards_caller.trunk.as_ref().map_or(0, String::len)
        + d.backing.towards_callee.trunk.as_ref().map_or(0, String::len)
        + d.backing.renamed.as_ref().map_or(0, |r| r.bytes())
        + d.id.call_id.len()
        + d.id.from_tag.len()
        + d.id.to_tag.len()
        + d.from_uri.len()
        + d.to_uri.len()
        + d.request_uri.len()
        + d.caller_target.len()
        + d.callee_target.len()
        + texts(&d.caller_route)
        + texts(&d.callee_route)
}

fn key_bytes(key: &ServerKey) -> usize {
    key.branch.len() + key.sent_by.len()
}

fn texts(list: &[String]) -> usize {
    list.iter().map(String::len).sum()
}
