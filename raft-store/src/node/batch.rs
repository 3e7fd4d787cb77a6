//! Many proposals, one log entry: gathers what the engines propose while earlier entries are on their way.
//!
//! Every proposal gets exactly one answer, within [`ANSWER_LIMIT`] at the latest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::inbound::ProposeRefused;
use super::time::Time;
use super::types::{Raft, TypeConfig};
use crate::codec;
use crate::command::{Batch, Command, Response};
use crate::time::Stamp;

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
/// Entries without an answer that earlier terms of this leader have left: each of them has the answer "unknown" after
/// [`ANSWER_LIMIT`], and keeps nobody waiting until then.
const MAX_LEFT_BEHIND: usize = 64;
/// A proposal without an answer after this time has the answer "unknown", or "overloaded" if it still waited. As long as
/// whoever asked by SIP waits (64 * T1, RFC 3261 17.1.2.2): a commit that comes late is a commit, and as long as its
/// request waits for it, copies of that request wait, too, and propose nothing.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(32);

/// Called once with the answers, in the order of the commands. It must not block.
pub type Done = Box<dyn FnOnce(Result<Vec<Response>, ProposeRefused>) + Send>;

struct Proposal {
    commands: Vec<Command>,
    bytes: usize,
    answer: Answer,
    until: Instant,
}

/// The one answer of a proposal. Dropped without one (the runtime ends), it says that nobody knows.
struct Answer(Option<Done>);

impl Answer {
    fn give(mut self, result: Result<Vec<Response>, ProposeRefused>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(ProposeRefused::Unknown));
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Proposal>,
    bytes: usize,
    closed: bool,
    /// Entries that openraft has and that have no answer yet, by their numbers.
    under_way: BTreeMap<u64, UnderWay>,
    /// Number of the next entry.
    next: u64,
}

#[derive(Clone, Copy)]
struct UnderWay {
    term: u64,
    since: Instant,
}

/// The proposal that has waited longest for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oldest {
    /// Number of its entry: as long as it stays the same, nothing has been committed and applied.
    pub number: u64,
    /// Since when it waits.
    pub since: Instant,
}

/// The way in; clones share the queue.
#[derive(Clone, Default)]
pub struct Batcher {
    queue: Arc<Mutex<Queue>>,
    news: Arc<Notify>,
}

