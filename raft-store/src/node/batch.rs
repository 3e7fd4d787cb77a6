//! Many proposals, one log entry: gathers what the engines propose while earlier entries are on their way.
//!
//! Every proposal gets exactly one answer, within [`ANSWER_LIMIT`] at the latest. No proposal overtakes another one: what
//! openraft has refused for its lease (`lease`) is handed to it again only if nothing was handed to it since.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, RaftError};
use openraft::raft::ClientWriteResponse;
use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::inbound::ProposeRefused;
use super::lease::{Gate, Lease};
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
            entry.parts.push(Part {
                commands: next.commands.len(),
                bytes: next.bytes,
                answer: next.answer,
                until: next.until,
            });
            entry.commands.extend(next.commands);
        }
        Some(entry)
    }

    /// Puts the proposals of an entry that was refused to where they were: before all that wait. Nothing of it is in any
    /// log.
    fn put_back(&self, refused: Refused) {
        let mut commands = refused.commands.into_iter();
        let proposals: Vec<_> = refused
            .parts
            .into_iter()
            .map(|part| Proposal {
                commands: commands.by_ref().take(part.commands).collect(),
                bytes: part.bytes,
                answer: part.answer,
                until: part.until,
            })
            .collect();
        let mut queue = self.lock();
        if queue.closed {
            drop(queue);
            for proposal in proposals {
                proposal.answer.give(Err(ProposeRefused::NotLeader));
            }
            return;
        }
        for proposal in proposals.into_iter().rev() {
            queue.bytes += proposal.bytes;
            queue.waiting.push_front(proposal);
        }
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

    /// Turns proposals into entries, in their order, until [`Batcher::close`]. `lease` is how long openraft's own lasts.
    pub async fn run(self, raft: Raft, time: Arc<Time>, lease: Duration) {
        let mut in_flight = FuturesUnordered::new();
        let mut lease = Lease::new(lease);
        let mut metrics = raft.metrics();
        // One on its way may come back: nothing may overtake it.
        let mut is_unsure = false;
        loop {
            let expires = self.expire();
            // Entries of an earlier term may wait for as long as nobody knows what became of them.
            let term = metrics.borrow_watched().current_term;
            let mut gate = lease.look(&metrics.borrow_watched(), Instant::now());
            while !is_unsure
                && !matches!(gate, Gate::Shut(_))
                && self.has_room(term)
                && let Some(entry) = self.take(term, || stamp(&raft, &time))
            {
                is_unsure = gate == Gate::Unsure;
                // Polled once before the next is begun, and without tokio's budget, which could end just then: the
                // first poll is what hands the entry to openraft, and the order of entries must be that of proposals.
                let mut entry = Box::pin(unconstrained(self.write(&raft, entry, is_unsure)));
                match futures::poll!(entry.as_mut()) {
                    Poll::Pending => in_flight.push(entry),
                    Poll::Ready(settled) => is_unsure &= !self.settle(settled),
                }
                gate = lease.look(&metrics.borrow_watched(), Instant::now());
            }
            let shut_until = match gate {
                Gate::Shut(until) if !is_unsure && self.waiting() > 0 => Some(until),
                _ => None,
            };
            if in_flight.is_empty() && shut_until.is_none() {
                if self.lock().closed {
                    return;
                }
                self.news.notified().await;
                continue;
            }
            let is_full = is_unsure || shut_until.is_some() || !self.has_room(term);
            let late = async {
                match [expires.filter(|_| is_full), shut_until].into_iter().flatten().min() {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let renewed = async {
                // When openraft has ended, what waits has its answer at its time, or when the node closes.
                if shut_until.is_none() || metrics.changed().await.is_err() {
                    std::future::pending().await
                }
            };
            tokio::select! {
                biased;
                Some(settled) = in_flight.next() => is_unsure &= !self.settle(settled),
                // Also without room: in a later term there is some again.
                () = self.news.notified() => {}
                () = renewed => {}
                () = late => {}
            }
        }
    }

    /// An entry has its answer, or comes back. Whether it was the one that might.
    fn settle(&self, settled: Settled) -> bool {
        if let Some(refused) = settled.back {
            self.put_back(refused);
        }
        settled.was_unsure
    }
}

/// What became of an entry.
type Written = Result<
    Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>,
    tokio::time::error::Elapsed,
>;

/// A proposal in an entry.
struct Part {
    /// How many commands it has there.
    commands: usize,
    /// As in [`Proposal`].
    bytes: usize,
    answer: Answer,
    until: Instant,
}

/// An entry that openraft did not take, because of its lease.
struct Refused {
    commands: Vec<Command>,
    parts: Vec<Part>,
}

/// An entry that openraft has no more.
struct Settled {
    /// It might have come back.
    was_unsure: bool,
    /// It comes back.
    back: Option<Refused>,
}

/// An entry to be.
struct Gathered {
    number: u64,
    commands: Vec<Command>,
    /// The first command is the time.
    is_stamped: bool,
    parts: Vec<Part>,
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
    /// Hands an entry to openraft at the first poll. `may_come_back`: if openraft refuses it for its lease, its proposals
    /// are not answered.
    async fn write(&self, raft: &Raft, entry: Gathered, may_come_back: bool) -> Settled {
        // A copy only then: it is rare.
        let kept = may_come_back.then(|| {
            let own = entry.commands.iter().skip(usize::from(entry.is_stamped));
            own.cloned().collect::<Vec<_>>()
        });
        let written = timeout_at(entry.until, raft.client_write(Batch(entry.commands))).await;
        self.lock().under_way.remove(&entry.number);
        let back = match kept {
            Some(commands) if was_late(&written) => Some(Refused { commands, parts: entry.parts }),
            _ => {
                tell(written, entry.is_stamped, entry.parts);
                None
            }
        };
        Settled { was_unsure: may_come_back, back }
    }
}

/// openraft leads, and has refused to write because its lease is over: nothing is in any log.
fn was_late(written: &Written) -> bool {
    use RaftError::APIError;
    matches!(written, Ok(Err(APIError(ClientWriteError::ForwardToLeader(to)))) if to.reason == ForwardReason::LeaseExpired)
}

fn tell(written: Written, is_stamped: bool, parts: Vec<Part>) {
    let result = match written {
        Ok(Ok(written)) => Ok(written.data.0),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ProposeRefused::NotLeader),
        Ok(Err(_)) | Err(_) => Err(ProposeRefused::Unknown),
    };
    let mut responses = match result {
        Ok(responses) => responses.into_iter().skip(usize::from(is_stamped)),
        Err(why) => {
            for part in parts {
                part.answer.give(Err(why));
            }
            return;
        }
    };
    for part in parts {
        let of_part: Vec<_> = responses.by_ref().take(part.commands).collect();
        let is_whole = of_part.len() == part.commands;
        part.answer.give(if is_whole { Ok(of_part) } else { Err(ProposeRefused::Unknown) });
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
    async fn what_comes_back_stands_before_what_waits_in_its_order_and_with_its_bytes() {
        let batcher = Batcher::default();
        let answers = Arc::new(Mutex::new(Vec::new()));
        let propose = |body: usize, name: &'static str| {
            let answers = answers.clone();
            let commands = vec![message(body); 2];
            batcher.propose(commands, Box::new(move |_| answers.lock().expect("alive").push(name)));
        };
        propose(1, "first");
        propose(2, "second");
        let held = batcher.lock().bytes;
        let stamp = Stamp {
            time: WallTime(1),
            real: proxy_core::time::RealTime(1),
            boot: 1,
            mono_ms: 0,
            skipped_ms: 0,
        };
        let entry = batcher.take(1, || Some(stamp)).expect("an entry");
        propose(3, "third");
        let commands = entry.commands.into_iter().skip(1).collect();
        batcher.put_back(Refused { commands, parts: entry.parts });
        assert_eq!(batcher.waiting(), 3);
        assert!(batcher.lock().bytes > held);
        let again = batcher.take(1, || None).expect("an entry");
        assert_eq!(again.commands, [vec![message(1); 2], vec![message(2); 2], vec![message(3); 2]].concat());
        assert_eq!(batcher.lock().bytes, 0);
        drop(again.parts);
        assert_eq!(*answers.lock().expect("alive"), ["first", "second", "third"]);
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
