//! The thread that watches the interface of the floating IP: its link, who else claims the address, and changes of
//! addresses by others. It decides nothing about the service: what ails the node it writes down, and the control thread
//! is told.

mod rivals;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proxy_core::time::{Clocks, MonoTime};

pub use self::rivals::{Rival, Rivals};
use super::ailing::Ailing;
use super::driver::{Handle, Message};
use super::live::Live;
use crate::control::Ailment;
use crate::os::OsError;
use crate::os::announce::Announcer;
use crate::os::conflict::Claims;
use crate::os::link::{self, Link, News};
use crate::os::netlink::Socket;
use crate::os::vip::Vip;

/// Longest time without a look at whether this node is active, and whether the thread shall end.
const TICK_MS: u16 = 100;
/// The link is asked for so often in case that a message of the kernel was lost.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What was opened to watch with.
#[derive(Debug)]
pub struct Ears {
    vip: Vip,
    told: Socket,
    asked: Socket,
    claims: Claims,
    announcer: Announcer,
}

impl Ears {
    /// Opens all that is needed to watch the interface of `vip`.
    ///
    /// # Errors
    /// No such interface, no permission.
    pub fn open(vip: &Vip) -> Result<Self, OsError> {
        let addresses: Vec<_> = vip.addresses.iter().map(|(ip, _)| *ip).collect();
        Ok(Self {
            told: link::listen()?,
            asked: Socket::open(libc::NETLINK_ROUTE).map_err(crate::os::os_error("netlink"))?,
            claims: Claims::listen(vip)?,
            announcer: Announcer::new(&vip.interface, &addresses)?,
            vip: vip.clone(),
        })
    }
}

/// What is shown of it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The interface; empty where there is no floating IP.
    pub interface: String,
    /// How its link does.
    pub link: Link,
    /// Since when.
    pub since: MonoTime,
    /// Who else claims a floating IP.
    pub rivals: Vec<Rival>,
}

/// Shared with the admin threads.
#[derive(Debug, Default)]
pub struct Sight(Mutex<Seen>);

impl Sight {
    /// A copy.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The thread; it ends with this.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What the thread tells others.
#[derive(Debug)]
pub struct Tell {
    /// What ails this node.
    pub ailing: Arc<Ailing>,
    /// Whether this node is active.
    pub live: Arc<Live>,
    /// Whoever asks for the status.
    pub sight: Arc<Sight>,
}

/// Starts it.
///
/// # Errors
/// A thread cannot be started.
pub fn start(ears: Ears, tell: Tell, control: Handle, clock: fn() -> Clocks) -> io::Result<Running> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let mut watcher = Watcher { ears, tell, control, link: None, rivals: Rivals::default(), asked_at: None };
    let thread = std::thread::Builder::new().name(String::from("relevo-watch")).spawn(move || {
        while !flag.load(Ordering::Relaxed) {
            watcher.round(clock().mono);
            watcher.wait();
        }
    })?;
    Ok(Running { stop, thread: Some(thread) })
}

struct Watcher {
    ears: Ears,
    tell: Tell,
    control: Handle,
    /// As it was seen last.
    link: Option<Link>,
    rivals: Rivals,
    asked_at: Option<MonoTime>,
}

impl Watcher {
    fn wait(&self) {
        let fds: Vec<i32> = std::iter::once(self.ears.told.fd()).chain(self.ears.claims.fds()).collect();
        // SAFETY: the sockets live as long as `self`, which outlives the call.
        let of = |fd: &i32| PollFd::new(unsafe { BorrowedFd::borrow_raw(*fd) }, PollFlags::POLLIN);
        let mut fds: Vec<PollFd<'_>> = fds.iter().map(of).collect();
        // Interrupted or not: the next round looks at everything.
        let _ = poll(&mut fds, PollTimeout::from(TICK_MS));
    }

    fn round(&mut self, now: MonoTime) {
        match self.ears.told.news() {
            Ok(bytes) => link::news(&bytes).for_each(|news| self.hear(now, &news)),
            // Some were lost: ask, and have the addresses looked at.
            Err(_) => {
                self.asked_at = None;
                self.disturbed();
            }
        }
        if self.asked_at.is_none_or(|at| now.since(at) >= ASK_EVERY) {
            self.asked_at = Some(now);
            match link::look(&self.ears.asked, &self.ears.vip.interface) {
                Ok(link) => self.see(now, link),
                Err(e) => tracing::debug!(error = %e, "the link of {}", self.ears.vip.interface),
            }
        }
        self.listen(now);
    }

    fn hear(&mut self, now: MonoTime, news: &News) {
        match news {
            News::Link { interface, link } if *interface == self.ears.vip.interface => self.see(now, *link),
            News::Address(ip) if self.ears.vip.addresses.iter().any(|(own, _)| own == ip) => {
                self.disturbed();
            }
            News::Link { .. } | News::Address(_) => {}
        }
    }

    fn disturbed(&self) {
        // Lost if the queue is full: it is looked at a moment later all the same.
        let _ = self.control.tell(Message::Disturbed);
    }

    /// A link that does not carry makes this node unfit at once; one that carries again makes it fit.
    fn see(&mut self, now: MonoTime, link: Link) {
        if self.link == Some(link) {
            return;
        }
        let interface = &self.ears.vip.interface;
        match (self.link.replace(link), link) {
            (None, Link::Up) => {}
            (Some(_), Link::Up) => tracing::warn!("the link of {interface} (floating IP) is up again"),
            (_, link) => {
                tracing::error!(
                    "the link of {interface} (floating IP) is {link}; a node whose link is up is preferred"
                );
            }
        }
        self.tell.ailing.set(Ailment::Link, link != Link::Up);
        let interface = interface.clone();
        self.tell.sight.note(|seen| (seen.interface, seen.link, seen.since) = (interface, link, now));
        self.control.kick();
    }

    /// Others that claim the floating IP while this node serves.
    fn listen(&mut self, now: MonoTime) {
        self.rivals.note_active(now, self.tell.live.picture().active(now));
        let claims = self.ears.claims.heard();
        let interface = &self.ears.vip.interface;
        for (ip, mac) in claims {
            let Some(due) = self.rivals.heard(now, ip, mac) else { continue };
            if due.say {
                tracing::error!(
                    "{mac} on {interface} says that the floating IP {ip} is its own, and takes calls away: \
                     take the address from that machine (find its port by the MAC in the switch)"
                );
            }
            if due.defend {
                self.ears.announcer.announce();
            }
        }
        let rivals = self.rivals.shown(now);
        self.tell.sight.note(|seen| seen.rivals = rivals);
    }
}
