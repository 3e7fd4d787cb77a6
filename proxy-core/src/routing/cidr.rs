//! Address blocks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A block of addresses: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Whether it contains every address of its family.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.prefix == 0
    }

    /// Whether an address lies in the block. IPv4 in IPv6 form counts as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.network.is_ipv4() && masked(ip, self.prefix) == self.network
    }
}

/// The address with the bits beyond the prefix cleared.
fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::from((v4.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::from((v6.to_bits() & mask).to_be_bytes())
        }
    }
}

/// Not an address block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is neither an address nor a block such as 192.0.2.0/24")]
pub struct NotACidr;

impl FromStr for Cidr {
    type Err = NotACidr;

    /// Bits beyond the prefix are cleared.
    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| NotACidr)?;
        let ip = ip.to_canonical();
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |p| p.parse::<u8>().map_err(|_| NotACidr))?;
        if prefix > most {
            return Err(NotACidr);
        }
        Ok(Self { network: masked(ip, prefix), prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in(block: &str, ip: &str) -> bool {
        block.parse::<Cidr>().expect("a block").contains(ip.parse().expect("an address"))
    }

    #[test]
    fn a_block_contains_what_shares_its_prefix() {
        assert!(is_in("10.0.0.0/8", "10.255.1.2"));
        assert!(!is_in("10.0.0.0/8", "11.0.0.1"));
        assert!(is_in("10.1.2.3/8", "10.9.9.9"), "bits beyond the prefix do not count");
        assert!(is_in("0.0.0.0/0", "203.0.113.9"));
        assert!(!is_in("0.0.0.0/0", "2001:db8::1"), "families are told apart");
        assert!(is_in("::/0", "2001:db8::1"));
        assert!(is_in("2001:db8::/32", "2001:db8:1::9"));
        assert!(!is_in("2001:db8::/33", "2001:db8:8000::9"));
        assert!(is_in("192.0.2.1", "192.0.2.1") && !is_in("192.0.2.1", "192.0.2.2"));
        assert!(is_in("192.0.2.0/24", "::ffff:192.0.2.7"));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "host", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Cidr>(), Err(NotACidr), "{text}");
        }
        assert_eq!("10.1.2.3/8".parse::<Cidr>().map(|c| c.to_string()), Ok(String::from("10.0.0.0/8")));
    }
}
