//! Records of calls from the outbox into files: in order, once, whatever fails in between.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use agent::accounting::file::{Format, LineFile, tail};
use agent::accounting::writer::Writer;
use agent::accounting::{Item, Sink};
use agent::bridge::{Cluster, Store, Verdict};
use agent::control::{Facts, Place};
use proptest::prelude::*;
use proxy_core::io::Refusal;
use proxy_core::state::{
    AccountingCommand, Backing, Branch, BranchState, CallFacts, Flow, InviteState, PendingInvite, ServerKey,
    SipCommand, SipState, Transport,
};
use proxy_core::time::{Clocks, MonoTime, RealTime, WallTime};
use raft_store::command::GrantReason;

/// A cluster of one state that commits at once, or refuses.
#[derive(Clone, Default)]
struct Fake {
    state: Arc<Mutex<SipState>>,
    refuses: Arc<Mutex<bool>>,
}

impl Store for Fake {
    fn read<R>(&self, f: impl FnOnce(&SipState) -> R) -> R {
        f(&self.state.lock().expect("state"))
    }

    fn propose(&self, command: SipCommand, done: Verdict) {
        if *self.refuses.lock().expect("refuses") {
            done(Err(Refusal::Unknown));
            return;
        }
        let response = self.state.lock().expect("state").apply(&command);
        done(Ok(response));
    }
}

impl Cluster for Fake {
    fn facts(&self) -> Facts {
        Facts::default()
    }
    fn grant(&self, _: Place, _: GrantReason, _: Box<dyn FnOnce(bool) + Send>) {}
    fn transfer(&self, _: Place) {}
}

impl Fake {
    fn outbox(&self) -> (u64, u64) {
        self.read(|s| (s.outbox_figures().waiting, s.outbox_figures().newest))
    }

    /// A call that fails: one record of the failure and one CDR.
    fn call(&self, n: u64) {
        let key = ServerKey { branch: format!("z9hG4bK{n}"), sent_by: String::from("10.0.0.9:5060") };
        let address = "10.0.0.9:5060".parse().expect("an address");
        let flow = Flow { transport: Transport::Udp, local: address, remote: address };
        let facts = CallFacts {
            from_tag: String::from("f"),
            cseq: 1,
            src_user: String::from("alice"),
            src_domain: String::from("lab.test"),
            src_ip: flow.remote.ip(),
            dst_ouser: String::from("bob"),
            dst_user: String::from("bob, \"the\" builder"),
            dst_domain: String::from("lab.test"),
            caller: None,
            from_trunk: None,
            counted: Vec::new(),
        };
        let record = PendingInvite {
            key: key.clone(),
            call_id: format!("call-{n}"),
            request: Vec::new(),
            flow,
            received_at: WallTime(1000 + n),
            timer_c_at: WallTime(200_000),
            local_tag: String::new(),
            branches: vec![Branch {
                target: String::from("sip:bob@10.0.0.2"),
                route: Vec::new(),
                flow,
                via_branch: format!("b{n}"),
                state: BranchState::Trying,
                backing: Backing::default(),
                headers: Vec::new(),
                round: 0,
                next: Vec::new(),
                left: Vec::new(),
                others: Vec::new(),
            }],
            state: InviteState::Proceeding,
            plan: Vec::new(),
            steps_used: 0,
            round: 0,
            no_answer_at: None,
            facts: Some(Box::new(facts)),
            media: None,
            ending: None,
            early_media: Vec::new(),
        };
        let mut state = self.state.lock().expect("state");
        state.apply(&SipCommand::InviteReceived(Box::new(record)));
        state.apply(&SipCommand::InviteFailed {
            key: key.clone(),
            response: b"SIP/2.0 486 Busy Here\r\n\r\n".to_vec(),
            to_tag: String::from("t"),
            at: WallTime(2000 + n),
            forget_at: WallTime(3000 + n),
        });
        state.apply(&SipCommand::InviteDone { key });
    }

    fn apply(&self, command: AccountingCommand) {
        self.state.lock().expect("state").apply(&SipCommand::Accounting(command));
    }
}

/// Time stands still where nothing waits for it.
fn clock() -> Clocks {
    static TICKS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    // Ten seconds for each look at the clock: more than every pause of the writer.
    let seconds = TICKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed) * 10;
    Clocks { mono: MonoTime(seconds * 1_000_000_000), real: RealTime(seconds * 1000) }
}

