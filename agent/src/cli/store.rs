//! `relevo store`: what a stopped node has on its disk, and how it goes on from what still verifies.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use raft_store::node::examine::{Report, examine};
use raft_store::node::{Member, Position, Role, Store as Folder};

use super::print::{complain, line};
use super::{Common, EXIT_FAILED, EXIT_USAGE, config_error};
use crate::config::{self, Config, Durability};

/// The stored state of a node that is stopped.
#[derive(Debug, Subcommand)]
pub(super) enum Store {
    /// Read all files and say which verify, up to which entry, and what is lost; changes nothing
    Check,
    /// Begin from the newest state that verifies; what is there now is kept aside
    Repair {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(super) fn store(common: &Common, command: &Store) -> ExitCode {
    let config = match common.load() {
        Ok(config) => config,
        Err(e) => {
            config_error(&e, common.json);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let done = match command {
        Store::Check => check(&config, common.json),
        Store::Repair { yes } => repair(&config, common.json, *yes),
    };
    done.unwrap_or_else(|why| {
        complain(&why, "");
        ExitCode::from(EXIT_FAILED)
    })
}

fn durability(config: &Config) -> raft_store::log::Durability {
    match config.durability {
        Durability::Disk => raft_store::log::Durability::Disk,
        Durability::Memory => raft_store::log::Durability::Memory,
    }
}

/// The store, or the newest one that was set aside where there is none; locked, so that nobody writes to it meanwhile.
fn find(config: &Config) -> Result<(Folder, PathBuf), String> {
    let data = config.data.join(crate::run::STORE);
    if !data.is_dir() {
        return Err(format!("there is no store in {}: nothing was ever here", data.display()));
    }
    let folder =
        Folder::lock(&data, &config.cluster, config.id, durability(config)).map_err(|e| e.to_string())?;
    let root = data.join("store");
    if root.is_dir() {
        return Ok((folder, root));
    }
    let aside = newest_aside(&data).map_err(|e| format!("{}: {e}", data.display()))?;
    let aside =
        aside.ok_or_else(|| format!("there is no store in {}: nothing was ever here", data.display()))?;
    Ok((folder, aside))
}

fn newest_aside(data: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("set-aside-") {
            all.push(entry.path());
        }
    }
    all.sort();
    Ok(all.pop())
}

fn look(root: &Path, config: &Config) -> Result<Report, String> {
    examine(root, durability(config), false)
        .map(|(report, _)| report)
        .map_err(|e| format!("{} cannot be read: {e}", root.display()))
}

fn check(config: &Config, json: bool) -> Result<ExitCode, String> {
    let (_folder, root) = find(config)?;
    let report = look(&root, config)?;
    show(&report, json);
    Ok(if report.good { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn show(report: &Report, json: bool) {
    if json {
        return line(&serde_json::to_string_pretty(report).unwrap_or_default());
    }
    for part in &report.parts {
        let good = if part.good { "good   " } else { "DAMAGED" };
        line(&format!("{good} {}: {}", part.path.display(), part.what));
    }
    line(&format!("log: {}", report.log));
    line(&summary(report));
}

/// What is there and what is lost, in one sentence.
fn summary(report: &Report) -> String {
    let newest = match report.newest {
        Some(last) => format!("the newest state that verifies ends with entry {last}"),
        None => "no state verifies".to_owned(),
    };
    match report.missing {
        None if report.good => format!("{newest}; nothing is lost"),
        None => format!("{newest}; it holds all that was acknowledged"),
        Some((first, Some(last))) => format!("{newest}; entries {first} to {last} are lost, or may be"),
        Some((first, None)) => format!("{newest}; what was acknowledged from entry {first} on may be lost"),
    }
}

fn repair(config: &Config, json: bool, yes: bool) -> Result<ExitCode, String> {
    let (folder, root) = find(config)?;
    let is_store = root.ends_with("store");
    // A program that reads JSON gets the report alone.
    let say = |text: &str| {
        if !json {
            line(text);
        }
    };
    let report = look(&root, config)?;
    show(&report, json);
    if report.good && is_store {
        say("there is nothing to repair");
        return Ok(ExitCode::SUCCESS);
    }
    if report.newest.is_none() {
        return Err("no state verifies, so that there is nothing to begin from; nothing was changed. `relevo restore` \
                    begins from a backup, and a cluster's other nodes give this one the state when it starts"
            .into());
    }
    if config.is_cluster() {
        say(
            "This node then begins the cluster anew with that state, and the others take it from here. Where a majority \
             of them is whole, start this node instead: it takes the state from there, and nothing is lost.",
        );
    }
    if !yes && !asked("Begin from that state?")? {
        return Err("nothing was changed".into());
    }
    let (_, newest) = examine(&root, durability(config), true).map_err(|e| e.to_string())?;
    let newest = newest.ok_or("no state verifies")?;
    let own = config.myself();
    let role = match config.role {
        config::Role::Appliance => Role::Appliance,
        config::Role::Witness => Role::Witness,
    };
    let beyond = Position { term: newest.term, index: newest.beyond };
    folder.begin_from(&newest.state, beyond, Member { addr: own.addr, role }).map_err(|e| e.to_string())?;
    let kept = folder.data().display();
    say(&format!("done: {}; the damaged store is kept as set-aside-… in {kept}", summary(&report)));
    Ok(ExitCode::SUCCESS)
}

fn asked(question: &str) -> Result<bool, String> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err("nobody can be asked here: add --yes; nothing was changed".into());
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush().map_err(|e| e.to_string())?;
    let mut line = String::new();
    input.lock().read_line(&mut line).map_err(|e| e.to_string())?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_is_lost_as_exactly_as_it_is_known() {
        let report = |good, newest, missing| Report { good, newest, missing, ..Report::default() };
        let cases = [
            (
                report(true, Some(7), None),
                "the newest state that verifies ends with entry 7; nothing is lost",
            ),
            (
                report(false, Some(7), None),
                "the newest state that verifies ends with entry 7; it holds all that was acknowledged",
            ),
            (
                report(false, Some(7), Some((8, Some(9)))),
                "the newest state that verifies ends with entry 7; entries 8 to 9 are lost, or may be",
            ),
            (
                report(false, None, Some((0, None))),
                "no state verifies; what was acknowledged from entry 0 on may be lost",
            ),
        ];
        for (report, expected) in cases {
            assert_eq!(summary(&report), expected);
        }
    }
}
