//! Max-Breadth (RFC 5393 §5): how many copies of a request there may be at a time, over all proxies on its ways.
//!
//! | request | then |
//! |---|---|
//! | more copies at once than its Max-Breadth | 440, none leaves |
//! | several copies at once | each gets its share; without the header of 60 (§5.3.3) |
//! | one copy, with the header | it goes on with the same value |
//! | one copy, without | nothing: whoever forks it begins at 60 himself |
//! | the header says more than 60, or several things, or no number | 60, or the least it says, is what counts and goes on |
//!
//! Who sends a request decides how few copies he wants, never how many he can have: what is above 60 is overwritten
//! (§5.3.3).
//!
//! Rounds that are called one after the other share nothing: each has all of it, as those before are over (§5.3.3.1). Not
//! so for a request that has been here before (a spiral): contacts that lead back here would make as many copies one
//! after the other as Max-Breadth forbids at once. There all rounds share.

use super::passage::Targets;
use crate::msg::Message;
use crate::state::Branch;

/// The name of the header.
pub(crate) const MAX_BREADTH: &str = "Max-Breadth";
/// Copies: what a request has that says nothing, and the most that it can say (RFC 5393 §5.3.3).
const MOST: u32 = 60;

/// Gives each copy its share. `false` if there are too many of them. `again`: the request has been here before.
#[must_use]
pub(crate) fn share(request: &Message<'_>, targets: &mut Targets, again: bool) -> bool {
    let others: usize = targets.plan.iter().map(|step| step.branches.len()).sum();
    let all = targets.branches.len() + others;
    let rounds = targets.plan.iter_mut().map(|step| &mut step.branches);
    std::iter::once(&mut targets.branches).chain(rounds).all(|branches| {
        let beside = if again { all - branches.len() } else { 0 };
        share_round(request, branches, beside)
    })
}

/// The same for copies that leave at once, `beside` so many others that share with them.
#[must_use]
pub(crate) fn share_round(request: &Message<'_>, branches: &mut [Branch], beside: usize) -> bool {
    let said = said_by(request);
    let count = u32::try_from(branches.len() + beside).unwrap_or(u32::MAX);
    let breadth = said.unwrap_or(MOST);
    if branches.is_empty() {
        return true;
    }
    if count > breadth {
        return false;
    }
    if said.is_none() && count < 2 {
        return true;
    }
    let Some(share) = breadth.checked_div(count) else { return true };
    for branch in branches {
        branch.headers.push((MAX_BREADTH.to_owned(), share.to_string()));
    }
    true
}

/// What the request says, [`MOST`] at most. A value that is no number bounds nothing, and does not go on either.
fn said_by(request: &Message<'_>) -> Option<u32> {
    let lines = request.header_lines().filter(|h| h.raw_name.eq_ignore_ascii_case(MAX_BREADTH.as_bytes()));
    let values = lines.flat_map(|h| h.value.split(|b| *b == b','));
    values.map(|value| number(value.trim_ascii()).unwrap_or(MOST).min(MOST)).min()
}

/// A number, however large; one that does not fit is the largest.
fn number(text: &[u8]) -> Option<u32> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or(u32::MAX))
}
