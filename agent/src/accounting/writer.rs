//! The thread that writes records, and what it tells the cluster.
//!
//! | what it sees | what it does |
//! |---|---|
//! | it has sinks, and the cluster does not know that it writes | says so; for the other appliances, too: they may be down |
//! | it has none, and others write | says that nobody has to wait for it |
//! | records after the last one of a sink | writes them, in order, and makes them safe |
//! | all sinks are further than the cluster knows | says how far |
//! | a number is missing | the outbox was full while this node was away: the gap is written down |
//! | a sink is further than the cluster | nothing, and says so: this node is catching up, or the file is of another cluster |
//! | a sink fails | tries again, and says so; SIP does not notice |

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proxy_core::state::{AccountingCommand, Outbox, PlaceId, SipCommand};
use proxy_core::time::{Clocks, MonoTime};

use super::{Item, Sink};
use crate::bridge::Cluster;

/// How often the outbox is looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// Records taken out of the state at a time, and written with one fsync.
const BATCH: usize = 500;
/// Least time between two words about how far this node has come: each is an entry of the log.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A word without an answer is said again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(5);
/// Time between two tries of a sink that has failed.
const RETRY: Duration = Duration::from_secs(2);

/// What is shown of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Where records go.
    pub sinks: Vec<String>,
    /// Up to which record all sinks have come.
    pub written: Option<u64>,
    /// Records that went before this node could write them, since it was started.
    pub lost: u64,
    /// What is wrong.
    pub trouble: Option<String>,
}

/// One sink, and how far it is.
struct Place {
    sink: Box<dyn Sink>,
    /// Known once it has been opened, and until it fails.
    last: Option<u64>,
}

/// Writes records into sinks.
pub struct Writer<C> {
    cluster: C,
    place: PlaceId,
    appliances: Vec<PlaceId>,
    sinks: Vec<Place>,
    clock: fn() -> Clocks,
    figures: Arc<Mutex<Figures>>,
    /// Set while a word to the cluster has no answer.
    told: Arc<AtomicBool>,
    tell_at: MonoTime,
    retry_at: MonoTime,
}

impl<C> std::fmt::Debug for Writer<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// What one look at the state found.
struct Look {
    newest: u64,
    acknowledged: u64,
    items: Vec<Item>,
}

impl<C: Cluster> Writer<C> {
    /// A writer for this node. `appliances` are all nodes that should write.
    #[must_use]
    pub fn new(
        cluster: C,
        place: PlaceId,
        appliances: Vec<PlaceId>,
        sinks: Vec<Box<dyn Sink>>,
        clock: fn() -> Clocks,
    ) -> Self {
        let names = sinks.iter().map(|s| s.name()).collect();
        Self {
            cluster,
            place,
            appliances,
            sinks: sinks.into_iter().map(|sink| Place { sink, last: None }).collect(),
            clock,
            figures: Arc::new(Mutex::new(Figures { sinks: names, ..Figures::default() })),
            told: Arc::default(),
            tell_at: MonoTime(0),
            retry_at: MonoTime(0),
        }
    }

    /// What is shown of it.
    #[must_use]
    pub fn figures(&self) -> Arc<Mutex<Figures>> {
        Arc::clone(&self.figures)
    }

    /// Does what there is to do. `true`: there is more at once.
    pub fn step(&mut self) -> bool {
        let now = (self.clock)().mono;
        if let Some(command) = self.cluster.read(|s| self.to_declare(s.outbox())) {
            self.tell(now, command);
            return false;
        }
        if self.sinks.is_empty() || now < self.retry_at {
            return false;
        }
        let Some(acknowledged) = self.cluster.read(|s| s.outbox().place(self.place).flatten()) else {
            // It has to be known first, or what is written could go from the outbox of the others too early.
            return false;
        };
        if let Err(why) = self.find_places(acknowledged) {
            self.failed(now, why);
            return false;
        }
        let first = self.sinks.iter().filter_map(|s| s.last).min().unwrap_or(acknowledged);
        let look = self.cluster.read(|s| look(s.outbox(), self.place, first));
        let furthest = self.sinks.iter().filter_map(|s| s.last).max().unwrap_or(0);
        if furthest > look.newest {
            let what = format!(
                "the files go to record {furthest}, the cluster only to {}: this node is catching up, or the files are \
                 of another cluster (then move them away)",
                look.newest
            );
            self.show(None, Some(what));
            return false;
        }
        let more = look.items.len() >= BATCH;
        if let Err(why) = self.write(&look.items) {
            self.failed(now, why);
            return false;
        }
        let written = self.sinks.iter().filter_map(|s| s.last).min().unwrap_or(first);
        self.show(Some(written), None);
        if written > look.acknowledged {
            self.tell(now, AccountingCommand::Written { place: self.place, up_to: written });
        }
        more
    }

