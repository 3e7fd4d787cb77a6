//! A stage: a network namespace of its own with one proxy on 10.77.9.1:5060 and phones around it, and everything the
//! phones hear.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::asking;
use crate::common::ua::Message;
use crate::common::{PATIENCE, until};

pub const PROXY: &str = "10.77.9.1";
/// Nothing more comes when nothing has come for so long: both answer within a few milliseconds.
const HUSH: Duration = Duration::from_millis(350);
/// How long a phone waits for what a scenario needs to go on; then the scenario ends there, which is a result, too.
const REACTION: Duration = Duration::from_millis(1500);

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Kamailio,
    Relevo,
}

/// Why a scenario does not go on: what it waited for.
#[derive(Debug)]
pub struct Stopped;

pub struct Stage {
    dir: tempfile::TempDir,
    child: Child,
    phones: BTreeMap<&'static str, UdpSocket>,
    /// What each phone has heard, in order, without repetitions.
    pub heard: BTreeMap<&'static str, Vec<Message>>,
    seen: BTreeSet<(&'static str, Vec<u8>)>,
    /// Marks Call-IDs and branches of one scenario.
    pub scene: String,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Kamailio ends its children on SIGTERM; a main process killed hard would leave them.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(args: &[&str]) {
    let out = Command::new(args[0]).args(&args[1..]).output().expect("started");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// The tables of the package with the users of `asking`, in the form of Kamailio's `db_text`.
fn text_database(dir: &Path) -> PathBuf {
    let tables = dir.join("tables");
    let source = "/usr/share/kamailio/dbtext/kamailio";
    run(&["cp", "-r", source, &tables.display().to_string()]);
    let add = |table: &str, row: String| {
        let mut file = OpenOptions::new().append(true).open(tables.join(table)).expect("a table");
        writeln!(file, "{row}").expect("written");
    };
    for (n, (user, password)) in asking::USERS.into_iter().enumerate() {
        add("subscriber", format!("{}:{user}:{PROXY}:{password}:-:-", n + 1));
    }
    let (alias, user) = asking::ALIAS;
    add("dbaliases", format!("1:{alias}:{PROXY}:{user}:{PROXY}"));
    tables
}

impl Stage {
    /// Must be called on a thread of its own: the thread moves into a new network namespace, which ends with it and
    /// the proxy.
    /// With `asks` both want passwords of the users in `asking`.
    pub fn open(server: Server, asks: bool) -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        run(&["ip", "link", "set", "lo", "up"]);
        for host in 1..=4 {
            run(&["ip", "addr", "add", &format!("10.77.9.{host}/24"), "dev", "lo"]);
        }
        let dir = tempfile::tempdir().expect("tempdir");
        let log = std::fs::File::create(dir.path().join("log")).expect("log");
        let mut command = match server {
            Server::Kamailio => {
                let mut command = Command::new("/usr/sbin/kamailio");
                command.args(["-f", "/etc/kamailio/kamailio.cfg", "-DD", "-E", "-l"]);
                command.arg(format!("udp:{PROXY}:5060")).args(["-l", &format!("tcp:{PROXY}:5060"), "-Y"]);
                command.arg(dir.path()).arg("-w").arg(dir.path()).arg("-P").arg(dir.path().join("pid"));
                if asks {
                    let tables = text_database(dir.path());
                    command.args(["--loadmodule=db_text", "-A", "WITH_AUTH", "-A", "WITH_ALIASDB", "-A"]);
                    command.arg(format!("DBURL=\"text://{}\"", tables.display()));
                }
                command
            }
            Server::Relevo => {
                let file = dir.path().join("r.toml");
                let data = dir.path().join("data");
                // Where both ask, the address is the only domain of both.
                let domains = if asks { format!("domains = [\"{PROXY}\"]\n") } else { String::new() };
                let text = format!(
                    "[sip]\n{domains}listen = [\"{PROXY}\"]\n[node]\ndata = \"{}\"\n[auth]\nenabled = {asks}\n",
                    data.display()
                );
                std::fs::write(&file, text).expect("write");
                let mut command = Command::new(env!("CARGO_BIN_EXE_relevo"));
                command.args(["run", "--config"]).arg(file);
                command
            }
        };
        let child = command
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("the proxy starts");
        let mut phones = BTreeMap::new();
        for (name, host) in [("alice", 2), ("bob", 3), ("carol", 4)] {
            let socket = UdpSocket::bind(format!("10.77.9.{host}:5062")).expect("bind");
            socket.connect((PROXY, 5060)).expect("connect");
            phones.insert(name, socket);
        }
        let mut stage = Self {
            dir,
            child,
            phones,
            heard: BTreeMap::new(),
            seen: BTreeSet::new(),
            scene: String::from("start"),
        };
        until("the proxy answers", || {
            let ended = stage.child.try_wait().expect("wait");
            assert!(ended.is_none(), "{server:?} ended: {}", stage.log());
            let knock = stage.request("alice", "OPTIONS", &format!("sip:{PROXY}"), "");
            // Refused while nobody listens.
            let _ = stage.phones["alice"].send(knock.as_bytes());
            stage.look(Duration::from_millis(200));
            stage.heard.contains_key("alice").then_some(())
        });
        stage.hush();
        if asks && server == Server::Relevo {
            stage.add_users();
        }
        stage
    }

    /// The users of `asking`, by command.
    fn add_users(&self) {
        let say = |args: &[&str], input: &str| {
            let mut child = Command::new(env!("CARGO_BIN_EXE_relevo"))
                .arg("--config")
                .arg(self.dir.path().join("r.toml"))
                .args(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("the command starts");
            child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("written");
            assert!(child.wait().expect("wait").success(), "{args:?}: {}", self.log());
        };
        for (user, password) in asking::USERS {
            say(&["subscriber", "add", &format!("{user}@{PROXY}")], &format!("{password}\n"));
        }
        let (alias, user) = asking::ALIAS;
        say(&["alias", "add", &format!("{alias}@{PROXY}"), &format!("{user}@{PROXY}")], "");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn folder(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// A scenario begins: nothing has been heard.
    pub fn begin(&mut self, scene: &str) {
        self.hush();
        self.heard.clear();
        self.seen.clear();
        self.scene = scene.to_owned();
    }

    pub fn addr(&self, phone: &str) -> SocketAddr {
        self.phones[phone].local_addr().expect("bound")
    }

    pub fn send(&self, phone: &str, text: impl AsRef<[u8]>) {
        self.phones[phone].send(text.as_ref()).expect("send");
    }

    /// Takes what comes to any phone for so long; whether something came.
    fn look(&mut self, for_: Duration) -> bool {
        let end = Instant::now() + for_;
        let mut buffer = vec![0; 65_535];
        let mut any = false;
        while Instant::now() < end {
            let before = any;
            for (name, socket) in &self.phones {
                socket.set_nonblocking(true).expect("non-blocking");
                while let Ok(n) = socket.recv(&mut buffer) {
                    let bytes = buffer[..n].to_vec();
                    let message = Message { text: String::from_utf8_lossy(&bytes).into_owned() };
                    // What nobody answered in an earlier scenario is sent again and again.
                    let id = message.all("Call-ID").pop().unwrap_or_default();
                    let mine =
                        id.strip_prefix(&self.scene).is_some_and(|r| r.is_empty() || r.starts_with('-'));
                    if !mine {
                        continue;
                    }
                    any = true;
                    if self.seen.insert((name, bytes)) {
                        self.heard.entry(name).or_default().push(message);
                    }
                }
            }
            if any && before == any {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        any
    }

    /// Takes what comes until nothing comes any more.
    pub fn hush(&mut self) {
        while self.look(HUSH) {}
    }

    /// The newest message of a phone that begins so, waited for.
    pub fn wait(&mut self, phone: &'static str, start: &str) -> Result<Message, Stopped> {
        self.wait_as(phone, start, REACTION)
    }

    pub fn wait_as(&mut self, phone: &'static str, start: &str, limit: Duration) -> Result<Message, Stopped> {
        let end = Instant::now() + limit;
        loop {
            let mut heard = self.heard.get(phone).into_iter().flatten().rev();
            if let Some(message) = heard.find(|m| m.first_line().starts_with(start)) {
                return Ok(message.clone());
            }
            if Instant::now() >= end {
                return Err(Stopped);
            }
            self.look(Duration::from_millis(50));
        }
    }

    /// A request outside of dialogs from alice's (or another's) phone, with further header lines.
    pub fn request(&self, phone: &str, method: &str, uri: &str, more: &str) -> String {
        let (at, scene) = (self.addr(phone), &self.scene);
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{scene}-{phone}-{method}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{phone}@{PROXY}>;tag=t{phone}\r\nTo: <{uri}>\r\nCall-ID: {scene}\r\n\
             CSeq: 1 {method}\r\nContact: <sip:{phone}@{at}>\r\n{more}Content-Length: 0\r\n\r\n"
        )
    }

    pub fn register(&self, phone: &str, user: &str, cseq: u32, contact: &str) -> String {
        let (at, scene) = (self.addr(phone), &self.scene);
        format!(
            "REGISTER sip:{PROXY} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{scene}-{phone}-r{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{PROXY}>;tag=t{phone}\r\nTo: <sip:{user}@{PROXY}>\r\n\
             Call-ID: {scene}-{phone}-r\r\nCSeq: {cseq} REGISTER\r\n{contact}Content-Length: 0\r\n\r\n"
        )
    }

    /// Registers a phone for the scenario, which is no part of what is compared.
    pub fn is_registered(&mut self, phone: &'static str, user: &str) -> Result<(), Stopped> {
        let contact = format!("Contact: <sip:{user}@{}>\r\n", self.addr(phone));
        self.send(phone, self.register(phone, user, 1, &contact));
        self.wait(phone, "SIP/2.0 200")?;
        self.heard.clear();
        Ok(())
    }

    /// The answer of a phone to what it got.
    pub fn answer(&self, phone: &str, request: &Message, status: &str, more: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "Record-Route", "From", "Call-ID", "CSeq"] {
            for value in request.all(name) {
                text += &format!("{name}: {value}\r\n");
            }
        }
        let to = request.one("To");
        let tag = if to.contains("tag=") { String::new() } else { format!(";tag=t{phone}") };
        text += &format!("To: {to}{tag}\r\n{more}Content-Length: 0\r\n\r\n");
        self.send(phone, text);
    }

    pub fn answer_with_contact(&self, phone: &str, request: &Message, status: &str) {
        self.answer(phone, request, status, &format!("Contact: <sip:{phone}@{}>\r\n", self.addr(phone)));
    }

    /// A request of the caller in the dialog of `ok`.
    pub fn in_dialog(&self, phone: &str, method: &str, cseq: u32, ok: &Message) -> String {
        let target = ok.one("Contact").trim_matches(['<', '>']).to_owned();
        let routes: String =
            list(ok, "Record-Route").iter().rev().map(|r| format!("Route: {r}\r\n")).collect();
        self.dialog_request(phone, method, cseq, &target, &routes, &ok.one("From"), &ok.one("To"), ok)
    }

    /// A request of the callee in the dialog of its 2xx to `invite`.
    pub fn in_dialog_back(&self, phone: &str, method: &str, cseq: u32, invite: &Message) -> String {
        let target = invite.one("Contact").trim_matches(['<', '>']).to_owned();
        let routes: String = list(invite, "Record-Route").iter().map(|r| format!("Route: {r}\r\n")).collect();
        let from = format!("{};tag=t{phone}", invite.one("To"));
        self.dialog_request(phone, method, cseq, &target, &routes, &from, &invite.one("From"), invite)
    }

    #[expect(clippy::too_many_arguments, reason = "a request has that many parts")]
    fn dialog_request(
        &self,
        phone: &str,
        method: &str,
        cseq: u32,
        target: &str,
        routes: &str,
        from: &str,
        to: &str,
        of: &Message,
    ) -> String {
        let (at, scene) = (self.addr(phone), &self.scene);
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{scene}-{phone}-{method}{cseq}d\r\n{routes}\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:{phone}@{at}>\r\nContent-Length: 0\r\n\r\n",
            of.one("Call-ID"),
        )
    }

    /// ACK of a failure, or CANCEL: what has the Via of the INVITE.
    pub fn like(&self, method: &str, invite: &str, to: Option<&Message>) -> String {
        let lines = invite.split("\r\n").filter(|l| !l.starts_with("Contact:")).map(|l| match to {
            Some(response) if l.starts_with("To:") => format!("To: {}", response.one("To")),
            _ => l
                .replacen("INVITE sip:", &format!("{method} sip:"), 1)
                .replace(" INVITE", &format!(" {method}")),
        });
        lines.collect::<Vec<_>>().join("\r\n")
    }
}

/// The values of a header, comma lists split. Good for Record-Route, whose URIs have no commas here.
pub fn list(message: &Message, name: &str) -> Vec<String> {
    message.all(name).iter().flat_map(|v| v.split(',')).map(|v| v.trim().to_owned()).collect()
}
