//! The whole SIP side of a node: opened once, switched on and off by the resource sequence, counted for the status.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use proxy_core::digest::Replay;
use proxy_core::engine::Together;
use proxy_core::io::{Counters, EngineConfig, TransportConfig};
use proxy_core::media::Health;
use proxy_core::routing::Bans;
use proxy_core::time::{Clocks, MonoTime};
use tokio::runtime::Runtime;

use crate::bridge::Store;
use crate::capture::{Capture, HepConfig};

use super::dns::Dns;
use super::engine::{self, INACTIVE, Parts, Shared, Sockets};
use super::mailbox::{Mailbox, Order};
use super::media::Media;
use super::poison::Poison;
use super::receive::{self, Received, Round};
use super::stream::{self, Streams};
use super::wake::{Wake, waker};
use super::{NetError, socket};
use crate::run::pulse::Waits;

/// Threads for connections and names: they cut streams into messages and wait; the engines do the work.
const NET_THREADS: usize = 2;

/// Sockets that are open and not yet read: everything that can fail has been tried before the node joins anything.
#[derive(Debug)]
pub struct Listening {
    sockets: Sockets,
    addresses: Vec<SocketAddr>,
    floating: bool,
    streams: Option<(Vec<stream::Listener>, stream::Limits)>,
    dns: Vec<SocketAddr>,
    hep: Option<HepConfig>,
}

impl Listening {
    /// What the sockets are bound to, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Opens the sockets.
///
/// # Errors
/// A port in use, an address that is not there.
pub fn listen(addresses: &[SocketAddr], floating: bool) -> Result<Listening, NetError> {
    if addresses.is_empty() {
        return Err(NetError::NoAddress);
    }
    let mut sockets = BTreeMap::new();
    for addr in addresses {
        sockets.insert(*addr, Arc::new(socket::open(*addr, floating)?));
    }
    let addresses = addresses.to_vec();
    Ok(Listening {
        sockets: Arc::new(sockets),
        addresses,
        floating,
        streams: None,
        dns: Vec::new(),
        hep: None,
    })
}

impl Listening {
    /// Listens on TCP, too, on the same addresses.
    ///
    /// # Errors
    /// A port in use, an address that is not there.
    pub fn with_streams(mut self, limits: stream::Limits) -> Result<Self, NetError> {
        let mut listeners = Vec::new();
        for addr in &self.addresses {
            listeners.push(stream::open(*addr, self.floating)?);
        }
        self.streams = Some((listeners, limits));
        Ok(self)
    }

    /// Has messages copied to a collector.
    #[must_use]
    pub fn with_copies(mut self, hep: Option<HepConfig>) -> Self {
        self.hep = hep;
        self
    }

    /// Asks these servers for names, and not those of the system.
    #[must_use]
    pub fn with_dns(mut self, servers: Vec<SocketAddr>) -> Self {
        self.dns = servers;
        self
    }
}

/// Figures of the SIP side.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Sum over the engines.
    pub engines: Counters,
    /// Datagrams read.
    pub datagrams: u64,
    /// Dropped before any engine: longer than the largest taken.
    pub oversized: u64,
    /// Without a Call-ID: garbage, for the most part.
    pub without_call_id: u64,
    /// Keepalives seen.
    pub keepalives: u64,
    /// Dropped: the queue of an engine was full.
    pub queue_full: u64,
    /// Not taken by the kernel.
    pub send_failed: u64,
    /// ICMP errors about datagrams sent.
    pub unreachable: u64,
    /// TCP.
    pub streams: stream::Figures,
}

/// The running SIP side.
pub struct Sip {
    mailboxes: Arc<[Arc<Mailbox>]>,
    shared: Vec<Arc<Shared>>,
    received: Arc<Received>,
    /// Of each receive thread.
    rounds: Vec<Arc<Round>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    orders: Arc<AtomicU64>,
    streams: Option<Streams>,
    media: Option<Media>,
    capture: Arc<Capture>,
    /// Nothing new is taken in.
    no_room: Arc<AtomicBool>,
    /// Who sends too much; all engines count together.
    bans: Bans,
    /// What all engines know together.
    together: Together,
    /// Lets the clients of the last owner's connections notice that these are gone.
    wake: Option<Wake>,
    /// Of connections and names; ends with the rest.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Sip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sip").field("engines", &self.shared.len()).finish_non_exhaustive()
    }
}

