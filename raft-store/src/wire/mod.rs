//! How values become bytes: the tagged form (see [`proxy_core::wire`]) of everything that goes to disk or to a peer.
//!
//! What belongs to openraft has mirrors of our own in `raft`, so that another release of it cannot change our bytes.
//! [`crate::codec`] puts a frame around the bytes.

pub mod raft;

use std::convert::Infallible;
use std::io;

use minicbor::decode::{self, Decode, Decoder};
use minicbor::encode::{self, CborLen, Encode};
use proxy_core::state::Provision;
use proxy_core::wire::{Behind, Memory};

use crate::command::{Batch, Command, Response, Responses};
use crate::node::inbound::{Rpc, RpcReply};
use crate::state::ClusterState;

pub use proxy_core::wire::FIRST_VERSION;

/// The format version from which on there is a time of the cluster.
pub const TIME_VERSION: u8 = 4;
/// The format version from which on the history of the service is kept.
pub const HISTORY_VERSION: u8 = 4;

/// A value that can be framed.
#[expect(clippy::len_without_is_empty, reason = "a length in bytes; no value is framed in none")]
pub trait Wire: Sized {
    /// The lowest format version that can say this value. More than [`FIRST_VERSION`] only where it uses what was added
    /// later, so that a node of the version before reads the rest.
    fn since(&self) -> u8 {
        FIRST_VERSION
    }

    /// Bytes of it.
    fn len(&self) -> usize;

    /// Writes it behind what `out` holds.
    fn put(&self, out: &mut Vec<u8>) -> Result<(), encode::Error<Infallible>>;

    /// Reads it from the start of `bytes`, within `memory`, and says how many bytes it had.
    fn get(bytes: &[u8], memory: usize) -> Result<(Self, usize), decode::Error>;
}

/// [`Wire::len`] of what has a tagged form.
pub fn len<T: CborLen<Memory>>(value: &T) -> usize {
    value.cbor_len(&mut Memory::endless())
}

/// [`Wire::put`] of what has a tagged form.
pub fn put<T: Encode<Memory>>(value: &T, out: &mut Vec<u8>) -> Result<(), encode::Error<Infallible>> {
    minicbor::encode_with(value, Behind(out), &mut Memory::endless())
}

/// Writes what has a tagged form to `to`, bit by bit: nothing of its size is in memory for it.
///
/// # Errors
/// Those of `to`.
pub fn write_to<T: Encode<Memory>>(value: &T, to: &mut dyn io::Write) -> io::Result<()> {
    let written = minicbor::encode_with(value, encode::write::Writer::new(to), &mut Memory::endless());
    written.map_err(|e| match e.is_write() {
        true => e.into_write().unwrap_or_else(|| io::Error::other("it cannot be written")),
        false => io::Error::other(e.to_string()),
    })
}

/// [`Wire::get`] of what has a tagged form.
pub fn get<T: for<'b> Decode<'b, Memory>>(bytes: &[u8], memory: usize) -> Result<(T, usize), decode::Error> {
    let mut decoder = Decoder::new(bytes);
    let value = T::decode(&mut decoder, &mut Memory::bytes(memory))?;
    Ok((value, decoder.position()))
}

/// Makes types with a tagged form [`Wire`]; `since` is a function of the value, or [`FIRST_VERSION`].
#[macro_export]
macro_rules! tagged {
    ($($type:ty $(, since $since:expr)?);+ $(;)?) => {$(
        impl $crate::wire::Wire for $type {
            $(fn since(&self) -> u8 {
                ($since)(self)
            })?

            fn len(&self) -> usize {
                $crate::wire::len(self)
            }

            fn put(
                &self,
                out: &mut Vec<u8>,
            ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
                $crate::wire::put(self, out)
            }

            fn get(bytes: &[u8], memory: usize) -> Result<(Self, usize), minicbor::decode::Error> {
                $crate::wire::get(bytes, memory)
            }
        }
    )+};
}

tagged! {
    Command, since Command::since_version;
    Batch, since Batch::since_version;
    Rpc, since Rpc::since_version;
    Response;
    Responses;
    RpcReply, since RpcReply::since_version;
    ClusterState, since ClusterState::since_version;
    Provision;
    u64;
    String;
}
