//! `[rtpengine]`: which rtpengines there are and for which calls; and what a `[[route]]` says of that.

use std::net::SocketAddr;
use std::time::Duration;

use proxy_core::media::{MAX_NODES, MediaConfig, Node, OnFailure, RouteMedia, Usage, flags};

use super::table::{At, Reader, Table};

/// Largest weight of a node.
const MAX_WEIGHT: i64 = 1000;

/// Reads and checks the section.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> MediaConfig {
    let mut m = MediaConfig::default();
    let Some(mut t) = root.table(reader, "rtpengine") else { return m };
    m.usage = t.word(reader, "use", &Usage::WORDS).unwrap_or_default();
    m.set = t.integer(reader, "set").and_then(|at| set(reader, "set", &at)).unwrap_or_default();
    m.caller = words(&mut t, reader, "caller").unwrap_or(m.caller);
    m.callee = words(&mut t, reader, "callee").unwrap_or(m.callee);
    let timeout = t.number(reader, "timeout_ms", (100, 10_000), 1000);
    m.timeout = Duration::from_millis(timeout.unsigned_abs());
    m.ping = Duration::from_secs(t.number(reader, "ping_s", (0, 3600), 10).unsigned_abs());
    let failure = [("pass", OnFailure::Pass), ("reject", OnFailure::Reject)];
    m.on_failure = t.word(reader, "on_failure", &failure).unwrap_or_default();
    let nodes = t.tables(reader, "node", "[[rtpengine.node]]");
    if nodes.is_empty() {
        let cure = "add [[rtpengine.node]] with addr = \"192.0.2.9:2223\", or remove the section";
        reader.fault(t.line, "[rtpengine] has no node", cure);
    }
    for mut n in nodes {
        let weight = u32::try_from(n.number(reader, "weight", (1, MAX_WEIGHT), 1)).unwrap_or(1);
        let of = n.integer(reader, "set").and_then(|at| set(reader, "set", &at)).unwrap_or_default();
        match n.string(reader, "addr") {
            Some(at) => {
                if let Some(address) = address(reader, &at) {
                    if m.nodes.iter().any(|known| known.address == address && known.set == of) {
                        let what = format!("{address} stands twice in set {of}");
                        reader.fault(at.line, what, "remove one of them; weight gives it more calls");
                    }
                    m.nodes.push(Node { address, weight, set: of });
                }
            }
            None => reader.fault(n.line, "[[rtpengine.node]] has no addr", "add addr = \"192.0.2.9:2223\""),
        }
        n.done(reader);
    }
    if m.nodes.len() > MAX_NODES {
        reader.fault(t.line, "too many rtpengines", format!("at most {MAX_NODES}"));
        m.nodes.truncate(MAX_NODES);
    }
    t.done(reader);
    m
}

/// `media`, `media_set`, `media_caller`, `media_callee` of a route.
pub(super) fn of_route(t: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> Option<RouteMedia> {
    let media = RouteMedia {
        usage: t.word(reader, "media", &Usage::WORDS),
        set: t.integer(reader, "media_set").and_then(|at| set(reader, "media_set", &at)),
        caller: words(t, reader, "media_caller"),
        callee: words(t, reader, "media_callee"),
    };
    (media != RouteMedia::default()).then_some(media)
}

fn set(reader: &mut Reader<'_>, key: &str, at: &At<i64>) -> Option<u32> {
    let id = u32::try_from(at.value).ok();
    if id.is_none() {
        let what = format!("{key} = {} is no set", at.value);
        reader.fault(at.line, what, "write a number from 0 to 4294967295");
    }
    id
}

/// As Kamailio writes it (`udp:192.0.2.9:2223`), or without the `udp:`.
fn address(reader: &mut Reader<'_>, at: &At<String>) -> Option<SocketAddr> {
    let bare = at.value.strip_prefix("udp:").or_else(|| at.value.strip_prefix("udp6:")).unwrap_or(&at.value);
    let address = bare.parse::<SocketAddr>().ok().filter(|a| a.port() != 0 && !a.ip().is_unspecified());
    if address.is_none() {
        let what = format!("addr {:?} is no address with a port", at.value);
        let cure = "write the one of listen-ng in rtpengine.conf, such as \"192.0.2.9:2223\" or \"[2001:db8::9]:2223\"";
        reader.fault(at.line, what, cure);
    }
    address
}

fn words(t: &mut Table<'_, '_>, reader: &mut Reader<'_>, key: &'static str) -> Option<String> {
    let at = t.string(reader, key)?;
    if let Some(why) = flags::fault(&at.value) {
        let cure = "write words as for Kamailio's rtpengine_manage, such as \"RTP/SAVPF ICE=force\"";
        reader.fault(at.line, format!("{key} cannot be used: {why}"), cure);
        return None;
    }
    Some(at.value.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn faults(text: &str) -> String {
        match Config::parse(Path::new("relevo.toml"), text) {
            Ok(_) => String::new(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn the_section_is_read_and_a_route_says_otherwise() {
        let text = "[rtpengine]\nuse = \"always\"\nset = 2\ncaller = \"RTP/AVP  ICE=remove\"\ntimeout_ms = 300\non_failure = \"reject\"\n\
                    [[rtpengine.node]]\naddr = \"udp:192.0.2.9:2223\"\nset = 2\nweight = 3\n\
                    [[rtpengine.node]]\naddr = \"[2001:db8::9]:2223\"\n\
                    [[route]]\naction = \"continue\"\nmedia = \"off\"\nmedia_callee = \"RTP/SAVPF ICE=force\"\n";
        let config = Config::parse(Path::new("relevo.toml"), text).expect("right");
        let m = &config.media;
        assert_eq!((m.usage, m.set, m.caller.as_str()), (Usage::Always, 2, "RTP/AVP ICE=remove"));
        assert_eq!((m.timeout, m.on_failure), (Duration::from_millis(300), OnFailure::Reject));
        let nodes: Vec<(String, u32, u32)> =
            m.nodes.iter().map(|n| (n.address.to_string(), n.weight, n.set)).collect();
        assert_eq!(nodes, [("192.0.2.9:2223".into(), 3, 2), ("[2001:db8::9]:2223".into(), 1, 0)]);
        let route = config.routing.engine.rules.first().and_then(|r| r.media.clone()).expect("media");
        assert_eq!((route.usage, route.set), (Some(Usage::Off), None));
        assert_eq!(route.callee.as_deref(), Some("RTP/SAVPF ICE=force"));
    }

    #[test]
    fn faults_name_line_and_cure() {
        let bad = [
            ("[rtpengine]\n", "[rtpengine] has no node"),
            ("[rtpengine]\n[[rtpengine.node]]\naddr = \"rtp.example.org\"\n", "relevo.toml:3: addr"),
            ("[rtpengine]\n[[rtpengine.node]]\nweight = 1\n", "has no addr"),
            (
                "[rtpengine]\ncaller = \"sdp=x\"\n[[rtpengine.node]]\naddr = \"192.0.2.9:2223\"\n",
                "writes itself",
            ),
            (
                "[rtpengine]\nuse = \"sometimes\"\n[[rtpengine.node]]\naddr = \"192.0.2.9:2223\"\n",
                "\"natted\"",
            ),
            ("[[route]]\naction = \"location\"\nmedia = \"maybe\"\n", "\"always\""),
            (
                "[rtpengine]\n[[rtpengine.node]]\naddr = \"192.0.2.9:1\"\n[[rtpengine.node]]\naddr = \"192.0.2.9:1\"\n",
                "stands twice",
            ),
        ];
        for (text, wanted) in bad {
            let said = faults(text);
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }
}
