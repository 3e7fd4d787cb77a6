//! What the kernel does for the floating IP: the gate that closes by itself, the address, its announcement, and the
//! priorities of threads. Thin: every decision is made elsewhere.

pub mod address;
pub mod announce;
pub mod conflict;
pub mod lease;
pub mod link;
pub mod netlink;
pub mod rt;
pub mod tickle;
pub mod vip;

use std::io;

/// Why the kernel did not do it, with the cure.
#[derive(Debug, thiserror::Error)]
pub enum OsError {
    /// The right is missing.
    #[error("no permission for {what}: run relevo as root, or give it CAP_NET_ADMIN and CAP_NET_RAW")]
    Permission {
        /// What was tried.
        what: String,
    },
    /// There is no such interface.
    #[error("there is no interface {0:?}: correct vip.interface (ip link shows their names)")]
    NoInterface(String),
    /// `nft` is not installed.
    #[error("the program nft is missing: apt-get install nftables")]
    NoNft,
    /// `nft` refused the table.
    #[error("nft refused the gate of the floating IP: {0}")]
    Nft(String),
    /// Another relevo has a floating IP in this network namespace.
    #[error(
        "another relevo{} has a floating IP in this network namespace: stop it first, or run each in a namespace of its own",
        .process.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    NotAlone {
        /// Its guard, if it could be asked.
        process: Option<i32>,
    },
    /// Anything else.
    #[error("{what}: {why}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's reason.
        why: io::Error,
    },
}

/// Puts an error of the system into words.
pub(crate) fn os_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> OsError {
    move |why| {
        let what = what.into();
        match why.kind() {
            io::ErrorKind::PermissionDenied => OsError::Permission { what },
            _ => OsError::Io { what, why },
        }
    }
}
