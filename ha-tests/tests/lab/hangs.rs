//! One thread of the active node stops, and nothing else; or its disk does. Heartbeats go on, and all the same another node
//! serves a few seconds later. Needs root, the lab's packages and a freezer of cgroups (v1, or v2 with threaded groups); says so
//! on stderr without, whatever the test runner keeps to itself.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{active, all_agree, lab, until};
use crate::phone::Phone;
use ha_tests::lab::config::DOMAIN;
use ha_tests::lab::state::{LabState, Node};

/// Where cgroup v1 lets single threads be stopped.
const FREEZER: &str = "/sys/fs/cgroup/freezer";
/// Where cgroup v2 may be, alone or beside v1.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// What is promised: another node serves 3 s after a part of the holder hangs, and a switchover (1 s) later.
const PROMISED: Duration = Duration::from_secs(4);
/// For a machine with two cores that has other work: 30 were seen to take 0.3 to 3.6 s on a busy one.
const MARGIN: Duration = Duration::from_secs(4);
/// By then another node serves.
const LIMIT: Duration = PROMISED.saturating_add(MARGIN);
/// Time that a phone waits for an answer before it asks again.
const AGAIN: Duration = Duration::from_millis(500);

/// What stops single threads on this machine.
#[derive(Clone)]
enum Freezer {
    V1,
    /// With the folder of the root group. Threads are stopped in a threaded group below one that has their process.
    V2(PathBuf),
}

impl Freezer {
    fn find() -> Option<Self> {
        if Path::new(FREEZER).join("tasks").exists() {
            return Some(Self::V1);
        }
        let root = UNIFIED.map(PathBuf::from).into_iter().find(|root| root.join("cgroup.procs").exists())?;
        // Whether it can be done here is only known when it was: a container may have a part of it.
        let group = root.join(format!("relevo-test-{}", std::process::id()));
        let made = fs::create_dir_all(group.join("t"));
        let threaded = made.and_then(|()| fs::write(group.join("t/cgroup.type"), "threaded"));
        let can = threaded.is_ok() && group.join("t/cgroup.freeze").exists();
        let _ = fs::remove_dir(group.join("t")).and_then(|()| fs::remove_dir(&group));
        can.then_some(Self::V2(root))
    }
}

/// A thread that is stopped until this is dropped.
struct Frozen {
    freezer: Freezer,
    group: PathBuf,
    pid: String,
    tid: String,
}

impl Frozen {
    fn new(freezer: &Freezer, node: &Node, name: &str) -> Self {
        let agent = node.agent().expect("it runs").pid;
        let tasks = fs::read_dir(format!("/proc/{agent}/task")).expect("its threads");
        let is_it =
            |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
        let task = tasks.flatten().map(|entry| entry.path()).find(is_it).expect("the thread");
        let tid = task.file_name().expect("a number").to_string_lossy().into_owned();
        let root = match freezer {
            Freezer::V1 => Path::new(FREEZER),
            Freezer::V2(root) => root,
        };
        let group = root.join(format!("relevo-test-{tid}"));
        fs::create_dir(&group).expect("a group");
        let frozen = Self { freezer: freezer.clone(), group, pid: agent.to_string(), tid };
        match freezer {
            Freezer::V1 => {
                fs::write(frozen.group.join("tasks"), &frozen.tid).expect("moved");
                fs::write(frozen.group.join("freezer.state"), "FROZEN").expect("stopped");
            }
            Freezer::V2(_) => {
                let threads = frozen.group.join("t");
                fs::create_dir(&threads).expect("a group for the thread");
                fs::write(threads.join("cgroup.type"), "threaded").expect("threaded");
                fs::write(frozen.group.join("cgroup.procs"), &frozen.pid).expect("moved");
                fs::write(threads.join("cgroup.threads"), &frozen.tid).expect("the thread, too");
                fs::write(threads.join("cgroup.freeze"), "1").expect("stopped");
            }
        }
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Its process may have been ended meanwhile.
        match &self.freezer {
            Freezer::V1 => {
                let _ = fs::write(self.group.join("freezer.state"), "THAWED");
                let _ = fs::write(Path::new(FREEZER).join("tasks"), &self.tid);
            }
            Freezer::V2(root) => {
                let threads = self.group.join("t");
                let _ = fs::write(threads.join("cgroup.freeze"), "0");
                let _ = fs::write(root.join("cgroup.procs"), &self.pid);
                let _ = fs::remove_dir(threads);
            }
        }
        let _ = fs::remove_dir(&self.group);
    }
}

/// A file system on which nothing is written until this is dropped.
struct FrozenDisk<'a>(&'a Node);

