//! What a node keeps is nobody else's business: who registered from where, who calls whom, hashes of passwords, the key.
//!
//! | found at the start | then |
//! |---|---|
//! | no data folder | made, for its owner alone |
//! | one that others can read, with nothing in it that is not this node's | made its owner's alone, with a line at WARN |
//! | one that others can read, with other things in it (a home), or where everybody may make files | it stays: nobody must be shut out |
//! | something of this node in it that others can read | made its owner's alone, with a line at WARN |
//! | the same of another user, a link, a file with a second name | it stays; whose it is, is not this node's to say |
//!
//! What stays open is named by `relevo run` and `relevo config check`: see [`exposed`].

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::sys::stat::{Mode, umask};

use super::process::STORE;
use super::room::RESERVE;
use super::setup::{KEY_COPY, KEY_FILE, SetupError};
use crate::config::{ADMIN_SOCKET, Config};
use crate::net::poison;

/// Mode of the data folder: its owner alone.
const OWNER_ALONE: u32 = 0o700;
/// Of a folder in which everybody may make files.
const STICKY: u32 = 0o1000;
/// What the group and others may.
const FOR_OTHERS: u32 = 0o077;
/// What everybody may read, or others than the owner may change: more than a configuration with secrets should let them.
const NOT_FOR_SECRETS: u32 = 0o026;
/// What a node makes in its data folder. Records of calls may be there, too: they are for a group (`accounting`).
const OWN: [&str; 7] = [STORE, KEY_FILE, KEY_COPY, KEY_HALF, ADMIN_SOCKET, RESERVE, poison::FOLDER];
/// A copy of the key that is being written.
const KEY_HALF: &str = "key.new";
/// Folders within folders that are looked through.
const MAX_DEPTH: usize = 8;
/// Entries that are looked at in all: a store has some hundred.
const MAX_ENTRIES: usize = 100_000;

/// Files that this process makes from here on are its owner's alone, where nothing else is said of them.
pub fn from_now_on() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
}

/// Makes the data folder, for its owner alone, and what is in it of this node, too. See the table of this module.
///
/// # Errors
/// It cannot be made.
pub fn folder(data: &Path) -> Result<(), SetupError> {
    let failed = |why| SetupError::Data { path: data.to_path_buf(), why };
    DirBuilder::new().recursive(true).mode(OWNER_ALONE).create(data).map_err(failed)?;
    let meta = fs::metadata(data).map_err(failed)?;
    if meta.mode() & STICKY != 0 {
        return Ok(());
    }
    let mode = meta.mode() & 0o777;
    let path = data.display();
    if mode & FOR_OTHERS != 0 && is_ours_alone(data) {
        match fs::set_permissions(data, Permissions::from_mode(mode & OWNER_ALONE)) {
            Ok(()) => tracing::warn!(
                "the data folder {path} could be read by others (mode {mode:o}); from now on its owner alone can"
            ),
            // Of another owner: it may be meant so. What is made in it is private all the same.
            Err(e) => {
                tracing::warn!(
                    "the data folder {path} cannot be made its owner's alone (uid {}): {e}",
                    meta.uid()
                );
            }
        }
    }
    let mut walk = Walk::default();
    for name in OWN {
        walk.tighten(&data.join(name), 0);
    }
    if walk.tightened > 0 {
        tracing::warn!(
            "{} of the files and folders of this node in {path} could be read by others; from now on their owner alone can",
            walk.tightened
        );
    }
    Ok(())
}

/// Whether nothing in the data folder belongs to somebody else.
fn is_ours_alone(data: &Path) -> bool {
    let is_own = |name: &OsStr| OWN.iter().any(|own| name == *own);
    fs::read_dir(data).is_ok_and(|entries| entries.flatten().all(|entry| is_own(&entry.file_name())))
}

/// What others than its owner can read or change although it holds secrets, with the cure: the configuration, the data
/// folder.
#[must_use]
pub fn exposed(config: &Config) -> Vec<String> {
    let mut list = Vec::new();
    let mode_of = |path: &Path| fs::metadata(path).ok().map(|meta| meta.mode() & 0o777);
    if let Some(file) = &config.file
        && config.has_secrets()
        && let Some(mode) = mode_of(file).filter(|mode| mode & NOT_FOR_SECRETS != 0)
    {
        let path = file.display();
        list.push(format!(
            "the configuration {path} holds secrets and can be read or changed by others (mode {mode:o}): chmod 600 {path}"
        ));
    }
    if let Some(mode) = mode_of(&config.data).filter(|mode| mode & FOR_OTHERS != 0) {
        let path = config.data.display();
        list.push(format!(
            "the data folder {path} can be read by others (mode {mode:o}); if it is this node's alone, chmod 700 {path}, \
             else give it a folder of its own (node.data, --data)"
        ));
    }
    list
}

/// Makes things their owner's alone.
#[derive(Debug, Default)]
struct Walk {
    seen: usize,
    tightened: usize,
}

impl Walk {
    /// What is not there, or is not ours, is left as it is.
    fn tighten(&mut self, path: &Path, depth: usize) {
        self.seen += 1;
        if self.seen > MAX_ENTRIES || depth > MAX_DEPTH {
            return;
        }
        // Sockets are made with their mode; a link leads to what may be anybody's.
        let Ok(meta) = fs::symlink_metadata(path) else { return };
        if !(meta.is_file() || meta.is_dir()) {
            return;
        }
        match tighten(path) {
            Ok(true) => self.tightened += 1,
            Ok(false) => {}
            Err(e) => tracing::warn!("{} may be open to others: {e}", path.display()),
        }
        if meta.is_dir() {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.tighten(&entry.path(), depth + 1);
            }
        }
    }
}

