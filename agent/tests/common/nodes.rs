//! Nodes as processes on loopback addresses, without floating IP and without any right.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::{free_port, until};

const RELEVO: &str = env!("CARGO_BIN_EXE_relevo");
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// One node, or two appliances and a witness. All ends when this is dropped.
pub struct Nodes {
    pub dir: tempfile::TempDir,
    port: u16,
    raft: u16,
    base: u8,
    children: Vec<Option<Child>>,
}

impl Nodes {
    /// Starts `count` nodes (1 or 3) at 127.0.0.`base`+n, with this text at the end of each configuration, and waits
    /// until one is active. Tests of one program take different bases.
    pub fn up(count: usize, base: u8, rest: &str) -> Self {
        let mut nodes = Self {
            dir: tempfile::tempdir().expect("tempdir"),
            // sipsak cuts longer port numbers to four digits.
            port: free_port() % 9000 + 1024,
            raft: free_port(),
            base,
            children: (0..count).map(|_| None).collect(),
        };
        for n in 1..=count {
            nodes.write_config(n, rest);
            nodes.start(n);
        }
        nodes.active();
        nodes
    }

    pub fn home(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("n{n}"))
    }

    fn ip(&self, n: usize) -> IpAddr {
        IpAddr::from([127, 0, 0, self.base + u8::try_from(n).expect("small")])
    }

    pub fn proxy(&self, n: usize) -> SocketAddr {
        SocketAddr::new(self.ip(n), self.port)
    }

    fn write_config(&self, n: usize, rest: &str) {
        fs::create_dir_all(self.home(n)).expect("folder");
        let home = self.home(n);
        let mut text = format!(
            "[node]\nid = {n}\ndata = \"{0}/data\"\nadmin = \"{0}/a.sock\"\n[sip]\nport = {1}\nlisten = [\"{2}\"]\n\
             domains = [\"lab.test\"]\nengines = 2\n",
            home.display(),
            self.port,
            self.ip(n),
        );
        if self.children.len() > 1 {
            text += &format!(
                "[cluster]\nname = \"t\"\nkey = \"{KEY}\"\nheartbeat_ms = 60\nelection_min_ms = 200\n\
                 election_max_ms = 400\n"
            );
            for m in 1..=self.children.len() {
                let role = if m == 3 { "witness" } else { "appliance" };
                let addr = SocketAddr::new(self.ip(m), self.raft);
                text += &format!("[[cluster.node]]\nid = {m}\nrole = \"{role}\"\naddr = \"{addr}\"\n");
            }
        }
        fs::write(home.join("r.toml"), text + rest).expect("config");
    }

    pub fn start(&mut self, n: usize) {
        let log = fs::File::options().create(true).append(true).open(self.home(n).join("log")).expect("log");
        let child = Command::new(RELEVO)
            .args(["run", "--config"])
            .arg(self.home(n).join("r.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("relevo starts");
        self.children[n - 1] = Some(child);
    }

    /// The agent and its guard, if it has one, die as in a loss of power.
    pub fn kill(&mut self, n: usize) {
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

    /// Runs a command of `relevo` against node `n`, with this on its standard input.
    pub fn say(&self, n: usize, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(RELEVO)
            .args(args)
            .arg("--admin")
            .arg(self.home(n).join("a.sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("relevo");
        // Who asks for no password has closed it already.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        child.wait_with_output().expect("output")
    }

    /// What it prints, if it succeeds.
    pub fn ok(&self, n: usize, args: &[&str], input: &str) -> String {
        let out = self.say(n, args, input);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// What it complains of, with exit code `code`.
    pub fn fails(&self, n: usize, code: i32, args: &[&str], input: &str) -> String {
        let out = self.say(n, args, input);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains("cure: "), "{said}");
        said
    }

    pub fn json(&self, n: usize, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        serde_json::from_str(&self.ok(n, &all, "")).expect("JSON")
    }

    /// Waits until exactly one node is active and returns it.
    pub fn active(&self) -> usize {
        until("one active node", || {
            let is_active = |n: &usize| {
                let out = self.say(*n, &["status", "--json"], "");
                serde_json::from_slice::<Value>(&out.stdout).is_ok_and(|v| v["active"] == true)
            };
            let list: Vec<usize> = (1..=self.children.len()).filter(is_active).collect();
            (list.len() == 1).then(|| list[0])
        })
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        (1..=self.children.len()).for_each(|n| self.kill(n));
    }
}
