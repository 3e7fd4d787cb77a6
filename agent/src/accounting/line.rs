//! A record as a line: JSON, and CSV with the same columns.
//!
//! Times are UTC with milliseconds (RFC 3339), durations seconds with milliseconds. A line begins with the number of its
//! record, so that the last line of a file says how far it goes.

use proxy_core::state::{AccountRecord, Backend};
use proxy_core::time::RealTime;
use serde::Serialize;

use super::Item;

/// Columns of the CSV, in the order of the fields of the JSON.
pub const COLUMNS: [&str; 28] = [
    "seq",
    "id",
    "kind",
    "time",
    "method",
    "call_id",
    "from_tag",
    "to_tag",
    "code",
    "reason",
    "src_user",
    "src_domain",
    "src_ip",
    "dst_ouser",
    "dst_user",
    "dst_domain",
    "called",
    "from_trunk",
    "to_trunk",
    "to_set",
    "to_destination",
    "start",
    "answer",
    "end",
    "duration_s",
    "setup_s",
    "ended_by",
    "lost_from",
];

/// One line, its fields in the order of [`COLUMNS`].
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Line {
    seq: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    time: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    method: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    call_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    from_tag: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    to_tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    src_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    src_domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_ip: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    dst_ouser: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dst_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dst_domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    called: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_trunk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_trunk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_set: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    setup_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_from: Option<u64>,
}

impl From<&Item> for Line {
    fn from(item: &Item) -> Self {
        match item {
            Item::Record(record) => Self::from(&**record),
            Item::Gap { from, to } => {
                Self { seq: *to, kind: "lost", lost_from: Some(*from), ..Self::default() }
            }
        }
    }
}

impl From<&AccountRecord> for Line {
    fn from(r: &AccountRecord) -> Self {
        let (to_trunk, to_set, to_destination) = match &r.to {
            Some(Backend::Trunk { uuid }) => (Some(uuid.clone()), None, None),
            Some(Backend::Destination { set, uri }) => (None, Some(*set), Some(uri.clone())),
            None => (None, None, None),
        };
        Self {
            seq: r.seq,
            id: r.id.iter().map(|b| format!("{b:02x}")).collect(),
            kind: r.kind.word(),
            time: utc(r.real(r.at)),
            method: r.kind.method(),
            call_id: r.call_id.clone(),
            from_tag: r.from_tag.clone(),
            to_tag: r.to_tag.clone(),
            code: Some(r.code),
            reason: r.reason.clone(),
            src_user: r.src_user.clone(),
            src_domain: r.src_domain.clone(),
            src_ip: r.src_ip.map(|ip| ip.to_string()),
            dst_ouser: r.dst_ouser.clone(),
            dst_user: r.dst_user.clone(),
            dst_domain: r.dst_domain.clone(),
            called: r.called.clone(),
            from_trunk: r.from_trunk.clone(),
            to_trunk,
            to_set,
            to_destination,
            start: r.times.map(|t| utc(r.real(t.started_at))),
            answer: r.times.and_then(|t| t.answered_at).map(|at| utc(r.real(at))),
            end: r.times.map(|t| utc(r.real(t.ended_at))),
            duration_s: r.times.map(|t| seconds(t.duration_ms())),
            setup_s: r.times.map(|t| seconds(t.setup_ms())),
            ended_by: r.times.map(|t| t.ended_by.word()),
            lost_from: None,
        }
    }
}