/// Whether it had to be done. By a descriptor, so that what is changed is what was looked at.
fn tighten(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    let mode = meta.mode() & 0o777;
    let is_ours = meta.uid() == nix::unistd::geteuid().as_raw() && (meta.is_dir() || meta.nlink() == 1);
    if mode & FOR_OTHERS == 0 || !is_ours {
        return Ok(false);
    }
    file.set_permissions(Permissions::from_mode(mode & OWNER_ALONE))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("there").mode() & 0o777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
    }

    /// What an earlier release under umask 022 has left.
    fn left_open(data: &Path) -> Vec<std::path::PathBuf> {
        let log = data.join("raft/store/log");
        fs::create_dir_all(&log).expect("made");
        let files = [log.join("seg-0"), data.join("raft/store/id"), data.join("key"), data.join("reserve")];
        for file in &files {
            fs::write(file, "secret").expect("written");
            set(file, 0o644);
        }
        for folder in [data.to_path_buf(), data.join("raft"), data.join("raft/store"), log] {
            set(&folder, 0o755);
        }
        files.to_vec()
    }

    #[test]
    fn what_was_left_open_is_its_owners_alone_after_the_next_start() {
        let dir = tempfile::tempdir().expect("tempdir");
        let data = dir.path().join("data");
        let files = left_open(&data);
        folder(&data).expect("usable");
        for path in files.iter().flat_map(|file| file.ancestors()).take_while(|p| *p != dir.path()) {
            assert_eq!(mode_of(path) & FOR_OTHERS, 0, "{}", path.display());
        }
        assert_eq!((mode_of(&data), mode_of(&files[0])), (0o700, 0o600));
    }

    #[test]
    fn in_a_home_the_nodes_own_things_are_closed_and_nobody_is_shut_out() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = dir.path().join("home");
        let files = left_open(&home);
        let letter = home.join("letter");
        fs::write(&letter, "of somebody").expect("written");
        set(&letter, 0o644);
        std::os::unix::fs::symlink(&letter, home.join("key.copy")).expect("linked");
        fs::hard_link(&letter, home.join("raft/second-name")).expect("linked");
        folder(&home).expect("usable");
        assert_eq!((mode_of(&home), mode_of(&letter)), (0o755, 0o644), "nobody else is shut out");
        assert_eq!((mode_of(&home.join("raft")), mode_of(&files[2])), (0o700, 0o600));
    }

    #[test]
    fn a_configuration_with_secrets_and_a_folder_that_others_can_read_are_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (file, data) = (dir.path().join("r.toml"), dir.path().join("data"));
        fs::create_dir(&data).expect("made");
        let node = format!("[node]\ndata = {:?}\n", data.display().to_string());
        let secret = format!("[cluster]\nname = \"c\"\nkey = \"{}\"\n", "ab".repeat(32));
        for (text, file_mode, data_mode, named) in [
            (&node, 0o644, 0o700, [false, false]),
            (&(node.clone() + &secret), 0o644, 0o700, [true, false]),
            (&(node.clone() + &secret), 0o640, 0o700, [false, false]),
            (&(node.clone() + &secret), 0o620, 0o750, [true, true]),
            (&(node.clone() + &secret), 0o600, 0o755, [false, true]),
        ] {
            fs::write(&file, text).expect("written");
            set(&file, file_mode);
            set(&data, data_mode);
            let list = exposed(&Config::load(&file).expect("right"));
            let says = |word: &str| list.iter().any(|line| line.contains(word));
            assert_eq!([says("the configuration"), says("the data folder")], named, "{list:?}");
            assert!(list.iter().all(|line| line.contains("chmod ")), "{list:?}");
        }
    }

    #[test]
    fn a_folder_that_others_could_read_is_made_private_and_one_that_is_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("tempdir");
        for (mode, then) in [(0o755, 0o700), (0o750, 0o700), (0o500, 0o500), (0o700, 0o700)] {
            let data = dir.path().join(format!("{mode:o}"));
            fs::create_dir(&data).expect("made");
            fs::set_permissions(&data, Permissions::from_mode(mode)).expect("set");
            folder(&data).expect("usable");
            assert_eq!(fs::metadata(&data).expect("there").mode() & 0o777, then);
        }
        let public = dir.path().join("public");
        fs::create_dir(&public).expect("made");
        fs::set_permissions(&public, Permissions::from_mode(0o1777)).expect("set");
        let home = dir.path().join("home");
        fs::create_dir(&home).expect("made");
        fs::write(home.join("letter"), "of somebody").expect("written");
        fs::set_permissions(&home, Permissions::from_mode(0o755)).expect("set");
        for (path, mode) in [(&public, 0o1777), (&home, 0o755)] {
            folder(path).expect("usable");
            assert_eq!(fs::metadata(path).expect("there").mode() & 0o7777, mode, "nobody else is shut out");
        }
        let new = dir.path().join("a/b");
        folder(&new).expect("made");
        assert_eq!(fs::metadata(&new).expect("there").mode() & 0o777, OWNER_ALONE);
    }
}
