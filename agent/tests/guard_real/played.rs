//! The guard and the agent, as this program plays them when it is started in one of its modes.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use agent::guard::pet::{PetInfo, Petter};
use agent::guard::{GuardConfig, supervise};
use agent::os::lease::KernelLease;
use agent::os::vip::{Addresses, Vip};
use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::asking::is_pending;
use super::{FINAL, FOLDER, KEY, LEASE, LONG, MODE, TERM, V4, V6};

pub fn vip(interface: &str) -> Vip {
    let ip = |s: &str| s.parse().expect("address");
    Vip { interface: interface.into(), addresses: vec![(ip(V4), 24), (ip(V6), 64)] }
}

pub fn guard(mode: &str) -> ExitCode {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block().expect("blocked");
    if mode == "no sigchld" {
        // SAFETY: no handler is installed.
        unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigIgn) }.expect("ignored");
    }
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

pub fn agent() -> ExitCode {
    let (mode, folder) = (std::env::var(MODE).expect("mode"), std::env::var(FOLDER).expect("folder"));
    let lives = format!("{folder}/lives");
    let before = fs::read_to_string(&lives).unwrap_or_default();
    fs::write(&lives, format!("{before}{}\n", std::process::id())).expect("written");
    if mode == "never ready" {
        return ExitCode::from(2);
    }
    if mode == "late ear" {
        // Long enough for anybody to ask it to end.
        while !is_pending(Pid::this(), Signal::SIGTERM) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        return ExitCode::SUCCESS;
    }
    let petter = Petter::from_env().expect("the guard's socket");
    if mode == "frail" {
        petter.pet(PetInfo { term: TERM, ..PetInfo::default() });
        std::process::abort();
    }
    if !before.is_empty() {
        // The second life only shows that there is one.
        return ExitCode::SUCCESS;
    }
    let info = PetInfo { term: TERM, leading: true, lease_held: true, heir: Some(2), elsewhere: false };
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
        if mode != "deaf" && asked.read_signal().is_ok_and(|s| s.is_some()) {
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
