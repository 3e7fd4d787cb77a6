//! The guard over a real kernel: this program is test, guard and agent in one (the guard starts its own program again).
//! The far end of a wire pings the floating IP every millisecond and hears the notices. Needs root; says so without.
//!
//! Where the guard is to act, the agent opens the gate for so long that the kernel cannot have done it instead; where
//! the kernel is to act, the guard is dead or stopped.

use std::fs;
use std::net::UdpSocket;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agent::guard::notice::{Notice, verify};
use agent::guard::pet::GUARD_FD;
use asking::{ask, is_dead, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wire::Wire;

#[path = "guard_real/asking.rs"]
mod asking;
#[path = "guard_real/edges.rs"]
mod edges;
#[path = "guard_real/played.rs"]
mod played;
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
        return played::agent();
    }
    if let Ok(mode) = std::env::var(MODE) {
        return played::guard(&mode);
    }
    test()
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
        Some(Self::start_on(mode, wire))
    }

    fn start_on(mode: &str, wire: Wire) -> Self {
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
        Self { guard, folder, wire }
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

    fn far_end_hears(&self) -> bool {
        self.wire.far_pings(V4)
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
            // A failure in here, too, ends the asking.
            let ending = Stop(stop);
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
            drop(ending);
            let asked = asking.join().expect("asked");
            assert!(asked.iter().any(|(t, a)| *a && *t < at), "it answered before");
            let last = asked.iter().rfind(|(_, answered)| *answered).map_or(at, |(t, _)| *t);
            (last.saturating_duration_since(at), heard)
        })
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The agent goes with it.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
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
        ($($test:path),* $(,)?) => { [$((stringify!($test), $test as fn())),*] };
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
        edges::a_guard_that_was_started_with_sigchld_ignored_still_buries_its_agent,
        edges::sigterm_before_the_agent_listens_for_it_waits_for_it,
        edges::an_agent_that_dies_while_it_hands_over_is_announced_too,
        edges::a_pause_of_guard_and_agent_is_no_silence_of_the_agent,
        edges::a_guard_that_cannot_start_another_agent_tries_again,
        edges::an_agent_that_dies_at_once_rests_only_while_another_node_says_that_it_serves,
        edges::a_second_guard_in_the_namespace_is_refused_and_changes_nothing,
        edges::a_stranger_who_takes_the_name_of_the_lock_keeps_no_guard_from_running,
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