impl Sip {
    /// Starts `config.shards` engine threads and a receive thread per socket; all engines inactive.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start<S: Store>(
        listening: Listening,
        config: &EngineConfig,
        store: &S,
        clock: fn() -> Clocks,
        changed: &Arc<dyn Fn() + Send + Sync>,
        poison: &Arc<Poison>,
    ) -> Result<Self, NetError> {
        let mailboxes: Arc<[Arc<Mailbox>]> = (0..config.shards.max(1)).map(|_| Arc::default()).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(NET_THREADS)
            .thread_name("relevo-net")
            .enable_all()
            .build()
            .map_err(NetError::Streams)?;
        let streams = match listening.streams {
            None => None,
            Some((listeners, limits)) => {
                let (engines, handle) = (Arc::clone(&mailboxes), runtime.handle().clone());
                let started = Streams::start(listeners, listening.floating, limits, engines, handle);
                Some(started.map_err(NetError::Streams)?)
            }
        };
        let media = match config.media.nodes.is_empty() {
            true => None,
            false => Some(Media::start(&mailboxes, runtime.handle()).map_err(NetError::Media)?),
        };
        let dns = Arc::new(Dns::new(runtime.handle().clone(), listening.dns, config.dns.patience));
        let transport = TransportConfig { tcp: streams.is_some(), ..config.transport };
        let orders: Arc<AtomicU64> = Arc::default();
        let mut sip = Self {
            mailboxes: Arc::clone(&mailboxes),
            shared: Vec::new(),
            received: Arc::default(),
            rounds: Vec::new(),
            stop: Arc::default(),
            threads: Vec::new(),
            orders: Arc::clone(&orders),
            streams: streams.clone(),
            media: media.clone(),
            no_room: Arc::default(),
            bans: Bans::default(),
            together: Together::default(),
            capture: Capture::new(config.shards, listening.hep),
            wake: (streams.is_some() && listening.floating).then(|| waker(store, runtime.handle(), &orders)),
            runtime: Some(runtime),
        };
        let replay = Replay::default();
        let capture = Arc::clone(&sip.capture);
        for (shard, mailbox) in (0..config.shards.max(1)).zip(mailboxes.iter()) {
            let shared: Arc<Shared> = Arc::default();
            sip.shared.push(Arc::clone(&shared));
            sip.threads.push(engine::start(Parts {
                config: EngineConfig {
                    shard,
                    listen: listening.addresses.clone(),
                    transport,
                    ..config.clone()
                },
                mailbox: Arc::clone(mailbox),
                shared,
                store: store.clone(),
                sockets: Arc::clone(&listening.sockets),
                streams: streams.clone(),
                media: media.clone(),
                dns: Arc::clone(&dns),
                clock,
                changed: Arc::clone(changed),
                replay: replay.clone(),
                bans: sip.bans.clone(),
                together: sip.together.clone(),
                tap: capture.tap(shard),
                poison: Arc::clone(poison),
                no_room: Arc::clone(&sip.no_room),
            })?);
        }
        for (local, socket) in listening.sockets.iter() {
            let round: Arc<Round> = Arc::default();
            sip.rounds.push(Arc::clone(&round));
            sip.threads.push(receive::start(
                Arc::clone(socket),
                *local,
                Arc::clone(&mailboxes),
                Arc::clone(&sip.received),
                round,
                Arc::clone(&sip.stop),
            )?);
        }
        Ok(sip)
    }

    /// The threads that calls need, by name, and for how long each has had something to do without getting any further.
    pub fn pulses(&self) -> Vec<(String, Waits)> {
        let engines = self.mailboxes.iter().enumerate().map(|(shard, mailbox)| {
            let mailbox = Arc::clone(mailbox);
            (format!("relevo-sip-{shard}"), Box::new(move || mailbox.waits()) as Waits)
        });
        let receivers = self.rounds.iter().enumerate().map(|(n, round)| {
            let round = Arc::clone(round);
            (format!("relevo-udp {n}"), Box::new(move || Some(round.age())) as Waits)
        });
        engines.chain(receivers).collect()
    }

    /// Who sends too much.
    #[must_use]
    pub fn bans(&self) -> &Bans {
        &self.bans
    }

    /// What was heard and said.
    #[must_use]
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// The service is here until then, if it is: what leaves by another way than the floating IP ends with it, too.
    pub fn lease(&self, until: Option<MonoTime>) {
        if let Some(media) = &self.media {
            media.lease(until);
        }
    }

    /// Whether nothing new is taken in, for there is no room to remember it. Counts from the next turn of each engine on.
    pub fn refuse_new(&self, refuse: bool) {
        self.no_room.store(refuse, Ordering::Release);
    }

    /// Has every engine go by another configuration, from the next turn on. What an engine cannot change it keeps.
    pub fn settings(&self, config: &EngineConfig) {
        for mailbox in self.mailboxes.iter() {
            mailbox.order(Order::Settings(Box::new(config.clone())));
        }
    }

    /// Tells all engines that the service is here. Returns the number of the order, for [`Sip::obeyed`].
    pub fn activate(&self, token: u64) -> u64 {
        let number = self.order(|number| Order::Activate { token, number });
        // After the order, which engines read before messages: nothing that comes in now meets an engine asleep.
        if let Some(streams) = &self.streams {
            streams.activate();
        }
        if let Some(wake) = &self.wake {
            wake(number);
        }
        number
    }

    /// Tells all engines that the service is not here. Returns the number of the order, for [`Sip::obeyed`].
    pub fn deactivate(&self) -> u64 {
        let number = self.order(|number| Order::Deactivate { number });
        if let Some(streams) = &self.streams {
            streams.deactivate();
        }
        number
    }

    fn order(&self, make: impl Fn(u64) -> Order) -> u64 {
        let number = self.orders.fetch_add(1, Ordering::Relaxed) + 1;
        for mailbox in self.mailboxes.iter() {
            mailbox.order(make(number));
        }
        number
    }

    /// Whether every engine has carried out this order (and so all before it).
    #[must_use]
    pub fn obeyed(&self, number: u64) -> bool {
        self.shared.iter().all(|s| s.obeyed.load(Ordering::Acquire) >= number)
    }

    /// Number of engines that are active.
    #[must_use]
    pub fn active_engines(&self) -> usize {
        self.shared.iter().filter(|s| s.active.load(Ordering::Acquire) != INACTIVE).count()
    }

    /// How the media proxies fare, as each engine sees it.
    #[must_use]
    pub fn media_health(&self) -> Vec<Vec<(SocketAddr, Health)>> {
        self.shared.iter().map(|s| s.media()).collect()
    }

    /// Figures for the status.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let mut sum = Counters::default();
        for c in self.shared.iter().map(|s| s.counters()) {
            sum.received += c.received;
            sum.sent += c.sent;
            sum.dropped_malformed += c.dropped_malformed;
            sum.dropped_stray += c.dropped_stray;
            sum.foreign += c.foreign;
            sum.straightened += c.straightened;
            sum.dropped_inactive += c.dropped_inactive;
            sum.dropped_overload += c.dropped_overload;
            sum.dropped_flood += c.dropped_flood;
            sum.dropped_scanner += c.dropped_scanner;
            sum.banned += c.banned;
            sum.rejected += c.rejected;
            sum.retransmissions_in += c.retransmissions_in;
            sum.retransmissions_out += c.retransmissions_out;
            sum.rebuilt += c.rebuilt;
            sum.originated += c.originated;
            sum.originated_refused += c.originated_refused;
            sum.originated_timeouts += c.originated_timeouts;
            sum.abandoned += c.abandoned;
            sum.dns_asked += c.dns_asked;
            sum.dns_failed += c.dns_failed;
            sum.nat_pings += c.nat_pings;
            sum.moved += c.moved;
            sum.late_answers += c.late_answers;
            sum.media_offers += c.media_offers;
            sum.media_answers += c.media_answers;
            sum.media_deletes += c.media_deletes;
            sum.media_timeouts += c.media_timeouts;
            sum.media_failed += c.media_failed;
            sum.media_moved += c.media_moved;
            sum.media_restored += c.media_restored;
            sum.refused_unrecorded += c.refused_unrecorded;
            sum.strangers_refused += c.strangers_refused;
            sum.left_out += c.left_out;
            sum.transport_failures += c.transport_failures;
        }
        let of = |a: &AtomicU64| a.load(Ordering::Relaxed);
        Figures {
            engines: sum,
            datagrams: of(&self.received.datagrams),
            oversized: of(&self.received.oversized),
            without_call_id: of(&self.received.without_call_id),
            keepalives: of(&self.received.keepalives),
            unreachable: of(&self.received.unreachable),
            queue_full: self.mailboxes.iter().map(|m| m.dropped()).sum(),
            send_failed: self.shared.iter().map(|s| of(&s.send_failed)).sum(),
            streams: self.streams.as_ref().map_or_else(stream::Figures::default, Streams::figures),
        }
    }
}

impl Drop for Sip {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for mailbox in self.mailboxes.iter() {
            mailbox.order(Order::Stop);
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
        if let Some(runtime) = self.runtime.take() {
            // Nothing on it is worth waiting for.
            runtime.shutdown_background();
        }
    }
}
