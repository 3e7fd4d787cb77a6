//! What follows from the configuration before anything runs: addresses, the cluster key, the engines' settings.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proxy_core::io::{EngineConfig, TransportConfig};
use proxy_core::state::NonceSecret;

use super::process::STORE;
use crate::config::{Config, Role};
use crate::net::{NetError, socket};

/// File in the state directory that holds the key of a node without a configured one.
pub const KEY_FILE: &str = "key";
/// Its second copy.
pub(super) const KEY_COPY: &str = "key.copy";
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of the checksum behind it: the beginning of its SHA-256.
const SUM_BYTES: usize = 4;
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
    /// The key is here, and the replicated state is not.
    #[error(
        "{store} is gone, and this node has been in use ({key} is still here); bring the folder back, begin from a backup \
         (`relevo restore FILE`), or, to begin with nothing, remove the key, too (`rm -f {key} {key}.copy`)"
    )]
    Gone {
        /// The folder of the state.
        store: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// Both copies of the key are damaged.
    #[error(
        "{path} at byte 0: it does not hold a key, and neither does {KEY_COPY} beside it; restore one of the two from a \
         backup, or let the node make a new key (`rm -f {path} {path}.copy`): calls in progress are lost then, and \
         phones are challenged once more"
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
    let mut ips =
        if config.sip.listen.is_empty() { socket::own_addresses()? } else { config.sip.listen.clone() };
    if config.file.is_none() {
        // Nobody has said who may use it: it takes every domain, and asks nobody for a password.
        ips.retain(|ip| is_private(*ip));
        if ips.is_empty() {
            return Err(NetError::NoAddress);
        }
    }
    Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, config.sip.port)).collect())
}

/// Whether an address cannot be reached from the Internet: loopback, RFC 1918, link-local, unique local.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
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

/// What one copy of the key is.
enum Copy {
    Missing,
    Damaged,
    /// Without a checksum, as early builds wrote it.
    Bare([u8; KEY_BYTES]),
    Whole([u8; KEY_BYTES]),
}

fn sum(key: &[u8; KEY_BYTES]) -> [u8; SUM_BYTES] {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(key);
    std::array::from_fn(|n| hash[n])
}

fn read_copy(path: &Path) -> io::Result<Copy> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Copy::Missing),
        // A sector that cannot be read is as good as one that holds something else.
        Err(e) if raft_store::disk::is_damage(&e) => return Ok(Copy::Damaged),
        Err(e) => return Err(e),
    };
    Ok(match bytes.split_first_chunk::<KEY_BYTES>() {
        Some((key, [])) => Copy::Bare(*key),
        Some((key, rest)) if *rest == sum(key) => Copy::Whole(*key),
        _ => Copy::Damaged,
    })
}

/// Writes one copy, whole or not at all: a half-written key would be a damaged one.
fn write_copy(path: &Path, key: &[u8; KEY_BYTES]) -> io::Result<()> {
    let half = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(&[&key[..], &sum(key)].concat())?;
    file.sync_all()?;
    fs::rename(&half, path)
}

