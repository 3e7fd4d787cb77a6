//! The `[[route]]` tables: what a request has to be, and what becomes of it.

use proxy_core::msg::Uri;
use proxy_core::routing::{Action, MAX_RULES, Match, Pattern, Rule, Voicemail};

use super::doors::{self, Door, Said, tells_apart};
use super::sip::domain;
use super::table::{At, Reader, Table};
use super::values::{cidrs, failures, ring_time, server_uri};

/// Most characters that a route strips.
const MAX_STRIP: i64 = 64;
/// Longest prefix, bytes.
const MAX_PREFIX: usize = 64;
/// Most entries of one list of a route.
const MAX_LIST: usize = 200;
/// Most contacts of a redirect.
const MAX_CONTACTS: usize = 16;
/// What may stand for `action`, for the cure of a fault.
const ACTIONS: &str = "location, dispatcher, trunk, redirect, reject, relay, voicemail, or continue (with strip, prefix, require_auth)";

/// Reads and checks all routes, in their order. `voicemail` is that of the whole proxy.
pub(super) fn read(
    root: &mut Table<'_, '_>,
    reader: &mut Reader<'_>,
    voicemail: Option<&Voicemail>,
) -> (Vec<Rule>, Vec<Door>) {
    let mut rules: Vec<Rule> = Vec::new();
    let mut doors = Vec::new();
    for (number, mut t) in root.tables(reader, "route", "[[route]]").into_iter().enumerate() {
        if number == MAX_RULES {
            reader.fault(t.line, "too many routes", format!("at most {MAX_RULES}"));
            break;
        }
        let open = t.boolean(reader, "open");
        let rule = rule(&mut t, reader, number, voicemail);
        t.done(reader);
        if let Some(mut rule) = rule {
            let said = Said { open, require_auth: rule.require_auth };
            let line = t.line_of(reader, "action").unwrap_or(t.line);
            let which = (line, rule.name.as_str(), rules.len());
            doors.extend(doors::of_route(reader, which, &rule.action, &mut rule.matching, &said));
            rules.push(rule);
        }
    }
    (rules, doors)
}

fn rule(
    t: &mut Table<'_, '_>,
    reader: &mut Reader<'_>,
    number: usize,
    voicemail: Option<&Voicemail>,
) -> Option<Rule> {
    let name = t.string(reader, "name").map_or_else(|| format!("{}", number + 1), |at| at.value);
    let matching = matching(t, reader);
    let strip = usize::try_from(t.number(reader, "strip", (0, MAX_STRIP), 0)).unwrap_or(0);
    let prefix = prefix(t, reader);
    let require_auth = t.boolean(reader, "require_auth").is_some_and(|at| at.value);
    let ring = t.integer(reader, "ring_s").and_then(|at| ring_time(reader, "ring_s", &at));
    let media = super::rtpengine::of_route(t, reader);
    let own_voicemail = own_voicemail(t, reader, voicemail);
    let action = action(t, reader, &matching, require_auth, voicemail.is_some() || own_voicemail.is_some());
    Some(Rule {
        name,
        matching,
        strip,
        prefix,
        require_auth,
        action: action?,
        voicemail: own_voicemail,
        ring,
        media,
    })
}

