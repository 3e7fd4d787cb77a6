//! The rarer ends: what starts a guard, what it is told at a bad moment, and what stops the whole machine.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use agent::guard::alone::{Alone, NAME};
use agent::guard::question::{self, Word};
use agent::os::OsError;
use agent::os::lease::KernelLease;
use agent::os::vip::Addresses;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::unistd::Pid;

use super::asking::{is_dead, is_pending, until};
use super::wire::{Wire, run};
use super::{KEY, LEASE, LONG, NOTICE, V4, World, played};

const NOBODY: u32 = 65534;

/// The letter for what the process is about: `T` stopped, `S` waiting.
fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Whoever starts a program hands it what signals are ignored; with SIGCHLD ignored the kernel buries children itself.
pub fn a_guard_that_was_started_with_sigchld_ignored_still_buries_its_agent() {
    let Some(mut world) = World::active("no sigchld") else { return };
    kill(world.agent(), Signal::SIGKILL).expect("killed");
    assert_eq!(world.ended(), Some(0), "the second life ends as it should");
    assert_eq!(world.lives().len(), 2);
    world.nothing_is_left();
}

/// Says for `FOR_NOW` that node 2 serves; then nobody does, and the pauses that have grown meanwhile are over.
pub fn an_agent_that_dies_at_once_rests_only_while_another_node_says_that_it_serves() {
    const FOR_NOW: Duration = Duration::from_secs(4);
    /// Starts within that time if none rests longer than it must: 0, 0.2, 0.7, 1.7, 3.7 s after the first death.
    const STARTS: usize = 6;
    let Some(world) = World::start("frail") else { return };
    let ear = Wire::within(&world.wire.far, || UdpSocket::bind(("10.99.0.2", 7400)).expect("bound"));
    ear.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
    let end = Instant::now() + FOR_NOW;
    let mut buffer = [0; question::BYTES];
    let mut asked = 0;
    while Instant::now() < end {
        let Ok((n, from)) = ear.recv_from(&mut buffer) else { continue };
        let Some(Word::Question { from: 1, number }) = question::verify(&buffer[..n], &KEY) else { continue };
        asked += 1;
        let answer = Word::Answer { from: 2, number, serves: true };
        ear.send_to(&question::encode(answer, &KEY), from).expect("answered");
    }
    let before = world.lives().len();
    assert!(asked > 0 && before <= STARTS, "{before} starts, {asked} questions");
    // The next pauses would be 5 and 10 s.
    until("it is started again and again", || world.lives().len() >= before + STARTS);
}

pub fn sigterm_before_the_agent_listens_for_it_waits_for_it() {
    let Some(mut world) = World::start("late ear") else { return };
    until("an agent", || world.lives().len() == 1);
    kill(world.guard(), Signal::SIGTERM).expect("asked");
    assert_eq!(world.ended(), Some(0));
    assert_eq!(world.lives().len(), 1);
}

pub fn an_agent_that_dies_while_it_hands_over_is_announced_too() {
    let Some(mut world) = World::active("deaf") else { return };
    let (guard, agent) = (world.guard(), world.agent());
    let die = || {
        kill(guard, Signal::SIGTERM).expect("asked");
        until("the guard has passed it on", || is_pending(agent, Signal::SIGTERM));
        // So that it finds the agent dead, and not dying.
        kill(guard, Signal::SIGSTOP).expect("stopped");
        until("the guard stands still", || state(guard) == Some('T'));
        kill(agent, Signal::SIGKILL).expect("killed");
        until("the agent is dead", || is_dead(agent));
        kill(guard, Signal::SIGCONT).expect("goes on");
    };
    let (_, heard) = world.observe(die, true);
    assert_eq!(heard.expect("waited for").1, NOTICE);
    assert_ne!(world.ended(), Some(0), "the hand-over did not end as it should");
    assert_eq!(world.lives().len(), 1);
    world.nothing_is_left();
}

