//! What the test programs share: a world to tell stories in, phones, peers and drawn input.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod auth;
pub mod corpus;
pub mod dialogs;
pub mod drawn;
pub mod failover;
pub mod media;
pub mod phones;
pub mod sim;
pub mod state;
pub mod stories;
pub mod story;
pub mod torture;
pub mod trunk;
pub mod zone;
