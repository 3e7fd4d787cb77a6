//! What the documents say about the configuration is what the program reads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use agent::config::Config;

fn file(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let text = std::fs::read_to_string(&path).expect("the file is in the tree");
    (path, text)
}

/// The files that read the configuration, and the tables that each reads. A section with a file of its own adds its line.
const SECTIONS: [(&str, &[&str]); 8] = [
    ("agent/src/config/read.rs", &["node", "cluster", "vip"]),
    ("agent/src/config/sip.rs", &["sip"]),
    ("agent/src/config/routing.rs", &["routing", "flood", "voicemail"]),
    ("agent/src/config/route.rs", &["route"]),
    ("agent/src/config/dispatcher.rs", &["dispatcher"]),
    ("agent/src/config/trunk.rs", &["trunk"]),
    ("agent/src/config/failover.rs", &["failover"]),
    ("agent/src/config/hep.rs", &["hep"]),
];

/// The keys in the first column of the reference: `table.key` in backquotes, three or more columns behind it.
fn told(name: &str) -> BTreeSet<String> {
    file(name)
        .1
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(key, _)| key.replace("[]", ""))
        .filter(|key| {
            // Without a dot it is a word of another table, such as an action of a route.
            let Some((table, _)) = key.split_once('.') else { return false };
            SECTIONS.iter().any(|(_, tables)| tables.contains(&table))
        })
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
    let spelled_out = Config::parse(&path, &spelled_out).expect("it is right");
    assert_eq!(spelled_out, Config::parse(&path, &text).expect("it is right"));
}

#[test]
fn each_key_that_is_read_is_in_the_reference_in_both_languages_and_no_other() {
    let sources: String = SECTIONS.iter().map(|(name, _)| file(name).1).collect();
    // However the formatter has broken the lines.
    let sources = sources.split_whitespace().collect::<Vec<_>>().join(" ");
    let read: BTreeSet<&str> = sources
        .split("reader, \"")
        .skip(1)
        .filter_map(|rest| rest.split_once('"'))
        .map(|(key, _)| key)
        .filter(|key| {
            let is_table = SECTIONS.iter().any(|(_, tables)| tables.contains(key));
            // A route has a key of the name of a table.
            !["speed_dial", "auth", "transport"].contains(key)
                && (!is_table || ["voicemail", "trunk"].contains(key))
        })
        .collect();
    assert!(read.contains("heartbeat_ms") && read.contains("addresses"), "{read:?}");
    assert!(read.contains("user_regex") && read.contains("relay_from"), "{read:?}");
    for name in ["docs/operating.md", "docs/es/operating.md"] {
        let told = told(name);
        let keys: BTreeSet<&str> = told.iter().filter_map(|key| key.rsplit('.').next()).collect();
        assert_eq!(keys, read, "{name}");
    }
    assert_eq!(told("docs/operating.md"), told("docs/es/operating.md"));
}
