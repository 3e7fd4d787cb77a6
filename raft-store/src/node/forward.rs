//! Proposals made on a node that does not lead: the leader is asked to have them committed.

use std::time::Duration;

use super::batch::Done;
use super::client::{Lane, Transport};
use super::core::Core;
use super::inbound::{ProposeRefused, Rpc, RpcReply};
use crate::command::{Batch, Command};

/// Time a proposal sent to the leader may take.
const FORWARD_LIMIT: Duration = Duration::from_secs(3);

impl<T: Transport> Core<T> {
    /// Like [`Core::propose`], but asks the leader if that is another node. To be called inside the node's runtime.
    ///
    /// A leader that does not answer, or not in time, may have committed the proposal all the same: `done` hears
    /// [`ProposeRefused::Unknown`] then.
    pub fn propose_anywhere(&self, commands: Vec<Command>, done: Done) {
        let facts = self.facts();
        let Some(leader) = facts.leader.filter(|_| !facts.leading) else {
            return self.propose(commands, done);
        };
        let core = self.clone();
        tokio::spawn(async move {
            let peer = core.known_peers().into_iter().find(|p| p.place == leader);
            let (Some(peer), Some(id)) = (peer, core.voter_at(leader)) else {
                return done(Err(ProposeRefused::NotLeader));
            };
            let rpc = Rpc::Propose(Batch(commands));
            let transport = &core.clients().transport;
            // It may be large, so that it must not go before a heartbeat or a vote.
            done(match transport.call(id, peer.into(), Lane::Bulk, rpc, FORWARD_LIMIT).await {
                Ok(RpcReply::Propose(result)) => result.map(|responses| responses.0),
                Ok(_) | Err(_) => Err(ProposeRefused::Unknown),
            });
        });
    }
}
