//! Digests of what entries did to the state, so that nodes can see whether they still agree.
//!
//! The log makes equal states of equal entries, unless a machine's memory or an `apply` is at fault; nobody would notice
//! that. So each node hashes, for every [`WINDOW`] entries, the answers of every `SAMPLE`th of them, how many
//! records of each kind there are behind the last one, and the records that each entry has changed, as they were and as
//! they are. The windows begin at the same indexes everywhere. Nodes tell each other the newest ones (`watch`). It
//! costs some microseconds for every entry, on the thread that applies them.
//!
//! A record that nobody changes would not show so. Therefore each node also hashes the whole state behind every so many
//! entries ([`super::schedule::Schedule::compare_entries`]), on a thread behind everything else.
//!
//! Records are hashed in the form in which they are stored, so that they are compared by nodes of one format version only.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write};
use std::hash::Hasher;
use std::io;

use minicbor::{CborLen, Decode, Encode};
use proxy_core::state::Changes as Changed;
use proxy_core::wire::{Behind, NEWEST_VERSION};
use siphasher::sip128::{Hasher128, SipHasher24};

use super::inbound::Hello;
use super::types::Place;
use crate::codec::{self, Kind};
use crate::command::Responses;
use crate::state::ClusterState;

/// Entries of one digest.
pub const WINDOW: u64 = 1024;
/// Every how-manieth answer is hashed.
const SAMPLE: u64 = 4;
/// Bytes of one record as it was and as it is, about; for more the memory grows.
const CHANGES_BYTES: usize = 1024;
/// Digests that a node keeps and tells: more than are made between two rounds of questions.
const KEPT: usize = 8;
/// The same, of the whole state: they are made rarely, and one may take longer on a slow machine.
const KEPT_WHOLE: usize = 2;

/// What the entries of one window did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Digest {
    /// Index of the last entry of the window.
    #[n(0)]
    pub index: u64,
    /// Hash of the answers, and of how many records there are.
    #[n(1)]
    pub hash: u64,
    /// Of the records that were changed.
    #[cbor(n(2), with = "proxy_core::wire::opt", has_nil)]
    pub changes: Option<Changes>,
}

/// Hash of the records that the entries of one window have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Changes {
    /// The format version that they were written in.
    #[n(0)]
    pub version: u8,
    /// The hash.
    #[n(1)]
    pub hash: u64,
}

impl Digest {
    /// Whether two nodes have done something else. What only one of them says is no difference.
    fn differs(&self, other: &Self) -> bool {
        let changes = self.changes.zip(other.changes).filter(|(a, b)| a.version == b.version);
        self.hash != other.hash || changes.is_some_and(|(a, b)| a.hash != b.hash)
    }
}

/// Hash of the records that an entry has changed.
#[must_use]
pub fn changes(changes: &Changed) -> u64 {
    let mut hasher = SipHasher24::new();
    let mut bytes = Vec::with_capacity(CHANGES_BYTES);
    // Memory takes everything. A hash of all at once is made faster than one of each byte or two.
    let _ = changes.write(Behind(&mut bytes));
    hasher.write(&bytes);
    hasher.finish128().h1
}

/// Hash of the whole state.
///
/// # Errors
/// The state is larger than a snapshot may be.
pub(super) fn whole(state: &ClusterState) -> io::Result<u64> {
    let mut hasher = SipHasher24::new();
    codec::encode_to(Kind::Snapshot, state, &mut Words(&mut hasher))?;
    Ok(hasher.finish128().h1)
}

struct Window {
    next: u64,
    hasher: SipHasher24,
    changes: SipHasher24,
}

/// The digests of one node; only windows that it has applied as a whole count.
#[derive(Default)]
pub(super) struct Digests {
    open: Option<Window>,
    done: VecDeque<Digest>,
    /// Of the whole state. Their indexes are even, those of windows are odd.
    whole: VecDeque<Digest>,
}

/// Text that goes into a hash and nowhere else.
struct Words<'a>(&'a mut SipHasher24);

impl Write for Words<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl io::Write for Words<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Digests {
    /// The entry at `index` has been applied, with these answers; `changed` is the hash of the records that it changed,
    /// and `state` as it is behind it.
    pub(super) fn note(&mut self, index: u64, responses: &Responses, changed: u64, state: &ClusterState) {
        let begins = index.is_multiple_of(WINDOW);
        let mut window = match self.open.take() {
            _ if begins => Window { next: index, hasher: SipHasher24::new(), changes: SipHasher24::new() },
            Some(window) if window.next == index => window,
            // Entries were skipped by a snapshot: the next window is a whole one again.
            _ => return,
        };
        window.next = index + 1;
        window.changes.write_u64(changed);
        if index.is_multiple_of(SAMPLE) {
            // Nothing is written anywhere, so that nothing can fail.
            let _ = write!(Words(&mut window.hasher), "{responses:?}");
        }
        if (index + 1).is_multiple_of(WINDOW) {
            let _ = write!(Words(&mut window.hasher), "{:?} {:?}", state.counts(), state.fitness());
            let hash = window.hasher.finish128().h1;
            if self.done.len() == KEPT {
                self.done.pop_front();
            }
            let changes = Changes { version: NEWEST_VERSION, hash: window.changes.finish128().h1 };
            self.done.push_back(Digest { index, hash, changes: Some(changes) });
        } else {
            self.open = Some(window);
        }
    }