/// Two copies, each with its checksum: with another key a node could not carry on its own calls, and would not notice.
fn key_file(data: &Path) -> Result<[u8; KEY_BYTES], SetupError> {
    let paths = [data.join(KEY_FILE), data.join(KEY_COPY)];
    let failed = |why| SetupError::Data { path: paths[0].clone(), why };
    // Who registered from where is nobody else's business.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(failed)?;
    let found = [read_copy(&paths[0]).map_err(failed)?, read_copy(&paths[1]).map_err(failed)?];
    let store = data.join(STORE);
    let key = match &found {
        // Where they differ somebody has put another one there.
        [Copy::Whole(key), _] | [_, Copy::Whole(key)] => *key,
        [Copy::Bare(key), Copy::Missing] => *key,
        [Copy::Missing, Copy::Missing] => {
            // Before the key: where that is, and the folder is not, the folder is lost.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&store).map_err(failed)?;
            fs::File::open(data).and_then(|d| d.sync_all()).map_err(failed)?;
            let mut key = [0; KEY_BYTES];
            fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut key)).map_err(failed)?;
            key
        }
        _ => return Err(SetupError::Key { path: paths[0].clone() }),
    };
    if !store.is_dir() {
        return Err(SetupError::Gone { store, key: paths[0].clone() });
    }
    for (path, copy) in paths.iter().zip(&found) {
        if !matches!(copy, Copy::Whole(held) if *held == key) {
            if matches!(copy, Copy::Damaged) {
                tracing::warn!(file = %path.display(), "a copy of the key was damaged; it is made anew");
            }
            write_copy(path, &key).map_err(failed)?;
        }
    }
    fs::File::open(data).and_then(|d| d.sync_all()).map_err(failed)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_no_address_of_the_internet_is_answered_on() {
        for private in
            ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"]
        {
            assert!(is_private(private.parse().expect("an address")), "{private}");
        }
        for open in ["192.0.2.1", "172.32.0.1", "8.8.8.8", "2001:db8::1", "::ffff:8.8.8.8", "100.64.0.1"] {
            assert!(!is_private(open.parse().expect("an address")), "{open}");
        }
        let config = Config::embedded(Path::new("/nowhere"));
        let found = listen_addresses(&config).expect("loopback at least");
        assert!(found.iter().all(|a| is_private(a.ip())), "{found:?}");
        // A file may say otherwise.
        let text = "[sip]\nlisten = [\"192.0.2.1\"]\n";
        let config = Config::parse(Path::new("a.toml"), text).expect("right");
        assert_eq!(listen_addresses(&config).expect("as named")[0].ip().to_string(), "192.0.2.1");
    }

    #[test]
    fn a_node_without_a_key_makes_one_and_keeps_it_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let config = Config::embedded(&dir.path().join("data"));
        let first = cluster_key(&config).expect("made");
        assert_eq!(cluster_key(&config).expect("kept"), first);
        assert_ne!(first, [0; 32]);
        // One copy in any condition is made anew from the other.
        let damages: [&dyn Fn(&Path); 4] = [
            &|file| fs::remove_file(file).expect("removed"),
            &|file| fs::write(file, "short").expect("written"),
            &|file| fs::write(file, [0; KEY_BYTES + SUM_BYTES]).expect("written"),
            &|file| {
                let mut bytes = fs::read(file).expect("there");
                bytes[9] ^= 4;
                fs::write(file, bytes).expect("written");
            },
        ];
        for damage in damages {
            for name in [KEY_FILE, KEY_COPY] {
                damage(&config.data.join(name));
                assert_eq!(cluster_key(&config).expect("the other copy"), first);
            }
        }
        for name in [KEY_FILE, KEY_COPY] {
            damages[3](&config.data.join(name));
        }
        let said = cluster_key(&config).expect_err("damaged").to_string();
        assert!(said.contains("at byte 0: it does not hold a key") && said.contains("`rm -f "), "{said}");
    }

    #[test]
    fn a_key_whose_state_is_gone_is_that_of_a_node_that_was_in_use() {
        let dir = tempfile::tempdir().expect("tempdir");
        let config = Config::embedded(&dir.path().join("data"));
        cluster_key(&config).expect("made");
        fs::remove_dir_all(config.data.join(STORE)).expect("lost");
        let said = cluster_key(&config).expect_err("it must not begin anew").to_string();
        assert!(said.contains("raft is gone") && said.contains("relevo restore"), "{said}");
        for name in [KEY_FILE, KEY_COPY] {
            fs::remove_file(config.data.join(name)).expect("removed");
        }
        cluster_key(&config).expect("a new node");
    }

    #[test]
    fn a_key_without_a_checksum_is_taken_over_from_an_early_build() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join(STORE)).expect("made");
        fs::write(dir.path().join(KEY_FILE), [5; KEY_BYTES]).expect("written");
        let config = Config::embedded(dir.path());
        assert_eq!(cluster_key(&config).expect("read"), [5; KEY_BYTES]);
        fs::remove_file(dir.path().join(KEY_FILE)).expect("removed");
        assert_eq!(cluster_key(&config).expect("its copy"), [5; KEY_BYTES]);
    }

    #[test]
    fn the_key_of_branches_is_not_the_cluster_key_and_the_same_everywhere() {
        let key = [7; 32];
        assert_eq!(branch_key(&key), branch_key(&key));
        assert_ne!(branch_key(&key)[..], key[..16]);
        assert_ne!(branch_key(&key), branch_key(&[8; 32]));
    }
}
