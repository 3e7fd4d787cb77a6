//! The gate, the address and its announcement in a real kernel: two network namespaces and a veth pair between them,
//! made and removed by the test. Seen from the other side of the wire. Needs root; says so and passes without.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent::os::lease::KernelLease;
use agent::os::vip::{Addresses, Vip};
use wire::{Wire, run};

#[path = "common/wire.rs"]
mod wire;

/// What the kernel may take longer than the timeout: jiffies, and a busy machine.
const MARGIN: Duration = Duration::from_millis(100);

/// Answers every datagram to `ip` in the near namespace.
fn echo(ip: IpAddr, stop: Arc<AtomicBool>) {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address((ip, 0).into()), socket2::Type::DGRAM, None)
            .expect("socket");
    match ip {
        IpAddr::V4(_) => socket.set_freebind_v4(true),
        IpAddr::V6(_) => socket.set_freebind_v6(true),
    }
    .expect("freebind");
    socket.bind(&SocketAddr::new(ip, 5060).into()).expect("bound");
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("timeout");
    let socket: UdpSocket = socket.into();
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((n, from)) = socket.recv_from(&mut buffer) {
            // Refused while the gate is closed: that is what is tested.
            let _ = socket.send_to(&buffer[..n], from);
        }
    }
}

/// Asks `ip` every millisecond from the far namespace until told to stop; returns when which question was asked, and
/// whether it was answered.
fn ask(ip: IpAddr, stop: &AtomicBool) -> Vec<(Instant, bool)> {
    let any: IpAddr = if ip.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).expect("bound");
    socket.set_nonblocking(true).expect("nonblocking");
    let mut asked: Vec<(Instant, bool)> = Vec::new();
    let hear = |asked: &mut Vec<(Instant, bool)>| {
        let mut buffer = [0; 64];
        while let Ok((4, _)) = socket.recv_from(&mut buffer) {
            let n = u32::from_le_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize;
            asked[n].1 = true;
        }
    };
    while !stop.load(Ordering::Relaxed) {
        let n = asked.len() as u32;
        asked.push((Instant::now(), false));
        let _ = socket.send_to(&n.to_le_bytes(), (ip, 5060));
        std::thread::park_timeout(Duration::from_millis(1));
        hear(&mut asked);
    }
    std::thread::park_timeout(Duration::from_millis(50));
    hear(&mut asked);
    asked
}

const V4: &str = "10.99.0.100";
const V6: &str = "fd99::100";

fn vip() -> Vip {
    let ip = |s: &str| s.parse().expect("address");
    Vip { interface: "v0".into(), addresses: vec![(ip(V4), 24), (ip(V6), 64)] }
}

/// Runs `near` in the near namespace, with an echo on `ip` there and questions from the far one.
fn watch(wire: &Wire, ip: &str, near: impl FnOnce() + Send) -> Vec<(Instant, bool)> {
    wire.far_knows(ip);
    let ip: IpAddr = ip.parse().expect("address");
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|s| {
        let stop_echo = stop.clone();
        s.spawn(move || {
            Wire::enter(&wire.near);
            echo(ip, stop_echo);
        });
        let stop_ask = stop.clone();
        let asking = s.spawn(move || {
            Wire::enter(&wire.far);
            ask(ip, &stop_ask)
        });
        Wire::within(&wire.near, near);
        stop.store(true, Ordering::Relaxed);
        asking.join().expect("asked")
    })
}

fn ips() -> Vec<IpAddr> {
    vip().addresses.iter().map(|a| a.0).collect()
}

fn between(asked: &[(Instant, bool)], from: Instant, to: Instant) -> (usize, usize) {
    let part: Vec<_> = asked.iter().filter(|(at, _)| *at >= from && *at < to).collect();
    (part.iter().filter(|(_, answered)| *answered).count(), part.len())
}

/// Opens the gate for `lease_for` and does no more; returns for how long answers came.
fn held(wire: &Wire, ip: &str, lease_for: Duration) -> Duration {
    let mut opened = None;
    let asked = watch(wire, ip, || {
        let addresses = Addresses::new(&vip()).expect("interface");
        let mut lease = KernelLease::install(&ips()).expect("installed");
        addresses.add(Duration::from_secs(10)).expect("added");
        std::thread::park_timeout(Duration::from_millis(20));
        opened = Some(Instant::now());
        lease.renew(lease_for).expect("opened");
        std::thread::park_timeout(lease_for + Duration::from_millis(200));
        lease.uninstall().expect("removed");
        addresses.remove().expect("removed");
    });
    let opened = opened.expect("opened");
    let end = opened + lease_for + Duration::from_millis(150);
    let last = asked.iter().rfind(|(at, answered)| *answered && *at < end);
    last.expect("open for a while").0.saturating_duration_since(opened)
}

