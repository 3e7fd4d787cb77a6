//! The program as it runs in a cluster with a floating IP: guard and agent of one appliance at the near end of a wire,
//! the other appliance and a witness at the far end. Who asks the floating IP sits at the far end, too. Needs root; says
//! so without.

mod common;
#[path = "common/site.rs"]
mod site;
#[expect(dead_code, reason = "each test program uses its part")]
#[path = "common/wire.rs"]
mod wire;

use std::fs;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use common::{PATIENCE, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use site::{RELEVO, Site};
use wire::Wire;

const VIP: &str = "10.99.0.100";
/// The nodes' Raft addresses; 1 is near.
const NODES: [(&str, &str); 3] =
    [("appliance", "10.99.0.1:7400"), ("appliance", "10.99.0.2:7400"), ("witness", "10.99.0.2:7401")];

struct Lab {
    guards: [Option<Child>; 3],
    site: Site,
    wire: Wire,
}

fn pid_of(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a pid"))
}

/// Dead, or dead and waiting to be buried.
fn is_dead(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"))
}

impl Lab {
    /// Node 1, at the near end, holds the floating IP.
    fn up() -> Option<Self> {
        let wire = Wire::new()?;
        let mut lab = Self { guards: [None, None, None], site: Site::new(), wire };
        for n in 1..=3 {
            lab.write_config(n);
            lab.start(n);
        }
        until("a node is active", || (1..=2).find(|n| lab.is_active(*n)));
        until("node 1 is active", || {
            // Refused while the other one has not caught up.
            let _ = lab.say(2, &["switchover", "1"]);
            lab.is_active(1).then_some(())
        });
        until("all have caught up", || {
            let applied = lab.say(1, &["status"])?["applied"].clone();
            (2..=3).all(|n| lab.say(n, &["status"]).is_some_and(|s| s["applied"] == applied)).then_some(())
        });
        assert!(lab.wire.near_has(VIP) && lab.nft_leases().contains("expires"));
        Some(lab)
    }

    fn write_config(&self, n: usize) {
        let sip = format!("[sip]\nengines = 1\n[vip]\ninterface = \"v0\"\naddresses = [\"{VIP}/24\"]\n");
        self.site.configure(n, &sip, &NODES.map(|(role, addr)| (role, addr.to_owned())));
    }

    fn start(&mut self, n: usize) {
        let end = if n == 1 { &self.wire.near } else { &self.wire.far };
        // `ip netns exec` becomes the program that it starts.
        self.guards[n - 1] = Some(self.site.start(n, &["ip", "netns", "exec", end]));
    }

    fn say(&self, n: usize, args: &[&str]) -> Option<Value> {
        self.site.say(n, args).ok()
    }

    fn is_active(&self, n: usize) -> bool {
        self.say(n, &["status"]).is_some_and(|s| s["active"] == true)
    }

    fn guard(&self) -> Pid {
        pid_of(self.guards[0].as_ref().expect("running").id())
    }

    fn agent(&self) -> Option<Pid> {
        let guard = self.guard();
        let below = fs::read_to_string(format!("/proc/{guard}/task/{guard}/children")).ok()?;
        below.split_whitespace().next().map(|pid| Pid::from_raw(pid.parse().expect("a pid")))
    }

    /// What is neither at the near end nor opened there; returns how long that took.
    fn near_is_down_since(&self, began: Instant) -> Duration {
        until("the floating IP is gone from the interface", || (!self.wire.near_has(VIP)).then_some(()));
        let took = began.elapsed();
        let sets = self.nft_leases();
        assert!(!sets.contains("expires"), "the gate is closed: {sets}");
        took
    }

    fn nft_leases(&self) -> String {
        let out = Command::new("ip")
            .args(["netns", "exec", &self.wire.near, "nft", "list", "table", "inet", "relevo"])
            .output()
            .expect("nft");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn node_2_takes_over_since(&self, began: Instant) -> Duration {
        until("node 2 is active", || self.is_active(2).then_some(()));
        began.elapsed()
    }

    fn ended(&mut self) -> ExitStatus {
        let mut guard = self.guards[0].take().expect("running");
        until("the guard ends", || guard.try_wait().expect("waited"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
        }
        for mut guard in self.guards.iter_mut().filter_map(Option::take) {
            // The agent goes with it.
            let _ = guard.kill();
            let _ = guard.wait();
        }
    }
}

impl Lab {
    /// For a test that has failed: what each node thinks and has logged, and what near's kernel has. Panics at nothing.
    fn explain(&self) {
        let said = |args: &[&str]| match Command::new(args[0]).args(&args[1..]).output() {
            Ok(out) => [out.stdout, out.stderr].map(|o| String::from_utf8_lossy(&o).into_owned()).concat(),
            Err(e) => format!("{args:?}: {e}"),
        };
        let near = &self.wire.near;
        eprintln!("near:\n{}", said(&["ip", "-n", near, "-o", "addr", "show", "dev", "v0"]));
        eprintln!("{}", said(&["ip", "netns", "exec", near, "nft", "list", "ruleset"]));
        eprintln!("load: {}", said(&["cat", "/proc/loadavg"]));
        for n in 1..=3 {
            let socket = self.site.home(n).join("a.sock").display().to_string();
            let status = said(&["timeout", "5", RELEVO, "status", "--json", "--admin", &socket]);
            let guard = self.guards[n - 1].as_ref().map_or(0, Child::id).to_string();
            let processes =
                said(&["ps", "-o", "pid,ppid,stat,wchan:20,args", "--pid", &guard, "--ppid", &guard]);
            eprintln!("node {n}:\n{processes}{status}\n{}", self.site.log(n));
        }
    }
}

fn lost_agent(signal: Signal) {
    let Some(lab) = Lab::up() else { return };
    let agent = lab.agent().expect("an agent");
    let began = Instant::now();
    kill(agent, signal).expect("sent");
    let down = lab.near_is_down_since(began);
    let taken = lab.node_2_takes_over_since(began);
    println!("{signal} to the agent: address gone seen after {down:?}, node 2 seen active after {taken:?}");
    until("the guard has started another agent, which follows", || {
        lab.agent().filter(|a| *a != agent).and(lab.say(1, &["status"])).filter(|s| s["holder"] == 2)
    });
    assert!(is_dead(agent));
    assert!(!lab.wire.near_has(VIP), "and does not take the floating IP back");
    assert!(lab.wire.far_pings("10.99.0.1"));
}

#[test]
fn when_the_agent_is_killed_the_other_appliance_takes_over_and_the_guard_starts_a_new_agent() {
    lost_agent(Signal::SIGKILL);
}

#[test]
fn when_the_agent_is_stopped_it_is_killed_and_the_other_appliance_takes_over() {
    lost_agent(Signal::SIGSTOP);
}

#[test]
fn when_the_guard_is_killed_its_agent_dies_and_the_other_appliance_takes_over() {
    let Some(mut lab) = Lab::up() else { return };
    let agent = lab.agent().expect("an agent");
    let began = Instant::now();
    kill(lab.guard(), Signal::SIGKILL).expect("sent");
    until("the agent is dead", || is_dead(agent).then_some(()));
    let dead = began.elapsed();
    let taken = lab.node_2_takes_over_since(began);
    println!("SIGKILL to the guard: agent dead after {dead:?}, node 2 seen active after {taken:?}");
    // Nobody is left who could remove it: its lifetime of whole seconds ends it.
    lab.near_is_down_since(began);
    assert!(!lab.ended().success());
}

fn ends_cleanly(ask: impl Fn(&Lab, Pid, Pid)) {
    let Some(mut lab) = Lab::up() else { return };
    let (guard, agent) = (lab.guard(), lab.agent().expect("an agent"));
    let began = Instant::now();
    ask(&lab, guard, agent);
    let status = lab.ended();
    let ended = began.elapsed();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(is_dead(agent) && !lab.wire.near_has(VIP));
    let taken = lab.node_2_takes_over_since(began);
    println!("clean end: ended after {ended:?}, node 2 seen active after {taken:?}");
    assert!(ended < PATIENCE);
}

#[test]
fn sigterm_hands_over_and_ends_guard_and_agent_with_success() {
    ends_cleanly(|_, guard, _| kill(guard, Signal::SIGTERM).expect("sent"));
}

#[test]
fn ctrl_c_which_reaches_guard_and_agent_hands_over_as_sigterm_does() {
    ends_cleanly(|lab, guard, agent| {
        kill(agent, Signal::SIGINT).expect("sent");
        // Taken, so that the second one does not become one with it.
        until("the agent hands over", || lab.site.log(1).contains("SIGINT: handing over").then_some(()));
        kill(guard, Signal::SIGINT).expect("sent");
    });
}

#[test]
fn a_cluster_node_that_cannot_start_is_one_message_and_not_started_again() {
    let Some(mut lab) = Lab::up() else { return };
    kill(lab.guard(), Signal::SIGTERM).expect("sent");
    assert!(lab.ended().success());
    let fails = |lab: &mut Lab, word: &str| {
        fs::write(lab.site.home(1).join("log"), "").expect("emptied");
        lab.start(1);
        let status = lab.ended();
        let log = lab.site.log(1);
        assert!(!status.success(), "{log}");
        assert_eq!(log.lines().filter(|l| l.starts_with("relevo: ")).count(), 1, "{log}");
        assert!(log.contains(word) && !log.contains("started again"), "{log}");
    };
    let file = lab.site.home(1).join("r.toml");
    let right = fs::read_to_string(&file).expect("config");
    fs::write(&file, right.replace("heartbeat_ms", "heartbeat")).expect("written");
    fails(&mut lab, "heartbeat");
    fs::write(&file, right.replace("name = \"t\"", "name = \"other\"")).expect("written");
    fails(&mut lab, "other");
    fs::write(&file, &right).expect("written");
    let taken =
        Wire::within(&lab.wire.near, || std::net::TcpListener::bind("10.99.0.1:7400").expect("bound"));
    fails(&mut lab, "7400");
    drop(taken);
}
