//! proxy-core
pub mod msg;
