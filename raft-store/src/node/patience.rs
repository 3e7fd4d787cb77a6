//! What a process holds that was killed a moment ago (a lock, a port, a socket in the file system) is free when the kernel has
//! cleared that process away. With much memory or on a busy machine this takes a while, in which the next process has
//! started already. So whatever is held at the start is tried again for [`LIMIT`], before it is an error.

use std::thread;
use std::time::Duration;

/// For how long a start tries to have what another process holds.
pub const LIMIT: Duration = Duration::from_secs(5);
/// Between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// Tries within [`LIMIT`].
pub(super) const TRIES: u128 = LIMIT.as_millis() / PAUSE.as_millis();

/// Takes `what`, which another process may still hold; `is_held` knows that error from others. Blocks the thread for
/// [`LIMIT`] at most.
///
/// # Errors
/// It is held to the end, or there is another error.
pub fn patiently<T, E>(
    what: &str,
    mut take: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    for tried in 1..TRIES {
        match take() {
            Err(e) if is_held(&e) => {
                if tried == 1 {
                    said(what);
                }
                thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
    take()
}

/// Says once that it is waited.
pub(super) fn said(what: &str) {
    tracing::info!("another process holds {what}: waiting up to {LIMIT:?}, for it may be ending");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_go_in_time_is_had_and_other_errors_are_told_at_once() {
        let mut tries = 0;
        let had = patiently(
            "a lock",
            || {
                tries += 1;
                if tries < 3 { Err("held") } else { Ok(tries) }
            },
            |e| *e == "held",
        );
        assert_eq!(had, Ok(3));
        let mut tries = 0;
        let refused: Result<(), _> = patiently(
            "a lock",
            || {
                tries += 1;
                Err("forbidden")
            },
            |e| *e == "held",
        );
        assert_eq!((refused, tries), (Err("forbidden"), 1));
    }
}
