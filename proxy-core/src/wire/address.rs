//! Forms of addresses: strings of bytes, the port behind the address.

use std::net::{IpAddr, SocketAddr};

use minicbor::decode::{self, Decode, Decoder};
use minicbor::encode::{self, CborLen, Encode, Encoder, Write};

use super::forms::{absent, head};
use super::{Room, Table, hard};

type Written<W> = Result<(), encode::Error<<W as Write>::Error>>;

const V4: usize = 4;
const V6: usize = 16;
const PORT: usize = 2;

fn bytes_of(address: IpAddr) -> usize {
    if address.is_ipv4() { V4 } else { V6 }
}

fn address(bytes: &[u8]) -> Result<IpAddr, decode::Error> {
    let v4 = <[u8; V4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; V6]>::try_from(bytes).map(IpAddr::from))
        .map_err(|_| decode::Error::message("an address has 4 or 16 bytes"))
}

/// An IP address.
pub mod ip {
    use super::*;

    /// Writes it.
    pub fn encode<C, W: Write>(v: &IpAddr, e: &mut Encoder<W>, _: &mut C) -> Written<W> {
        match v {
            IpAddr::V4(v4) => e.bytes(&v4.octets())?.ok(),
            IpAddr::V6(v6) => e.bytes(&v6.octets())?.ok(),
        }
    }

    /// Reads it.
    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<IpAddr, decode::Error> {
        address(d.bytes()?)
    }

    /// Bytes of it.
    pub fn cbor_len<C>(v: &IpAddr, _: &mut C) -> usize {
        1 + bytes_of(*v)
    }
}

/// An optional IP address.
pub mod opt_ip {
    use super::super::forms::opt;
    use super::*;

    pub use opt::{is_nil, nil};

    /// Writes it.
    pub fn encode<C, W: Write>(v: &Option<IpAddr>, e: &mut Encoder<W>, ctx: &mut C) -> Written<W> {
        match v {
            Some(address) => ip::encode(address, e, ctx),
            None => e.null()?.ok(),
        }
    }

    /// Reads it.
    pub fn decode<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Option<IpAddr>, decode::Error> {
        if absent(d)? { Ok(None) } else { ip::decode(d, ctx).map(Some) }
    }

    /// Bytes of it.
    pub fn cbor_len<C>(v: &Option<IpAddr>, ctx: &mut C) -> usize {
        v.as_ref().map_or(1, |address| ip::cbor_len(address, ctx))
    }
}

/// An address with a port. Flow label and scope of IPv6 mean something on one node alone: they are not written.
pub mod addr {
    use super::*;

    /// Writes it.
    pub fn encode<C, W: Write>(v: &SocketAddr, e: &mut Encoder<W>, _: &mut C) -> Written<W> {
        let mut bytes = [0; V6 + PORT];
        let len = bytes_of(v.ip());
        match v.ip() {
            IpAddr::V4(v4) => bytes[..V4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes[..V6].copy_from_slice(&v6.octets()),
        }
        bytes[len..len + PORT].copy_from_slice(&v.port().to_be_bytes());
        e.bytes(&bytes[..len + PORT])?.ok()
    }

    /// Reads it.
    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<SocketAddr, decode::Error> {
        let (ip, port) = d
            .bytes()?
            .split_last_chunk::<PORT>()
            .ok_or_else(|| decode::Error::message("an address without a port"))?;
        Ok(SocketAddr::new(address(ip)?, u16::from_be_bytes(*port)))
    }

    /// Bytes of it.
    pub fn cbor_len<C>(v: &SocketAddr, _: &mut C) -> usize {
        1 + bytes_of(v.ip()) + PORT
    }
}

/// A table by address and port.
pub mod addr_table {
    use super::super::forms::map;
    use super::*;

    pub use map::{is_nil, nil};

    /// Writes it.
    pub fn encode<C, M, W>(m: &M, e: &mut Encoder<W>, ctx: &mut C) -> Written<W>
    where
        M: Table<Key = SocketAddr, Value: Encode<C>>,
        W: Write,
    {
        e.map(m.count() as u64)?;
        m.entries().try_for_each(|(key, value)| {
            addr::encode(key, e, ctx)?;
            value.encode(e, ctx)
        })
    }

    /// Reads it.
    pub fn decode<'b, C: Room, M>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<M, decode::Error>
    where
        M: Table<Key = SocketAddr, Value: Decode<'b, C>>,
    {
        let count = d.map()?.ok_or_else(|| decode::Error::message("a table without a length"))?;
        let mut table = M::default();
        for _ in 0..count {
            ctx.take(size_of::<SocketAddr>() + size_of::<M::Value>())?;
            let key = addr::decode(d, ctx)?;
            table.put(key, M::Value::decode(d, ctx).map_err(hard)?);
        }
        Ok(table)
    }

    /// Bytes of it.
    pub fn cbor_len<C, M>(m: &M, ctx: &mut C) -> usize
    where
        M: Table<Key = SocketAddr, Value: CborLen<C>>,
    {
        let each = m.entries().map(|(key, value)| addr::cbor_len(key, ctx) + value.cbor_len(ctx));
        head(m.count()) + each.sum::<usize>()
    }
}
