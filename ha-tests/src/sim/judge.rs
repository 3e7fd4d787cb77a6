//! What must hold at every moment of every world.
//!
//! | number | invariant |
//! |---|---|
//! | 1 | at no time do two kernels let the floating IP pass; tokens of acting nodes only grow |
//! | 1 | nobody speaks but the node that became active last |
//! | 2 | whatever left the proxy was known to a majority when it left; whoever becomes active knows all of that |
//! | 3 | logs are equal, entry by entry, and equal logs make equal states, byte for byte |
//! | 4 | when all faults have ended, somebody serves soon, all nodes catch up, and every call ends as it should |
//! | 6 | a voter that was restarted neither votes nor campaigns for one lease |
//! | 7 | a node votes once in a term, and in no earlier term later, whatever happens to its machine (`laws::votes`) |
//! | 8 | a promised call has one end, and the right one where somebody would answer; nobody is left ringing or talking |
//! | 9 | accounting says everything once: one CDR for each answered leg that has ended, one for each failed call |
//! | 10 | a trunk is registered under one number by one node, not before that is due, and is registered after healing |
//! | 11 | a message that was taken is delivered, and not again when that is committed (`laws::notes`) |
//! | 12 | a lamp that was promised shines as its calls do; numbers of NOTIFYs rise (`laws::lamps`) |
//! | 13 | SDP that passes is an rtpengine's; it is told of each call that is over (`laws::media`) |
//! | 14 | while a majority runs and hears each other, the service is away for a bounded time only (`laws::liveness`) |
//! | 15 | nobody stays active that cannot commit, while another node could (`laws::commits`) |
//! | 16 | who is told that it lacks what it acknowledged neither votes nor acknowledges; only damage can do that (`laws::memory`) |
//! | 18 | no cluster begins where something was on a disk (`laws::memory`) |
//! | 17 | the time of the cluster goes forward only, and as fast as the world's, whatever wall clocks show (`laws::time`) |
//!
//! (5, the same seed gives the same trace, is a test of its own: it takes two runs.)
//!
//! An entry that anybody has applied is committed. The judge applies each once, in a state of its own, and compares
//! everybody with that.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::async_runtime::WatchReceiver;
use proxy_core::state::trunk::{RegistrationState, TrunkCommand};
use proxy_core::state::{BranchState, ServerKey, SipCommand, SipResponse, SipState};
use raft_store::codec::{self, Kind};
use raft_store::command::{Command, Response};
use raft_store::node::types::Entry;
use raft_store::node::{Place, RaftId};
use raft_store::state::ClusterState;

use super::base::hash;
use super::laws;
use super::machine::Agent;
use super::net::Body;
use super::sip;

/// By how much the next time of a registration lies behind its beginning, ms: as the engine has it.
const ATTEMPT_MS: u64 = 40_000;
/// By how much wall clocks of two nodes may differ, ms, and a little more.
const WALL_ERROR_MS: u64 = 2_500;

/// What may be broken after a long outage of all machines: calls, messages and subscriptions ended in it.
const OUTLIVED: [&str; 7] = [
    "invariant 2: the dialog",
    "invariant 8",
    "invariant 9",
    "invariant 10",
    "invariant 11",
    "invariant 12",
    "invariant 13",
];

/// What is known of a call by a majority.
#[derive(Debug, Default)]
struct Safe {
    admitted: bool,
    cancelled: bool,
    finals: BTreeSet<u64>,
    failed_tags: BTreeSet<String>,
    /// Branch parameters of its copies.
    branches: BTreeSet<String>,
    /// A later round of them has begun.
    rounds: bool,
    /// One of them has moved to another address, so that a 503 is acknowledged.
    moved: bool,
    decided: bool,
    ended: bool,
}

/// The judge.
#[derive(Debug, Default)]
pub struct Judge {
    state: ClusterState,
    /// Hash of each entry, and of the state after it.
    entries: Vec<(u64, u64)>,
    calls: BTreeMap<String, Safe>,
    keys: BTreeMap<ServerKey, String>,
    registered: BTreeSet<(String, u32)>,
    /// Numbers of the trunk's registrations that are committed, and who has sent them.
    numbered: BTreeMap<u32, Option<Place>>,
    votes: laws::votes::Law,
    /// Of a service that is away.
    pub liveness: laws::liveness::Law,
    /// Of those who watch calls.
    pub lamps: laws::lamps::Law,
    /// Of media.
    pub media: laws::media::Law,
    /// Of those who cannot commit.
    pub commits: laws::commits::Law,
    /// Of messages that are kept.
    pub notes: laws::notes::Law,
    /// Of what was forgotten.
    pub memory: laws::memory::Law,
    /// Of the time of the cluster.
    pub time: laws::time::Law,
    token: u64,
    acting: Option<Place>,
    /// Times that another node than before became active.
    pub moves: u64,
    /// Later rounds of calls that were committed.
    pub rounds: u64,
    /// Moves of branches that were committed.
    pub moved: u64,
    /// Promises judged.
    pub promises: u64,
    /// What was found wrong first.
    pub verdict: Option<String>,
}

