//! `relevo members`: who is in the cluster, and changes of that, which the leader makes.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use raft_store::node::members::{self as store, CATCH_UP_SECS, MAX_CATCH_UP_SECS, Newcomer};
use raft_store::node::{self, Member};

use crate::admin::Reply;
use crate::admin::members::{Ask, New, done, list};
use crate::bridge::Cluster;
use crate::config::Role;
use crate::run::backend::Desk;

/// Time beyond that of the change itself for its answer.
const GRACE: Duration = Duration::from_secs(2);

/// How long an answer to this may take.
#[must_use]
pub fn limit(ask: &Ask) -> Duration {
    let secs = match ask {
        Ask::List {} => return GRACE * 5,
        Ask::Remove { .. } => 0,
        Ask::Add { new } | Ask::Replace { new, .. } => new.wait_s.unwrap_or(CATCH_UP_SECS),
    };
    let change = store::Ask::Add { newcomer: nobody(), wait_s: secs };
    store::limit(&change) + GRACE
}

fn nobody() -> Newcomer {
    Newcomer { place: 0, member: Member::default(), again: false }
}

impl<C: Cluster> Desk<C> {
    pub(in crate::run) fn members(&self, ask: &Ask) -> Reply {
        let (change, what) = match ask {
            Ask::List {} => {
                let holder = self.cluster.facts().grant.map(|g| g.holder);
                return Reply::Ok { ok: list(&self.config, &self.cluster.members(), holder) };
            }
            Ask::Remove { node } => {
                (store::Ask::Remove { place: *node }, format!("node {node} is no member any more"))
            }
            Ask::Add { new } => match self.newcomer(new, None) {
                Ok(newcomer) => (
                    store::Ask::Add { newcomer, wait_s: new.wait_s.unwrap_or(CATCH_UP_SECS) },
                    format!("node {} votes now", new.node),
                ),
                Err(reply) => return reply,
            },
            Ask::Replace { node, new } => match self.newcomer(new, Some(*node)) {
                Ok(newcomer) => (
                    store::Ask::Replace {
                        place: *node,
                        newcomer,
                        wait_s: new.wait_s.unwrap_or(CATCH_UP_SECS),
                    },
                    format!(
                        "node {} votes now in the place of node {node}, which is no member any more",
                        new.node
                    ),
                ),
                Err(reply) => return reply,
            },
        };
        if !self.config.is_cluster() {
            return Reply::error(
                "this node is alone by its configuration, with the times of a node that nobody hears",
                "add all nodes as [[cluster.node]], restart it, then say it again",
            );
        }
        let (tx, rx) = sync_channel(1);
        // The receiver may have given up waiting.
        self.cluster.change_members(change, Box::new(move |outcome| drop(tx.try_send(outcome))));
        match rx.recv_timeout(store::limit(&change) + GRACE / 2) {
            Ok(Ok(outcome)) => Reply::Ok { ok: done(&outcome, &what) },
            Ok(Err(refusal)) => Reply::error(refusal.error, refusal.cure),
            Err(_) => Reply::error(
                "the cluster did not answer in time: the change may still come",
                "look with relevo members list; to say the same again is safe",
            ),
        }
    }

    /// The newcomer with what the configuration here, or the node that it replaces, says of it.
    fn newcomer(&self, new: &New, instead_of: Option<u16>) -> Result<Newcomer, Reply> {
        if new.wait_s.is_some_and(|s| s > MAX_CATCH_UP_SECS) {
            return Err(Reply::error(
                format!("--wait is at most {MAX_CATCH_UP_SECS} s"),
                "a node that takes longer: look at its disk and the way to it",
            ));
        }
        let known = self.config.nodes.iter().find(|m| m.id == new.node);
        let Some(addr) = new.addr.or(known.map(|m| m.addr)) else {
            return Err(Reply::error(
                format!(
                    "node {} is not in the configuration here, so that its address must be said",
                    new.node
                ),
                format!("relevo members … {} ADDRESS:PORT (its [[cluster.node]] addr)", new.node),
            ));
        };
        let former = || {
            let listing = self.cluster.members();
            instead_of.and_then(|place| listing.of(place).map(|m| m.member.role))
        };
        let role = match (new.witness, known.map(|m| m.role)) {
            (Some(true), _) | (None, Some(Role::Witness)) => node::Role::Witness,
            (Some(false), _) | (None, Some(Role::Appliance)) => node::Role::Appliance,
            (None, None) => former().unwrap_or_default(),
        };
        Ok(Newcomer { place: new.node, member: Member { addr, role }, again: new.again })
    }
}
