//! Flows that lead nowhere: RFC 3261 §18.4, §17.1.4, §16.9.
//!
//! | what failed | who is told | then |
//! |---|---|---|
//! | a connection: it could not be made, or broke | every client transaction on it that has heard nothing | 503 of its branch, or the next address |
//! | the same | the ACK of a 2xx that left by it | its next address |
//! | a datagram (ICMP) | those that have somewhere else to go, and what the proxy asks of its own accord | the next address, or the next step of the call's plan |
//!
//! Who has heard a provisional response waits: the final one may come by another connection (§18.2.2). Without anything
//! else to try an ICMP error is worth nothing: the phone may be starting again, and the retransmission finds it.

use std::time::Duration;

use super::{Client, Cx, Engine};
use crate::msg::Message;
use crate::proxy::build;
use crate::state::{Branch, Flow, SipState};
use crate::time::{MonoTime, Now};

/// How long a host that refused TCP is sent large requests by UDP at once.
const WITHOUT_TCP: Duration = Duration::from_secs(600);
/// Hosts that are remembered so; those that end first give way.
const MAX_WITHOUT_TCP: usize = 4096;

/// How long the ACK of a 2xx is kept: until a connection is made or given up.
const ACK_KEPT: Duration = Duration::from_secs(10);
/// ACKs that are kept; the oldest give way.
const MAX_ACKS: usize = 1024;
/// Longest ACK that is kept, in bytes.
const MAX_ACK_BYTES: usize = 4096;

/// The ACK of a 2xx that left by a connection and has other flows to go by.
#[derive(Debug)]
pub(super) struct Ack {
    until: MonoTime,
    /// With `received` and `rport`.
    request: Vec<u8>,
    came_by: Flow,
    branch: Branch,
}

impl Engine {
    /// Nothing can be sent on this flow: the connection could not be made, or broke, or an ICMP error came back.
    pub fn handle_transport_failure(&mut self, now: Now, flow: Flow, state: &SipState) {
        if !self.active {
            return;
        }
        self.counters.transport_failures += 1;
        self.names.at(now.mono);
        let name = || format!("the ACKs that went to {}", flow.remote);
        self.contain(name, |engine| engine.acks_go_elsewhere(flow));
        let Some(clients) = self.watched.remove(&flow) else { return };
        if flow.transport.is_reliable() {
            self.remember_without_tcp(flow);
        }
        let cx = Cx { now, state };
        for client in clients {
            let name = || format!("what follows from the failure of a flow to {} ({client:?})", flow.remote);
            self.contain(name, |engine| match client {
                Client::Call(id, index) => engine.on_branch_unreachable(cx, id, index, flow),
                Client::Exchange(id, index) => engine.on_copy_unreachable(cx, id, index, flow),
                Client::Errand(id) => engine.on_errand_transport_failure(cx, id),
            });
        }
    }

    fn remember_without_tcp(&mut self, flow: Flow) {
        let now = self.names.now();
        let hosts = &mut self.names.without_tcp;
        hosts.retain(|_, until| *until > now);
        if hosts.len() < MAX_WITHOUT_TCP {
            hosts.insert(flow.remote, now + WITHOUT_TCP);
        }
    }

    /// Keeps the ACK of a 2xx for a moment: it has no transaction that would notice that its connection is gone.
    pub(crate) fn keep_ack(&mut self, now: MonoTime, request: &Message<'_>, came_by: Flow, branch: &Branch) {
        let may_move = branch.flow.transport.is_reliable() && !branch.next.is_empty();
        if !may_move || request.raw().len() > MAX_ACK_BYTES {
            return;
        }
        while self.acks.front().is_some_and(|ack| ack.until <= now) || self.acks.len() >= MAX_ACKS {
            self.acks.pop_front();
        }
        let (request, branch) = (request.raw().to_vec(), branch.clone());
        self.acks.push_back(Ack { until: now + ACK_KEPT, request, came_by, branch });
    }

    fn acks_go_elsewhere(&mut self, flow: Flow) {
        for mut ack in std::mem::take(&mut self.acks) {
            if ack.branch.flow != flow {
                self.acks.push_back(ack);
                continue;
            }
            let Ok(request) = Message::parse(&ack.request) else { continue };
            let branch = &mut ack.branch;
            let to = branch.next.remove(0);
            branch.via_branch = self.settings.keys.next_via_branch(&branch.via_branch, to);
            branch.flow = to;
            let bytes = build::copy(&self.settings, &request, ack.came_by, branch);
            self.transmit(to, &bytes);
            if !ack.branch.next.is_empty() {
                self.acks.push_back(ack);
            }
        }
    }

    /// Has the client transaction of a branch told when its flow fails. `elsewhere` if its call has something else to
    /// try.
    pub(crate) fn watch(&mut self, branch: &Branch, elsewhere: bool, client: Client) {
        if branch.flow.transport.is_reliable() || branch.following().is_some() || elsewhere {
            self.watch_flow(branch.flow, client);
        }
    }

    /// Has somebody told when a flow fails, whatever it is.
    pub(crate) fn watch_flow(&mut self, flow: Flow, client: Client) {
        self.watched.entry(flow).or_default().insert(client);
    }

    /// Nobody is told any more.
    pub(crate) fn unwatch(&mut self, flow: &Flow, client: Client) {
        if self.watched.is_empty() {
            return;
        }
        if let Some(clients) = self.watched.get_mut(flow) {
            clients.remove(&client);
            if clients.is_empty() {
                self.watched.remove(flow);
            }
        }
    }
}
