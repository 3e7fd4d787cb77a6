//! What the disk and the stores cost: one fdatasync, entries per second with group commit, snapshots of 10k and 100k
//! bindings. Prints a table and asserts no times. `RELEVO_BENCH_DIR` names the folder (and so the disk) to measure.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use proxy_core::state::{Binding, Flow, RegisterChange, RegisterCommand, SipCommand, Transport};
use proxy_core::time::WallTime;
use raft_store::codec::{self, Kind};
use raft_store::command::Command;
use raft_store::disk::{Disk, RealDisk};
use raft_store::log::{Identity, Limits, LogWriter, Mode, SegmentLog};
use raft_store::snap::{SledSnaps, SnapStore};
use raft_store::state::ClusterState;

/// Bytes of an entry, about one REGISTER.
const ENTRY_BYTES: usize = 300;
/// Syncs measured.
const SYNCS: u32 = 2000;
/// How long each row of group commit runs.
const RUN: Duration = Duration::from_secs(2);

fn percentile(sorted: &[Duration], p: usize) -> Duration {
    sorted[(sorted.len() * p / 100).min(sorted.len() - 1)]
}

fn syncs(dir: &Path) -> io::Result<()> {
    let disk = RealDisk::new(dir.join("sync"))?;
    let file = disk.create("file")?;
    let mut times = Vec::new();
    for n in 0..SYNCS {
        file.write_at(u64::from(n) * ENTRY_BYTES as u64, &[n as u8; ENTRY_BYTES])?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    println!("one fdatasync behind {ENTRY_BYTES} new bytes   p50 {p50:.1?}   p99 {p99:.1?}   ({SYNCS} made)");
    Ok(())
}

fn group_commit(dir: &Path, writers: u64) -> io::Result<()> {
    let disk = Arc::new(RealDisk::new(dir.join(format!("log{writers}")))?);
    let opened = SegmentLog::open(disk, Identity::new("bench", 1), Limits::default());
    let writer = LogWriter::new(opened.map_err(io::Error::other)?.0, Mode::Thread)?;
    let (tx, rx) = mpsc::channel();
    let payload = vec![7; ENTRY_BYTES];
    let (mut next, mut times) = (0, Vec::new());
    let write = |next: u64| {
        let (tx, asked) = (tx.clone(), Instant::now());
        let done = move |r: io::Result<()>| {
            // The receiver is gone once the row is over.
            tx.send(r.map(|()| asked.elapsed())).ok();
        };
        writer.write(|log| log.append(next, std::slice::from_ref(&payload)), Box::new(done));
    };
    let began = Instant::now();
    // As many entries under way as there are writers: each answer makes room for the next.
    while next < writers {
        write(next);
        next += 1;
    }
    while began.elapsed() < RUN {
        times.push(rx.recv().map_err(io::Error::other)??);
        write(next);
        next += 1;
    }
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    println!("group commit, {writers:>4} under way   {rate:>9.0} entries/s   p50 {p50:.1?}   p99 {p99:.1?}");
    Ok(())
}

fn register(n: u64) -> Command {
    let contact = format!("sip:user{n}@10.77.{}.{}:5070", n / 250 % 250, n % 250);
    let flow = Flow {
        transport: Transport::Udp,
        local: ([10, 77, 0, 100], 5060).into(),
        remote: ([10, 77, 1, 1], 5070).into(),
    };
    let binding = Binding {
        contact: contact.clone(),
        contact_key: contact,
        flow,
        natted: false,
        path: vec![],
        q: 1000,
        expires_at: WallTime(3_600_000),
        call_id: format!("{n:016x}@phone"),
        cseq: 1,
        instance: None,
        reg_id: None,
        user_agent: "phone/1".into(),
        updated_at: WallTime(1),
        methods: None,
        outbound: false,
        gruu: None,
    };
    Command::Sip(SipCommand::Register(RegisterCommand {
        aor: format!("sip:user{n}@lab.test"),
        call_id: binding.call_id.clone(),
        cseq: 1,
        change: RegisterChange::Contacts(vec![binding]),
        max_contacts: 10,
        at: WallTime(1),
    }))
}

fn snapshots(dir: &Path, bindings: u64) -> io::Result<()> {
    let mut state = ClusterState::default();
    for n in 0..bindings {
        state.apply(n, &register(n));
    }
    if state.counts().bindings != bindings {
        return Err(io::Error::other(format!("{} of {bindings} bindings", state.counts().bindings)));
    }
    let mut snaps = SledSnaps::open(dir.join(format!("snap{bindings}")))?;
    let mut lap = Instant::now();
    let mut took = || std::mem::replace(&mut lap, Instant::now()).elapsed();
    let bytes = codec::encode(Kind::Snapshot, &state)?;
    let encoded = took();
    snaps.write(b"meta", &bytes)?;
    let written = took();
    let (_, back) = snaps.latest()?.ok_or_else(|| io::Error::other("no snapshot"))?;
    let read = took();
    let again: ClusterState = codec::decode(Kind::Snapshot, &back)?;
    let decoded = took();
    if again != state {
        return Err(io::Error::other("the snapshot differs"));
    }
    let mb = bytes.len() as f64 / 1e6;
    println!(
        "snapshot of {bindings:>6} bindings, {mb:>5.1} MB   encode {encoded:.1?}   write {written:.1?}   \
         read {read:.1?}   decode {decoded:.1?}"
    );
    Ok(())
}

fn main() -> io::Result<()> {
    let parent = std::env::var_os("RELEVO_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(parent)?;
    println!("in {}", dir.path().display());
    syncs(dir.path())?;
    for writers in [1, 16, 64, 512] {
        group_commit(dir.path(), writers)?;
    }
    for bindings in [10_000, 100_000] {
        snapshots(dir.path(), bindings)?;
    }
    Ok(())
}
