//! The kernel-enforced lease: a gate in nftables that closes by itself.
//!
//! Everything to and from a floating IP is dropped, unless the address is in one of two sets whose elements end by
//! timeout. A renewal empties one set and fills it anew, in one transaction, while the other set still holds; the next
//! renewal takes the other one. When renewals stop, for whatever reason, the kernel drops what comes after the
//! timeout. (The kernel cannot extend an element that exists, and emptying the only set would lose packets.)
//!
//! | table | stops |
//! |---|---|
//! | `inet relevo` | all IP in and out, neighbour advertisements too: their source is the address itself |
//! | `arp relevo` | ARP for and from it |
//!
//! An element ends at the tick of the kernel's clock (1 to 10 ms) in which its timeout ends, and stops matching then,
//! whenever it is collected. Frames that a process writes to a packet socket pass no table: announcements are such.
//!
//! Other programs may remove the tables (`systemctl reload nftables` empties the whole rule set). Then nothing holds
//! the gate closed; the next renewal finds out, and makes them anew.

use std::io::{self, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::netlink::{Messages, Socket, attributes, messages};
use super::vip::octets;
use super::{OsError, os_error};

const TABLE: &str = "relevo";
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_GETRULE: u16 = 7;
const NFTA_RULE_TABLE: u16 = 1;
/// Rules of `script` in both tables.
const RULES: usize = 6;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_DATA_VALUE: u16 = 1;
const NFPROTO_INET: u8 = 1;
const NFPROTO_ARP: u8 = 3;

/// One set in one table.
struct Place {
    family: u8,
    set: &'static str,
    ipv4: bool,
}

const SETS: [[Place; 3]; 2] = [
    [
        Place { family: NFPROTO_INET, set: "lease_a4", ipv4: true },
        Place { family: NFPROTO_INET, set: "lease_a6", ipv4: false },
        Place { family: NFPROTO_ARP, set: "lease_a4", ipv4: true },
    ],
    [
        Place { family: NFPROTO_INET, set: "lease_b4", ipv4: true },
        Place { family: NFPROTO_INET, set: "lease_b6", ipv4: false },
        Place { family: NFPROTO_ARP, set: "lease_b4", ipv4: true },
    ],
];

const fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}

fn header(family: u8, subsystem: u16) -> [u8; 4] {
    let [high, low] = subsystem.to_be_bytes();
    [family, 0, high, low]
}

/// A batch that can be sent again and again.
#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    /// Where the timeouts stand in it.
    timeouts: Vec<usize>,
}

impl Batch {
    /// Empties the sets at `places`, and fills them with `addresses` if `fill`.
    fn new<'a>(places: impl Iterator<Item = &'a Place>, addresses: &[IpAddr], fill: bool) -> Self {
        let mut m =
            Messages::default().begin(NFNL_MSG_BATCH_BEGIN, 0, &header(0, NFNL_SUBSYS_NFTABLES)).end();
        let mut timeouts = Vec::new();
        for place in places {
            let of_family: Vec<_> = addresses.iter().filter(|ip| ip.is_ipv4() == place.ipv4).collect();
            if of_family.is_empty() {
                continue;
            }
            // Without a list of elements: all of them.
            m = m
                .begin(kind(NFT_MSG_DELSETELEM), libc::NLM_F_ACK as u16, &header(place.family, 0))
                .name(NFTA_SET_ELEM_LIST_TABLE, TABLE)
                .name(NFTA_SET_ELEM_LIST_SET, place.set)
                .end();
            if !fill {
                continue;
            }
            let flags = libc::NLM_F_CREATE | libc::NLM_F_ACK;
            m = m
                .begin(kind(NFT_MSG_NEWSETELEM), flags as u16, &header(place.family, 0))
                .name(NFTA_SET_ELEM_LIST_TABLE, TABLE)
                .name(NFTA_SET_ELEM_LIST_SET, place.set)
                .nest(NFTA_SET_ELEM_LIST_ELEMENTS);
            for ip in of_family {
                m = m
                    .nest(NFTA_LIST_ELEM)
                    .nest(NFTA_SET_ELEM_KEY)
                    .attr(NFTA_DATA_VALUE, &octets(*ip))
                    .unnest()
                    .attr(NFTA_SET_ELEM_TIMEOUT, &[0; 8])
                    .unnest();
                timeouts.push(m.len() - 8);
            }
            m = m.unnest().end();
        }
        let bytes = m.begin(NFNL_MSG_BATCH_END, 0, &header(0, NFNL_SUBSYS_NFTABLES)).end().finish();
        Self { bytes, timeouts }
    }

    /// Writes `ms` into all elements.
    fn set_timeout(&mut self, ms: u64) {
        for at in &self.timeouts {
            if let Some(place) = self.bytes.get_mut(*at..at + 8) {
                place.copy_from_slice(&ms.to_be_bytes());
            }
        }
    }
}

