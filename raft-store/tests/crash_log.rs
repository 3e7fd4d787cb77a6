//! The segment log under power cuts, torn writes, damage, failing syncs, a full disk and kill -9.

use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use raft_store::disk::sim::SimDisk;
use raft_store::disk::{Disk, RealDisk, lacks_room};
use raft_store::log::{Identity, Limits, LogWriter, Mode, OpenError, ROOM_RETRY, SegmentLog, Verdict};

const CHILD: &str = "RELEVO_TEST_CRASH_CHILD";

fn identity() -> Identity {
    Identity::new("lab", 1)
}

fn limits() -> Limits {
    Limits { segment_bytes: 2000, cache_bytes: 300, ..Limits::default() }
}

fn payload(index: u64) -> Vec<u8> {
    let len = 1 + (index * 37 % 200) as usize;
    (0..len).map(|n| (index as u8).wrapping_mul(31).wrapping_add(n as u8)).collect()
}

fn open(disk: &SimDisk) -> Result<SegmentLog, OpenError> {
    SegmentLog::open(Arc::new(disk.clone()), identity(), limits()).map(|(log, _)| log)
}

/// It must not look as if anything was forgotten: such a node would not go on under its id.
fn open_whole(disk: &SimDisk) -> Result<SegmentLog, OpenError> {
    let (log, found) = SegmentLog::open(Arc::new(disk.clone()), identity(), limits())?;
    assert!(matches!(found.verdict, Verdict::Whole | Verdict::Torn { .. }), "{:?}", found.verdict);
    Ok(log)
}

fn check_entries(log: &SegmentLog) {
    let range = log.entries();
    let read = log.read(range.clone(), false).expect("entries are readable");
    assert_eq!(read.len() as u64, range.end - range.start);
    for (got, index) in read.iter().zip(range) {
        assert_eq!(got[..], payload(index)[..], "entry {index}");
    }
}

