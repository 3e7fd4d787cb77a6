//! Frames the observer sends and recognises: bytes in, bytes out.
//!
//! ARP answers carry no number of their own, so the number of the probe is put where the answer repeats it: in the
//! sender address that was asked from (one of 64 that no host of the lab has); likewise for neighbour solicitations.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::timeline::Kind;
use crate::lab::net::Mac;

/// Ids of ARP and NS probes are used again after this many (at 5 ms: after 320 ms).
pub const RING: u32 = 64;
/// First of the sender addresses of ARP probes (last byte).
const ARP_FROM: u8 = 130;
const BROADCAST: Mac = [0xff; 6];

/// Addresses that are needed to build and recognise frames.
#[derive(Debug, Clone)]
pub struct Wire {
    /// Our MAC address.
    pub mac: Mac,
    /// Our IPv4 address.
    pub own4: Ipv4Addr,
    /// The floating IPv4 address.
    pub vip4: Ipv4Addr,
    /// The floating IPv6 address.
    pub vip6: Ipv6Addr,
    /// ICMP identifier of this observer.
    pub ident: u16,
    /// SIP port of the floating address.
    pub sip_port: u16,
    /// Our UDP port for OPTIONS.
    pub udp_port: u16,
    /// What Call-IDs of this observer begin with.
    pub call_id: String,
}

/// An answer that was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Answer to which kind of probe.
    pub kind: Kind,
    /// Number of the probe.
    pub id: u32,
    /// Source MAC address of the frame.
    pub mac: Mac,
}

impl Wire {
    /// ARP who-has for the floating address, broadcast. `id` below [`RING`].
    #[must_use]
    pub fn arp(&self, id: u32) -> Vec<u8> {
        let [n0, n1, n2, _] = self.own4.octets();
        let mut f = ethernet(BROADCAST, self.mac, 0x0806);
        f.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        f.extend(self.mac);
        f.extend([n0, n1, n2, ARP_FROM + ring(id)]);
        f.extend([0; 6]);
        f.extend(self.vip4.octets());
        f
    }

