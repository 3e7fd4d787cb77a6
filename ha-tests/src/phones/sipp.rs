//! The real SIPp as a phone: one process per phone and call, watched through its log of short messages.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::lab::config::DOMAIN;
use crate::lab::ns;
use crate::lab::proc::{self, POLL, wait_until};
use crate::lab::state::LabState;
use crate::lab::{cluster, interrupt, net};

use super::Place;

macro_rules! scenarios {
    ($($variant:ident $file:literal $doc:literal;)*) => {
        /// What a SIPp does; each is a file in `ha-tests/scenarios`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Scenario { $(#[doc = $doc] $variant,)* }

        impl Scenario {
            fn xml(self) -> &'static str {
                match self { $(Scenario::$variant => include_str!(concat!("../../scenarios/", $file, ".xml")),)* }
            }
        }
    };
}

scenarios! {
    Register "register" "Registers its port.";
    CallerSpeaks "caller_speaks" "Calls; after `hold` re-INVITE and BYE.";
    CallerListens "caller_listens" "Calls; waits for re-INVITE and BYE.";
    CalleeListens "callee_listens" "Answers; waits for re-INVITE and BYE.";
    CalleeSpeaks "callee_speaks" "Answers; after `hold` re-INVITE and BYE.";
    CalleeRings "callee_rings" "Rings; answers after `answer` unless cancelled.";
    CalleeSlow "callee_slow" "Rings, answers, takes re-INVITE and BYE, each `answer` after it was asked.";
    CallerWaits "caller_waits" "Calls; waits for the answer; BYE.";
    CallerHangsUp "caller_hangs_up" "Calls; CANCEL after `hold`.";
    CallerNoAnswer "caller_gives_up_never" "Calls; waits for 408.";
    Pbx "pbx" "Answers OPTIONS and calls, as a backend of the dispatcher.";
    Gateway "gateway" "Asks for credentials, answers, checks the CSeq of what follows.";
    LoadCaller "load_caller" "Many short calls.";
    LoadCallee "load_callee" "Answers many short calls.";
}

/// How to run a SIPp.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// Unique name: its files and Call-IDs begin with it.
    pub name: &'a str,
    /// What it does.
    pub scenario: Scenario,
    /// Its UDP port in the client namespace.
    pub port: u16,
    /// Who is called, or who registers.
    pub user: &'a str,
    /// How long a `…Speaks` or `CallerHangsUp` waits before it acts.
    pub hold: Duration,
    /// After how long a `CalleeRings` answers; the pause before each answer of a `CalleeSlow`.
    pub answer: Duration,
    /// Calls, and calls per second.
    pub calls: u32,
    /// Calls per second.
    pub rate: u32,
    /// Bound of its whole life; then it fails.
    pub limit: Duration,
    /// Over IPv6.
    pub v6: bool,
    /// Elsewhere than in the client namespace.
    pub place: Option<Place>,
    /// By TCP.
    pub tcp: Option<Connections>,
    /// Another server than the lab's.
    pub server: Option<&'a Server>,
}

/// A SIP server, and the domain it answers for.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it listens.
    pub at: SocketAddr,
    /// Stands in the URIs in place of the lab's domain.
    pub domain: String,
}

/// How a SIPp uses TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// One for all calls (`-t t1`); a callee listens.
    One,
    /// One for each call (`-t tn`).
    Each,
}

impl<'a> Plan<'a> {
    /// One call with generous times.
    #[must_use]
    pub fn new(name: &'a str, scenario: Scenario, port: u16, user: &'a str) -> Plan<'a> {
        Plan {
            name,
            scenario,
            port,
            user,
            hold: Duration::from_secs(5),
            answer: Duration::from_secs(3600),
            calls: 1,
            rate: 1,
            limit: Duration::from_secs(60),
            v6: false,
            place: None,
            tcp: None,
            server: None,
        }
    }
}

/// One line of the log of short messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Wall clock, seconds.
    pub at: f64,
    /// Sent by this phone (otherwise received).
    pub sent: bool,
    /// Call-ID.
    pub call_id: String,
    /// `1 INVITE`.
    pub cseq: String,
    /// First line of the message.
    pub first_line: String,
}

impl Event {
    /// Received a response with this status to this method.
    #[must_use]
    pub fn got(&self, status: &str, method: &str) -> bool {
        !self.sent
            && self.first_line.strip_prefix("SIP/2.0 ").is_some_and(|l| l.starts_with(status))
            && self.cseq.ends_with(method)
    }

    /// Received a request with this method.
    #[must_use]
    pub fn asked(&self, method: &str) -> bool {
        !self.sent && self.first_line.split(' ').next() == Some(method)
    }
}