fn matching(t: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> Match {
    let mut m = Match::default();
    for at in list(t, reader, "method") {
        if at.value.is_empty() || !at.value.bytes().all(|b| b.is_ascii_alphabetic()) {
            let what = format!("{:?} is no method", at.value);
            reader.fault(at.line, what, "write it as \"INVITE\" or [\"INVITE\", \"MESSAGE\"]");
        }
        m.methods.push(at.value.to_ascii_uppercase());
    }
    for at in list(t, reader, "domain") {
        m.domains.extend(domain(reader, &at));
    }
    for at in list(t, reader, "user") {
        // No user has a bracket (RFC 3261 §25.1), so this would be a route that fits nobody.
        if at.value.contains(['[', ']', '{', '}', '|', '^']) {
            let what = format!("user = {:?} would fit nobody: only * and ? stand for others", at.value);
            reader.fault(at.line, what, "write user_regex = \"^0[1-9]\" for a regular expression");
        }
        match Pattern::glob(&at.value) {
            Ok(pattern) => m.users.push(pattern),
            Err(why) => reader.fault(at.line, format!("user cannot be used: {why}"), "write a shorter one"),
        }
    }
    for at in list(t, reader, "user_regex") {
        match Pattern::regex(&at.value) {
            Ok(pattern) => m.users.push(pattern),
            Err(why) => reader.fault(
                at.line,
                format!("user_regex cannot be used: {why}"),
                "see https://docs.rs/regex for the syntax, or use user = \"00*\"",
            ),
        }
    }
    m.sources = cidrs(t, reader, "source");
    for at in list(t, reader, "header") {
        let header = at.value.split_once(':').map_or((at.value.as_str(), "*"), |(n, v)| (n.trim(), v.trim()));
        let is_name = |n: &str| {
            !n.is_empty() && n.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
        };
        match Pattern::glob(header.1) {
            Ok(pattern) if is_name(header.0) => m.headers.push((header.0.to_owned(), pattern)),
            _ => reader.fault(
                at.line,
                format!("{:?} is no header", at.value),
                "write it as \"X-Account: gold*\", or \"X-Account\" for any value",
            ),
        }
    }
    m
}

/// One string or several.
fn list(t: &mut Table<'_, '_>, reader: &mut Reader<'_>, key: &'static str) -> Vec<At<String>> {
    let Some(at) = t.one_or_more(reader, key) else { return Vec::new() };
    if at.value.is_empty() {
        reader.fault(at.line, format!("{key} = [] fits nothing"), "remove it: without it everything fits");
    }
    if at.value.len() > MAX_LIST {
        reader.fault(at.line, format!("{key} has too many entries"), format!("at most {MAX_LIST}"));
    }
    at.value.into_iter().take(MAX_LIST).collect()
}

fn prefix(t: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> String {
    let Some(at) = t.string(reader, "prefix") else { return String::new() };
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,/".contains(&b);
    if at.value.len() > MAX_PREFIX || !at.value.bytes().all(ok) {
        reader.fault(
            at.line,
            format!("prefix {:?} cannot stand in a user part", at.value),
            format!("write at most {MAX_PREFIX} letters, digits, or characters such as + and -"),
        );
        return String::new();
    }
    at.value
}

/// `voicemail_after_s`, `voicemail_on`, `voicemail` of a route, on top of `[voicemail]`.
fn own_voicemail(
    t: &mut Table<'_, '_>,
    reader: &mut Reader<'_>,
    general: Option<&Voicemail>,
) -> Option<Voicemail> {
    let server = t.string(reader, "voicemail");
    let after = t.integer(reader, "voicemail_after_s");
    let on = t.integers(reader, "voicemail_on");
    let line = [server.as_ref().map(|a| a.line), after.as_ref().map(|a| a.line), on.as_ref().map(|a| a.line)];
    let line = line.into_iter().flatten().next()?;
    let mut voicemail =
        general.cloned().unwrap_or(Voicemail { server: String::new(), after: None, on: Vec::new() });
    if let Some(at) = &server {
        voicemail.server = server_uri(reader, at)?;
    }
    if let Some(at) = &after {
        voicemail.after = ring_time(reader, "voicemail_after_s", at);
    }
    if let Some(list) = &on {
        voicemail.on = failures(reader, list);
    }
    if voicemail.server.is_empty() {
        reader.fault(
            line,
            "there is no voicemail server",
            "add voicemail = \"sip:192.0.2.9:5060\" here, or a section [voicemail] with server",
        );
        return None;
    }
    Some(voicemail)
}

fn action(
    t: &mut Table<'_, '_>,
    reader: &mut Reader<'_>,
    matching: &Match,
    require_auth: bool,
    has_voicemail: bool,
) -> Option<Action> {
    let action = t.string(reader, "action");
    let set = t.integer(reader, "set");
    let trunk = t.one_or_more(reader, "trunk");
    let contacts = t.one_or_more(reader, "contact");
    let permanent = t.boolean(reader, "permanent").is_some_and(|at| at.value);
    let status = t.integer(reader, "status");
    let reason = t.string(reader, "reason");
    let Some(action) = action else {
        reader.fault(t.line, "a [[route]] has no action", format!("add action = one of {ACTIONS}"));
        return None;
    };
    let line = action.line;
    let misplaced = [
        (set.as_ref().map(|at| at.line), "set", "dispatcher"),
        (trunk.as_ref().map(|at| at.line), "trunk", "trunk"),
        (contacts.as_ref().map(|at| at.line), "contact", "redirect"),
        (status.as_ref().map(|at| at.line), "status", "reject"),
    ];
    for (at, key, wanted) in misplaced {
        if let Some(at) = at.filter(|_| action.value != wanted) {
            reader.fault(
                at,
                format!("{key} says nothing in a route with action {:?}", action.value),
                format!("remove it, or write action = {wanted:?}"),
            );
        }
    }
    match action.value.as_str() {
        "continue" => Some(Action::Continue),
        "location" => Some(Action::Location),
        "voicemail" if has_voicemail => Some(Action::Voicemail),
        "voicemail" => {
            let cure = "add a section [voicemail] with server, or voicemail = \"sip:…\" here";
            reader.fault(line, "there is no voicemail server", cure);
            None
        }
        "dispatcher" => match set.as_ref().map(|at| (at, u32::try_from(at.value))) {
            Some((_, Ok(set))) => Some(Action::Dispatcher(set)),
            Some((at, Err(_))) => {
                reader.fault(at.line, format!("set = {} is no dispatcher set", at.value), "write its number");
                None
            }
            None => {
                reader.fault(line, "action dispatcher needs a set", "add set = 1");
                None
            }
        },
        "trunk" => match trunk {
            Some(at) if !at.value.is_empty() && at.value.iter().all(|name| !name.value.is_empty()) => {
                for (n, name) in at.value.iter().enumerate() {
                    if at.value.iter().take(n).any(|before| before.value == name.value) {
                        let what =
                            format!("trunk {:?} is named twice: it would not be tried again", name.value);
                        reader.fault(
                            name.line,
                            what,
                            "name each trunk once, in the order in which they are tried",
                        );
                    }
                }
                Some(Action::Trunk(at.value.into_iter().map(|name| name.value).collect()))
            }
            _ => {
                reader.fault(
                    line,
                    "action trunk needs a trunk",
                    "add trunk = \"NAME\", or [\"FIRST\", \"NEXT\"] (see: relevo trunk list)",
                );
                None
            }
        },
        "relay" if !require_auth && !tells_apart(&matching.sources) => {
            reader.fault(
                line,
                "action relay without source and require_auth is an open relay: anybody could call anywhere",
                "add source = [\"192.0.2.0/24\"] with the networks of your equipment, or require_auth = true",
            );
            None
        }
        "relay" => Some(Action::Relay),
        "redirect" => redirect(reader, line, contacts, permanent),
        "reject" => reject(reader, line, status.as_ref(), reason),
        other => {
            reader.fault(line, format!("action {other:?} is unknown"), format!("write one of {ACTIONS}"));
            None
        }
    }
}

fn redirect(
    reader: &mut Reader<'_>,
    line: usize,
    contacts: Option<At<Vec<At<String>>>>,
    permanent: bool,
) -> Option<Action> {
    let Some(list) = contacts.filter(|list| !list.value.is_empty()) else {
        reader.fault(line, "action redirect needs a contact", "add contact = \"sip:{user}@192.0.2.5\"");
        return None;
    };
    if list.value.len() > MAX_CONTACTS {
        reader.fault(list.line, "too many contacts", format!("at most {MAX_CONTACTS}"));
    }
    let mut contacts = Vec::new();
    for at in list.value.into_iter().take(MAX_CONTACTS) {
        if Uri::parse(&at.value.replace("{user}", "user")).is_err() {
            let what = format!("{:?} is no URI", at.value);
            reader.fault(at.line, what, "write it as \"sip:{user}@192.0.2.5\" or \"sip:bob@example.org\"");
        }
        contacts.push(at.value);
    }
    Some(Action::Redirect { contacts, permanent })
}

fn reject(
    reader: &mut Reader<'_>,
    line: usize,
    status: Option<&At<i64>>,
    reason: Option<At<String>>,
) -> Option<Action> {
    let number = status.map_or(Ok(403), |at| u16::try_from(at.value));
    let Ok(status @ 400..=699) = number else {
        let line = status.map_or(line, |at| at.line);
        reader.fault(line, "status is no failure", "write a number from 400 to 699, such as 403");
        return None;
    };
    let line = reason.as_ref().map_or(line, |at| at.line);
    let reason = reason.map(|at| at.value).unwrap_or_default();
    if reason.chars().any(char::is_control) {
        reader.fault(line, "reason has control characters", "write one line of text");
        return None;
    }
    Some(Action::Reject { status, reason })
}
