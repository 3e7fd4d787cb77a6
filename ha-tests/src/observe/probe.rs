//! The sockets of the observer: sends probes at a fixed pace and hands what it captures to the timeline.

use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::frames::{RING, Wire};
use super::timeline::{Kind, Timeline};
use crate::lab::net::{self, mac_of};
use crate::lab::ns;
use crate::lab::state::LabState;

/// Every how many ticks an OPTIONS is sent: it costs the proxy more than the kernel's answers.
const SIP_EVERY: u32 = 2;
/// Receive buffer of the capture, bytes: a stall of the observer must not lose answers.
const CAPTURE_BUFFER: usize = 8 << 20;
/// Longest frame that is looked at, bytes.
const FRAME_MAX: usize = 2048;

/// An observer at work in the background. Stops when dropped.
#[derive(Debug)]
pub struct Observer {
    timeline: Arc<Mutex<Timeline>>,
    stop: Arc<AtomicBool>,
    started: Instant,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Observer {
    /// Starts probing the floating address from the lab's client namespace, one probe of each kind every `every`.
    ///
    /// # Errors
    /// The client namespace is gone or raw sockets are not permitted.
    pub fn start(lab: &LabState, every: Duration) -> io::Result<Observer> {
        Observer::start_at(lab, net::VIP4, net::VIP6, every)
    }

    /// As [`Observer::start`], for other addresses.
    ///
    /// # Errors
    /// As [`Observer::start`].
    pub fn start_at(lab: &LabState, vip4: &str, vip6: &str, every: Duration) -> io::Result<Observer> {
        let sockets = ns::inside(lab.client, || Sockets::open(vip4, vip6, lab.sip_port))??;
        let timeline = Arc::new(Mutex::new(Timeline::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let started = Instant::now();
        let thread = std::thread::Builder::new().name("observer".into()).spawn({
            let (timeline, stop) = (Arc::clone(&timeline), Arc::clone(&stop));
            move || sockets.run(&timeline, &stop, started, every)
        })?;
        Ok(Observer { timeline, stop, started, thread: Some(thread) })
    }

    /// Nanoseconds since the observer started: the time base of its timeline.
    #[must_use]
    pub fn now(&self) -> u64 {
        nanos(self.started)
    }

    /// What has been seen so far.
    pub fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle that stops the observer.
    #[must_use]
    pub fn stopper(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// True once it has stopped, by itself (an error) or on request.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops and returns everything that was seen.
    ///
    /// # Errors
    /// The sockets failed while observing (the namespace went away).
    pub fn finish(mut self) -> io::Result<Timeline> {
        self.join()?;
        Ok(std::mem::take(&mut *self.timeline()))
    }

    fn join(&mut self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the observer's thread panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

struct Sockets {
    packet: Socket,
    udp: UdpSocket,
    wire: Wire,
    target: SocketAddr,
}

impl Sockets {
    /// Must run inside the client namespace.
    fn open(vip4: &str, vip6: &str, sip_port: u16) -> io::Result<Sockets> {
        let own4 = net::CLIENT4.parse().map_err(io::Error::other)?;
        let vip4 = vip4.parse().map_err(io::Error::other)?;
        let udp = UdpSocket::bind((own4, 0))?;
        udp.set_nonblocking(true)?;
        let every_protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
        let packet = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(every_protocol)))?;
        packet.set_nonblocking(true)?;
        // Refused sizes are cut by the kernel; that only matters if we stall for long.
        let _ = packet.set_recv_buffer_size(CAPTURE_BUFFER);
        packet.bind(&link_address(every_protocol)?)?;
        ignore_outgoing(&packet)?;
        let run: u32 = rand::random();
        let wire = Wire {
            mac: mac_of(net::CLIENT_HOST),
            own4,
            vip4,
            vip6: vip6.parse().map_err(io::Error::other)?,
            ident: run as u16,
            sip_port,
            udp_port: udp.local_addr()?.port(),
            call_id: format!("observer-{run:08x}-"),
        };
        Ok(Sockets { packet, udp, target: SocketAddr::from((vip4, sip_port)), wire })
    }

    fn run(
        self,
        timeline: &Mutex<Timeline>,
        stop: &AtomicBool,
        started: Instant,
        every: Duration,
    ) -> io::Result<()> {
        prefer_this_thread();
        let mut tick = 0u32;
        let mut next = started;
        while !stop.load(Ordering::Relaxed) {
            if Instant::now() >= next {
                self.send(timeline, started, tick)?;
                tick = tick.wrapping_add(1);
                next += every;
                // After a stall the lost probes are not made up for in a burst.
                if next < Instant::now() {
                    next = Instant::now();
                }
            }
            let wait = next.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.packet.as_fd(), PollFlags::POLLIN)];
            // Rounded up: poll counts in milliseconds, and 0 would spin.
            let timeout =
                PollTimeout::try_from(wait + Duration::from_micros(999)).unwrap_or(PollTimeout::ZERO);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            self.receive(timeline, started)?;
        }
        // What is on its way when we are asked to stop still counts.
        std::thread::sleep(every);
        self.receive(timeline, started)
    }

    fn send(&self, timeline: &Mutex<Timeline>, started: Instant, tick: u32) -> io::Result<()> {
        let record = |kind, id| {
            let mut t = timeline.lock().unwrap_or_else(PoisonError::into_inner);
            t.sent(kind, id, nanos(started));
        };
        record(Kind::Arp, tick % RING);
        transmitted(self.packet.send(&self.wire.arp(tick % RING)))?;
        record(Kind::Ns, tick % RING);
        transmitted(self.packet.send(&self.wire.ns(tick % RING)))?;
        record(Kind::Icmp, tick & 0xffff);
        transmitted(self.packet.send(&self.wire.icmp(tick & 0xffff)))?;
        if tick.is_multiple_of(SIP_EVERY) {
            record(Kind::Sip, tick);
            // Unreachable (no neighbour) is a probe without answer, not an error of the observer.
            let _ = self.udp.send_to(&self.wire.options(tick), self.target);
            let mut sink = [0u8; FRAME_MAX];
            // The capture sees the answers; here they are only taken out of the way.
            while self.udp.recv_from(&mut sink).is_ok() {}
        }
        Ok(())
    }

    fn receive(&self, timeline: &Mutex<Timeline>, started: Instant) -> io::Result<()> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); FRAME_MAX];
        loop {
            let length = match self.packet.recv(&mut buffer) {
                Ok(n) => n,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    return Ok(());
                }
                // The interface went down for a moment: silence, not the end.
                Err(e) if e.raw_os_error() == Some(libc::ENETDOWN) => return Ok(()),
                Err(e) => return Err(e),
            };
            let now = nanos(started);
            // SAFETY: the kernel has written the first `length` bytes.
            let frame = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length) };
            if let Some(seen) = self.wire.parse(frame) {
                let mut t = timeline.lock().unwrap_or_else(PoisonError::into_inner);
                t.answered(seen.kind, seen.id, now, seen.mac);
            }
        }
    }
}