/// A running SIPp. Killed when dropped.
#[derive(Debug)]
pub struct Sipp {
    name: String,
    child: Child,
    events: PathBuf,
    errors: PathBuf,
    end: Instant,
    done: Option<bool>,
}

impl Sipp {
    /// Starts it; its files go to `logs`.
    ///
    /// # Errors
    /// SIPp is not installed or cannot be started.
    pub fn start(lab: &LabState, logs: &Path, plan: &Plan<'_>) -> io::Result<Sipp> {
        let program = cluster::in_path("sipp")
            .ok_or_else(|| io::Error::other("sipp is not installed; apt-get install sip-tester"))?;
        let file = |suffix: &str| logs.join(format!("{}.{suffix}", plan.name));
        let xml = plan
            .scenario
            .xml()
            .replace("{{hold_ms}}", &plan.hold.as_millis().to_string())
            .replace("{{answer_ms}}", &plan.answer.as_millis().to_string());
        let xml = match plan.tcp {
            None => xml,
            Some(_) => xml.replace("[local_port]>", "[local_port];transport=tcp>"),
        };
        let xml = match plan.server {
            None => xml,
            Some(server) => xml.replace(DOMAIN, &server.domain),
        };
        fs::write(file("xml"), xml)?;
        let (own, vip) = if plan.v6 {
            (net::CLIENT6.to_owned(), format!("[{}]:{}", net::VIP6, lab.sip_port))
        } else {
            (net::CLIENT4.to_owned(), format!("{}:{}", net::VIP4, lab.sip_port))
        };
        let own = plan.place.map_or(own, |place| place.ip.to_string());
        let asked = plan.server.map_or(vip, |server| server.at.to_string());
        let output = fs::File::create(file("out"))?;
        let mut command = ns::command_in(plan.place.map_or(lab.client, |place| place.holder), program, true)?;
        command
            .arg(asked)
            .args(["-nostdin", "-rtcheck", "loose", "-timeout_error", "-trace_err", "-trace_shortmsg"])
            .args(["-i", &own, "-p", &plan.port.to_string(), "-s", plan.user])
            .args(["-m", &plan.calls.to_string(), "-r", &plan.rate.to_string()])
            .args(["-timeout", &format!("{}s", plan.limit.as_secs().max(1))])
            .args(["-cid_str", &format!("{}-%u-%p", plan.name)])
            .arg("-sf")
            .arg(file("xml"))
            .arg("-shortmessage_file")
            .arg(file("csv"))
            .arg("-error_file")
            .arg(file("err"))
            .current_dir(logs)
            // SIPp draws a screen; without a known terminal it still writes, but to a file.
            .env("TERM", "dumb")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        match plan.tcp {
            None => {}
            Some(Connections::One) => drop(command.args(["-t", "t1"])),
            Some(Connections::Each) => drop(command.args(["-t", "tn", "-max_socket", "1000"])),
        }
        if plan.calls == 1 {
            // Whole messages, for the reader of a failed story.
            command.arg("-trace_msg").arg("-message_file").arg(file("msg"));
        }
        let child = proc::spawn(command)?;
        Ok(Sipp {
            name: plan.name.to_owned(),
            child,
            events: file("csv"),
            errors: file("err"),
            end: Instant::now() + plan.limit + Duration::from_secs(2),
            done: None,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The messages it has sent and received so far, in order.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        parse_events(&fs::read_to_string(&self.events).unwrap_or_default())
    }

    /// Waits until its port is open, so that no first request is lost.
    ///
    /// # Errors
    /// It ended before, or did not open it within two seconds.
    pub fn wait_bound(&mut self, port: u16) -> io::Result<()> {
        let pid = self.child.id();
        let hex = format!(":{port:04X} ");
        let open = || {
            ["udp", "udp6", "tcp", "tcp6"].iter().any(|table| {
                let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
                text.lines()
                    .any(|l| l.split_whitespace().nth(1).is_some_and(|a| format!("{a} ").ends_with(&hex)))
            })
        };
        if wait_until(Duration::from_secs(5), || open() || matches!(self.child.try_wait(), Ok(Some(_))))
            && open()
        {
            return Ok(());
        }
        Err(io::Error::other(format!("{} did not open port {port}: {}", self.name, self.errors())))
    }

    /// Waits until the messages so far satisfy `what`.
    ///
    /// # Errors
    /// Not within `limit`; the text holds the messages.
    pub fn wait_for(&self, text: &str, limit: Duration, what: impl Fn(&[Event]) -> bool) -> io::Result<()> {
        let end = Instant::now() + limit;
        loop {
            interrupt::check()?;
            let events = self.events();
            if what(&events) {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(io::Error::other(format!(
                    "{}: no {text} within {limit:?}; messages: {}; {}",
                    self.name,
                    brief(&events),
                    self.errors()
                )));
            }
            // The log of a load is long; reading it all the time would disturb what is measured.
            std::thread::sleep(if events.len() < 1000 { POLL } else { 20 * POLL });
        }
    }

    /// Waits for its end; `Ok` if every call went as the scenario says.
    ///
    /// # Errors
    /// A call failed or it had to be killed; the text says what SIPp found wrong.
    pub fn finish(&mut self) -> io::Result<()> {
        let success = match self.done {
            Some(success) => success,
            None => loop {
                interrupt::check()?;
                if let Some(status) = self.child.try_wait()? {
                    break status.success();
                }
                if Instant::now() >= self.end {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    break false;
                }
                std::thread::sleep(POLL);
            },
        };
        self.done = Some(success);
        if success {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{}: {}; messages: {}",
            self.name,
            self.errors(),
            brief(&self.events())
        )))
    }

