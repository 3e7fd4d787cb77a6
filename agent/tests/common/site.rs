//! Three nodes of one cluster as processes: folder, configuration, log and admin socket of each.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// The program.
pub const RELEVO: &str = env!("CARGO_BIN_EXE_relevo");
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// The folders.
pub struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("tempdir") }
    }

    pub fn home(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("n{n}"))
    }

    /// Writes the configuration of node `n`: `more` is what its SIP side needs, `nodes` has role and address of all.
    pub fn configure(&self, n: usize, more: &str, nodes: &[(&str, String); 3]) {
        let home = self.home(n);
        fs::create_dir_all(&home).expect("folder");
        let mut text = format!(
            "[node]\nid = {n}\ndata = \"{0}/data\"\nadmin = \"{0}/a.sock\"\n{more}[cluster]\nname = \"t\"\n\
             key = \"{KEY}\"\nheartbeat_ms = 60\nelection_min_ms = 200\nelection_max_ms = 400\n",
            home.display(),
        );
        for (m, (role, addr)) in (1..).zip(nodes) {
            text += &format!("[[cluster.node]]\nid = {m}\nrole = \"{role}\"\naddr = \"{addr}\"\n");
        }
        fs::write(home.join("r.toml"), text).expect("config");
    }

    /// Starts node `n`, by `before` and its arguments if there are any.
    pub fn start(&self, n: usize, before: &[&str]) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.home(n).join("log")).expect("log");
        let (program, args) = match before {
            [] => (RELEVO, Vec::new()),
            [program, args @ ..] => (*program, [args, &[RELEVO]].concat()),
        };
        Command::new(program)
            .args(args)
            .args(["run", "--config"])
            .arg(self.home(n).join("r.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("relevo starts")
    }

    /// What node `n` answers to a command, or its complaint.
    pub fn say(&self, n: usize, args: &[&str]) -> Result<Value, String> {
        let socket = self.home(n).join("a.sock");
        let out = Command::new(RELEVO)
            .args(args)
            .arg("--json")
            .arg("--admin")
            .arg(socket)
            .output()
            .expect("relevo");
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).into_owned());
        }
        Ok(serde_json::from_slice(&out.stdout).expect("JSON"))
    }

    pub fn log(&self, n: usize) -> String {
        fs::read_to_string(self.home(n).join("log")).unwrap_or_default()
    }
}
