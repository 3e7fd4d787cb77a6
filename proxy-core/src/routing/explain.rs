//! What the stages decided about one request, and why.

use super::Stage;

/// Most lines of one walk: a request with very many targets is cut here.
const MAX_LINES: usize = 500;

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Who decided.
    pub stage: Stage,
    /// What: `next`, `off`, `answers 404 Not Found`, `2 targets` …
    pub decision: String,
    /// Why, in words for the operator; may be empty.
    pub why: String,
}

/// The decisions about one request, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explain {
    stage: Stage,
    user: Option<String>,
    lines: Vec<Line>,
}

impl Default for Explain {
    fn default() -> Self {
        Self { stage: Stage::Reqinit, user: None, lines: Vec::new() }
    }
}

impl Explain {
    /// An explanation in which `user` (`name@domain`) is taken to have authenticated.
    #[must_use]
    pub fn for_user(user: Option<String>) -> Self {
        Self { user, ..Self::default() }
    }

    /// Who is taken to have authenticated.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// What is said from now on is said by this stage.
    pub fn enter(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// The stage at work.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Adds a decision of the stage at work.
    pub fn say(&mut self, decision: impl Into<String>, why: impl Into<String>) {
        if self.lines.len() < MAX_LINES {
            let (decision, why) = (decision.into(), why.into());
            self.lines.push(Line { stage: self.stage, decision, why });
        }
    }

    /// All decisions so far.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Whether a stage has said something already.
    #[must_use]
    pub fn has(&self, stage: Stage) -> bool {
        self.lines.iter().any(|l| l.stage == stage)
    }
}
