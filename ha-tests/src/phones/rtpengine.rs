//! The real rtpengine in the namespace of the phones, in user space, and what it says of its calls.

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use proxy_core::media::bencode::{Dict, Value, write_dict};

use crate::lab::proc::{self, wait_until};
use crate::lab::state::LabState;
use crate::lab::{cluster, net, ns};

/// How long it may take to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Ports for media of one rtpengine.
const MEDIA_PORTS: u16 = 400;

/// A running rtpengine. Killed when dropped.
#[derive(Debug)]
pub struct Rtpengine {
    child: Child,
    address: SocketAddr,
    holder: proc::Proc,
}

impl Rtpengine {
    /// Starts one that hears its `ng` protocol on `port` of the phones' address. Its media ports begin at `media`.
    ///
    /// # Errors
    /// It is not installed, or does not answer within ten seconds.
    pub fn start(lab: &LabState, logs: &Path, port: u16, media: u16) -> io::Result<Self> {
        let program = cluster::in_path("rtpengine").ok_or_else(|| {
            io::Error::other("rtpengine is not installed; apt-get install rtpengine-daemon")
        })?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(logs.join(format!("rtpengine-{port}.log")))?;
        let address: SocketAddr = format!("{}:{port}", net::CLIENT4).parse().map_err(io::Error::other)?;
        let mut command = ns::command_in(lab.client, program, true)?;
        command
            .args(["--config-file=none", "--foreground", "--log-stderr", "--log-level=6", "--num-threads=2"])
            // Without its kernel module.
            .arg("--table=-1")
            .arg(format!("--interface={}", net::CLIENT4))
            .arg(format!("--listen-ng={address}"))
            .arg(format!("--port-min={media}"))
            .arg(format!("--port-max={}", media + MEDIA_PORTS))
            .current_dir(logs)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = proc::spawn(command)?;
        let this = Self { child, address, holder: lab.client };
        if wait_until(PATIENCE, || this.ask("ping", "").is_ok()) {
            return Ok(this);
        }
        Err(io::Error::other(format!("rtpengine at {address} does not answer")))
    }

    /// Where its `ng` protocol is heard.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn ask(&self, command: &str, call_id: &str) -> io::Result<Dict> {
        let mut dict = Dict::new();
        dict.insert(b"command".to_vec(), Value::from(command));
        if !call_id.is_empty() {
            dict.insert(b"call-id".to_vec(), Value::from(call_id));
        }
        let address = self.address;
        let answer = ns::inside(self.holder, move || -> io::Result<Vec<u8>> {
            let socket = UdpSocket::bind((net::CLIENT4, 0))?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            // It gives the same answer to the same cookie; the port is drawn by the kernel.
            let mut bytes = format!("t{} ", socket.local_addr()?.port()).into_bytes();
            write_dict(&dict, &mut bytes);
            socket.send_to(&bytes, address)?;
            let mut buffer = vec![0; 65_535];
            let (length, _) = socket.recv_from(&mut buffer)?;
            buffer.truncate(length);
            Ok(buffer)
        })??;
        let at = answer.iter().position(|b| *b == b' ').map_or(answer.len(), |at| at + 1);
        match answer.get(at..).and_then(Value::read) {
            Some(Value::Dict(dict)) => Ok(dict),
            _ => Err(io::Error::other(format!("rtpengine says {}", String::from_utf8_lossy(&answer)))),
        }
    }

    /// The Call-IDs that it has.
    ///
    /// # Errors
    /// It does not answer.
    pub fn calls(&self) -> io::Result<Vec<String>> {
        let answer = self.ask("list", "")?;
        let Some(Value::List(list)) = answer.get(b"calls".as_slice()) else { return Ok(Vec::new()) };
        let texts = list.iter().filter_map(Value::text);
        Ok(texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect())
    }

    /// RTP packets from each party of a call so far, fewest first. A party that is silent counts as 0.
    ///
    /// # Errors
    /// It does not answer.
    pub fn packets(&self, call_id: &str) -> io::Result<Vec<i64>> {
        let answer = self.ask("query", call_id)?;
        let mut counts = Vec::new();
        if let Some(Value::Dict(tags)) = answer.get(b"tags".as_slice()) {
            for tag in tags.values() {
                let mut sum = 0;
                packets_in(tag, &mut sum);
                counts.push(sum);
            }
        }
        counts.sort_unstable();
        Ok(counts)
    }
}

/// Adds the `packets` of all streams that carry RTP below a value.
fn packets_in(value: &Value, sum: &mut i64) {
    match value {
        Value::Dict(dict) => {
            let has = |key: &str, word: &str| match dict.get(key.as_bytes()) {
                Some(Value::List(list)) => list.contains(&Value::from(word)),
                _ => false,
            };
            if has("flags", "RTP")
                && let Some(Value::Dict(stats)) = dict.get(b"stats".as_slice())
                && let Some(Value::Number(packets)) = stats.get(b"packets".as_slice())
            {
                *sum += packets;
            }
            dict.values().for_each(|v| packets_in(v, sum));
        }
        Value::List(list) => list.iter().for_each(|v| packets_in(v, sum)),
        _ => {}
    }
}

impl Drop for Rtpengine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
