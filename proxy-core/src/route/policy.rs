//! The `[[route]]` tables of the configuration: the first that fits decides; one that continues changes what the
//! following ones see.

use super::passage::{Passage, Step, Way};
use super::target::with_user;
use crate::engine::{Cx, Engine};
use crate::msg::{HeaderName, Message, Method, Uri};
use crate::routing::{Action, Pattern, Rule, Subject};

impl Engine {
    /// Walks through the rules.
    pub(super) fn stage_policy(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        let goes_with_its_invite = match passage.method {
            Method::Ack => self.is_stateless(),
            Method::Cancel => self.passes_cancels(),
            _ => true,
        };
        if !goes_with_its_invite {
            return Step::Next;
        }
        for number in 0..self.settings.config.routing.rules.len() {
            let Some(rule) = self.settings.config.routing.rules.get(number).cloned() else { break };
            if let Some(what) = misfit(&rule, passage) {
                self.explain(&format!("route {:?} does not fit", rule.name), || format!("by its {what}"));
                continue;
            }
            passage.found.rule = Some(number);
            match self.obey(cx, passage, &rule) {
                Obeyed::Continue => {}
                Obeyed::Step(step) => return step,
            }
        }
        Step::Next
    }

    fn obey(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>, rule: &Rule) -> Obeyed {
        if rule.require_auth {
            match self.require_auth(cx, passage) {
                Step::Next => {}
                step => return Obeyed::Step(step),
            }
        }
        if !self.rewrite(passage, rule) {
            return Obeyed::Step(Step::Reject(484, ""));
        }
        if rule.media.is_some() {
            passage.found.media_rule.clone_from(&rule.media);
        }
        if rule.ring.is_some() {
            passage.found.ring = rule.ring;
        }
        self.explain(&format!("route {:?} fits", rule.name), || format!("{}", Shown(&rule.action)));
        let way = match &rule.action {
            Action::Continue => return Obeyed::Continue,
            Action::Location => Way::Location,
            Action::Dispatcher(set) => Way::Dispatcher(*set),
            Action::Trunk(names) => Way::Trunk(names.clone()),
            Action::Relay => Way::Relay,
            Action::Voicemail => Way::Voicemail,
            Action::Redirect { contacts, permanent } => {
                let status = if *permanent { 301 } else { 302 };
                return Obeyed::Step(self.redirect_to_contacts(passage, contacts, status));
            }
            Action::Reject { status, reason } => {
                self.reject(passage, *status, reason);
                return Obeyed::Step(Step::Answered);
            }
        };
        passage.found.way = Some(way);
        Obeyed::Step(Step::Next)
    }

    /// Strips and prefixes the user. `false` if nothing is left of it.
    fn rewrite(&mut self, passage: &mut Passage<'_, '_>, rule: &Rule) -> bool {
        if rule.strip == 0 && rule.prefix.is_empty() {
            return true;
        }
        let made = Uri::parse(&passage.found.uri).ok().and_then(|uri| {
            let kept: String = uri.user?.chars().skip(rule.strip).collect();
            with_user(&uri, &format!("{}{kept}", rule.prefix))
        });
        let Some(made) = made else { return false };
        self.explain("rewrites", || format!("{} to {made}", passage.found.uri));
        passage.found.uri = made;
        true
    }
}

enum Obeyed {
    Continue,
    Step(Step),
}

/// What of a rule does not fit the request.
fn misfit(rule: &Rule, passage: &Passage<'_, '_>) -> Option<&'static str> {
    let uri = Uri::parse(&passage.found.uri);
    let domain = uri.as_ref().map_or_else(|_| String::new(), |u| u.host.to_string().to_ascii_lowercase());
    let subject = Subject {
        method: passage.method.as_str(),
        domain: &domain,
        user: uri.as_ref().ok().and_then(|u| u.user),
        source: passage.flow.remote.ip(),
    };
    rule.matching.misfit(&subject, |name, pattern| has_header(passage.message, name, pattern))
}

/// Compact names are found by their long ones, too.
fn has_header(message: &Message<'_>, name: &str, pattern: &Pattern) -> bool {
    let known = HeaderName::from_bytes(name.as_bytes());
    message.header_lines().any(|line| {
        let is_it = line.raw_name.eq_ignore_ascii_case(name.as_bytes())
            || (known != HeaderName::Other && line.name == known);
        is_it && std::str::from_utf8(line.value).is_ok_and(|value| pattern.matches(value.trim()))
    })
}

struct Shown<'a>(&'a Action);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Action::Continue => f.write_str("go on with the next route"),
            Action::Location => f.write_str("to the user's phones"),
            Action::Dispatcher(set) => write!(f, "to dispatcher set {set}"),
            Action::Trunk(names) => write!(f, "out by trunk {}", names.join(", then ")),
            Action::Redirect { .. } => f.write_str("redirect"),
            Action::Reject { status, .. } => write!(f, "reject with {status}"),
            Action::Relay => f.write_str("relay to its domain"),
            Action::Voicemail => f.write_str("to voicemail"),
        }
    }
}
