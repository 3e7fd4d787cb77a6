//! `docs/rfc-map.md` names files and tests: each of them has to be there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every identifier in the sources: tests may be made by a macro that is given their names.
fn identifiers() -> BTreeSet<String> {
    let mut files = Vec::new();
    for folder in ["proxy-core/src", "proxy-core/tests", "agent/src", "agent/tests"] {
        rust_files(&root().join(folder), &mut files);
    }
    let mut found = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).expect("a file");
        found.extend(text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned));
    }
    found
}

/// The cells of all rows of the map that have a section.
fn rows() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("docs/rfc-map.md")).expect("docs/rfc-map.md");
    let rows = text.lines().filter(|l| l.starts_with("| §") || l.starts_with("| RFC"));
    rows.map(|l| l.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect()).collect()
}

fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_file_of_the_map_is_there() {
    let gone: Vec<String> = rows()
        .iter()
        .flat_map(|row| names(&row[1]).map(str::to_owned).collect::<Vec<_>>())
        .filter(|name| {
            let path = if name.starts_with("agent/") {
                root().join(name)
            } else {
                root().join("proxy-core/src").join(name)
            };
            !path.exists()
        })
        .collect();
    assert!(gone.is_empty(), "{gone:#?}");
}

#[test]
fn every_test_of_the_map_is_there() {
    let known = identifiers();
    let rows = rows();
    assert!(rows.len() > 50, "the map has shrunk to {} rows", rows.len());
    let tests: Vec<&str> = rows.iter().flat_map(|row| names(&row[2])).collect();
    assert!(tests.len() > 80, "the map names {} tests", tests.len());
    let gone: Vec<&&str> = tests.iter().filter(|t| !known.contains(**t)).collect();
    assert!(gone.is_empty(), "{gone:#?}");
}

#[test]
fn a_section_has_a_test_or_says_what_is_not_done() {
    for row in rows() {
        let [section, _, tests, missing] = row.as_slice() else { panic!("four cells, not {row:?}") };
        assert!(names(tests).next().is_some() || !missing.is_empty(), "{section}");
    }
}
