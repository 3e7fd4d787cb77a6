//! From TOML text to raw values that remember their lines. Every fault is noted and reading goes on, so that
//! the operator sees all of them at once.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;

/// A value and the line it stands on.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub line: usize,
    pub value: T,
}

/// One `[[cluster.node]]`.
#[derive(Debug, Clone, Default)]
pub(super) struct RawNode {
    pub line: usize,
    pub id: Option<At<i64>>,
    pub role: Option<At<String>>,
    pub addr: Option<At<String>>,
}

/// The file as it stands there: right types, nothing compared yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Raw {
    pub id: Option<At<i64>>,
    pub role: Option<At<String>>,
    pub data: Option<At<String>>,
    pub admin: Option<At<String>>,
    pub cluster_line: Option<usize>,
    pub name: Option<At<String>>,
    pub key: Option<At<String>>,
    pub heartbeat_ms: Option<At<i64>>,
    pub election_min_ms: Option<At<i64>>,
    pub election_max_ms: Option<At<i64>>,
    pub durability: Option<At<String>>,
    pub nodes: Vec<RawNode>,
    pub vip_line: Option<usize>,
    pub interface: Option<At<String>>,
    pub addresses: Option<At<Vec<At<String>>>>,
    pub port: Option<At<i64>>,
    pub listen: Option<At<Vec<At<String>>>>,
    pub domains: Option<At<Vec<At<String>>>>,
    pub timer_c_s: Option<At<i64>>,
    pub min_expires_s: Option<At<i64>>,
    pub max_expires_s: Option<At<i64>>,
    pub max_contacts: Option<At<i64>>,
    pub engines: Option<At<i64>>,
}

/// Reads what can be read and says what cannot.
pub(super) fn read(text: &str) -> (Raw, Vec<Fault>) {
    let mut reader = Reader { text, faults: Vec::new() };
    let mut raw = Raw::default();
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = error.span().map_or(1, |s| reader.line(&s));
        let what = error.message().replace('\n', ", ");
        reader.fault(line, format!("this is not TOML: {what}"), "see https://toml.io for the syntax");
    }
    if !reader.faults.is_empty() {
        // What the parser made of a broken file would be blamed for things nobody wrote.
        return (raw, reader.faults);
    }
    let mut root = Table::new(&reader, &root, "the file");
    if let Some(mut t) = root.table(&mut reader, "node") {
        raw.id = t.integer(&mut reader, "id");
        raw.role = t.string(&mut reader, "role");
        raw.data = t.string(&mut reader, "data");
        raw.admin = t.string(&mut reader, "admin");
        t.done(&mut reader);
    }
    if let Some(mut t) = root.table(&mut reader, "cluster") {
        raw.cluster_line = Some(t.line);
        raw.name = t.string(&mut reader, "name");
        raw.key = t.string(&mut reader, "key");
        raw.heartbeat_ms = t.integer(&mut reader, "heartbeat_ms");
        raw.election_min_ms = t.integer(&mut reader, "election_min_ms");
        raw.election_max_ms = t.integer(&mut reader, "election_max_ms");
        raw.durability = t.string(&mut reader, "durability");
        for mut n in t.tables(&mut reader, "node") {
            let id = n.integer(&mut reader, "id");
            let role = n.string(&mut reader, "role");
            let addr = n.string(&mut reader, "addr");
            n.done(&mut reader);
            raw.nodes.push(RawNode { line: n.line, id, role, addr });
        }
        t.done(&mut reader);
    }
    if let Some(mut t) = root.table(&mut reader, "vip") {
        raw.vip_line = Some(t.line);
        raw.interface = t.string(&mut reader, "interface");
        raw.addresses = t.strings(&mut reader, "addresses");
        t.done(&mut reader);
    }
    if let Some(mut t) = root.table(&mut reader, "sip") {
        raw.port = t.integer(&mut reader, "port");
        raw.listen = t.strings(&mut reader, "listen");
        raw.domains = t.strings(&mut reader, "domains");
        raw.timer_c_s = t.integer(&mut reader, "timer_c_s");
        raw.min_expires_s = t.integer(&mut reader, "min_expires_s");
        raw.max_expires_s = t.integer(&mut reader, "max_expires_s");
        raw.max_contacts = t.integer(&mut reader, "max_contacts");
        raw.engines = t.integer(&mut reader, "engines");
        t.done(&mut reader);
    }
    root.done(&mut reader);
    (raw, reader.faults)
}

