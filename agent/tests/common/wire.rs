//! Two network namespaces and a veth pair between them, made and removed by the test. Needs root; says so without.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The namespaces: near has 10.99.0.1 and fd99::1, far has 10.99.0.2 and fd99::2, both on v0.
pub struct Wire {
    pub near: String,
    pub far: String,
}

pub fn run(args: &[&str]) {
    let out = Command::new(args[0]).args(&args[1..]).output().expect("started");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

impl Wire {
    /// Made, and the two ends know each other.
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("relevo-os-{}-{n}-{side}", std::process::id());
        let wire = Self { near: name("a"), far: name("b") };
        for ns in [&wire.near, &wire.far] {
            run(&["ip", "netns", "add", ns]);
            run(&["ip", "-n", ns, "link", "set", "lo", "up"]);
        }
        run(&[
            "ip", "link", "add", "v0", "netns", &wire.near, "type", "veth", "peer", "name", "v0", "netns",
            &wire.far,
        ]);
        for (ns, host) in [(&wire.near, 1), (&wire.far, 2)] {
            run(&["ip", "-n", ns, "addr", "add", &format!("10.99.0.{host}/24"), "dev", "v0"]);
            run(&["ip", "-n", ns, "addr", "add", &format!("fd99::{host}/64"), "dev", "v0", "nodad"]);
            run(&["ip", "-n", ns, "link", "set", "v0", "up"]);
        }
        // IPv6 is not ready at once when a link comes up. The pings also make both sides know each other.
        let end = Instant::now() + Duration::from_secs(20);
        while !(wire.far_pings("10.99.0.1") && wire.far_pings("fd99::1")) {
            assert!(Instant::now() < end, "the wire works");
        }
        Some(wire)
    }

    /// Whether one ping from far is answered within a second.
    pub fn far_pings(&self, to: &str) -> bool {
        let args = ["netns", "exec", &self.far, "ping", "-c1", "-W1", to];
        Command::new("ip").args(args).output().expect("ping").status.success()
    }

    pub fn near_mac(&self) -> String {
        let out =
            Command::new("ip").args(["-n", &self.near, "-o", "link", "show", "v0"]).output().expect("ip");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.split_whitespace().skip_while(|w| *w != "link/ether").nth(1).expect("an address").to_owned()
    }

    /// Far knows `ip` for good: while a neighbour is being asked for, the kernel keeps packets back, which would look
    /// like answers from before the gate was open, or like a gap after it.
    pub fn far_knows(&self, ip: &str) {
        let mac = self.near_mac();
        run(&[
            "ip",
            "-n",
            &self.far,
            "neigh",
            "replace",
            ip,
            "lladdr",
            &mac,
            "dev",
            "v0",
            "nud",
            "permanent",
        ]);
    }

    /// Takes this thread into the namespace.
    pub fn enter(ns: &str) {
        let file = std::fs::File::open(format!("/run/netns/{ns}")).expect("the namespace");
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("entered");
    }

    /// Runs `f` in a thread inside the namespace.
    pub fn within<R: Send>(ns: &str, f: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|s| {
            s.spawn(|| {
                Self::enter(ns);
                f()
            })
            .join()
            .expect("no panic")
        })
    }

    /// What near has on the interface.
    pub fn near_has(&self, ip: &str) -> bool {
        let args = ["-n", &self.near, "-o", "addr", "show", "dev", "v0"];
        let out = Command::new("ip").args(args).output().expect("ip");
        String::from_utf8_lossy(&out.stdout).contains(&format!(" {ip}/"))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for ns in [&self.near, &self.far] {
            // Not an assertion: a test that has failed already shall not abort.
            let _ = Command::new("ip").args(["netns", "del", ns]).output();
        }
    }
}