    /// What the cluster should know of who writes, and does not.
    fn to_declare(&self, outbox: &Outbox) -> Option<AccountingCommand> {
        let (place, mine) = (self.place, outbox.place(self.place));
        if self.sinks.is_empty() {
            let others_write = outbox.places().any(|(_, up_to)| up_to.is_some());
            return (others_write && mine != Some(None)).then_some(AccountingCommand::Close { place });
        }
        if mine.flatten().is_none() {
            return Some(AccountingCommand::Open { place, itself: true });
        }
        let unknown = self.appliances.iter().copied().find(|p| outbox.place(*p).is_none());
        unknown.map(|place| AccountingCommand::Open { place, itself: false })
    }

    /// Finds out how far each sink is.
    fn find_places(&mut self, acknowledged: u64) -> Result<(), String> {
        for place in self.sinks.iter_mut().filter(|p| p.last.is_none()) {
            let last = place.sink.last().map_err(|e| format!("{}: {e}", place.sink.name()))?;
            // What was acknowledged was safe in files, even if these are gone.
            place.last = Some(last.unwrap_or(acknowledged));
        }
        Ok(())
    }

    fn write(&mut self, items: &[Item]) -> Result<(), String> {
        for place in &mut self.sinks {
            let last = place.last.unwrap_or(0);
            let from = items.partition_point(|item| item.seq() <= last);
            let new = items.get(from..).unwrap_or_default();
            let Some(end) = new.last() else { continue };
            if let Err(e) = place.sink.write(new) {
                // How much of it is there only the sink knows.
                place.last = None;
                return Err(format!("{}: {e}", place.sink.name()));
            }
            place.last = Some(end.seq());
        }
        let lost: u64 = items
            .iter()
            .map(|item| match item {
                Item::Gap { from, to } => to - from + 1,
                Item::Record(_) => 0,
            })
            .sum();
        if lost > 0 {
            tracing::error!(
                "{lost} records of calls went before this node could write them; the files say which"
            );
            self.figures.lock().unwrap_or_else(PoisonError::into_inner).lost += lost;
        }
        Ok(())
    }

    fn tell(&mut self, now: MonoTime, command: AccountingCommand) {
        if now < self.tell_at && self.told.load(Ordering::Acquire) {
            return;
        }
        if now < self.tell_at && matches!(command, AccountingCommand::Written { .. }) {
            return;
        }
        self.tell_at = now + TELL_EVERY;
        if self.told.swap(true, Ordering::AcqRel) {
            // Nobody has answered.
            self.tell_at = now + TELL_AGAIN;
        }
        let told = Arc::clone(&self.told);
        let done = Box::new(move |_| told.store(false, Ordering::Release));
        self.cluster.operate(SipCommand::Accounting(command), done);
    }

    fn failed(&mut self, now: MonoTime, why: String) {
        self.retry_at = now + RETRY;
        let known = self.figures.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone();
        if known.as_ref() != Some(&why) {
            tracing::error!("records of calls cannot be written: {why}");
        }
        self.show(None, Some(why));
    }

    fn show(&self, written: Option<u64>, trouble: Option<String>) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.written = written.or(figures.written);
        figures.trouble = trouble;
    }
}

/// Takes the next records after `first`.
fn look(outbox: &Outbox, place: PlaceId, first: u64) -> Look {
    let mut items = Vec::new();
    let mut last = first;
    for record in outbox.after(first).take(BATCH) {
        if record.seq > last + 1 {
            items.push(Item::Gap { from: last + 1, to: record.seq - 1 });
        }
        last = record.seq;
        items.push(Item::Record(Box::new(record.clone())));
    }
    let acknowledged = outbox.place(place).flatten().unwrap_or(0);
    if items.is_empty() && first < outbox.newest() && acknowledged < outbox.newest() {
        // All of them went.
        items.push(Item::Gap { from: first + 1, to: outbox.newest() });
    }
    Look { newest: outbox.newest(), acknowledged, items }
}

/// The thread of a [`Writer`]; it ends when this is dropped, within one interval.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    /// What is shown of it.
    pub figures: Arc<Mutex<Figures>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Starts the thread.
///
/// # Errors
/// The thread cannot be started.
pub fn start<C: Cluster>(mut writer: Writer<C>) -> std::io::Result<Running> {
    let stop: Arc<AtomicBool> = Arc::default();
    let running = Running { stop: Arc::clone(&stop), figures: writer.figures() };
    std::thread::Builder::new().name(String::from("relevo-cdr")).spawn(move || {
        while !stop.load(Ordering::Acquire) {
            if !writer.step() {
                std::thread::sleep(INTERVAL);
            }
        }
    })?;
    Ok(running)
}
