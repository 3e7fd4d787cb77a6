//! `[hep]`: copies of SIP messages for a Homer collector.

use std::net::SocketAddr;

use super::table::{Reader, Table};
use super::values::cidrs;
use crate::capture::{HepConfig, WHOLE};

/// Longest node name and password, bytes.
const MAX_TEXT: usize = 64;
/// Most methods.
const MAX_METHODS: usize = 32;

/// Reads and checks the section. What depends on the node (its name and number) is filled in by `check.rs`, where the
/// file does not say it: the name is empty and the number 0 until then.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> Option<HepConfig> {
    let mut t = root.table(reader, "hep")?;
    let line = t.line;
    let collector = t.string(reader, "collector");
    let capture_id = t.number(reader, "capture_id", (1, i64::from(u32::MAX)), 0);
    let percent = t.string(reader, "sample");
    let mut text = |reader: &mut Reader<'_>, key| {
        let at = t.string(reader, key)?;
        if at.value.is_empty() || at.value.len() > MAX_TEXT {
            reader.fault(
                at.line,
                format!("{key} is empty or too long"),
                format!("write 1 to {MAX_TEXT} bytes"),
            );
            return None;
        }
        Some(at.value)
    };
    let name = text(reader, "name");
    let password = text(reader, "password");
    let methods = t.one_or_more(reader, "methods");
    let peers = cidrs(&mut t, reader, "peers");
    t.done(reader);
    let mut list = Vec::new();
    if let Some(at) = methods {
        if at.value.len() > MAX_METHODS {
            reader.fault(at.line, "methods has too many entries", format!("at most {MAX_METHODS}"));
        }
        list.extend(at.value.into_iter().take(MAX_METHODS).map(|m| m.value));
    }
    let sample = match percent {
        None => WHOLE,
        Some(at) => share(&at.value).unwrap_or_else(|| {
            reader.fault(
                at.line,
                format!("{:?} is no share of the calls", at.value),
                "write it as \"100 %\", \"5 %\" or \"0.1 %\"",
            );
            WHOLE
        }),
    };
    let Some(at) = collector else {
        reader.fault(line, "[hep] names no collector", "add collector = \"192.0.2.9:9060\", or remove [hep]");
        return None;
    };
    match at.value.parse::<SocketAddr>() {
        Ok(collector) if collector.port() != 0 && !collector.ip().is_unspecified() => Some(HepConfig {
            collector,
            capture_id: u32::try_from(capture_id).unwrap_or(0),
            node: name.unwrap_or_default(),
            password,
            methods: list,
            peers,
            sample,
        }),
        _ => {
            reader.fault(
                at.line,
                format!("{:?} is no address of a collector", at.value),
                "write address and port, such as \"192.0.2.9:9060\" or \"[2001:db8::9]:9060\"",
            );
            None
        }
    }
}

/// `5 %` as so many of [`WHOLE`].
fn share(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?.trim();
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    if rest.len() > 2 || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let hundredths = rest.parse::<u32>().ok()? * if rest.len() == 1 { 10 } else { 1 };
    let share = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths)?;
    (1..=WHOLE).contains(&share).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_with_at_most_two_places() {
        assert_eq!(share("100 %"), Some(10_000));
        assert_eq!(share("5%"), Some(500));
        assert_eq!(share("0.25 %"), Some(25));
        assert_eq!(share("0.5 %"), Some(50));
        for bad in ["", "%", "5", "0 %", "101 %", "-1 %", "1.234 %", "x %", "99999999999 %", "1..2 %", "1. %"]
        {
            assert_eq!(share(bad), None, "{bad}");
        }
    }
}
