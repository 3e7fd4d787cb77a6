//! The decision itself: facts in, what to do out. The table is in the module above.

use proxy_core::time::MonoTime;

use super::{
    Ask, Control, Decision, Facts, GRANT_RETRY, Goal, HAND_OVER_LIMIT, HURRY_LEASES, HandOver, LEASE_MARGIN,
    Led, News, NotReady, Place, Proposed, Resources, SHUTDOWN_LIMIT,
};

impl Control {
    /// What this node must do now. To be called often (several times per lease) and whenever facts change.
    pub fn decide(&mut self, now: MonoTime, facts: &Facts, resources: Resources) -> Decision {
        self.note_leadership(now, facts);
        self.watch_commits(now, facts);
        let lease_until = self
            .lease_end(now, facts)
            .filter(|_| !self.missed_another(now, facts) && !self.is_leaving(facts));
        let goal = match (lease_until, facts.grant) {
            (Some(_), Some(grant)) => Goal::Up { token: grant.token },
            _ => Goal::Down,
        };
        self.held = facts.grant.map(|g| g.token).zip(lease_until);
        self.plan_shutdown(now, facts, goal);
        if facts.leading {
            self.heir = self.heir(now, facts);
        }
        let mut ask = Vec::new();
        if self.is_leaving(facts) {
            self.leave(facts, resources, &mut ask);
        } else if goal == Goal::Down && resources == Resources::Stopped {
            self.lead_without_service(now, facts, &mut ask);
        } else if goal != Goal::Down {
            self.lead_with_service(now, facts, &mut ask);
        } else if !self.owned_by_me(facts) {
            // On the way down. Only a grant may be asked for now; the transfer waits until all is down.
            self.lead_without_service(now, facts, &mut ask);
            ask.retain(|a| matches!(a, Ask::Grant { .. }));
        }
        self.note_asked(now, facts, &ask);
        let news = self.news(now, facts, goal);
        Decision {
            goal,
            lease_until,
            may_exit: self.may_exit(now, facts, goal, resources),
            heir: self.heir,
            soon: goal == Goal::Down
                && self.led.is_some_and(|led| {
                    !led.transferred && now.since(led.since) < self.settings.lease * HURRY_LEASES
                }),
            elsewhere: self.elsewhere(now, facts),
            ask,
            news,
        }
    }

    /// The end of the lease if all conditions of ownership hold now.
    pub(super) fn lease_end(&self, now: MonoTime, facts: &Facts) -> Option<MonoTime> {
        let led = self.led.filter(|led| facts.leading && led.term == facts.term)?;
        let transferred = led.transferred || facts.transfer_tried_in == Some(facts.term);
        let knows_newest_grant = facts.applied >= led.log_at_start;
        if transferred || !knows_newest_grant || !self.owned_by_me(facts) {
            return None;
        }
        let end = facts.quorum_ack_at? + self.settings.lease.saturating_sub(LEASE_MARGIN);
        (now < end).then_some(end)
    }

    /// Whether another node may have owned since the last decision, which was to own: this thread did not run, or the
    /// process was stopped, and the service was handed back meanwhile.
    fn missed_another(&self, now: MonoTime, facts: &Facts) -> bool {
        self.held.is_some_and(|(token, end)| now >= end && facts.grant.is_some_and(|g| g.token != token))
    }

    fn owned_by_me(&self, facts: &Facts) -> bool {
        facts.grant.is_some_and(|g| g.holder == self.settings.place)
    }

    fn note_leadership(&mut self, now: MonoTime, facts: &Facts) {
        if !facts.leading {
            self.led = None;
            return;
        }
        if self.led.is_none_or(|led| led.term != facts.term) {
            self.led = Some(Led {
                term: facts.term,
                since: now,
                log_at_start: facts.last_log,
                proposed: None,
                asked_early: false,
                transferred: facts.transfer_tried_in == Some(facts.term),
                transferred_to: None,
                took_back: false,
                granted: None,
            });
        }
        if let (Some(led), Some(grant)) = (&mut self.led, facts.grant)
            && led.granted.is_none_or(|(token, _)| token != grant.token)
        {
            led.granted = Some((grant.token, now));
        }
        if let (Some(led), Some(grant)) = (&mut self.led, facts.grant)
            && let Some(proposed) = led.proposed
            && proposed.holder == grant.holder
            && proposed.after.is_none_or(|before| grant.token > before)
        {
            led.proposed = None;
        }
    }

