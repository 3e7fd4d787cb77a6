//! Max-Breadth (RFC 5393 §5): how many copies of a request there may be at a time, over all proxies on its ways.
//!
//! | request | then |
//! |---|---|
//! | more copies at once than its Max-Breadth | 440, none leaves |
//! | several copies at once | each gets its share; without the header of 60 (§5.3.3) |
//! | one copy, with the header | it goes on with the same value |
//! | one copy, without | nothing: whoever forks it begins at 60 himself |
//!
//! Rounds that are called one after the other share nothing: each has all of it, as those before are over (§5.3.3.1).

use super::passage::Targets;
use crate::msg::Message;
use crate::state::Branch;

/// The name of the header.
pub(crate) const MAX_BREADTH: &str = "Max-Breadth";
/// What a request has that says nothing (RFC 5393 §5.3.3).
const DEFAULT: u32 = 60;

/// Gives each copy its share. `false` if there are too many of them.
#[must_use]
pub(crate) fn share(request: &Message<'_>, targets: &mut Targets) -> bool {
    let rounds = targets.plan.iter_mut().map(|step| &mut step.branches);
    std::iter::once(&mut targets.branches).chain(rounds).all(|branches| share_round(request, branches))
}

/// The same for copies that leave at once.
#[must_use]
pub(crate) fn share_round(request: &Message<'_>, branches: &mut [Branch]) -> bool {
    let said = request.header_named(MAX_BREADTH).and_then(|value| {
        // A value that is no number bounds nothing, and is put right where it is shared.
        std::str::from_utf8(value).ok()?.trim().parse::<u32>().ok()
    });
    let count = u32::try_from(branches.len()).unwrap_or(u32::MAX);
    let breadth = said.unwrap_or(DEFAULT);
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
