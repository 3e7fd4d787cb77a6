//! The guard over a real kernel: this program is test, guard and agent in one (the guard starts its own program again).
//! The far end of a wire pings the floating IP every millisecond and hears the notices. Needs root; says so without.
//!
//! Where the guard is to act, the agent opens the gate for so long that the kernel cannot have done it instead; where
//! the kernel is to act, the guard is dead or stopped.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agent::guard::notice::{Notice, verify};
use agent::guard::pet::{GUARD_FD, PetInfo, Petter};
use agent::guard::{GuardConfig, supervise};
use agent::os::lease::KernelLease;
use agent::os::vip::{Addresses, Vip};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use wire::Wire;

#[path = "common/wire.rs"]
mod wire;

const V4: &str = "10.99.0.100";
const V6: &str = "fd99::100";
const LEASE: Duration = Duration::from_millis(300);
/// What the kernel may take longer than the lease: jiffies, and a busy machine.
const MARGIN: Duration = Duration::from_millis(100);
/// What anything may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);
/// So long that nobody waits for it.
const LONG: Duration = Duration::from_secs(600);
const KEY: [u8; 32] = [7; 32];
const TERM: u64 = 7;
const FINAL: u8 = 3;
/// Environment: what the agent does, and the folder where it says so.
const MODE: &str = "RELEVO_TEST_MODE";
const FOLDER: &str = "RELEVO_TEST_FOLDER";

fn main() -> ExitCode {
    if std::env::var_os(GUARD_FD).is_some() {
        return agent();
    }
    if let Ok(mode) = std::env::var(MODE) {
        return guard(&mode);
    }
    test()
}

// ---- guard and agent

fn vip(interface: &str) -> Vip {
    let ip = |s: &str| s.parse().expect("address");
    Vip { interface: interface.into(), addresses: vec![(ip(V4), 24), (ip(V6), 64)] }
}

