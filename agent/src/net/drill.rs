//! Deaths on order, to try out what comes of them. Not in a release build.

use std::sync::OnceLock;

/// Environment variable with the order, if a program starts with one: see [`order`].
pub const DRILL: &str = "RELEVO_DRILL";

struct Order {
    is_abort: bool,
    text: Vec<u8>,
}

static ORDER: OnceLock<Option<Order>> = OnceLock::new();

fn read(order: &str) -> Option<Order> {
    let (how, text) = order.split_once(':')?;
    let text = text.as_bytes().to_vec();
    (!text.is_empty()).then_some(Order { is_abort: how == "abort", text })
}

/// `panic:TEXT` or `abort:TEXT`: a message with TEXT in it is the death of the engine, or of the whole process. Only the
/// first order of a process counts.
pub fn order(order: &str) {
    ORDER.get_or_init(|| read(order));
}

/// Dies of it, if that was ordered.
pub(super) fn die_of(message: &[u8]) {
    let order = ORDER.get_or_init(|| std::env::var(DRILL).ok().and_then(|order| read(&order)));
    let Some(order) = order else { return };
    if message.windows(order.text.len()).any(|part| part == order.text) {
        if order.is_abort {
            std::process::abort();
        }
        panic!("a death on order");
    }
}
