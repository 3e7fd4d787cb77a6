//! Kamailio's LOCATION: short numbers, aliases, and where our users are.
//!
//! | Request-URI | answer or target |
//! |---|---|
//! | a short number or an alias | what it stands for; SIPOUT if that is foreign |
//! | ours, without user | 484 |
//! | ours, no binding | 404, unless voicemail takes it: with no list of subscribers there is no other sign of a user |
//! | ours, bindings, but none that is current and can be reached | 480 |
//! | ours | all contacts at once, up to [`MAX_FORKS`], or by descending q, as configured |

use super::passage::{Passage, Step, Targets, Way};
use super::target::NoTarget;
use crate::engine::{Cx, Engine};
use crate::location::Target;
use crate::msg::{Method, Uri};
use crate::routing::{Fork, Mode};
use crate::state::{NextStep, When};

impl Engine {
    /// Looks for the user, unless a rule has sent the request elsewhere.
    pub(super) fn stage_location(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        if !matches!(passage.found.way, None | Some(Way::Location)) {
            return Step::Next;
        }
        if let Some(stands_for) = self.stands_for(cx, passage) {
            self.explain("rewrites", || format!("{} stands for {stands_for}", passage.found.uri));
            passage.found.uri = stands_for;
            match self.relay_out(passage) {
                Step::Next => {}
                step => return step,
            }
        }
        let Ok(uri) = Uri::parse(&passage.found.uri) else {
            return Step::Reject(400, "Malformed Request-URI");
        };
        let places = match self.places_of_user(cx, passage.flow.local, &uri, passage.method) {
            Ok(places) => places,
            Err(NoTarget(status, reason)) => {
                self.explain("no target", || format!("{} has no contact ({status})", passage.found.uri));
                passage.found.failing = Some((status, reason));
                return Step::Next;
            }
        };
        if self.settings.config.routing.mode == Mode::Redirect {
            return self.redirect_to_places(passage, &places);
        }
        passage.found.called = self.named_user(cx, passage.flow.local, &uri).map(|(aor, _)| aor);
        let targets = self.targets_of_places(passage, places);
        if targets.branches.is_empty() {
            self.explain("no target", || {
                String::from("there are contacts, but none can be reached from here")
            });
            passage.found.failing = Some((480, ""));
            return Step::Next;
        }
        Step::Targets(targets)
    }

    /// What the dialled URI stands for: a short number of the configuration, then an alias. An alias of an alias is not
    /// looked up, as in Kamailio: there is no way to go round in circles.
    fn stands_for(&self, cx: Cx<'_>, passage: &Passage<'_, '_>) -> Option<String> {
        let dialled = Uri::parse(&passage.found.uri).ok()?;
        let short = dialled.user.and_then(|user| self.settings.config.routing.speed_dial.get(user));
        let uri = short.map_or(Some(dialled), |text| Uri::parse(text).ok())?;
        let local = passage.flow.local;
        let aor = self.settings.config.aor(&uri, Some(local)).filter(|_| self.settings.is_local(&uri, local));
        let target = aor.and_then(|aor| cx.state.provision().alias(&aor));
        target.map(str::to_owned).or_else(|| short.cloned())
    }

    /// All at once, or the highest q now and the others as steps of the plan.
    fn targets_of_places(&self, passage: &Passage<'_, '_>, places: Vec<Target>) -> Targets {
        let routing = &self.settings.config.routing;
        // Whoever sends anything but an INVITE does not wait for one phone after the other: nothing rings.
        if routing.fork == Fork::Parallel || passage.method != Method::Invite {
            return Targets::now(self.branches_to(passage, places, 0));
        }
        // They come in descending order of q.
        let mut groups: Vec<Vec<Target>> = Vec::new();
        for place in places {
            match groups.last_mut().filter(|g| g.first().is_some_and(|p| p.q == place.q)) {
                Some(group) => group.push(place),
                None => groups.push(vec![place]),
            }
        }
        let mut steps = groups.into_iter().enumerate().filter_map(|(number, group)| {
            let round = u16::try_from(number).ok()?;
            let branches = self.branches_to(passage, group, round);
            (!branches.is_empty()).then_some(branches)
        });
        let first = steps.next().unwrap_or_default();
        let mut plan: Vec<NextStep> = steps
            .take(crate::state::limits::MAX_STEPS / 2)
            .map(|branches| NextStep { when: When::any(), branches, after: Some(routing.fork_after) })
            .collect();
        if let Some(last) = plan.last_mut() {
            // There is nobody after it but, perhaps, voicemail, which has a time of its own.
            last.after = None;
        }
        let after = (!plan.is_empty()).then_some(routing.fork_after);
        Targets { branches: first, after, plan }
    }
}
