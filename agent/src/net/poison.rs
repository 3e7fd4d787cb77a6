//! Messages that no engine survives. One with which two engines have died, on whatever nodes, is refused when it comes
//! again, and kept in a file to send in. Which one it was is known by its fingerprint: each engine notes it before.
//!
//! | death | known by | told to the others |
//! |---|---|---|
//! | a panic, which the engine's thread survives | the thread itself | `Command::Suspect` |
//! | of the whole process | the guard, from the page that it holds | by the next agent, in the same way |

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::control::{DEATHS_THAT_PROVE, Suspect};
use crate::guard::marks::Marks;
use crate::guard::suspects::{MAX_SUSPECTS, Suspects};

/// Files kept to send in; when there are so many, no more are written.
pub const MAX_FILES: usize = 32;
/// The folder for them in the data folder.
pub const FOLDER: &str = "to-send-in";

/// What is known of them on this node.
#[derive(Debug, Default)]
pub struct Poison {
    marks: Option<Marks>,
    folder: Option<PathBuf>,
    /// Whether `refused` holds anything: all that costs a message that is none.
    any: AtomicBool,
    refused: Mutex<BTreeSet<u64>>,
    /// Deaths of engines of this node, for the cluster: fingerprint → how many, and the moment of the last.
    own: Mutex<BTreeMap<u64, (u32, u64)>>,
}

impl Poison {
    /// With what the guard has left to this process. Files go into a folder inside `data`.
    #[must_use]
    pub fn new(marks: Option<Marks>, suspects: &Suspects, data: &Path) -> Self {
        let own: BTreeMap<_, _> =
            suspects.list().iter().map(|s| (s.fingerprint, (s.deaths, s.moment))).collect();
        let poison = Self { marks, folder: Some(data.join(FOLDER)), own: Mutex::new(own), ..Self::default() };
        let proven: Vec<u64> =
            suspects.list().iter().filter(|s| s.deaths >= DEATHS_THAT_PROVE).map(|s| s.fingerprint).collect();
        poison.refuse(&proven);
        poison
    }

    /// Engine `shard` is about to handle this one; 0: it is done.
    pub fn note(&self, shard: u16, fingerprint: u64) {
        if let Some(marks) = &self.marks {
            marks.note(shard, fingerprint);
        }
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn refuses(&self, fingerprint: u64) -> bool {
        self.any.load(Ordering::Acquire)
            && self.refused.lock().unwrap_or_else(PoisonError::into_inner).contains(&fingerprint)
    }

    /// The cluster, or this node, knows that these are some.
    pub fn refuse(&self, fingerprints: &[u64]) {
        if fingerprints.is_empty() {
            return;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        for fingerprint in fingerprints {
            if refused.len() < 2 * MAX_SUSPECTS && refused.insert(*fingerprint) {
                tracing::error!(
                    "a message that engines have died with is refused from now on (fingerprint {fingerprint:016x})"
                );
            }
        }
        self.any.store(!refused.is_empty(), Ordering::Release);
    }

    /// An engine of this node has just failed at it. `moment` names the death, ms since 1970.
    pub fn has_killed(&self, fingerprint: u64, moment: u64) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let deaths = match own.get_mut(&fingerprint) {
            Some((deaths, last)) => {
                *last = moment.max(*last + 1);
                *deaths = deaths.saturating_add(1);
                *deaths
            }
            None => {
                if own.len() >= MAX_SUSPECTS {
                    own.pop_first();
                }
                own.insert(fingerprint, (1, moment));
                1
            }
        };
        drop(own);
        if deaths >= DEATHS_THAT_PROVE {
            self.refuse(&[fingerprint]);
        }
    }

    /// A death of this node's that the cluster has not been told of: fingerprint and moment. `known` is what it knows.
    #[must_use]
    pub fn untold(&self, place: u16, known: &[Suspect]) -> Option<(u64, u64)> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = |fingerprint: u64, moment: u64| {
            known.iter().any(|s| s.fingerprint == fingerprint && s.is_told(place, moment))
        };
        own.iter()
            .map(|(print, (_, moment))| (*print, *moment))
            .find(|(print, moment)| !is_told(*print, *moment))
    }

    /// Keeps the message, once. The path, if it is new.
    pub fn keep(&self, fingerprint: u64, bytes: &[u8]) -> Option<PathBuf> {
        keep(self.folder.as_deref()?, &format!("message-{fingerprint:016x}"), bytes)
    }
}

/// Writes a file that only the owner may read, once and within the bound. The path, if it was written.
pub fn keep(folder: &Path, name: &str, bytes: &[u8]) -> Option<PathBuf> {
    let write = || -> std::io::Result<Option<PathBuf>> {
        let path = folder.join(name);
        if path.exists() {
            return Ok(None);
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if std::fs::read_dir(folder)?.count() >= MAX_FILES {
            return Ok(None);
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(e) = file.write_all(bytes) {
            // Half of it is of no use, and would stand in the way of the whole one.
            drop(std::fs::remove_file(&path));
            return Err(e);
        }
        Ok(Some(path))
    };
    match write() {
        Ok(path) => path,
        Err(e) => {
            tracing::warn!(error = %e, "what should be sent in cannot be kept in {}", folder.display());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn poison(data: &Path, suspects: &str) -> Poison {
        Poison::new(None, &Suspects::parse(suspects), data)
    }

    #[test]
    fn the_second_death_with_a_message_proves_it_wherever_the_first_was() {
        let dir = tempfile::tempdir().expect("tempdir");
        let here = poison(dir.path(), "");
        here.has_killed(7, 100);
        assert!(!here.refuses(7));
        assert_eq!(here.untold(1, &[]), Some((7, 100)));
        here.has_killed(7, 200);
        assert!(here.refuses(7) && !here.refuses(8));
        assert!(poison(dir.path(), "7:2:64,").refuses(7), "by the word of the guard");
        let elsewhere = poison(dir.path(), "");
        elsewhere.refuse(&[7]);
        assert!(elsewhere.refuses(7), "by the word of the cluster");
    }

    #[test]
    fn a_death_is_told_until_the_cluster_knows_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let here = poison(dir.path(), "7:1:64,");
        let mut known = Suspect { fingerprint: 7, deaths: vec![(2, 5)] };
        assert_eq!(here.untold(1, std::slice::from_ref(&known)), Some((7, 0x64)));
        known.deaths.push((1, 0x64));
        assert_eq!(here.untold(1, &[known]), None);
    }

    #[test]
    fn what_is_kept_is_the_owners_alone_and_bounded() {
        let dir = tempfile::tempdir().expect("tempdir");
        let here = poison(dir.path(), "");
        let path = here.keep(7, b"INVITE").expect("written");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(here.keep(7, b"INVITE"), None, "once");
        for n in 0..100 {
            here.keep(100 + n, b"x");
        }
        assert_eq!(std::fs::read_dir(dir.path().join(FOLDER)).expect("there").count(), MAX_FILES);
    }
}
