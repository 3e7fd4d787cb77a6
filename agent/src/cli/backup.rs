//! `relevo backup`: the replicated state in a file.

use std::path::Path;
use std::process::ExitCode;

use super::ask::show;
use super::print::text;
use super::{Common, print};
use crate::admin::Request;

pub(super) fn backup(common: &Common, file: &Path, force: bool) -> ExitCode {
    // The node has another working folder.
    let file = match std::path::absolute(file) {
        Ok(file) => file,
        Err(e) => {
            print::complain(&format!("{}: {e}", file.display()), "name a file");
            return ExitCode::from(super::EXIT_USAGE);
        }
    };
    show(common, &Request::Backup { file, force }, |v| {
        format!(
            "{}: {} bytes, the state of cluster {} at entry {} or later",
            text(&v["file"]),
            text(&v["bytes"]),
            text(&v["cluster"]),
            text(&v["applied"])
        )
    })
}
