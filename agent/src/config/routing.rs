//! `[routing]`, `[flood]`, `[voicemail]` and `[speed_dial]`: how the stages are tuned. The `[[route]]` tables are in
//! `route.rs`.

use proxy_core::msg::Uri;
use proxy_core::routing::{Cidr, FloodLimit, Fork, MAX_SPEED_DIALS, Mode, RoutingConfig, Stage, Voicemail};

use super::doors::Door;
use super::route;
use super::table::{Reader, Table};
use super::values::{MAX_LIST, cidrs, failures, ring_time, seconds, server_uri};

/// What the stages and routes are configured to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// As the engines take it.
    pub engine: RoutingConfig,
    /// Ways to trunks and dispatcher sets that leave something unsaid.
    pub doors: Vec<Door>,
}

/// Reads and checks the sections.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> Routing {
    let mut c = RoutingConfig::default();
    if let Some(mut t) = root.table(reader, "routing") {
        general(&mut t, reader, &mut c);
        t.done(reader);
    }
    if let Some(mut t) = root.table(reader, "flood") {
        c.screen.flood = Some(flood(&mut t, reader));
        t.done(reader);
    }
    if let Some(mut t) = root.table(reader, "voicemail") {
        c.voicemail = voicemail(&mut t, reader);
        t.done(reader);
    }
    if let Some(t) = root.table(reader, "speed_dial") {
        speed_dial(&t, reader, &mut c);
    }
    let (rules, doors) = route::read(root, reader, c.voicemail.as_ref());
    c.rules = rules;
    Routing { engine: c, doors }
}

fn general(t: &mut Table<'_, '_>, reader: &mut Reader<'_>, c: &mut RoutingConfig) {
    let modes = [("proxy", Mode::Proxy), ("redirect", Mode::Redirect), ("stateless", Mode::Stateless)];
    c.mode = t.word(reader, "mode", &modes).unwrap_or_default();
    c.fork = t.word(reader, "fork", &[("parallel", Fork::Parallel), ("q", Fork::ByQ)]).unwrap_or_default();
    c.fork_after = seconds(t.number(reader, "fork_after_s", (1, 3600), 30));
    if let Some(at) = t.boolean(reader, "follow_redirects") {
        c.follow_redirects = at.value;
    }
    if let Some(at) = t.boolean(reader, "p_hint") {
        c.p_hint = at.value;
    }
    for at in t.strings(reader, "off").map(|list| list.value).unwrap_or_default() {
        match Stage::by_name(&at.value) {
            Some(stage) => {
                c.off.insert(stage);
            }
            None => {
                let names: Vec<&str> = Stage::names().collect();
                let what = format!("{:?} is no stage", at.value);
                reader.fault(at.line, what, format!("write one of {}", names.join(", ")));
            }
        }
    }
    c.relay_from = cidrs(t, reader, "relay_from");
    if c.relay_from.iter().any(Cidr::is_all)
        && let Some(line) = t.line_of(reader, "relay_from")
    {
        reader.fault(
            line,
            "relay_from covers every address: anybody could call anywhere through this proxy",
            "name the networks of your own equipment",
        );
    }
    let s = &mut c.screen;
    s.max_bytes = size(t.number(reader, "max_message_bytes", (1024, 65_535), 16_384));
    s.max_uri_bytes = size(t.number(reader, "max_uri_bytes", (64, 8192), 512));
    let hops = i64::from(s.max_forwards);
    s.max_forwards = u8::try_from(t.number(reader, "max_forwards", (1, 255), hops)).unwrap_or(s.max_forwards);
    if let Some(at) = t.boolean(reader, "keepalive") {
        s.keepalive = at.value;
    }
    if let Some(list) = t.strings(reader, "scanners") {
        if list.value.iter().any(|at| at.value.trim().is_empty()) {
            reader.fault(list.line, "an empty word is in every User-Agent", "remove it; [] lets all in");
        }
        s.scanners = list.value.iter().take(MAX_LIST).map(|at| at.value.to_ascii_lowercase()).collect();
    }
}

fn flood(t: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> FloodLimit {
    let d = FloodLimit::default();
    FloodLimit {
        requests: wide(t.number(reader, "requests", (1, 1_000_000), i64::from(d.requests))),
        window: seconds(t.number(reader, "per_s", (1, 3600), 2)),
        ban: seconds(t.number(reader, "ban_s", (1, 86_400), 300)),
        exempt: cidrs(t, reader, "exempt"),
    }
}

/// `[voicemail]`, or the voicemail of a route.
fn voicemail(t: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> Option<Voicemail> {
    let server = t.string(reader, "server");
    let after = t.integer(reader, "after_s");
    let on = t.integers(reader, "on");
    let mut voicemail = Voicemail {
        server: String::new(),
        after: None,
        // Kamailio's two, and the user without a phone.
        on: vec![486, 408, 404],
    };
    voicemail.after = after.and_then(|at| ring_time(reader, "after_s", &at));
    if let Some(list) = on {
        voicemail.on = failures(reader, &list);
    }
    let Some(server) = server else {
        reader.fault(t.line, "[voicemail] has no server", "add server = \"sip:192.0.2.9:5060\"");
        return None;
    };
    voicemail.server = server_uri(reader, &server)?;
    Some(voicemail)
}

fn speed_dial(t: &Table<'_, '_>, reader: &mut Reader<'_>, c: &mut RoutingConfig) {
    for (number, at) in t.texts(reader) {
        if c.speed_dial.len() >= MAX_SPEED_DIALS {
            reader.fault(at.line, "too many short numbers", format!("at most {MAX_SPEED_DIALS}"));
            return;
        }
        match Uri::parse(&at.value) {
            Ok(uri) if uri.user.is_some() => {
                c.speed_dial.insert(number, at.value);
            }
            _ => {
                let what = format!("{:?} is no URI with a user", at.value);
                reader.fault(at.line, what, "write it as \"sip:bob@example.org\" or \"tel:+4930123456\"");
            }
        }
    }
}

fn size(v: i64) -> usize {
    usize::try_from(v).unwrap_or(usize::MAX)
}

fn wide(v: i64) -> u32 {
    u32::try_from(v).unwrap_or(u32::MAX)
}
