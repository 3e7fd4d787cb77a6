//! The tagged form of everything that is stored or sent (CBOR, by minicbor): what the derives cannot say by themselves.
//!
//! Each field and each variant has a number, `#[n(3)]`, that is never used for anything else. A struct is an array in
//! the order of these numbers, so that a number costs no byte; fields at its end that are empty are left out.
//!
//! | what is added | how |
//! |---|---|
//! | a field | the next free number, and a form with `has_nil`: [`opt`], [`list`], [`map`], or [`added`] for what has a default |
//! | a variant | the next free number, at the end |
//! | a command, or a field of one | the same, and `since_version` of the command says [`NEWEST_VERSION`] where it is used |
//!
//! Each type has `#[cbor(context_bound = "crate::wire::Room")]`: [`Room`] counts what a value takes in memory while it is
//! read, so that a damaged length takes none. Sequences, optional values and tables name their form with
//! `with = "crate::wire::…"`, because those of minicbor count nothing, and read an unknown variant as "nothing".

mod address;
mod forms;

pub use address::{addr, addr_table, ip, opt_ip};
pub use forms::{
    added, change, digests, list, map, map_of_lists, map_of_maps, nested, opt, opt_bytes, opt_list,
};

use std::collections::BTreeMap;
use std::convert::Infallible;

use minicbor::{decode, encode};

use crate::state::PMap;

/// The first format version in the tagged form; what is before it was never released.
pub const FIRST_VERSION: u8 = 3;

/// The version of what is added now: what uses it needs it, everything else is written as before.
pub const NEWEST_VERSION: u8 = 4;

/// Most levels of values within values of their own kind.
pub const MAX_NESTED: u8 = 4;

/// What the reading of a value may still take.
pub trait Room {
    /// Takes `bytes` of memory; an error when there is no more room.
    fn take(&mut self, bytes: usize) -> Result<(), decode::Error>;
    /// Goes one level down; an error when that is too deep.
    fn enter(&mut self) -> Result<(), decode::Error>;
    /// Comes back from there.
    fn leave(&mut self);
}

/// Room in memory, counted in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    left: usize,
    depth: u8,
}

impl Memory {
    /// So many bytes.
    #[must_use]
    pub const fn bytes(left: usize) -> Self {
        Self { left, depth: 0 }
    }

    /// For writing, which takes nothing.
    #[must_use]
    pub const fn endless() -> Self {
        Self::bytes(usize::MAX)
    }
}

impl Room for Memory {
    fn take(&mut self, bytes: usize) -> Result<(), decode::Error> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or_else(|| decode::Error::message("it takes more memory than a value of its kind may"))?;
        Ok(())
    }

    fn enter(&mut self) -> Result<(), decode::Error> {
        if self.depth >= MAX_NESTED {
            return Err(decode::Error::message("values within values: too deep"));
        }
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}

/// Writes behind what is in memory. Most of what is written is a byte or two: the way through minicbor's own `Write` of
/// `Vec`, a call for each of them, takes twice as long.
#[derive(Debug)]
pub struct Behind<'a>(pub &'a mut Vec<u8>);

impl encode::Write for Behind<'_> {
    type Error = Infallible;

    #[inline(always)]
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        match bytes {
            [byte] => self.0.push(*byte),
            _ => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }
}

/// A variant that this build does not know. minicbor reads such a one as "nothing" where a value is optional; the forms
/// here turn it into this error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unknown(String);

/// The error of a value within another one, so that nobody takes it for "nothing".
pub fn hard(e: decode::Error) -> decode::Error {
    if e.is_unknown_variant() { decode::Error::custom(Unknown(e.to_string())) } else { e }
}

/// Whether a value did not decode because it has a variant that this build does not know.
#[must_use]
pub fn is_unknown(e: &decode::Error) -> bool {
    e.is_unknown_variant() || std::error::Error::source(e).is_some_and(|source| source.is::<Unknown>())
}

/// A table of records, as [`map`] sees it.
pub trait Table: Default {
    /// Names a record.
    type Key;
    /// The record.
    type Value;
    /// How many there are.
    fn count(&self) -> usize;
    /// All of them, in the order of their keys.
    fn entries<'t>(&'t self) -> impl Iterator<Item = (&'t Self::Key, &'t Self::Value)>
    where
        Self::Key: 't,
        Self::Value: 't;
    /// One more.
    fn put(&mut self, key: Self::Key, value: Self::Value);
}

impl<K: Ord + Clone, V> Table for PMap<K, V> {
    type Key = K;
    type Value = V;

    fn count(&self) -> usize {
        self.len()
    }

    fn entries<'t>(&'t self) -> impl Iterator<Item = (&'t K, &'t V)>
    where
        K: 't,
        V: 't,
    {
        self.iter()
    }

    fn put(&mut self, key: K, value: V) {
        self.insert(key, value);
    }
}

impl<K: Ord, V> Table for BTreeMap<K, V> {
    type Key = K;
    type Value = V;

    fn count(&self) -> usize {
        self.len()
    }

    fn entries<'t>(&'t self) -> impl Iterator<Item = (&'t K, &'t V)>
    where
        K: 't,
        V: 't,
    {
        self.iter()
    }

    fn put(&mut self, key: K, value: V) {
        self.insert(key, value);
    }
}
