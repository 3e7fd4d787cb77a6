//! The program as a single node on 127.0.0.1, with one engine.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{free_port, until};

/// A single node in a folder of its own; killed when dropped.
pub struct Node {
    dir: tempfile::TempDir,
    pub proxy: SocketAddr,
    child: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Node {
    /// One engine: then what comes first is answered first, and the answer to a later request shows that an earlier
    /// one got none. `more` is further configuration.
    pub fn start(domains: &[&str], more: &str) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let port = free_port();
        let text = format!(
            "[sip]\nport = {port}\nlisten = [\"127.0.0.1\"]\nengines = 1\ndomains = {domains:?}\n[node]\ndata = \"{}\"\n{more}",
            dir.path().join("data").display(),
        );
        std::fs::write(dir.path().join("r.toml"), text).expect("write");
        let log = std::fs::File::create(dir.path().join("log")).expect("log");
        let child = Command::new(env!("CARGO_BIN_EXE_relevo"))
            .args(["run", "--config"])
            .arg(dir.path().join("r.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("relevo starts");
        let mut node = Self { dir, proxy: SocketAddr::from(([127, 0, 0, 1], port)), child };
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
        until("the node answers", || {
            let ended = node.child.try_wait().expect("wait");
            assert!(ended.is_none(), "{}", node.log());
            socket.send_to(knock(&socket, node.proxy, 0).as_bytes(), node.proxy).expect("send");
            socket.recv(&mut [0; 2000]).ok().map(drop)
        });
        node
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("r.toml")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What the program says to a command.
    pub fn say(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_relevo"))
            .args(args)
            .arg("--config")
            .arg(self.file())
            .output()
            .expect("relevo runs")
    }
}

/// Asks the proxy for itself; the answer bears the number.
pub fn knock(socket: &UdpSocket, host: SocketAddr, number: usize) -> String {
    let from = socket.local_addr().expect("bound");
    format!(
        "OPTIONS sip:{host} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKknock{number};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:probe@{host}>;tag=p\r\nTo: <sip:{host}>\r\nCall-ID: knock-{number}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    )
}
