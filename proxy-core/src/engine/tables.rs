//! The transactions in memory: how they are found, kept within their bounds, and forgotten.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use super::apart::{name_of_call, name_of_exchange};
use super::limits::{MAX_CALLS, MAX_EXCHANGES, MAX_HELD_BYTES, TRANSACTION_BYTES};
use super::ticket::Awaiting;
use super::{Client, Cx, Engine, Timer};
use crate::msg::Message;
use crate::proxy::call::{Call, Phase};
use crate::proxy::exchange::{Exchange, ExchangeKey};
use crate::state::{Backing, Flow, ServerKey, SipCommand};
use crate::transaction::SharedBytes;
use crate::uac::Errand;

/// A table with room for no more than this many stays as it is.
const KEPT_ROOM: usize = 1024;
/// One with room for this many times what is in it gives memory back.
const TOO_MUCH_ROOM: usize = 8;

/// Takes a record out of a table. What a burst has made large does not stay large: a table by itself never gives memory
/// back.
fn take<K, V, Q>(table: &mut HashMap<K, V>, key: &Q)
where
    K: Eq + Hash + Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    table.remove(key);
    if table.capacity() > KEPT_ROOM.max(table.len().saturating_mul(TOO_MUCH_ROOM)) {
        table.shrink_to(table.len() * 2);
    }
}

impl Engine {
    /// Whether there is room for one more call that holds so many bytes.
    pub(crate) fn has_room_for_call(&self, cost: usize) -> bool {
        self.calls.len() < MAX_CALLS && self.held_bytes + cost <= MAX_HELD_BYTES
    }

    pub(crate) fn call_of_key(&self, key: &ServerKey) -> Option<u64> {
        self.call_by_key.get(key).copied()
    }

    /// A call in memory.
    pub(crate) fn call(&self, id: u64) -> Option<&Call> {
        self.calls.get(&id).map(Box::as_ref)
    }

    /// All calls in memory with this Call-ID.
    pub(crate) fn calls_of(&self, call_id: &str) -> impl Iterator<Item = (u64, &Call)> {
        let call_id = call_id.to_owned();
        let from = (call_id.clone(), 0);
        let of_call = self.call_by_cseq.range(from..).take_while(move |((id, _), _)| *id == call_id);
        of_call.filter_map(|(_, id)| Some((*id, self.calls.get(id)?.as_ref())))
    }

    /// An exchange in memory.
    pub(crate) fn exchange(&self, id: u64) -> Option<&Exchange> {
        self.exchanges.get(&id).map(Box::as_ref)
    }

    pub(crate) fn call_of_cseq(&self, call_id: &str, cseq: u32) -> Option<u64> {
        self.call_by_cseq.get(&(call_id.to_owned(), cseq)).copied()
    }

    /// Whether a call has this Call-ID.
    pub(crate) fn is_of_call(&self, id: u64, call_id: &str) -> bool {
        self.calls.get(&id).is_some_and(|call| call.call_id == call_id)
    }

    pub(crate) fn client_of(&self, branch: &str) -> Option<Client> {
        self.clients.get(branch).copied()
    }

    pub(crate) fn exchange_of(&self, key: &ExchangeKey) -> Option<u64> {
        self.exchange_by_key.get(key).copied()
    }

    pub(crate) fn insert_call(&mut self, cx: Cx<'_>, call: Call) -> u64 {
        let id = self.new_id();
        self.held_bytes += call.cost;
        self.call_by_key.insert(call.key.clone(), id);
        self.call_by_cseq.insert((call.call_id.clone(), call.cseq), id);
        for (index, branch) in call.branches.iter().enumerate() {
            self.clients.insert(branch.record.via_branch.clone(), Client::Call(id, index));
            for retired in &branch.retired {
                self.clients.insert(retired.via_branch.clone(), Client::Call(id, index));
            }
            self.watch(&branch.record, call.has_more_to_try(), Client::Call(id, index));
        }
        self.timers.set(Timer::Call(id), Some(call.next_timeout().max(cx.now.mono)));
        self.calls.insert(id, Box::new(call));
        id
    }

    /// Works on a call, and afterwards sets its timer, tells the cluster when nobody needs to know of it any more, or
    /// forgets it. The call is out of the table meanwhile.
    pub(crate) fn with_call<R>(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        work: impl FnOnce(&mut Self, &mut Call) -> R,
    ) -> Option<R> {
        let mut call = self.calls.remove(&id)?;
        let (call_id, branch) = (call.call_id.clone(), call.key.branch.clone());
        let Some(result) = self.contain(|| name_of_call(&call_id, &branch), |engine| work(engine, &mut call))
        else {
            self.drop_call(id, &call);
            return None;
        };
        if !call.done_told && call.is_settled() {
            call.done_told = true;
            if cx.state.pending(&call.key).is_some() {
                self.propose(SipCommand::InviteDone { key: call.key.clone() }, Awaiting::Nothing);
            }
        }
        if call.is_over(cx.now.mono) {
            self.drop_call(id, &call);
        } else {
            self.timers.set(Timer::Call(id), Some(call.next_timeout()));
            self.calls.insert(id, call);
        }
        Some(result)
    }