impl Line {
    /// As JSON, with a line end.
    #[must_use]
    pub fn json(&self) -> String {
        // Texts and numbers only: nothing in it can fail.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// As CSV (RFC 4180), with a line end. Control characters become spaces: a record is one line.
    #[must_use]
    pub fn csv(&self) -> String {
        let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
        let time = |t: Option<f64>| t.map(|t| format!("{t:.3}")).unwrap_or_default();
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let fields: [String; COLUMNS.len()] = [
            self.seq.to_string(),
            self.id.clone(),
            self.kind.to_owned(),
            self.time.clone(),
            self.method.to_owned(),
            self.call_id.clone(),
            self.from_tag.clone(),
            self.to_tag.clone(),
            number(self.code.map(u64::from)),
            self.reason.clone(),
            self.src_user.clone(),
            self.src_domain.clone(),
            text(&self.src_ip),
            self.dst_ouser.clone(),
            self.dst_user.clone(),
            self.dst_domain.clone(),
            text(&self.called),
            text(&self.from_trunk),
            text(&self.to_trunk),
            number(self.to_set.map(u64::from)),
            text(&self.to_destination),
            text(&self.start),
            text(&self.answer),
            text(&self.end),
            time(self.duration_s),
            time(self.setup_s),
            self.ended_by.unwrap_or_default().to_owned(),
            number(self.lost_from),
        ];
        let mut line = fields.map(|field| quoted(&field)).join(",");
        line.push('\n');
        line
    }
}

/// The first line of a CSV file.
#[must_use]
pub fn csv_head() -> String {
    let mut head = COLUMNS.join(",");
    head.push('\n');
    head
}

fn quoted(field: &str) -> String {
    const FORMULA: [char; 4] = ['=', '+', '-', '@'];
    let clean: String = field.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // A spreadsheet takes what begins so for a formula, and the text comes from strangers.
    let mut guarded = String::with_capacity(clean.len() + 1);
    if clean.starts_with(FORMULA) && !is_number(&clean) {
        guarded.push('\'');
    }
    let mut begins = false;
    for c in clean.chars() {
        // In half of the world a semicolon separates cells.
        if begins && FORMULA.contains(&c) {
            guarded.push('\'');
        }
        begins = c == ';';
        guarded.push(c);
    }
    if guarded.contains([',', '"']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

/// Phone numbers begin with a plus, and are harmless.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a call are far below 2^52")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// RFC 3339, UTC, milliseconds.
#[must_use]
pub fn utc(at: RealTime) -> String {
    let (days, ms) = (at.0 / 86_400_000, at.0 % 86_400_000);
    // Days since 0000-03-01, in eras of 400 years, each year beginning in March.
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(RealTime(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(RealTime(951_782_400_000)), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(RealTime(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert_eq!(utc(RealTime(4_107_542_399_999)), "2100-02-28T23:59:59.999Z");
        assert_eq!(utc(RealTime(4_107_542_400_000)), "2100-03-01T00:00:00.000Z", "no leap year");
    }

    #[test]
    fn a_csv_line_is_one_line_with_as_many_fields_as_columns_and_no_formula() {
        let line = Line {
            seq: 7,
            kind: "cdr",
            reason: String::from("Busy, \"really\"\r\nhere"),
            src_user: String::from("=cmd|x"),
            dst_user: String::from("+4930123"),
            dst_ouser: String::from("x;=1+2;@a;b"),
            ..Line::default()
        };
        let csv = line.csv();
        assert_eq!(csv.matches('\n').count(), 1);
        assert!(csv.starts_with("7,,cdr,"));
        assert!(csv.contains("\"Busy, \"\"really\"\"  here\"") && csv.contains(",'=cmd|x,"));
        assert!(csv.contains(",+4930123,"), "a phone number stays one");
        assert!(csv.contains(",x;'=1+2;'@a;b,"), "also where a semicolon separates cells: {csv}");
        assert_eq!(Line::default().csv().matches(',').count() + 1, COLUMNS.len());
    }

    #[test]
    fn json_and_csv_have_the_same_columns_in_the_same_order() {
        let full = Line {
            id: "x".into(),
            time: "x".into(),
            method: "INVITE",
            call_id: "x".into(),
            from_tag: "x".into(),
            to_tag: "x".into(),
            code: Some(200),
            reason: "x".into(),
            src_user: "x".into(),
            src_domain: "x".into(),
            src_ip: Some("x".into()),
            dst_ouser: "x".into(),
            dst_user: "x".into(),
            dst_domain: "x".into(),
            called: Some("x".into()),
            from_trunk: Some("x".into()),
            to_trunk: Some("x".into()),
            to_set: Some(1),
            to_destination: Some("x".into()),
            start: Some("x".into()),
            answer: Some("x".into()),
            end: Some("x".into()),
            duration_s: Some(1.5),
            setup_s: Some(0.25),
            ended_by: Some("caller"),
            lost_from: Some(3),
            ..Line::default()
        };
        let json = full.json();
        let mut at = 0;
        for column in COLUMNS {
            let found = json.find(&format!("\"{column}\":")).unwrap_or_else(|| panic!("{column} in {json}"));
            assert!(found >= at, "{column} is out of order");
            at = found;
        }
    }
}