    /// The first lines of its error log, on one line.
    fn errors(&self) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("The following")).take(3).collect();
        if lines.is_empty() { "no error logged".to_owned() } else { lines.join(" / ").replace('\t', " ") }
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        if self.done.is_none() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Starts the registration of `user` at `port`; [`Sipp::finish`] says whether it got its 200.
///
/// # Errors
/// SIPp cannot be started.
pub fn register(lab: &LabState, logs: &Path, user: &str, port: u16, v6: bool) -> io::Result<Sipp> {
    let name = format!("register-{user}-{port}");
    let mut plan = Plan::new(&name, Scenario::Register, port, user);
    plan.limit = Duration::from_secs(10);
    plan.v6 = v6;
    Sipp::start(lab, logs, &plan)
}

/// The most often that one and the same message was sent, over all calls of a phone.
#[must_use]
pub fn most_sendings(events: &[Event]) -> (usize, String) {
    let mut counts = std::collections::BTreeMap::new();
    for e in events.iter().filter(|e| e.sent) {
        *counts.entry((&e.call_id, &e.cseq, &e.first_line)).or_insert(0usize) += 1;
    }
    counts
        .into_iter()
        .max_by_key(|(_, n)| *n)
        .map_or((0, String::new()), |((id, cseq, line), n)| (n, format!("{line} ({cseq}, {id})")))
}

fn brief(events: &[Event]) -> String {
    /// Messages to show.
    const LAST: usize = 14;
    let text: Vec<String> = events[events.len().saturating_sub(LAST)..]
        .iter()
        .map(|e| {
            let line = e.first_line.strip_prefix("SIP/2.0 ").unwrap_or(&e.first_line);
            let word = line.split(' ').next().unwrap_or_default();
            format!("{}{word}({})", if e.sent { ">" } else { "<" }, e.cseq)
        })
        .collect();
    text.join(" ")
}

fn parse_events(text: &str) -> Vec<Event> {
    text.lines()
        .filter_map(|line| {
            // date TAB time TAB epoch TAB S|R TAB call-id TAB CSeq:n METHOD TAB first line
            let f: Vec<&str> = line.split('\t').collect();
            let [_, _, at, direction, call_id, cseq, first_line] = f[..] else { return None };
            Some(Event {
                at: at.parse().ok()?,
                sent: direction == "S",
                call_id: call_id.to_owned(),
                cseq: cseq.trim_start_matches("CSeq:").trim().to_owned(),
                first_line: first_line.trim().to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-11-21\t03:36:46.084829\t1795232206.084829\tS\ta1-1\tCSeq:1 INVITE\tINVITE sip:u1@lab.test SIP/2.0\n\
        2026-11-21\t03:36:46.584829\t1795232206.584829\tS\ta1-1\tCSeq:1 INVITE\tINVITE sip:u1@lab.test SIP/2.0\n\
        2026-11-21\t03:36:46.685731\t1795232206.685731\tR\ta1-1\tCSeq:1 INVITE\tSIP/2.0 180 Ringing\n\
        half a line";

    #[test]
    fn the_log_of_short_messages_is_read_and_a_half_written_line_is_left_out() {
        let events = parse_events(LOG);
        assert_eq!(events.len(), 3);
        assert!(events[2].got("180", "INVITE"));
        assert!(!events[2].got("200", "INVITE"));
        assert!(!events[0].asked("INVITE"), "sent, not received");
    }

    #[test]
    fn a_repeated_message_is_counted() {
        assert_eq!(most_sendings(&parse_events(LOG)).0, 2);
        assert_eq!(most_sendings(&[]).0, 0);
    }
}
