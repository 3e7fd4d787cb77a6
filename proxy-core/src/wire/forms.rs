//! Forms of optional values, sequences and tables.

use minicbor::decode::{self, Decode, Decoder};
use minicbor::encode::{self, CborLen, Encode, Encoder, Write};

use super::{Room, Table, hard};

type Written<W> = Result<(), encode::Error<<W as Write>::Error>>;

/// Bytes of the head in front of `count` items.
pub(super) fn head(count: usize) -> usize {
    CborLen::<()>::cbor_len(&count, &mut ())
}

/// How many items follow a head that was read. Each takes a byte at least: more than there are bytes is damage.
fn counted(count: Option<u64>, d: &Decoder<'_>) -> Result<usize, decode::Error> {
    let left = d.input().len().saturating_sub(d.position());
    let count = count.ok_or_else(|| decode::Error::message("a sequence without a length"))?;
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= left)
        .ok_or_else(|| decode::Error::message("a length beyond the end of the data").at(d.position()))
}

/// Reads the items of a sequence whose head was read.
fn items<'b, C: Room, T>(
    count: usize,
    d: &mut Decoder<'b>,
    ctx: &mut C,
    item: impl Fn(&mut Decoder<'b>, &mut C) -> Result<T, decode::Error>,
) -> Result<Vec<T>, decode::Error> {
    ctx.take(count.saturating_mul(size_of::<T>()))?;
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(item(d, ctx).map_err(hard)?);
    }
    Ok(all)
}

/// Reads the entries of a table.
fn entries<'b, C: Room, M: Table>(
    d: &mut Decoder<'b>,
    ctx: &mut C,
    key: impl Fn(&mut Decoder<'b>, &mut C) -> Result<M::Key, decode::Error>,
    value: impl Fn(&mut Decoder<'b>, &mut C) -> Result<M::Value, decode::Error>,
) -> Result<M, decode::Error> {
    let read = d.map()?;
    let count = counted(read, d)?;
    ctx.take(count.saturating_mul(size_of::<M::Key>() + size_of::<M::Value>()))?;
    let mut table = M::default();
    for _ in 0..count {
        let key = key(d, ctx).map_err(hard)?;
        table.put(key, value(d, ctx).map_err(hard)?);
    }
    Ok(table)
}

/// A `Vec` of anything but bytes.
pub mod list {
    use super::*;

    /// Writes it.
    pub fn encode<C, T: Encode<C>, W: Write>(v: &[T], e: &mut Encoder<W>, ctx: &mut C) -> Written<W> {
        e.array(v.len() as u64)?;
        v.iter().try_for_each(|item| item.encode(e, ctx))
    }

    /// Reads it.
    pub fn decode<'b, C: Room, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Vec<T>, decode::Error> {
        let read = d.array()?;
        let count = counted(read, d)?;
        items(count, d, ctx, T::decode)
    }

    /// Bytes of it.
    pub fn cbor_len<C, T: CborLen<C>>(v: &[T], ctx: &mut C) -> usize {
        head(v.len()) + v.iter().map(|item| item.cbor_len(ctx)).sum::<usize>()
    }

    /// What is read where it is missing.
    #[must_use]
    pub fn nil<T>() -> Option<Vec<T>> {
        Some(Vec::new())
    }

    /// Whether it may be left out.
    pub fn is_nil<T>(v: &[T]) -> bool {
        v.is_empty()
    }
}

/// An optional value of which a part may have unknown variants.
pub mod opt {
    use super::*;

    /// Writes it.
    pub fn encode<C, T: Encode<C>, W: Write>(v: &Option<T>, e: &mut Encoder<W>, ctx: &mut C) -> Written<W> {
        match v {
            Some(value) => value.encode(e, ctx),
            None => e.null()?.ok(),
        }
    }

    /// Reads it.
    pub fn decode<'b, C, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Option<T>, decode::Error> {
        if absent(d)? { Ok(None) } else { T::decode(d, ctx).map(Some).map_err(hard) }
    }

    /// Bytes of it.
    pub fn cbor_len<C, T: CborLen<C>>(v: &Option<T>, ctx: &mut C) -> usize {
        v.as_ref().map_or(1, |value| value.cbor_len(ctx))
    }

    /// What is read where it is missing.
    #[must_use]
    pub fn nil<T>() -> Option<Option<T>> {
        Some(None)
    }

    /// Whether it may be left out.
    pub fn is_nil<T>(v: &Option<T>) -> bool {
        v.is_none()
    }
}

/// Takes a null, if there is one.
pub(super) fn absent(d: &mut Decoder<'_>) -> Result<bool, decode::Error> {
    if d.datatype()? == minicbor::data::Type::Null {
        d.null()?;
        return Ok(true);
    }
    Ok(false)
}

/// A value in a box that may hold another one of its kind.
pub mod nested {
    pub use super::opt::{cbor_len, encode, is_nil, nil};
    use super::*;

