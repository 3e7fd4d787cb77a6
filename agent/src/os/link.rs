//! The interface of the floating IP as the kernel tells of it: whether it carries anything, and which addresses stand
//! where. Read once when asked for, and again whenever the kernel says that something has changed.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{Messages, Socket, attributes, messages};
use super::{OsError, os_error};

/// Bytes of `ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Bytes of `ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;

/// How an interface does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Link {
    /// It carries.
    #[default]
    Up,
    /// Nothing is at the other end of its cable.
    NoCarrier,
    /// Somebody has switched it off.
    Down,
    /// It waits for something before it carries (802.1X, the members of a bond).
    Waiting,
    /// There is none of this name.
    Gone,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::NoCarrier => "no carrier: is the cable in, and the switch on?",
            Self::Down => "switched off: ip link set it up",
            Self::Waiting => "not ready: it waits for its authentication, or for the members of its bond",
            Self::Gone => "gone: there is no interface of this name any more",
        })
    }
}

impl Link {
    /// By the flags of the kernel.
    fn of(flags: u32) -> Self {
        let has = |flag: i32| flags & flag.cast_unsigned() != 0;
        match () {
            () if !has(libc::IFF_UP) => Self::Down,
            () if !has(libc::IFF_LOWER_UP) => Self::NoCarrier,
            () if !has(libc::IFF_RUNNING) => Self::Waiting,
            () => Self::Up,
        }
    }
}

/// What the kernel has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Of an interface.
    Link {
        /// Its name.
        interface: String,
        /// How it does.
        link: Link,
    },
    /// An address was added or removed.
    Address(IpAddr),
}

/// An address where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The address.
    pub ip: IpAddr,
    /// The length of its prefix.
    pub prefix: u8,
    /// The interface.
    pub index: u32,
}

/// What some messages of the kernel say. What cannot be read is left out.
pub fn news(bytes: &[u8]) -> impl Iterator<Item = News> {
    messages(bytes).filter_map(|(kind, body)| match kind {
        libc::RTM_NEWLINK => {
            let (interface, link) = link_of(body)?;
            Some(News::Link { interface, link })
        }
        libc::RTM_DELLINK => Some(News::Link { interface: link_of(body)?.0, link: Link::Gone }),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(News::Address(address_of(body)?.ip)),
        _ => None,
    })
}

fn link_of(body: &[u8]) -> Option<(String, Link)> {
    let flags = u32::from_ne_bytes(*body.get(8..)?.first_chunk()?);
    let (_, name) = attributes(body.get(LINK_HEADER..)?).find(|(kind, _)| *kind == libc::IFLA_IFNAME)?;
    let name = name.split(|b| *b == 0).next()?;
    Some((String::from_utf8_lossy(name).into_owned(), Link::of(flags)))
}

fn address_of(body: &[u8]) -> Option<Found> {
    let prefix = *body.get(1)?;
    let index = u32::from_ne_bytes(*body.get(4..)?.first_chunk()?);
    let (mut local, mut address) = (None, None);
    for (kind, value) in attributes(body.get(ADDRESS_HEADER..)?) {
        match kind {
            libc::IFA_LOCAL => local = ip_of(value),
            libc::IFA_ADDRESS => address = ip_of(value),
            _ => {}
        }
    }
    Some(Found { ip: local.or(address)?, prefix, index })
}

fn ip_of(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(*value.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*value.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// How an interface does now.
///
/// # Errors
/// The kernel's; that there is no such interface is none.
pub fn look(socket: &Socket, interface: &str) -> io::Result<Link> {
    let question = Messages::default()
        .begin(libc::RTM_GETLINK, 0, &[0; LINK_HEADER])
        .name(libc::IFLA_IFNAME, interface)
        .end()
        .finish();
    match socket.list(&question) {
        Ok(answer) => Ok(messages(&answer).find_map(|(_, body)| link_of(body)).map_or(Link::Gone, |l| l.1)),
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(Link::Gone),
        Err(e) => Err(e),
    }
}

/// Where these addresses stand on this machine.
///
/// # Errors
/// The kernel's.
pub fn standing(socket: &Socket, wanted: impl Fn(IpAddr) -> bool) -> io::Result<Vec<Found>> {
    let question = Messages::default()
        .begin(libc::RTM_GETADDR, libc::NLM_F_DUMP as u16, &[0; ADDRESS_HEADER])
        .end()
        .finish();
    let answer = socket.list(&question)?;
    let all = messages(&answer).filter(|(kind, _)| *kind == libc::RTM_NEWADDR);
    Ok(all.filter_map(|(_, body)| address_of(body)).filter(|found| wanted(found.ip)).collect())
}

/// A socket that hears of links and addresses.
///
/// # Errors
/// No netlink.
pub fn listen() -> Result<Socket, OsError> {
    let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
    Socket::listen(libc::NETLINK_ROUTE, groups.cast_unsigned())
        .map_err(os_error("hearing of links (netlink)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link_message(kind: u16, name: &str, flags: i32) -> Vec<u8> {
        let mut header = [0; LINK_HEADER];
        header[8..12].copy_from_slice(&flags.to_ne_bytes());
        Messages::default().begin(kind, 0, &header).name(libc::IFLA_IFNAME, name).end().finish()
    }

    #[test]
    fn a_link_carries_only_if_it_is_on_has_a_carrier_and_is_ready() {
        let (on, carrier, ready) = (libc::IFF_UP, libc::IFF_LOWER_UP, libc::IFF_RUNNING);
        let rows = [
            (on | carrier | ready, Link::Up),
            (on, Link::NoCarrier),
            (on | carrier, Link::Waiting),
            (0, Link::Down),
        ];
        for (flags, link) in rows {
            let told: Vec<News> = news(&link_message(libc::RTM_NEWLINK, "eth0", flags)).collect();
            assert_eq!(told, [News::Link { interface: "eth0".into(), link }]);
        }
        let told: Vec<News> = news(&link_message(libc::RTM_DELLINK, "eth0", on | carrier | ready)).collect();
        assert_eq!(told, [News::Link { interface: "eth0".into(), link: Link::Gone }]);
    }

    #[test]
    fn what_is_cut_off_anywhere_is_left_out_and_never_a_panic() {
        let two = [
            link_message(libc::RTM_NEWLINK, "eth0", 1),
            Messages::default()
                .begin(libc::RTM_NEWADDR, 0, &[2, 24, 0, 0, 7, 0, 0, 0])
                .attr(libc::IFA_LOCAL, &[10, 0, 0, 9])
                .end()
                .finish(),
        ]
        .concat();
        assert_eq!(news(&two).count(), 2);
        assert_eq!(news(&two).nth(1), Some(News::Address([10, 0, 0, 9].into())));
        for length in 0..two.len() {
            assert!(news(&two[..length]).count() < 2);
        }
    }
}
