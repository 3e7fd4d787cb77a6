//! `relevo reload` and SIGHUP: the file is read and checked whole, and then what can change while calls go on is taken.
//!
//! What is read only at the start is named and left. A later reload names it again, until the node is restarted.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use proxy_core::io::EngineConfig;

use super::{log, setup};
use crate::config::Config;
use crate::config::keys::{Difference, differences, needs_restart};
use crate::net::sip::Sip;

/// A file that is being written while it is read is read again, so often.
const READINGS: usize = 5;

/// What a node goes by now.
#[derive(Debug, Clone)]
pub struct Running {
    /// The configuration, without what waits for a restart.
    pub config: Config,
    /// What the engines are told.
    pub engine: EngineConfig,
}

/// What came of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// These count now.
    pub changed: Vec<Difference>,
    /// These wait for a restart.
    pub left: Vec<Difference>,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unchanged {
    /// The node runs without a file.
    #[error("this node runs without a configuration file")]
    NoFile,
    /// The file has nothing in it, perhaps because it is being written.
    #[error("{0} is empty: it may be half written")]
    Empty(String),
    /// The file goes on changing.
    #[error("{0} changes while it is read")]
    Restless(String),
    /// Everything that is wrong with it.
    #[error("{0}")]
    Wrong(String),
}

impl Unchanged {
    /// What mends it.
    #[must_use]
    pub fn cure(&self) -> &'static str {
        match self {
            Self::NoFile => "start it with relevo run --config FILE",
            Self::Empty(_) | Self::Restless(_) => {
                "write it whole (under another name, then mv), and reload again"
            }
            Self::Wrong(_) => {
                "mend it (relevo config check names it all), and reload again; nothing was changed"
            }
        }
    }
}

/// What a node goes by once `new` is read: of what is read only at the start, that of `old`. Pure.
#[must_use]
pub fn merge(old: &Config, new: Config) -> (Config, Outcome) {
    let (left, changed): (Vec<_>, Vec<_>) =
        differences(&old.keys, &new.keys).into_iter().partition(|d| needs_restart(&d.key));
    let mut keys = old.keys.clone();
    for d in &changed {
        match &d.to {
            Some(value) => drop(keys.insert(d.key.clone(), value.clone())),
            None => drop(keys.remove(&d.key)),
        }
    }
    let mut sip = old.sip.clone();
    sip.domains = new.sip.domains;
    sip.any_domain = new.sip.any_domain;
    sip.timer_c_s = new.sip.timer_c_s;
    sip.min_expires_s = new.sip.min_expires_s;
    sip.max_expires_s = new.sip.max_expires_s;
    sip.max_contacts = new.sip.max_contacts;
    let mut dns = old.dns.clone();
    dns.config = proxy_core::dns::DnsConfig { patience: old.dns.config.patience, ..new.dns.config };
    let mut accounting = old.accounting.clone();
    accounting.engine = new.accounting.engine;
    let config = Config {
        keys,
        log: new.log,
        sip,
        routing: new.routing,
        auth: new.auth,
        dispatcher: new.dispatcher,
        failover: new.failover,
        trunk: new.trunk,
        dns,
        nat: new.nat,
        accounting,
        dialog: new.dialog,
        registrar: new.registrar,
        presence: new.presence,
        message_store: new.message_store,
        ..old.clone()
    };
    (config, Outcome { changed, left })
}

