//! The asking side: what `relevo status` and its likes use.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{MAX_REPLY_BYTES, Reply, Request};

/// How long an answer may take: longer than the longest hand-over.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long a backup may take: the disk decides.
const BACKUP_LIMIT: Duration = Duration::from_secs(600);

/// Asks the node behind `socket`.
///
/// # Errors
/// Nobody listens there, no permission, no answer in time, or not an answer.
pub fn ask(socket: &Path, request: &Request) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(socket)?;
    let limit = match request {
        Request::Backup { .. } => BACKUP_LIMIT,
        Request::Promote { .. } => crate::run::PROMOTE_LIMIT,
        Request::Members { ask } => crate::run::members_limit(ask),
        _ => ANSWER_LIMIT,
    };
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut text = String::new();
    BufReader::new(stream.take(MAX_REPLY_BYTES)).read_line(&mut text)?;
    if text.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node closed the connection"));
    }
    Ok(serde_json::from_str(&text)?)
}
