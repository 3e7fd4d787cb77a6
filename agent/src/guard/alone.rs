//! One relevo with a floating IP per network namespace: the tables `relevo` of the namespace are one node's, and a second
//! one would close the first one's gate.
//!
//! The lock is an abstract Unix socket: such names belong to the network namespace, as the tables do, and the kernel
//! frees the name when the process ends, however it ends. Anybody may take a name; one who may not change the network
//! is no relevo with a floating IP, and cannot keep one from running.

use std::io;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use raft_store::node::patiently;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::os::{OsError, os_error};

/// The leading zero makes the name an abstract one (unix(7)).
pub const NAME: &str = "\0relevo/floating-ip";
/// In the mask of capabilities(7).
const CAP_NET_ADMIN: u64 = 1 << 12;
/// Connections of those who were refused; nobody accepts them. Beyond that they are not told who was first.
const BACKLOG: i32 = 64;

/// Held by the guard as long as it lives.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "open, it holds the name")] Option<Socket>);

impl Alone {
    /// The same, but waits a while for a holder that may be ending: a guard that was killed a moment ago.
    ///
    /// # Errors
    /// As [`Alone::take`].
    pub fn take_when_free() -> Result<Self, OsError> {
        let taken = Self::take();
        if !matches!(taken, Err(OsError::NotAlone { .. })) {
            return taken;
        }
        let name = SockAddr::unix(NAME).map_err(os_error("the lock of the network namespace"))?;
        let own = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(os_error("the lock's socket"))?;
        // The holder is not asked each time: it takes no questions out of its queue, which would be full soon.
        let is_held = |e: &io::Error| e.kind() == io::ErrorKind::AddrInUse;
        match patiently("the lock of this network namespace", || own.bind(&name), is_held) {
            Ok(()) => own
                .listen(BACKLOG)
                .map(|()| Self(Some(own)))
                .map_err(os_error("the lock of the network namespace")),
            Err(_) => Self::take(),
        }
    }

    /// Takes the namespace of this process for itself. Nothing is changed if that fails.
    ///
    /// # Errors
    /// [`OsError::NotAlone`]; no sockets.
    pub fn take() -> Result<Self, OsError> {
        let name = SockAddr::unix(NAME).map_err(os_error("the lock of the network namespace"))?;
        let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).map_err(os_error("the lock's socket"));
        let own = socket()?;
        match own.bind(&name).and_then(|()| own.listen(BACKLOG)) {
            Ok(()) => return Ok(Self(Some(own))),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) => return Err(os_error("the lock of the network namespace")(e)),
        }
        let question = socket()?;
        // One whose queue is full would keep this waiting.
        question.set_nonblocking(true).map_err(os_error("the lock's socket"))?;
        let holder = question.connect(&name).and_then(|()| Ok(getsockopt(&question, PeerCredentials)?));
        match holder {
            Ok(who) if !may_change_the_network(who.pid()) => {
                tracing::warn!(
                    process = who.pid(),
                    user = who.uid(),
                    "a stranger holds the lock of this network namespace: \
                     a second relevo with a floating IP would not be noticed"
                );
                Ok(Self(None))
            }
            Ok(who) => Err(OsError::NotAlone { process: Some(who.pid()) }),
            Err(_) => Err(OsError::NotAlone { process: None }),
        }
    }
}

/// Whether the process has CAP_NET_ADMIN; one that cannot be asked counts as if.
fn may_change_the_network(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("CapEff:")?.trim(), 16).ok());
    mask.is_none_or(|mask| mask & CAP_NET_ADMIN != 0)
}
