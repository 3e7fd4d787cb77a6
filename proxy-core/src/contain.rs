//! A panic is a fault of this program. Where one is expected to be possible and its consequences are known, it is caught
//! by [`contained`]; everywhere else the process ends (a hook of the agent asks [`is_contained`]).

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would be caught by [`contained`].
#[must_use]
pub fn is_contained() -> bool {
    CONTAINED.get()
}

/// Runs `f`. The caller must know what a panic leaves behind of what `f` changes.
///
/// # Errors
/// `f` has panicked: what it said.
pub fn contained<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    let before = CONTAINED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    CONTAINED.set(before);
    outcome.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| String::from("it said nothing"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_with_what_it_said_and_only_inside() {
        assert!(!is_contained());
        assert_eq!(contained(is_contained), Ok(true));
        assert_eq!(contained(|| -> u8 { panic!("no {}", 7) }), Err(String::from("no 7")));
        assert!(!is_contained(), "also after one");
    }
}
