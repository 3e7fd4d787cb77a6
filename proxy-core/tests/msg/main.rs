//! Messages: read, judged, edited and written.

#[path = "../common/mod.rs"]
mod common;

mod corpus;
mod edit;
mod rsip;
mod torture;
mod uri;
