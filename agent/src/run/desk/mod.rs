//! Answers to the admin socket, one file per feature.

mod ban;
mod cdr;
mod dispatcher;
mod dlg;
mod provision;
mod route;
mod rtpengine;
mod trace;
mod trunk;

use std::sync::mpsc::sync_channel;

use proxy_core::io::Refusal;
use proxy_core::state::{SipCommand, SipResponse};

use super::backend::{COMMIT_LIMIT, Desk};
use crate::admin::Reply;
use crate::bridge::Cluster;

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

/// What an operator reads when a change was refused.
pub(in crate::run) fn not_taken(why: Refusal) -> Reply {
    match why {
        Refusal::NotActive => Reply::error(
            "the cluster did not take it: no leader is known here",
            "see relevo status: do a majority of the nodes run and hear each other? then try again",
        ),
        Refusal::Overloaded => {
            Reply::error("the cluster did not take it: too many changes wait", "try again in a moment")
        }
        Refusal::Unknown => Reply::error(
            "nobody knows whether the cluster took it: its leader was lost, or has changed meanwhile",
            "see relevo status: is there a leader? then list what there is, and if the change is not there, try again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_was_refused_is_explained_in_words_with_a_cure() {
        for why in [Refusal::NotActive, Refusal::Overloaded, Refusal::Unknown] {
            let text = format!("{:?}", not_taken(why));
            assert!(text.contains("the cluster") && text.contains("try again"), "{text}");
            let is_shown = why == Refusal::Overloaded || text.contains("relevo status");
            assert!(is_shown, "whether there is a leader: {text}");
            assert!(!text.contains(&format!("{why:?}")), "no name of a variant: {text}");
        }
    }
}
