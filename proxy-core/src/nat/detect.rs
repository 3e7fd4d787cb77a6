//! Which client is behind a NAT: tests 1, 2 and 16 of Kamailio's `nat_uac_test`, made a little more careful.
//!
//! | Contact | Via sent-by | NAT |
//! |---|---|---|
//! | is the source | any | no |
//! | `0.0.0.0`, `::` or a name in `invalid` | any | yes |
//! | a private address, and the source is a public one | any | yes (test 1) |
//! | anything else | another address or port than the source | yes (tests 2 and 16) |
//! | anything else | the source, or a name | no: the contact is believed |
//!
//! Test 1 alone would take every phone in an office network for one behind a NAT, as its address is private there.

use std::net::{IpAddr, SocketAddr};

use crate::msg::{Host, Uri, Via};

/// Whether requests to `contact` have to go to `source`, where a request with this top Via came from.
pub(crate) fn is_natted(contact: &Uri<'_>, via: &Via<'_>, source: SocketAddr) -> bool {
    if !contact.is_sip() || is_at(contact, source) {
        return false;
    }
    let source_ip = source.ip().to_canonical();
    if is_unreachable(contact, source) {
        return true;
    }
    let via_ip_differs = match via.host {
        // A name in Via says nothing that could be compared.
        Host::Name(_) => false,
        _ => via.host.ip().is_none_or(|ip| ip.to_canonical() != source_ip),
    };
    via_ip_differs || via.port_or_default() != source.port()
}

/// Whether a response that came from `source`, to a request sent to the URI `target`, has a Contact that nobody else
/// can reach. There is no Via to compare, but the address it was sent to: where the target was not to be found at the
/// address it names, the same address in Contact is none either.
pub(crate) fn is_natted_answer(contact: &Uri<'_>, target: &str, source: SocketAddr) -> bool {
    if !contact.is_sip() || is_at(contact, source) {
        return false;
    }
    let host = |uri: &Uri<'_>| uri.host.ip().map(|ip| ip.to_canonical());
    let elsewhere = Uri::parse(target)
        .is_ok_and(|t| host(&t).is_some() && !is_at(&t, source) && host(&t) == host(contact));
    elsewhere || is_unreachable(contact, source)
}

/// Whether a request to the URI `target` that is sent to `remote` goes elsewhere than its address says: to where a client
/// behind a NAT has registered from.
pub(crate) fn is_sent_elsewhere(target: &str, remote: SocketAddr) -> bool {
    Uri::parse(target).is_ok_and(|uri| uri.is_sip() && uri.host.ip().is_some() && !is_at(&uri, remote))
}

fn is_at(uri: &Uri<'_>, source: SocketAddr) -> bool {
    uri.host.ip().is_some_and(|ip| ip.to_canonical() == source.ip().to_canonical())
        && uri.port_or_default() == source.port()
}

/// Whether the contact cannot be an address that leads there from here.
fn is_unreachable(contact: &Uri<'_>, source: SocketAddr) -> bool {
    match contact.host {
        Host::Name(name) => is_invalid_name(name),
        _ => contact
            .host
            .ip()
            .is_some_and(|ip| ip.is_unspecified() || (is_private(ip) && !is_private(source.ip()))),
    }
}

/// What a client writes that does not know its address (RFC 2606 §2, RFC 7118 §5).
fn is_invalid_name(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("invalid")
}

/// Addresses of private networks (RFC 1918, RFC 4193), of carriers' NATs (RFC 6598), and link-local ones.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || ip.is_loopback() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn natted(contact: &str, via: &str, source: &str) -> bool {
        let via = Via::parse(via.as_bytes()).expect("a Via");
        is_natted(&Uri::parse(contact).expect("a URI"), &via, source.parse().expect("an address"))
    }

    #[test]
    fn a_private_contact_from_a_public_source_is_natted_nat_uac_test_1() {
        let via = "SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK1";
        for host in ["10.0.0.5", "172.16.3.4", "192.168.1.2", "100.64.0.1", "100.127.255.1", "169.254.1.1"] {
            assert!(natted(&format!("sip:a@{host}"), via, "198.51.100.7:5060"), "{host}");
        }
        assert!(natted("sip:a@[fd00::1]", "SIP/2.0/UDP [2001:db8::7]:5060", "[2001:db8::7]:5060"));
        // Within one private network a contact is believed.
        assert!(!natted("sip:a@10.0.0.5", "SIP/2.0/UDP 10.0.0.9", "10.0.0.9:5060"));
        assert!(!natted("sip:a@100.128.0.1", via, "198.51.100.7:5060"), "just behind RFC 6598");
    }

    #[test]
    fn another_address_or_port_in_via_is_natted_nat_uac_test_2_and_16() {
        let contact = "sip:a@203.0.113.5";
        assert!(natted(contact, "SIP/2.0/UDP 203.0.113.5:5060", "198.51.100.7:5060"));
        assert!(natted(contact, "SIP/2.0/UDP 198.51.100.7:5060", "198.51.100.7:31000"));
        assert!(!natted(contact, "SIP/2.0/UDP 198.51.100.7", "198.51.100.7:5060"));
        assert!(!natted(contact, "SIP/2.0/UDP phone.example.org", "198.51.100.7:5060"));
    }

    #[test]
    fn a_contact_that_is_the_source_is_reached_as_it_says() {
        assert!(!natted("sip:a@10.0.0.5:31000", "SIP/2.0/UDP 10.0.0.5:5060", "10.0.0.5:31000"));
        assert!(!natted("tel:+34600", "SIP/2.0/UDP 10.0.0.5:5060", "10.0.0.9:31000"));
        assert!(natted("sip:a@x.invalid", "SIP/2.0/UDP 10.0.0.5:5060", "10.0.0.5:5060"));
    }

    #[test]
    fn an_answer_from_where_its_contact_is_not_is_natted() {
        let answer = |contact: &str, target: &str, source: &str| {
            let contact = Uri::parse(contact).expect("a URI");
            is_natted_answer(&contact, target, source.parse().expect("an address"))
        };
        // Called at its registered, private contact by way of the NAT's address, which is private, too.
        assert!(answer("sip:b@10.1.0.5:5060", "sip:b@10.1.0.5:5060;x=1", "10.77.0.9:4711"));
        assert!(answer("sip:b@192.168.0.5", "sip:b@192.168.0.5", "198.51.100.7:4711"));
        // It names another place than that at which it was called: it knows why.
        assert!(!answer("sip:b@10.1.0.6", "sip:b@10.1.0.5", "10.77.0.9:4711"));
        assert!(!answer("sip:b@10.1.0.5", "sip:b@10.1.0.5", "10.1.0.5:5060"));
    }
}
