//! Many proposals, one log entry: gathers what the engines propose while earlier entries are on their way.
//!
//! Every proposal gets exactly one answer, within [`ANSWER_LIMIT`] at the latest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::errors::{ClientWriteError, RaftError};
use proxy_core::state::{RegisterChange, SipCommand};
use tokio::sync::Notify;

use super::inbound::ProposeRefused;
use super::types::Raft;
use crate::command::{Batch, Command, Response};

/// Most proposals that wait for their entry.
pub const MAX_WAITING: usize = 16_384;
/// Most bytes of proposals that wait for their entry (64 MiB).
pub const MAX_WAITING_BYTES: usize = 64 << 20;
/// Most commands in one entry.
pub const MAX_ENTRY_COMMANDS: usize = 512;
/// An entry is closed when it holds this many bytes (1 MiB).
pub const MAX_ENTRY_BYTES: usize = 1 << 20;
/// Entries on their way at once: one on the disk, one on the wire, and what gathers behind them.
pub const MAX_IN_FLIGHT: usize = 4;
/// A proposal without an answer after this time has the answer "unknown".
pub const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Called once with the answers, in the order of the commands. It must not block.
pub type Done = Box<dyn FnOnce(Result<Vec<Response>, ProposeRefused>) + Send>;

struct Proposal {
    commands: Vec<Command>,
    bytes: usize,
    done: Done,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Proposal>,
    bytes: usize,
    closed: bool,
}

/// The way in; clones share the queue.
#[derive(Clone, Default)]
pub struct Batcher {
    queue: Arc<Mutex<Queue>>,
    news: Arc<Notify>,
}

/// About how many bytes a command takes, for the bounds.
fn weight(command: &Command) -> usize {
    const SMALL: usize = 256;
    const BINDING: usize = 512;
    let Command::Sip(command) = command else { return SMALL };
    SMALL
        + match command {
            SipCommand::InviteReceived(invite) => invite.request.len() + SMALL * invite.branches.len(),
            SipCommand::InviteAnswered { response, .. } | SipCommand::InviteFailed { response, .. } => {
                response.len() + SMALL
            }
            SipCommand::Register(register) => match &register.change {
                RegisterChange::Contacts(bindings) => BINDING * bindings.len(),
                RegisterChange::Query | RegisterChange::RemoveAll => 0,
            },
            SipCommand::BranchesAdded { branches, .. } => SMALL * branches.len(),
            _ => 0,
        }
}

impl Batcher {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a proposal. Never blocks; refuses at once when a bound is reached.
    pub fn propose(&self, commands: Vec<Command>, done: Done) {
        let bytes = commands.iter().map(weight).sum();
        let mut queue = self.lock();
        if queue.closed {
            drop(queue);
            return done(Err(ProposeRefused::NotLeader));
        }
        if queue.waiting.len() >= MAX_WAITING || queue.bytes + bytes > MAX_WAITING_BYTES {
            drop(queue);
            return done(Err(ProposeRefused::Overloaded));
        }
        queue.bytes += bytes;
        queue.waiting.push_back(Proposal { commands, bytes, done });
        drop(queue);
        self.news.notify_one();
    }

    /// How many proposals wait.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Refuses what waits and all that comes.
    pub fn close(&self) {
        let waiting = {
            let mut queue = self.lock();
            queue.closed = true;
            queue.bytes = 0;
            std::mem::take(&mut queue.waiting)
        };
        for proposal in waiting {
            (proposal.done)(Err(ProposeRefused::NotLeader));
        }
        self.news.notify_one();
    }

    fn take(&self) -> Option<(Vec<Command>, Vec<(usize, Done)>)> {
        let mut queue = self.lock();
        let (mut commands, mut parts, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = queue.waiting.front() {
            let full = commands.len() + next.commands.len() > MAX_ENTRY_COMMANDS
                || bytes + next.bytes > MAX_ENTRY_BYTES;
            if full && !commands.is_empty() {
                break;
            }
            let Some(next) = queue.waiting.pop_front() else { break };
            queue.bytes = queue.bytes.saturating_sub(next.bytes);
            bytes += next.bytes;
            parts.push((next.commands.len(), next.done));
            commands.extend(next.commands);
        }
        (!parts.is_empty()).then_some((commands, parts))
    }

    /// Turns proposals into entries until [`Batcher::close`].
    pub async fn run(self, raft: Raft) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < MAX_IN_FLIGHT
                && let Some((commands, parts)) = self.take()
            {
                in_flight.push(write(&raft, commands, parts));
            }
            if in_flight.is_empty() {
                if self.lock().closed {
                    return;
                }
                self.news.notified().await;
            } else if in_flight.len() < MAX_IN_FLIGHT {
                tokio::select! {
                    biased;
                    _ = in_flight.next() => {}
                    () = self.news.notified() => {}
                }
            } else {
                in_flight.next().await;
            }
        }
    }
}

async fn write(raft: &Raft, commands: Vec<Command>, parts: Vec<(usize, Done)>) {
    let result = match tokio::time::timeout(ANSWER_LIMIT, raft.client_write(Batch(commands))).await {
        Ok(Ok(written)) => Ok(written.data.0),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ProposeRefused::NotLeader),
        Ok(Err(_)) | Err(_) => Err(ProposeRefused::Unknown),
    };
    let mut responses = match result {
        Ok(responses) => responses.into_iter(),
        Err(why) => {
            for (_, done) in parts {
                done(Err(why));
            }
            return;
        }
    };
    for (count, done) in parts {
        let part: Vec<_> = responses.by_ref().take(count).collect();
        done(if part.len() == count { Ok(part) } else { Err(ProposeRefused::Unknown) });
    }
}
