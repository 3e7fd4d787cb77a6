//! What the documents say about the configuration is what the program reads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use agent::config::Config;
use clap::CommandFactory;

fn file(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let text = std::fs::read_to_string(&path).expect("the file is in the tree");
    (path, text)
}

/// A key that no section has, and that is near to none.
const UNKNOWN: &str = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

/// The keys that the program knows in a table, as it says itself when it meets one that it does not know. Empty: there is no
/// such table.
fn known_in(table: &str) -> BTreeSet<String> {
    let text = if table.is_empty() { String::new() } else { format!("{table}\n") };
    let faults = Config::parse(Path::new("asked.toml"), &format!("{text}{UNKNOWN} = 1\n"))
        .expect_err("nobody knows this key")
        .faults;
    faults
        .iter()
        .filter(|fault| fault.what.starts_with("unknown key") && fault.what.contains(UNKNOWN))
        .filter(|fault| table.is_empty() || fault.what.ends_with(&format!(" in {table}")))
        .filter_map(|fault| fault.cure.split_once("known here are "))
        .flat_map(|(_, keys)| keys.split(", ").map(str::to_owned))
        .collect()
}

/// Every key of the configuration, as the reference writes it: `section.key`, `section.table[].key`, `route[].key`.
fn read_keys() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for section in known_in("") {
        for (table, name) in
            [(format!("[{section}]"), section.clone()), (format!("[[{section}]]"), format!("{section}[]"))]
        {
            for key in known_in(&table) {
                let below = known_in(&format!("[[{section}.{key}]]"));
                if below.is_empty() {
                    keys.insert(format!("{name}.{key}"));
                }
                keys.extend(below.into_iter().map(|below| format!("{name}.{key}[].{below}")));
            }
        }
    }
    // The operator chooses the names of its keys.
    keys.insert(String::from("speed_dial.NUMBER"));
    keys
}

/// The keys in the first column of the reference: `section.key` in backquotes.
fn told(name: &str) -> BTreeSet<String> {
    let sections = known_in("");
    file(name)
        .1
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .filter(|(key, _)| {
            // Without a dot it is a word of another table, such as an action of a route.
            let section = key.split(['.', '[']).next().unwrap_or_default();
            key.contains('.') && sections.contains(section)
        })
        .map(|(key, _)| key.to_owned())
        .collect()
}

#[test]
fn the_example_is_a_right_configuration_of_a_pair_and_a_witness_but_for_its_key_which_everybody_knows() {
    let (path, text) = file("docs/config.example.toml");
    let config = Config::parse(&path, &text).expect("it is right");
    assert_eq!(config.nodes.len(), 3);
    assert!(
        matches!(&config.warnings()[..], [only] if only.contains("cluster.key")),
        "{:?}",
        config.warnings()
    );
    let text = text.replace("key = \"00", "key = \"7f");
    assert_eq!(Config::parse(&path, &text).expect("it is right").warnings(), Vec::<String>::new());
}

#[test]
fn what_the_example_comments_out_is_the_default() {
    let (path, text) = file("docs/config.example.toml");
    let spelled_out: String = text
        .lines()
        .map(|line| {
            let key =
                line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            // The one that excludes the floating IP.
            let line = key.filter(|key| !key.starts_with("listen")).unwrap_or(line);
            format!("{line}\n")
        })
        .collect();
    assert!(spelled_out.contains("\nheartbeat_ms = 30\n") && spelled_out.contains("\nengines = 0\n"));
    let mut spelled_out = Config::parse(&path, &spelled_out).expect("it is right");
    let defaults = Config::parse(&path, &text).expect("it is right");
    // Which keys a file names is no setting.
    spelled_out.keys.clone_from(&defaults.keys);
    assert_eq!(spelled_out, defaults);
}

#[test]
fn each_key_that_is_read_is_in_the_reference_in_both_languages_and_no_other() {
    let read = read_keys();
    for key in ["cluster.heartbeat_ms", "cluster.node[].addr", "limits.trunk[].calls", "route[].user_regex"] {
        assert!(read.contains(key), "{key} is missing in {read:#?}");
    }
    for name in ["docs/operating.md", "docs/es/operating.md"] {
        let told = told(name);
        let missing: Vec<_> = read.difference(&told).collect();
        let invented: Vec<_> = told.difference(&read).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "{name}: missing {missing:#?}, invented {invented:#?}"
        );
    }
}