#[test]
fn the_gate_is_open_for_no_longer_than_was_said_whatever_the_length() {
    let Some(wire) = Wire::new() else { return };
    let mut worst = Duration::ZERO;
    for round in 0..16 {
        // Lengths that are no whole ticks of the kernel's clock, too.
        let lease_for = Duration::from_millis(100 + 7 * round);
        let held = held(&wire, V4, lease_for);
        assert!(held <= lease_for + MARGIN && held >= lease_for / 2, "{lease_for:?}: {held:?}");
        worst = worst.max(held.saturating_sub(lease_for));
    }
    println!("16 leases of 100 to 205 ms: open for at most {worst:?} too long");
}

#[test]
fn a_closed_gate_hides_an_address_from_arp_and_neighbour_discovery() {
    let Some(wire) = Wire::new() else { return };
    Wire::within(&wire.near, || {
        let addresses = Addresses::new(&vip()).expect("interface");
        let mut lease = KernelLease::install(&ips()).expect("installed");
        addresses.add(Duration::from_secs(30)).expect("added");
        let known = |ip: &str| {
            let out = Command::new("ip").args(["-n", &wire.far, "neigh", "show", ip]).output().expect("ip");
            String::from_utf8_lossy(&out.stdout).contains("lladdr")
        };
        for ip in [V4, V6] {
            assert!(!wire.far_pings(ip), "{ip} is closed");
            assert!(!known(ip), "nobody has answered for {ip}");
        }
        lease.renew(Duration::from_secs(30)).expect("opened");
        for ip in [V4, V6] {
            let end = Instant::now() + Duration::from_secs(20);
            while !(wire.far_pings(ip) && known(ip)) {
                assert!(Instant::now() < end, "{ip} is open");
            }
        }
        lease.uninstall().expect("removed");
        addresses.remove().expect("removed");
    });
}

#[test]
fn a_gate_that_another_program_has_removed_is_made_anew_by_the_next_renewal() {
    let Some(wire) = Wire::new() else { return };
    Wire::within(&wire.near, || {
        let addresses = Addresses::new(&vip()).expect("interface");
        let mut lease = KernelLease::install(&ips()).expect("installed");
        addresses.add(Duration::from_secs(30)).expect("added");
        for removal in ["flush ruleset", "delete table arp relevo"] {
            lease.renew(Duration::from_secs(30)).expect("open");
            run(&["nft", removal]);
            lease.clear().expect("what is there is closed, and what is not there is no error");
            lease.renew(Duration::from_secs(30)).expect("made anew");
            assert!(wire.far_pings(V4), "open again after {removal}");
            lease.clear().expect("closed");
            assert!(!wire.far_pings(V4), "and the rules are there again after {removal}");
        }
        lease.uninstall().expect("removed");
        addresses.remove().expect("removed");
    });
}

#[test]
fn a_successor_replaces_the_tables_and_finds_the_gate_closed() {
    let Some(wire) = Wire::new() else { return };
    Wire::within(&wire.near, || {
        let addresses = Addresses::new(&vip()).expect("interface");
        let mut former = KernelLease::install(&ips()).expect("installed");
        addresses.add(Duration::from_secs(30)).expect("added");
        former.renew(Duration::from_secs(30)).expect("open");
        assert!(wire.far_pings(V4));
        let successor = KernelLease::install(&ips()).expect("installed over it");
        assert!(!wire.far_pings(V4), "what the former process had opened is closed");
        successor.uninstall().expect("removed");
        addresses.remove().expect("removed");
    });
}

fn the_gate_closes_by_itself(ip: &str) {
    let Some(wire) = Wire::new() else { return };
    let lease_for = Duration::from_millis(300);
    let mut opened = None;
    let asked = watch(&wire, ip, || {
        let addresses = Addresses::new(&vip()).expect("interface");
        let mut lease = KernelLease::install(&ips()).expect("installed");
        addresses.add(Duration::from_secs(10)).expect("added");
        std::thread::park_timeout(Duration::from_millis(200));
        opened = Some(Instant::now());
        lease.renew(lease_for).expect("opened");
        // Whatever happens to this process now, nothing more is done.
        std::thread::park_timeout(lease_for + Duration::from_millis(500));
        lease.uninstall().expect("removed");
        addresses.remove().expect("removed");
    });
    let opened = opened.expect("opened");
    assert_eq!(between(&asked, asked[0].0, opened).0, 0, "closed before it is opened");
    let last = asked
        .iter()
        .rfind(|(at, answered)| *answered && *at < opened + lease_for + Duration::from_millis(400));
    let held = last.expect("open for a while").0 - opened;
    println!("{ip}: opened for {lease_for:?}, the last question answered was asked after {held:?}");
    assert!(held <= lease_for + MARGIN, "{held:?}");
    assert!(held >= lease_for / 2, "{held:?}");
}

#[test]
fn the_ipv4_gate_closes_by_itself_when_renewals_stop() {
    the_gate_closes_by_itself(V4);
}

