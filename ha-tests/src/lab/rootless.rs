//! Running without root: one user namespace that owns all network namespaces and mounts of a lab.
//!
//! Must happen while the process has a single thread (the kernel refuses otherwise), therefore first thing in `main`.

use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

use super::proc::Proc;

/// True if this process may make network namespaces and mounts without a user namespace: root that was not stripped
/// of its rights, as it is in many containers.
#[must_use]
pub fn is_root() -> bool {
    /// CAP_NET_ADMIN and CAP_SYS_ADMIN (linux/capability.h).
    const NEEDED: u64 = 1 << 12 | 1 << 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    geteuid().is_root() && effective & NEEDED == NEEDED
}

/// Becomes root of a new user namespace with a mount namespace of its own.
///
/// # Errors
/// The kernel allows no user namespaces here; the text says what to do about it.
pub fn become_root_inside() -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|e| {
        io::Error::other(format!(
            "cannot make a user namespace ({e}); run relevo-lab as root, or allow user namespaces \
             (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)"
        ))
    })?;
    // Without this the kernel does not let an unprivileged process write its gid_map.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    private_mounts()
}

/// As root: a mount namespace of its own, so that the mounts of a `demo` vanish with it however it ends.
///
/// # Errors
/// Not permitted.
pub fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    private_mounts()
}

/// Enters the user and mount namespace of a lab that was made without root.
///
/// # Errors
/// The holder is gone, or it belongs to another user.
pub fn join(holder: Proc) -> io::Result<()> {
    if !holder.alive() {
        return Err(io::Error::other("the lab is not running any more"));
    }
    // Both files first: after the first setns the other would be looked up with other rights.
    let user = File::open(format!("/proc/{}/ns/user", holder.pid))?;
    let mounts = File::open(format!("/proc/{}/ns/mnt", holder.pid))?;
    setns(user.as_fd(), CloneFlags::CLONE_NEWUSER)?;
    let here = std::env::current_dir();
    setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS)?;
    // Entering a mount namespace moves the process to its root folder.
    if let Ok(here) = here {
        let _ = std::env::set_current_dir(here);
    }
    Ok(())
}

fn private_mounts() -> io::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(())
}
