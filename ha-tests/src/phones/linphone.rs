//! The real linphone as a phone (`linphone-daemon`): it takes its commands from standard input, and needs neither screen nor
//! sound card.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use crate::lab::config::DOMAIN;
use crate::lab::proc::{self, wait_until};
use crate::lab::state::LabState;
use crate::lab::{cluster, interrupt, net, ns};

/// How long it may take to answer a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// A running linphone. Killed when dropped.
#[derive(Debug)]
pub struct Linphone {
    /// Its user name.
    pub user: String,
    child: Child,
    commands: ChildStdin,
    said: PathBuf,
}

impl Linphone {
    /// Starts a phone of the client namespace that has begun to register `user`, and answers calls by itself.
    ///
    /// `port` is its SIP port; its RTP ports begin at `port + 10000`.
    ///
    /// # Errors
    /// It is not installed, or ends at once.
    pub fn start(lab: &LabState, logs: &Path, user: &str, port: u16) -> io::Result<Linphone> {
        let program = cluster::in_path("linphone-daemon")
            .ok_or_else(|| io::Error::other("linphone is not installed; apt-get install linphone-cli"))?;
        let home = logs.join(format!("linphone-{user}"));
        // It keeps its database there, and does not make the folder itself.
        fs::create_dir_all(home.join(".local/share/linphone"))?;
        let config = home.join("linphonerc");
        fs::write(
            &config,
            format!(
                "[sip]\nsip_port={port}\nsip_tcp_port=0\nsip_tls_port=0\nuse_ipv6=0\n\
                 [rtp]\naudio_rtp_port={rtp}\n[video]\nenabled=0\n[misc]\nuse_files=1\n",
                rtp = port + 10_000,
            ),
        )?;
        let said = home.join("said");
        let output = fs::File::create(&said)?;
        let mut command = ns::command_in(lab.client, program, true)?;
        command
            .args(["--auto-answer", "--disable-stats-events", "--config"])
            .arg(&config)
            .arg("--log")
            .arg(home.join("log"))
            .env("HOME", &home)
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut child = proc::spawn(command)?;
        let commands = child.stdin.take().ok_or_else(|| io::Error::other("no standard input"))?;
        let mut phone = Linphone { user: user.to_owned(), child, commands, said };
        let proxy = format!("sip:{}:{}", net::VIP4, lab.sip_port);
        phone.command(&format!("register sip:{user}@{DOMAIN} {proxy}"))?;
        Ok(phone)
    }

    /// Gives a command, for example `call` with a SIP address, `call-pause`, `terminate`.
    ///
    /// # Errors
    /// The phone is gone.
    pub fn command(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.commands, "{text}")
    }

    /// Asks `question` (`register-status 1`, `call-status`) until it answers `state`.
    ///
    /// # Errors
    /// Not within `limit`; the text holds what it said last.
    pub fn wait_for(&mut self, question: &str, state: &str, limit: Duration) -> io::Result<()> {
        let end = Instant::now() + limit;
        loop {
            interrupt::check()?;
            let before = self.said().len();
            self.command(question)?;
            // It echoes the question, then says "Status: …" and, after an empty line, what there is to say.
            let answered = |said: &str| said.matches("daemon-linphone>").count() > 0;
            let answer = || self.said().split_off(before);
            wait_until(ANSWER_LIMIT, || answered(&answer()));
            if answer().lines().any(|line| line.trim() == state) {
                return Ok(());
            }
            if Instant::now() >= end {
                let said = self.said();
                let last: Vec<&str> = said.lines().rev().filter(|l| !l.is_empty()).take(8).collect();
                return Err(io::Error::other(format!(
                    "linphone {}: no {state:?} within {limit:?}; last it said: {}",
                    self.user,
                    last.join(" / ")
                )));
            }
        }
    }

    /// How often it has said `text` (`Event: LinphoneCallPaused`).
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.said().matches(text).count()
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.said).unwrap_or_default()).into_owned()
    }
}

impl Drop for Linphone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
