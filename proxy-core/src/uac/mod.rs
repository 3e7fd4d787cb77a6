//! Requests that Relevo makes itself: probes of backends, registrations at trunks, pings, BYE, NOTIFY, MESSAGE.
//!
//! | file | what |
//! |---|---|
//! | `purpose` | what a request is for; the outcome comes back with it |
//! | `request` | writes the request |
//! | `errand` | the request under way: a client transaction |
//! | `outcome` | hands the outcome to the feature that asked |
//!
//! Never an INVITE: what Relevo starts ends with one final response ([`crate::transaction::Nict`]).
//!
//! All that makes a request is a function of what is replicated and of the cluster key: Call-ID, CSeq, tag and branch.
//! A node that takes over and sends it again sends a retransmission; a request that moves a CSeq has that CSeq
//! replicated before it is sent, so that the next one of the successor is a proper next one.

mod errand;
mod outcome;
mod purpose;
mod request;

pub(crate) use errand::{Errand, Originated};
pub(crate) use outcome::Outcome;
pub(crate) use purpose::Purpose;
pub(crate) use request::OwnRequest;
