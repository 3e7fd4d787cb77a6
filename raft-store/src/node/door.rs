//! What peers are told while the node starts: its port is open before there is a core to answer.

use std::sync::Arc;

use super::client::Lane;
use super::doubt::Reach;
use super::handle::Shared;
use super::inbound::{Hello, Inbound, Rpc, RpcReply};
use super::types::{Place, RaftId};

/// What a node is while it has no core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It opens its store, and does not know yet what is in it.
    Opening,
    /// Nothing was ever here.
    Empty,
    /// Something was here, and cannot be used.
    Damaged {
        /// How far it verifies, if that is known.
        reach: Option<Reach>,
    },
    /// It is about to begin the cluster anew with its own state: the others wait for that.
    Beginning,
    /// The cluster was begun anew here, and waits until nobody goes on with the former one.
    Newborn {
        /// Its id.
        id: RaftId,
        /// Its term, whose upper half is the birth.
        term: u64,
    },
}

/// Answers peers before the core exists, too: "my store is empty", but only where it is. A node that is still opening
/// its store says nothing: after a power loss a wiped node would take two of them for the beginning of a new cluster,
/// and vote under the id of its former self.
pub(super) struct Door(pub(super) Arc<Shared>);

impl Standing {
    fn hello(self) -> Option<Hello> {
        match self {
            Self::Opening => None,
            Self::Empty => Some(Hello::default()),
            Self::Damaged { reach } => Some(Hello { damaged: true, reach, ..Hello::default() }),
            Self::Beginning => Some(Hello { initialized: true, ..Hello::default() }),
            Self::Newborn { id, term } => {
                Some(Hello { id: Some(id), initialized: true, term, ..Hello::default() })
            }
        }
    }
}

impl Inbound for Door {
    async fn handle(&self, from: Place, to: RaftId, lane: Lane, rpc: Rpc) -> RpcReply {
        match (self.0.core(), rpc) {
            (Some(core), rpc) => core.handle(from, to, lane, rpc).await,
            (None, Rpc::Hello) => match self.0.standing().hello() {
                Some(hello) => RpcReply::Hello(hello),
                None => RpcReply::Unavailable("it is starting".into()),
            },
            (None, _) => RpcReply::Unavailable("it is starting".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;
    use crate::node::net::{Credentials, TcpTransport, Waits};
    use crate::node::types::raft_id;

    async fn hello_of(standing: Standing) -> RpcReply {
        let who = Credentials::new("lab", [7; 32], 1);
        let shared = Shared::new(TcpTransport::new(who, None, &[], Waits::default()), Handle::current());
        shared.stand(standing);
        Door(Arc::new(shared)).handle(2, raft_id(0, 1), Lane::Control, Rpc::Hello).await
    }

    #[tokio::test]
    async fn a_node_that_still_opens_its_store_does_not_say_that_it_is_empty() {
        assert!(matches!(hello_of(Standing::Opening).await, RpcReply::Unavailable(_)));
    }

    #[tokio::test]
    async fn an_empty_node_says_so_before_it_has_begun() {
        let RpcReply::Hello(hello) = hello_of(Standing::Empty).await else { panic!("a hello") };
        assert_eq!(hello, Hello::default());
    }

    #[tokio::test]
    async fn a_node_with_a_damaged_store_says_that_something_was_there() {
        let RpcReply::Hello(hello) = hello_of(Standing::Damaged { reach: None }).await else {
            panic!("a hello")
        };
        assert!(hello.damaged && !hello.initialized && hello.id.is_none());
    }
}