/// The tables, as `nft -f -` reads them: an older one is replaced in the same transaction, closed.
fn script(addresses: &[IpAddr]) -> String {
    let list = |ipv4: bool| {
        let of_family: Vec<_> =
            addresses.iter().filter(|ip| ip.is_ipv4() == ipv4).map(IpAddr::to_string).collect();
        if of_family.is_empty() {
            String::new()
        } else {
            format!("elements = {{ {} }}", of_family.join(", "))
        }
    };
    let (v4, v6) = (list(true), list(false));
    let leases = |n: u8, kind: &str| {
        format!(
            "set lease_a{n} {{ type {kind}; flags timeout; }}\n set lease_b{n} {{ type {kind}; flags timeout; }}"
        )
    };
    let drop = |what: &str, n: u8| {
        format!("{what} @vip{n} {what} != @lease_a{n} {what} != @lease_b{n} counter drop")
    };
    let (leases4, leases6) = (leases(4, "ipv4_addr"), leases(6, "ipv6_addr"));
    format!(
        "table inet {TABLE} {{}}
delete table inet {TABLE}
table inet {TABLE} {{
 set vip4 {{ type ipv4_addr; {v4} }}
 set vip6 {{ type ipv6_addr; {v6} }}
 {leases4}
 {leases6}
 chain in {{
  type filter hook input priority -300; policy accept;
  {in4}
  {in6}
 }}
 chain out {{
  type filter hook output priority -300; policy accept;
  {out4}
  {out6}
 }}
}}
table arp {TABLE} {{}}
delete table arp {TABLE}
table arp {TABLE} {{
 set vip4 {{ type ipv4_addr; {v4} }}
 {leases4}
 chain in {{
  type filter hook input priority 0; policy accept;
  {arp_in}
 }}
 chain out {{
  type filter hook output priority 0; policy accept;
  {arp_out}
 }}
}}
",
        in4 = drop("ip daddr", 4),
        in6 = drop("ip6 daddr", 6),
        out4 = drop("ip saddr", 4),
        out6 = drop("ip6 saddr", 6),
        arp_in = drop("arp daddr ip", 4),
        arp_out = drop("arp saddr ip", 4),
    )
}

fn nft(text: &str) -> Result<(), OsError> {
    let spawned = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(OsError::NoNft),
        Err(e) => return Err(os_error("starting nft")(e)),
    };
    // One that ends without reading says why, and has to be waited for.
    let told = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().map_err(os_error("waiting for nft"))?;
    if output.status.success() {
        return told.map_err(os_error("talking to nft"));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("not permitted") || said.contains("must be root") {
        return Err(OsError::Permission { what: "the gate of the floating IP (nftables)".into() });
    }
    Err(OsError::Nft(said.lines().take(3).collect::<Vec<_>>().join("; ")))
}

/// The gate of this node's floating IPs.
#[derive(Debug)]
pub struct KernelLease {
    socket: Socket,
    addresses: Vec<IpAddr>,
    /// The set that the next renewal fills.
    side: usize,
    renewals: [Batch; 2],
    /// One for each table: a batch fails as a whole, and one table may be missing.
    closings: [Batch; 2],
}