fn bytes_of(state: &ClusterState) -> u64 {
    codec::encode(Kind::Snapshot, state).map_or(0, |bytes| hash(&bytes))
}

impl Judge {
    /// Says what is wrong; only the first counts.
    pub fn accuse(&mut self, what: impl Into<String>) {
        let what = what.into();
        // All machines were without power, and clocks were set: up to an hour is gone, and what lasts for less is forgotten.
        if self.time.has_skipped_much() && OUTLIVED.iter().any(|of| what.starts_with(of)) {
            return;
        }
        self.verdict.get_or_insert(what);
    }

    /// Entries known to be committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Invariant 1: who lets the floating IP pass now.
    pub fn owners(&mut self, owners: &[Place]) {
        if owners.len() > 1 {
            self.accuse(format!("invariant 1: the floating IP passes on nodes {owners:?} at once"));
        }
    }

    /// Invariants 1 and 2: `place` became active under `token`.
    pub fn activated(&mut self, place: Place, token: u64, agent: &Agent) {
        if token < self.token || (token == self.token && self.acting.is_some_and(|p| p != place)) {
            self.accuse(format!("invariant 1: node {place} acts under token {token} after {}", self.token));
        }
        if self.acting.is_some_and(|p| p != place) {
            self.moves += 1;
        }
        self.token = token;
        self.acting = Some(place);
        let Some(running) = agent.process.running() else { return };
        let known = bytes_of(&running.core.view().read(Clone::clone));
        if self.entries.last().is_some_and(|(_, state)| *state != known) {
            let all = self.entries.len();
            self.accuse(format!(
                "invariant 2: node {place} serves without what was committed until entry {all}"
            ));
        }
    }

    /// Invariant 3: takes in what a node has applied.
    pub fn look(&mut self, place: Place, agent: &mut Agent) {
        let Some(running) = agent.process.running() else { return };
        let applied = running.core.raft().metrics().borrow_watched().last_applied;
        let Some(applied) = applied.map(|id| id.index) else { return };
        if agent.judged > applied {
            return;
        }
        let (first, payloads) = running.log.with(|log| {
            let first = log.entries().start.max(agent.judged);
            (first, log.read(first..applied + 1, false))
        });
        // A read fails only where the disk was made to fail; the node ends then.
        for (index, bytes) in (first..).zip(payloads.unwrap_or_default()) {
            let known = usize::try_from(index).ok().and_then(|i| self.entries.get(i));
            match known {
                Some((entry, _)) if *entry != hash(&bytes) => {
                    self.accuse(format!("invariant 3: node {place} has another entry {index}"));
                }
                Some(_) => {}
                None if index == self.entries.len() as u64 => self.commit(index, &bytes),
                None => self.accuse(format!("invariant 3: node {place} has skipped to entry {index}")),
            }
        }
        agent.judged = applied + 1;
        let state = bytes_of(&running.core.view().read(Clone::clone));
        match usize::try_from(applied).ok().and_then(|i| self.entries.get(i)) {
            Some((_, known)) if *known == state => {}
            Some(_) => self.accuse(format!("invariant 3: node {place} has another state at entry {applied}")),
            None => {
                self.accuse(format!("invariant 3: node {place} is at entry {applied}, which nobody knows"))
            }
        }
    }

