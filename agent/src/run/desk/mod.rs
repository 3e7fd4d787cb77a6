//! Answers to the admin socket, one file per feature.

mod backup;
mod ban;
mod cdr;
mod dispatcher;
mod dlg;
mod history;
mod maintenance;
pub(in crate::run) mod members;
pub(in crate::run) mod promote;
mod provision;
mod reload;
mod route;
mod rtpengine;
mod trace;
mod trunk;

use std::sync::mpsc::sync_channel;

use proxy_core::state::{SipCommand, SipResponse};

use super::backend::{COMMIT_LIMIT, Desk};
use crate::admin::Reply;
use crate::bridge::Cluster;
use crate::run::refused::not_taken;

impl<C: Cluster> Desk<C> {
    /// Has a change committed, by way of the leader if that is another node.
    fn commit(&self, command: SipCommand) -> Result<SipResponse, Reply> {
        let (tx, rx) = sync_channel(1);
        // The receiver may have given up waiting.
        self.cluster.operate(command, Box::new(move |outcome| drop(tx.try_send(outcome))));
        match rx.recv_timeout(COMMIT_LIMIT) {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(why)) => Err(not_taken(why)),
            Err(_) => Err(Reply::error(
                "the cluster did not answer in time: the change may still come",
                "see relevo status: is there a leader? then try again",
            )),
        }
    }
}
