//! What opening a log found: nothing missing, an end that nobody was promised, or a loss.

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Everything verifies, up to every claim.
    #[default]
    Whole,
    /// The last write was not finished. Nobody was promised it, and it is cut off.
    Torn {
        /// Bytes cut off.
        bytes: u64,
    },
    /// Something that was perhaps acknowledged is lost. Nothing on the disk was changed, and the open log can be read
    /// but takes no writes: this node must neither vote nor acknowledge under its present id.
    Forgotten(Forgotten),
}

/// What a damaged log still has, and what it lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// The damaged file, relative to the log's folder.
    pub file: String,
    /// Byte in that file.
    pub offset: u64,
    /// What is wrong there.
    pub why: String,
    /// Index of the last entry before the damage; `None`: no entry verifies. Entries up to here can be read.
    pub verified: Option<u64>,
    /// Highest index that may have been acknowledged; `None`: nothing on this disk bounds it. A vote may be lost even
    /// where this equals `verified`.
    pub promised: Option<u64>,
    /// Index of the first entry from which on the log verifies again, up to every claim. A snapshot that reaches the
    /// entry before it makes the damage harmless.
    pub resumes: Option<u64>,
}

impl Forgotten {
    /// What still verifies, and which entries may be lost.
    #[must_use]
    pub fn loss(&self) -> String {
        let verified = match self.verified {
            Some(index) => format!("entries up to {index} verify, "),
            None => "no entry verifies, ".to_owned(),
        };
        let first = self.verified.map_or(0, |v| v.saturating_add(1));
        match self.promised {
            Some(last) if last >= first => format!("{verified}entries {first} to {last} may be lost"),
            Some(_) => format!("{verified}a vote may be lost"),
            None => format!("{verified}all after that may be lost"),
        }
    }
}

impl std::fmt::Display for Forgotten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}; {}", self.file, self.offset, self.why, self.loss())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_with_its_place_and_its_range() {
        let told = |verified, promised| {
            let (file, why) = ("a.seg".to_owned(), "the checksum differs".to_owned());
            Forgotten { file, offset: 7, why, verified, promised, resumes: None }.to_string()
        };
        let begin = "a.seg at byte 7: the checksum differs; ";
        let cases = [
            (Some(5), Some(9), "entries up to 5 verify, entries 6 to 9 may be lost"),
            (None, Some(9), "no entry verifies, entries 0 to 9 may be lost"),
            (Some(5), Some(5), "entries up to 5 verify, a vote may be lost"),
            (Some(5), None, "entries up to 5 verify, all after that may be lost"),
        ];
        for (verified, promised, end) in cases {
            assert_eq!(told(verified, promised), format!("{begin}{end}"));
        }
    }
}
