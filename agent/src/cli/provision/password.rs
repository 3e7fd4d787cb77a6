//! Where a password comes from: a prompt, standard input, a file; never the command line, which everybody on the machine
//! can read. HA1 is made of it here, so that it does not cross the admin socket either.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use proxy_core::digest::{self, Algorithm, unhex};
use serde_json::Value;

use crate::admin::Request;
use crate::admin::provision::{Ask, Secret};
use crate::cli::ask::{Problem, ask};
use crate::cli::{Common, EXIT_FAILED, EXIT_USAGE};

/// Longest password, bytes.
const MAX_PASSWORD_BYTES: usize = 1024;

/// Where the password comes from.
#[derive(Debug, Clone, Args)]
pub(crate) struct PasswordFrom {
    /// Read the password from the first line of FILE (- is standard input) instead of asking for it
    #[arg(long, value_name = "FILE", conflicts_with = "ha1")]
    pub(crate) password_file: Option<PathBuf>,
    /// Take this HA1 in hex instead of a password: MD5 (32 digits) or SHA-256 (64 digits), made for the
    /// realm that `subscriber list` and `domain list` show; may be given once each
    #[arg(long, value_name = "HEX")]
    pub(crate) ha1: Vec<String>,
}

/// The user with his domain, and what his password leaves behind. The node is asked first: the realm is part of HA1, and
/// nobody should type a password for what will be refused.
pub(in crate::cli) fn secret(
    common: &Common,
    user: &str,
    is_new: bool,
    from: &PasswordFrom,
) -> Result<(String, Secret), Problem> {
    let identity = ask(common, &Request::Provision { ask: Ask::Identity { user: user.to_owned() } })?;
    let field = |name: &str| identity[name].as_str().unwrap_or_default().to_owned();
    let (user, username, realm) = (field("user"), field("username"), field("realm"));
    match (is_new, identity["exists"] == Value::Bool(true)) {
        (true, true) => {
            return Err(refused(
                format!("user '{user}' already exists"),
                format!("give it another password: relevo subscriber passwd {user}"),
            ));
        }
        (false, false) => {
            return Err(refused(
                format!("non-existent user '{user}'"),
                String::from("see who there is: relevo subscriber list"),
            ));
        }
        _ => {}
    }
    let secret = secret_for(from, &user, &username, realm)?;
    Ok((user, secret))
}

/// What a password for this user name and realm leaves behind; the prompt speaks of `whose`.
pub(crate) fn secret_for(
    from: &PasswordFrom,
    whose: &str,
    username: &str,
    realm: String,
) -> Result<Secret, Problem> {
    if !from.ha1.is_empty() {
        return given(&from.ha1, realm);
    }
    let password = read(whose, from.password_file.as_deref())?;
    let ha1 = digest::ha1(username, &realm, &password);
    let [md5, sha256] = [Algorithm::Md5, Algorithm::Sha256].map(|a| a.ha1_of(&ha1));
    Ok(Secret { realm, md5, sha256 })
}

fn given(list: &[String], realm: String) -> Result<Secret, Problem> {
    let mut secret = Secret { realm, md5: None, sha256: None };
    for text in list {
        let place = match text.len() {
            32 if unhex::<16>(text).is_some() => &mut secret.md5,
            64 if unhex::<32>(text).is_some() => &mut secret.sha256,
            // It is as good as a password and is not repeated.
            _ => {
                return Err(usage(
                    "an HA1 is not 32 or 64 hex digits",
                    "take column ha1 of Kamailio's subscriber table, or leave --ha1 out and give the password",
                ));
            }
        };
        if place.replace(text.to_ascii_lowercase()).is_some() {
            return Err(usage("there are two HA1 of one length", "give one for each algorithm"));
        }
    }
    Ok(secret)
}

fn read(user: &str, file: Option<&Path>) -> Result<String, Problem> {
    let password = match file {
        Some(path) if path != Path::new("-") => File::open(path)
            .and_then(first_line)
            .map_err(|e| usage(&format!("{} cannot be read: {e}", path.display()), "name a readable file"))?,
        None if io::stdin().is_terminal() => prompted(user)?,
        _ => first_line(io::stdin().lock())
            .map_err(|e| usage(&format!("no password on standard input: {e}"), "write it as one line"))?,
    };
    if password.is_empty() {
        return Err(usage("the password is empty", "give one, in one line"));
    }
    Ok(password)
}

fn first_line(from: impl Read) -> io::Result<String> {
    let mut line = String::new();
    let most = MAX_PASSWORD_BYTES as u64 + 2;
    BufReader::new(from.take(most)).read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(io::Error::other(format!("it is longer than {MAX_PASSWORD_BYTES} bytes")));
    }
    Ok(password.to_owned())
}

/// Asks twice on the terminal, which shows nothing of what is typed.
fn prompted(user: &str) -> Result<String, Problem> {
    let failed = |e: io::Error| Problem {
        code: EXIT_FAILED,
        error: match e.kind() {
            io::ErrorKind::Interrupted => String::from("given up: nothing was changed"),
            _ => format!("no password from the terminal: {e}"),
        },
        cure: String::from("give the password here, or with --password-file FILE"),
    };
    let first = unseen(&format!("password for {user}: ")).map_err(failed)?;
    if first.is_empty() {
        // Nobody has to say nothing twice.
        return Ok(first);
    }
    let second = unseen("once more: ").map_err(failed)?;
    if first != second {
        return Err(usage("the two passwords differ", "try again"));
    }
    Ok(first)
}

fn unseen(question: &str) -> io::Result<String> {
    let stdin = io::stdin();
    // On the error output, so that standard output holds the answer only.
    let mut err = io::stderr().lock();
    write!(err, "{question}")?;
    err.flush()?;
    let seen = tcgetattr(&stdin)?;
    let mut hidden = seen.clone();
    hidden.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
    hidden.local_flags.insert(LocalFlags::ECHONL);
    // Without signals, Ctrl-C ends the line: a process that it killed here would leave a terminal that shows nothing.
    let interrupt = seen.control_chars[SpecialCharacterIndices::VINTR as usize];
    hidden.control_chars[SpecialCharacterIndices::VEOL as usize] = interrupt;
    let restore = Restore(seen);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden)?;
    let line = typed(stdin.lock());
    drop(restore);
    let line = line?;
    if interrupt != 0 && line.ends_with(char::from(interrupt)) {
        writeln!(err)?;
        return Err(io::Error::new(io::ErrorKind::Interrupted, "it was given up"));
    }
    if line.len() > MAX_PASSWORD_BYTES {
        return Err(io::Error::other(format!("it is longer than {MAX_PASSWORD_BYTES} bytes")));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// One line as the terminal hands it over, however it ended.
fn typed(mut from: impl BufRead) -> io::Result<String> {
    let bytes = from.fill_buf()?.to_vec();
    from.consume(bytes.len());
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

/// Puts the terminal back as it was, whatever happens.
struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

fn refused(error: String, cure: String) -> Problem {
    Problem { code: EXIT_FAILED, error, cure }
}

pub(crate) fn usage(error: &str, cure: &str) -> Problem {
    Problem { code: EXIT_USAGE, error: error.to_owned(), cure: cure.to_owned() }
}