    /// Reads it, no deeper than [`super::super::MAX_NESTED`] levels.
    pub fn decode<'b, C: Room, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Option<T>, decode::Error> {
        ctx.enter()?;
        let value = opt::decode(d, ctx)?;
        ctx.leave();
        Ok(value)
    }
}

/// An optional `Vec`.
pub mod opt_list {
    pub use super::opt::{is_nil, nil};
    use super::*;

    /// Writes it.
    pub fn encode<C, T: Encode<C>, W: Write>(
        v: &Option<Vec<T>>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Written<W> {
        match v {
            Some(all) => list::encode(all, e, ctx),
            None => e.null()?.ok(),
        }
    }

    /// Reads it.
    pub fn decode<'b, C: Room, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Option<Vec<T>>, decode::Error> {
        if absent(d)? { Ok(None) } else { list::decode(d, ctx).map(Some) }
    }

    /// Bytes of it.
    pub fn cbor_len<C, T: CborLen<C>>(v: &Option<Vec<T>>, ctx: &mut C) -> usize {
        v.as_ref().map_or(1, |all| list::cbor_len(all, ctx))
    }
}

/// An optional string of bytes of one length.
pub mod opt_bytes {
    pub use super::opt::{is_nil, nil};
    use super::*;

    /// Writes it.
    pub fn encode<C, const N: usize, W: Write>(
        v: &Option<[u8; N]>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Written<W> {
        match v {
            Some(bytes) => e.bytes(bytes)?.ok(),
            None => e.null()?.ok(),
        }
    }

    /// Reads it.
    pub fn decode<C, const N: usize>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Option<[u8; N]>, decode::Error> {
        if absent(d)? {
            return Ok(None);
        }
        let bytes = d.bytes()?.try_into();
        bytes.map(Some).map_err(|_| decode::Error::message("a string of bytes of another length"))
    }

    /// Bytes of it.
    pub fn cbor_len<C, const N: usize>(v: &Option<[u8; N]>, _: &mut C) -> usize {
        v.map_or(1, |_| head(N) + N)
    }
}

/// A change of an optional value: none, "there is nothing any more" (`false`), or a new one.
pub mod change {
    pub use super::opt::{is_nil, nil};
    use super::*;

    /// Writes it.
    pub fn encode<C, T: Encode<C>, W: Write>(
        v: &Option<Option<T>>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Written<W> {
        match v {
            Some(Some(value)) => value.encode(e, ctx),
            Some(None) => e.bool(false)?.ok(),
            None => e.null()?.ok(),
        }
    }

    /// Reads it.
    pub fn decode<'b, C, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Option<Option<T>>, decode::Error> {
        if absent(d)? {
            return Ok(None);
        }
        if d.datatype()? == minicbor::data::Type::Bool {
            return match d.bool()? {
                false => Ok(Some(None)),
                true => Err(decode::Error::message("a change is a value or false")),
            };
        }
        T::decode(d, ctx).map(|value| Some(Some(value))).map_err(hard)
    }

    /// Bytes of it.
    pub fn cbor_len<C, T: CborLen<C>>(v: &Option<Option<T>>, ctx: &mut C) -> usize {
        v.iter().flatten().next().map_or(1, |value| value.cbor_len(ctx))
    }
}

/// A field that an older version does not have and that is neither optional nor a sequence: its default is left out.
pub mod added {
    use super::*;

    /// Writes it.
    pub fn encode<C, T, W: Write>(v: &T, e: &mut Encoder<W>, ctx: &mut C) -> Written<W>
    where
        T: Encode<C> + Default + PartialEq,
    {
        if is_nil(v) { e.null()?.ok() } else { v.encode(e, ctx) }
    }

    /// Reads it.
    pub fn decode<'b, C, T: Decode<'b, C> + Default>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<T, decode::Error> {
        if absent(d)? { Ok(T::default()) } else { T::decode(d, ctx).map_err(hard) }
    }

    /// Bytes of it.
    pub fn cbor_len<C, T: CborLen<C> + Default + PartialEq>(v: &T, ctx: &mut C) -> usize {
        if is_nil(v) { 1 } else { v.cbor_len(ctx) }
    }

    /// What is read where it is missing.
    #[must_use]
    pub fn nil<T: Default>() -> Option<T> {
        Some(T::default())
    }

    /// Whether it may be left out.
    pub fn is_nil<T: Default + PartialEq>(v: &T) -> bool {
        *v == T::default()
    }
}

/// A sequence of digests: one string of bytes.
pub mod digests {
    use imbl::Vector;

    use super::*;

    const BYTES: usize = 16;

    /// Writes it.
    pub fn encode<C, W: Write>(v: &Vector<[u8; BYTES]>, e: &mut Encoder<W>, _: &mut C) -> Written<W> {
        let all: Vec<u8> = v.iter().flatten().copied().collect();
        e.bytes(&all)?.ok()
    }

