//! Kamailio's TOVOICEMAIL: where calls go that nobody takes. At once for a user without a phone or if a rule says so;
//! otherwise as the last step of the plan. A user whose backends are all dead is one without a phone.

use super::dispatch::NO_DESTINATION;
use super::passage::{Passage, Step, Targets, Way};
use crate::engine::{Cx, Engine};
use crate::msg::{Method, Uri};
use crate::routing::Voicemail;
use crate::state::{Branch, NextStep};

/// The round by which the copy for voicemail is told from all others; more than any plan has steps.
const VOICEMAIL_ROUND: u16 = u16::MAX;

impl Engine {
    /// Adds voicemail to an INVITE that starts a call to one of our users.
    pub(super) fn stage_voicemail(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        if passage.method != Method::Invite || passage.found.in_dialog {
            return Step::Next;
        }
        let Some(voicemail) = self.voicemail_of(passage) else {
            return if passage.found.way == Some(Way::Voicemail) {
                Step::Reject(404, "No voicemail service")
            } else {
                Step::Next
            };
        };
        if passage.found.way == Some(Way::Voicemail) {
            return match self.voicemail_branch(passage, &voicemail, "unconditional") {
                Some(branch) => Step::Targets(Targets::now(vec![branch])),
                None => Step::Reject(404, "No voicemail service"),
            };
        }
        // Calls that leave our users alone have no voicemail here.
        let is_ours =
            Uri::parse(&passage.found.uri).is_ok_and(|u| self.settings.is_local(&u, passage.flow.local));
        let for_user = matches!(passage.found.way, None | Some(Way::Location)) && is_ours;
        let targets = passage.found.targets.take();
        match targets {
            Some(mut targets) if for_user || self.rule_has_voicemail(passage) => {
                if let Some(branch) = self.voicemail_branch(passage, &voicemail, "no-answer") {
                    let when = voicemail.when();
                    self.explain("adds voicemail", || format!("{} when {when}", branch.target));
                    // The round before it rings so long, unless something else is said of that one.
                    let before = targets.plan.last_mut().map_or(&mut targets.after, |step| &mut step.after);
                    *before = before.or(voicemail.after);
                    targets.plan.push(NextStep { when, branches: vec![branch], after: None });
                }
                passage.found.targets = Some(targets);
                Step::Next
            }
            Some(targets) => {
                passage.found.targets = Some(targets);
                Step::Next
            }
            None => {
                let is_on = |status: u16| voicemail.on.contains(&status);
                let is_listed = passage.found.failing.is_some_and(|failing| {
                    is_on(failing.0)
                        // How a user without a reachable phone looks; Kamailio knows only 404 for both.
                        || (failing.0 == 480 && is_on(404))
                        // Nobody there, or nobody who would answer: that all backends are dead is both.
                        || (failing == NO_DESTINATION && is_ours && (is_on(404) || is_on(408)))
                });
                if !is_listed {
                    return Step::Next;
                }
                if passage.found.sender.is_stranger() && !self.is_called_known(cx, passage) {
                    self.explain("no voicemail", || {
                        String::from(
                            "a stranger calls a user whom nobody knows: he may dial no number of its server",
                        )
                    });
                    return Step::Next;
                }
                match self.voicemail_branch(passage, &voicemail, "unavailable") {
                    Some(branch) => Step::Targets(Targets::now(vec![branch])),
                    None => Step::Next,
                }
            }
        }
    }

    /// Whether the one who is called is a user of ours, as far as there is a list of them.
    fn is_called_known(&self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> bool {
        let provision = cx.state.provision();
        let uri = Uri::parse(&passage.found.uri).ok();
        let aor = uri.and_then(|uri| self.settings.config.aor(&uri, Some(passage.flow.local)));
        provision.subscribers().next().is_none()
            || aor.is_some_and(|aor| {
                provision.subscriber(&aor).is_some() || !cx.state.bindings(&aor).is_empty()
            })
    }

    fn rule_has_voicemail(&self, passage: &Passage<'_, '_>) -> bool {
        let rules = &self.settings.config.routing.rules;
        passage.found.rule.and_then(|n| rules.get(n)).is_some_and(|r| r.voicemail.is_some())
    }

    fn voicemail_of(&self, passage: &Passage<'_, '_>) -> Option<Voicemail> {
        let routing = &self.settings.config.routing;
        let of_rule = passage.found.rule.and_then(|n| routing.rules.get(n)?.voicemail.clone());
        of_rule.or_else(|| routing.voicemail.clone())
    }

    /// The copy for the mailbox of the user who was dialled, with the reason for the server (RFC 5806).
    fn voicemail_branch(
        &self,
        passage: &Passage<'_, '_>,
        voicemail: &Voicemail,
        reason: &str,
    ) -> Option<Branch> {
        // Whose mailbox: the user that rules, short numbers and aliases have come to (Kamailio keeps it before lookup).
        let user = Uri::parse(&passage.found.uri).ok()?.user?.to_owned();
        let target = voicemail.target(&user)?;
        let mut branch = self.branch_to_uri(passage, &target, VOICEMAIL_ROUND).ok()?;
        let from = passage.message.request_uri_str();
        branch.headers.push((String::from("Diversion"), format!("<{from}>;reason={reason}")));
        Some(branch)
    }
}
