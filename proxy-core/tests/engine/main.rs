//! Stories of one engine or several over a replicated state: what an operator and his phones see, a file per subject.

#[path = "../common/mod.rs"]
mod common;

mod accounts;
#[cfg(debug_assertions)]
mod apart;
mod auth;
mod blf;
mod blf_refused;
mod bounds;
mod calls;
mod dialogs;
mod dispatch;
mod ended;
mod explain;
mod failover;
mod failover_backends;
mod failover_trunks;
mod media;
mod media_bodies;
mod media_forks;
mod media_nodes;
mod media_refused;
mod media_takeover;
mod messages;
mod messages_lost;
mod messages_phones;
mod names;
mod nat;
mod no_ack;
mod no_room;
mod nonces;
mod nonces_lost;
mod proof;
mod proof_holds;
mod refused;
mod registrar;
mod routing;
mod senders;
mod serial;
mod stages;
mod strangers;
mod streams;
mod sweep;
mod switches;
mod takeover;
mod trunk;
mod trunk_calls;
mod trunk_identity;
mod trunk_names;
mod trunk_peers;
mod trunk_sweep;
