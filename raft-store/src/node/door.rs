//! What peers are told while the node starts: its port is open before there is a core to answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::client::Lane;
use super::handle::Shared;
use super::inbound::{Hello, Inbound, Rpc, RpcReply};
use super::types::{Place, RaftId};

/// Answers peers before the core exists, too: "my store is empty", but only where it is. A node that is still opening
/// its store says nothing: after a power loss a wiped node would take two of them for the beginning of a new cluster,
/// and vote under the id of its former self.
pub(super) struct Door(pub(super) Arc<Shared>);

impl Inbound for Door {
    async fn handle(&self, from: Place, to: RaftId, lane: Lane, rpc: Rpc) -> RpcReply {
        match (self.0.core.get(), rpc) {
            (Some(core), rpc) => core.handle(from, to, lane, rpc).await,
            (None, Rpc::Hello) if self.0.blank.load(Ordering::SeqCst) => {
                RpcReply::Hello(Hello { id: None, initialized: false, leader: None })
            }
            (None, _) => RpcReply::Unavailable("it is starting".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;
    use crate::node::net::{Credentials, TcpTransport};
    use crate::node::types::raft_id;

    async fn hello_while_starting(blank: bool) -> RpcReply {
        let who = Credentials::new("lab", [7; 32], 1);
        let shared = Shared::new(TcpTransport::new(who, None, &[]), Handle::current(), blank);
        Door(Arc::new(shared)).handle(2, raft_id(0, 1), Lane::Control, Rpc::Hello).await
    }

    #[tokio::test]
    async fn a_node_that_still_opens_its_store_does_not_say_that_it_is_empty() {
        assert!(matches!(hello_while_starting(false).await, RpcReply::Unavailable(_)));
    }

    #[tokio::test]
    async fn an_empty_node_says_so_before_it_has_begun() {
        let answer = hello_while_starting(true).await;
        assert!(matches!(answer, RpcReply::Hello(Hello { id: None, initialized: false, leader: None })));
    }
}
