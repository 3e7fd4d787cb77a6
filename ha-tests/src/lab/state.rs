//! What is known about a running lab: `lab.json` in its folder, and where labs are found.
//!
//! Every command reads it, does its one thing under the folder's lock, and writes it back whole (new file, rename),
//! so that a killed command leaves either the old or the new state.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::proc::Proc;

/// Layout version of `lab.json`.
pub const VERSION: u32 = 1;

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Votes and may own the floating IP.
    Appliance,
    /// Votes, never owns.
    Witness,
}

impl Role {
    /// The word in the configuration file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Appliance => "appliance",
            Role::Witness => "witness",
        }
    }
}

/// One node of the lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Node {
    /// Node id, from 1.
    pub id: u64,
    /// What it is for.
    pub role: Role,
    /// Address of its Raft port, `10.77.0.11:7400`.
    pub addr: String,
    /// Last byte of its MAC and IPv4 address.
    pub host: u8,
    /// The floating IP is on a wire of its own.
    #[serde(default)]
    pub service_wire: bool,
    /// Holder of its namespace; `None` while the node is without power.
    pub holder: Option<Proc>,
    /// The guard process (`relevo run`), parent of the agent.
    pub guard: Option<Proc>,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its admin socket.
    pub admin: PathBuf,
    /// The small file system that holds its data.
    pub disk: PathBuf,
    /// Its data folder, on `disk`.
    pub data: PathBuf,
    /// What it printed.
    pub log: PathBuf,
}

impl Node {
    /// The agent: the child of the guard that runs the same program (the guard may also run a tool for a moment).
    #[must_use]
    pub fn agent(&self) -> Option<Proc> {
        let guard = self.guard.filter(Proc::alive)?;
        let program = |p: &Proc| fs::read_link(format!("/proc/{}/exe", p.pid)).ok();
        let wanted = program(&guard)?;
        guard.children().into_iter().find(|child| program(child).as_ref() == Some(&wanted))
    }
}

/// A lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LabState {
    /// [`VERSION`].
    pub version: u32,
    /// The lab's folder.
    pub dir: PathBuf,
    /// Where `down` finds it without `--dir`; `None` if it is the folder itself.
    pub link: Option<PathBuf>,
    /// True if the folder was there before and shall stay.
    pub keep_dir: bool,
    /// True if a user namespace holds everything.
    pub rootless: bool,
    /// True if everything dies with the process that made the lab.
    pub ephemeral: bool,
    /// The `relevo` program.
    pub relevo: PathBuf,
    /// Holder of the namespace with the bridge.
    pub switch: Proc,
    /// Holder of the client namespace.
    pub client: Proc,
    /// SIP port of the floating IP.
    pub sip_port: u16,
    /// The nodes, in id order.
    pub nodes: Vec<Node>,
}

impl LabState {
    /// Reads the lab of a folder.
    ///
    /// # Errors
    /// No lab there, or one of another version.
    pub fn load(dir: &Path) -> io::Result<LabState> {
        let file = dir.join("lab.json");
        let text = fs::read_to_string(&file).map_err(|e| {
            io::Error::other(format!("no lab in {} ({e}); start one with: relevo-lab up", dir.display()))
        })?;
        let state: LabState = serde_json::from_str(&text)
            .map_err(|e| io::Error::other(format!("{} is not a lab's state: {e}", file.display())))?;
        if state.version != VERSION {
            return Err(io::Error::other(format!(
                "{} was written by another version of relevo-lab",
                file.display()
            )));
        }
        Ok(state)
    }

    /// Writes the state (new file, then rename).
    ///
    /// # Errors
    /// The folder is gone or full.
    pub fn save(&self) -> io::Result<()> {
        let new = self.dir.join("lab.json.new");
        fs::write(&new, serde_json::to_string_pretty(self)?)?;
        fs::rename(new, self.dir.join("lab.json"))
    }

    /// The node called `name` (its number, with or without an `n` before it).
    ///
    /// # Errors
    /// There is no such node; the text names those that exist.
    pub fn index_of(&self, name: &str) -> io::Result<usize> {
        let id = name.strip_prefix('n').unwrap_or(name).parse::<u64>().ok();
        self.nodes.iter().position(|n| Some(n.id) == id).ok_or_else(|| {
            let known: Vec<String> = self.nodes.iter().map(|n| n.id.to_string()).collect();
            io::Error::other(format!("no node {name} in this lab; its nodes are {}", known.join(", ")))
        })
    }

    /// The lock that one changing command holds at a time; free again when dropped.
    ///
    /// # Errors
    /// The folder is gone.
    pub fn lock(dir: &Path) -> io::Result<Flock<File>> {
        let file = File::create(dir.join("lock"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e.into())
    }
}

/// Folder that remembers this user's labs.
#[must_use]
pub fn registry() -> PathBuf {
    // The owner of the folder, not the effective user: inside a user namespace everybody is 0.
    std::env::temp_dir().join(format!("relevo-labs-{}", outer_uid()))
}

/// The user id outside of our user namespace.
fn outer_uid() -> u32 {
    let own = nix::unistd::geteuid().as_raw();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    for line in map.lines() {
        let fields: Vec<u32> = line.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        if let [inside, outside, count] = fields[..]
            && own.checked_sub(inside).is_some_and(|d| d < count)
        {
            return outside + (own - inside);
        }
    }
    own
}

/// A fresh folder for a lab.
///
/// # Errors
/// The temporary folder is not writable.
pub fn fresh_dir() -> io::Result<PathBuf> {
    let registry = registry();
    fs::create_dir_all(&registry)?;
    let made = tempfile::Builder::new().prefix("lab-").rand_bytes(6).tempdir_in(&registry)?;
    Ok(made.keep())
}

/// Remembers a lab whose folder the user chose; returns the link that `down` removes.
///
/// # Errors
/// The temporary folder is not writable.
pub fn remember(dir: &Path) -> io::Result<PathBuf> {
    let registry = registry();
    fs::create_dir_all(&registry)?;
    let link = registry.join(format!("at-{}", std::process::id()));
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(dir, &link)?;
    Ok(link)
}

/// The folders of all labs that this user has.
#[must_use]
pub fn known() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(registry()) else { return Vec::new() };
    let mut dirs: Vec<PathBuf> = entries
        .flatten()
        .filter_map(|e| fs::canonicalize(e.path()).ok())
        .filter(|d| d.join("lab.json").exists())
        .collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

/// The folder of the lab that is meant: the given one, `RELEVO_LAB_DIR`, or the only one there is.
///
/// # Errors
/// None or several; the text lists them.
pub fn find(dir: Option<PathBuf>) -> io::Result<PathBuf> {
    if let Some(dir) = dir.or_else(|| std::env::var_os("RELEVO_LAB_DIR").map(PathBuf::from)) {
        return Ok(fs::canonicalize(&dir).unwrap_or(dir));
    }
    let mut labs = known();
    if labs.len() > 1 {
        // Leftovers of a killed demo are not what is meant while another lab is alive.
        labs.retain(|dir| LabState::load(dir).is_ok_and(|lab| lab.switch.alive()));
    }
    match labs.len() {
        0 => Err(io::Error::other("no lab is running; start one with: relevo-lab up")),
        1 => Ok(labs.remove(0)),
        _ => {
            let list: Vec<String> = labs.iter().map(|d| d.display().to_string()).collect();
            Err(io::Error::other(format!(
                "several labs are running; choose one with --dir: {}",
                list.join(", ")
            )))
        }
    }
}
