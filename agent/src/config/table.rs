//! Tables of the file with the lines of their values: what every section is read with. A fault is noted and reading goes
//! on, so that the operator sees all of them at once.

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

/// The text, and the faults found in it so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    pub(super) faults: Vec<Fault>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, faults: Vec::new() }
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|&&b| b == b'\n').count()
    }

    pub(super) fn fault(&mut self, line: usize, what: impl Into<String>, cure: impl Into<String>) {
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
        "array of integers" => "[486, 408]",
        "string" => "\"text\"",
        "array of strings" => "[\"one\", \"two\"]",
        "table" => "[section]",
        "boolean" => "true",
        _ => "[[section]]",
    }
}

/// A table being read: keys that were asked for are known, the rest are not.
pub(super) struct Table<'a, 'i> {
    pub(super) line: usize,
    name: String,
    inner: &'a DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'a, 'i> Table<'a, 'i> {
    pub(super) fn new(reader: &Reader<'_>, table: &'a Spanned<DeTable<'i>>, name: &str) -> Self {
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

    pub(super) fn integer(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<At<i64>> {
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

    /// A number between two bounds (both included), or its default; a fault if it is out of range.
    pub(super) fn number(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        (min, max): (i64, i64),
        default: i64,
    ) -> i64 {
        let Some(at) = self.integer(reader, key) else { return default };
        if (min..=max).contains(&at.value) {
            return at.value;
        }
        reader.fault(
            at.line,
            format!("{key} = {} is out of range", at.value),
            format!("write a number from {min} to {max}"),
        );
        default
    }

    /// The line of a key, if it is written.
    pub(super) fn line_of(&self, reader: &Reader<'_>, key: &str) -> Option<usize> {
        self.inner.iter().find(|(k, _)| k.get_ref() == key).map(|(_, v)| reader.line(&v.span()))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<At<bool>> {
        let value = self.get(key)?;
        let line = reader.line(&value.span());
        match value.get_ref().as_bool() {
            Some(value) => Some(At { line, value }),
            None => {
                reader.wrong_type(line, key, "boolean", value.get_ref());
                None
            }
        }
    }

    /// One of several words, each with what it stands for.
    pub(super) fn word<T: Copy>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let at = self.string(reader, key)?;
        let found = words.iter().find(|(word, _)| *word == at.value).map(|(_, value)| *value);
        if found.is_none() {
            let all: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            reader.fault(
                at.line,
                format!("{key} {:?} is unknown", at.value),
                format!("write {}", all.join(" or ")),
            );
        }
        found
    }

    /// A string, or several in an array.
    pub(super) fn one_or_more(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<At<Vec<At<String>>>> {
        let is_one = self.inner.iter().any(|(k, v)| k.get_ref() == key && v.get_ref().as_str().is_some());
        if !is_one {
            return self.strings(reader, key);
        }
        let at = self.string(reader, key)?;
        Some(At { line: at.line, value: vec![at] })
    }

    /// Numbers in an array, each with its line.
    pub(super) fn integers(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<At<Vec<At<i64>>>> {
        let value = self.get(key)?;
        let line = reader.line(&value.span());
        let Some(array) = value.get_ref().as_array() else {
            reader.wrong_type(line, key, "array of integers", value.get_ref());
            return None;
        };
        let mut list = Vec::new();
        for item in array.iter() {
            let line = reader.line(&item.span());
            let number = item.get_ref().as_integer();
            match number.and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok()) {
                Some(value) => list.push(At { line, value }),
                None => reader.wrong_type(line, &format!("an entry of {key}"), "integer", item.get_ref()),
            }
        }
        Some(At { line, value: list })
    }

    /// The keys of a table whose names the operator chooses, each with its line and its text.
    pub(super) fn texts(&self, reader: &mut Reader<'_>) -> Vec<(String, At<String>)> {
        let mut list = Vec::new();
        for (key, value) in self.inner.iter() {
            let line = reader.line(&value.span());
            let name: &str = key.get_ref();
            match value.get_ref().as_str() {
                Some(text) => list.push((name.to_owned(), At { line, value: text.to_owned() })),
                None => reader.wrong_type(line, name, "string", value.get_ref()),
            }
        }
        list
    }

    pub(super) fn string(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<At<String>> {
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

    pub(super) fn strings(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<At<Vec<At<String>>>> {
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

    pub(super) fn table(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Table<'a, 'i>> {
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

    /// All tables of an array of tables; `name` is how the operator writes them.
    pub(super) fn tables(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        name: &str,
    ) -> Vec<Table<'a, 'i>> {
        let Some(value) = self.get(key) else { return Vec::new() };
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
    pub(super) fn done(&self, reader: &mut Reader<'_>) {
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