    /// Reads it.
    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vector<[u8; BYTES]>, decode::Error> {
        match d.bytes()?.as_chunks() {
            (all, []) => Ok(all.iter().copied().collect()),
            _ => Err(decode::Error::message("a digest is cut off")),
        }
    }

    /// Bytes of it.
    pub fn cbor_len<C>(v: &Vector<[u8; BYTES]>, _: &mut C) -> usize {
        head(v.len() * BYTES) + v.len() * BYTES
    }

    /// What is read where it is missing.
    #[must_use]
    pub fn nil() -> Option<Vector<[u8; BYTES]>> {
        Some(Vector::new())
    }

    /// Whether it may be left out.
    pub fn is_nil(v: &Vector<[u8; BYTES]>) -> bool {
        v.is_empty()
    }
}

/// A table.
pub mod map {
    use super::*;

    /// Writes it.
    pub fn encode<C, M: Table, W: Write>(m: &M, e: &mut Encoder<W>, ctx: &mut C) -> Written<W>
    where
        M::Key: Encode<C>,
        M::Value: Encode<C>,
    {
        e.map(m.count() as u64)?;
        m.entries().try_for_each(|(key, value)| {
            key.encode(e, ctx)?;
            value.encode(e, ctx)
        })
    }

    /// Reads it.
    pub fn decode<'b, C: Room, M: Table>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<M, decode::Error>
    where
        M::Key: Decode<'b, C>,
        M::Value: Decode<'b, C>,
    {
        entries(d, ctx, M::Key::decode, M::Value::decode)
    }

    /// Bytes of it.
    pub fn cbor_len<C, M: Table>(m: &M, ctx: &mut C) -> usize
    where
        M::Key: CborLen<C>,
        M::Value: CborLen<C>,
    {
        head(m.count())
            + m.entries().map(|(key, value)| key.cbor_len(ctx) + value.cbor_len(ctx)).sum::<usize>()
    }

    /// What is read where it is missing.
    #[must_use]
    pub fn nil<M: Table>() -> Option<M> {
        Some(M::default())
    }

    /// Whether it may be left out.
    pub fn is_nil<M: Table>(m: &M) -> bool {
        m.count() == 0
    }
}

/// A table whose records are sequences.
pub mod map_of_lists {
    pub use super::map::{is_nil, nil};
    use super::*;

    /// Writes it.
    pub fn encode<C, T, M, W>(m: &M, e: &mut Encoder<W>, ctx: &mut C) -> Written<W>
    where
        T: Encode<C>,
        M: Table<Value = Vec<T>>,
        M::Key: Encode<C>,
        W: Write,
    {
        e.map(m.count() as u64)?;
        m.entries().try_for_each(|(key, value)| {
            key.encode(e, ctx)?;
            list::encode(value, e, ctx)
        })
    }

    /// Reads it.
    pub fn decode<'b, C: Room, T, M>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<M, decode::Error>
    where
        T: Decode<'b, C>,
        M: Table<Value = Vec<T>>,
        M::Key: Decode<'b, C>,
    {
        entries(d, ctx, M::Key::decode, list::decode)
    }

    /// Bytes of it.
    pub fn cbor_len<C, T, M>(m: &M, ctx: &mut C) -> usize
    where
        T: CborLen<C>,
        M: Table<Value = Vec<T>>,
        M::Key: CborLen<C>,
    {
        let each = m.entries().map(|(key, value)| key.cbor_len(ctx) + list::cbor_len(value, ctx));
        head(m.count()) + each.sum::<usize>()
    }
}

/// A table whose records are tables.
pub mod map_of_maps {
    pub use super::map::{is_nil, nil};
    use super::*;

    /// Writes it.
    pub fn encode<C, M, W>(m: &M, e: &mut Encoder<W>, ctx: &mut C) -> Written<W>
    where
        M: Table<Value: Table<Key: Encode<C>, Value: Encode<C>>>,
        M::Key: Encode<C>,
        W: Write,
    {
        e.map(m.count() as u64)?;
        m.entries().try_for_each(|(key, value)| {
            key.encode(e, ctx)?;
            map::encode(value, e, ctx)
        })
    }

    /// Reads it.
    pub fn decode<'b, C: Room, M>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<M, decode::Error>
    where
        M: Table<Value: Table<Key: Decode<'b, C>, Value: Decode<'b, C>>>,
        M::Key: Decode<'b, C>,
    {
        entries(d, ctx, M::Key::decode, map::decode)
    }

    /// Bytes of it.
    pub fn cbor_len<C, M>(m: &M, ctx: &mut C) -> usize
    where
        M: Table<Value: Table<Key: CborLen<C>, Value: CborLen<C>>>,
        M::Key: CborLen<C>,
    {
        let each = m.entries().map(|(key, value)| key.cbor_len(ctx) + map::cbor_len(value, ctx));
        head(m.count()) + each.sum::<usize>()
    }
}
