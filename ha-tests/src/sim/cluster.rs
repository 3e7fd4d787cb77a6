//! The replicated store as the agent's control thread and engine use it, over a simulated process.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agent::bridge::{Cluster, Store, Verdict};
use agent::control::{Facts, Grant, Peer, Place};
use proxy_core::io::Refusal;
use proxy_core::state::{SipCommand, SipState};
use raft_store::command::{Batch, Command, GrantReason, Response};
use raft_store::node::client::{Lane, Transport};
use raft_store::node::inbound::{Rpc, RpcReply};
use raft_store::node::{Done, Refused};

use super::kernel::clock;
use super::process::{Process, Running, Wire};

/// Time a proposal sent to the leader may take; the agent's own.
const FORWARD_LIMIT: Duration = Duration::from_secs(3);

/// One process's part of the cluster.
#[derive(Clone)]
pub struct SimCluster {
    door: Arc<OnceLock<Running>>,
    wire: Wire,
    runtime: tokio::runtime::Handle,
    empty: Arc<SipState>,
    early: bool,
}

impl SimCluster {
    /// The part that `process` has; `early` breaks it: verdicts come before the commit.
    #[must_use]
    pub fn new(process: &Process, early: bool) -> Self {
        let (door, wire, runtime) = process.parts();
        Self { door, wire, runtime, empty: Arc::default(), early }
    }

    fn propose_anywhere(&self, commands: Vec<Command>, done: Done) {
        let Some(running) = self.door.get() else { return done(Err(Refused::NotLeader)) };
        let core = running.core.clone();
        let facts = core.facts();
        let Some(leader) = facts.leader.filter(|_| !facts.leading) else {
            return core.propose(commands, done);
        };
        let wire = self.wire.clone();
        self.runtime.spawn(async move {
            let peer = core.config().places.iter().find(|p| p.place == leader).copied();
            let (Some(peer), Some(id)) = (peer, core.voter_at(leader)) else {
                return done(Err(Refused::NotLeader));
            };
            let rpc = Rpc::Propose(Batch(commands));
            done(match wire.call(id, peer.into(), Lane::Control, rpc, FORWARD_LIMIT).await {
                Ok(RpcReply::Propose(result)) => result.map(|responses| responses.0),
                Ok(_) | Err(_) => Err(Refused::Unknown),
            });
        });
    }
}

fn answer(done: Verdict) -> Done {
    Box::new(move |outcome| {
        done(match outcome {
            Ok(mut list) => match list.pop() {
                Some(Response::Sip(response)) => Ok(response),
                _ => Err(Refusal::Unknown),
            },
            Err(Refused::NotLeader) => Err(Refusal::NotActive),
            Err(Refused::Overloaded) => Err(Refusal::Overloaded),
            Err(Refused::Unknown) => Err(Refusal::Unknown),
        });
    })
}

impl Store for SimCluster {
    fn read<R>(&self, f: impl FnOnce(&SipState) -> R) -> R {
        match self.door.get() {
            Some(running) => running.core.view().read(|state| f(state.sip())),
            None => f(&self.empty),
        }
    }

    fn propose(&self, command: SipCommand, done: Verdict) {
        let Some(running) = self.door.get() else { return done(Err(Refusal::NotActive)) };
        if self.early {
            let mut state = self.read(SipState::clone);
            done(Ok(state.apply(&command)));
            running.core.propose(vec![Command::Sip(command)], Box::new(|_| {}));
            return;
        }
        running.core.propose(vec![Command::Sip(command)], answer(done));
    }
}

impl Cluster for SimCluster {
    fn facts(&self) -> Facts {
        let Some(running) = self.door.get() else { return Facts::default() };
        let raft = running.core.facts();
        Facts {
            term: raft.term,
            leader: raft.leader,
            leading: raft.leading,
            applied: raft.applied,
            last_log: raft.last_log,
            grant: raft.grant.map(|g| Grant { holder: g.holder, token: g.token }),
            quorum_ack_at: raft.quorum_ack_at,
            transfer_tried_in: raft.transfer_tried_in,
            peers: raft
                .peers
                .iter()
                .map(|p| Peer { place: p.place, lag: p.lag, last_ack: p.last_ack, silent: p.silent })
                .collect(),
            unfit: raft.unfit,
        }
    }

    fn grant(&self, holder: Place, reason: GrantReason, done: Box<dyn FnOnce(bool) + Send>) {
        let command = Command::Grant { holder, reason, at: clock().wall };
        self.propose_anywhere(vec![command], Box::new(move |outcome| done(outcome.is_ok())));
    }

    fn transfer(&self, to: Place) {
        if let Some(running) = self.door.get() {
            running.core.transfer_leadership(to);
        }
    }
}
