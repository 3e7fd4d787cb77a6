//! openraft's view of the log.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::alias::{LogIdOf, VoteOf};
use openraft::vote::RaftVote;
use openraft::{LogId, LogState, OptionalSend, RaftLogReader, RaftTypeConfig};

use super::LogWriter;
use crate::codec::{self, Kind};
use crate::node::TypeConfig;
use crate::wire::Wire;

/// How a type configuration is written to the log.
pub trait Forms: RaftTypeConfig {
    /// Writes an entry.
    fn write_entry(entry: &Self::Entry) -> io::Result<Vec<u8>>;
    /// Reads an entry.
    fn read_entry(bytes: &[u8]) -> io::Result<Self::Entry>;
    /// Writes a vote.
    fn write_vote(vote: &VoteOf<Self>) -> io::Result<Vec<u8>>;
    /// Reads a vote.
    fn read_vote(bytes: &[u8]) -> io::Result<VoteOf<Self>>;
    /// Writes a position.
    fn write_log_id(id: &LogIdOf<Self>) -> io::Result<Vec<u8>>;
    /// Reads a position.
    fn read_log_id(bytes: &[u8]) -> io::Result<LogIdOf<Self>>;
}

fn write<T: Wire>(kind: Kind, value: &T) -> io::Result<Vec<u8>> {
    Ok(codec::encode(kind, value)?)
}

fn read<T: Wire>(kind: Kind, bytes: &[u8]) -> io::Result<T> {
    Ok(codec::decode(kind, bytes)?)
}

impl Forms for TypeConfig {
    fn write_entry(entry: &Self::Entry) -> io::Result<Vec<u8>> {
        write(Kind::Entry, entry)
    }

    fn read_entry(bytes: &[u8]) -> io::Result<Self::Entry> {
        read(Kind::Entry, bytes)
    }

    fn write_vote(vote: &VoteOf<Self>) -> io::Result<Vec<u8>> {
        write(Kind::Vote, vote)
    }

    fn read_vote(bytes: &[u8]) -> io::Result<VoteOf<Self>> {
        read(Kind::Vote, bytes)
    }

    fn write_log_id(id: &LogIdOf<Self>) -> io::Result<Vec<u8>> {
        write(Kind::LogId, id)
    }

    fn read_log_id(bytes: &[u8]) -> io::Result<LogIdOf<Self>> {
        read(Kind::LogId, bytes)
    }
}

/// The log store of a node, for openraft; clones are its readers.
pub struct RaftLog<C> {
    writer: LogWriter,
    /// The newest vote that is known to be on the disk, without the mark of a leader.
    saved: Arc<Mutex<Vec<u8>>>,
    config: PhantomData<fn() -> C>,
}

impl<C> Clone for RaftLog<C> {
    fn clone(&self) -> Self {
        Self { writer: self.writer.clone(), saved: self.saved.clone(), config: PhantomData }
    }
}

impl<C> RaftLog<C> {
    /// Wraps a writer.
    pub fn new(writer: LogWriter) -> Self {
        Self { writer, saved: Arc::default(), config: PhantomData }
    }

    /// The writer below, for its `fatal` flag.
    pub fn writer(&self) -> &LogWriter {
        &self.writer
    }
}

impl<C: Forms> RaftLog<C> {
    fn entries(&self, start: u64, end: u64, bounded: bool) -> io::Result<Vec<C::Entry>> {
        let payloads = self.writer.with(|log| log.read(start..end, bounded))?;
        payloads.iter().map(|p| C::read_entry(p)).collect()
    }
}

impl<C: Forms> RaftLogReader<C> for RaftLog<C> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(i) => *i,
            Bound::Excluded(i) => i.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(i) => i.saturating_add(1),
            Bound::Excluded(i) => *i,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(start, end, false)
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<C>>, io::Error> {
        self.writer.with(|log| log.vote().map(C::read_vote).transpose())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<C::Entry>, io::Error> {
        self.entries(start, end, true)
    }
}

impl<C: Forms> RaftLogStorage<C> for RaftLog<C> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, io::Error> {
        let (purged, last) = self.writer.with(|log| -> io::Result<_> {
            let purged = log.purged().map(|(_, mark)| C::read_log_id(mark)).transpose()?;
            let range = log.entries();
            let last = log.read(range.end.saturating_sub(1).max(range.start)..range.end, false)?;
            Ok((purged, last.into_iter().next()))
        })?;
        let last = match last {
            Some(payload) => {
                let entry = C::read_entry(&payload)?;
                let (leader, index) = entry.log_id_parts();
                Some(LogId { leader_id: leader.clone(), index })
            }
            None => purged.clone(),
        };
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<C>) -> Result<(), io::Error> {
        let bytes = C::write_vote(vote)?;
        let given = C::write_vote(&VoteOf::<C>::from_leader_id(vote.leader_id().clone(), false))?;
        let is_saved =
            |saved: &Mutex<Vec<u8>>| *saved.lock().unwrap_or_else(PoisonError::into_inner) == given;
        if vote.is_committed() && is_saved(&self.saved) {
            // What may not be forgotten, whom the vote was given to in this term, is on the disk. That this one won is
            // not: whoever forgets it takes entries of that leader all the same. In the log it stands before them.
            self.writer.write(|log| log.save_vote(&bytes), Box::new(|_| ()));
            return Ok(());
        }
        self.writer.write_durably(|log| log.save_vote(&bytes)).await?;
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = given;
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<C>>) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        let bytes = C::write_log_id(&committed)?;
        // Not waited for: the mark only saves time after a restart.
        self.writer.with(|log| log.save_committed(&bytes))
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<C>>, io::Error> {
        self.writer.with(|log| log.committed().map(C::read_log_id).transpose())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut first = None;
        let mut payloads = Vec::new();
        for entry in entries {
            first.get_or_insert(entry.log_id_parts().1);
            payloads.push(C::write_entry(&entry)?);
        }
        let write = |log: &mut super::SegmentLog| first.map_or(Ok(()), |i| log.append(i, &payloads));
        self.writer.write(write, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogIdOf<C>>) -> Result<(), io::Error> {
        let from = last_log_id.map_or(0, |id| id.index + 1);
        self.writer.write_durably(|log| log.truncate_from(from)).await
    }

    async fn purge(&mut self, log_id: LogIdOf<C>) -> Result<(), io::Error> {
        let mark = C::write_log_id(&log_id)?;
        self.writer.with(|log| log.purge(log_id.index, &mark))?;
        // The files go on the log's thread, once the mark is durable.
        self.writer.sync_soon();
        Ok(())
    }
}
