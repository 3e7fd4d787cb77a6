//! The real baresip as a phone, without a screen, driven over its control socket (JSON in netstrings).

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use proxy_core::state::Transport;
use serde_json::{Value, json};

use crate::lab::config::DOMAIN;
use crate::lab::proc::{self, POLL};
use crate::lab::state::LabState;
use crate::lab::{cluster, interrupt, net, ns};

use super::Place;

/// Largest netstring taken from the control socket, bytes.
const NETSTRING_MAX: usize = 1 << 20;
/// Where Debian puts the modules.
const MODULES: &str = "/usr/lib/baresip/modules";

/// A running baresip. Killed when dropped.
#[derive(Debug)]
pub struct Baresip {
    /// Its user name.
    pub user: String,
    child: Child,
    control: TcpStream,
    unread: Vec<u8>,
    /// Event types seen, in order.
    seen: Vec<String>,
    log: PathBuf,
}

impl Baresip {
    /// Starts a phone that registers `user` and answers calls by itself.
    ///
    /// `port` is its SIP port (it takes `port + 1`, too), `port + 1000` its control port on loopback, and eight RTP
    /// ports begin at `port + 10000`.
    ///
    /// # Errors
    /// It is not installed, or its control socket does not open within ten seconds.
    pub fn start(lab: &LabState, logs: &Path, user: &str, port: u16) -> io::Result<Baresip> {
        let ip = net::CLIENT4.parse().map_err(io::Error::other)?;
        Self::start_at(lab, logs, user, port, Place { holder: lab.client, ip }, Transport::Udp)
    }

    /// The same elsewhere, or by another transport.
    ///
    /// # Errors
    /// As [`Baresip::start`].
    pub fn start_at(
        lab: &LabState,
        logs: &Path,
        user: &str,
        port: u16,
        place: Place,
        transport: Transport,
    ) -> io::Result<Baresip> {
        Self::start_with(lab, logs, user, port, place, transport, "")
    }

    /// One whose media are as a browser's: DTLS-SRTP (`UDP/TLS/RTP/SAVPF`) over ICE, and nothing else.
    ///
    /// # Errors
    /// As [`Baresip::start`].
    pub fn start_secure(lab: &LabState, logs: &Path, user: &str, port: u16) -> io::Result<Baresip> {
        let ip = net::CLIENT4.parse().map_err(io::Error::other)?;
        let place = Place { holder: lab.client, ip };
        Self::start_with(lab, logs, user, port, place, Transport::Udp, ";mediaenc=dtls_srtp;medianat=ice")
    }

