//! What has to be brought up and taken down when a node becomes, or ceases to be, the holder of the service, in which
//! order, and what happens when a part of it fails. Pure: it says what is to be done and is told how it went.
//!
//! Today's steps are the lease, the floating IP and SIP; DRBD, file system and database come beside them as further
//! rows of the same table.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::iter_over_hash_type)]

pub mod sequence;
pub mod steps;
