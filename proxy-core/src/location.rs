//! The location service: from an address of record to the places where it can be reached (RFC 3261 §16.5).

use std::net::SocketAddr;

use crate::msg::{Host, NameAddr, Scheme, Uri};
use crate::nat::alias;
use crate::state::{Binding, Flow, SipState, Transport};
use crate::time::WallTime;

/// One place where an address of record can be reached now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Request-URI of the copy: the contact, byte for byte as it was registered.
    pub uri: String,
    /// Route values to put in front, top first: the Path of the registration (RFC 3327 §5.3).
    pub route: Vec<String>,
    /// Where to send it.
    pub hop: Hop,
    /// Where else, if that leads nowhere: the contact itself, when the connection of the registration is gone.
    pub next: Option<Flow>,
    /// The flow of the registration, which no other transport can stand in for: there is a NAT.
    pub fixed: bool,
    /// q in thousandths.
    pub q: u16,
    /// The other flows of the same phone (RFC 5626 §7): only for the case that this one is dead.
    pub others: Vec<Target>,
}

/// Where a request for some URI goes over the transports that exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hop {
    /// Send it on this flow.
    Send(Flow),
    /// The name has to be resolved first (RFC 3263).
    Name {
        /// Host, lower case.
        host: String,
        /// Port, if one is given (with one only addresses are looked up, RFC 3263 §4.2).
        port: Option<u16>,
        /// Transport, if one is given.
        transport: Option<Transport>,
    },
    /// No transport leads there: sips, TLS, an address family without a listener, or no SIP URI at all.
    None,
}

/// The canonical address of record of a URI, the key of the location service (§10.3 step 5): `sip:user@host`, or
/// `sip:host` without a user, for sip and sips; `tel:number` for tel; `None` for other schemes.
///
/// The user keeps its case, needless escapes are resolved; the host is in lower case, without a dot at its end. Password, parameters, headers
/// and the port do not count: like Kamailio, the proxy has one name space per domain, whichever port is used.
#[must_use]
pub fn canonical_aor(uri: &Uri<'_>) -> Option<String> {
    let scheme = match uri.scheme {
        Scheme::Sip | Scheme::Sips => "sip:",
        Scheme::Tel => "tel:",
        Scheme::Other(_) => return None,
    };
    let mut aor = uri.aor_key();
    if uri.is_sip() && aor.ends_with('.') {
        // The root of DNS: the same domain with and without.
        aor.pop();
    }
    aor.insert_str(0, scheme);
    Some(aor)
}

/// The canonical address of record of a user by his plain name, as it stands in credentials: what cannot stand in a
/// URI is escaped. `None` where no URI can be made of it.
#[must_use]
pub fn aor_of(username: &str, domain: &str) -> Option<String> {
    use std::fmt::Write as _;
    let mut text = String::with_capacity("sip:@".len() + username.len() + domain.len());
    text.push_str("sip:");
    for b in username.bytes() {
        // RFC 3261 §25.1: unreserved and user-unreserved.
        if b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&b) {
            text.push(char::from(b));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{b:02X}");
        }
    }
    text.push('@');
    text.push_str(domain);
    let uri = Uri::parse(&text).ok().filter(|uri| uri.user.is_some() && uri.port.is_none())?;
    canonical_aor(&uri)
}

/// All places where `aor` (canonical) can be reached at `now`, to be tried at once, highest q first, then newest
/// first. `listen` holds the addresses that the proxy sends from.
///
/// Of several flows to one instance only the first is a target, the others come with it: a request must not reach a
/// phone twice, and reaches it by the next flow when one is dead (RFC 5626 §7).
#[must_use]
pub fn lookup(state: &SipState, aor: &str, now: WallTime, listen: &[SocketAddr]) -> Vec<Target> {
    lookup_some(state, aor, now, listen, |_| true)
}

/// The same, of those contacts only that are `wanted`.
pub(crate) fn lookup_some(
    state: &SipState,
    aor: &str,
    now: WallTime,
    listen: &[SocketAddr],
    wanted: impl Fn(&Binding) -> bool,
) -> Vec<Target> {
    let bindings = state.bindings(aor);
    let flow_of_instance = |b: &Binding| b.reg_id.and(b.instance.as_deref()).map(str::to_owned);
    let mut targets = Vec::with_capacity(bindings.len());
    let mut instances: Vec<(String, usize)> = Vec::new();
    for binding in bindings.iter().filter(|b| b.expires_at > now && wanted(b)) {
        let instance = flow_of_instance(binding);
        let (hop, next) = hops_of_binding(binding, listen);
        let target = Target {
            uri: binding.contact.clone(),
            route: binding.path.clone(),
            hop,
            next,
            fixed: (binding.natted || binding.outbound) && binding.path.is_empty(),
            q: binding.q,
            others: Vec::new(),
        };
        let known = instances.iter().find(|(known, _)| instance.as_ref() == Some(known));
        if let Some(first) = known.and_then(|(_, at)| targets.get_mut(*at)) {
            let first: &mut Target = first;
            first.others.push(target);
            continue;
        }
        // A target set holds nothing twice (§16.5), though two instances may have registered the same.
        let is_same = |t: &Target| (&t.uri, &t.route, &t.hop) == (&target.uri, &target.route, &target.hop);
        let at = targets.iter().position(is_same);
        instances.extend(instance.map(|instance| (instance, at.unwrap_or(targets.len()))));
        if at.is_none() {
            targets.push(target);
        }
    }
    targets
}

