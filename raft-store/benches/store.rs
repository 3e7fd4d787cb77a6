//! What the disk and the stores cost: one fdatasync, entries per second with group commit, the tagged form of entries
//! beside bincode, the application of an entry, snapshots of 10k and 100k bindings. Prints a table and asserts no times;
//! `forms`, `apply` and `disk` name parts of it. `RELEVO_BENCH_DIR` names the folder (and so the disk) to measure.

use std::hint::black_box;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use proxy_core::state::{
    Backing, Binding, Branch, BranchState, CallFacts, Flow, InviteState, PendingInvite, RegisterChange,
    RegisterCommand, ServerKey, SipCommand, Transport,
};
use proxy_core::time::WallTime;
use raft_store::codec::{self, Kind};
use raft_store::command::{Batch, Command};
use raft_store::disk::{Disk, RealDisk};
use raft_store::log::{Identity, Limits, LogWriter, Mode, SegmentLog};
use raft_store::node::digest;
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

fn invite() -> Command {
    let flow = Flow {
        transport: Transport::Udp,
        local: ([10, 77, 0, 100], 5060).into(),
        remote: ([10, 77, 1, 1], 5070).into(),
    };
    let branch = |n: u16| Branch {
        target: format!("sip:bob{n}@10.77.1.{n}:5070"),
        route: vec![],
        flow,
        via_branch: format!("z9hG4bK{n:024x}"),
        state: BranchState::Trying,
        backing: Backing { called: Some("sip:bob@lab.test".into()), ..Backing::default() },
        headers: vec![],
        round: 0,
        next: vec![],
        left: vec![],
        others: vec![],
    };
    let text = |s: &str| s.to_owned();
    let facts = CallFacts {
        from_tag: text("3f2b1c"),
        cseq: 1,
        src_user: text("alice"),
        src_domain: text("lab.test"),
        src_ip: flow.remote.ip(),
        dst_ouser: text("bob"),
        dst_user: text("bob"),
        dst_domain: text("lab.test"),
        caller: Some(text("sip:alice@lab.test")),
        from_trunk: None,
        counted: vec![],
    };
    let at = |ms: u64| WallTime(1_800_000_000_000 + ms);
    Command::Sip(SipCommand::InviteReceived(Box::new(PendingInvite {
        key: ServerKey {
            branch: text("z9hG4bK-524287-1---0f4f6e6a2c8c3d5f"),
            sent_by: text("10.77.1.1:5070"),
        },
        call_id: text("84f5e1d3a2b94c6f@10.77.1.1"),
        // About what a phone sends, with its SDP.
        request: vec![b'x'; 1100],
        flow,
        received_at: at(0),
        timer_c_at: at(180_000),
        local_tag: text("rl0123456789abcdef"),
        branches: vec![branch(1), branch(2)],
        state: InviteState::Proceeding,
        plan: vec![],
        steps_used: 0,
        round: 0,
        no_answer_at: Some(at(30_000)),
        facts: Some(Box::new(facts)),
        media: None,
        ending: None,
        early_media: vec![],
    })))
}

/// The refresh of a phone, with times as they are.
fn refresh(n: u64) -> Command {
    let mut command = register(n);
    if let Command::Sip(SipCommand::Register(register)) = &mut command {
        let at = WallTime(1_800_000_000_000 + n);
        register.at = at;
        if let RegisterChange::Contacts(contacts) = &mut register.change {
            for contact in contacts {
                (contact.updated_at, contact.expires_at) = (at, at + Duration::from_secs(300));
            }
        }
    }
    command
}

