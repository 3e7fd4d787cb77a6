//! The small disk of a node, so that "disk full" can be made true for one node and no other.
//!
//! As root an ext4 image on a loop device: fsync costs what it costs. Without root (or without loop devices) a
//! tmpfs, where it costs nothing; the rest is the same.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::proc::run_ok;

/// Size of a node's disk where nothing else is asked for, bytes.
pub const DISK_BYTES: u64 = 256 << 20;
/// The file that fills it.
const FILLER: &str = "filler";

/// Makes and mounts a disk of `bytes` at `mount_point`; the data folder is created on it.
///
/// # Errors
/// Neither a loop device nor a tmpfs may be mounted.
pub fn make(mount_point: &Path, bytes: u64, rootless: bool) -> io::Result<()> {
    fs::create_dir_all(mount_point)?;
    if rootless || loop_mount(mount_point, bytes).is_err() {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0755"), "relevo-lab"]);
        run_ok(
            {
                command.arg(mount_point);
                command
            },
            "",
        )?;
    }
    Ok(())
}

fn loop_mount(mount_point: &Path, bytes: u64) -> io::Result<()> {
    let image = image_of(mount_point);
    File::create(&image)?.set_len(bytes)?;
    let mut mkfs = Command::new("mkfs.ext4");
    // No reserved blocks: full shall be full for root, too.
    mkfs.args(["-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"]).arg(&image);
    run_ok(mkfs, "")?;
    let mut mount = Command::new("mount");
    mount.args(["-o", "loop"]).arg(&image).arg(mount_point);
    run_ok(mount, "").map(drop)
}

fn image_of(mount_point: &Path) -> PathBuf {
    mount_point.with_extension("img")
}

/// Bytes that were written to the device below `path` so far, as the kernel counts them; `None` for a tmpfs.
#[must_use]
pub fn written(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    // The seventh figure: sectors of 512 bytes, whatever those of the device are.
    stat.split_whitespace().nth(6)?.parse::<u64>().ok().map(|sectors| sectors * 512)
}

/// Unmounts the disk; the loop device frees itself.
pub fn unmake(mount_point: &Path) {
    // A process that is just dying can keep it busy for a moment; a lazy unmount ends with its last user.
    let tries = [&["--"][..], &["-l", "--"][..]];
    for options in tries {
        let mut command = Command::new("umount");
        command.args(options).arg(mount_point);
        if run_ok(command, "").is_ok() {
            break;
        }
    }
    let _ = fs::remove_file(image_of(mount_point));
}

/// Writes until not one byte fits any more. Room that was made since the last time is taken, too.
///
/// # Errors
/// The disk cannot be written for another reason than being full.
pub fn fill(mount_point: &Path) -> io::Result<()> {
    let mut filler = File::options().create(true).append(true).open(mount_point.join(FILLER))?;
    let mut chunk: &[u8] = &[0u8; 1 << 20];
    loop {
        match filler.write(chunk) {
            Ok(n) if n > 0 => {}
            Err(e) if e.kind() != io::ErrorKind::StorageFull => return Err(e),
            // The last bytes need smaller writes: a file system may refuse a large one and take a small one.
            _ if chunk.len() > 1 => chunk = &chunk[..chunk.len() / 2],
            _ => break,
        }
    }
    // Also what is only reserved must become real, otherwise somebody else's write could still succeed.
    match filler.sync_all() {
        Err(e) if e.kind() != io::ErrorKind::StorageFull => Err(e),
        _ => Ok(()),
    }
}

/// Gives the space back.
pub fn unfill(mount_point: &Path) {
    let _ = fs::remove_file(mount_point.join(FILLER));
}
