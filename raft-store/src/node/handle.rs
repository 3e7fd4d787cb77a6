//! The handle of a running node: everything the rest of the process asks of it, from any thread.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use proxy_core::time::{Clocks, WallTime};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::batch::Done;
use super::client::Transport;
use super::core::Core;
use super::door::Standing;
use super::facts::Facts;
use super::inbound::ProposeRefused;
use super::members::{Ask, Done as Changed, Listing, Refusal};
use super::net::TcpTransport;
use super::promote::Prospect;
use super::types::Place;
use crate::command::{Command, Versions};
use crate::state::ClusterState;

type Waker = Box<dyn Fn() + Send + Sync>;

/// What the node's thread and its handles share.
pub(super) struct Shared {
    /// Set by the node's thread; there is another one after the node had to come back under a new id.
    core: RwLock<Option<Core<TcpTransport>>>,
    standing: Mutex<Standing>,
    waits: Mutex<Option<String>>,
    pub(super) transport: TcpTransport,
    empty: ClusterState,
    runtime: Handle,
    waker: OnceLock<Waker>,
    fatal: OnceLock<String>,
    pub(super) stop: Notify,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
}

/// A handle of the node of this process.
#[derive(Clone)]
pub struct Node(pub(super) Arc<Shared>);

impl Node {
    /// Has commands committed, if this node leads. Never blocks; `done` is called once, on any thread, and must not
    /// block either. When it is called, [`Node::read`] shows the effect.
    pub fn propose(&self, commands: Vec<Command>, done: Done) {
        match self.0.core() {
            Some(core) => core.propose(commands, done),
            None => done(Err(ProposeRefused::NotLeader)),
        }
    }

    /// Like [`Node::propose`], but asks the leader if that is another node: for the operator's commands.
    pub fn propose_anywhere(&self, commands: Vec<Command>, done: Done) {
        match self.0.core() {
            Some(core) => {
                let _entered = self.0.runtime.enter();
                core.propose_anywhere(commands, done);
            }
            None => done(Err(ProposeRefused::NotLeader)),
        }
    }

    /// Reads the replicated state; keep it short.
    pub fn read<R>(&self, f: impl FnOnce(&ClusterState) -> R) -> R {
        match self.0.core() {
            Some(core) => core.view().read(f),
            None => f(&self.0.empty),
        }
    }

    /// What time it is in the cluster when the clocks of this machine show this.
    #[must_use]
    pub fn time(&self, clocks: Clocks) -> WallTime {
        // Before anything is known, the wall clock is as good as any.
        self.0.core().map_or(WallTime(clocks.real.0), |core| core.time().at(clocks.mono))
    }

    /// What Raft knows now. Cheap.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.0.core().as_ref().map(Core::facts).unwrap_or_default()
    }

    /// Which format versions `place` has said that it reads, if it has said so to this process.
    #[must_use]
    pub fn reads(&self, place: Place) -> Option<Versions> {
        self.0.transport.reads(place)
    }

    /// Has `f` called, on the node's thread, whenever term, leader, grant or membership change, when a quorum has
    /// first acknowledged this node's leadership, and when the node fails. It must not block. Only the first counts.
    pub fn on_change(&self, f: Waker) {
        if self.0.waker.set(f).is_err() {
            tracing::error!("only one listener for changes is possible");
        }
    }

    /// Hands leadership to `to`; from this call on `facts().transfer_tried_in` says so.
    pub fn transfer_leadership(&self, to: Place) {
        let _entered = self.0.runtime.enter();
        if let Some(core) = self.0.core() {
            core.transfer_leadership(to);
        }
    }

    /// Takes leadership back that was transferred and not taken: see [`Core::take_back`].
    pub fn take_back(&self, from: Place) {
        if let Some(core) = self.0.core() {
            self.0.runtime.spawn(async move { core.take_back(from).await });
        }
    }

    /// Falls silent as a leader and does not stand, for this time: see [`Core::abdicate`].
    pub fn abdicate(&self, lasts: Duration) {
        let _entered = self.0.runtime.enter();
        if let Some(core) = self.0.core() {
            core.abdicate(lasts);
        }
    }

    /// A verified notice of a guard: see [`Core::leader_is_dead`].
    pub fn leader_is_dead(&self, dead: Place, term: u64, heir: Place) {
        if let Some(core) = self.0.core() {
            self.0.runtime.spawn(async move { core.leader_is_dead(dead, term, heir).await });
        }
    }

    /// Campaigns now: see [`Core::campaign`].
    pub fn campaign(&self) {
        if let Some(core) = self.0.core() {
            self.0.runtime.spawn(async move { core.campaign().await });
        }
    }

    /// The members of the cluster as this node knows them.
    #[must_use]
    pub fn members(&self) -> Listing {
        self.0.core().as_ref().map(Core::members).unwrap_or_default()
    }

    /// Has the membership changed, by way of the leader if that is another node. Never blocks; `done` is called once.
    pub fn change_members(&self, ask: Ask, done: Box<dyn FnOnce(Result<Changed, Refusal>) + Send>) {
        let Some(core) = self.0.core() else { return done(Err(Refusal::leaderless())) };
        self.0.runtime.spawn(async move { done(core.change_members(ask).await) });
    }

    /// Makes this node the whole cluster, or (`sure` is false) only says what would come of it: see
    /// [`Core::promote`]. Never blocks; `done` is called once.
    pub fn promote(
        &self,
        named: Vec<Place>,
        sure: bool,
        done: Box<dyn FnOnce(Result<Prospect, Refusal>) + Send>,
    ) {
        let Some(core) = self.0.core() else {
            return done(Err(Refusal {
                error: "this node is not part of a cluster at this moment; nothing was changed".into(),
                cure: "relevo status says what it waits for; where its store is damaged: relevo store repair"
                    .into(),
            }));
        };
        self.0.runtime.spawn(async move {
            done(if sure { core.promote(&named).await } else { core.prospect(&named).await });
        });
    }

    /// What this node waits for before it can be part of its cluster.
    #[must_use]
    pub fn waits(&self) -> Option<String> {
        self.0.waits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why this node must give up ownership and exit, once it must.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        self.0.fatal.get().cloned()
    }

    /// Ends the node and waits for its thread. To be called once, from outside of it.
    pub fn shutdown(&self) {
        self.0.stop.notify_one();
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the Raft thread panicked");
        }
    }
}

impl Shared {
    /// For a node whose thread runs on `runtime`.
    pub(super) fn new(transport: TcpTransport, runtime: Handle) -> Self {
        Self {
            core: RwLock::default(),
            standing: Mutex::new(Standing::Opening),
            waits: Mutex::default(),
            transport,
            empty: ClusterState::default(),
            runtime,
            waker: OnceLock::new(),
            fatal: OnceLock::new(),
            stop: Notify::new(),
            thread: Mutex::new(None),
        }
    }

    /// The core, while there is one.
    pub(super) fn core(&self) -> Option<Core<TcpTransport>> {
        self.core.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on this is the core.
    pub(super) fn set_core(&self, core: Option<Core<TcpTransport>>) {
        *self.core.write().unwrap_or_else(PoisonError::into_inner) = core;
        self.wake();
    }

    /// What the node waits for, or nothing any more.
    pub(super) fn wait_for(&self, what: Option<String>) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    pub(super) fn standing(&self) -> Standing {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What peers are told from here on, as long as there is no core.
    pub(super) fn stand(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker();
        }
    }

    pub(super) fn fail(&self, why: String) {
        tracing::error!(%why, "the node cannot go on");
        // The first reason counts.
        drop(self.fatal.set(why));
        self.wake();
    }
}
