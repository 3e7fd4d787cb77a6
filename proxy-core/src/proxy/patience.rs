//! Targets that say nothing: when a branch that has heard no word is given up, and for what.
//!
//! | silent for | and | then |
//! |---|---|---|
//! | `failover.next_address` | the next address of its name is another host, or its phone has another flow | it goes on there (RFC 3263 §4.3, RFC 5626 §7) |
//! | its own patience (`dispatcher`, `trunk`) | the plan has somebody for it | as if unreachable: the next step |
//! | the same | nobody is left | it counts as a failed probe; the call may as well wait |
//! | `failover.fr_timer` | – | 408 of the branch, as timer B makes it later |
//! | `failover.doubt`, after a 100 | it is a destination, or a trunk, that may be probed | it is asked whether it is alive |
//!
//! Requests other than INVITE have the first two limits, too, so that they reach the second server before timer F; without
//! anybody else they have timer F. Such a request may so reach two servers, as any that is sent again by its client.
//!
//! Who is given up may be there all the same: his copy is listened for until 64*T1 have passed (`late`).

use std::time::Duration;

use super::call::{Call, CallBranch, Final, Phase};
use super::exchange::{Exchange, PlainBranch};
use crate::engine::{Cx, Engine};
use crate::failover::FailoverConfig;
use crate::state::{Backend, Branch};
use crate::time::MonoTime;
use crate::transaction::{IctState, NictState};

/// What comes of the silence of a branch, and after how much of it.
///
/// Of limits of the same length the first one named here comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Limit {
    Address,
    Backend,
    Silence,
}

/// The first limit of a branch that comes after the one `beyond`; each of them comes once, also at the same time.
fn next_limit(
    branch: &Branch,
    config: &FailoverConfig,
    beyond: Option<(Duration, Limit)>,
) -> Option<(Duration, Limit)> {
    let address = (!config.next_address.is_zero() && leads_elsewhere(branch)).then_some(config.next_address);
    let backend = branch.backing.patience_ms.map(|ms| Duration::from_millis(u64::from(ms)));
    let all = [
        (address, Limit::Address),
        // What the next address is for comes first.
        (backend.filter(|_| address.is_none()), Limit::Backend),
        (config.fr_timer, Limit::Silence),
    ];
    all.into_iter()
        .filter_map(|(after, limit)| Some((after?, limit)))
        .filter(|limit| beyond.is_none_or(|beyond| *limit > beyond))
        .min()
}

/// Whether the next address is one of another host: a second copy for the same one would be a loop to it (§8.2.2.2).
/// Another flow of a phone is there for the case that this one is dead, which nobody but the phone may know (RFC 5626).
fn leads_elsewhere(branch: &Branch) -> bool {
    match branch.next.first() {
        Some(next) => next.remote.ip() != branch.flow.remote.ip(),
        None => !branch.others.is_empty(),
    }
}

impl CallBranch {
    /// When it is given up, unless it has said something by then.
    pub(super) fn patience_ends(&self) -> Option<MonoTime> {
        let silent = self.ict.as_ref().is_some_and(|ict| ict.state() == IctState::Calling);
        self.silent_at.filter(|_| silent && self.outcome.is_none() && !self.moving)
    }

    /// Its INVITE is not sent again; should anybody be there after all, he is told to stop.
    pub(super) fn give_up(&mut self, now: MonoTime) {
        let Some(ict) = self.ict.as_mut().filter(|ict| ict.is_open()) else { return };
        if ict.state() == IctState::Calling {
            ict.on_response(now, 100);
            ict.on_cancel_sent(now);
        } else {
            self.has_spoken = true;
        }
        self.abandoned = true;
        self.cancel_wanted = true;
    }
}

impl PlainBranch {
    /// When its server is given up, unless it has said something by then.
    pub(super) fn patience_ends(&self) -> Option<MonoTime> {
        self.silent_at.filter(|_| self.outcome.is_none() && self.nict.state() == NictState::Trying)
    }
}

impl Engine {
    /// Starts the patience with a branch whose INVITE leaves now.
    pub(super) fn start_patience(&self, cx: Cx<'_>, branch: &mut CallBranch) {
        let limit = next_limit(&branch.record, &self.settings.config.failover, None);
        branch.silent_since = cx.now.mono;
        branch.silent_at = limit.map(|(after, _)| cx.now.mono + after);
    }

    /// When the copy of a request that is no INVITE and leaves now is given up, if there is somebody else to ask.
    pub(super) fn patience_of_copy(&self, cx: Cx<'_>, record: &Branch, has_more: bool) -> Option<MonoTime> {
        let config = FailoverConfig { fr_timer: None, ..self.settings.config.failover };
        let limit = next_limit(record, &config, None);
        limit.filter(|(_, kind)| *kind == Limit::Address || has_more).map(|(after, _)| cx.now.mono + after)
    }

    /// Sends on what has been silent for too long. `true` if a copy has come to its end by that.
    pub(super) fn check_patience_of_copies(&mut self, cx: Cx<'_>, id: u64, exchange: &mut Exchange) -> bool {
        let mut ended = false;
        for index in 0..exchange.branches.len() {
            let Some(branch) = exchange.branches.get_mut(index) else { continue };
            if branch.patience_ends().is_none_or(|at| at > cx.now.mono) {
                continue;
            }
            branch.silent_at = None;
            let record = branch.record.clone();
            if self.copy_goes_elsewhere(cx, id, exchange, index) {
                continue;
            }
            self.on_backend_failure(cx, &record, 408, true);
            let Some(branch) = exchange.branches.get_mut(index) else { continue };
            branch.nict.on_transport_error();
            branch.outcome = Some(Final { status: 408, response: Vec::new() });
            ended = true;
        }
        ended
    }

