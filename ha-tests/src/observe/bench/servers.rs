//! Who is measured with the same phones: the lab's cluster, one Relevo alone, and Kamailio as Debian ships it.
//!
//! Kamailio and the lone Relevo each get a machine (a namespace) of their own on the lab's bridge while they are
//! measured, so all three are as far from the phones.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::config::DOMAIN;
use crate::lab::proc::{Proc, Stat, wait_until};
use crate::lab::state::LabState;
use crate::lab::{cluster, disk, interrupt, net, ns, proc};
use crate::phones::sipp::Server as Asked;

/// Host number of the machine on the bridge.
const HOST: u8 = 33;
/// Bound for a server to answer.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Bound for a killed process to be gone.
const DEATH_LIMIT: Duration = Duration::from_secs(5);
/// Shared memory of Kamailio, MB: its default of 64 holds fewer calls than are offered here.
const KAMAILIO_MEMORY_MB: &str = "512";
/// The file of the package.
const KAMAILIO_FILE: &str = "/etc/kamailio/kamailio.cfg";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Cluster,
    Alone,
    Kamailio,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Kamailio, Kind::Alone, Kind::Cluster];

    pub(super) fn title(self) -> &'static str {
        match self {
            Kind::Cluster => "Relevo, three nodes",
            Kind::Alone => "Relevo, one node",
            Kind::Kamailio => "Kamailio (defaults, memory only)",
        }
    }
}

/// A server that answers. Its own machine is gone when it is dropped.
pub(super) struct Server {
    /// Where it is asked, and for which domain.
    pub(super) asked: Asked,
    /// Namespaces whose processes do its work.
    machines: Vec<Proc>,
    own: Option<(Proc, Proc, PathBuf)>,
}

impl Server {
    /// Starts it (the cluster runs already) and waits until it answers.
    ///
    /// # Errors
    /// A program is missing, or nothing answers in time.
    pub(super) fn start(lab: &LabState, kind: Kind) -> io::Result<Self> {
        let (Kind::Alone | Kind::Kamailio) = kind else {
            let at =
                SocketAddr::from((net::VIP4.parse::<Ipv4Addr>().map_err(io::Error::other)?, lab.sip_port));
            let machines = lab.nodes.iter().filter_map(|n| n.holder).collect();
            return Ok(Self { asked: Asked { at, domain: DOMAIN.to_owned() }, machines, own: None });
        };
        let host = format!("{}.{HOST}", net::NET4);
        let at = SocketAddr::from((host.parse::<Ipv4Addr>().map_err(io::Error::other)?, lab.sip_port));
        let home = lab.dir.join("beside");
        fs::create_dir_all(&home)?;
        // Like that of the nodes: what an fsync costs is part of the figure.
        let disk = home.join("disk");
        disk::make(&disk, disk::DISK_BYTES, lab.rootless)?;
        let holder = match ns::hold_new(true) {
            Ok(holder) => holder,
            Err(e) => {
                disk::unmake(&disk);
                return Err(e);
            }
        };
        let server = Self {
            asked: Asked { at, domain: host.clone() },
            machines: vec![holder],
            own: Some((lab.switch, holder, disk.clone())),
        };
        net::plug(lab.switch, holder, &port(), HOST)?;
        let mut command = match kind {
            Kind::Kamailio => {
                let program = cluster::in_path("kamailio").ok_or_else(|| {
                    io::Error::other("kamailio is not installed; scripts/need-packages kamailio")
                })?;
                let mut command = ns::command_in(holder, program, true)?;
                command.args(["-f", KAMAILIO_FILE, "-DD", "-E", "-m", KAMAILIO_MEMORY_MB, "-l"]);
                command.arg(format!("udp:{at}")).arg("-Y").arg(&home).arg("-w").arg(&home);
                command.arg("-P").arg(home.join("kamailio.pid"));
                command
            }
            _ => {
                let file = home.join("relevo.toml");
                let text = format!(
                    "[node]\ndata = \"{}\"\nadmin = \"{}\"\n\n[sip]\nport = {}\nlisten = [\"{host}\"]\ndomains = [\"{host}\"]\n",
                    disk.join("data").display(),
                    home.join("admin.sock").display(),
                    lab.sip_port,
                );
                fs::write(&file, text)?;
                let mut command = ns::command_in(holder, &lab.relevo, true)?;
                command.arg("run").arg("--config").arg(file);
                command
            }
        };
        let log = fs::File::create(home.join("log"))?;
        command.current_dir(&home).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        drop(proc::spawn(command)?);
        server.wait_answer(lab)?;
        Ok(server)
    }

    fn wait_answer(&self, lab: &LabState) -> io::Result<()> {
        let socket = ns::inside(lab.client, || UdpSocket::bind((net::CLIENT4, 0)))??;
        socket.connect(self.asked.at)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let own = socket.local_addr()?;
        let (at, mut n) = (self.asked.at, 0);
        let mut buffer = [0; 4096];
        let answered = wait_until(READY_LIMIT, || {
            n += 1;
            let knock = format!(
                "OPTIONS sip:{at} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKknock{n};rport\r\nMax-Forwards: 70\r\n\
                 From: <sip:bench@{at}>;tag=k\r\nTo: <sip:{at}>\r\nCall-ID: knock-{n}\r\nCSeq: 1 OPTIONS\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            let heard = socket.send(knock.as_bytes()).is_ok() && socket.recv(&mut buffer).is_ok();
            heard || interrupt::requested()
        });
        interrupt::check()?;
        let log = || fs::read_to_string(lab.dir.join("beside/log")).unwrap_or_default();
        if answered { Ok(()) } else { Err(io::Error::other(format!("{at} does not answer: {}", log()))) }
    }

    /// Processor time that it has used so far.
    pub(super) fn busy(&self) -> Duration {
        self.machines
            .iter()
            .flat_map(|m| ns::members(*m))
            .filter_map(|p| Stat::read(p.pid))
            .map(|s| s.busy)
            .sum()
    }
}

fn port() -> String {
    format!("b{HOST}")
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some((switch, holder, disk)) = self.own.take() else { return };
        let members = ns::members(holder);
        for process in &members {
            process.signal(Signal::SIGKILL);
        }
        for process in &members {
            process.wait_gone(DEATH_LIMIT);
        }
        net::unplug(switch, &port());
        disk::unmake(&disk);
    }
}
