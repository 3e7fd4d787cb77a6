//! What follows from the configuration before anything runs: addresses, the cluster key, the engines' settings.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proxy_core::io::{EngineConfig, TransportConfig};
use proxy_core::state::NonceSecret;

use crate::config::{Config, Role};
use crate::net::{NetError, socket};

/// File in the state directory that holds the key of a node without a configured one.
pub const KEY_FILE: &str = "key";
/// Most engines, whatever the number of cores.
const MAX_ENGINES: u16 = 64;
/// Separates the key of branches and tags from other uses of the cluster key.
const BRANCH_KEY_LABEL: &[u8] = b"relevo deterministic branches";

/// Why the set-up failed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The state directory cannot be used.
    #[error(
        "the state folder {path} cannot be used: {why}; make it writable, or name another (node.data, --data)"
    )]
    Data {
        /// The folder or a file in it.
        path: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
    /// The key file is damaged.
    #[error(
        "{path} does not hold a key; restore it from a backup, or remove it (calls in progress are lost then)"
    )]
    Key {
        /// The file.
        path: PathBuf,
    },
}

/// The addresses SIP is answered on: the floating ones, the configured ones, or all of this machine. A witness has none.
///
/// # Errors
/// This machine has no address.
pub fn listen_addresses(config: &Config) -> Result<Vec<SocketAddr>, NetError> {
    if config.role == Role::Witness {
        return Ok(Vec::new());
    }
    if config.vip.is_some() {
        return Ok(floating_addresses(config));
    }
    let ips = if config.sip.listen.is_empty() { socket::own_addresses()? } else { config.sip.listen.clone() };
    Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, config.sip.port)).collect())
}

/// The floating addresses with the SIP port; also a witness knows them.
#[must_use]
pub fn floating_addresses(config: &Config) -> Vec<SocketAddr> {
    let ips = config.vip.iter().flat_map(|vip| &vip.addresses);
    ips.map(|(ip, _)| SocketAddr::new(*ip, config.sip.port)).collect()
}

/// Number of engines.
#[must_use]
pub fn engines(config: &Config) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match config.sip.engines {
        0 => u16::try_from(cores).unwrap_or(MAX_ENGINES).clamp(1, MAX_ENGINES),
        n => n,
    }
}

/// The settings of the engines; `shard` and `listen` are filled in later.
#[must_use]
pub fn engine_config(config: &Config, key: &[u8; 32]) -> EngineConfig {
    EngineConfig {
        shards: engines(config),
        domains: config.sip.domains.clone(),
        any_domain: config.sip.any_domain,
        key: branch_key(key),
        timer_c: std::time::Duration::from_secs(u64::from(config.sip.timer_c_s)),
        min_expires_s: config.sip.min_expires_s,
        default_expires_s: config.sip.max_expires_s,
        max_expires_s: config.sip.max_expires_s,
        max_contacts: config.sip.max_contacts,
        server: format!("Relevo/{}", env!("CARGO_PKG_VERSION")),
        routing: config.routing.engine.clone(),
        auth: config.auth.for_engines(),
        dispatch: config.dispatcher.clone(),
        failover: config.failover,
        trunk: config.trunk.clone(),
        transport: TransportConfig { tcp: config.sip.tcp, udp_max_bytes: config.sip.udp_max_bytes },
        dns: config.dns.config.clone(),
        nat: config.nat.clone(),
        dialog_lifetime: config.dialog.max_duration,
        dialog: config.dialog.config.clone(),
        accounting: config.accounting.engine,
        registrar: config.registrar.clone(),
        presence: config.presence.clone(),
        message_store: config.message_store.clone(),
        media: config.media.clone(),
        ..EngineConfig::default()
    }
}

/// What keys of nonces are drawn from: another one in each process.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn nonce_seed() -> io::Result<NonceSecret> {
    let mut seed = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(NonceSecret::new(seed))
}

/// The key of branches and tags: equal on all nodes, and of no use to learn the cluster key from.
fn branch_key(key: &[u8; 32]) -> [u8; 16] {
    use hmac::Mac;
    let mut out = [0; 16];
    // HMAC takes keys of any length.
    if let Ok(mut mac) = hmac::Hmac::<sha2::Sha256>::new_from_slice(key) {
        mac.update(BRANCH_KEY_LABEL);
        for (to, from) in out.iter_mut().zip(mac.finalize().into_bytes()) {
            *to = from;
        }
    }
    out
}

/// The cluster key: the configured one, or (single node) the one in the state directory, made at the first start.
///
/// # Errors
/// The directory cannot be used, or the file is damaged.
pub fn cluster_key(config: &Config) -> Result<[u8; 32], SetupError> {
    match config.key {
        Some(key) => Ok(key),
        None => key_file(&config.data),
    }
}

fn key_file(data: &Path) -> Result<[u8; 32], SetupError> {
    let path = data.join(KEY_FILE);
    let failed = |why| SetupError::Data { path: path.clone(), why };
    // Who registered from where is nobody else's business.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(failed)?;
    match fs::read(&path) {
        Ok(bytes) => bytes.try_into().map_err(|_| SetupError::Key { path: path.clone() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut key)).map_err(failed)?;
            // Whole or not at all: a half-written key would make the node unable to start.
            let half = path.with_extension("new");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&half)
                .map_err(failed)?;
            file.write_all(&key).and_then(|()| file.sync_all()).map_err(failed)?;
            fs::rename(&half, &path).map_err(failed)?;
            fs::File::open(data).and_then(|d| d.sync_all()).map_err(failed)?;
            Ok(key)
        }
        Err(e) => Err(failed(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_key_makes_one_and_keeps_it_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let config = Config::embedded(&dir.path().join("data"));
        let first = cluster_key(&config).expect("made");
        assert_eq!(cluster_key(&config).expect("kept"), first);
        assert_ne!(first, [0; 32]);
        std::fs::write(config.data.join(KEY_FILE), "short").expect("write");
        let said = cluster_key(&config).expect_err("damaged").to_string();
        assert!(said.contains("does not hold a key"), "{said}");
    }

    #[test]
    fn the_key_of_branches_is_not_the_cluster_key_and_the_same_everywhere() {
        let key = [7; 32];
        assert_eq!(branch_key(&key), branch_key(&key));
        assert_ne!(branch_key(&key)[..], key[..16]);
        assert_ne!(branch_key(&key), branch_key(&[8; 32]));
    }
}