/// Bytes of a command in the log, and what holding it costs beside them.
fn weight(command: &Command) -> usize {
    const HELD: usize = 256;
    HELD + codec::size(command)
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
        let until = Instant::now() + ANSWER_LIMIT;
        queue.waiting.push_back(Proposal { commands, bytes, answer: Answer(Some(done)), until });
        drop(queue);
        self.news.notify_one();
    }

    /// How many proposals wait.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The oldest proposal of `term` that has no answer yet.
    pub fn oldest(&self, term: u64) -> Option<Oldest> {
        let queue = self.lock();
        let first = queue.under_way.iter().find(|(_, entry)| entry.term == term);
        let first = first.map(|(number, entry)| Oldest { number: *number, since: entry.since });
        first.or_else(|| {
            let since = queue.waiting.front()?.until - ANSWER_LIMIT;
            Some(Oldest { number: queue.next, since })
        })
    }

    /// Whether one more entry of `term` may be on its way.
    fn has_room(&self, term: u64) -> bool {
        let queue = self.lock();
        let of_term = queue.under_way.values().filter(|entry| entry.term == term).count();
        of_term < MAX_IN_FLIGHT && queue.under_way.len() < MAX_IN_FLIGHT + MAX_LEFT_BEHIND
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
            proposal.answer.give(Err(ProposeRefused::NotLeader));
        }
        self.news.notify_one();
    }

    /// The next entry: the time, and as many proposals as fit.
    fn take(&self, term: u64, stamp: impl FnOnce() -> Option<Stamp>) -> Option<Gathered> {
        let mut queue = self.lock();
        let until = queue.waiting.front()?.until;
        let number = queue.next;
        queue.next += 1;
        queue.under_way.insert(number, UnderWay { term, since: until - ANSWER_LIMIT });
        let (mut entry, mut bytes) = (Gathered::new(number, until, stamp()), 0);
        while let Some(next) = queue.waiting.front() {
            let full = entry.commands.len() + next.commands.len() > MAX_ENTRY_COMMANDS
                || bytes + next.bytes > MAX_ENTRY_BYTES;
            if full && !entry.parts.is_empty() {
                break;
            }
            let Some(next) = queue.waiting.pop_front() else { break };
            queue.bytes = queue.bytes.saturating_sub(next.bytes);
            bytes += next.bytes;
            entry.parts.push((next.commands.len(), next.answer));
            entry.commands.extend(next.commands);
        }
        Some(entry)
    }

    /// Refuses what has waited for too long; it never became an entry. Says when to look again.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut late = Vec::new();
        let next = {
            let mut queue = self.lock();
            while queue.waiting.front().is_some_and(|p| p.until <= now) {
                let Some(first) = queue.waiting.pop_front() else { break };
                queue.bytes = queue.bytes.saturating_sub(first.bytes);
                late.push(first.answer);
            }
            queue.waiting.front().map(|p| p.until)
        };
        for answer in late {
            answer.give(Err(ProposeRefused::Overloaded));
        }
        next
    }

    /// Turns proposals into entries, in their order, until [`Batcher::close`].
    pub async fn run(self, raft: Raft, time: Arc<Time>) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            let expires = self.expire();
            // Entries of an earlier term may wait for as long as nobody knows what became of them.
            let term = raft.metrics().borrow_watched().current_term;
            while self.has_room(term)
                && let Some(entry) = self.take(term, || stamp(&raft, &time))
            {
                // Polled once before the next is begun, and without tokio's budget, which could end just then: the
                // first poll is what hands the entry to openraft, and the order of entries must be that of proposals.
                let mut entry = Box::pin(unconstrained(self.write(&raft, entry)));
                if futures::poll!(entry.as_mut()).is_pending() {
                    in_flight.push(entry);
                }
            }
            if in_flight.is_empty() {
                if self.lock().closed {
                    return;
                }
                self.news.notified().await;
                continue;
            }
            let room = self.has_room(term);
            let late = async {
                match expires {
                    Some(at) if !room => sleep_until(at).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = in_flight.next() => {}
                // Also without room: in a later term there is some again.
                () = self.news.notified() => {}
                () = late => {}
            }
        }
    }
}

/// What became of an entry.
type Written = Result<
    Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>,
    tokio::time::error::Elapsed,
>;

/// An entry to be.
struct Gathered {
    number: u64,
    commands: Vec<Command>,
    /// The first command is the time.
    is_stamped: bool,
    parts: Vec<(usize, Answer)>,
    /// When the first of its proposals must have its answer.
    until: Instant,
}

impl Gathered {
    fn new(number: u64, until: Instant, stamp: Option<Stamp>) -> Self {
        let is_stamped = stamp.is_some();
        let commands = stamp.map(Command::Stamp).into_iter().collect();
        Self { number, commands, is_stamped, parts: Vec::new(), until }
    }
}

/// What time it is, if this node leads and knows it.
fn stamp(raft: &Raft, time: &Time) -> Option<Stamp> {
    let leads = time.look(&raft.metrics().borrow_watched());
    if leads { time.stamp() } else { None }
}

impl Batcher {
    async fn write(&self, raft: &Raft, entry: Gathered) {
        let written = timeout_at(entry.until, raft.client_write(Batch(entry.commands))).await;
        self.lock().under_way.remove(&entry.number);
        tell(written, entry.is_stamped, entry.parts);
    }
}

