//! Phones in the lab's client namespace, or behind a NAT.
//!
//! | phone | what for |
//! |---|---|
//! | `sipp` | the real SIPp with the scenarios of `ha-tests/scenarios` |
//! | `baresip` | the real baresip, driven over its control socket |
//! | `linphone` | the real linphone, driven by its standard input |
//! | `rtpengine` | the real rtpengine, between two phones |
//! | `tiny` | a UDP socket that sends one request when told and never repeats it: for what must happen in the last millisecond |

pub mod baresip;
pub mod linphone;
pub mod rtpengine;
pub mod sipp;
pub mod tiny;

use std::net::IpAddr;

use crate::lab::nat::Nat;
use crate::lab::proc::Proc;

/// Where a phone is, if not in the client namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Holds its network namespace.
    pub holder: Proc,
    /// Its own address.
    pub ip: IpAddr,
}

impl Place {
    /// Behind this NAT.
    #[must_use]
    pub fn behind(nat: &Nat) -> Self {
        Self { holder: nat.inside, ip: nat.inner.into() }
    }
}
