//! The teller: lines with times, and the closing table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What a story came to.
pub type Verdict = Result<String, String>;

/// Titles of the stories.
const TITLES: [&str; 7] = [
    "answered calls: re-INVITE, BYE from either side",
    "ringing on three forks: one answers, two get CANCEL",
    "ringing: the caller hangs up, CANCEL and 487",
    "nobody answers: the no-answer timer fires",
    "a registration of the last millisecond is found",
    "an INVITE whose 100 was just sent is completed",
    "switchover under 200 calls per second",
];

/// One kind of loss (or the switchover) and what each story came to.
#[derive(Debug, Default)]
pub struct Column {
    /// Head of the column.
    pub title: String,
    /// By story number.
    pub verdicts: BTreeMap<u8, Verdict>,
    /// Never two owners; otherwise the evidence.
    pub one_owner: Option<Verdict>,
    /// The node came back and caught up.
    pub came_back: Option<Verdict>,
    /// Longest silence by kind of probe, ms.
    pub gaps: Vec<(&'static str, f64)>,
}

impl Column {
    /// True if everything held.
    #[must_use]
    pub fn held(&self) -> bool {
        let all = self.verdicts.values().chain(&self.one_owner).chain(&self.came_back);
        all.into_iter().all(Result::is_ok)
    }
}

/// Says lines with the time since the beginning.
#[derive(Debug)]
pub struct Teller {
    began: Instant,
}

impl Teller {
    /// The story begins now.
    #[must_use]
    pub fn new() -> Teller {
        Teller { began: Instant::now() }
    }

    /// Time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// One line.
    pub fn say(&self, line: &str) {
        say!("[{:8.3} s] {line}", self.elapsed().as_secs_f64());
    }

    /// An empty line and a heading.
    pub fn heading(&self, line: &str) {
        say!();
        self.say(line);
    }

    /// The verdict of a story as a line.
    pub fn verdict(&self, story: u8, verdict: &Verdict) {
        let title = usize::from(story).checked_sub(1).and_then(|i| TITLES.get(i)).copied().unwrap_or("?");
        match verdict {
            Ok(detail) => self.say(&format!("  {story} held: {title} ({detail})")),
            Err(why) => self.say(&format!("  {story} FAILED: {title}: {why}")),
        }
    }

    /// The closing table.
    pub fn table(&self, columns: &[Column], wanted: &BTreeSet<u8>) {
        const FIRST: usize = 54;
        const WIDTH: usize = 15;
        say!();
        let heads: String = columns.iter().map(|c| format!("{:>WIDTH$}", c.title)).collect();
        say!("{:FIRST$}{heads}", "");
        let row = |name: &str, cell: &dyn Fn(&Column) -> String| {
            let cells: String = columns.iter().map(|c| format!("{:>WIDTH$}", cell(c))).collect();
            say!("{name:FIRST$}{cells}");
        };
        let word = |v: Option<&Verdict>| match v {
            Some(Ok(_)) => "held".to_owned(),
            Some(Err(_)) => "FAILED".to_owned(),
            None => "-".to_owned(),
        };
        for (story, title) in (1u8..).zip(TITLES) {
            if wanted.contains(&story) {
                row(&format!("{story} {title}"), &|c| word(c.verdicts.get(&story)));
            }
        }
        row("  never two owners", &|c| word(c.one_owner.as_ref()));
        row("  the node is back and has caught up", &|c| word(c.came_back.as_ref()));
        let kinds: BTreeSet<&str> = columns.iter().flat_map(|c| c.gaps.iter().map(|g| g.0)).collect();
        for kind in kinds {
            row(&format!("  longest silence by {kind}, ms"), &|c| {
                c.gaps.iter().find(|g| g.0 == kind).map_or("-".to_owned(), |g| format!("{:.0}", g.1))
            });
        }
        say!();
    }
}
