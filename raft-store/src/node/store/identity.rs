//! `store/id`: whose store this is, as text for people, with a checksum in its last line.
//!
//! ```text
//! format 1
//! cluster office
//! node 2
//! raft-id 2
//! crc 5f3a0c11
//! ```
//!
//! | what is found | then |
//! |---|---|
//! | all fields, and the checksum fits (or there is none: an early build wrote it) | what it says counts |
//! | anything else, and the log's `META` verifies and is this node's | the file is written again from `META` |
//! | anything else | the store is damaged |

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::disk::create_private;
use crate::node::types::{Place, RaftId, place_of};

/// Layout of the folder.
pub(super) const FORMAT: &str = "1";
/// Begins the line of the checksum (CRC-32C of all lines before it).
const CRC: &str = "crc ";
/// What the file has, for a message.
pub(super) const LINES: &str = "five lines (format, cluster, node, raft-id, crc)";
/// Bytes of the text shown in a message about it.
const SHOWN_BYTES: usize = 60;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdFile {
    pub(super) format: String,
    pub(super) cluster: String,
    pub(super) node: String,
    pub(super) id: RaftId,
}

/// The text of a store that `id` makes.
pub(super) fn text(cluster: &str, place: Place, id: RaftId) -> String {
    let mut text = format!("format {FORMAT}\ncluster {cluster}\nnode {place}\nraft-id {id}\n");
    let crc = crc32c::crc32c(text.as_bytes());
    // A String takes whatever is written to it.
    let _ = writeln!(text, "{CRC}{crc:08x}");
    text
}

/// Writes the file, whole or not at all.
pub(super) fn write(root: &Path, text: &str) -> io::Result<()> {
    let temporary = root.join("id.tmp");
    let mut file = create_private(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, root.join("id"))?;
    File::open(root)?.sync_all()
}

/// What the file of a running node must say.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(super) root: PathBuf,
    pub(super) text: String,
}

impl Kept {
    /// Writes the file anew if it says anything else, or cannot be read. Returns whether it did.
    pub(crate) fn renew(&self) -> io::Result<bool> {
        let found = fs::read(self.root.join("id"));
        if found.is_ok_and(|bytes| bytes == self.text.as_bytes()) {
            return Ok(false);
        }
        write(&self.root, &self.text)?;
        Ok(true)
    }
}

/// Reads the file, or says in words at which byte it is not what a node writes.
pub(super) fn parse(bytes: &[u8]) -> Result<IdFile, (u64, String)> {
    if bytes.is_empty() {
        return Err((0, format!("it is empty; {LINES} were expected")));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        (at as u64, format!("byte 0x{:02x} is no text; {LINES} were expected", bytes[at]))
    })?;
    let body = match text.rfind(CRC).filter(|at| *at == 0 || bytes[at - 1] == b'\n') {
        Some(at) => {
            let written = text[at + CRC.len()..].trim_end();
            let is = format!("{:08x}", crc32c::crc32c(&bytes[..at]));
            if written != is {
                let shown: String = text.chars().take(SHOWN_BYTES).collect();
                let why = format!("its checksum is {is}, {written:?} is written in it; it begins {shown:?}");
                return Err((at as u64, why));
            }
            &text[..at]
        }
        None => text,
    };
    let field = |name: &str| {
        let value = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(str::to_owned).ok_or_else(|| {
            let shown: String = text.chars().take(SHOWN_BYTES).collect();
            (0, format!("the line \"{name} …\" is missing; it begins {shown:?}"))
        })
    };
    let written = field("raft-id")?;
    let id = written
        .parse()
        .map_err(|_| (0, format!("its raft-id is {written:?}; a number of this node was expected")))?;
    Ok(IdFile { format: field("format")?, cluster: field("cluster")?, node: field("node")?, id })
}

impl IdFile {
    /// What differs from the configuration: which property, what was found, what was expected.
    pub(super) fn difference(&self, cluster: &str, place: Place) -> Option<(&'static str, String, String)> {
        let pairs = [
            ("format", &self.format, FORMAT.to_owned()),
            ("cluster", &self.cluster, cluster.to_owned()),
            ("node", &self.node, place.to_string()),
        ];
        let differs = pairs.into_iter().find(|(_, found, expected)| *found != expected);
        differs.map(|(what, found, expected)| (what, found.clone(), expected))
    }

    /// Whether the Raft id is one of the node that the file names.
    pub(super) fn is_consistent(&self) -> bool {
        place_of(self.id).to_string() == self.node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let file = parse(text("lab", 2, 65_538).as_bytes()).expect("reads");
        assert_eq!((file.cluster.as_str(), file.node.as_str(), file.id), ("lab", "2", 65_538));
        assert!(file.difference("lab", 2).is_none() && file.is_consistent());
        assert_eq!(file.difference("other", 2).map(|d| d.0), Some("cluster"));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_is_taken_for_another_identity() {
        let good = text("lab", 2, 2);
        let read = parse(good.as_bytes()).expect("reads");
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                // Blanks at the very end are no part of what it says.
                assert!(parse(&bytes).map_or(true, |file| file == read), "byte {at}, bit {bit}");
            }
            let cut = parse(&good.as_bytes()[..at]);
            assert!(cut.map_or(true, |file| file == read), "cut at {at}");
        }
    }

    #[test]
    fn the_message_says_what_was_found() {
        for (bytes, words) in [
            (&b""[..], "empty"),
            (b"format 1\ncluster \xff\n", "no text"),
            (b"format 1\ncluster lab\nnode 1\n", "raft-id"),
            (b"format 1\ncluster lab\nnode 1\nraft-id x\n", "raft-id"),
        ] {
            let (_, why) = parse(bytes).expect_err("unreadable");
            assert!(why.contains(words), "{why}");
        }
    }
}