    /// A call that waits for its first commit.
    pub(crate) fn admitting(&self, id: u64) -> Option<&Call> {
        self.calls.get(&id).map(|call| &**call).filter(|call| call.phase == Phase::Admitting)
    }

    /// Responses with this branch belong to this client.
    pub(crate) fn put_client(&mut self, via_branch: &str, client: Client) {
        self.clients.insert(via_branch.to_owned(), client);
    }

    /// They do no more, unless they belong to another by now.
    pub(crate) fn remove_client(&mut self, via_branch: &str, client: Client) {
        if self.clients.get(via_branch) == Some(&client) {
            take(&mut self.clients, via_branch);
        }
    }

    /// The request that an exchange keeps, and where it came from.
    pub(crate) fn request_of_exchange(&self, id: u64) -> Option<(Flow, SharedBytes)> {
        let exchange = self.exchanges.get(&id)?;
        Some((exchange.flow, exchange.request.clone()?))
    }

    /// Responses with this branch belong to a branch of the call.
    pub(crate) fn add_client(&mut self, via_branch: &str, call: u64, index: usize) {
        self.clients.insert(via_branch.to_owned(), Client::Call(call, index));
    }

    /// Forgets a call without a word.
    pub(crate) fn remove_call(&mut self, id: u64) {
        if let Some(call) = self.calls.remove(&id) {
            self.drop_call(id, &call);
        }
    }

    fn drop_call(&mut self, id: u64, call: &Call) {
        self.held_bytes = self.held_bytes.saturating_sub(call.cost);
        self.timers.set(Timer::Call(id), None);
        if self.call_by_key.get(&call.key) == Some(&id) {
            take(&mut self.call_by_key, &call.key);
        }
        let by_cseq = (call.call_id.clone(), call.cseq);
        if self.call_by_cseq.get(&by_cseq) == Some(&id) {
            self.call_by_cseq.remove(&by_cseq);
        }
        for (index, branch) in call.branches.iter().enumerate() {
            let client = Client::Call(id, index);
            self.unwatch(&branch.record.flow, client);
            self.remove_client(&branch.record.via_branch, client);
            for retired in &branch.retired {
                self.remove_client(&retired.via_branch, client);
            }
        }
    }

    /// Adds an exchange; `None` when there are too many that nobody has answered.
    pub(crate) fn insert_exchange(&mut self, exchange: Exchange) -> Option<u64> {
        while self.exchanges.len() >= MAX_EXCHANGES || self.held_bytes + exchange.cost > MAX_HELD_BYTES {
            let oldest = self.finished.pop_front()?;
            self.remove_exchange(oldest);
        }
        let id = self.new_id();
        self.held_bytes += exchange.cost;
        self.exchange_by_key.insert(exchange.key.clone(), id);
        for (index, branch) in exchange.branches.iter().enumerate() {
            self.clients.insert(branch.record.via_branch.clone(), Client::Exchange(id, index));
            self.watch(&branch.record, !exchange.plan.is_empty(), Client::Exchange(id, index));
        }
        self.timers.set(Timer::Exchange(id), Some(exchange.next_timeout()));
        self.exchanges.insert(id, Box::new(exchange));
        Some(id)
    }

    /// Works on an exchange, and afterwards sets its timer or forgets it. It is out of the table meanwhile.
    pub(crate) fn with_exchange<R>(
        &mut self,
        cx: Cx<'_>,
        id: u64,
        work: impl FnOnce(&mut Self, &mut Exchange) -> R,
    ) -> Option<R> {
        let mut exchange = self.exchanges.remove(&id)?;
        let was_open = exchange.nist.is_open();
        let (key, request) = (exchange.key.clone(), exchange.request.clone());
        let name = || name_of_exchange(&key, request.as_deref());
        let Some(result) = self.contain(name, |engine| work(engine, &mut exchange)) else {
            self.drop_exchange(id, &exchange);
            return None;
        };
        if exchange.is_over(cx.now.mono) {
            self.drop_exchange(id, &exchange);
        } else {
            if was_open && !exchange.nist.is_open() {
                exchange.request = None;
                self.media.offers_no_more(id);
                // What is left are its last response and its keys.
                let cost = exchange.cost.min(2 * TRANSACTION_BYTES);
                self.held_bytes = self.held_bytes.saturating_sub(exchange.cost - cost);
                exchange.cost = cost;
                // Bounded: each entry is of an exchange that was there, and they are swept with them.
                self.finished.push_back(id);
                if self.finished.len() > 2 * MAX_EXCHANGES {
                    let exchanges = &self.exchanges;
                    self.finished.retain(|id| exchanges.contains_key(id));
                }
            }
            self.timers.set(Timer::Exchange(id), Some(exchange.next_timeout()));
            self.exchanges.insert(id, exchange);
        }
        Some(result)
    }