    fn plan_shutdown(&mut self, now: MonoTime, facts: &Facts, goal: Goal) {
        let shutting_down = self.shutdown_at.is_some();
        // Whoever pauses and then stops a node wants the service to come back there.
        let to = match shutting_down {
            true => self.best_other(now, facts).filter(|_| facts.pause.is_none()),
            false => self.better_other(now, facts),
        };
        if goal != Goal::Down
            && self.hand_over.is_none()
            && let Some(to) = to
        {
            self.hand_over =
                Some(HandOver { to, since: now, token: facts.grant.map(|g| g.token), operator: false });
        }
    }

    /// Active: the only thing to ask for is the grant of a planned hand-over.
    fn lead_with_service(&self, now: MonoTime, facts: &Facts, ask: &mut Vec<Ask>) {
        if let Some(hand_over) = self.hand_over
            && self.may_propose(now)
            && self.not_ready(now, hand_over.to, facts).is_none()
            && self.unproved(hand_over.since, hand_over.to, facts).is_none()
        {
            ask.push(Ask::Grant { holder: hand_over.to });
        }
    }

    /// Leading, but not active: see that whoever should be active becomes leader.
    fn lead_without_service(&self, now: MonoTime, facts: &Facts, ask: &mut Vec<Ask>) {
        let Some(led) = self.led else { return };
        let transferred = led.transferred || facts.transfer_tried_in == Some(facts.term);
        if transferred {
            ask.extend(self.overdue(now, facts).map(|from| Ask::TakeBack { from }));
            return;
        }
        let me = self.settings.place;
        let eligible = self.shutdown_at.is_none()
            && self.settings.appliances.contains(&me)
            && !self.must_wait_for(facts)
            && self.better_other(now, facts).is_none();
        // Whom it hears is not known yet: one that is ill waits for that.
        let well = !facts.fitness_of(me).is_grave();
        if eligible && well && !led.asked_early && facts.quorum_ack_at.is_none() && !self.owned_by_me(facts) {
            // A leader this new would grant to itself whatever its log says. Asked for now, the grant shares the round
            // trip and the fsync of the leader's first entry. At worst it repeats one that is not applied here yet.
            ask.push(Ask::Grant { holder: me });
            return;
        }
        // Before its log is applied the newest grant is not known; without a quorum nothing would be committed.
        let fresh = facts
            .quorum_ack_at
            .is_some_and(|at| now.since(at) < self.settings.lease.saturating_sub(LEASE_MARGIN));
        if !fresh || facts.applied < led.log_at_start {
            return;
        }
        let holder = facts.grant.map(|g| g.holder);
        // Entries beyond the log that leadership began with are of this term: nobody decided anything later.
        let of_this_term = facts.grant.is_some_and(|g| g.token > led.log_at_start);
        let wanted = holder.filter(|x| {
            *x != me
                && (of_this_term || (!eligible && !self.is_worse_off(now, *x, facts)))
                && !self.proposed_another(now, *x)
                && self.not_ready(now, *x, facts).is_none()
        });
        if let Some(x) = wanted {
            let needed = facts.grant.map_or(0, |g| g.token).max(led.log_at_start);
            if self.can_follow(now, x, needed, facts) {
                ask.push(Ask::Transfer { to: x });
                return;
            }
            // Its answer may be on its way.
            let patience = self.settings.lease + Self::for_disks(facts);
            if led.granted.is_some_and(|(_, since)| now.since(since) < patience) {
                return;
            }
        }
        match holder {
            Some(x) if x == me && eligible => {}
            // Decided a moment ago, for a node that can follow in a moment: it would not hear a transfer now, and openraft
            // leads no more once it has asked for one.
            Some(x) if of_this_term && self.not_ready(now, x, facts) == Some(NotReady::JustStarted) => {}
            _ if !self.may_propose(now) => {}
            // An operator works on the holder, this node perhaps, and wants it to come back.
            _ if !eligible && facts.pause.is_some() && holder.is_some() => {}
            _ if eligible => ask.push(Ask::Grant { holder: me }),
            _ => {
                // Not the one again that cannot follow: that would change nothing.
                if let Some(best) = self.best_but(now, wanted, facts) {
                    ask.push(Ask::Grant { holder: best });
                }
            }
        }
    }

