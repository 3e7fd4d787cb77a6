//! keepalived from Debian as the yardstick: two of them on the lab's bridge with a floating address of their own.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{PROBE_EVERY, Series, gaps};
use crate::lab::proc::{Proc, wait_until};
use crate::lab::state::LabState;
use crate::lab::{cluster, interrupt, net, ns, proc};
use crate::observe::Observer;

/// Its floating address.
const VIP: &str = "10.77.0.101";
/// An IPv6 address that nobody has: the yardstick is IPv4 alone.
const NOBODY6: &str = "fd77::101";
/// Host numbers of the pair.
const HOSTS: [u8; 2] = [31, 32];
/// Bound for the pair to have an owner.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// One and a half of the default advertisements (1 s). That a backup has heard one shows nowhere: so much time has to
/// pass with owner and backup.
const HEARD: Duration = Duration::from_millis(1500);
/// Bound for a killed process to be gone.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

/// How keepalived is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tuning {
    Defaults,
    Fast,
}

impl Tuning {
    pub(super) const ALL: [Tuning; 2] = [Tuning::Defaults, Tuning::Fast];

    fn title(self) -> &'static str {
        match self {
            Tuning::Defaults => "keepalived, node lost (defaults)",
            Tuning::Fast => "keepalived, node lost (100 ms adverts)",
        }
    }

    /// Version of the protocol and advertisement interval, s: less than a second needs version 3.
    fn advert(self) -> (&'static str, &'static str) {
        match self {
            Tuning::Defaults => ("2", "1"),
            Tuning::Fast => ("3", "0.1"),
        }
    }
}

/// One keepalived in its namespace; gone when dropped.
struct Peer {
    host: u8,
    switch: Proc,
    holder: Option<Proc>,
}

impl Peer {
    fn port(&self) -> String {
        format!("k{}", self.host)
    }

    fn start(&mut self, home: &Path, tuning: Tuning) -> io::Result<()> {
        let program = cluster::in_path("keepalived")
            .ok_or_else(|| io::Error::other("keepalived is not installed; apt-get install keepalived"))?;
        let holder = ns::hold_new(true)?;
        self.holder = Some(holder);
        net::unplug(self.switch, &self.port());
        net::plug(self.switch, holder, &self.port(), self.host)?;
        let file = |suffix: &str| home.join(format!("{}.{suffix}", self.port()));
        // Equal except for the priority; without preemption, so that a node that comes back changes nothing.
        let (version, advert) = tuning.advert();
        let config = format!(
            "global_defs {{\n  router_id {port}\n  vrrp_version {version}\n}}\n\
             vrrp_instance lab {{\n  state BACKUP\n  interface eth0\n  virtual_router_id 51\n  priority {host}\n  \
             advert_int {advert}\n  nopreempt\n  virtual_ipaddress {{\n    {VIP}/24\n  }}\n}}\n",
            port = self.port(),
            host = 70 + self.host,
        );
        fs::write(file("conf"), config)?;
        // Left behind by the power loss; keepalived would take it for a running instance.
        for left in ["pid", "vrrp-pid"] {
            let _ = fs::remove_file(file(left));
        }
        let log = fs::File::create(file("log"))?;
        let mut command = ns::command_in(holder, program, true)?;
        command
            .args(["--dont-fork", "--log-console", "--vrrp", "--use-file"])
            .arg(file("conf"))
            .arg("--pid")
            .arg(file("pid"))
            .arg("--vrrp_pid")
            .arg(file("vrrp-pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        proc::spawn(command).map(drop)
    }

    /// Whether its newest word is that it is a backup.
    fn is_backup(&self, home: &Path) -> bool {
        let log = fs::read_to_string(home.join(format!("{}.log", self.port()))).unwrap_or_default();
        let state = log.lines().rev().find_map(|l| l.split_once("Entering "));
        state.is_some_and(|(_, state)| state.starts_with("BACKUP STATE"))
    }

    /// Power loss: wire first, then everything in the namespace.
    fn kill(&mut self) {
        let _ = net::port_down(self.switch, &self.port());
        if let Some(holder) = self.holder.take() {
            for process in ns::members(holder) {
                process.signal(Signal::SIGKILL);
            }
            holder.wait_gone(DEATH_LIMIT);
        }
        net::unplug(self.switch, &self.port());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs one tuning.
pub(super) fn measure(lab: &LabState, tuning: Tuning, runs: u32) -> io::Result<Series> {
    let mut series = Series { name: tuning.title().to_owned(), ..Series::default() };
    let home = lab.dir.join("keepalived");
    fs::create_dir_all(&home)?;
    let mut pair = HOSTS.map(|host| Peer { host, switch: lab.switch, holder: None });
    for peer in &mut pair {
        peer.start(&home, tuning)?;
    }
    for _ in 0..runs {
        interrupt::check()?;
        let observer = Observer::start_at(lab, VIP, NOBODY6, PROBE_EVERY)?;
        let is_owner = |p: &Peer, mac| net::mac_of(p.host) == mac;
        let owner = gaps::settled(&observer, 0, gaps::SETTLED);
        let Some(active) = owner.and_then(|mac| pair.iter().position(|p| is_owner(p, mac))) else {
            interrupt::check()?;
            series.failed.push("keepalived had no owner".to_owned());
            break;
        };
        // The other one is a backup again, and has heard that there is an owner, before it is needed.
        let backup = &pair[1 - active];
        wait_until(READY_LIMIT, || interrupt::requested() || backup.is_backup(&home));
        let owner = gaps::settled(&observer, observer.now(), HEARD);
        interrupt::check()?;
        if !backup.is_backup(&home) || owner.is_none_or(|mac| !is_owner(&pair[active], mac)) {
            series.failed.push("keepalived had no backup".to_owned());
            break;
        }
        let before = observer.now();
        pair[active].kill();
        gaps::record(&observer, before, false, &mut series);
        drop(observer);
        pair[active].start(&home, tuning)?;
    }
    Ok(series)
}