    fn start_with(
        lab: &LabState,
        logs: &Path,
        user: &str,
        port: u16,
        place: Place,
        transport: Transport,
        account: &str,
    ) -> io::Result<Baresip> {
        let program = cluster::in_path("baresip")
            .ok_or_else(|| io::Error::other("baresip is not installed; apt-get install baresip-core"))?;
        let home = logs.join(format!("baresip-{user}"));
        fs::create_dir_all(&home)?;
        let (control_port, rtp) = (port + 1000, port + 10_000);
        fs::write(
            home.join("accounts"),
            format!(
                "<sip:{user}@{DOMAIN};transport={by}>;auth_pass=none;outbound=\"sip:{vip}:{sip};transport={by}\";\
                 answermode=auto;regint=3600;audio_codecs=PCMU/8000/1,PCMA/8000/1;ptime=20{account}\n",
                vip = net::VIP4,
                sip = lab.sip_port,
                by = transport.uri_name(),
            ),
        )?;
        let tone = home.join("tone.wav");
        fs::write(&tone, tone_wav())?;
        fs::write(home.join("contacts"), "")?;
        fs::write(
            home.join("config"),
            format!(
                "sip_listen {own}:{port}\nmodule_path {MODULES}\nmodule g711.so\nmodule aufile.so\n\
                 module aubridge.so\nmodule uuid.so\nmodule srtp.so\nmodule dtls_srtp.so\nmodule ice.so\nmodule_tmp account.so\nmodule_app menu.so\n\
                 module ctrl_tcp.so\nctrl_tcp_listen 127.0.0.1:{control_port}\n\
                 audio_source aufile,{tone}\naudio_player aubridge,{user}\naudio_alert aubridge,{user}-alert\n\
                 rtp_ports {rtp}-{rtp_end}\nrtp_timeout 60\nnet_interface eth0\n",
                own = place.ip,
                tone = tone.display(),
                rtp_end = rtp + 8,
            ),
        )?;
        let log = home.join("log");
        let output = fs::File::create(&log)?;
        let mut command = ns::command_in(place.holder, program, true)?;
        // -s: SIP trace, for the reader of a failed story.
        command
            .arg("-s")
            .arg("-f")
            .arg(&home)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .env("HOME", &home);
        let mut child = proc::spawn(command)?;
        match connect(place, control_port, &mut child) {
            Ok(control) => {
                control.set_nonblocking(true)?;
                let user = user.to_owned();
                Ok(Baresip { user, child, control, unread: Vec::new(), seen: Vec::new(), log })
            }
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                let said = fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                Err(io::Error::other(format!("baresip {user}: {e}: {}", last.join(" / "))))
            }
        }
    }

    /// Gives a command, for example `dial` with a SIP address, `hold`, `resume`, `hangup`.
    ///
    /// # Errors
    /// The phone is gone.
    pub fn command(&mut self, command: &str, params: &str) -> io::Result<()> {
        let body = json!({"command": command, "params": params, "token": command}).to_string();
        self.control.set_nonblocking(false)?;
        let sent = self.control.write_all(format!("{}:{body},", body.len()).as_bytes());
        self.control.set_nonblocking(true)?;
        sent
    }

    /// How many events of a type came so far (`REGISTER_OK`, `CALL_ESTABLISHED`, `CALL_CLOSED` …).
    pub fn count(&mut self, event: &str) -> usize {
        self.drain();
        self.seen.iter().filter(|e| *e == event).count()
    }

    /// Waits until there were at least `count` events of a type since the start.
    ///
    /// # Errors
    /// Not within `limit`; the text lists the events that came.
    pub fn wait_for(&mut self, event: &str, count: usize, limit: Duration) -> io::Result<()> {
        self.wait_until(event, limit, |phone| phone.count(event) >= count)
    }

    /// Waits until the SIP trace holds at least `count` times `text` (for what is no event, as the answer to a
    /// re-INVITE).
    ///
    /// # Errors
    /// Not within `limit`.
    pub fn wait_trace(&mut self, text: &str, count: usize, limit: Duration) -> io::Result<()> {
        self.wait_until(text, limit, |phone| phone.traced(text) >= count)
    }

    /// Waits until the phone has registered. The event may come before the control socket is open, what it prints
    /// does not.
    ///
    /// # Errors
    /// Not within `limit`.
    pub fn wait_registered(&mut self, limit: Duration) -> io::Result<()> {
        self.wait_trace(" binding", 1, limit)
    }

    /// How often the SIP trace holds `text`.
    #[must_use]
    pub fn traced(&self, text: &str) -> usize {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).matches(text).count()
    }

    fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> io::Result<()> {
        let end = Instant::now() + limit;
        loop {
            interrupt::check()?;
            if done(self) {
                return Ok(());
            }
            if Instant::now() >= end {
                let events = self.seen.join(" ");
                return Err(io::Error::other(format!(
                    "baresip {}: no {what} within {limit:?}; events: {events}",
                    self.user
                )));
            }
            std::thread::sleep(POLL);
        }
    }

    fn drain(&mut self) {
        let mut chunk = [0u8; 4096];
        while let Ok(n) = self.control.read(&mut chunk) {
            if n == 0 {
                break;
            }
            self.unread.extend_from_slice(&chunk[..n]);
        }
        while let Some((body, rest)) = netstring(&self.unread) {
            if let Ok(v) = serde_json::from_slice::<Value>(body)
                && v["event"] == json!(true)
                && let Some(kind) = v["type"].as_str()
            {
                self.seen.push(kind.to_owned());
            }
            self.unread = rest.to_vec();
        }
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(place: Place, port: u16, child: &mut Child) -> io::Result<TcpStream> {
    let end = Instant::now() + Duration::from_secs(10);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    loop {
        interrupt::check()?;
        if let Ok(stream) =
            ns::inside(place.holder, || TcpStream::connect_timeout(&address, Duration::from_secs(1)))?
        {
            return Ok(stream);
        }
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("ended with {status}")));
        }
        if Instant::now() >= end {
            return Err(io::Error::other("its control socket did not open"));
        }
        std::thread::sleep(POLL);
    }
}

/// Splits a complete netstring (`5:hello,`) off the front.
fn netstring(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = data.iter().position(|b| *b == b':')?;
    let length: usize = std::str::from_utf8(&data[..colon]).ok()?.trim().parse().ok()?;
    if length > NETSTRING_MAX {
        return None;
    }
    let end = colon + 1 + length;
    // The comma must be there, otherwise the string is not complete yet.
    (data.len() > end).then(|| (&data[colon + 1..end], &data[end + 1..]))
}

/// A minute of a 440 Hz square wave, 8 kHz, 16 bit, mono: baresip hangs up at its end, so it outlasts every story.
fn tone_wav() -> Vec<u8> {
    const RATE: u32 = 8000;
    const SAMPLES: u32 = 60 * RATE;
    let mut wav = Vec::with_capacity(44 + 2 * SAMPLES as usize);
    wav.extend(b"RIFF");
    wav.extend((36 + 2 * SAMPLES).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16u32.to_le_bytes());
    wav.extend([1, 0, 1, 0]);
    wav.extend(RATE.to_le_bytes());
    wav.extend((2 * RATE).to_le_bytes());
    wav.extend([2, 0, 16, 0]);
    wav.extend(b"data");
    wav.extend((2 * SAMPLES).to_le_bytes());
    for i in 0..SAMPLES {
        let sample: i16 = if (i * 880 / RATE).is_multiple_of(2) { 4000 } else { -4000 };
        wav.extend(sample.to_le_bytes());
    }
    wav
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netstrings_are_split_and_an_incomplete_one_waits() {
        assert_eq!(netstring(b"5:hello,2:hi,"), Some((&b"hello"[..], &b"2:hi,"[..])));
        assert_eq!(netstring(b"5:hello"), None);
        assert_eq!(netstring(b"5:hel"), None);
        assert_eq!(netstring(b""), None);
        assert_eq!(netstring(b"99999999999:x,"), None);
    }
}
