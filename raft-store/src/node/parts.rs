//! Snapshots that arrive in parts. What has come of one lies on the disk; each part is written on a thread that may wait.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::snapshot::{Data, Snapshots};
use super::types::Place;
use crate::snap::{Incoming, MAX_SNAPSHOT_BYTES};

/// The transfers under way: one from each place, which sends its parts one after the other.
pub(super) struct Parts {
    /// Held, it would outlive the state machine.
    snapshots: Weak<Snapshots>,
    open: Mutex<BTreeMap<Place, Transfer>>,
}

struct Transfer {
    number: u64,
    incoming: Box<dyn Incoming>,
}

/// One part, as it was sent.
pub(super) struct Part {
    /// Names the transfer: parts of another one are thrown away.
    pub(super) transfer: u64,
    /// Byte of the snapshot that it begins with.
    pub(super) offset: u64,
    pub(super) data: Vec<u8>,
    pub(super) last: bool,
}

impl Parts {
    pub(super) fn new(snapshots: &Arc<Snapshots>) -> Self {
        Self { snapshots: Arc::downgrade(snapshots), open: Mutex::default() }
    }

    /// Takes a part; gives the data of the snapshot when this was the last one. After an error nothing of the transfer is
    /// left, and it has to begin again.
    pub(super) async fn take(&self, from: Place, part: Part) -> Result<Option<Data>, String> {
        let number = part.transfer;
        // Out of the table while it is written: another part that comes meanwhile belongs to nothing.
        let known = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&from);
        let known = known.filter(|t| t.number == number);
        let last = part.last;
        let snapshots = self.snapshots.upgrade().ok_or("Raft has ended")?;
        let store = snapshots.clone();
        let write = move || -> io::Result<Box<dyn Incoming>> {
            let mut incoming = match known {
                Some(transfer) => transfer.incoming,
                None => store.receive()?,
            };
            let refused = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            if incoming.bytes() != part.offset {
                return refused(format!("part at byte {} of a snapshot does not follow", part.offset));
            }
            if part.offset + part.data.len() as u64 > MAX_SNAPSHOT_BYTES {
                return refused("the snapshot is too large".into());
            }
            incoming.append(&part.data)?;
            Ok(incoming)
        };
        let written = snapshots.aside(write).await.and_then(|written| written);
        let incoming = written.map_err(|e| e.to_string())?;
        if last {
            return Ok(Some(Arc::from(incoming.image())));
        }
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(from, Transfer { number, incoming });
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Threads;
    use super::*;
    use crate::log::Mode;
    use crate::snap::{SledSnaps, read_whole};

    fn part(transfer: u64, offset: u64, data: &[u8], last: bool) -> Part {
        Part { transfer, offset, data: data.to_vec(), last }
    }

    #[tokio::test]
    async fn parts_follow_each_other_and_lie_in_no_memory_and_under_no_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Box::new(SledSnaps::open(dir.path()).expect("opens"));
        let threads = Threads { mode: Mode::Thread, on_apply: None, on_background: None };
        let snapshots = Arc::new(Snapshots::new(store, threads, None, 0));
        let parts = Parts::new(&snapshots);
        assert!(parts.take(2, part(1, 0, b"of a former ", false)).await.expect("taken").is_none());
        assert!(parts.take(2, part(9, 0, b"one, ", false)).await.expect("taken").is_none());
        assert!(parts.take(3, part(9, 0, b"of another", false)).await.expect("taken").is_none());
        assert!(parts.take(2, part(9, 5, b"two, ", false)).await.expect("taken").is_none());
        assert_eq!(
            std::fs::read_dir(dir.path()).expect("read").count(),
            0,
            "a process that ends leaves nothing"
        );
        let image = parts.take(2, part(9, 10, b"three", true)).await.expect("taken").expect("the last");
        assert_eq!(read_whole(&*image).expect("reads"), b"one, two, three");
        assert_eq!(image.read(5, 5).expect("reads"), b"two, ");
        image.read(16, 1).expect_err("beyond the end");
        assert!(parts.take(3, part(9, 11, b"a gap", false)).await.is_err());
        assert!(parts.take(3, part(9, 10, b"begins again", false)).await.is_err());
    }
}
