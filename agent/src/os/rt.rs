//! Priorities: heartbeats, renewals and the guard must not wait for SIP. Best effort; what was refused is said once.

use std::io;

/// Priority of the Raft thread and of the one that writes its log (1 is the lowest of SCHED_FIFO, 99 the highest).
pub const RAFT_PRIORITY: i32 = 10;
/// Priority of the thread that applies entries: below Raft, which it may keep from its heartbeats otherwise.
pub const APPLY_PRIORITY: i32 = 9;
/// Priority of the control thread, which renews the lease: above Raft, because it never works for long.
pub const CONTROL_PRIORITY: i32 = 20;
/// Priority of the guard.
pub const GUARD_PRIORITY: i32 = 50;

/// Gives this thread real-time priority; threads and processes that it starts do not inherit it.
///
/// # Errors
/// Usually: not permitted.
pub fn realtime(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters live through the call; 0 is this thread.
    let result = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Like [`realtime`], and says what was refused.
pub fn realtime_or_say(priority: i32, thread: &str) {
    if let Err(e) = realtime(priority) {
        tracing::info!(thread, error = %e, "no real-time priority: under heavy load the lease may be lost");
    }
}

/// `IOPRIO_CLASS_IDLE` in the place of the class (linux/ioprio.h).
const IO_IDLE: libc::c_int = 3 << 13;
/// `IOPRIO_WHO_PROCESS` (linux/ioprio.h); with 0 it is this thread.
const IO_THREAD: libc::c_int = 1;

/// Puts this thread behind all others, for the processor and (where the scheduler of the disk knows such a thing) for the
/// disk. Not `SCHED_IDLE`: a thread that gets no time at all on a busy machine would hold the allocator's locks when it
/// is interrupted there, and others would wait for it. What is refused changes nothing.
pub fn step_back() {
    // SAFETY: no pointers; both mean this thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, IO_THREAD, 0, IO_IDLE);
    }
}

/// Keeps the memory of this process from being swapped out, as far as it is used.
///
/// # Errors
/// Usually: not permitted, or above RLIMIT_MEMLOCK.
pub fn lock_memory() -> io::Result<()> {
    // SAFETY: no pointers.
    let result = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Below all that an operator would rather lose; not -1000, which would keep the kernel from ending one that leaks.
const OOM_SCORE: &str = "-900";

/// Asks the kernel to look elsewhere first when memory is short; processes that this one starts inherit it.
///
/// # Errors
/// Usually: not permitted.
pub fn spare_when_memory_is_short() -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", OOM_SCORE)
}
