//! A cluster of one node without Raft or disk: it leads, and commits what it is given, on a thread of its own.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, RwLock};

use agent::bridge::{Cluster, Store, Verdict};
use agent::control::{Facts, Grant, Place};
use proxy_core::state::{SipCommand, SipState};
use proxy_core::time::{Clocks, MonoTime, RealTime};
use raft_store::command::GrantReason;

/// Both clocks.
pub fn clock() -> Clocks {
    let since = |id| {
        let t = nix::time::clock_gettime(id).expect("clock");
        u64::try_from(t.tv_sec()).expect("positive") * 1_000_000_000
            + u64::try_from(t.tv_nsec()).expect("positive")
    };
    Clocks {
        mono: MonoTime(since(nix::time::ClockId::CLOCK_BOOTTIME)),
        real: RealTime(since(nix::time::ClockId::CLOCK_REALTIME) / 1_000_000),
    }
}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Clone)]
pub struct Memory {
    state: Arc<RwLock<SipState>>,
    grant: Arc<Mutex<(u64, Option<Grant>)>>,
    jobs: Sender<Job>,
    /// While set, no quorum acknowledges anything: since when.
    lonely_since: Arc<Mutex<Option<MonoTime>>>,
    fatal: Arc<Mutex<Option<String>>>,
}

impl Memory {
    /// From now on no quorum acknowledges anything, or does so again.
    pub fn isolate(&self, on: bool) {
        *self.lonely_since.lock().expect("not poisoned") = on.then(|| clock().mono);
    }

    /// The disk fails.
    pub fn fail(&self, why: &str) {
        *self.fatal.lock().expect("not poisoned") = Some(why.to_owned());
    }

    pub fn new() -> Self {
        let (jobs, queue) = channel::<Job>();
        std::thread::spawn(move || queue.into_iter().for_each(|job| job()));
        Self {
            state: Arc::default(),
            grant: Arc::default(),
            jobs,
            lonely_since: Arc::default(),
            fatal: Arc::default(),
        }
    }
}

impl Store for Memory {
    fn read<R>(&self, f: impl FnOnce(&SipState) -> R) -> R {
        f(&self.state.read().expect("not poisoned"))
    }

    fn propose(&self, command: SipCommand, done: Verdict) {
        let me = self.clone();
        let job: Job = Box::new(move || {
            let response = me.state.write().expect("not poisoned").apply(&command);
            me.grant.lock().expect("not poisoned").0 += 1;
            done(Ok(response));
        });
        self.jobs.send(job).expect("the thread lives");
    }
}

impl Cluster for Memory {
    fn facts(&self) -> Facts {
        let (applied, grant) = *self.grant.lock().expect("not poisoned");
        Facts {
            term: 1,
            leader: Some(1),
            leading: true,
            applied,
            last_log: applied,
            grant,
            quorum_ack_at: Some(
                self.lonely_since.lock().expect("not poisoned").unwrap_or_else(|| clock().mono),
            ),
            ..Facts::default()
        }
    }

    fn fatal(&self) -> Option<String> {
        self.fatal.lock().expect("not poisoned").clone()
    }

    fn grant(&self, holder: Place, _why: GrantReason, done: Box<dyn FnOnce(bool) + Send>) {
        let mut inner = self.grant.lock().expect("not poisoned");
        inner.0 += 1;
        inner.1 = Some(Grant { holder, token: inner.0 });
        drop(inner);
        done(true);
    }

    fn transfer(&self, _to: Place) {}
}