    /// Forgets an exchange without a word.
    pub(crate) fn remove_exchange(&mut self, id: u64) {
        if let Some(exchange) = self.exchanges.remove(&id) {
            self.drop_exchange(id, &exchange);
        }
    }

    fn drop_exchange(&mut self, id: u64, exchange: &Exchange) {
        self.media.offers_no_more(id);
        self.held_bytes = self.held_bytes.saturating_sub(exchange.cost);
        self.timers.set(Timer::Exchange(id), None);
        if self.exchange_by_key.get(&exchange.key) == Some(&id) {
            take(&mut self.exchange_by_key, &exchange.key);
        }
        for (index, branch) in exchange.branches.iter().enumerate() {
            let client = Client::Exchange(id, index);
            self.unwatch(&branch.record.flow, client);
            self.remove_client(&branch.record.via_branch, client);
        }
    }

    pub(crate) fn errand_count(&self) -> usize {
        self.errands.len()
    }

    pub(crate) fn insert_errand(&mut self, errand: Errand) -> u64 {
        let id = self.new_id();
        self.held_bytes += errand.cost;
        self.clients.insert(errand.via_branch.clone(), Client::Errand(id));
        self.watch_flow(errand.flow, Client::Errand(id));
        self.timers.set(Timer::Errand(id), errand.next_timeout());
        self.errands.insert(id, Box::new(errand));
        id
    }

    /// Works on a request of our own, and afterwards sets its timer or forgets it. It is out of the table meanwhile.
    pub(crate) fn with_errand<R>(
        &mut self,
        id: u64,
        work: impl FnOnce(&mut Self, &mut Errand) -> R,
    ) -> Option<R> {
        let mut errand = self.errands.remove(&id)?;
        let (via_branch, remote) = (errand.via_branch.clone(), errand.flow.remote);
        let name = || format!("the request of our own to {remote} (branch {via_branch})");
        let Some(result) = self.contain(name, |engine| work(engine, &mut errand)) else {
            self.drop_errand(id, &errand);
            return None;
        };
        if errand.is_over() {
            self.drop_errand(id, &errand);
        } else {
            self.timers.set(Timer::Errand(id), errand.next_timeout());
            self.errands.insert(id, errand);
        }
        Some(result)
    }

    fn drop_errand(&mut self, id: u64, errand: &Errand) {
        self.held_bytes = self.held_bytes.saturating_sub(errand.cost);
        self.timers.set(Timer::Errand(id), None);
        self.unwatch(&errand.flow, Client::Errand(id));
        self.remove_client(&errand.via_branch, Client::Errand(id));
    }

    /// The calls that are there now.
    pub(crate) fn call_ids(&self) -> Vec<u64> {
        self.calls.keys().copied().collect()
    }

    /// What stands behind the branch of a call that this side has begun and nobody has answered, where `to_tag` rings. If
    /// that is not known: behind the newest one.
    pub(crate) fn early_backing(
        &self,
        call_id: &str,
        from_tag: &str,
        to_tag: Option<&str>,
    ) -> Option<&Backing> {
        let mut open = self.calls_of(call_id).map(|(_, call)| call).filter(|call| {
            call.is_undecided() && Message::parse(&call.request).is_ok_and(|m| m.from_tag() == Some(from_tag))
        });
        let branches = &open.next()?.branches;
        let rings = to_tag.and_then(|tag| branches.iter().rfind(|b| b.rings_as(tag)));
        rings.or(branches.last()).map(|b| &b.record.backing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_gives_the_memory_of_a_burst_back() {
        let mut table: HashMap<u32, u32> = (0..100_000).map(|n| (n, n)).collect();
        (0..99_990).for_each(|n| take(&mut table, &n));
        assert!(table.capacity() <= 2 * KEPT_ROOM, "{}", table.capacity());
        assert_eq!(table.len(), 10);
        assert!((99_990..100_000).all(|n| table.get(&n) == Some(&n)));
    }
}
