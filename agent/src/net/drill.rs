//! Deaths on order, to try out what comes of them. Not in a release build.

use std::sync::OnceLock;

/// Environment variable: `panic:TEXT` or `abort:TEXT`. A message with TEXT in it is the death of the engine, or of the
/// whole process.
pub const DRILL: &str = "RELEVO_DRILL";

/// Dies of it, if that was ordered.
pub fn die_of(message: &[u8]) {
    static ORDER: OnceLock<Option<(bool, String)>> = OnceLock::new();
    let order = ORDER.get_or_init(|| {
        let order = std::env::var(DRILL).ok()?;
        let (how, text) = order.split_once(':')?;
        Some((how == "abort", text.to_owned()))
    });
    let Some((is_abort, text)) = order else { return };
    if !text.is_empty() && message.windows(text.len()).any(|part| part == text.as_bytes()) {
        if *is_abort {
            std::process::abort();
        }
        panic!("a death on order");
    }
}