/// A virtual machine that is moved, say. The agent sees by itself what of its lease is left.
pub fn a_pause_of_guard_and_agent_is_no_silence_of_the_agent() {
    let Some(world) = World::active("guard") else { return };
    let (guard, agent) = (world.guard(), world.agent());
    kill(agent, Signal::SIGSTOP).expect("stopped");
    kill(guard, Signal::SIGSTOP).expect("stopped");
    std::thread::park_timeout(2 * LEASE);
    kill(guard, Signal::SIGCONT).expect("goes on");
    until("the guard waits again", || state(guard) == Some('S'));
    kill(agent, Signal::SIGCONT).expect("goes on");
    // Whoever is killed wrongly has time to be.
    std::thread::park_timeout(2 * LEASE);
    assert!(!is_dead(agent) && world.far_end_hears());
    kill(agent, Signal::SIGSTOP).expect("stopped");
    until("and a silence that is one still counts", || is_dead(agent));
}

/// Memory is short: that may be why the agent has died.
pub fn a_guard_that_cannot_start_another_agent_tries_again() {
    let Some(mut world) = World::active("guard") else { return };
    let guard = world.guard().to_string();
    let files = |soft: &str| run(&["prlimit", "--pid", &guard, &format!("--nofile={soft}:")]);
    files("3");
    let agent = world.agent();
    world.observe(|| kill(agent, Signal::SIGKILL).expect("killed"), true);
    assert_eq!(world.guard.try_wait().expect("asked"), None, "the guard lives");
    assert_eq!(world.lives().len(), 1);
    files("1024");
    assert_eq!(world.ended(), Some(0), "the second life ends as it should");
    assert_eq!(world.lives().len(), 2);
    world.nothing_is_left();
}

pub fn a_second_guard_in_the_namespace_is_refused_and_changes_nothing() {
    let Some(wire) = Wire::new() else { return };
    wire.far_knows(V4);
    let vip = played::vip("v0");
    let ips: Vec<_> = vip.addresses.iter().map(|a| a.0).collect();
    let near = wire.near.clone();
    // The first one, which renews nothing: what is taken away from it stays away.
    let first = Wire::within(&near, || {
        let lock = Alone::take().expect("nobody else is here");
        let mut lease = KernelLease::install(&ips).expect("installed");
        lease.renew(LONG).expect("open");
        Addresses::new(&vip).and_then(|a| a.add(LONG)).expect("added");
        lock
    });
    let mut second = World::start_on("guard", wire);
    assert_eq!(second.ended(), Some(1));
    let said = std::fs::read_to_string(second.folder.path().join("said")).expect("said");
    let me = format!("process {}", std::process::id());
    assert!(said.lines().count() == 1 && said.contains(&me) && said.contains("namespace"), "{said}");
    assert_eq!(second.lives(), []);
    assert!(second.far_end_hears() && second.wire.near_has(V4));
    let refused = Wire::within(&near, Alone::take).expect_err("it is not alone");
    assert!(matches!(refused, OsError::NotAlone { .. }), "{refused}");
    drop(first);
    Wire::within(&near, Alone::take).expect("free again");
    Alone::take().expect("another namespace has its own");
}

pub fn a_stranger_who_takes_the_name_of_the_lock_keeps_no_guard_from_running() {
    let Some(wire) = Wire::new() else { return };
    let mut stranger = Wire::within(&wire.near, || {
        let mut sleeper = Command::new("sleep");
        sleeper.arg("600").uid(NOBODY);
        // SAFETY: only system calls, and no memory, between fork and exec.
        unsafe {
            sleeper.pre_exec(|| {
                let own = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
                bind(own.as_raw_fd(), &UnixAddr::new_abstract(&NAME.as_bytes()[1..])?)?;
                listen(&own, Backlog::new(1)?)?;
                // For the program that comes now.
                std::mem::forget(own);
                Ok(())
            });
        }
        sleeper.spawn().expect("started")
    });
    let taken = Wire::within(&wire.near, || Alone::take().map(drop));
    stranger.kill().expect("killed");
    stranger.wait().expect("buried");
    taken.expect("a stranger is none of us");
}
