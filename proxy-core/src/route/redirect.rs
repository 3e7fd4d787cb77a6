//! Redirects: the redirect server (RFC 3261 §8.3), which tells the caller where to call, and the 3xx of others, which
//! are followed here where the configuration says so (§16.5; otherwise they are passed on, §16.7 step 4).

use super::breadth;
use super::passage::{Found, Passage, Step};
use crate::auth::Sender;
use crate::engine::limits::{MAX_FORKS, MAX_REDIRECT_ROUNDS};
use crate::engine::{Cx, Engine};
use crate::location::Target;
use crate::msg::{Message, Method, Uri};
use crate::proxy::call::{Call, CallBranch};
use crate::proxy::manage_failure::winner_of_round;
use crate::routing::Stage;
use crate::state::trunk::{Account, Trunk};
use crate::state::trunk_style::Redirects;
use crate::state::{Backend, Backing, Branch};

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
        let is_on = self.settings.config.routing.has(Stage::ManageFailure);
        if !is_on || call.round >= MAX_REDIRECT_ROUNDS {
            return Vec::new();
        }
        let winner = winner_of_round(call).filter(|f| (300..400).contains(&f.status));
        let Some(winner) = winner else { return Vec::new() };
        let is_it = |b: &&CallBranch| b.outcome.as_ref().is_some_and(|f| std::ptr::eq(f, winner));
        let Some(by) = call.branches.iter().find(is_it).map(|b| &b.record) else { return Vec::new() };
        let trunk = match &by.backing.backend {
            Some(Backend::Trunk { uuid }) => cx.state.trunk(uuid),
            _ => None,
        };
        let routing = self.settings.config.routing.follow_redirects;
        let reach = match trunk.map_or(Redirects::Routing, |t| t.account.style.redirects) {
            Redirects::Routing if routing => Redirects::Any,
            Redirects::Routing => Redirects::Pass,
            other => other,
        };
        if reach == Redirects::Pass {
            return Vec::new();
        }
        let Ok(redirect) = Message::parse(&winner.response) else { return Vec::new() };
        let Ok(message) = Message::parse(&call.request) else { return Vec::new() };
        let found = Found {
            uri: message.request_uri_str().to_owned(),
            sender: Sender::by_trunk(by.backing.from_trunk.clone()),
            ..Found::default()
        };
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
            let own = trunk.filter(|t| uri.user.is_some() && is_of_trunk(&uri, &t.account, by));
            let found = if let Some(trunk) = own {
                self.branch_within_trunk(&passage, &contact, &uri, trunk, by, round).into_iter().collect()
            } else if reach == Redirects::Own {
                Vec::new()
            } else if self.settings.is_for_us(&uri, call.flow.local) {
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
        let beside = if self.has_been_here(call.flow, &message) { call.branches.len() } else { 0 };
        if !breadth::share_round(&message, &mut branches, beside) {
            // Too many of them: the caller may choose.
            branches.clear();
        }
        branches
    }

    /// The copy for a contact of the trunk itself: as the one that it redirects, but for its target.
    fn branch_within_trunk(
        &self,
        passage: &Passage<'_, '_>,
        contact: &str,
        uri: &Uri<'_>,
        trunk: &Trunk,
        by: &Branch,
        round: u16,
    ) -> Option<Branch> {
        // Its domain leads where its calls go; an address leads there.
        let domain = format!("sip:{}", trunk.account.remote_domain);
        let mut branch = if host_of(&domain).is_some_and(|own| own == host(uri)) {
            self.branch_to_domain(passage, trunk, round)?
        } else {
            self.branch_to_uri(passage, contact, round).ok()?
        };
        contact.clone_into(&mut branch.target);
        branch.backing = Backing { cseq_shift: 0, ..by.backing.clone() };
        branch.headers.clone_from(&passage.found.headers);
        Some(branch)
    }

    fn answer_redirect(&mut self, passage: &Passage<'_, '_>, status: u16, contacts: &[String]) -> Step {
        if passage.method == Method::Cancel {
            // Its INVITE was answered here, and nothing is left of it (§9.2).
            return Step::Reject(481, "");
        }
        let headers: Vec<(&str, &str)> = contacts.iter().map(|c| ("Contact", c.as_str())).collect();
        self.explain("redirects", || contacts.join(", "));
        self.reject_with(passage.flow, passage.message, status, "", &headers);
        Step::Answered
    }
}

/// Whether a contact is the trunk itself: its domain, its proxy, the address that has redirected, or a source of its calls.
fn is_of_trunk(uri: &Uri<'_>, account: &Account, by: &Branch) -> bool {
    let named = [format!("sip:{}", account.remote_domain), account.next_hop()];
    named.iter().filter_map(|own| host_of(own)).any(|own| own == host(uri))
        || uri.host.ip().is_some_and(|ip| ip == by.flow.remote.ip() || account.is_source(ip))
}

fn host_of(uri: &str) -> Option<String> {
    Uri::parse(uri).ok().map(|uri| host(&uri))
}

fn host(uri: &Uri<'_>) -> String {
    uri.host.to_string().to_ascii_lowercase()
}