/// Each command with its nouns: `status`, `ul show`.
fn commands() -> BTreeSet<String> {
    let mut list = BTreeSet::new();
    for noun in agent::cli::Cli::command().get_subcommands() {
        let mut verbs = noun.get_subcommands().peekable();
        if verbs.peek().is_none() {
            list.insert(noun.get_name().to_owned());
        }
        list.extend(verbs.map(|verb| format!("{} {}", noun.get_name(), verb.get_name())));
    }
    list
}

/// The commands of the table in the reference. `relevo ul show`, `rm` in one cell are two of the same noun.
fn told_commands(name: &str, known: &BTreeSet<String>) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for line in file(name).1.lines().filter(|line| line.starts_with("| `relevo ")) {
        let cell = line.trim_start_matches("| ").split(" | ").next().unwrap_or_default();
        let mut noun = "";
        for code in cell.split('`').skip(1).step_by(2) {
            let mut words = code.split(' ').filter(|word| *word != "relevo");
            let first = words.next().unwrap_or_default();
            if code.starts_with("relevo ") {
                noun = first;
            }
            let verb = if code.starts_with("relevo ") { words.next().unwrap_or_default() } else { first };
            let whole = format!("{noun} {verb}");
            told.insert(if known.contains(noun) { noun.to_owned() } else { whole });
        }
    }
    told
}

#[test]
fn each_command_has_a_line_in_the_reference_in_both_languages_and_no_other() {
    let known = commands();
    assert!(known.contains("status") && known.contains("ul show"), "{known:?}");
    for name in ["docs/operating.md", "docs/es/operating.md"] {
        assert_eq!(told_commands(name, &known), known, "{name}");
    }
}

/// What `docs/from-kamailio.md` has to name, with the line of the file that says so: each entry is the words that stand in
/// the first cell of one row.
fn asked_of(kamailio_cfg: &str) -> Vec<(String, Vec<String>)> {
    let mut asked = Vec::new();
    for line in kamailio_cfg.lines() {
        // A parameter that is there to be uncommented counts; prose does not.
        let code = line.trim().trim_start_matches("# ");
        let mut ask = |words: &[&str]| {
            asked.push((line.to_owned(), words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()));
        };
        let quoted: Vec<&str> = code.split('"').skip(1).step_by(2).collect();
        for word in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("WITH_") && word != "WITH_FEATURE" {
                ask(&[word]);
            }
        }
        if let Some(rest) = line.strip_prefix("#!define ").or_else(|| line.strip_prefix("#!trydef ")) {
            ask(&[rest.split_whitespace().next().unwrap_or_default()]);
        } else if code.starts_with("loadmodule ") {
            ask(&[quoted[0].trim_end_matches(".so")]);
        } else if code.starts_with("modparam(") {
            for module in quoted[0].split('|') {
                ask(&[module, quoted[1]]);
            }
        } else if line.starts_with(|c: char| c.is_ascii_lowercase()) || line.starts_with("# ") {
            if let Some((name, _)) = code.split_once("route[").and_then(|(_, rest)| rest.split_once("] {")) {
                ask(&[name]);
            } else if let Some(name) = code.strip_suffix("route {") {
                ask(&[&format!("{name}route")]);
            } else if let Some((name, _)) = code.split_once('=') {
                let name = name.trim();
                if !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b"._".contains(&b)) {
                    ask(&[name]);
                }
            }
        }
    }
    asked
}

#[test]
fn each_define_module_parameter_and_route_of_kamailio_cfg_is_in_the_page_for_its_operators() {
    // The file of the Debian package (`make test` brings it), as it was packed: `dpkg` lists what somebody has changed.
    let changed = Command::new("dpkg").args(["--verify", "kamailio"]).output().map(|out| out.stdout);
    let is_packed = changed.is_ok_and(|list| !String::from_utf8_lossy(&list).contains("/kamailio.cfg"));
    let cfg = std::fs::read_to_string("/etc/kamailio/kamailio.cfg").ok().filter(|_| is_packed);
    let Some(cfg) = cfg else {
        println!(
            "left out: no /etc/kamailio/kamailio.cfg on this machine, or another one than that of the package"
        );
        return;
    };
    let asked = asked_of(&cfg);
    assert!(asked.len() > 150, "the file says {} things", asked.len());
    let (_, page) = file("docs/from-kamailio.md");
    let rows: Vec<BTreeSet<&str>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .map(|(cell, _)| cell.split(|c: char| !c.is_ascii_alphanumeric() && !"._:".contains(c)).collect())
        .collect();
    let missing: BTreeSet<&str> = asked
        .iter()
        .filter(|(_, words)| !rows.iter().any(|row| words.iter().all(|word| row.contains(word.as_str()))))
        .map(|(line, _)| line.as_str())
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
