//! What the end-to-end tests share.
#![allow(dead_code, reason = "each test program uses its part")]

pub mod lone;
pub mod memory;
pub mod node;
pub mod nodes;
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

/// A port, of UDP and of TCP, below the ephemeral ones, which phones and connections of other tests get; no
/// other test of this process has it.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + u16::try_from(std::process::id() % 200).expect("small") * 100;
    until("a free port", || {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 1000;
        let udp = std::net::UdpSocket::bind(("127.0.0.1", port)).ok();
        let tcp = std::net::TcpListener::bind(("127.0.0.1", port)).ok();
        udp.zip(tcp).map(|_| port)
    })
}