    fn commit(&mut self, index: u64, bytes: &[u8]) {
        match codec::decode::<Entry>(Kind::Entry, bytes).map(|entry| entry.payload) {
            Ok(EntryPayload::Normal(batch)) => {
                for command in &batch.0 {
                    let wrong = match command {
                        Command::Stamp(stamp) => self.time.stamped(stamp),
                        Command::Sip(command) => self.time.expires(command.bare()),
                        _ => None,
                    };
                    if let Some(what) = wrong {
                        self.accuse(format!("invariant 17: the cluster {what} (entry {index})"));
                    }
                    let early = self.registers_early(command);
                    let response = self.state.apply(index, command);
                    if let (Command::Sip(command), Response::Sip(response)) = (command, response) {
                        if let Some(early) = early.filter(|_| response == SipResponse::Done) {
                            self.accuse(format!(
                                "invariant 10: the trunk is registered again {early} ms before that is due"
                            ));
                        }
                        self.learn(command.bare(), &response);
                    }
                }
            }
            Ok(EntryPayload::Blank | EntryPayload::Membership(_)) => {}
            Err(e) => self.accuse(format!("invariant 3: entry {index} cannot be read: {e}")),
        }
        self.entries.push((hash(bytes), bytes_of(&self.state)));
    }

    fn call_of(&mut self, command: &SipCommand) -> Option<&mut Safe> {
        let call = match command {
            SipCommand::InviteReceived(invite) => {
                self.keys.insert(invite.key.clone(), invite.call_id.clone());
                invite.call_id.clone()
            }
            SipCommand::BranchProgress { key, .. }
            | SipCommand::BranchesAdded { key, .. }
            | SipCommand::BranchMoved { key, .. }
            | SipCommand::InviteCancelled { key }
            | SipCommand::InviteAnswered { key, .. }
            | SipCommand::InviteFailed { key, .. } => self.keys.get(key)?.clone(),
            SipCommand::DialogEnded { id, .. } => id.call_id.clone(),
            _ => return None,
        };
        Some(self.calls.entry(call).or_default())
    }

    fn learn(&mut self, command: &SipCommand, response: &SipResponse) {
        if *response == SipResponse::Done {
            self.media.learn(command);
        }
        if let SipCommand::Subscription(subscription) = command {
            self.lamps.learn(subscription, response);
        }
        if let SipCommand::Message(message) = command {
            self.notes.learn(message, response, self.state.sip());
        }
        if let (SipCommand::Register(register), SipResponse::Registered(_)) = (command, response) {
            self.registered.insert((register.call_id.clone(), register.cseq));
        }
        if let (SipCommand::Trunk(TrunkCommand::Registering { cseq, .. }), SipResponse::Done) =
            (command, response)
        {
            self.numbered.entry(*cseq).or_default();
        }
        if matches!(response, SipResponse::NotFound | SipResponse::Full) {
            return;
        }
        if *response == SipResponse::Done {
            self.rounds += u64::from(matches!(command, SipCommand::BranchesAdded { .. }));
            self.moved += u64::from(matches!(command, SipCommand::BranchMoved { .. }));
        }
        let Some(safe) = self.call_of(command) else { return };
        match command {
            SipCommand::InviteReceived(invite) => {
                safe.admitted = true;
                safe.branches.extend(invite.branches.iter().map(|b| b.via_branch.clone()));
            }
            SipCommand::BranchesAdded { branches, .. } if *response == SipResponse::Done => {
                safe.rounds = true;
                safe.branches.extend(branches.iter().map(|b| b.via_branch.clone()));
            }
            SipCommand::BranchMoved { via_branch, .. } if *response == SipResponse::Done => {
                safe.moved = true;
                safe.branches.insert(via_branch.clone());
            }
            SipCommand::InviteCancelled { .. } => safe.cancelled = true,
            SipCommand::InviteAnswered { response, .. } | SipCommand::InviteFailed { response, .. } => {
                safe.decided = true;
                safe.finals.insert(hash(response));
            }
            SipCommand::BranchProgress { state: BranchState::Final { response, .. }, .. } => {
                safe.failed_tags.insert(sip::to_tag(&String::from_utf8_lossy(response)));
            }
            SipCommand::DialogEnded { .. } => safe.ended = true,
            _ => {}
        }
    }

