//! What a node stands on, and what may go while it runs: its guard, and its data folder. And what a machine has to have
//! for a configuration: the interface, and the address of the node.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::config::{Config, Role};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks for an address or an interface that comes late.
const LATE: Duration = Duration::from_millis(200);
/// Between two lines about it.
const AGAIN: Duration = Duration::from_secs(60);
/// Looks in a row that have to find the same: a debugger stops a process for a moment.
const LOOKS: u32 = 2;

/// The state of a process by its `/proc/PID/stat`: its name, in parentheses, may have any byte in it.
#[must_use]
pub fn state_of(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// News, once, of something that was found so often in a row.
#[derive(Debug, Default)]
pub struct Steady {
    found: u32,
    told: bool,
}

impl Steady {
    /// `Some(true)`: it is so from now on; `Some(false)`: it is over.
    pub fn look(&mut self, is_so: bool) -> Option<bool> {
        self.found = if is_so { self.found.saturating_add(1) } else { 0 };
        let now = self.found >= LOOKS;
        let ends = !is_so && self.told;
        if (now && !self.told) || ends {
            self.told = now;
            return Some(now);
        }
        None
    }
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    _stop: SyncSender<()>,
}

/// Looks at the guard, if there is one, and at the folders. `gone` is told, once, which of them has been removed.
///
/// # Errors
/// The thread cannot be started.
pub fn watch(
    guard: Option<u32>,
    folders: Vec<PathBuf>,
    gone: impl FnOnce(String) + Send + 'static,
) -> io::Result<Watch> {
    let (stop, stopped) = sync_channel(1);
    std::thread::Builder::new().name(String::from("relevo-around")).spawn(move || {
        let (mut still, mut lost, mut gone) = (Steady::default(), Steady::default(), Some(gone));
        while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            if let Some(guard) = guard {
                let stat = std::fs::read_to_string(format!("/proc/{guard}/stat")).unwrap_or_default();
                match still.look(matches!(state_of(&stat), Some('T' | 't'))) {
                    Some(true) => tracing::error!(
                        "the guard (process {guard}) is stopped: nobody would take the floating IP down before the lease ends, \
                         or start this agent again; kill -CONT {guard}"
                    ),
                    Some(false) => tracing::info!("the guard (process {guard}) goes on"),
                    None => {}
                }
            }
            let missing = folders.iter().find(|folder| is_gone(folder));
            if lost.look(missing.is_some()) == Some(true)
                && let (Some(folder), Some(gone)) = (missing, gone.take())
            {
                gone(format!("the data folder is gone: {} was removed while the node ran", folder.display()));
            }
        }
    })?;
    Ok(Watch { _stop: stop })
}

/// Anything else that is wrong with a folder, those who write to it say better.
fn is_gone(folder: &Path) -> bool {
    std::fs::metadata(folder).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// What a configuration names and this machine does not have. A configuration may be checked on another machine, so
/// these are warnings.
#[must_use]
pub fn missing(config: &Config) -> Vec<String> {
    // Not by /sys, which may be that of another network namespace.
    let has = |name: &str| {
        // SAFETY: a string that ends with a zero byte and outlives the call.
        std::ffi::CString::new(name).is_ok_and(|name| unsafe { libc::if_nametoindex(name.as_ptr()) } != 0)
    };
    // Only the kernel knows: an IPv6 address is listed before it can be used.
    let bears =
        |ip: IpAddr| !UdpSocket::bind((ip, 0)).is_err_and(|e| e.kind() == io::ErrorKind::AddrNotAvailable);
    missing_of(config, has, bears)
}

/// Waits for what the network brings up late at boot: a node that ended would be started again and again.
pub fn wait_for(config: &Config) {
    let mut told: Option<Instant> = None;
    loop {
        let missing = missing(config);
        if missing.is_empty() {
            return;
        }
        if told.is_none_or(|at| at.elapsed() >= AGAIN) {
            told = Some(Instant::now());
            missing.iter().for_each(|what| tracing::warn!("waiting: {what}"));
        }
        std::thread::sleep(LATE);
    }
}

fn missing_of(config: &Config, has: impl Fn(&str) -> bool, bears: impl Fn(IpAddr) -> bool) -> Vec<String> {
    let mut list = Vec::new();
    let vip = config.vip.as_ref().filter(|_| config.role == Role::Appliance);
    if let Some(vip) = vip.filter(|vip| !has(&vip.interface)) {
        list.push(format!(
            "this machine has no interface {:?} (vip.interface); see ip link, unless the file is for another machine",
            vip.interface
        ));
    }
    let own = config.myself().addr.ip();
    if config.is_cluster() && !bears(own) {
        list.push(format!(
            "this machine does not have {own}, the address of node {}; see ip address, unless the file is for another machine",
            config.id
        ));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_process_is_read_whatever_its_name() {
        assert_eq!(state_of("7 (relevo) T 1 7"), Some('T'));
        assert_eq!(state_of("7 (a) b) S) S 1 7"), Some('S'));
        assert_eq!(state_of(""), None);
    }

    #[test]
    fn something_is_told_once_when_it_stays_and_once_when_it_is_over() {
        let mut steady = Steady::default();
        let told: Vec<_> =
            [true, false, true, true, true, false, false, true].map(|is_so| steady.look(is_so)).into();
        assert_eq!(told, [None, None, None, Some(true), None, Some(false), None, None]);
    }

    #[test]
    fn a_check_names_the_interface_and_the_address_that_this_machine_does_not_have() {
        let text = "[node]\nid = 1\n[cluster]\nname = \"a\"\nkey = \"".to_owned()
            + &"ab".repeat(32)
            + "\"\n[[cluster.node]]\nid = 1\nrole = \"appliance\"\naddr = \"192.0.2.11:7400\"\n[[cluster.node]]\nid = 2\n\
               role = \"appliance\"\naddr = \"192.0.2.12:7400\"\n[[cluster.node]]\nid = 3\nrole = \"witness\"\n\
               addr = \"192.0.2.13:7400\"\n[vip]\ninterface = \"eth7\"\naddresses = [\"192.0.2.100/24\"]\n";
        let config = Config::parse(Path::new("a.toml"), &text).expect("right");
        let own = config.myself().addr.ip();
        let said = missing_of(&config, |_| false, |_| false).join("\n");
        assert!(said.contains("\"eth7\"") && said.contains("192.0.2.11"), "{said}");
        assert!(missing_of(&config, |name| name == "eth7", |ip| ip == own).is_empty());
    }

    #[test]
    fn a_folder_that_is_removed_is_told_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = dir.path().join("data");
        std::fs::create_dir(&folder).expect("made");
        let (tx, rx) = sync_channel(1);
        let _watch =
            watch(None, vec![folder.clone()], move |why| tx.send(why).expect("heard")).expect("started");
        std::fs::remove_dir(&folder).expect("removed");
        let why = rx.recv_timeout(Duration::from_secs(10)).expect("noticed");
        assert!(why.contains(&folder.display().to_string()), "{why}");
    }
}