/// Writes and reads a batch again and again: by our form with its frame, and by bincode.
fn forms(what: &str, batch: &Batch) -> io::Result<()> {
    const TIMES: u32 = 20_000;
    let config = bincode::config::standard();
    let (ours, theirs) = (
        codec::encode(Kind::Command, batch)?,
        bincode::serde::encode_to_vec(batch, config).map_err(io::Error::other)?,
    );
    let mut times = [Duration::ZERO; 4];
    // In turn, so that both have the same machine.
    for _ in 0..20 {
        let mut timed = |slot: usize, run: &mut dyn FnMut() -> io::Result<()>| {
            let began = Instant::now();
            let result = (0..TIMES / 20).try_for_each(|_| run());
            times[slot] += began.elapsed();
            result
        };
        timed(0, &mut || codec::encode(Kind::Command, black_box(batch)).map(drop).map_err(Into::into))?;
        timed(1, &mut || {
            let bytes = bincode::serde::encode_to_vec(black_box(batch), config);
            bytes.map(drop).map_err(io::Error::other)
        })?;
        timed(2, &mut || {
            codec::decode::<Batch>(Kind::Command, black_box(&ours)).map(drop).map_err(Into::into)
        })?;
        timed(3, &mut || {
            let read = bincode::serde::decode_from_slice::<Batch, _>(black_box(&theirs), config);
            read.map(drop).map_err(io::Error::other)
        })?;
    }
    let [put, their_put, get, their_get] = times.map(|t| t / TIMES);
    println!(
        "{what:<22} {:>5} B, bincode {:>5} B   encode {put:.2?} / {their_put:.2?}   decode {get:.2?} / {their_get:.2?}",
        ours.len(),
        theirs.len() + 2
    );
    Ok(())
}

fn snapshots(dir: &Path, bindings: u64) -> io::Result<()> {
    let mut state = ClusterState::default();
    for n in 0..bindings {
        state.apply(n, &register(n));
    }
    if state.counts().bindings != bindings {
        return Err(io::Error::other(format!("{} of {bindings} bindings", state.counts().bindings)));
    }
    let snaps = SledSnaps::open(dir.join(format!("snap{bindings}")))?;
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

/// Refreshes beside so many bindings, one to an entry: applied alone, and as a node applies them.
fn applying(bindings: u64) {
    const ENTRIES: u64 = 50_000;
    /// From a phone to the next one: they are not neighbours.
    const STEP: u64 = 7_919;
    let mut state = ClusterState::default();
    for n in 0..bindings {
        state.apply(n, &register(n));
    }
    let (mut user, mut round) = (0, 1);
    let mut refreshes = || -> Vec<Command> {
        round += 1;
        let next = |_| {
            user = (user + STEP) % bindings;
            let mut command = refresh(user);
            if let Command::Sip(SipCommand::Register(register)) = &mut command {
                register.cseq = round;
            }
            command
        };
        (0..ENTRIES).map(next).collect()
    };
    let mut timed = |run: &mut dyn FnMut(&mut ClusterState, u64, &Command)| {
        let commands = refreshes();
        let began = Instant::now();
        for (command, index) in commands.iter().zip(0..) {
            run(&mut state, index, command);
        }
        began.elapsed().as_secs_f64() * 1e6 / ENTRIES as f64
    };
    let alone = timed(&mut |state, index, command| drop(black_box(state.apply(index, command))));
    let watched = timed(&mut |state, index, command| {
        drop(black_box(state.apply_all(index, std::slice::from_ref(command))));
    });
    let hashed = timed(&mut |state, index, command| {
        let applied = state.apply_all(index, std::slice::from_ref(command));
        black_box(digest::changes(&applied.changes));
    });
    println!(
        "1 refresh beside {bindings:>6} bindings, applied: alone {alone:.1} µs   so that it can be taken back {watched:.1} µs   \
         with the hash of its changes {hashed:.1} µs"
    );
}

fn main() -> io::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    if is_wanted("forms") {
        forms("16 REGISTER refreshes", &Batch((0..16).map(refresh).collect()))?;
        forms("1 INVITE", &Batch(vec![invite()]))?;
    }
    if is_wanted("apply") {
        applying(10_000);
        applying(300_000);
    }
    if !is_wanted("disk") {
        return Ok(());
    }
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