fn guard(mode: &str) -> ExitCode {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block().expect("blocked");
    let config = GuardConfig {
        place: 1,
        lease: LEASE,
        vip: Some(vip(if mode == "no interface" { "nosuch0" } else { "v0" })),
        key: KEY,
        source: IpAddr::from([10, 99, 0, 1]),
        peers: vec![SocketAddr::from(([10, 99, 0, 2], 7400))],
        final_exit: FINAL,
    };
    match supervise(&config, &signals) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn agent() -> ExitCode {
    let (mode, folder) = (std::env::var(MODE).expect("mode"), std::env::var(FOLDER).expect("folder"));
    let lives = format!("{folder}/lives");
    let before = fs::read_to_string(&lives).unwrap_or_default();
    fs::write(&lives, format!("{before}{}\n", std::process::id())).expect("written");
    if mode == "never ready" {
        return ExitCode::from(2);
    }
    let petter = Petter::from_env().expect("the guard's socket");
    if !before.is_empty() {
        // The second life only shows that there is one.
        return ExitCode::SUCCESS;
    }
    let info = PetInfo { term: TERM, leading: true, lease_held: true, heir: Some(2) };
    // What an agent says last that ends as it should.
    let ending = PetInfo { leading: false, ..info };
    if mode == "idle" {
        petter.pet(PetInfo { lease_held: false, ..info });
        loop {
            std::thread::park();
        }
    }
    let kernel = mode == "kernel";
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block().expect("blocked");
    let asked = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK).expect("signalfd");
    let addresses = Addresses::new(&vip("v0")).expect("interface");
    let ips: Vec<IpAddr> = vip("v0").addresses.iter().map(|a| a.0).collect();
    let mut lease = KernelLease::install(&ips).expect("installed");
    loop {
        lease.renew(if kernel { LEASE } else { LONG }).expect("renewed");
        addresses.add(if kernel { Duration::from_secs(2) } else { LONG }).expect("added");
        petter.pet(info);
        // It leaves the floating IP behind: that is what the guard is for.
        if asked.read_signal().is_ok_and(|s| s.is_some()) {
            petter.pet(ending);
            return ExitCode::SUCCESS;
        }
        if fs::exists(format!("{folder}/fail")).is_ok_and(|e| e) {
            petter.pet(ending);
            return ExitCode::from(FINAL);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

// ---- test

struct World {
    guard: Child,
    folder: tempfile::TempDir,
    wire: Wire,
}

impl World {
    fn start(mode: &str) -> Option<Self> {
        let wire = Wire::new()?;
        wire.far_knows(V4);
        let folder = tempfile::tempdir().expect("folder");
        let guard = Command::new("ip")
            .args(["netns", "exec", &wire.near])
            .arg(std::env::current_exe().expect("this program"))
            .env(MODE, mode)
            .env(FOLDER, folder.path())
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.path().join("said")).expect("file"))
            .spawn()
            .expect("started");
        Some(Self { guard, folder, wire })
    }

    /// Started, and the floating IP answers.
    fn active(mode: &str) -> Option<Self> {
        let world = Self::start(mode)?;
        until("the floating IP answers", || world.wire.far_pings(V4));
        assert!(world.wire.near_has(V4) && world.wire.near_has(V6));
        Some(world)
    }

    fn lives(&self) -> Vec<Pid> {
        let text = fs::read_to_string(self.folder.path().join("lives")).unwrap_or_default();
        text.lines().map(|l| Pid::from_raw(l.parse().expect("a pid"))).collect()
    }

    fn agent(&self) -> Pid {
        *self.lives().first().expect("it has lived")
    }

    fn guard(&self) -> Pid {
        Pid::from_raw(self.guard.id() as i32)
    }

    fn ended(&mut self) -> Option<i32> {
        let mut code = None;
        until("the guard ends", || {
            code = self.guard.try_wait().expect("waited");
            code.is_some()
        });
        code.and_then(|c| c.code())
    }

    fn nothing_is_left(&self) {
        assert!(!self.wire.near_has(V4) && !self.wire.near_has(V6), "both addresses are gone");
        assert!(!self.wire.far_pings(V4));
    }

    /// Does it while the far end asks; returns when, when the last question was asked that was answered, and the notice
    /// with when it came.
    fn observe(&self, act: impl FnOnce(), notice: bool) -> (Duration, Option<(Duration, Notice)>) {
        let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (stop, answers) = (&stop, &answers);
        std::thread::scope(|s| {
            let asking = s.spawn(move || {
                Wire::enter(&self.wire.far);
                ask(stop, answers)
            });
            let ear = Wire::within(&self.wire.far, || UdpSocket::bind(("10.99.0.2", 7400)).expect("bound"));
            ear.set_read_timeout(Some(PATIENCE)).expect("timeout");
            until("the floating IP answers", || answers.load(Ordering::Relaxed) > 50);
            let at = Instant::now();
            act();
            let heard = notice.then(|| {
                let mut buffer = [0; 128];
                let (n, _) = ear.recv_from(&mut buffer).expect("a notice comes");
                (at.elapsed(), verify(&buffer[..n], &KEY).expect("it verifies"))
            });
            // Whoever answers wrongly has time to do so.
            std::thread::park_timeout(LEASE + Duration::from_secs(1));
            stop.store(true, Ordering::Relaxed);
            let asked = asking.join().expect("asked");
            assert!(asked.iter().any(|(t, a)| *a && *t < at), "it answered before");
            let last = asked.iter().rfind(|(_, answered)| *answered).map_or(at, |(t, _)| *t);
            (last.saturating_duration_since(at), heard)
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The agent goes with it.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

fn until(what: &str, mut met: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < end, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Dead, or dead and waiting to be buried.
fn is_dead(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"))
}

/// Pings the floating IP every millisecond until told to stop; returns when which was sent and whether it was answered.
fn ask(stop: &AtomicBool, answers: &AtomicUsize) -> Vec<(Instant, bool)> {
    use std::io::Read;
    let ip: Ipv4Addr = V4.parse().expect("address");
    let to = SocketAddr::from((ip, 0)).into();
    let mut socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::ICMPV4))
            .expect("raw socket");
    socket.set_nonblocking(true).expect("nonblocking");
    let mut asked: Vec<(Instant, bool)> = Vec::new();
    let hear = |asked: &mut Vec<(Instant, bool)>, socket: &mut socket2::Socket| {
        let mut packet = [0; 128];
        while let Ok(n) = socket.read(&mut packet) {
            // Behind the IP header: an echo reply of ours with its number.
            if n >= 32 && packet[20] == 0 && packet[24..26] == *b"RG" {
                let number = u32::from_be_bytes([packet[28], packet[29], packet[30], packet[31]]) as usize;
                if let Some(question) = asked.get_mut(number) {
                    question.1 = true;
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    while !stop.load(Ordering::Relaxed) {
        let mut echo = [8, 0, 0, 0, b'R', b'G', 0, 0, 0, 0, 0, 0];
        echo[8..].copy_from_slice(&(asked.len() as u32).to_be_bytes());
        let sum: u32 = echo.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
        echo[2..4].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
        asked.push((Instant::now(), false));
        let _ = socket.send_to(&echo, &to);
        std::thread::park_timeout(Duration::from_millis(1));
        hear(&mut asked, &mut socket);
    }
    std::thread::park_timeout(Duration::from_millis(50));
    hear(&mut asked, &mut socket);
    asked
}

const NOTICE: Notice = Notice { dead: 1, term: TERM, heir: 2 };

fn an_agent_that_is_killed_leaves_no_floating_ip_and_the_peers_hear_of_it() {
    let Some(mut world) = World::active("guard") else { return };
    let agent = world.agent();
    let (silent, heard) = world.observe(|| kill(agent, Signal::SIGKILL).expect("killed"), true);
    let (told, notice) = heard.expect("waited for");
    println!("agent killed: last answer asked for after {silent:?}, notice after {told:?}");
    assert_eq!(notice, NOTICE);
    assert!(silent <= told, "nothing is said before the floating IP is down");
    assert_eq!(world.ended(), Some(0), "the second life ends as it should");
    assert_eq!(world.lives().len(), 2, "it was started again once");
    world.nothing_is_left();
}

fn an_agent_that_is_stopped_is_killed_after_one_lease_and_the_peers_hear_of_it() {
    let Some(mut world) = World::active("guard") else { return };
    let agent = world.agent();
    let (silent, heard) = world.observe(|| kill(agent, Signal::SIGSTOP).expect("stopped"), true);
    let (told, notice) = heard.expect("waited for");
    println!(
        "agent stopped: last answer asked for after {silent:?}, notice after {told:?} (lease {LEASE:?})"
    );
    assert_eq!(notice, NOTICE);
    assert!(silent <= told, "nothing is said before the floating IP is down");
    assert!(told >= LEASE / 2, "an agent that only pauses is left alone");
    assert!(is_dead(agent));
    assert_eq!(world.ended(), Some(0));
    assert_eq!(world.lives().len(), 2);
    world.nothing_is_left();
}

fn when_the_guard_is_killed_the_agent_dies_and_the_kernel_ends_the_floating_ip_within_the_lease() {
    let Some(world) = World::active("kernel") else { return };
    let (agent, guard) = (world.agent(), world.guard());
    let (silent, _) = world.observe(|| kill(guard, Signal::SIGKILL).expect("killed"), false);
    println!("guard killed: last answer asked for after {silent:?} (lease {LEASE:?})");
    assert!(silent <= LEASE + MARGIN, "{silent:?}");
    until("the agent is dead", || is_dead(agent));
    until("the addresses end", || !world.wire.near_has(V4) && !world.wire.near_has(V6));
    assert_eq!(world.lives().len(), 1);
}

fn when_guard_and_agent_are_stopped_the_kernel_ends_the_floating_ip_within_the_lease() {
    let Some(world) = World::active("kernel") else { return };
    let (agent, guard) = (world.agent(), world.guard());
    let stop = || {
        kill(guard, Signal::SIGSTOP).expect("stopped");
        kill(agent, Signal::SIGSTOP).expect("stopped");
    };
    let (silent, _) = world.observe(stop, false);
    println!("guard and agent stopped: last answer asked for after {silent:?} (lease {LEASE:?})");
    assert!(silent <= LEASE + MARGIN, "{silent:?}");
    until("the addresses end", || !world.wire.near_has(V4) && !world.wire.near_has(V6));
    kill(guard, Signal::SIGKILL).expect("killed");
    until("a stopped agent dies with its guard, too", || is_dead(agent));
}

fn an_agent_without_the_lease_that_is_silent_is_killed_and_started_again() {
    let Some(mut world) = World::start("idle") else { return };
    assert_eq!(world.ended(), Some(0));
    let lives = world.lives();
    assert_eq!(lives.len(), 2);
    assert!(is_dead(lives[0]));
}

fn sigterm_is_passed_on_and_what_the_agent_leaves_behind_is_removed() {
    let Some(mut world) = World::active("guard") else { return };
    kill(world.guard(), Signal::SIGTERM).expect("asked");
    assert_eq!(world.ended(), Some(0));
    assert_eq!(world.lives().len(), 1);
    world.nothing_is_left();
}

fn an_agent_whose_disk_failed_is_not_started_again_and_its_exit_code_is_the_guards() {
    let Some(mut world) = World::active("guard") else { return };
    fs::write(world.folder.path().join("fail"), "").expect("written");
    assert_eq!(world.ended(), Some(i32::from(FINAL)));
    assert_eq!(world.lives().len(), 1);
    world.nothing_is_left();
}

fn an_agent_that_was_never_ready_is_not_started_again_and_its_exit_code_is_the_guards() {
    let Some(mut world) = World::start("never ready") else { return };
    assert_eq!(world.ended(), Some(2));
    assert_eq!(world.lives().len(), 1);
}

fn a_guard_without_its_interface_starts_no_agent_and_says_why() {
    let Some(mut world) = World::start("no interface") else { return };
    assert_eq!(world.ended(), Some(1));
    let said = fs::read_to_string(world.folder.path().join("said")).expect("said");
    assert!(said.contains("nosuch0") && said.contains("vip.interface"), "{said}");
    assert_eq!(world.lives(), []);
}

fn test() -> ExitCode {
    macro_rules! all {
        ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn())),*] };
    }
    let tests = all![
        an_agent_that_is_killed_leaves_no_floating_ip_and_the_peers_hear_of_it,
        an_agent_that_is_stopped_is_killed_after_one_lease_and_the_peers_hear_of_it,
        when_the_guard_is_killed_the_agent_dies_and_the_kernel_ends_the_floating_ip_within_the_lease,
        when_guard_and_agent_are_stopped_the_kernel_ends_the_floating_ip_within_the_lease,
        an_agent_without_the_lease_that_is_silent_is_killed_and_started_again,
        sigterm_is_passed_on_and_what_the_agent_leaves_behind_is_removed,
        an_agent_whose_disk_failed_is_not_started_again_and_its_exit_code_is_the_guards,
        an_agent_that_was_never_ready_is_not_started_again_and_its_exit_code_is_the_guards,
        a_guard_without_its_interface_starts_no_agent_and_says_why,
    ];
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--list") {
        for (name, _) in tests {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let chosen: Vec<_> = tests
        .into_iter()
        .filter(|(n, _)| filters.is_empty() || filters.iter().any(|f| n.contains(*f)))
        .collect();
    let mut failed = 0;
    for (name, test) in chosen {
        let good = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        failed += u32::from(!good);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
