//! What a node asks and tells of the time, beside its entries: rarely, and nothing of it goes to the disk but the news that the
//! leader's wall clock was set.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::client::{Lane, Transport};
use super::core::Core;
use super::inbound::{Rpc, RpcReply};
use super::types::place_of;
use crate::wire::TIME_VERSION;

/// How often a leader asks the others, and every node looks at its own wall clock.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often a node asks that does not know the time: it may have to lead within a lease after its start.
const ASK_SOON: Duration = Duration::from_millis(50);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// Asks and tells, as long as the node lives.
pub(super) async fn keep<T: Transport>(core: Core<T>) {
    core.look_who_reads(false);
    loop {
        let knows = core.time().counts();
        tokio::time::sleep(if knows { ASK_EVERY } else { ASK_SOON }).await;
        let (leads, peers) = {
            let metrics = core.raft().metrics();
            let metrics = metrics.borrow_watched();
            if metrics.running_state.is_err() {
                return;
            }
            let me = core.config().id;
            let peers: Vec<_> =
                metrics.membership_config.membership().nodes().map(|(id, m)| (*id, *m)).collect();
            let others: Vec<_> = peers.into_iter().filter(|(id, _)| *id != me).collect();
            (core.time().look(&metrics), others)
        };
        core.time().watch_own();
        core.look_who_reads(leads);
        if !leads && knows {
            continue;
        }
        let questions = peers.into_iter().map(|(id, member)| {
            let core = &core;
            async move {
                let (told, asked) = if leads { core.time().ask(place_of(id)) } else { core.time().tell() };
                let question = Rpc::Time(told);
                let answer =
                    core.clients().transport.call(id, member, Lane::Control, question, ANSWER_LIMIT).await;
                if let Ok(RpcReply::Time(told)) = answer {
                    core.time().answered(place_of(id), told, asked);
                }
            }
        });
        futures::future::join_all(questions).await;
        if leads {
            core.time().compare();
            if core.time().has_moved() {
                // An entry with a stamp and nothing else. If it does not come to be, the next look finds the same.
                core.propose(Vec::new(), Box::new(|_| {}));
            }
        }
    }
}

impl<T: Transport> Core<T> {
    /// Stamps are written only when every member reads them; what they read is noted before the first one.
    fn look_who_reads(&self, leads: bool) {
        let is_read = self.unread_by(TIME_VERSION).is_none();
        if is_read && leads {
            self.note_versions();
        }
        self.time().set_read(is_read);
    }
}
