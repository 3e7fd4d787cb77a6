//! Peers that are no phones: PBXs that answer probes and may die, and the carrier with its registrar.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::base::MS;
use super::setup::{CARRIER_DOMAIN, PBXS};
use super::sip;

/// Expiry that the carrier grants, in seconds: a refresh is due after half of them.
const GRANTED_S: u64 = 12;

/// The challenge of the carrier.
#[must_use]
pub fn challenge(name: &str) -> String {
    format!("{name}: Digest realm=\"{CARRIER_DOMAIN}\", nonce=\"sim\", algorithm=MD5, qop=\"auth\"\r\n")
}

/// The registrar of the carrier.
#[derive(Debug, Default)]
pub struct Carrier {
    /// End of the registration, ns of the world; 0: there was none.
    pub until: u64,
    /// Registrations accepted.
    pub accepted: u64,
    /// Call-ID, From and Contact of all who have registered: one, if the nodes are one client.
    pub clients: BTreeSet<(String, String, String)>,
}

impl Carrier {
    /// A REGISTER has come.
    pub fn on_register(&mut self, text: &str, now: u64) -> String {
        let get = |name| sip::header(text, name).unwrap_or_default();
        if get("Authorization").is_empty() {
            return sip::respond_with(text, 401, "c", &challenge("WWW-Authenticate"));
        }
        self.until = now + GRANTED_S * 1_000 * MS;
        self.accepted += 1;
        self.clients.insert((get("Call-ID"), get("From"), get("Contact")));
        let contact = format!("Contact: {};expires={GRANTED_S}\r\n", get("Contact"));
        sip::respond_with(text, 200, "c", &contact)
    }
}

/// Which PBXs are alive.
#[derive(Debug, Default)]
pub struct Pbxs {
    dead: BTreeSet<SocketAddr>,
}

impl Pbxs {
    /// Whether nobody is there any more.
    #[must_use]
    pub fn is_dead(&self, at: SocketAddr) -> bool {
        self.dead.contains(&at)
    }

    /// One dies, if another is left then. Says which.
    pub fn die(&mut self, detail: u64) -> Option<SocketAddr> {
        let alive: Vec<SocketAddr> = PBXS.into_iter().filter(|at| !self.is_dead(*at)).collect();
        if alive.len() < 2 {
            return None;
        }
        let chosen = usize::try_from(detail % alive.len() as u64).ok().and_then(|n| alive.get(n)).copied()?;
        self.dead.insert(chosen);
        Some(chosen)
    }
}