struct Reader<'t> {
    text: &'t str,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|&&b| b == b'\n').count()
    }

    fn fault(&mut self, line: usize, what: impl Into<String>, cure: impl Into<String>) {
        self.faults.push(Fault { line: Some(line), what: what.into(), cure: cure.into() });
    }

    fn wrong_type(&mut self, line: usize, key: &str, want: &str, got: &DeValue<'_>) {
        let article = if want.starts_with(['i', 'a']) { "an" } else { "a" };
        self.fault(
            line,
            format!("{key} is of the wrong type ({})", got.type_str()),
            format!("write {article} {want}, such as {}", example(want)),
        );
    }
}

fn example(want: &str) -> &'static str {
    match want {
        "integer" => "150",
        "string" => "\"text\"",
        "array of strings" => "[\"one\", \"two\"]",
        "table" => "[section]",
        _ => "[[cluster.node]]",
    }
}

/// A table being read: keys that were asked for are known, the rest are not.
struct Table<'a, 'i> {
    line: usize,
    name: String,
    inner: &'a DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'a, 'i> Table<'a, 'i> {
    fn new(reader: &Reader<'_>, table: &'a Spanned<DeTable<'i>>, name: &str) -> Self {
        Self {
            line: reader.line(&table.span()),
            name: name.to_owned(),
            inner: table.get_ref(),
            known: Vec::new(),
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.known.push(key);
        self.inner.iter().find(|(k, _)| k.get_ref() == key).map(|(_, v)| v)
    }

    fn integer(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<At<i64>> {
        let value = self.get(key)?;
        let line = reader.line(&value.span());
        let Some(integer) = value.get_ref().as_integer() else {
            reader.wrong_type(line, key, "integer", value.get_ref());
            return None;
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(value) => Some(At { line, value }),
            Err(_) => {
                reader.fault(line, format!("{key} is too large a number"), "write a smaller one");
                None
            }
        }
    }

    fn string(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<At<String>> {
        let value = self.get(key)?;
        let line = reader.line(&value.span());
        match value.get_ref().as_str() {
            Some(text) => Some(At { line, value: text.to_owned() }),
            None => {
                reader.wrong_type(line, key, "string", value.get_ref());
                None
            }
        }
    }

    fn strings(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<At<Vec<At<String>>>> {
        let value = self.get(key)?;
        let line = reader.line(&value.span());
        let Some(array) = value.get_ref().as_array() else {
            reader.wrong_type(line, key, "array of strings", value.get_ref());
            return None;
        };
        let mut list = Vec::new();
        for item in array.iter() {
            let line = reader.line(&item.span());
            match item.get_ref().as_str() {
                Some(text) => list.push(At { line, value: text.to_owned() }),
                None => reader.wrong_type(line, &format!("an entry of {key}"), "string", item.get_ref()),
            }
        }
        Some(At { line, value: list })
    }

    fn table(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Table<'a, 'i>> {
        let value = self.get(key)?;
        let line = reader.line(&value.span());
        match value.get_ref().as_table() {
            Some(inner) => Some(Table { line, name: format!("[{key}]"), inner, known: Vec::new() }),
            None => {
                reader.wrong_type(line, key, "table", value.get_ref());
                None
            }
        }
    }

    fn tables(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Vec<Table<'a, 'i>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let name = "[[cluster.node]]";
        let line = reader.line(&value.span());
        let Some(array) = value.get_ref().as_array() else {
            reader.wrong_type(line, key, "array of tables", value.get_ref());
            return Vec::new();
        };
        let mut list = Vec::new();
        for item in array.iter() {
            let line = reader.line(&item.span());
            match item.get_ref().as_table() {
                Some(inner) => list.push(Table { line, name: name.to_owned(), inner, known: Vec::new() }),
                None => reader.wrong_type(line, key, "array of tables", item.get_ref()),
            }
        }
        list
    }

    /// Every key that nobody asked for is a fault.
    fn done(&self, reader: &mut Reader<'_>) {
        for (key, _) in self.inner.iter() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let line = reader.line(&key.span());
            let cure = match nearest(name, &self.known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("remove it; known here are {}", self.known.join(", ")),
            };
            reader.fault(line, format!("unknown key {name:?} in {}", self.name), cure);
        }
    }
}

/// The known key that differs in at most two letters.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    /// Names longer than this are not compared: no key is that long.
    const MAX_NAME: usize = 40;
    if name.len() > MAX_NAME {
        return None;
    }
    known
        .iter()
        .map(|k| (distance(name, k), *k))
        .filter(|(d, k)| *d <= 2 && *d < k.len())
        .min()
        .map(|(_, k)| k)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
