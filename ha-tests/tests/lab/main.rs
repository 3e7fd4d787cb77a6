//! Drills in the lab of three nodes, a file per subject: real phones and peers, and the holder killed in the middle.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/phone.rs"]
mod phone;

mod accounting;
mod auth;
mod backends;
mod calls;
mod dialogs;
mod digest;
mod floating;
mod full;
mod hangs;
mod hep;
mod lamps;
mod maintenance;
mod media;
mod media_refused;
mod members;
mod messages;
mod modes;
mod names;
mod nat;
mod paths;
mod registrar;
mod routing;
mod streams;
mod trunks;
mod upgrade;
mod verdicts;