/// A full queue or an interface that is down makes a probe without answer; anything else is an error.
fn transmitted(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(e)
            if e.kind() != io::ErrorKind::WouldBlock
                && !matches!(e.raw_os_error(), Some(libc::ENOBUFS | libc::ENETDOWN)) =>
        {
            Err(e)
        }
        _ => Ok(()),
    }
}

fn link_address(protocol: i32) -> io::Result<SockAddr> {
    let index = nix::net::if_::if_nametoindex("eth0").map_err(io::Error::from)?;
    // SAFETY: sockaddr_ll is plain data that fits into sockaddr_storage; every field is set or zero.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let ll = storage.cast::<libc::sockaddr_ll>();
            ll.write(libc::sockaddr_ll {
                sll_family: libc::AF_PACKET as u16,
                sll_protocol: protocol as u16,
                sll_ifindex: index.cast_signed(),
                sll_hatype: 0,
                sll_pkttype: 0,
                sll_halen: 0,
                sll_addr: [0; 8],
            });
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}

/// Our own probes are not answers; not capturing them halves the work.
fn ignore_outgoing(packet: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open and `on` is an int that lives during the call.
    let result = unsafe {
        libc::setsockopt(
            packet.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Real-time priority where allowed: on a busy machine the observer would otherwise see its own stalls.
fn prefer_this_thread() {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: thread 0 is the calling one and `param` lives during the call; a refusal changes nothing.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param);
    }
}
