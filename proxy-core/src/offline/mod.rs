//! MESSAGE (RFC 3428) for users who have no phone at the moment: kept, and delivered when they register again.
//!
//! | file | what |
//! |---|---|
//! | `config` | how many, how large, how long |
//! | `keep` | a message comes in: 202 when it is replicated |
//! | `deliver` | the user is back: one message after the other, until there are none |

mod config;
mod deliver;
mod keep;

pub use config::MessageStoreConfig;
pub(crate) use deliver::Memory;
