//! Values that several sections have: address blocks, times that phones ring, failures, servers. Each fault has its line and
//! its cure.

use std::time::Duration;

use proxy_core::msg::Uri;
use proxy_core::routing::Cidr;

use super::table::{At, Reader, Table};

/// Most entries of a list of addresses, words or stages.
pub(super) const MAX_LIST: usize = 1000;

/// A time that phones ring.
pub(super) fn ring_time(reader: &mut Reader<'_>, key: &str, at: &At<i64>) -> Option<Duration> {
    if (1..=3600).contains(&at.value) {
        return Some(seconds(at.value));
    }
    reader.fault(at.line, format!("{key} = {} is out of range", at.value), "write a number from 1 to 3600");
    None
}

/// Statuses that lead to voicemail.
pub(super) fn failures(reader: &mut Reader<'_>, list: &At<Vec<At<i64>>>) -> Vec<u16> {
    let mut on = Vec::new();
    for at in list.value.iter().take(MAX_LIST) {
        match u16::try_from(at.value) {
            Ok(status @ 400..=599) => on.push(status),
            Ok(600..=699) => reader.fault(
                at.line,
                format!("{} is a decision for all phones of the user: nothing is tried after it", at.value),
                "remove it; RFC 3261 §16.7 step 5 lets no other branch follow",
            ),
            _ => reader.fault(
                at.line,
                format!("{} is no failure", at.value),
                "write statuses from 400 to 599, such as 486, 408, 404",
            ),
        }
    }
    on
}

/// A SIP URI without a user, as the server of voicemail has it.
pub(super) fn server_uri(reader: &mut Reader<'_>, at: &At<String>) -> Option<String> {
    match Uri::parse(&at.value) {
        Ok(uri) if uri.is_sip() && uri.user.is_none() && !at.value.contains(['?']) => Some(at.value.clone()),
        _ => {
            let what = format!("{:?} is no SIP server", at.value);
            reader.fault(at.line, what, "write it as \"sip:192.0.2.9:5060\", without a user");
            None
        }
    }
}

/// Address blocks.
pub(super) fn cidrs(t: &mut Table<'_, '_>, reader: &mut Reader<'_>, key: &'static str) -> Vec<Cidr> {
    let mut list = Vec::new();
    let Some(at) = t.one_or_more(reader, key) else { return list };
    if at.value.len() > MAX_LIST {
        reader.fault(at.line, format!("{key} has too many entries"), format!("at most {MAX_LIST}"));
    }
    for at in at.value.iter().take(MAX_LIST) {
        match at.value.parse() {
            Ok(block) => list.push(block),
            Err(_) => {
                let what = format!("{:?} in {key} is no address block", at.value);
                reader.fault(at.line, what, "write it as \"192.0.2.0/24\", \"2001:db8::/32\" or one address");
            }
        }
    }
    list
}

/// A span of so many seconds.
pub(super) fn seconds(v: i64) -> Duration {
    Duration::from_secs(v.unsigned_abs())
}
