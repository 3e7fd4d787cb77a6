//! Redirects: the redirect server (RFC 3261 §8.3), which tells the caller where to call, and the 3xx of others, which
//! are followed here where the configuration says so (§16.5; otherwise they are passed on, §16.7 step 4).

use super::breadth;
use super::passage::{Found, Passage, Step};
use crate::engine::limits::{MAX_FORKS, MAX_REDIRECT_ROUNDS};
use crate::engine::{Cx, Engine};
use crate::location::Target;
use crate::msg::{Message, Method, Uri};
use crate::proxy::call::Call;
use crate::proxy::manage_failure::winner_of_round;
use crate::state::Branch;

impl Engine {
    /// 302 with the contacts of a user, in their order, each with its q.
    pub(super) fn redirect_to_places(&mut self, passage: &Passage<'_, '_>, places: &[Target]) -> Step {
        let contacts: Vec<String> = places
            .iter()
            .take(MAX_FORKS)
            .map(|p| format!("<{}>;q={}.{:03}", p.uri, p.q / 1000, p.q % 1000))
            .collect();
        self.answer_redirect(passage, 302, &contacts)
    }

    /// 301 or 302 with the contacts of a rule.
    pub(super) fn redirect_to_contacts(
        &mut self,
        passage: &Passage<'_, '_>,
        contacts: &[String],
        status: u16,
    ) -> Step {
        let uri = Uri::parse(&passage.found.uri).ok();
        let user = uri.and_then(|u| u.user).unwrap_or_default().to_owned();
        let contacts: Vec<String> =
            contacts.iter().map(|c| format!("<{}>", c.replace("{user}", &user))).collect();
        self.answer_redirect(passage, status, &contacts)
    }

    /// Branches for the contacts of a 3xx that is the best of the last round, where redirects are followed here: by
    /// descending q as they would be of a user, without what has been tried already, at most [`MAX_FORKS`].
    pub(crate) fn branches_of_redirect(&self, cx: Cx<'_>, call: &Call) -> Vec<Branch> {
        if !self.settings.config.routing.follow_redirects || call.round >= MAX_REDIRECT_ROUNDS {
            return Vec::new();
        }
        let redirect = winner_of_round(call).filter(|f| (300..400).contains(&f.status));
        let Some(Ok(redirect)) = redirect.map(|f| Message::parse(&f.response)) else { return Vec::new() };
        let Ok(message) = Message::parse(&call.request) else { return Vec::new() };
        let found = Found { uri: message.request_uri_str().to_owned(), ..Found::default() };
        let passage = Passage {
            message: &message,
            method: Method::Invite,
            flow: call.flow,
            key: call.key.clone(),
            found,
        };
        let mut contacts: Vec<(u16, String)> = redirect
            .contacts()
            .flatten()
            .take(MAX_FORKS)
            .map(|c| (c.q().unwrap_or(0), c.uri.to_owned()))
            .collect();
        contacts.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
        let round = call.round.saturating_add(1);
        let mut branches: Vec<Branch> = Vec::new();
        for (_, contact) in contacts {
            let Ok(uri) = Uri::parse(&contact) else { continue };
            let found = if self.settings.is_for_us(&uri, call.flow.local) {
                let places =
                    self.places_of_user(cx, call.flow.local, &uri, Method::Invite).unwrap_or_default();
                self.branches_to(&passage, places, round)
            } else {
                self.branch_to_uri(&passage, &contact, round).into_iter().collect()
            };
            for branch in found {
                let is_same = |b: &Branch| (&b.target, b.flow) == (&branch.target, branch.flow);
                let tried = call.branches.iter().any(|b| is_same(&b.record));
                if !tried && !branches.iter().any(is_same) && branches.len() < MAX_FORKS {
                    branches.push(branch);
                }
            }
        }
        if !breadth::share_round(&message, &mut branches) {
            // Too many of them: the caller may choose.
            branches.clear();
        }
        branches
    }

    fn answer_redirect(&mut self, passage: &Passage<'_, '_>, status: u16, contacts: &[String]) -> Step {
        let headers: Vec<(&str, &str)> = contacts.iter().map(|c| ("Contact", c.as_str())).collect();
        self.explain("redirects", || contacts.join(", "));
        self.reject_with(passage.flow, passage.message, status, "", &headers);
        Step::Answered
    }
}