#[test]
fn no_synced_entry_or_vote_is_lost_in_a_power_cut_at_any_batch() {
    for seed in 0..400u64 {
        let disk = SimDisk::new();
        let mut log = open(&disk).expect("an empty disk gives a log");
        let (mut next, mut acknowledged, mut vote) = (0u64, 0u64, None);
        for step in 0..seed % 40 {
            let batch: Vec<_> = (next..next + 1 + (seed + step) % 5).map(payload).collect();
            log.append(next, &batch).expect("append");
            next += batch.len() as u64;
            if (seed * 7 + step) % 3 != 0 {
                log.save_vote(&step.to_le_bytes()).expect("vote");
                log.sync().expect("sync");
                (acknowledged, vote) = (next, Some(step));
            }
        }
        disk.crash(seed);
        let log = open(&disk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let end = log.entries().end;
        assert!((acknowledged..=next).contains(&end), "seed {seed}: {end} of {acknowledged}..={next}");
        if let Some(vote) = vote {
            assert!(log.vote() >= Some(&vote.to_le_bytes()[..]), "seed {seed}: the vote went back");
        }
        check_entries(&log);
    }
}

#[test]
fn every_prefix_of_the_last_batch_opens_without_losing_what_came_before() {
    let disk = SimDisk::new();
    let mut log = open(&disk).expect("open");
    log.append(0, &[payload(0), payload(1)]).expect("append");
    log.sync().expect("sync");
    let whole = log.disk_bytes();
    log.append(2, &[payload(2), payload(3), payload(4)]).expect("append");
    let end = log.disk_bytes();
    // A disk writes whole sectors.
    for cut in (whole..end).filter(|at| at % 512 == 0).chain([whole]) {
        let copy = disk.fork();
        let file = copy.open("0000000000000000.seg").expect("the segment");
        file.write_at(cut, &vec![0; (end - cut) as usize]).expect("never written");
        let mut log = open(&copy).unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        assert!((2..5).contains(&log.entries().end));
        check_entries(&log);
        let next = log.entries().end;
        log.append(next, &[payload(next)]).expect("the log goes on behind the cut");
        log.sync().expect("sync");
        check_entries(&open(&copy).expect("opens again"));
    }
}

#[test]
fn damage_in_a_record_that_a_later_one_calls_durable_is_told_with_what_is_left() {
    let disk = SimDisk::new();
    let mut log = open(&disk).expect("open");
    for index in 0..100 {
        log.append(index, &[payload(index)]).expect("append");
        log.sync().expect("sync");
    }
    let names = disk.list().expect("list");
    assert!(names.iter().filter(|n| n.ends_with(".seg")).count() > 2, "several segments: {names:?}");
    let file = disk.open("0000000000000000.seg").expect("first segment");
    file.write_at(60, b"x").expect("damage");
    let before = disk.used();
    let (mut log, found) = SegmentLog::open(Arc::new(disk.clone()), identity(), limits()).expect("readable");
    let Verdict::Forgotten(lost) = found.verdict else { panic!("{:?}", found.verdict) };
    assert_eq!((&lost.file[..], lost.verified, lost.promised), ("0000000000000000.seg", None, Some(99)));
    check_entries(&log);
    assert!(log.append(0, &[payload(0)]).is_err(), "what is damaged takes no writes");
    assert_eq!(disk.used(), before, "nothing is changed");
}

#[test]
fn purge_returns_space_and_a_purged_log_opens() {
    let disk = SimDisk::new();
    let mut log = open(&disk).expect("open");
    for index in 0..300 {
        log.append(index, &[payload(index)]).expect("append");
    }
    let before = disk.used();
    log.purge(289, b"mark").expect("purge");
    log.sync().expect("sync");
    assert!(disk.used() < before / 3, "{} of {before} bytes left", disk.used());
    drop(log);
    disk.crash(1);
    let mut log = open(&disk).expect("open after purge");
    assert_eq!(log.purged(), Some((289, &b"mark"[..])));
    assert_eq!(log.entries().start, 290);
    check_entries(&log);
    log.truncate_from(295).expect("truncate");
    log.append(295, &[payload(295)]).expect("append");
    log.sync().expect("sync");
    disk.crash(2);
    let log = open(&disk).expect("open after truncate");
    assert_eq!(log.entries(), 290..296);
    check_entries(&log);
}

#[test]
fn folder_of_another_cluster_or_node_is_refused_and_unchanged() {
    let disk = SimDisk::new();
    drop(open(&disk).expect("open"));
    let (names, used) = (disk.list().expect("list"), disk.used());
    for other in [Identity::new("other", 1), Identity::new("lab", 2)] {
        let opened = SegmentLog::open(Arc::new(disk.clone()), other, limits());
        assert!(matches!(opened.map(|_| ()), Err(OpenError::Foreign { .. })));
    }
    assert_eq!((names, used), (disk.list().expect("list"), disk.used()));
}

fn failing_writer(mode: Mode, break_it: impl Fn(&SimDisk)) {
    let disk = SimDisk::new();
    let writer = LogWriter::new(open(&disk).expect("open"), mode).expect("writer");
    break_it(&disk);
    let (tx, rx) = mpsc::channel();
    // More than the room that was taken beforehand.
    for index in 0..40 {
        let tx = tx.clone();
        let done = move |r: std::io::Result<()>| {
            tx.send((index, r.is_err())).ok();
        };
        writer.write(|log| log.append(index, &[payload(index)]), Box::new(done));
    }
    drop(tx);
    let mut results: Vec<_> = rx.iter().collect();
    results.sort_unstable();
    assert_eq!(results.len(), 40, "each is answered");
    let failed = results.iter().position(|(_, failed)| *failed).expect("one has failed");
    assert!(results[failed..].iter().all(|(_, failed)| *failed), "and every one behind it");
    assert!(writer.fatal().borrow().is_some(), "the fatal flag is up");
    disk.fail_sync(None);
    assert!(writer.with(|log| log.save_vote(b"v")).is_err(), "a failed log never works again");
}

#[test]
fn failing_fsync_is_told_to_every_caller_and_ends_the_log() {
    failing_writer(Mode::Inline, |disk| disk.fail_sync(Some(0)));
    failing_writer(Mode::Thread, |disk| disk.fail_sync(Some(0)));
}

/// Longest wait for what another thread does.
const PATIENCE: Duration = Duration::from_secs(20);
/// Entries that are written before the disk is full, and while it is.
const BEFORE: u64 = 3;
const WHILE_FULL: u64 = 40;

/// A way to fill a disk, and to make room on it.
type Fullness = (fn(&SimDisk), fn(&SimDisk));

const FULL: [Fullness; 3] = [
    // Not one file more.
    (|disk| disk.set_capacity(Some(disk.used())), |disk| disk.set_capacity(None)),
    // A quota, in the middle of a record, although the file is long enough.
    (|disk| disk.set_quota(Some(100)), |disk| disk.set_quota(None)),
    (|disk| disk.set_quota(Some(1)), |disk| disk.set_quota(None)),
];

/// Has these entries appended; their numbers come when they are acknowledged.
fn write_all(writer: &LogWriter, entries: Range<u64>) -> mpsc::Receiver<(u64, bool)> {
    let (tx, rx) = mpsc::channel();
    for index in entries {
        let tx = tx.clone();
        let done = move |r: std::io::Result<()>| {
            tx.send((index, r.is_ok())).ok();
        };
        writer.write(|log| log.append(index, &[payload(index)]), Box::new(done));
    }
    rx
}

/// Waits until something waits for room.
fn until_it_is_full(writer: &LogWriter) {
    let end = Instant::now() + PATIENCE;
    while writer.gauge().syncs().no_room.is_none() {
        assert!(Instant::now() < end, "nothing waits for room");
        std::thread::yield_now();
    }
}

#[test]
fn a_full_disk_makes_callers_wait_and_the_log_goes_on_when_there_is_room() {
    for (fill, make_room) in FULL {
        let disk = SimDisk::new();
        let writer = LogWriter::new(open(&disk).expect("open"), Mode::Thread).expect("writer");
        assert!(write_all(&writer, 0..BEFORE).iter().all(|(_, ok)| ok), "there is room");
        fill(&disk);
        let end = BEFORE + WHILE_FULL;
        let answers = write_all(&writer, BEFORE..end);
        until_it_is_full(&writer);
        // Nobody hears that it failed, and what waits can be read: a leader sends it to others.
        let early: Vec<_> = answers.try_iter().collect();
        assert!(early.len() < WHILE_FULL as usize && early.iter().all(|(_, ok)| *ok), "{early:?}");
        writer.with(|log| {
            assert_eq!(log.entries(), 0..end);
            check_entries(log);
        });
        assert!(writer.fatal().borrow().is_none(), "a full disk ends nothing");
        let acknowledged = BEFORE + early.len() as u64;
        for seed in 0..40 {
            let copy = disk.fork();
            copy.crash(seed);
            let log = open_whole(&copy).expect("opens after a power cut while it was full");
            assert!(log.entries().end >= acknowledged, "seed {seed}");
            check_entries(&log);
        }
        make_room(&disk);
        let late: Vec<_> =
            (acknowledged..end).map(|_| answers.recv_timeout(PATIENCE).expect("answer")).collect();
        let all: Vec<_> = early.into_iter().chain(late).collect();
        assert_eq!(all, (BEFORE..end).map(|i| (i, true)).collect::<Vec<_>>(), "all, and in order");
        assert_eq!(writer.gauge().syncs().no_room, None);
        drop(writer);
        let log = open(&disk).expect("opens again");
        assert_eq!(log.entries(), 0..end);
        check_entries(&log);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_of_a_simulation_makes_callers_wait_in_its_time() {
    for (fill, make_room) in FULL {
        let disk = SimDisk::new();
        let writer = LogWriter::new(open(&disk).expect("open"), Mode::Inline).expect("writer");
        fill(&disk);
        let answers = write_all(&writer, 0..WHILE_FULL);
        tokio::time::sleep(ROOM_RETRY * 8).await;
        let early = answers.try_iter().count();
        assert!(early < WHILE_FULL as usize && writer.gauge().syncs().no_room.is_some(), "{early}");
        make_room(&disk);
        tokio::time::sleep(ROOM_RETRY * 2).await;
        assert_eq!(early + answers.try_iter().filter(|(_, ok)| *ok).count(), WHILE_FULL as usize);
    }
}

#[test]
fn no_power_cut_while_a_disk_is_full_or_after_it_was_loses_what_was_acknowledged() {
    for seed in 0..400u64 {
        let disk = SimDisk::new();
        let mut log = open(&disk).expect("open");
        let (mut next, mut acknowledged) = (0, 0);
        for step in 0..6 + seed % 30 {
            match (seed + step) % 7 {
                1 => disk.set_quota(Some(seed * 29 % 1200)),
                3 => disk.set_capacity(Some(disk.used() + seed * 31 % 2500)),
                6 => {
                    disk.set_quota(None);
                    disk.set_capacity(None);
                }
                _ => {}
            }
            let batch: Vec<_> = (next..next + 1 + step % 4).map(payload).collect();
            log.append(next, &batch).expect("it is taken, whether there is room or not");
            next += batch.len() as u64;
            if step % 11 == 10 {
                // A new leader says otherwise.
                next = next.saturating_sub(1).max(acknowledged);
                log.truncate_from(next).expect("taken");
            }
            check_entries(&log);
            match log.sync() {
                Ok(()) => acknowledged = next,
                Err(e) => assert!(lacks_room(&e) && log.failure().is_none(), "seed {seed}: {e}"),
            }
        }
        drop(log);
        disk.set_quota(None);
        disk.set_capacity(None);
        disk.crash(seed);
        let log = open_whole(&disk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(log.entries().end >= acknowledged, "seed {seed}: {:?} of {acknowledged}", log.entries());
        check_entries(&log);
    }
}

#[test]
fn a_disk_that_fails_while_it_is_full_is_told_to_every_caller_and_ends_the_log() {
    let disk = SimDisk::new();
    let writer = LogWriter::new(open(&disk).expect("open"), Mode::Thread).expect("writer");
    disk.set_capacity(Some(disk.used()));
    let answers = write_all(&writer, 0..WHILE_FULL);
    until_it_is_full(&writer);
    disk.fail_io(true);
    let answers: Vec<_> =
        (0..WHILE_FULL).map(|_| answers.recv_timeout(PATIENCE).expect("each is answered")).collect();
    assert!(answers.iter().any(|(_, ok)| !ok));
    assert!(writer.fatal().borrow().is_some(), "the fatal flag is up");
}

#[test]
fn what_waits_for_room_at_the_end_of_the_log_is_told_so_and_keeps_nobody() {
    let disk = SimDisk::new();
    let writer = LogWriter::new(open(&disk).expect("open"), Mode::Thread).expect("writer");
    disk.set_capacity(Some(disk.used()));
    let answers = write_all(&writer, 0..WHILE_FULL);
    until_it_is_full(&writer);
    drop(writer);
    let answers: Vec<_> = answers.iter().collect();
    assert_eq!(answers.len(), WHILE_FULL as usize, "each is answered");
    assert!(answers.iter().any(|(_, ok)| !ok));
}

#[test]
fn callbacks_come_in_append_order_and_share_syncs() {
    let disk = SimDisk::new();
    let writer = LogWriter::new(open(&disk).expect("open"), Mode::Thread).expect("writer");
    let (tx, rx) = mpsc::channel();
    for index in 0..500u64 {
        let tx = tx.clone();
        let done = move |r: std::io::Result<()>| {
            tx.send((index, r.is_ok())).ok();
        };
        writer.write(|log| log.append(index, &[payload(index)]), Box::new(done));
    }
    drop(tx);
    let got: Vec<_> = rx.iter().collect();
    assert_eq!(got, (0..500).map(|i| (i, true)).collect::<Vec<_>>());
}

/// Not a test of its own: the writer that the next test kills.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let disk = Arc::new(RealDisk::new(dir).expect("folder"));
    let limits = Limits { segment_bytes: 64 << 10, ..Limits::default() };
    let (log, _) = SegmentLog::open(disk, identity(), limits).expect("open");
    let mut next = log.entries().end;
    let writer = LogWriter::new(log, Mode::Thread).expect("writer");
    loop {
        let (tx, rx) = mpsc::channel();
        let done = move |r: std::io::Result<()>| {
            tx.send(r.is_ok()).ok();
        };
        writer.write(|log| log.append(next, &[payload(next)]), Box::new(done));
        assert!(rx.recv().expect("answer"));
        eprintln!("acknowledged {next}");
        next += 1;
    }
}

#[test]
fn kill_9_in_a_loop_loses_no_acknowledged_entry() {
    let dir = tempfile::tempdir().expect("folder");
    let mut acknowledged = None;
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().expect("exe"))
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("child");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let mut seen = 0;
        while let Some(Ok(line)) = lines.next() {
            if let Some(index) = line.strip_prefix("acknowledged ").and_then(|n| n.parse::<u64>().ok()) {
                acknowledged = Some(index);
                seen += 1;
            }
            if seen == 20 + round * 13 {
                child.kill().expect("kill");
            }
        }
        child.wait().expect("wait");
        let disk = Arc::new(RealDisk::new(dir.path()).expect("folder"));
        let (log, _) = SegmentLog::open(disk, identity(), limits()).expect("opens after kill -9");
        assert!(seen > 0 && Some(log.entries().end) > acknowledged, "round {round}: {acknowledged:?}");
        check_entries(&log);
    }
}
