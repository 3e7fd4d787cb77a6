//! The redirect server (RFC 3261 §8.3): the caller is told where to call.

use super::passage::{Passage, Step};
use crate::engine::Engine;
use crate::engine::limits::MAX_FORKS;
use crate::location::Target;
use crate::msg::Uri;

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

    fn answer_redirect(&mut self, passage: &Passage<'_, '_>, status: u16, contacts: &[String]) -> Step {
        let headers: Vec<(&str, &str)> = contacts.iter().map(|c| ("Contact", c.as_str())).collect();
        self.explain("redirects", || contacts.join(", "));
        self.reject_with(passage.flow, passage.message, status, "", &headers);
        Step::Answered
    }
}