/// Reads the file when nobody writes to it.
fn load(path: &Path) -> Result<Config, Unchanged> {
    let name = || path.display().to_string();
    let state = || -> Option<(SystemTime, u64)> {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    for _ in 0..READINGS {
        let before = state();
        let config = Config::load(path);
        if before != state() {
            continue;
        }
        let config = config.map_err(|e| Unchanged::Wrong(e.to_string()))?;
        // An editor that truncates a file first would else open the node to everybody.
        return if config.keys.is_empty() { Err(Unchanged::Empty(name())) } else { Ok(config) };
    }
    Err(Unchanged::Restless(name()))
}

/// Reloads the configuration of a running node, one reload after the other.
#[derive(Debug)]
pub struct Reloader {
    running: RwLock<Arc<Running>>,
    /// Held by the reload under way.
    turn: Mutex<()>,
    sip: Option<Arc<Sip>>,
}

impl Reloader {
    /// For a node that starts with this.
    #[must_use]
    pub fn new(config: Config, engine: EngineConfig, sip: Option<Arc<Sip>>) -> Self {
        Self { running: RwLock::new(Arc::new(Running { config, engine })), turn: Mutex::new(()), sip }
    }

    /// What the node goes by now.
    #[must_use]
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again, takes what can be taken, and says in the log what came of it.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn reload(&self) -> Result<Outcome, Unchanged> {
        let outcome = self.take();
        match &outcome {
            Ok(outcome) => tell(outcome),
            Err(why) => tracing::error!("reload refused, nothing was changed: {why}; {}", why.cure()),
        }
        outcome
    }

    fn take(&self) -> Result<Outcome, Unchanged> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.running();
        let file = old.config.file.clone().ok_or(Unchanged::NoFile)?;
        let (config, outcome) = merge(&old.config, load(&file)?);
        if outcome.changed.is_empty() {
            return Ok(outcome);
        }
        let engine = setup::engine_config(&config, &[0; 32]).kept_from(&old.engine);
        log::set_level(&config.log);
        if let Some(sip) = &self.sip {
            sip.settings(&engine);
        }
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Running { config, engine });
        Ok(outcome)
    }
}

fn tell(outcome: &Outcome) {
    let words = |list: &[Difference]| list.iter().map(Difference::words).collect::<Vec<_>>().join(", ");
    match outcome.changed.as_slice() {
        [] => tracing::info!("reload: nothing has changed that counts without a restart"),
        changed => tracing::info!("reload: {}", words(changed)),
    }
    if !outcome.left.is_empty() {
        tracing::warn!("reload: these count from the next start of this node on: {}", words(&outcome.left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "[node]\ndata = \"/a\"\n[sip]\nport = 5070\ndomains = [\"a.test\"]\n";
    const NEW: &str = "[node]\ndata = \"/b\"\n[sip]\nport = 5080\ndomains = [\"b.test\"]\nmax_contacts = 3\n\
        [dialog]\nmax_duration_s = 60\n[limits]\ncalls_per_caller = 2\n";

    fn parse(text: &str) -> Config {
        Config::parse(Path::new("a.toml"), text).expect("right")
    }

    fn names(list: &[Difference]) -> Vec<&str> {
        list.iter().map(|d| d.key.as_str()).collect()
    }

    #[test]
    fn what_can_change_is_taken_and_what_needs_a_restart_is_named_and_left() {
        let (config, outcome) = merge(&parse(OLD), parse(NEW));
        assert_eq!(
            names(&outcome.changed),
            ["dialog.max_duration_s", "limits.calls_per_caller", "sip.domains", "sip.max_contacts"]
        );
        assert_eq!(names(&outcome.left), ["node.data", "sip.port"]);
        assert_eq!((config.data.to_str(), config.sip.port), (Some("/a"), 5070));
        assert_eq!((config.sip.domains[0].as_str(), config.sip.max_contacts), ("b.test", 3));
        // What was left is named again, and what was taken is not.
        let (_, again) = merge(&config, parse(NEW));
        assert_eq!((names(&again.changed), names(&again.left)), (vec![], vec!["node.data", "sip.port"]));
    }

    #[test]
    fn a_file_that_is_wrong_or_empty_or_gone_changes_nothing_and_the_last_good_one_counts() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("r.toml");
        std::fs::write(&file, OLD).expect("written");
        let config = Config::load(&file).expect("right");
        let engine = setup::engine_config(&config, &[7; 32]);
        let reloader = Reloader::new(config.clone(), engine.clone(), None);
        for (text, said) in [("", "is empty"), ("[sip\n", "r.toml:1: "), ("[sip]\nprot = 1\n", "r.toml:2: ")]
        {
            std::fs::write(&file, text).expect("written");
            let why = reloader.reload().expect_err("refused");
            assert!(why.to_string().contains(said), "{why}");
        }
        std::fs::remove_file(&file).expect("removed");
        assert!(reloader.reload().expect_err("gone").to_string().contains("cannot be read"));
        assert_eq!(reloader.running().config, config);
        for text in [NEW, OLD, NEW] {
            std::fs::write(&file, text).expect("written");
            reloader.reload().expect("taken");
        }
        let running = reloader.running();
        assert_eq!((running.engine.domains[0].as_str(), running.engine.max_contacts), ("b.test", 3));
        assert_eq!((running.engine.key, running.engine.shards), (engine.key, engine.shards));
    }
}