    /// Automatic takeover is paused, and the service belongs to another node: that one has it again when it is back.
    fn must_wait_for(&self, facts: &Facts) -> bool {
        facts.pause.is_some() && facts.grant.is_some_and(|g| g.holder != self.settings.place)
    }

    fn may_propose(&self, now: MonoTime) -> bool {
        self.led.is_some_and(|led| led.proposed.is_none_or(|p| now.since(p.at) >= GRANT_RETRY))
    }

    /// A grant to somebody else than `holder` is on its way: a transfer would end the term that it needs.
    fn proposed_another(&self, now: MonoTime, holder: Place) -> bool {
        let proposed = self.led.and_then(|led| led.proposed);
        proposed.is_some_and(|p| p.holder != holder && now.since(p.at) < GRANT_RETRY)
    }

    fn note_asked(&mut self, now: MonoTime, facts: &Facts, asked: &[Ask]) {
        let Some(led) = &mut self.led else { return };
        for ask in asked {
            match ask {
                Ask::Grant { holder } => {
                    let after = facts.grant.map(|g| g.token);
                    led.proposed = Some(Proposed { holder: *holder, at: now, after });
                    led.asked_early = true;
                }
                Ask::Transfer { to } => {
                    led.transferred = true;
                    led.transferred_to = Some((*to, now));
                }
                Ask::TakeBack { .. } => led.took_back = true,
                Ask::Abdicate { .. } => {}
            }
        }
    }

    /// Whether the hand-over under way has ended, one way or the other.
    fn news(&mut self, now: MonoTime, facts: &Facts, goal: Goal) -> Option<News> {
        let hand_over = self.hand_over?;
        let holder = facts.grant.map(|g| g.holder);
        let there = holder == Some(hand_over.to) && facts.leader == Some(hand_over.to) && !facts.leading;
        let mine_again = goal != Goal::Down
            && holder == Some(self.settings.place)
            && facts.grant.map(|g| g.token) != hand_over.token;
        let elsewhere = !facts.leading && facts.leader.is_some() && facts.leader == holder && !there;
        if goal != Goal::Down
            && let Some(why) = self.not_begun(now, hand_over, facts)
        {
            self.hand_over = None;
            return hand_over.operator.then_some(News::NotBegun { to: hand_over.to, why });
        }
        let late = now.since(hand_over.since) >= HAND_OVER_LIMIT;
        if !(there || mine_again || elsewhere || late) {
            return None;
        }
        self.hand_over = None;
        let to = hand_over.to;
        hand_over.operator.then_some(if there {
            News::SwitchedOver { to }
        } else {
            News::SwitchoverFailed { to, holder }
        })
    }

    fn may_exit(&self, now: MonoTime, facts: &Facts, goal: Goal, resources: Resources) -> bool {
        let Some(since) = self.shutdown_at else { return false };
        if now.since(since) >= SHUTDOWN_LIMIT {
            return true;
        }
        let alone = facts.pause.is_some() || self.best_other(now, facts).is_none();
        if goal != Goal::Down {
            // Active and nobody to hand over to: end now; the service stops either way.
            return alone;
        }
        resources == Resources::Stopped && (!facts.leading || alone)
    }
}
