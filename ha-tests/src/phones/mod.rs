//! Phones in the lab's client namespace.
//!
//! | phone | what for |
//! |---|---|
//! | `sipp` | the real SIPp with the scenarios of `ha-tests/scenarios` |
//! | `baresip` | the real baresip, driven over its control socket |
//! | `rtpengine` | the real rtpengine, between two phones |
//! | `tiny` | a UDP socket that sends one request when told and never repeats it: for what must happen in the last millisecond |

pub mod baresip;
pub mod rtpengine;
pub mod sipp;
pub mod tiny;
