//! Records of calls: out of the replicated outbox into this node's files.
//!
//! Every appliance writes every record once, in the order of their numbers, on a thread that nothing of SIP waits for.
//! It finds its place in the file itself, so that a crash neither loses nor doubles a record; what all appliances have
//! written leaves the outbox. Other sinks (a database) come in beside the files by [`Sink`].

pub mod file;
pub mod line;
pub mod writer;

use std::io;

use proxy_core::state::AccountRecord;

/// Where records go. Called by one thread only; it may block.
pub trait Sink: Send {
    /// What it is called in messages.
    fn name(&self) -> String;

    /// Number of the last record it holds; `None` if it holds none, or cannot say.
    ///
    /// # Errors
    /// It cannot be opened or read.
    fn last(&mut self) -> io::Result<Option<u64>>;

    /// Adds what follows the last record and makes it safe: when this returns, a power loss takes none of it.
    /// `Item::Gap` says that records went before this place could write them.
    ///
    /// # Errors
    /// It was not all written; [`Sink::last`] says how far it came.
    fn write(&mut self, items: &[Item]) -> io::Result<()>;
}

/// What is added to a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record(Box<AccountRecord>),
    /// The records with these numbers are gone, the ends included.
    Gap {
        /// First.
        from: u64,
        /// Last.
        to: u64,
    },
}

impl Item {
    /// Number of the last record it speaks of.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match self {
            Self::Record(record) => record.seq,
            Self::Gap { to, .. } => *to,
        }
    }
}
