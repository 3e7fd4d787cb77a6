//! Typed header values, one per file.

mod cseq;
mod name_addr;
mod via;

pub use cseq::CSeq;
pub use name_addr::NameAddr;
pub use via::{Transport, Via};