/// Path first; then the way the REGISTER came, if the contact cannot be reached directly or there is a connection; then
/// the contact. Sent from the address that the REGISTER came to, where that is still ours: it is the one that the phone,
/// or the NAT before it, lets in. The second is what is left when the connection is gone and nothing stands between.
pub(crate) fn hops_of_binding(binding: &Binding, listen: &[SocketAddr]) -> (Hop, Option<Flow>) {
    let contact = || Uri::parse(&binding.contact).map_or(Hop::None, |uri| hop_of_uri(&uri, listen));
    let known = binding.flow;
    let mut next = None;
    let hop = if let Some(first) = binding.path.first() {
        let path = NameAddr::parse(first.as_bytes()).and_then(|path| path.parse_uri());
        path.map_or(Hop::None, |uri| hop_of_uri(&uri, listen))
    } else if binding.outbound {
        hop_by(known.transport, known.remote, listen)
    } else if known.transport.is_reliable() {
        let listening = match contact() {
            Hop::Send(flow) => Some(Flow { transport: known.transport, ..flow }),
            _ => None,
        };
        next = listening.filter(|f| f.remote.ip() == known.remote.ip() && f.remote != known.remote);
        hop_by(known.transport, known.remote, listen)
    } else if binding.natted {
        hop_by(known.transport, known.remote, listen)
    } else {
        contact()
    };
    let from_ours = |flow: Flow| {
        let same = known.local.is_ipv4() == flow.remote.is_ipv4() && is_ours(known.local, listen);
        if same { Flow { local: known.local, ..flow } } else { flow }
    };
    let hop = match hop {
        Hop::Send(flow) => Hop::Send(from_ours(flow)),
        hop => hop,
    };
    (hop, next.map(from_ours))
}

/// The way to a contact, if its host is an address: for requests that the proxy makes itself.
pub(crate) fn reach(binding: &Binding, listen: &[SocketAddr]) -> Option<Flow> {
    match hops_of_binding(binding, listen) {
        (Hop::Send(flow), _) => Some(flow),
        (_, next) => next,
    }
}

/// Whether the proxy has this address; a wildcard among `listen` covers all of its family and port.
fn is_ours(address: SocketAddr, listen: &[SocketAddr]) -> bool {
    listen.iter().any(|l| {
        let wildcard =
            l.ip().is_unspecified() && l.is_ipv4() == address.is_ipv4() && l.port() == address.port();
        *l == address || wildcard
    })
}

/// Where a request goes whose next hop is `uri`: to the `alias` that a proxy has written for a client behind a NAT, to
/// `maddr` if there is one, else to its host (RFC 3263 §4, as far as it goes without DNS).
#[must_use]
pub fn hop_of_uri(uri: &Uri<'_>, listen: &[SocketAddr]) -> Hop {
    let transport = match uri.transport() {
        None => None,
        Some(name) => match Transport::of_uri_name(name) {
            None => return Hop::None,
            known => known,
        },
    };
    if uri.scheme != Scheme::Sip {
        return Hop::None;
    }
    if let Some((remote, transport)) = alias::place(&uri.params) {
        return hop_by(transport, remote, listen);
    }
    let host = match uri.params.value("maddr") {
        None => Some(uri.host),
        Some(text) => Host::parse(text),
    };
    let Some(host) = host else { return Hop::None };
    match host.ip() {
        Some(ip) => {
            let remote = SocketAddr::new(ip, uri.port_or_default());
            hop_by(transport.unwrap_or(Transport::Udp), remote, listen)
        }
        None => Hop::Name { host: host.to_string(), port: uri.port, transport },
    }
}

/// The UDP flow to an address from the first listener of its family.
#[must_use]
pub fn hop_to(remote: SocketAddr, listen: &[SocketAddr]) -> Hop {
    hop_by(Transport::Udp, remote, listen)
}

/// The flow to an address by a transport from the first listener of its family.
#[must_use]
pub fn hop_by(transport: Transport, remote: SocketAddr, listen: &[SocketAddr]) -> Hop {
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let nowhere = remote.port() == 0 || remote.ip().is_unspecified();
    match listen.iter().find(|l| l.is_ipv4() == remote.is_ipv4()) {
        Some(local) if !nowhere => Hop::Send(Flow { transport, local: *local, remote }),
        _ => Hop::None,
    }
}
