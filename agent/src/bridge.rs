//! Between the SIP engines and the replicated state: proposals one way, verdicts back to the engine that asked.

use std::path::Path;
use std::time::Duration;

use proxy_core::io::Refusal;
use proxy_core::state::{SipCommand, SipResponse, SipState};
use proxy_core::time::{Clocks, MonoTime, Now, WallTime};
use raft_store::backup::{BackupError, Head};
use raft_store::command::{Command, GrantReason, Response, Versions};
use raft_store::node::members::{Ask, Done, Listing, Refusal as NotChanged};
use raft_store::node::promote::Prospect;
use raft_store::state::Event;

use crate::control::{Facts, Fitness, Place};

/// What is called, once, with the verdict on a proposal. It must not block.
pub type Verdict = Box<dyn FnOnce(Result<SipResponse, Refusal>) + Send>;

/// The replicated SIP state as the engines use it.
pub trait Store: Clone + Send + 'static {
    /// Reads the state. `f` must be short: `apply` waits for it.
    fn read<R>(&self, f: impl FnOnce(&SipState) -> R) -> R;
    /// What an engine is told when the clocks of this machine show this. A store without a cluster's time takes the wall clock
    /// for it.
    fn now(&self, clocks: Clocks) -> Now {
        Now { mono: clocks.mono, wall: WallTime(clocks.real.0) }
    }
    /// Has a command committed. Never blocks; `done` is called on any thread, after the command is visible to
    /// [`Store::read`].
    fn propose(&self, command: SipCommand, done: Verdict);
}

/// What another node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Which.
    pub place: Place,
    /// Index of the last entry that it has applied.
    pub applied: u64,
    /// When it was asked.
    pub at: MonoTime,
}

/// The cluster as the control thread uses it.
pub trait Cluster: Store + Sync {
    /// What Raft knows now. Cheap.
    fn facts(&self) -> Facts;
    /// Why this node must give up the service and end, once it must.
    fn fatal(&self) -> Option<String> {
        None
    }
    /// What each other node says that it has applied, and when it was asked.
    fn said(&self) -> Vec<Said> {
        Vec::new()
    }
    /// What this node waits for before it can be part of its cluster: its store is damaged, say.
    fn waits(&self) -> Option<String> {
        None
    }
    /// Has an operator's command committed, by way of the leader if that is another node: then [`Store::read`] here may show it
    /// a moment after `done` was called. Otherwise as [`Store::propose`].
    fn operate(&self, command: SipCommand, done: Verdict) {
        self.propose(command, done);
    }
    /// Has a grant committed, by way of the leader if that is another node. Never blocks; `done` is called on any thread with whether it was.
    fn grant(&self, holder: Place, why: GrantReason, done: Box<dyn FnOnce(bool) + Send>);
    /// Has committed what ails this node by its own word, by way of the leader if that is another node. Whether it was
    /// shows in `facts().fitness`.
    fn report(&self, _place: Place, _own: Fitness) {}
    /// Has committed what an operator orders about the cluster itself, by way of the leader if that is another node. Never
    /// blocks; `done` is called on any thread.
    fn order(&self, _command: Command, done: Box<dyn FnOnce(Result<Response, Refusal>) + Send>) {
        done(Err(Refusal::NotActive));
    }
    /// Has committed that an engine of this node has died with a message. Whether it was shows in `facts().suspects`.
    fn suspect(&self, _fingerprint: u64, _place: Place, _moment: u64) {}
    /// Has what this node knows of an event kept in the history. Whether it was shows in [`Cluster::history`]; while a member
    /// cannot read that yet, it is not.
    fn tell(&self, _event: Event) {}
    /// What has happened to the service, the oldest first.
    fn history(&self) -> Vec<Event> {
        Vec::new()
    }
    /// Copies the replicated state into a file, and says how many bytes that has; `None` where there is no such state.
    fn backup(&self, _file: &Path, _head: &Head, _replace: bool) -> Option<Result<u64, BackupError>> {
        None
    }
    /// Who is in the cluster, as this node knows it.
    fn members(&self) -> Listing {
        Listing::default()
    }
    /// Has that changed, by way of the leader if that is another node. Never blocks; `done` is called on any thread.
    fn change_members(&self, _ask: Ask, done: Box<dyn FnOnce(Result<Done, NotChanged>) + Send>) {
        let (error, cure) = ("there is no cluster here".into(), String::new());
        done(Err(NotChanged { error, cure }));
    }
    /// Makes this node the whole cluster, or only says what would come of it. Never blocks; `done` is called on any thread.
    fn promote(
        &self,
        _fenced: Vec<Place>,
        _sure: bool,
        done: Box<dyn FnOnce(Result<Prospect, NotChanged>) + Send>,
    ) {
        let (error, cure) = ("there is no cluster here".into(), String::new());
        done(Err(NotChanged { error, cure }));
    }
    /// Which format versions a node reads, if it has said so to this one.
    fn reads(&self, _place: Place) -> Option<Versions> {
        None
    }
    /// Asks for a transfer of leadership; from the moment of the call `facts().transfer_tried_in` says so.
    fn transfer(&self, to: Place);
    /// Takes leadership back that was transferred to `from` and not taken. Whether that came about shows in `facts()`.
    fn take_back(&self, _from: Place) {}
    /// Says nothing as a leader or candidate for this time; from the moment of the call `facts().mute_until` says so.
    fn abdicate(&self, _lasts: Duration) {}
}