#[test]
fn the_ipv6_gate_closes_by_itself_when_renewals_stop() {
    the_gate_closes_by_itself(V6);
}

#[test]
fn renewals_lose_no_packet_and_clearing_closes_at_once() {
    let Some(wire) = Wire::new() else { return };
    let (mut begun, mut cleared) = (None, None);
    let mut slowest = Duration::ZERO;
    let asked = watch(&wire, V4, || {
        let addresses = Addresses::new(&vip()).expect("interface");
        let mut lease = KernelLease::install(&ips()).expect("installed");
        addresses.add(Duration::from_secs(10)).expect("added");
        for n in 0..200 {
            let before = Instant::now();
            lease.renew(Duration::from_millis(1000)).expect("renewed");
            slowest = slowest.max(before.elapsed());
            if n == 10 {
                // ARP has been answered by now.
                begun = Some(Instant::now());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        lease.clear().expect("cleared");
        cleared = Some(Instant::now());
        std::thread::park_timeout(Duration::from_millis(200));
        lease.uninstall().expect("removed");
        addresses.remove().expect("removed");
    });
    let (begun, cleared) = (begun.expect("begun"), cleared.expect("cleared"));
    // The last milliseconds before the clearing may be on the way when it comes.
    let (answered, total) = between(&asked, begun, cleared - Duration::from_millis(20));
    println!("200 renewals: {answered} of {total} questions answered, the slowest renewal took {slowest:?}");
    assert!(total > 200);
    assert_eq!(answered, total, "no gap between two renewals");
    assert_eq!(between(&asked, cleared, cleared + Duration::from_millis(150)).0, 0, "closed at once");
}

#[test]
fn an_address_is_added_again_and_removed_again_without_complaint_and_ends_by_itself() {
    let Some(wire) = Wire::new() else { return };
    let shown = || (wire.near_has(V4), wire.near_has(V6));
    Wire::within(&wire.near, || {
        let addresses = Addresses::new(&vip()).expect("interface");
        addresses.remove().expect("not there is no error");
        for _ in 0..3 {
            addresses.add(Duration::from_secs(5)).expect("added");
        }
        assert_eq!(shown(), (true, true));
        addresses.remove().expect("removed");
        addresses.remove().expect("removed before");
        assert_eq!(shown(), (false, false));
        addresses.add(Duration::from_secs(1)).expect("added");
        let end = Instant::now() + Duration::from_secs(20);
        while shown() != (false, false) {
            assert!(Instant::now() < end, "the kernel removes it when its lifetime ends");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    });
}

#[test]
fn the_neighbours_learn_of_the_new_owner() {
    let Some(wire) = Wire::new() else { return };
    let neighbour = |ip: &str| {
        let out = Command::new("ip").args(["-n", &wire.far, "neigh", "show", ip]).output().expect("ip");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    // The far side knows another owner of the addresses.
    for ip in [V4, V6] {
        run(&[
            "ip",
            "-n",
            &wire.far,
            "neigh",
            "add",
            ip,
            "lladdr",
            "02:00:00:00:00:77",
            "dev",
            "v0",
            "nud",
            "stale",
        ]);
    }
    // As often as it takes: the far side's IPv6 may still be getting ready.
    let end = Instant::now() + Duration::from_secs(20);
    Wire::within(&wire.near, || {
        let announcer = agent::os::announce::Announcer::new("v0", &ips()).expect("announcer");
        while [V4, V6].iter().any(|ip| neighbour(ip).contains("02:00:00:00:00:77")) {
            assert!(Instant::now() < end, "{} {}", neighbour(V4), neighbour(V6));
            announcer.announce();
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
}

#[test]
fn a_wrong_interface_and_a_missing_right_are_said_with_their_cure() {
    let error =
        Addresses::new(&Vip { interface: "nosuch0".into(), ..vip() }).expect_err("no such").to_string();
    assert!(error.contains("nosuch0") && error.contains("vip.interface"), "{error}");
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // As nobody, in a child: the right is given up for good.
    let exe = std::env::current_exe().expect("this test");
    let out = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups", "--bounding-set=-all"])
        .arg(exe)
        .args(["--exact", "--nocapture", "without_rights", "--include-ignored"])
        .env("RELEVO_WITHOUT_RIGHTS", "1")
        .output()
        .expect("setpriv");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    // A build folder that nobody may enter hides the test program: then there is nothing to see.
    if text.contains("Permission denied") && !text.contains("no permission") {
        println!("skipped: the test program cannot be run as nobody");
        return;
    }
    assert!(text.contains("no permission for the gate"), "{text}");
}

#[test]
#[ignore = "run by a_wrong_interface_and_a_missing_right_are_said_with_their_cure, as nobody"]
fn without_rights() {
    if std::env::var_os("RELEVO_WITHOUT_RIGHTS").is_some() {
        println!("{}", KernelLease::install(&ips()).expect_err("not allowed"));
    }
}
