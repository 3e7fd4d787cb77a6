//! What opening a log says after honest power cuts, deaths of the process, and damage: an honest cut is never taken for a
//! loss, and damage of what was acknowledged is never taken for an honest cut.

use std::sync::{Arc, Mutex};

use raft_store::disk::Disk;
use raft_store::disk::sim::SimDisk;
use raft_store::log::{
    BootId, Durability, Forgotten, Ground, Held, Identity, Limits, LogWriter, Mark, Mode, OpenError,
    Recovered, SegmentLog, Verdict,
};

const SEGMENT: u64 = 4096;
const BOOT: BootId = BootId([1; 16]);
const NEXT_BOOT: BootId = BootId([2; 16]);

fn limits() -> Limits {
    Limits { segment_bytes: SEGMENT, ..Limits::default() }
}

/// Text, as nearly all that a proxy stores is: no byte of it is zero.
fn payload(index: u64) -> Vec<u8> {
    let len = 1 + (index * 37 % 300) as usize;
    (0..len).map(|n| b'a' + ((index as usize + n) % 26) as u8).collect()
}

/// The guard's page.
#[derive(Default)]
struct Page(Mutex<Option<(Identity, Mark)>>);

impl Held for Page {
    fn load(&self, identity: Identity) -> Option<Mark> {
        self.0.lock().expect("not poisoned").filter(|(whose, _)| *whose == identity).map(|(_, mark)| mark)
    }
    fn begin(&self, identity: Identity, mark: Mark) {
        *self.0.lock().expect("not poisoned") = Some((identity, mark));
    }
    fn store(&self, mark: Mark) {
        if let Some((_, known)) = &mut *self.0.lock().expect("not poisoned") {
            *known = mark;
        }
    }
}

fn open_on(disk: &SimDisk, limits: Limits, ground: Ground) -> Result<(SegmentLog, Recovered), OpenError> {
    SegmentLog::open_on(Arc::new(disk.clone()), Identity::new("lab", 1), limits, ground)
}

fn open(disk: &SimDisk, boot: BootId) -> Result<(SegmentLog, Recovered), OpenError> {
    open_on(disk, limits(), Ground { boot, ..Ground::default() })
}

fn check_entries(log: &SegmentLog) {
    let range = log.entries();
    let read = log.read(range.clone(), false).expect("entries are readable");
    assert_eq!(read.len() as u64, range.end - range.start);
    for (got, index) in read.iter().zip(range) {
        assert_eq!(got[..], payload(index)[..], "entry {index}");
    }
}

/// A log of `count` entries, each synced and, if `sealed`, the last one sealed.
fn written(count: u64, sealed: bool) -> SimDisk {
    let disk = SimDisk::new();
    let (log, found) = open(&disk, BOOT).expect("an empty disk gives a log");
    assert_eq!(found.verdict, Verdict::Whole);
    let writer = LogWriter::new(log, Mode::Inline).expect("a writer");
    for index in 0..count {
        let write = |log: &mut SegmentLog| log.append(index, &[payload(index)]);
        writer.write(write, Box::new(|r| r.expect("written")));
    }
    if sealed {
        writer.seal();
    }
    disk
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.list().expect("lists").into_iter().filter(|n| n.ends_with(".seg")).collect()
}

/// Bytes of `name` up to the last that is not zero.
fn used(disk: &SimDisk, name: &str) -> u64 {
    let file = disk.open(name).expect("opens");
    let mut bytes = vec![0; file.len().expect("its length") as usize];
    file.read_at(0, &mut bytes).expect("reads");
    bytes.iter().rposition(|b| *b != 0).map_or(0, |p| p as u64 + 1)
}

fn flip(disk: &SimDisk, name: &str, at: u64) {
    let file = disk.open(name).expect("opens");
    let mut byte = [0];
    file.read_at(at, &mut byte).expect("reads");
    file.write_at(at, &[byte[0] ^ 0x10]).expect("writes");
}

