//! Mounts of their own, and a process that writes both stores and says what was acknowledged, for the crash tests.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raft_store::disk::RealDisk;
use raft_store::log::{Identity, Limits, LogWriter, Mode, SegmentLog};
use raft_store::snap::{SledSnaps, SnapStore};

/// Names the folder to the writing process; without it the test that is the writer does nothing.
pub const FOLDER: &str = "RELEVO_TEST_CRASH_BOTH";
/// Entries between two snapshots.
const PER_SNAPSHOT: u64 = 16;
/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(20);

/// Small segments, so that a round goes through several.
fn limits() -> Limits {
    Limits { segment_bytes: 64 << 10, ..Limits::default() }
}

pub fn payload(index: u64) -> Vec<u8> {
    let len = 100 + (index * 37 % 900) as usize;
    (0..len).map(|n| (index as u8).wrapping_mul(31).wrapping_add(n as u8)).collect()
}

/// The data of snapshot `index`: larger than one value of the store.
pub fn state(index: u64) -> Vec<u8> {
    (0..300_000u64).map(|n| (n % 251) as u8 ^ index as u8).collect()
}

/// Both stores in one folder, as a node has them.
pub struct Stores {
    pub writer: LogWriter,
    pub snaps: SledSnaps,
    next: u64,
}

/// What the stores have said is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Number of entries.
    pub entries: u64,
    /// The vote: the number of entries when it was given.
    pub vote: u64,
    /// The newest snapshot.
    pub snapshot: Option<u64>,
}

impl Stores {
    /// Opens both in `folder` and checks every entry.
    pub fn open(folder: &Path) -> Self {
        let disk = Arc::new(RealDisk::new(folder.join("log")).expect("the log's folder"));
        let (log, _) = SegmentLog::open(disk, Identity::new("lab", 1), limits()).expect("the log opens");
        let all = log.entries();
        for (got, index) in
            log.read(all.clone(), false).expect("entries are readable").iter().zip(all.clone())
        {
            assert_eq!(got[..], payload(index)[..], "entry {index}");
        }
        let writer = LogWriter::new(log, Mode::Thread).expect("the writer starts");
        Self {
            writer,
            snaps: SledSnaps::open(folder.join("snap")).expect("the snapshots open"),
            next: all.end,
        }
    }

    /// Panics unless everything that was acknowledged is there; a snapshot that is there must be whole.
    pub fn check(&mut self, acked: Acknowledged) {
        let (entries, vote) = self.writer.with(|log| {
            let vote = log.vote().map(|v| u64::from_le_bytes(v.try_into().expect("eight bytes")));
            (log.entries().end, vote)
        });
        assert!(entries >= acked.entries, "{entries} entries of {acked:?}");
        assert!(vote.unwrap_or(0) >= acked.vote, "vote {vote:?} of {acked:?}");
        let snapshot = self.snaps.latest().expect("the snapshots are readable").map(|(meta, data)| {
            let index = u64::from_le_bytes(meta.try_into().expect("eight bytes"));
            assert!(data == state(index), "snapshot {index} has other contents");
            index
        });
        assert!(snapshot >= acked.snapshot, "snapshot {snapshot:?} of {acked:?}");
    }

    /// Writes one entry, now and then a vote and a snapshot; each is told to `tell` once it is durable.
    pub fn step(&mut self, mut tell: impl FnMut(&str, u64)) -> std::io::Result<()> {
        let index = self.next;
        let durably = |write: &dyn Fn(&mut SegmentLog) -> std::io::Result<()>| {
            let (tx, rx) = mpsc::channel();
            self.writer.write(|log| write(log), Box::new(move |r| drop(tx.send(r))));
            rx.recv().expect("every write is answered")
        };
        durably(&|log| log.append(index, &[payload(index)]))?;
        self.next += 1;
        tell("entries", index + 1);
        if index.is_multiple_of(4) {
            durably(&|log| log.save_vote(&(index + 1).to_le_bytes()))?;
            tell("vote", index + 1);
        }
        if index.is_multiple_of(PER_SNAPSHOT) {
            self.snaps.write(&index.to_le_bytes(), &state(index))?;
            tell("snapshot", index);
        }
        Ok(())
    }
}

impl Acknowledged {
    pub fn note(&mut self, what: &str, index: u64) {
        match what {
            "entries" => self.entries = index,
            "vote" => self.vote = index,
            "snapshot" => self.snapshot = Some(index),
            _ => {}
        }
    }
}

/// A process that writes both stores until it is ended.
pub struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStderr>>,
    pub acked: Acknowledged,
}

impl Writer {
    pub fn start(folder: &Path, acked: Acknowledged) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child_that_writes_both_stores_until_it_is_ended", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stderr.take().expect("its stderr")).lines();
        Self { child, lines, acked }
    }

    fn note(&mut self, line: &str) -> bool {
        let told = line.strip_prefix("durable ").and_then(|l| l.split_once(' '));
        let Some((what, Ok(index))) = told.map(|(what, n)| (what, n.parse::<u64>())) else { return false };
        self.acked.note(what, index);
        true
    }

    /// Reads until `count` more acknowledgements have come.
    pub fn wait_for(&mut self, count: u32) {
        let mut seen = 0;
        while seen < count {
            let line = self.lines.next().expect("the child writes on").expect("its stderr is text");
            seen += u32::from(self.note(&line));
        }
    }

    /// Stops all its threads, so that nothing it does reaches the disk any more.
    pub fn stop(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, Signal::SIGSTOP).expect("stops");
        let end = Instant::now() + PATIENCE;
        let stopped = |task: &Path| {
            let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        while !fs::read_dir(format!("/proc/{pid}/task")).expect("tasks").flatten().all(|t| stopped(&t.path()))
        {
            assert!(Instant::now() < end, "the child does not stop");
            std::thread::yield_now();
        }
    }

    /// Ends it by SIGKILL and returns all that it had said, also what nobody had read yet.
    pub fn kill(mut self) -> Acknowledged {
        self.child.kill().expect("kill");
        while let Some(Ok(line)) = self.lines.next() {
            self.note(&line);
        }
        self.child.wait().expect("wait");
        self.acked
    }
}

/// A mounted file system; unmounted when dropped.
pub struct Mount(pub PathBuf);

impl Mount {
    /// Runs `mount ARGS FOLDER`. `None`, with the reason printed, where that is not possible (no root, no loop devices).
    pub fn new(folder: &Path, args: &[&str]) -> Option<Self> {
        fs::create_dir_all(folder).expect("a folder");
        run("mount", args, folder).then(|| Self(folder.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: after a failed assertion the stores in it may still be open.
        run("umount", &["-l"], &self.0);
    }
}

/// Runs a system program with `last` as its last argument; prints why it could not.
pub fn run(program: &str, args: &[&str], last: &Path) -> bool {
    match Command::new(program).args(args).arg(last).output() {
        Ok(out) if out.status.success() => true,
        Ok(out) => {
            eprintln!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim());
            false
        }
        Err(e) => {
            eprintln!("{program}: {e}");
            false
        }
    }
}

/// An ext4 file system in the file `image`, mounted at `folder`.
pub fn ext4(image: &Path, bytes: u64, folder: &Path) -> Option<Mount> {
    fs::File::create(image).and_then(|f| f.set_len(bytes)).expect("an image file");
    let made = run("mkfs.ext4", &["-q", "-F", "-m", "0"], image);
    let image = image.to_str().expect("a path in UTF-8");
    made.then(|| Mount::new(folder, &["-o", "loop", image])).flatten()
}
