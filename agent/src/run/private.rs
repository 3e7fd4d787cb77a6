//! What a node keeps is nobody else's business: who registered from where, who calls whom, hashes of passwords, the key.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::sys::stat::{Mode, umask};

use super::setup::SetupError;

/// Mode of the data folder: its owner alone.
const OWNER_ALONE: u32 = 0o700;
/// Of a folder in which everybody may make files.
const STICKY: u32 = 0o1000;
/// What the group and others may.
const FOR_OTHERS: u32 = 0o077;

/// Files that this process makes from here on are its owner's alone, where nothing else is said of them.
pub fn from_now_on() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
}

/// Makes the data folder, for its owner alone. One that was there, and that others can read, is made so, too, if it is empty
/// and no public one (sticky). Of a folder with other things in it (somebody's home) nobody must be shut out.
///
/// # Errors
/// It cannot be made.
pub fn folder(data: &Path) -> Result<(), SetupError> {
    let failed = |why| SetupError::Data { path: data.to_path_buf(), why };
    DirBuilder::new().recursive(true).mode(OWNER_ALONE).create(data).map_err(failed)?;
    let meta = fs::metadata(data).map_err(failed)?;
    let mode = meta.mode() & 0o777;
    if mode & FOR_OTHERS == 0 {
        return Ok(());
    }
    let path = data.display();
    let is_empty = fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_none());
    if meta.mode() & STICKY != 0 || !is_empty {
        tracing::warn!(
            "the data folder {path} can be read by others (mode {mode:o}); if it is this node's alone, `chmod 700 {path}`, else \
             give it a folder of its own (node.data, --data)"
        );
        return Ok(());
    }
    match fs::set_permissions(data, Permissions::from_mode(mode & OWNER_ALONE)) {
        Ok(()) => tracing::warn!(
            "the data folder {path} could be read by others (mode {mode:o}); from now on its owner alone can"
        ),
        // Of another owner: it may be meant so. What is made in it is private all the same.
        Err(e) => tracing::warn!(
            "the data folder {path} can be read by others (mode {mode:o}, owner {}), and that cannot be changed: {e}; \
             see to it with `chmod 700 {path}`",
            meta.uid()
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