fn writer(cluster: &Fake, place: u16, appliances: &[u16], path: Option<&Path>) -> Writer<Fake> {
    let sinks: Vec<Box<dyn Sink>> = path
        .map(|path| Box::new(LineFile::new(path.to_path_buf(), Format::Json)) as Box<dyn Sink>)
        .into_iter()
        .collect();
    Writer::new(cluster.clone(), place, appliances.to_vec(), sinks, clock)
}

fn steps(writer: &mut Writer<Fake>) {
    for _ in 0..6 {
        writer.step();
    }
}

fn seqs(path: &Path) -> Vec<u64> {
    let lines = tail(path, usize::MAX, u64::MAX).expect("reads");
    lines.iter().map(|l| l["seq"].as_u64().expect("a number")).collect()
}

#[test]
fn each_node_has_every_record_and_the_outbox_waits_for_the_slowest() {
    let dir = tempfile::tempdir().expect("a folder");
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let cluster = Fake::default();
    let mut first = writer(&cluster, 1, &[1, 2], Some(&one));
    cluster.call(1);
    steps(&mut first);
    cluster.call(2);
    steps(&mut first);
    assert_eq!(seqs(&one), [1, 2, 3, 4]);
    assert_eq!(cluster.outbox(), (4, 4), "node 2 has written nothing, though it has not been up yet");
    let mut second = writer(&cluster, 2, &[1, 2], Some(&two));
    steps(&mut second);
    assert_eq!(std::fs::read(&one).expect("one"), std::fs::read(&two).expect("two"));
    assert_eq!(cluster.outbox(), (0, 4));
    let line = &tail(&one, 1, 1 << 20).expect("reads")[0];
    assert_eq!((line["kind"].as_str(), line["code"].as_u64()), (Some("cdr"), Some(486)));
    assert_eq!((line["setup_s"].as_f64(), line["duration_s"].as_f64()), (Some(1.0), Some(0.0)));
}

#[test]
fn a_node_without_files_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let one = dir.path().join("one");
    let cluster = Fake::default();
    let (mut first, mut second) =
        (writer(&cluster, 1, &[1, 2], Some(&one)), writer(&cluster, 2, &[1, 2], None));
    steps(&mut second);
    assert_eq!(cluster.read(|s| s.outbox().places().count()), 0, "nobody writes: nothing to say");
    steps(&mut first);
    steps(&mut second);
    cluster.call(1);
    steps(&mut first);
    steps(&mut second);
    assert_eq!(cluster.outbox(), (0, 2));
    assert_eq!(cluster.read(|s| s.outbox().place(2)), Some(None));
}

#[test]
fn records_that_went_while_a_node_was_away_leave_a_line_that_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let one = dir.path().join("one");
    let cluster = Fake::default();
    let mut first = writer(&cluster, 1, &[1, 2], Some(&one));
    cluster.call(1);
    steps(&mut first);
    drop(first);
    // As when the outbox is full: the others go on without it.
    cluster.apply(AccountingCommand::Close { place: 1 });
    cluster.call(2);
    cluster.call(3);
    cluster.apply(AccountingCommand::Written { place: 2, up_to: 5 });
    let mut first = writer(&cluster, 1, &[1, 2], Some(&one));
    let figures = first.figures();
    steps(&mut first);
    assert_eq!(seqs(&one), [1, 2, 5, 6]);
    let lines = tail(&one, 10, 1 << 20).expect("reads");
    assert_eq!((lines[2]["kind"].as_str(), lines[2]["lost_from"].as_u64()), (Some("lost"), Some(3)));
    assert_eq!(figures.lock().expect("figures").lost, 3);
}

#[test]
fn a_file_of_another_cluster_is_left_alone_and_nothing_is_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let one = dir.path().join("one");
    std::fs::write(&one, "{\"seq\":500,\"kind\":\"cdr\"}\n").expect("writes");
    let cluster = Fake::default();
    let mut first = writer(&cluster, 1, &[1], Some(&one));
    let figures = first.figures();
    cluster.call(1);
    steps(&mut first);
    assert_eq!(seqs(&one), [500]);
    assert_eq!(cluster.outbox(), (2, 2));
    let trouble = figures.lock().expect("figures").trouble.clone().expect("it says so");
    assert!(trouble.contains("500") && trouble.contains("another cluster"), "{trouble}");
}

