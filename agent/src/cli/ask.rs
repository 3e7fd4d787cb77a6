//! Commands that ask a running node.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Common, EXIT_FAILED, EXIT_USAGE, print};
use crate::admin::{Reply, Request, client};

/// Code of `relevo status --check` where no node answers.
const UNKNOWN: u8 = 3;

/// A refusal as it is printed: what is wrong and why, and what mends it.
pub(super) struct Problem {
    pub(super) code: u8,
    pub(super) error: String,
    pub(super) cure: String,
}

pub(super) fn ask(common: &Common, request: &Request) -> Result<Value, Problem> {
    let socket = socket(common)?;
    match client::ask(&socket, request) {
        Ok(Reply::Ok { ok }) => Ok(ok),
        Ok(Reply::Error { error, cure }) => Err(Problem { code: EXIT_FAILED, error, cure }),
        Err(e) => Err(unreachable(&socket, &e)),
    }
}

fn socket(common: &Common) -> Result<PathBuf, Problem> {
    if let Some(path) = &common.admin {
        return Ok(path.clone());
    }
    common.load().map(|c| c.admin).map_err(|e| Problem {
        code: EXIT_USAGE,
        error: e.to_string(),
        cure: String::from("mend the file, or name the socket of the node with --admin SOCKET"),
    })
}

fn unreachable(socket: &Path, e: &io::Error) -> Problem {
    let cure = match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "start the node (relevo run), or name its socket with --admin SOCKET (or --config FILE, --data DIR)"
        }
        io::ErrorKind::PermissionDenied => "run this as the user that runs the node, or as root",
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "the agent may be stopped or overloaded; see its log"
        }
        _ => "see the log of the node",
    };
    let error = format!("no node answers on {}: {e}", socket.display());
    Problem { code: EXIT_FAILED, error, cure: cure.to_owned() }
}

pub(super) fn show(common: &Common, request: &Request, human: impl FnOnce(&Value) -> String) -> ExitCode {
    tell(common, ask(common, request), human)
}

/// Prints an answer, or why there is none.
pub(super) fn tell(
    common: &Common,
    answer: Result<Value, Problem>,
    human: impl FnOnce(&Value) -> String,
) -> ExitCode {
    match answer {
        Ok(value) => {
            let text = if common.json { value.to_string() } else { human(&value) };
            let text = text.trim_end();
            if !text.is_empty() {
                print::line(text);
            }
            ExitCode::SUCCESS
        }
        Err(problem) => {
            if common.json {
                print::line(&json!({ "error": problem.error, "cure": problem.cure }).to_string());
            }
            print::complain(&problem.error, &problem.cure);
            ExitCode::from(problem.code)
        }
    }
}

pub(super) fn status(common: &Common) -> ExitCode {
    show(common, &Request::Status {}, print::status)
}

/// The verdict alone, and its code, as monitoring wants it. Whatever keeps the node from answering is no verdict.
pub(super) fn check(common: &Common) -> ExitCode {
    match ask(common, &Request::Status {}) {
        Ok(status) => {
            let verdict = &status["verdict"];
            let text = if common.json { verdict.to_string() } else { print::verdict(&status) };
            print::line(&text);
            let code = verdict["code"].as_u64().and_then(|code| u8::try_from(code).ok());
            ExitCode::from(code.unwrap_or(UNKNOWN))
        }
        Err(problem) => {
            let word = crate::control::Level::Unknown.word();
            let words = format!("{}; {}", problem.error, problem.cure);
            print::line(&match common.json {
                true => json!({ "level": word, "code": UNKNOWN, "words": words }).to_string(),
                false => format!("{word}: {words}"),
            });
            ExitCode::from(UNKNOWN)
        }
    }
}

pub(super) fn switchover(common: &Common, node: Option<u16>) -> ExitCode {
    show(common, &Request::Switchover { node }, |v| {
        format!("the service is with node {} now (after {} ms)", v["holder"], v["ms"])
    })
}

pub(super) fn ul_show(common: &Common, aor: Option<String>) -> ExitCode {
    show(common, &Request::UlShow { aor }, print::bindings)
}

pub(super) fn ul_rm(common: &Common, aor: &str, contact: Option<String>) -> ExitCode {
    let request = Request::UlRm { aor: aor.to_owned(), contact };
    show(common, &request, |_| String::from("removed"))
}