    /// The whole state behind the entry at `index` has this hash.
    pub(super) fn note_whole(&mut self, index: u64, hash: u64) {
        if self.whole.len() == KEPT_WHOLE {
            self.whole.pop_front();
        }
        self.whole.push_back(Digest {
            index,
            hash: 0,
            changes: Some(Changes { version: NEWEST_VERSION, hash }),
        });
    }

    pub(super) fn newest(&self) -> Vec<Digest> {
        self.whole.iter().chain(&self.done).copied().collect()
    }
}

/// Who disagrees about a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// Index of its last entry.
    pub(super) index: u64,
    /// Those that have something else than this node.
    pub(super) others: Vec<Place>,
    /// They are the majority of the cluster, and agree with each other.
    pub(super) outvoted: bool,
}

/// The newest window about which this node and others disagree. `nodes`: how many there are in the configuration.
pub(super) fn difference(own: &[Digest], heard: &BTreeMap<Place, Hello>, nodes: usize) -> Option<Difference> {
    own.iter().rev().find_map(|mine| {
        let theirs = heard.iter().filter_map(|(place, hello)| {
            let said = hello.digests.iter().find(|d| d.index == mine.index)?;
            said.differs(mine).then_some((*place, said))
        });
        let theirs: Vec<_> = theirs.collect();
        let (_, first) = *theirs.first()?;
        let outvoted = theirs.len() > nodes / 2 && theirs.iter().all(|(_, said)| !said.differs(first));
        let others = theirs.into_iter().map(|(place, _)| place).collect();
        Some(Difference { index: mine.index, others, outvoted })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Response};

    fn run(from: u64, to: u64, odd: Option<u64>) -> Vec<Digest> {
        let (mut digests, mut state) = (Digests::default(), ClusterState::default());
        for index in from..to {
            let healthy = odd != Some(index);
            let answer = state.apply(index, &Command::Health { place: 3, healthy });
            digests.note(index, &Responses(vec![answer]), 0, &state);
        }
        digests.newest()
    }

    #[test]
    fn equal_entries_make_equal_digests_wherever_a_node_began() {
        let all = run(0, 5 * WINDOW, None);
        assert_eq!(all.len(), 5);
        // It began in the midst of the second window, with a snapshot.
        assert_eq!(run(WINDOW + 7, 5 * WINDOW, None), all[2..]);
    }

    #[test]
    fn another_answer_and_another_state_show() {
        let all = run(0, WINDOW, None);
        assert_ne!(run(0, WINDOW, Some(WINDOW - 1)), all, "the state differs");
        let mut digests = Digests::default();
        for index in 0..WINDOW {
            let answer = if index == 8 { Response::Granted { token: 1 } } else { Response::Done };
            digests.note(index, &Responses(vec![answer]), 0, &ClusterState::default());
        }
        assert_ne!(digests.newest(), all, "an answer differs");
        let mut digests = Digests::default();
        for index in 0..WINDOW {
            let state = ClusterState::default();
            digests.note(index, &Responses(vec![Response::Done]), u64::from(index == 9), &state);
        }
        assert!(digests.newest()[0].differs(&all[0]), "a record differs");
    }

    #[test]
    fn records_are_compared_by_nodes_of_one_format_version_only() {
        let digest = |changes| Digest { index: 9, hash: 1, changes };
        let of = |version, hash| digest(Some(Changes { version, hash }));
        assert!(of(4, 1).differs(&of(4, 2)));
        assert!(!of(4, 1).differs(&of(5, 2)) && !of(4, 1).differs(&digest(None)));
    }

    #[test]
    fn a_difference_names_the_others_and_only_a_majority_outvotes() {
        let says =
            |hash| Hello { digests: vec![Digest { index: 9, hash, changes: None }], ..Hello::default() };
        let own = [Digest { index: 9, hash: 1, changes: None }];
        let heard = |a, b| BTreeMap::from([(2, says(a)), (3, says(b))]);
        assert_eq!(difference(&own, &heard(1, 1), 3), None);
        let of = |a, b| difference(&own, &heard(a, b), 3).map(|d| (d.index, d.others, d.outvoted));
        assert_eq!(of(2, 2), Some((9, vec![2, 3], true)));
        assert_eq!(of(1, 2), Some((9, vec![3], false)), "that one is the minority");
        assert_eq!(of(2, 3), Some((9, vec![2, 3], false)), "no two agree");
    }
}
