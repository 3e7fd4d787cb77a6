//! Wakes the clients of TCP after a takeover: their connections ended with the last owner, and nobody has told them. They
//! are known by the replicated registrations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proxy_core::state::{Flow, Transport};
use tokio::runtime::Handle;

use crate::bridge::Store;
use crate::os::tickle::Tickler;

/// Addresses of record looked at under one lock of the state.
const PAGE: usize = 256;
/// Between two pages: others get their turn, and the clients do not come back all at once.
const PAUSE: Duration = Duration::from_millis(5);

/// What wakes them, given the number of the order by which the service began; another order ends it.
pub type Wake = Box<dyn Fn(u64) + Send + Sync>;

/// Wakes on threads of this runtime. `orders` is the number of the newest order.
#[must_use]
pub fn waker<S: Store>(store: &S, handle: &Handle, orders: &Arc<AtomicU64>) -> Wake {
    // Only to be copied: a view of the state may be for one thread at a time.
    let (store, handle, orders) = (Mutex::new(store.clone()), handle.clone(), Arc::clone(orders));
    Box::new(move |number| {
        let store = store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let orders = Arc::clone(&orders);
        handle.spawn_blocking(move || {
            let mut known: Option<(Flow, Option<Tickler>)> = None;
            let mut cursor = Some(String::new());
            while let Some(after) = cursor.take().filter(|_| orders.load(Ordering::Relaxed) == number) {
                let mut flows: Vec<Flow> = Vec::new();
                store.read(|state| {
                    for (aor, bindings) in state.aors_after(&after).take(PAGE) {
                        flows.extend(
                            bindings.iter().map(|b| b.flow).filter(|f| f.transport == Transport::Tcp),
                        );
                        cursor = Some(aor.to_owned());
                    }
                });
                for flow in flows {
                    tickle(&mut known, flow);
                }
                std::thread::sleep(PAUSE);
            }
        });
    })
}

fn tickle(known: &mut Option<(Flow, Option<Tickler>)>, flow: Flow) {
    if known.as_ref().is_none_or(|(last, _)| last.local != flow.local) {
        let tickler = Tickler::new(flow.local);
        if let Err(why) = &tickler {
            tracing::warn!("clients of TCP are not told to come back to {}: {why}", flow.local);
        }
        *known = Some((flow, tickler.ok()));
    }
    if let Some((_, Some(tickler))) = known {
        // One that misses it comes back when it has something to say.
        let _ = tickler.tickle(flow.remote);
    }
}
