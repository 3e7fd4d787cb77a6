//! What is seen from outside: whether something came to be, whether a process lives, whether the floating IP answers.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{PATIENCE, V4};

pub fn until(what: &str, mut met: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < end, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Dead, or dead and waiting to be buried.
pub fn is_dead(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"))
}

/// Whether the signal waits for the process.
pub fn is_pending(pid: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|l| l.strip_prefix("ShdPnd:")).expect("pending signals");
    let mask = u64::from_str_radix(line.trim(), 16).expect("a mask");
    mask >> (signal as i32 - 1) & 1 == 1
}

/// Pings the floating IP every millisecond until told to stop; returns when which was sent and whether it was answered.
pub fn ask(stop: &AtomicBool, answers: &AtomicUsize) -> Vec<(Instant, bool)> {
    use std::io::Read;
    let ip: Ipv4Addr = V4.parse().expect("address");
    let to = SocketAddr::from((ip, 0)).into();
    let mut socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::ICMPV4))
            .expect("raw socket");
    socket.set_nonblocking(true).expect("nonblocking");
    let mut asked: Vec<(Instant, bool)> = Vec::new();
    let hear = |asked: &mut Vec<(Instant, bool)>, socket: &mut socket2::Socket| {
        let mut packet = [0; 128];
        while let Ok(n) = socket.read(&mut packet) {
            // Behind the IP header: an echo reply of ours with its number.
            if n >= 32 && packet[20] == 0 && packet[24..26] == *b"RG" {
                let number = u32::from_be_bytes([packet[28], packet[29], packet[30], packet[31]]) as usize;
                if let Some(question) = asked.get_mut(number) {
                    question.1 = true;
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    while !stop.load(Ordering::Relaxed) {
        let mut echo = [8, 0, 0, 0, b'R', b'G', 0, 0, 0, 0, 0, 0];
        echo[8..].copy_from_slice(&(asked.len() as u32).to_be_bytes());
        let sum: u32 = echo.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
        echo[2..4].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
        asked.push((Instant::now(), false));
        let _ = socket.send_to(&echo, &to);
        std::thread::park_timeout(Duration::from_millis(1));
        hear(&mut asked, &mut socket);
    }
    std::thread::park_timeout(Duration::from_millis(50));
    hear(&mut asked, &mut socket);
    asked
}
