//! What the end-to-end tests share.
#![allow(dead_code, reason = "each test program uses its part")]

pub mod memory;
pub mod ua;

use std::time::{Duration, Instant};

/// Bound of every wait in these tests; nothing here takes a tenth of it.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `f` gives something.
pub fn until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = f() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A UDP port that was free a moment ago.
pub fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound").port()
}