fn forgotten(found: &Recovered) -> &Forgotten {
    match &found.verdict {
        Verdict::Forgotten(lost) => lost,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_honest_power_cut_is_never_a_loss_and_what_was_synced_is_there() {
    for seed in 0..600u64 {
        let disk = SimDisk::new();
        let (log, _) = open(&disk, BOOT).expect("a log");
        let writer = LogWriter::new(log, Mode::Inline).expect("a writer");
        let (mut next, mut acknowledged) = (0, 0);
        for step in 0..seed % 30 {
            let batch: Vec<_> = (next..next + 1 + (seed + step) % 7).map(payload).collect();
            next += batch.len() as u64;
            writer.with(|log| log.append(next - batch.len() as u64, &batch)).expect("append");
            if (seed * 7 + step) % 3 != 0 {
                writer.with(SegmentLog::sync).expect("sync");
                acknowledged = next;
            }
            if (seed + step) % 5 == 0 {
                writer.seal();
            }
            if (seed + step) % 11 == 0 && acknowledged > 10 {
                writer.with(|log| log.purge(acknowledged - 10, b"mark")).expect("purge");
            }
        }
        disk.crash(seed);
        let (log, found) = open(&disk, NEXT_BOOT).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(!matches!(found.verdict, Verdict::Forgotten(_)), "seed {seed}: {:?}", found.verdict);
        let end = log.entries().end;
        assert!((acknowledged..=next).contains(&end), "seed {seed}: {end} of {acknowledged}..={next}");
        check_entries(&log);
        // And once more, behind what was cut off.
        let writer = LogWriter::new(log, Mode::Inline).expect("a writer");
        writer.write(|log| log.append(end, &[payload(end)]), Box::new(|r| r.expect("it goes on")));
        disk.crash(seed + 1);
        let (log, found) = open(&disk, BOOT).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(!matches!(found.verdict, Verdict::Forgotten(_)), "seed {seed}: {:?}", found.verdict);
        assert_eq!(log.entries().end, end + 1, "seed {seed}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_what_was_acknowledged_is_a_loss_that_names_its_place() {
    let whole = written(60, true);
    let names = segments(&whole);
    assert!(names.len() > 2, "{names:?}");
    for name in &names {
        for at in 0..used(&whole, name) {
            let disk = whole.fork();
            flip(&disk, name, at);
            let before = disk.list().expect("lists");
            let (log, found) = open(&disk, NEXT_BOOT).expect("readable");
            let lost = forgotten(&found);
            assert_eq!(&lost.file, name, "byte {at}");
            assert!(lost.offset <= at && at < lost.offset + 400, "byte {at}: {lost:?}");
            assert_eq!(lost.promised, Some(59), "byte {at} of {name}");
            assert_eq!(lost.verified.map_or(0, |v| v + 1), log.entries().end);
            check_entries(&log);
            assert_eq!(before, disk.list().expect("lists"), "nothing is changed");
        }
    }
}

#[test]
fn an_acknowledged_end_that_is_zeroed_cut_off_or_gone_is_a_loss_once_it_is_sealed() {
    let whole = written(60, true);
    let names = segments(&whole);
    let last = names.last().expect("a segment");
    let end = used(&whole, last);
    for lost_bytes in 1..end {
        let disk = whole.fork();
        let file = disk.open(last).expect("opens");
        file.write_at(end - lost_bytes, &vec![0; lost_bytes as usize]).expect("zeroed");
        forgotten(&open(&disk, NEXT_BOOT).expect("readable").1);
        let disk = whole.fork();
        disk.open(last).expect("opens").truncate(end - lost_bytes).expect("cut");
        forgotten(&open(&disk, NEXT_BOOT).expect("readable").1);
    }
    for name in &names {
        let disk = whole.fork();
        disk.remove(name).expect("removed");
        let (log, found) = open(&disk, NEXT_BOOT).expect("readable");
        assert_eq!(forgotten(&found).promised, Some(59), "{name}");
        check_entries(&log);
    }
}

#[test]
fn a_file_that_lost_only_the_zeros_behind_its_records_loses_nothing() {
    let whole = written(60, true);
    let last = segments(&whole).pop().expect("a segment");
    let end = used(&whole, &last);
    for len in [end + 4, end + 100, SEGMENT - 1] {
        let disk = whole.fork();
        disk.open(&last).expect("opens").truncate(len).expect("cut");
        let (log, found) = open(&disk, NEXT_BOOT).expect("opens");
        assert_eq!((found.verdict, log.entries().end), (Verdict::Whole, 60));
        assert_eq!(disk.open(&last).and_then(|f| f.len()).expect("its length"), SEGMENT, "it is mended");
    }
}

#[test]
fn damage_of_the_last_group_is_a_loss_also_where_no_seal_was_made() {
    let whole = written(60, false);
    let last = segments(&whole).pop().expect("a segment");
    let end = used(&whole, &last);
    for at in end - payload(59).len() as u64 - 41..end {
        let disk = whole.fork();
        flip(&disk, &last, at);
        forgotten(&open(&disk, NEXT_BOOT).expect("readable").1);
        let disk = whole.fork();
        disk.open(&last).expect("opens").truncate(at).expect("cut");
        forgotten(&open(&disk, NEXT_BOOT).expect("readable").1);
    }
}

#[test]
fn what_the_guard_holds_tells_a_lost_end_from_one_that_was_never_promised() {
    let disk = SimDisk::new();
    let page = Arc::new(Page::default());
    let ground = || Ground { boot: BOOT, held: Some(page.clone()), ..Ground::default() };
    let (mut log, _) = open_on(&disk, limits(), ground()).expect("a log");
    log.append(0, &[payload(0), payload(1)]).expect("append");
    log.sync().expect("sync");
    let promised = used(&disk, "0000000000000000.seg");
    log.append(2, &[payload(2)]).expect("append");
    let end = used(&disk, "0000000000000000.seg");
    drop(log);
    for at in 0..end {
        let copy = disk.fork();
        flip(&copy, "0000000000000000.seg", at);
        let (log, found) = open_on(&copy, limits(), ground()).expect("readable");
        if at < promised {
            assert_eq!(forgotten(&found).promised, Some(2).filter(|_| log.entries().end < 3), "byte {at}");
        } else {
            assert!(matches!(found.verdict, Verdict::Torn { .. }), "byte {at}: {:?}", found.verdict);
            assert_eq!(log.entries().end, 2);
        }
    }
}

#[test]
fn a_damaged_copy_of_meta_or_seal_is_made_anew_from_the_other() {
    let whole = written(60, true);
    let seal_slot = |n: u64| (0..56).map(move |at| ("SEAL", n * 4096 + at));
    let meta = |name| (0..used(&whole, name)).map(move |at| (name, at));
    for (name, at) in meta("META").chain(meta("META.copy")).chain(seal_slot(0)).chain(seal_slot(1)) {
        let disk = whole.fork();
        flip(&disk, name, at);
        let (log, found) = open(&disk, NEXT_BOOT).unwrap_or_else(|e| panic!("{name}, byte {at}: {e}"));
        assert_eq!((found.verdict, log.entries().end), (Verdict::Whole, 60), "{name}, byte {at}");
        drop(log);
        assert_eq!(open(&disk, BOOT).expect("opens again").1.verdict, Verdict::Whole);
    }
    for name in ["META", "META.copy"] {
        let disk = whole.fork();
        disk.remove(name).expect("removed");
        assert_eq!(open(&disk, NEXT_BOOT).expect("opens").1.verdict, Verdict::Whole);
        assert!(disk.list().expect("lists").iter().any(|n| n == name), "{name} is there again");
    }
}

#[test]
fn both_copies_damaged_is_never_an_empty_log() {
    let whole = written(10, true);
    let disk = whole.fork();
    flip(&disk, "META", 5);
    flip(&disk, "META.copy", 5);
    assert!(matches!(open(&disk, NEXT_BOOT), Err(OpenError::Corrupt { file, .. }) if file == "META"));
    let disk = whole.fork();
    disk.remove("META").and_then(|()| disk.remove("META.copy")).expect("removed");
    assert!(matches!(open(&disk, NEXT_BOOT), Err(OpenError::Corrupt { file, .. }) if file == "META"));
    let disk = whole.fork();
    disk.remove("SEAL").expect("removed");
    let (_, found) = open(&disk, NEXT_BOOT).expect("readable");
    let lost = forgotten(&found);
    assert_eq!((&lost.file[..], lost.verified, lost.promised), ("SEAL", Some(9), None));
}

#[test]
fn a_sector_that_cannot_be_read_is_damage_at_its_place_and_not_the_end_of_the_log() {
    let whole = written(60, true);
    // One of two copies: made anew, and readable from then on.
    for (name, at) in [("META", 0), ("META.copy", 0), ("SEAL", 0), ("SEAL", 4096)] {
        let disk = whole.fork();
        disk.spoil_sector(name, at);
        let (log, found) = open(&disk, NEXT_BOOT).unwrap_or_else(|e| panic!("{name}, byte {at}: {e}"));
        assert_eq!((found.verdict, log.entries().end), (Verdict::Whole, 60), "{name}, byte {at}");
        let mut byte = [0];
        disk.open(name).expect("opens").read_at(at as u64, &mut byte).expect("reads");
        assert_ne!(byte, [0xdb], "{name}, byte {at}");
    }
    // Of the records: the loss names the page, and what comes before it can be read.
    let names = segments(&whole);
    assert!(names.len() > 2);
    let disk = whole.fork();
    disk.spoil_sector(&names[1], 700);
    let (log, found) = open(&disk, NEXT_BOOT).expect("readable");
    let lost = forgotten(&found);
    assert_eq!((&lost.file, lost.offset), (&names[1], 0), "{lost}");
    assert_eq!(lost.promised, Some(59));
    assert_eq!(lost.verified.map(|v| v + 1), Some(log.entries().end));
    check_entries(&log);
    // A snapshot that reaches beyond it makes it harmless.
    let resumes = lost.resumes.expect("the segments behind it verify");
    drop(log);
    let ground = Ground { snapshot: Some((resumes, b"mark".to_vec())), boot: NEXT_BOOT, ..Ground::default() };
    let (log, found) = open_on(&disk, limits(), ground).expect("opens");
    assert!(matches!(found.verdict, Verdict::Mended(_)), "{:?}", found.verdict);
    assert_eq!(log.entries().end, 60);
}

#[test]
fn an_interrupted_creation_is_begun_again() {
    for after in 0..8 {
        for seed in 0..20 {
            let disk = SimDisk::new();
            disk.fail_sync(Some(after));
            let made = open(&disk, BOOT).map(drop);
            disk.fail_sync(None);
            disk.crash(seed);
            let (log, found) = open(&disk, NEXT_BOOT).unwrap_or_else(|e| panic!("{after}, {seed}: {e}"));
            assert_eq!((found.verdict, log.entries()), (Verdict::Whole, 0..0), "{after}: {made:?}");
        }
    }
}

#[test]
fn damage_that_a_snapshot_covers_is_mended_and_the_file_kept() {
    let whole = written(60, true);
    let names = segments(&whole);
    let first_of = |n: usize| {
        let disk = whole.fork();
        flip(&disk, &names[n - 1], 60);
        forgotten(&open(&disk, NEXT_BOOT).expect("readable").1).resumes.expect("the rest verifies")
    };
    let covered = first_of(1);
    for (snapshot, mended) in [(covered - 2, false), (covered - 1, true), (covered + 3, true), (59, true)] {
        let disk = whole.fork();
        flip(&disk, &names[0], 300);
        let ground =
            Ground { boot: NEXT_BOOT, held: None, snapshot: Some((snapshot, b"mark".to_vec())), used: true };
        let (log, found) = open_on(&disk, limits(), ground).expect("readable");
        if !mended {
            assert_eq!(forgotten(&found).resumes, Some(covered));
            continue;
        }
        assert!(matches!(found.verdict, Verdict::Mended(_)), "{:?}", found.verdict);
        assert_eq!(log.entries().end, if snapshot == 59 { log.entries().start } else { 60 });
        assert_eq!(log.purged(), Some((snapshot, &b"mark"[..])));
        check_entries(&log);
        drop(log);
        let aside = format!("{}.damaged", names[0]);
        assert!(disk.list().expect("lists").contains(&aside), "the only copy is kept");
        let (log, found) = open(&disk, BOOT).expect("opens without the snapshot's help");
        assert_eq!(found.verdict, Verdict::Whole);
        check_entries(&log);
    }
}

#[test]
fn in_memory_mode_a_machine_that_was_started_anew_has_forgotten_unless_it_ended_in_order() {
    let limits = Limits { durability: Durability::Memory, ..limits() };
    let on =
        |disk: &SimDisk, boot| open_on(disk, limits, Ground { boot, ..Ground::default() }).expect("readable");
    for orderly in [false, true] {
        let disk = SimDisk::new();
        let (log, _) = on(&disk, BOOT);
        let mode = if orderly { Mode::Thread } else { Mode::Inline };
        let writer = LogWriter::new(log, mode).expect("a writer");
        for index in 0..10 {
            writer.with(|log| log.append(index, &[payload(index)])).expect("append");
        }
        drop(writer);
        assert_eq!(on(&disk.fork(), BOOT).1.verdict, Verdict::Whole, "only the process has died");
        let (_, found) = on(&disk, NEXT_BOOT);
        match orderly {
            true => assert_eq!(found.verdict, Verdict::Whole),
            false => assert_eq!(forgotten(&found).promised, None),
        }
    }
}

#[test]
fn an_orderly_end_makes_everything_behind_it_worthless() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, BOOT).expect("a log");
    log.append(0, &[payload(0)]).expect("append");
    drop(LogWriter::new(log, Mode::Thread).expect("a writer"));
    let end = used(&disk, "0000000000000000.seg");
    disk.open("0000000000000000.seg").and_then(|f| f.write_at(end + 700, b"noise")).expect("written");
    let (log, found) = open(&disk, NEXT_BOOT).expect("opens");
    assert_eq!((found.verdict, log.entries()), (Verdict::Torn { bytes: 705 }, 0..1));
    assert_eq!(used(&disk, "0000000000000000.seg"), end, "zeros again");
}
