//! The rules of the RFCs, a file per section or RFC; `docs/rfc-map.md` says which test proves which.

#[path = "../common/mod.rs"]
mod common;

mod digest;
mod locate;
mod map;
mod rfc3261_10;
mod rfc3261_12;
mod rfc3261_16;
mod rfc3261_17;
mod rfc3261_18;
mod rfc3261_8_2;
mod rfc3263;
mod rfc3327;
mod rfc3581;
mod rfc4475;
mod rfc5393;
mod rfc5626;
mod rfc6026;
mod rfc7616;