impl KernelLease {
    /// Makes the tables, closed; older ones are replaced.
    ///
    /// # Errors
    /// No `nft`, no permission.
    pub fn install(addresses: &[IpAddr]) -> Result<Self, OsError> {
        nft(&script(addresses))?;
        Self::attach(addresses)
    }

    /// Uses the tables that are there: for the guard, which only ever closes the gate.
    ///
    /// # Errors
    /// No netlink.
    pub fn attach(addresses: &[IpAddr]) -> Result<Self, OsError> {
        let socket = Socket::open(libc::NETLINK_NETFILTER).map_err(os_error("netlink"))?;
        let renewals = [0, 1].map(|side: usize| Batch::new(SETS[side].iter(), addresses, true));
        let closings = [NFPROTO_INET, NFPROTO_ARP].map(|family| {
            Batch::new(SETS.iter().flatten().filter(|place| place.family == family), addresses, false)
        });
        Ok(Self { socket, addresses: addresses.to_vec(), side: 0, renewals, closings })
    }

    /// Opens the gate for `left` from now, or keeps it open so long. Whole milliseconds, rounded down; nothing happens
    /// below one. Takes no memory, unless the tables have been removed by somebody: then they are made anew.
    ///
    /// # Errors
    /// The kernel's: then nothing was changed.
    pub fn renew(&mut self, left: Duration) -> io::Result<()> {
        let begun = Instant::now();
        match self.fill(left) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                tracing::error!(
                    "the gate of the floating IP was removed by another program (nft flush ruleset?): made anew"
                );
                nft(&script(&self.addresses)).map_err(io::Error::other)?;
                // That took its time, by which the lease must not become longer.
                self.fill(left.saturating_sub(begun.elapsed()))
            }
            other => other,
        }
    }

    fn fill(&mut self, left: Duration) -> io::Result<()> {
        let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return Ok(());
        }
        let batch = &mut self.renewals[self.side];
        batch.set_timeout(ms);
        self.socket.send(&batch.bytes, &[])?;
        self.side ^= 1;
        Ok(())
    }

    /// Closes the gate now. Takes no memory.
    ///
    /// # Errors
    /// The kernel's; that a table is not there is none.
    pub fn clear(&self) -> io::Result<()> {
        self.closings.iter().map(|b| self.socket.send(&b.bytes, &[libc::ENOENT])).fold(Ok(()), Result::and)
    }

    /// Whether the tables are there with all their rules. Whoever has taken a rule away has opened the gate for ever.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_whole(&self) -> io::Result<bool> {
        let mut rules = 0;
        for family in [NFPROTO_INET, NFPROTO_ARP] {
            let question = Messages::default()
                .begin(kind(NFT_MSG_GETRULE), libc::NLM_F_DUMP as u16, &header(family, 0))
                .name(NFTA_RULE_TABLE, TABLE)
                .end()
                .finish();
            let answer = match self.socket.list(&question) {
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(false),
                answer => answer?,
            };
            // The kernel may tell of other tables as well.
            let name = |body: &[u8]| {
                let mut all = attributes(body.get(4..).unwrap_or_default());
                all.any(|(k, v)| {
                    k == NFTA_RULE_TABLE && v.split(|b| *b == 0).next() == Some(TABLE.as_bytes())
                })
            };
            rules += messages(&answer).filter(|(k, body)| *k == kind(NFT_MSG_NEWRULE) && name(body)).count();
        }
        Ok(rules == RULES)
    }

    /// Makes the tables anew, closed.
    ///
    /// # Errors
    /// What `nft` said.
    pub fn make_anew(&self) -> Result<(), OsError> {
        nft(&script(&self.addresses))
    }

    /// Removes the tables.
    ///
    /// # Errors
    /// As for [`KernelLease::install`].
    pub fn uninstall(self) -> Result<(), OsError> {
        nft(&format!(
            "table inet {TABLE} {{}}\ndelete table inet {TABLE}\ntable arp {TABLE} {{}}\ndelete table arp {TABLE}\n"
        ))
    }
}
