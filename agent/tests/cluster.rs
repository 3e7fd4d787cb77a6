//! Three nodes as three processes on loopback addresses, without floating IP and without any right: what the cluster
//! does by itself. (The floating IP is the lab's matter.)

mod common;
#[path = "common/site.rs"]
mod site;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Child;

use common::ua::Ua;
use common::{free_port, until};
use serde_json::Value;
use site::Site;

struct Lab {
    site: Site,
    port: u16,
    raft: u16,
    children: [Option<Child>; 3],
}

impl Lab {
    fn up() -> Self {
        let mut lab =
            Self { site: Site::new(), port: free_port(), raft: free_port(), children: [None, None, None] };
        for n in 1..=3 {
            lab.write_config(n);
            lab.start(n);
        }
        lab.active();
        lab
    }

    /// Each node answers SIP on a loopback address of its own: 127.0.0.11, .12, (.13).
    fn ip(n: usize) -> IpAddr {
        IpAddr::from([127, 0, 0, 10 + u8::try_from(n).expect("small")])
    }

    fn proxy(&self, n: usize) -> SocketAddr {
        SocketAddr::new(Self::ip(n), self.port)
    }

    fn write_config(&self, n: usize) {
        let nodes = [(1, "appliance"), (2, "appliance"), (3, "witness")]
            .map(|(m, role)| (role, SocketAddr::new(Self::ip(m), self.raft).to_string()));
        let sip = format!("[sip]\nport = {}\nlisten = [\"{}\"]\nengines = 2\n", self.port, Self::ip(n));
        self.site.configure(n, &sip, &nodes);
    }

    fn start(&mut self, n: usize) {
        self.children[n - 1] = Some(self.site.start(n, &[]));
    }

    /// The agent and its guard, if it has one, die as in a loss of power.
    fn kill(&mut self, n: usize) {
        let Some(mut child) = self.children[n - 1].take() else { return };
        let below =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        let _ = child.kill();
        for pid in below.split_whitespace().filter_map(|p| p.parse().ok()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = child.wait();
    }

    fn say(&self, n: usize, args: &[&str]) -> Result<Value, String> {
        self.site.say(n, args)
    }

    fn status(&self, n: usize) -> Option<Value> {
        self.say(n, &["status"]).ok()
    }

    /// Waits until exactly one node is active and returns it.
    fn active(&self) -> usize {
        until("one active node", || {
            let all: Vec<usize> =
                (1..=3).filter(|n| self.status(*n).is_some_and(|s| s["active"] == true)).collect();
            assert!(all.len() <= 1, "{all:?} are active");
            all.first().copied()
        })
    }

    fn caught_up(&self, n: usize, with: usize) {
        until("the node has caught up", || {
            let (a, b) = (self.status(n)?, self.status(with)?);
            (a["applied"] == b["applied"] && a["holder"] == b["holder"] && a["counts"] == b["counts"])
                .then_some(())
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for n in 1..=3 {
            self.kill(n);
            if std::thread::panicking() {
                let log = self.site.log(n);
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("node {n}:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
            }
        }
    }
}

#[test]
fn a_registration_and_a_ringing_call_survive_the_loss_of_the_active_node_which_comes_back_and_takes_its_turn()
{
    let mut lab = Lab::up();
    let first = lab.active();
    let second = 3 - first;
    let mut bob = Ua::new("bob", lab.proxy(first));
    let mut alice = Ua::new("alice", lab.proxy(first));
    assert_eq!(bob.register(300).status(), 200);
    alice.invite("bob", "over-the-loss");
    let invite = bob.expect("INVITE");
    bob.respond(&invite, "180 Ringing", "b");
    alice.expect("180");
    lab.kill(first);

    until("the other appliance is active", || (lab.status(second)?["active"] == true).then_some(()));
    let status = lab.status(second).expect("status");
    assert_eq!(status["counts"]["bindings"], 1, "{status}");
    assert_eq!(status["counts"]["pending_invites"], 1, "{status}");
    assert_eq!(lab.status(3).expect("witness")["holder"], second as u64);
    let again = bob.expect("INVITE");
    assert_eq!(again.one("Call-ID"), "over-the-loss");

    lab.start(first);
    until("the node is back", || lab.status(first).map(|_| ()));
    lab.caught_up(first, second);
    assert_eq!(lab.active(), second, "no automatic failback");

    // Asked on the standby: it takes over itself.
    let said = lab.say(first, &["switchover"]).expect("switchover");
    assert_eq!(said["holder"], first as u64);
    until("the first is active again", || (lab.status(first)?["active"] == true).then_some(()));
    // Asked on the witness, by name.
    let said = lab.say(3, &["switchover", &second.to_string()]).expect("switchover");
    assert_eq!(said["holder"], second as u64);
    until("the second is active again", || (lab.status(second)?["active"] == true).then_some(()));
    assert!(lab.say(second, &["switchover", "3"]).is_err_and(|e| e.contains("only an appliance")));
    assert!(lab.say(second, &["switchover", &second.to_string()]).is_err_and(|e| e.contains("already")));
}

#[test]
fn a_clean_end_of_the_active_node_hands_over_before_it() {
    let mut lab = Lab::up();
    let first = lab.active();
    let second = 3 - first;
    lab.caught_up(second, first);
    lab.caught_up(3, first);
    let child = lab.children[first - 1].as_mut().expect("running");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("pid")),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("signal");
    let status = until("it has ended", || child.try_wait().expect("wait"));
    assert_eq!(status.code(), Some(0));
    // Not an election: the grant names the heir because the leaving node said so.
    let status = lab.status(second).expect("status");
    assert_eq!(
        (&status["leader"], &status["holder"]),
        (&(second as u64).into(), &(second as u64).into()),
        "{status}"
    );
    lab.children[first - 1] = None;
    until("the other is active", || (lab.status(second)?["active"] == true).then_some(()));
}

#[test]
fn without_a_majority_nobody_is_active_and_with_it_again_somebody_is() {
    let mut lab = Lab::up();
    let first = lab.active();
    let second = 3 - first;
    lab.kill(second);
    lab.kill(3);
    until("the lonely node gives up", || (lab.status(first)?["active"] == false).then_some(()));
    let refused = lab.say(first, &["ul", "rm", "sip:nobody@nowhere"]);
    assert!(refused.is_err_and(|e| e.contains("relevo status")), "nothing can be committed");
    lab.start(3);
    lab.active();
}