impl<'a> FrozenDisk<'a> {
    fn new(node: &'a Node) -> Option<Self> {
        let frozen = Command::new("fsfreeze").arg("-f").arg(&node.disk).status().is_ok_and(|s| s.success());
        frozen.then_some(Self(node))
    }
}

impl Drop for FrozenDisk<'_> {
    fn drop(&mut self) {
        // Whatever came of the test: nothing could be unmounted otherwise.
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0.disk).status();
    }
}

/// Says on stderr, past the test runner, what was not tried.
fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED, NOT TRIED: {what} ***");
}

fn freezer() -> Option<Freezer> {
    let freezer = Freezer::find();
    if freezer.is_none() {
        skipped(
            "threads that hang: no freezer of cgroup v1, and no threaded groups of cgroup v2 with cgroup.freeze",
        );
    }
    freezer
}

/// Registers until it is answered, each time as another call, so that every engine is asked.
fn registered(phone: &mut Phone, calls: &mut u32) {
    until("a registration is acknowledged", || {
        *calls += 1;
        let headers = format!("From: <{0}>;tag=r\r\nTo: <{0}>\r\nExpires: 3600\r\n", phone.uri());
        let call = format!("hang-{calls}");
        let request = phone.request("REGISTER", &format!("sip:{DOMAIN}"), &call, 1, &headers, "");
        phone.send(&request);
        phone.within_time(AGAIN, |m| m.starts_with("SIP/2.0 200") && m.contains(&call)).is_some()
    });
}

/// Registers until another node than this one has acknowledged it.
fn served_elsewhere(lab: &LabState, phone: &mut Phone, calls: &mut u32, than: &Node, what: &str) {
    let begun = Instant::now();
    let is_elsewhere = || {
        let mut others = lab.nodes.iter().filter(|n| n.id != than.id);
        others.any(|n| ha_tests::lab::status::ask(lab, n).is_ok_and(|s| s.active))
    };
    until("another node is active", || {
        *calls += 1;
        let headers = format!("From: <{0}>;tag=r\r\nTo: <{0}>\r\nExpires: 3600\r\n", phone.uri());
        let request =
            phone.request("REGISTER", &format!("sip:{DOMAIN}"), &format!("hang-{calls}"), 1, &headers, "");
        phone.send(&request);
        is_elsewhere()
    });
    registered(phone, calls);
    println!("{what}: served elsewhere after {:?}", begun.elapsed());
    assert!(begun.elapsed() < LIMIT, "{what}: {:?}", begun.elapsed());
}

#[test]
fn a_holder_one_of_whose_threads_hangs_gives_the_service_to_another_node() {
    let Some(freezer) = freezer() else { return };
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let (mut phone, mut calls) = (Phone::open(lab, "alice", 5071), 0);
    for name in ["relevo-apply", "relevo-log", "relevo-sip-0", "relevo-udp", "relevo-raft"] {
        until("all nodes agree", || all_agree(lab));
        registered(&mut phone, &mut calls);
        let node = active(lab);
        let frozen = Frozen::new(&freezer, &node, name);
        served_elsewhere(lab, &mut phone, &mut calls, &node, name);
        drop(frozen);
    }
    until("all nodes agree", || all_agree(lab));
}

#[test]
fn a_holder_whose_disk_is_frozen_gives_the_service_to_another_node() {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let (mut phone, mut calls) = (Phone::open(lab, "alice", 5071), 0);
    registered(&mut phone, &mut calls);
    let node = active(lab);
    let Some(frozen) = FrozenDisk::new(&node) else {
        return skipped("a disk that hangs: the disk of a node cannot be frozen here (fsfreeze)");
    };
    served_elsewhere(lab, &mut phone, &mut calls, &node, "a frozen disk");
    drop(frozen);
    until("all nodes agree", || all_agree(lab));
}

#[test]
fn a_follower_whose_log_hangs_is_named_and_not_felt() {
    let Some(freezer) = freezer() else { return };
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let (mut phone, mut calls) = (Phone::open(lab, "alice", 5071), 0);
    until("all nodes agree", || all_agree(lab));
    let node = active(lab);
    let other = lab.nodes.iter().find(|n| n.id != node.id).expect("another").clone();
    let frozen = Frozen::new(&freezer, &other, "relevo-log");
    let said = format!("node {} is heard, and has acknowledged no entries", other.id);
    until("it is named in the log of the active node", || {
        registered(&mut phone, &mut calls);
        fs::read_to_string(&node.log).is_ok_and(|log| log.contains(&said))
    });
    // While it hangs it cannot agree with the others, which `active` waits for.
    drop(frozen);
    assert_eq!(active(lab).id, node.id, "the service stays");
}