/// Writes half of what it is told, then fails, then works.
struct Faulty {
    file: LineFile,
    fails: Arc<Mutex<bool>>,
}

impl Sink for Faulty {
    fn name(&self) -> String {
        String::from("faulty")
    }
    fn last(&mut self) -> io::Result<Option<u64>> {
        self.file.last()
    }
    fn write(&mut self, items: &[Item]) -> io::Result<()> {
        if std::mem::take(&mut *self.fails.lock().expect("fails")) {
            self.file.write(&items[..items.len() / 2])?;
            return Err(io::Error::other("the disk is full"));
        }
        self.file.write(items)
    }
}

#[test]
fn a_disk_that_was_full_for_a_while_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("a folder");
    let one = dir.path().join("one");
    let cluster = Fake::default();
    let fails = Arc::new(Mutex::new(true));
    let sink = Faulty { file: LineFile::new(one.clone(), Format::Json), fails };
    let mut first = Writer::new(cluster.clone(), 1, vec![1], vec![Box::new(sink)], clock);
    let figures = first.figures();
    cluster.call(1);
    cluster.call(2);
    first.step();
    first.step();
    assert_eq!(figures.lock().expect("figures").trouble.as_deref(), Some("faulty: the disk is full"));
    assert_eq!(cluster.outbox().0, 4, "nothing is acknowledged");
    steps(&mut first);
    assert_eq!(figures.lock().expect("figures").trouble, None);
    assert_eq!(seqs(&one), [1, 2, 3, 4]);
    assert_eq!(cluster.outbox().0, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Calls come, the process is killed in the middle of a line, the cluster does not hear, files are moved away: in
    /// the end every record is in the files of each node once, in order.
    #[test]
    fn every_record_is_there_once_whatever_fails(
        ops in proptest::collection::vec((0u8..6, 0u16..2, 0usize..400), 1..60)
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let paths = [dir.path().join("one.jsonl"), dir.path().join("two.jsonl")];
        let cluster = Fake::default();
        let make = |n: u16| writer(&cluster, n + 1, &[1, 2], Some(&paths[usize::from(n)]));
        let mut writers = [make(0), make(1)];
        let mut moved = [0, 0];
        let mut calls = 0;
        for (op, who, cut) in ops {
            let n = usize::from(who);
            match op {
                0 | 1 => {
                    calls += 1;
                    cluster.call(calls);
                }
                2 | 3 => { writers[n].step(); }
                4 => {
                    // Killed, and the last write was torn: but only what was not acknowledged can be.
                    *cluster.refuses.lock().expect("refuses") = true;
                    writers[n].step();
                    *cluster.refuses.lock().expect("refuses") = false;
                    let known = cluster.read(|s| s.outbox().place(who + 1).flatten()).unwrap_or(0);
                    if let Ok(bytes) = std::fs::read(&paths[n]) {
                        let text = String::from_utf8(bytes).expect("text");
                        let safe: usize = text
                            .split_inclusive('\n')
                            .take_while(|l| serde_json::from_str::<serde_json::Value>(l)
                                .is_ok_and(|v| v["seq"].as_u64().is_some_and(|seq| seq <= known)))
                            .map(str::len)
                            .sum();
                        std::fs::write(&paths[n], &text[..(safe + cut).min(text.len())]).expect("writes");
                    }
                    writers[n] = make(who);
                }
                _ => {
                    moved[n] += 1;
                    if paths[n].exists() {
                        let name = format!("{}.{}", paths[n].display(), moved[n]);
                        std::fs::rename(&paths[n], name).expect("moves");
                    }
                }
            }
        }
        for _ in 0..8 {
            writers.iter_mut().for_each(|w| { w.step(); });
        }
        for (n, path) in paths.iter().enumerate() {
            let mut all = Vec::new();
            for number in 1..=moved[n] {
                all.extend(seqs(Path::new(&format!("{}.{number}", path.display()))));
            }
            all.extend(seqs(path));
            prop_assert_eq!(all, (1..=calls * 2).collect::<Vec<u64>>());
        }
        prop_assert_eq!(cluster.outbox().0, 0);
    }
}
