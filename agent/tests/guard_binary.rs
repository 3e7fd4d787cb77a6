//! The program under its guard in a real kernel: a single node with a floating IP ends as it should. Needs root.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wire::Wire;

#[path = "common/wire.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod wire;

const VIP: &str = "10.99.0.100";
const PATIENCE: Duration = Duration::from_secs(30);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_clean_end_of_a_guarded_node_is_exit_code_0_each_time_and_leaves_no_address() {
    let Some(wire) = Wire::new() else { return };
    wire.far_knows(VIP);
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let config = format!(
        "[vip]\ninterface = \"v0\"\naddresses = [\"{VIP}/24\"]\n[node]\ndata = \"{}\"\n",
        path("data")
    );
    fs::write(path("r.toml"), config).expect("written");
    // The end is a race between agent and guard: once is no proof.
    for round in 0..6 {
        let child = Command::new("ip")
            .args(["netns", "exec", &wire.near, env!("CARGO_BIN_EXE_relevo"), "run", "--config"])
            .arg(path("r.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log")).expect("log"))
            .spawn()
            .expect("started");
        let mut node = Running(child);
        let end = Instant::now() + PATIENCE;
        let log = || fs::read_to_string(path("log")).unwrap_or_default();
        while !wire.far_pings(VIP) {
            assert!(Instant::now() < end, "round {round}: the floating IP answers\n{}", log());
        }
        kill(Pid::from_raw(node.0.id() as i32), Signal::SIGTERM).expect("asked to end");
        let status = loop {
            if let Some(status) = node.0.try_wait().expect("waited") {
                break status;
            }
            assert!(Instant::now() < end, "round {round}: it ends\n{}", log());
            std::thread::park_timeout(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0), "round {round}\n{}", log());
        assert!(!wire.near_has(VIP), "round {round}");
    }
}