    /// ICMP echo request to the floating address in a broadcast frame: whoever thinks it owns it answers.
    #[must_use]
    pub fn icmp(&self, id: u32) -> Vec<u8> {
        let mut icmp = vec![8, 0, 0, 0];
        icmp.extend(self.ident.to_be_bytes());
        // Echo sequence numbers have 16 bits.
        icmp.extend(((id & 0xffff) as u16).to_be_bytes());
        icmp.extend(b"relevo-lab observer");
        let sum = checksum(&[&icmp]);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let total = u16::try_from(20 + icmp.len()).unwrap_or(u16::MAX);
        let mut ip = vec![0x45, 0];
        ip.extend(total.to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 1, 0, 0]);
        ip.extend(self.own4.octets());
        ip.extend(self.vip4.octets());
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut f = ethernet(BROADCAST, self.mac, 0x0800);
        f.extend(ip);
        f.extend(icmp);
        f
    }

    /// Neighbour solicitation for the floating IPv6 address (RFC 4861 §4.3). `id` below [`RING`].
    #[must_use]
    pub fn ns(&self, id: u32) -> Vec<u8> {
        let target = self.vip6.octets();
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(target[13]), word(&target, 14));
        let mut icmp = vec![135, 0, 0, 0, 0, 0, 0, 0];
        icmp.extend(target);
        icmp.extend([1, 1]);
        icmp.extend(self.mac);
        let from = self.ns_from(id).octets();
        let to = group.octets();
        let length = u16::try_from(icmp.len()).unwrap_or(u16::MAX).to_be_bytes();
        let sum = checksum(&[&from, &to, &[0, 0], &length, &[0, 0, 0, 58], &icmp]);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut f = ethernet([0x33, 0x33, to[12], to[13], to[14], to[15]], self.mac, 0x86dd);
        f.extend([0x60, 0, 0, 0]);
        f.extend(length);
        f.extend([58, 255]);
        f.extend(from);
        f.extend(to);
        f.extend(icmp);
        f
    }

    fn ns_from(&self, id: u32) -> Ipv6Addr {
        let s = self.vip6.segments();
        Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0xfeed, 0, u16::from(ring(id)) + 1)
    }

    /// SIP OPTIONS to the proxy itself (RFC 3261 §11).
    #[must_use]
    pub fn options(&self, id: u32) -> Vec<u8> {
        let Wire { own4, vip4, sip_port, udp_port, call_id, .. } = self;
        format!(
            "OPTIONS sip:{vip4}:{sip_port} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own4}:{udp_port};branch=z9hG4bK-{call_id}{id};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:observer@{own4}>;tag={call_id}{id}\r\n\
             To: <sip:{vip4}:{sip_port}>\r\n\
             Call-ID: {call_id}{id}\r\n\
             CSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    /// Recognises an answer in a captured frame.
    #[must_use]
    pub fn parse(&self, f: &[u8]) -> Option<Seen> {
        let mac: Mac = f.get(6..12)?.try_into().ok()?;
        let body = f.get(14..)?;
        let (kind, id) = match (*f.get(12)?, *f.get(13)?) {
            (0x08, 0x06) => self.parse_arp(body)?,
            (0x08, 0x00) => self.parse_ip4(body)?,
            (0x86, 0xdd) => self.parse_ip6(body)?,
            _ => return None,
        };
        Some(Seen { kind, id, mac })
    }

    fn parse_arp(&self, b: &[u8]) -> Option<(Kind, u32)> {
        let reply = b.get(6..8)? == [0, 2] && b.get(14..18)? == self.vip4.octets();
        let id = b.get(27)?.checked_sub(ARP_FROM)?;
        let ours = b.get(24..27)? == &self.own4.octets()[..3] && u32::from(id) < RING;
        (reply && ours).then_some((Kind::Arp, u32::from(id)))
    }

    fn parse_ip4(&self, b: &[u8]) -> Option<(Kind, u32)> {
        let header = usize::from(b.first()? & 0x0f) * 4;
        if b.get(12..16)? != self.vip4.octets() || b.get(16..20)? != self.own4.octets() {
            return None;
        }
        let rest = b.get(header..)?;
        match b.get(9)? {
            1 if rest.first()? == &0 && word(rest, 4) == self.ident => {
                rest.get(6..8)?;
                Some((Kind::Icmp, u32::from(word(rest, 6))))
            }
            17 if rest.len() > 8 && word(rest, 0) == self.sip_port && word(rest, 2) == self.udp_port => {
                Some((Kind::Sip, self.parse_sip(rest.get(8..)?)?))
            }
            _ => None,
        }
    }

    /// The number in the Call-ID of a final response.
    fn parse_sip(&self, b: &[u8]) -> Option<u32> {
        let text = std::str::from_utf8(b).ok()?;
        let status = text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse::<u16>().ok()?;
        let (_, id) = text.split_once(self.call_id.as_str())?;
        // The number may also follow in Via or From first; it is the same everywhere.
        let digits: &str = &id[..id.find(|c: char| !c.is_ascii_digit()).unwrap_or(id.len())];
        if status >= 200 { digits.parse().ok() } else { None }
    }

    fn parse_ip6(&self, b: &[u8]) -> Option<(Kind, u32)> {
        // A neighbour advertisement about the floating address, to one of our sender addresses.
        let advert = b.get(6)? == &58 && b.get(40)? == &136 && b.get(48..64)? == self.vip6.octets();
        let to: [u8; 16] = b.get(24..40)?.try_into().ok()?;
        let id = u32::from(word(&to, 14)).checked_sub(1)?;
        (advert && id < RING && Ipv6Addr::from(to) == self.ns_from(id)).then_some((Kind::Ns, id))
    }
}

fn ring(id: u32) -> u8 {
    (id % RING) as u8
}

fn word(b: &[u8], at: usize) -> u16 {
    match b.get(at..at + 2) {
        Some([hi, lo]) => u16::from_be_bytes([*hi, *lo]),
        _ => 0,
    }
}

fn ethernet(to: Mac, from: Mac, kind: u16) -> Vec<u8> {
    let mut f = Vec::with_capacity(96);
    f.extend(to);
    f.extend(from);
    f.extend(kind.to_be_bytes());
    f
}

/// The internet checksum (RFC 1071) over parts of even length (the last may be odd).
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Mac = [2, 0x77, 0, 0, 0, 11];

    fn wire() -> Wire {
        Wire {
            mac: [2, 0x77, 0, 0, 0, 200],
            own4: "10.77.0.200".parse().expect("address"),
            vip4: "10.77.0.100".parse().expect("address"),
            vip6: "fd77::100".parse().expect("address"),
            ident: 0x5150,
            sip_port: 5060,
            udp_port: 40_000,
            call_id: "obs7-".to_owned(),
        }
    }

    #[test]
    fn an_arp_answer_gives_back_the_number_of_its_probe() {
        let w = wire();
        let ask = w.arp(7 + RING);
        assert_eq!(w.parse(&ask), None, "a question is no answer");
        let mut f = ethernet(w.mac, NODE, 0x0806);
        f.extend([0, 1, 8, 0, 6, 4, 0, 2]);
        f.extend(NODE);
        f.extend(w.vip4.octets());
        f.extend(&ask[22..32]);
        assert_eq!(w.parse(&f), Some(Seen { kind: Kind::Arp, id: 7, mac: NODE }));
    }

    #[test]
    fn a_neighbour_advertisement_gives_back_the_number_of_its_probe() {
        let w = wire();
        let ask = w.ns(3);
        assert_eq!(&ask[..6], [0x33, 0x33, 0xff, 0x00, 0x01, 0x00]);
        let mut f = ethernet(w.mac, NODE, 0x86dd);
        f.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
        f.extend(w.vip6.octets());
        f.extend(&ask[22..38]);
        f.extend([136, 0, 0, 0, 0x60, 0, 0, 0]);
        f.extend(w.vip6.octets());
        f.extend([2, 1]);
        f.extend(NODE);
        assert_eq!(w.parse(&f), Some(Seen { kind: Kind::Ns, id: 3, mac: NODE }));
    }

    #[test]
    fn an_echo_reply_is_recognised_and_its_checksum_is_right() {
        let w = wire();
        let mut f = w.icmp(0x0001_0203);
        assert_eq!(checksum(&[&f[14..34]]), 0, "IP header");
        assert_eq!(checksum(&[&f[34..]]), 0, "ICMP");
        f[6..12].copy_from_slice(&NODE);
        f[26..30].copy_from_slice(&w.vip4.octets());
        f[30..34].copy_from_slice(&w.own4.octets());
        f[34] = 0;
        assert_eq!(w.parse(&f), Some(Seen { kind: Kind::Icmp, id: 0x0203, mac: NODE }));
    }

    #[test]
    fn only_a_final_response_to_options_counts() {
        let w = wire();
        let frame = |status: &str| {
            let sip =
                format!("SIP/2.0 {status} x\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK-obs7-42;rport=1\r\n\r\n");
            let mut f = ethernet(w.mac, NODE, 0x0800);
            f.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
            f.extend(w.vip4.octets());
            f.extend(w.own4.octets());
            f.extend(w.sip_port.to_be_bytes());
            f.extend(w.udp_port.to_be_bytes());
            f.extend([0, 0, 0, 0]);
            f.extend(sip.as_bytes());
            f
        };
        assert_eq!(w.parse(&frame("200")), Some(Seen { kind: Kind::Sip, id: 42, mac: NODE }));
        assert_eq!(w.parse(&frame("100")), None);
    }

    #[test]
    fn no_prefix_of_any_frame_makes_the_parser_fail() {
        let w = wire();
        for frame in [w.arp(1), w.ns(1), w.icmp(1)] {
            for end in 0..frame.len() {
                let _ = w.parse(&frame[..end]);
            }
        }
    }
}
