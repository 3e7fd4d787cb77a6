//! What opening a log found: nothing missing, an end that nobody was promised, or a loss.
//!
//! The claims are: what records say was durable when they were written, the seal, and the page that the guard holds. The
//! first row that fits decides.
//!
//! | row | found | means | verdict |
//! |---|---|---|---|
//! | 1 | memory mode, the machine has been started anew, no orderly end | nothing was kept on purpose | forgotten |
//! | 2 | both slots of the seal unreadable, no page | the end cannot be proved | forgotten |
//! | 3 | a claim beyond what verifies | promised and lost | forgotten |
//! | 4 | orderly end at another place, no page | the seal is of another time | forgotten |
//! | 5 | everything verifies, zeros follow | whole | whole |
//! | 6 | something bad beyond the page, or beyond an orderly end | nobody was promised it | torn |
//! | 7 | a sector of the bad record was never written | the write was cut off | torn |
//! | 8 | every sector written, the file cut short, or what came before is missing | may have been promised | forgotten |
//!
//! Rows 1 and 2, and row 8 for a record that was written whole, are *doubt*: nothing proves that somebody was promised
//! what is missing. Rows 3 and 4 prove it. What a majority in doubt does is in [`crate::node::doubt`].
//!
//! Rest risk: the end of the last group is zeroed within [`super::SEAL_AFTER`] of its write and the guard is gone, too.

use super::scan::{Nature, Scan};
use super::seal::{BootId, Found, Mark};
use super::state::segment_name;
use super::{Durability, record};

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
    /// The log is damaged, and the snapshot that was named holds all that was damaged: nothing is lost. The damaged
    /// files were kept under another name.
    Mended(Forgotten),
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
    /// Nothing proves that anybody was promised what is missing: rows 1, 2 and (for a record that was written whole) 8.
    pub doubtful: bool,
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

/// What is known beside the records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub seal: Found,
    /// What the guard's page says of this log.
    pub held: Option<Mark>,
    pub boot: BootId,
    pub durability: Durability,
}

/// The table above. [`Verdict::Mended`] is not among its answers.
pub(super) fn decide(scan: &Scan, known: &Known) -> Verdict {
    let end = scan.state.end;
    let seal = known.seal.newest;
    let clean = seal.is_some_and(|s| s.clean);
    let same_boot = seal.is_some_and(|s| s.boot == known.boot);
    let claimed = [Some(scan.claims.claimed), seal.map(|s| s.mark.end), known.held.map(|m| m.end)];
    let claimed = claimed.into_iter().flatten().max().unwrap_or(0);
    let proven = |why: &str| Verdict::Forgotten(loss(scan, known, why, true));
    let doubt = |why: &str, bounded: bool| {
        Verdict::Forgotten(Forgotten { doubtful: true, ..loss(scan, known, why, bounded) })
    };
    if known.durability == Durability::Memory && seal.is_some() && !same_boot && !clean {
        return doubt(
            "durability = \"memory\", and the machine was started anew without an orderly end",
            false,
        );
    }
    if seal.is_none() && known.held.is_none() {
        return doubt(
            "neither copy of the seal can be read, so that the end of the log is not proved",
            false,
        );
    }
    if claimed > end {
        return proven("what was durable is not there");
    }
    if clean && known.held.is_none() && seal.is_some_and(|s| s.mark.end != end) {
        return proven("the log was closed at another place");
    }
    let Some(bad) = &scan.bad else { return Verdict::Whole };
    let exact = known.held.is_some() || clean;
    if bad.nature != Nature::Headless && (exact || bad.nature == Nature::Unfinished) {
        return Verdict::Torn { bytes: bad.bytes };
    }
    match bad.nature {
        Nature::Written => doubt("it may have been acknowledged", true),
        _ => proven("it may have been acknowledged"),
    }
}