    /// Invariants 1 and 2: the proxy on `place` sends this, and its kernel lets it pass.
    pub fn sent(&mut self, place: Place, text: &str, now: u64) {
        // An engine that was not stopped when another took over knows its calls as they were: when the floating IP is
        // here again, it must have become active anew before it says a word.
        if self.acting != Some(place) {
            let last = self.acting.map_or(String::from("nobody"), |p| format!("node {p}"));
            self.accuse(format!(
                "invariant 1: node {place} speaks, but {last} became active last: {}",
                sip::short(text)
            ));
        }
        let call = sip::header(text, "Call-ID").unwrap_or_default();
        let (number, method) = sip::cseq(text).unwrap_or_default();
        let status = sip::status(text);
        if method == "REGISTER" {
            self.promises += 1;
            if status.is_none() {
                self.trunk_sent(place, number);
            }
            if status == Some(200) && !self.registered.contains(&(call.clone(), number)) {
                self.accuse(format!(
                    "invariant 2: node {place} confirms {call} {number}, which is not committed"
                ));
            }
            return;
        }
        if method == "MESSAGE"
            && let Some(what) = self.notes.sent(text)
        {
            self.accuse(format!("invariant 11: node {place} {what}: {}", sip::short(text)));
        }
        if matches!(method.as_str(), "SUBSCRIBE" | "NOTIFY")
            && let Some(what) = self.lamps.sent(text)
        {
            self.accuse(format!("invariant 12: node {place} {what}: {}", sip::short(text)));
        }
        if method == "INVITE"
            && let Some(what) = self.media.sent(text, now)
        {
            self.accuse(format!("invariant 13: node {place} {what}: {}", sip::short(text)));
        }
        let none = Safe::default();
        let safe = self.calls.get(&call).unwrap_or(&none);
        let ours_alone = || sip::header(text, "Via").unwrap_or_default().matches("SIP/2.0/UDP").count() == 1;
        let allowed = match (status, method.as_str()) {
            (None, "INVITE") => safe.branches.contains(&sip::branch(text)),
            (Some(100..=199), "INVITE") => safe.admitted,
            (None, "CANCEL") => {
                safe.cancelled || safe.decided || safe.rounds || safe.moved || !safe.failed_tags.is_empty()
            }
            (None, "ACK") if ours_alone() => {
                safe.decided || safe.rounds || safe.moved || safe.failed_tags.contains(&sip::to_tag(text))
            }
            (Some(200..=499 | 600..=699), "INVITE") => {
                let is_repeated = status < Some(300) && safe.decided && self.media.has_passed(&call);
                safe.finals.contains(&hash(text.as_bytes())) || is_repeated
            }
            (Some(200), "CANCEL") => safe.cancelled || safe.decided,
            (Some(200), "BYE") => safe.ended,
            _ => true,
        };
        self.promises += 1;
        if !allowed {
            self.accuse(format!(
                "invariant 2: node {place} promises what is not committed: {}",
                sip::short(text)
            ));
        }
    }

    /// What is committed, as far as it is SIP.
    #[must_use]
    pub fn sip(&self) -> &SipState {
        self.state.sip()
    }

    /// Invariant 10: how much too early a registration at a trunk would begin, ms.
    fn registers_early(&self, command: &Command) -> Option<u64> {
        let Command::Sip(command) = command else { return None };
        let SipCommand::Trunk(TrunkCommand::Registering { uuid, next_at, .. }) = command.bare() else {
            return None;
        };
        let known = &self.state.sip().trunk(uuid)?.registration;
        let early = known.next_at.0.saturating_sub(next_at.0.saturating_sub(ATTEMPT_MS));
        (known.state == RegistrationState::Registered && early > WALL_ERROR_MS).then_some(early)
    }

    /// Invariants 2 and 10: a node sends a REGISTER of the trunk.
    fn trunk_sent(&mut self, place: Place, number: u32) {
        match self.numbered.get_mut(&number) {
            None => self.accuse(format!(
                "invariant 2: node {place} registers the trunk under {number}, which is not committed"
            )),
            Some(sender) if sender.is_some_and(|other| other != place) => self.accuse(format!(
                "invariant 10: node {place} registers the trunk under {number}, as another node has"
            )),
            Some(sender) => *sender = Some(place),
        }
    }

    /// Invariant 7: the node `id` says these at once, in whatever order. Whether it gives its vote to another.
    pub fn voted<'a>(&mut self, id: RaftId, bodies: impl Iterator<Item = &'a Body>) -> bool {
        let (gives, wrong) = self.votes.voted(id, bodies);
        if let Some(what) = wrong {
            self.accuse(format!("invariant 7: node id {id} {what}"));
        }
        gives
    }

    /// Invariant 6: a process says this.
    pub fn said(&mut self, place: Place, restarted_ago: Option<u64>, lease: u64, body: &Body) {
        if restarted_ago.is_some_and(|ago| ago < lease) && laws::votes::is_campaign(body) {
            self.accuse(format!("invariant 6: node {place} votes within a lease after its start"));
        }
    }
}
