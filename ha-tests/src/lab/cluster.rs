//! Bringing a lab up, giving power to a node, taking the lab down.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::config::{self, Options};
use super::proc::Proc;
use super::state::{self, LabState, VERSION};
use super::{disk, net, ns, status};

/// Bound for a killed process to be gone.
const DEATH_LIMIT: Duration = Duration::from_secs(5);
/// Longest path of a unix socket, bytes (`sun_path` less its NUL).
const SOCKET_PATH_MAX: usize = 107;

/// Starts a lab: namespaces, wires, disks, nodes; returns when one node is active and all have caught up.
///
/// # Errors
/// What is missing or does not come up; whatever had been started is gone again then.
pub fn up(options: &Options) -> io::Result<LabState> {
    check(options)?;
    sweep();
    let relevo = find_relevo(options.relevo.as_deref())?;
    let (dir, link, keep_dir) = match &options.dir {
        None => (state::fresh_dir()?, None, false),
        Some(dir) => {
            let existed = dir.exists();
            fs::create_dir_all(dir)?;
            if fs::read_dir(dir)?.next().is_some() {
                return Err(io::Error::other(format!(
                    "{} is not empty; a lab needs a folder of its own (is one running there? relevo-lab down)",
                    dir.display()
                )));
            }
            let dir = fs::canonicalize(dir)?;
            (dir.clone(), Some(state::remember(&dir)?), existed)
        }
    };
    let nodes = config::plan_nodes(&dir, options);
    if let Some(node) = nodes.iter().find(|n| n.admin.as_os_str().len() > SOCKET_PATH_MAX) {
        let text = format!("{} is too long for a unix socket; choose a shorter --dir", node.admin.display());
        return Err(io::Error::other(text));
    }
    let switch = ns::hold_new(options.ephemeral)?;
    let client = ns::hold_new(options.ephemeral).inspect_err(|_| {
        switch.kill_and_wait(DEATH_LIMIT);
    })?;
    let mut lab = LabState {
        version: VERSION,
        dir,
        link,
        keep_dir,
        rootless: options.rootless,
        ephemeral: options.ephemeral,
        relevo,
        switch,
        client,
        sip_port: config::SIP_PORT,
        nodes,
    };
    match bring_up(&mut lab, options) {
        Ok(()) => Ok(lab),
        Err(e) => {
            let logs = last_words(&lab);
            down(&lab);
            Err(io::Error::new(e.kind(), format!("{e}{logs}")))
        }
    }
}

/// Removes what a demo that was killed could not: its processes died with it, its folder did not.
fn sweep() {
    for lab in state::known().iter().filter_map(|dir| LabState::load(dir).ok()) {
        if lab.ephemeral && !lab.switch.alive() && !lab.client.alive() {
            down(&lab);
        }
    }
}

fn bring_up(lab: &mut LabState, options: &Options) -> io::Result<()> {
    lab.save()?;
    net::make_switch(lab.switch)?;
    net::plug(lab.switch, lab.client, net::CLIENT_PORT, net::CLIENT_HOST)?;
    let key: String = rand::random::<[u8; 32]>().iter().map(|b| format!("{b:02x}")).collect();
    for node in &lab.nodes {
        fs::create_dir_all(node.config.parent().unwrap_or(&lab.dir))?;
        disk::make(&node.disk, options.disk_bytes, lab.rootless)?;
        fs::create_dir_all(&node.data)?;
        fs::write(&node.config, config::node_toml(node, &lab.nodes, &key, options))?;
    }
    for index in 0..lab.nodes.len() {
        power_on(lab, index)?;
    }
    let within = Duration::from_secs(options.timeout_s);
    status::wait_first_ready(lab, within)?;
    lab.save()
}

fn check(options: &Options) -> io::Result<()> {
    if !(1..=7).contains(&options.appliances) {
        return Err(io::Error::other("a lab has 1 to 7 appliances"));
    }
    for (tool, package) in [("ip", "iproute2"), ("nft", "nftables"), ("mount", "mount")] {
        if in_path(tool).is_none() {
            return Err(io::Error::other(format!("{tool} is not installed; apt-get install {package}")));
        }
    }
    Ok(())
}