fn tell(written: Written, is_stamped: bool, parts: Vec<(usize, Answer)>) {
    let result = match written {
        Ok(Ok(written)) => Ok(written.data.0),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ProposeRefused::NotLeader),
        Ok(Err(_)) | Err(_) => Err(ProposeRefused::Unknown),
    };
    let mut responses = match result {
        Ok(responses) => responses.into_iter().skip(usize::from(is_stamped)),
        Err(why) => {
            for (_, answer) in parts {
                answer.give(Err(why));
            }
            return;
        }
    };
    for (count, answer) in parts {
        let part: Vec<_> = responses.by_ref().take(count).collect();
        answer.give(if part.len() == count { Ok(part) } else { Err(ProposeRefused::Unknown) });
    }
}

#[cfg(test)]
mod tests {
    use proxy_core::state::message_store::{MessageCommand, StoredMessage};
    use proxy_core::state::{
        Binding, Flow, RegisterChange, RegisterCommand, SipCommand, Transport, limits::MAX_MESSAGE_BYTES,
    };
    use proxy_core::time::WallTime;

    use super::*;
    use crate::codec::Kind;

    fn message(body: usize) -> Command {
        let message = StoredMessage {
            receipt: 1,
            receipt_ends: WallTime(1),
            from: String::from("<sip:a@lab.test>"),
            to: String::from("sip:b@lab.test"),
            headers: Vec::new(),
            content_type: None,
            body: vec![b'x'; body],
            received_at: WallTime(1),
            expires_at: WallTime(2),
            cseq: 1,
            tries: std::collections::BTreeMap::new(),
        };
        Command::Sip(SipCommand::Message(MessageCommand::Keep {
            aor: String::from("sip:b@lab.test"),
            message: Box::new(message),
            max_per_user: 10,
            max_total: 10,
        }))
    }

    /// As many contacts as a REGISTER may have, each with the longest Path.
    fn register() -> Command {
        let remote = "192.0.2.1:5060".parse().expect("an address");
        let binding = Binding {
            contact: String::from("sip:a@192.0.2.1"),
            contact_key: String::from("sip:a@192.0.2.1"),
            flow: Flow { transport: Transport::Udp, local: remote, remote },
            natted: false,
            path: vec!["x".repeat(proxy_core::registrar::MAX_PATH_BYTES)],
            q: 1000,
            expires_at: WallTime(1),
            call_id: String::from("r"),
            cseq: 1,
            instance: None,
            reg_id: None,
            user_agent: String::new(),
            updated_at: WallTime(1),
            methods: None,
            outbound: false,
            gruu: None,
        };
        let contacts = vec![binding; proxy_core::registrar::MAX_CONTACTS_PER_REGISTER];
        Command::Sip(SipCommand::Register(RegisterCommand {
            aor: String::from("sip:a@lab.test"),
            call_id: String::from("r"),
            cseq: 1,
            change: RegisterChange::Contacts(contacts),
            max_contacts: 64,
            at: WallTime(1),
        }))
    }

    #[tokio::test]
    async fn an_entry_holds_no_more_bytes_than_it_may_whatever_its_commands_are() {
        for command in [message(MAX_MESSAGE_BYTES / 2), register()] {
            let batcher = Batcher::default();
            for _ in 0..100 {
                batcher.propose(vec![command.clone()], Box::new(|_| ()));
            }
            let entry = batcher.take(1, || None).expect("an entry");
            assert!(entry.parts.len() > 1, "several fit");
            let bytes = codec::encode(Kind::Entry, &Batch(entry.commands)).expect("fits");
            assert!(bytes.len() <= MAX_ENTRY_BYTES, "{} bytes", bytes.len());
        }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_by_its_bytes_whatever_its_commands_are() {
        let batcher = Batcher::default();
        let (tx, rx) = std::sync::mpsc::channel();
        for _ in 0..MAX_WAITING_BYTES / (MAX_MESSAGE_BYTES / 2) + 1 {
            let tx = tx.clone();
            batcher
                .propose(vec![message(MAX_MESSAGE_BYTES / 2)], Box::new(move |answer| drop(tx.send(answer))));
        }
        assert_eq!(rx.try_recv(), Ok(Err(ProposeRefused::Overloaded)));
    }
}