    /// Gives a branch up that has said nothing for too long.
    pub(super) fn check_patience(&mut self, cx: Cx<'_>, id: u64, call: &mut Call, index: usize) {
        let Some(branch) = call.branches.get_mut(index) else { return };
        let Some(at) = branch.patience_ends().filter(|at| *at <= cx.now.mono) else { return };
        let config = self.settings.config.failover;
        let since = branch.silent_since;
        let heard = at.since(since);
        let mut limit = next_limit(&branch.record, &config, None);
        while limit.is_some_and(|(after, _)| after < heard) {
            limit = next_limit(&branch.record, &config, limit);
        }
        branch.silent_at = None;
        while let Some((after, kind)) = limit {
            let Some(branch) = call.branches.get_mut(index) else { return };
            if since + after > cx.now.mono {
                branch.silent_at = Some(since + after);
                return;
            }
            if branch.outcome.is_some() || branch.moving {
                return;
            }
            limit = next_limit(&branch.record, &config, limit);
            self.on_limit(cx, id, call, index, kind);
        }
    }

    fn on_limit(&mut self, cx: Cx<'_>, id: u64, call: &mut Call, index: usize, kind: Limit) {
        let Some(record) = call.branches.get(index).map(|b| b.record.clone()) else { return };
        match kind {
            Limit::Address => {
                self.goes_elsewhere(cx, id, call, index, None);
            }
            Limit::Backend => {
                self.on_backend_failure(cx, &record, 408, true);
                // Who has nobody else to go to may as well wait.
                if call.has_step_for_unreachable() {
                    self.abandon(cx, id, call, index);
                }
            }
            Limit::Silence => {
                self.on_backend_failure(cx, &record, 408, true);
                if call.is_undecided() {
                    self.abandon(cx, id, call, index);
                }
            }
        }
    }

    /// A branch has said that it has the request. Should that be all, its backend is asked.
    pub(super) fn begin_to_doubt(&self, cx: Cx<'_>, branch: &mut CallBranch) {
        let after = self.settings.config.failover.doubt;
        let may_be_asked = match &branch.record.backing.backend {
            Some(Backend::Destination { .. }) => true,
            Some(Backend::Trunk { uuid }) => cx.state.trunk(uuid).is_some_and(|t| t.is_probed()),
            None => false,
        };
        if may_be_asked && !after.is_zero() && branch.outcome.is_none() {
            branch.doubt_at = Some(cx.now.mono + after);
        }
    }

    /// Asks, and again as long as nothing else is heard.
    pub(super) fn check_doubt(&mut self, cx: Cx<'_>, call: &mut Call, index: usize) {
        let Some(branch) = call.branches.get_mut(index) else { return };
        if branch.doubt_at.is_none_or(|at| at > cx.now.mono) {
            return;
        }
        branch.doubt_at = None;
        if branch.outcome.is_none() && branch.answers.is_empty() && call.phase == Phase::Open {
            let record = branch.record.clone();
            self.begin_to_doubt(cx, branch);
            self.doubt(cx, &record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Backing, BranchState, Flow, Transport};

    fn flow(remote: &str) -> Flow {
        let local = "10.0.0.1:5060".parse().expect("an address");
        Flow { transport: Transport::Udp, local, remote: remote.parse().expect("an address") }
    }

    fn limits(next: &[&str], patience_ms: Option<u32>, config: FailoverConfig) -> Vec<(u128, Limit)> {
        let branch = Branch {
            target: String::new(),
            route: Vec::new(),
            flow: flow("10.0.0.2:5060"),
            via_branch: String::new(),
            state: BranchState::Trying,
            backing: Backing { patience_ms, ..Backing::default() },
            headers: Vec::new(),
            round: 0,
            next: next.iter().map(|n| flow(n)).collect(),
            left: Vec::new(),
            others: Vec::new(),
        };
        let mut all = Vec::new();
        let mut limit = next_limit(&branch, &config, None);
        while let Some((after, kind)) = limit {
            all.push((after.as_millis(), kind));
            limit = next_limit(&branch, &config, limit);
        }
        all
    }

    #[test]
    fn limits_come_one_after_the_other_and_the_next_address_before_the_next_backend() {
        let with_fr = FailoverConfig { fr_timer: Some(Duration::from_secs(9)), ..FailoverConfig::default() };
        assert_eq!(limits(&[], None, FailoverConfig::default()), []);
        assert_eq!(limits(&[], Some(500), with_fr), [(500, Limit::Backend), (9000, Limit::Silence)]);
        let elsewhere = ["10.0.0.3:5060"];
        assert_eq!(limits(&elsewhere, Some(500), with_fr), [(3000, Limit::Address), (9000, Limit::Silence)]);
        assert_eq!(limits(&["10.0.0.2:5061"], None, FailoverConfig::default()), [], "the same host");
        let short = FailoverConfig { fr_timer: Some(Duration::from_secs(1)), ..FailoverConfig::default() };
        assert_eq!(limits(&elsewhere, None, short), [(1000, Limit::Silence), (3000, Limit::Address)]);
        let same = FailoverConfig { fr_timer: Some(Duration::from_secs(3)), ..FailoverConfig::default() };
        assert_eq!(limits(&[], Some(3000), same), [(3000, Limit::Backend), (3000, Limit::Silence)]);
        assert_eq!(limits(&elsewhere, None, same), [(3000, Limit::Address), (3000, Limit::Silence)]);
    }
}
