//! What two transcripts have in common and where they differ, fact by fact.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::ua::Message;

/// One difference between the two proxies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub scenario: String,
    /// `alice: all` for the messages a phone heard, `alice 200 INVITE: Server` for a header of one of them.
    pub place: String,
    pub kamailio: String,
    pub relevo: String,
}

pub type Transcript = BTreeMap<&'static str, Vec<Message>>;

/// Values are compared up to this many characters.
const LONGEST: usize = 300;
/// What is said where there is nothing.
const NOTHING: &str = "–";

/// `200 INVITE` for a response, `INVITE` for a request.
fn label(message: &Message) -> String {
    let cseq = message.all("CSeq").first().cloned().unwrap_or_default();
    let method = cseq.split_whitespace().nth(1).unwrap_or_default().to_owned();
    match message.status() {
        0 => message.first_line().split(' ').next().unwrap_or_default().to_owned(),
        _ if !message.first_line().starts_with("SIP/2.0") => method,
        status => format!("{status} {method}").trim_end().to_owned(),
    }
}

/// Labels of all messages in order.
fn labels(heard: &[Message]) -> Vec<String> {
    heard.iter().map(label).collect()
}

fn shown(labels: &[String]) -> String {
    if labels.is_empty() { NOTHING.to_owned() } else { labels.join(", ") }
}

/// All differences between what the phones heard from one and from the other.
pub fn compare(scenario: &str, kamailio: &Transcript, relevo: &Transcript) -> Vec<Difference> {
    let mut out = Vec::new();
    let phones: BTreeSet<_> = kamailio.keys().chain(relevo.keys()).copied().collect();
    for phone in phones {
        let none = Vec::new();
        let (k, r) = (kamailio.get(phone).unwrap_or(&none), relevo.get(phone).unwrap_or(&none));
        let mut add = |place: String, k: String, r: String| {
            let difference = Difference { scenario: scenario.to_owned(), place, kamailio: k, relevo: r };
            if difference.kamailio != difference.relevo && !out.contains(&difference) {
                out.push(difference);
            }
        };
        add(format!("{phone}: all"), shown(&labels(k)), shown(&labels(r)));
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for message in k {
            let label = label(message);
            let n = counts.entry(label.clone()).or_default();
            let twin = r.iter().filter(|m| self::label(m) == label).nth(*n);
            *n += 1;
            let Some(twin) = twin else { continue };
            let (a, b) = (facts(message), facts(twin));
            for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let value = |of: &BTreeMap<String, String>| {
                    of.get(name).cloned().unwrap_or_else(|| NOTHING.to_owned())
                };
                add(format!("{phone} {label}: {name}"), value(&a), value(&b));
            }
        }
    }
    out
}

/// First line, headers and body, with everything that is drawn at random or counts down made equal.
fn facts(message: &Message) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    out.insert(String::from("first line"), calm(message.first_line()));
    let (head, body) = message.text.split_once("\r\n\r\n").unwrap_or((&message.text, ""));
    for line in head.lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        // Names as they are, so that a changed spelling of what a phone wrote is seen.
        let all = out.entry(name.trim().to_owned()).or_default();
        if !all.is_empty() {
            all.push_str(", ");
        }
        // A time is no matter of behaviour.
        all.push_str(&if name == "Date" { String::from("a date") } else { calm(value.trim()) });
    }
    out.insert(String::from("body"), body.to_owned());
    out
}

/// A value without what no two runs have in common, the parameters sorted: their order has no meaning.
fn calm(value: &str) -> String {
    let one = |v: &str| {
        let mut parts = v.split(';').map(calm_parameter);
        let first = parts.next().unwrap_or_default();
        let mut rest: Vec<String> = parts.collect();
        rest.sort();
        [vec![first], rest].concat().join(";")
    };
    let mut out = value.split(',').map(one).collect::<Vec<_>>().join(",");
    if let Some((end, _)) = out.char_indices().nth(LONGEST) {
        out.truncate(end);
        out.push('…');
    }
    out
}

fn calm_parameter(text: &str) -> String {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.trim(), value.trim()),
        None => return text.to_owned(),
    };
    match name {
        // Those of the phones have a meaning: it must be the phone's own.
        "tag" if !value.starts_with(['t', 'f']) || value.len() > 12 => String::from("tag=*"),
        "branch" if !value.contains("-alice-") && !value.contains("-bob-") && !value.contains("-carol-") => {
            String::from("branch=*")
        }
        // Time passes between two messages, and more of it between two scenarios that share a registration.
        "expires" => match value.parse::<u32>() {
            Ok(n @ 600..) => format!("expires={}", n.div_ceil(60) * 60),
            Ok(n) => format!("expires={}", (n + 2) / 5 * 5),
            Err(_) => text.to_owned(),
        },
        _ => text.to_owned(),
    }
}
