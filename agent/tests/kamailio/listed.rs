//! The differences that are known: the tables of `docs/kamailio-differences.md`.

use crate::facts::Difference;

/// One row: patterns in which `*` stands for anything.
#[derive(Debug, Clone)]
pub struct Row {
    pub line: usize,
    pub scenario: String,
    pub place: String,
    pub kamailio: String,
    pub relevo: String,
}

/// The rows of all tables whose header begins with `scenario`.
pub fn rows(text: &str) -> Vec<Row> {
    let mut out = Vec::new();
    let mut inside = false;
    for (n, line) in text.lines().enumerate() {
        let cells: Vec<String> = line
            .trim()
            .trim_start_matches('|')
            .trim_end_matches('|')
            .split(" | ")
            .map(|c| c.trim().trim_matches('`').to_owned())
            .collect();
        if !line.starts_with('|') {
            inside = false;
        } else if cells.first().is_some_and(|c| c == "scenario") {
            inside = true;
        } else if inside && !line.starts_with("|--") {
            let [scenario, place, kamailio, relevo, reason] = <[String; 5]>::try_from(cells)
                .unwrap_or_else(|c| panic!("line {}: five cells, not {c:?}", n + 1));
            assert!(reason.len() > 10, "line {}: a difference needs a reason", n + 1);
            out.push(Row { line: n + 1, scenario, place, kamailio, relevo });
        }
    }
    out
}

impl Row {
    pub fn covers(&self, d: &Difference) -> bool {
        // Several scenarios or places may share a row.
        self.scenario.split(", ").any(|s| fits(s, &d.scenario))
            && self.place.split(", ").any(|p| fits(p, &d.place))
            && fits(&self.kamailio, &d.kamailio)
            && fits(&self.relevo, &d.relevo)
    }
}

/// Whether `text` is what `pattern` says, `*` standing for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[test]
fn a_pattern_fits_whole_texts_only() {
    assert!(fits("a*c", "abc") && fits("*", "") && fits("a", "a") && fits("a*b*c", "a1b2c"));
    assert!(!fits("a", "ab") && !fits("a*c", "ab") && !fits("ab*b", "ab"));
}