fn loss(scan: &Scan, known: &Known, why: &str, bounded: bool) -> Forgotten {
    let verified = scan.state.last_index();
    let before = |mark: Mark| mark.next.checked_sub(1);
    let marks = [known.seal.newest.and_then(|s| before(s.mark)), known.held.and_then(before)];
    let told = marks.into_iter().flatten().max().max(scan.claims.last_index);
    // Where nobody says more, a record takes some bytes: no more entries than that can have been in what is bad.
    let most = scan.bad.as_ref().map_or(0, |b| b.bytes / record::SMALLEST as u64);
    let at_most = verified.map_or(most.checked_sub(1), |v| Some(v.saturating_add(most)));
    let promised = if told > verified { told } else { at_most.max(verified) };
    let (file, offset, what) = match &scan.bad {
        Some(bad) => (bad.file.clone(), bad.offset, bad.why),
        None => match scan.state.segments.last() {
            Some(last) => (segment_name(last.start), last.len, "the records end here"),
            None => (segment_name(0), 0, "there are no records"),
        },
    };
    let seal_is_the_fault = known.seal.newest.is_none() && scan.bad.is_none();
    let (file, offset) = if seal_is_the_fault { (super::seal::NAME.to_owned(), 0) } else { (file, offset) };
    let why = if seal_is_the_fault { why.to_owned() } else { format!("{what}, {why}") };
    Forgotten {
        file,
        offset,
        why,
        verified,
        promised: promised.filter(|_| bounded),
        resumes: None,
        doubtful: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::Bad;
    use super::super::seal::Seal;
    use super::*;

    const OTHER: BootId = BootId([9; 16]);

    fn scan(end: u64, nature: Option<Nature>) -> Scan {
        let file = "0.seg".to_owned();
        let bad = nature.map(|nature| Bad { file, offset: end, why: "bad", nature, bytes: 100 });
        let mut scan = Scan { bad, ..Scan::default() };
        scan.state.end = end;
        scan
    }

    fn seal(end: u64, clean: bool) -> Found {
        let mark = Mark { end, next: end / 10 };
        Found { newest: Some(Seal { number: 1, boot: BootId::default(), mark, clean }), unreadable: 0 }
    }

    fn known(seal: Found, held: Option<u64>) -> Known {
        let held = held.map(|end| Mark { end, next: end / 10 });
        Known { seal, held, boot: BootId::default(), durability: Durability::Disk }
    }

    fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Whole => "whole",
            Verdict::Torn { .. } => "torn",
            Verdict::Forgotten(_) => "forgotten",
            Verdict::Mended(_) => "mended",
        }
    }

    #[test]
    fn each_row_of_the_table_decides_as_it_says() {
        use Nature::{Missing, Unfinished, Written};
        let memory = |boot, seal| Known { boot, durability: Durability::Memory, ..known(seal, None) };
        let unreadable = Found { newest: None, unreadable: 2 };
        let claiming = |mut scan: Scan, claimed| {
            scan.claims.claimed = claimed;
            scan
        };
        let rows = [
            (1, scan(500, None), memory(OTHER, seal(500, false)), "forgotten"),
            (1, scan(500, None), memory(OTHER, seal(500, true)), "whole"),
            (1, scan(500, None), memory(BootId::default(), seal(400, false)), "whole"),
            (1, scan(500, None), Known { boot: OTHER, ..known(seal(500, false), None) }, "whole"),
            (2, scan(500, None), known(unreadable, None), "forgotten"),
            (2, scan(500, None), known(unreadable, Some(500)), "whole"),
            (3, claiming(scan(500, Some(Unfinished)), 501), known(seal(400, false), None), "forgotten"),
            (3, scan(500, Some(Unfinished)), known(seal(501, false), None), "forgotten"),
            (3, scan(500, Some(Unfinished)), known(seal(400, false), Some(501)), "forgotten"),
            (3, scan(500, None), known(seal(501, true), None), "forgotten"),
            (4, scan(500, None), known(seal(499, true), None), "forgotten"),
            (4, scan(500, None), known(seal(499, true), Some(500)), "whole"),
            (5, scan(500, None), known(seal(400, false), None), "whole"),
            (6, scan(500, Some(Written)), known(seal(400, false), Some(500)), "torn"),
            (6, scan(500, Some(Written)), known(seal(500, true), None), "torn"),
            (6, scan(500, Some(Missing)), known(seal(500, true), None), "torn"),
            (7, scan(500, Some(Unfinished)), known(seal(400, false), None), "torn"),
            (8, scan(500, Some(Written)), known(seal(400, false), None), "forgotten"),
            (8, scan(500, Some(Missing)), known(seal(400, false), None), "forgotten"),
        ];
        for (n, (row, scan, known, expected)) in rows.iter().enumerate() {
            let got = decide(scan, known);
            assert_eq!(word(&got), *expected, "row {row}, case {n}: {got:?}");
        }
    }

    #[test]
    fn a_claim_proves_a_loss_and_without_one_there_is_only_doubt() {
        let doubtful = |scan: &Scan, known: &Known| match decide(scan, known) {
            Verdict::Forgotten(lost) => lost.doubtful,
            other => panic!("{other:?}"),
        };
        let memory = Known { boot: OTHER, durability: Durability::Memory, ..known(seal(500, false), None) };
        assert!(doubtful(&scan(500, None), &memory), "row 1");
        assert!(doubtful(&scan(500, None), &known(Found { newest: None, unreadable: 2 }, None)), "row 2");
        assert!(!doubtful(&scan(500, None), &known(seal(501, false), None)), "row 3");
        assert!(!doubtful(&scan(500, None), &known(seal(499, true), None)), "row 4");
        assert!(doubtful(&scan(500, Some(Nature::Written)), &known(seal(400, false), None)), "row 8");
        assert!(!doubtful(&scan(500, Some(Nature::Missing)), &known(seal(400, false), None)), "row 8");
    }

    #[test]
    fn a_loss_names_the_highest_index_that_anybody_can_have_been_promised() {
        let promised = |scan: &Scan, known: &Known| match decide(scan, known) {
            Verdict::Forgotten(lost) => lost.promised,
            other => panic!("{other:?}"),
        };
        assert_eq!(promised(&scan(500, None), &known(seal(600, false), None)), Some(59));
        assert_eq!(promised(&scan(500, None), &known(seal(400, false), Some(900))), Some(89));
        let mut bad = scan(500, Some(Nature::Written));
        assert_eq!(promised(&bad, &known(seal(0, false), None)), Some(1), "at most 2 records in 100 bytes");
        bad.claims.last_index = Some(70);
        assert_eq!(promised(&bad, &known(seal(30, false), None)), Some(70));
        assert_eq!(promised(&bad, &known(Found::default(), None)), None, "nothing bounds it");
    }

    #[test]
    fn a_loss_is_told_with_its_place_and_its_range() {
        let told = |verified, promised| {
            let (file, why) = ("a.seg".to_owned(), "the checksum differs".to_owned());
            Forgotten { file, offset: 7, why, verified, promised, resumes: None, doubtful: true }.to_string()
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