/// A program in PATH or in the folders of system tools, which a user's PATH may lack.
#[must_use]
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn find_relevo(given: Option<&Path>) -> io::Result<PathBuf> {
    if let Some(path) = given {
        return fs::canonicalize(path)
            .map_err(|e| io::Error::other(format!("--relevo {}: {e}", path.display())));
    }
    let beside = std::env::current_exe()?.with_file_name("relevo");
    if beside.is_file() {
        return Ok(beside);
    }
    in_path("relevo").ok_or_else(|| {
        io::Error::other(format!(
            "no relevo program at {} nor in PATH; build it with `cargo build -p agent`, or name it with --relevo",
            beside.display()
        ))
    })
}

/// Gives a node power: a namespace and a wire if it has none, then its guard. Returns whether it was off.
///
/// # Errors
/// The namespace, the wire or the program cannot be started.
pub fn power_on(lab: &mut LabState, index: usize) -> io::Result<bool> {
    let ephemeral = lab.ephemeral;
    let switch = lab.switch;
    let node = &mut lab.nodes[index];
    if node.guard.is_some_and(|g| g.alive()) {
        return Ok(false);
    }
    let holder = match node.holder.filter(Proc::alive) {
        Some(holder) => holder,
        None => {
            let holder = ns::hold_new(ephemeral)?;
            node.holder = Some(holder);
            net::unplug(switch, &net::port_of(node.id));
            net::plug(switch, holder, &net::port_of(node.id), node.host)?;
            if node.service_wire {
                net::plug_service(switch, holder, node.id)?;
            }
            holder
        }
    };
    let log = OpenOptions::new().create(true).append(true).open(&node.log)?;
    let mut command = ns::command_in(holder, &lab.relevo, ephemeral)?;
    command
        .arg("run")
        .arg("--config")
        .arg(&node.config)
        .current_dir(node.config.parent().unwrap_or(&lab.dir))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    node.guard = Some(ns::started(super::proc::spawn(command)?)?);
    lab.save()?;
    Ok(true)
}

/// Ends every process of the lab, its mounts and its folder. Nothing of another lab is touched.
pub fn down(lab: &LabState) {
    for node in &lab.nodes {
        let agent = node.agent();
        // The guard first: it must not start another agent. SIGCONT lets a stopped one die of the kill.
        for process in node.guard.into_iter().chain(agent) {
            process.signal(Signal::SIGKILL);
        }
    }
    for node in &lab.nodes {
        for holder in node.holder.into_iter().chain(node.guard) {
            kill_namespace(holder);
        }
    }
    kill_namespace(lab.client);
    for node in &lab.nodes {
        disk::unmake(&node.disk);
    }
    // Last: without root its mount namespace holds the disks.
    kill_namespace(lab.switch);
    remove_folder(lab);
}

fn remove_folder(lab: &LabState) {
    if lab.keep_dir {
        for entry in fs::read_dir(&lab.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    } else {
        let _ = fs::remove_dir_all(&lab.dir);
    }
    if let Some(link) = &lab.link {
        let _ = fs::remove_file(link);
    }
    // Only goes when no other lab is in it.
    let _ = fs::remove_dir(state::registry());
}

/// Kills a holder and whatever still runs in its network namespace (commands of `exec`, phones).
fn kill_namespace(holder: Proc) {
    for process in ns::members(holder) {
        process.signal(Signal::SIGKILL);
    }
    holder.kill_and_wait(DEATH_LIMIT);
}

/// The end of what each node printed, for the message when a lab does not come up.
fn last_words(lab: &LabState) -> String {
    /// Lines of each node's log to show.
    const LINES: usize = 12;
    let mut text = String::new();
    for node in &lab.nodes {
        let log = fs::read(&node.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        text += &format!("\n  last lines of node {}:", node.id);
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            text += &format!("\n    {line}");
        }
    }
    text
}

/// Takes the lab down when dropped: at the end, on an error, and when a panic unwinds.
#[derive(Debug)]
pub struct DownGuard {
    /// The lab.
    pub lab: LabState,
}

impl DownGuard {
    /// Takes responsibility for a lab.
    #[must_use]
    pub fn new(lab: LabState) -> DownGuard {
        DownGuard { lab }
    }
}

impl Drop for DownGuard {
    fn drop(&mut self) {
        // Faults change the recorded processes; the file knows the newest.
        let newest = LabState::load(&self.lab.dir).unwrap_or_else(|_| self.lab.clone());
        down(&newest);
    }
}
