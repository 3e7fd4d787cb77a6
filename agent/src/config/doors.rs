//! Doors to the services of others: routes to trunks and dispatcher sets, and the default set. Each says who may use it.
//!
//! | a door says | who may use it | `config check` |
//! |---|---|---|
//! | `require_auth = true` | who proves who he is: by password, access list or an address of a trunk | says nothing |
//! | `source = […]` | who comes from there | says nothing |
//! | `open = true` | anybody in the world; a route by its methods, which are those of calls if it names none | says which methods those are |
//! | nothing, with `auth.enabled` | as with `require_auth` | warns |
//! | nothing, without | anybody: nobody is asked who he is | warns |

use proxy_core::routing::{Action, Cidr, Match};

use super::table::{At, Reader};

/// The methods of a call: what an open route takes that names none. CANCEL and ACK count in stateless mode alone.
const CALLS: [&str; 3] = ["INVITE", "ACK", "CANCEL"];

/// What a door leaves unsaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsaid {
    /// Who may use it.
    Guests,
    /// Which methods strangers may use.
    Methods,
}

/// A door that leaves something unsaid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Line of the configuration.
    pub line: usize,
    /// Which: `route "out" to trunk carrier`.
    pub name: String,
    /// Number of its route; `None` for the default set.
    pub rule: Option<usize>,
    /// What it leaves unsaid.
    pub unsaid: Unsaid,
}

impl Door {
    /// What an operator should know of it, and the cure.
    pub(super) fn warning(&self, auth: bool) -> String {
        let name = &self.name;
        let of_all = if self.rule.is_some() { "" } else { " in [dispatcher]" };
        match (self.unsaid, auth) {
            (Unsaid::Guests, true) => format!(
                "{name} does not say who may use it: strangers are kept out, as with require_auth; write \
                 require_auth = true or source = [\"192.0.2.0/24\"]{of_all}, or open = true if anybody in the world may"
            ),
            (Unsaid::Guests, false) => format!(
                "{name} does not say who may use it, and nobody is asked who he is: anybody who reaches this proxy may; \
                 write [auth] enabled = true, or source = [\"192.0.2.0/24\"]{of_all}, or open = true if that is what you want"
            ),
            (Unsaid::Methods, _) => format!(
                "{name} is open to anybody and names no method: it takes calls alone; write method = [\"INVITE\"], or \
                 the methods that strangers may use"
            ),
        }
    }
}

/// Whether sources tell some from others.
pub(super) fn tells_apart(sources: &[Cidr]) -> bool {
    !sources.is_empty() && !sources.iter().any(Cidr::is_all)
}

/// What a route says of who may use it.
pub(super) struct Said {
    /// `open`.
    pub(super) open: Option<At<bool>>,
    /// `require_auth`.
    pub(super) require_auth: bool,
}

/// Judges a route that does `action`. An open one without methods becomes one for calls. The door, if it leaves something
/// unsaid.
pub(super) fn of_route(
    reader: &mut Reader<'_>,
    (line, name, number): (usize, &str, usize),
    action: &Action,
    matching: &mut Match,
    said: &Said,
) -> Option<Door> {
    let place = match action {
        Action::Trunk(names) => format!("trunk {}", names.join(", then ")),
        Action::Dispatcher(set) => format!("dispatcher set {set}"),
        _ => {
            if let Some(open) = said.open.as_ref().filter(|at| at.value) {
                let cure = "remove it: it is for routes to trunks and dispatcher sets";
                reader.fault(open.line, "open says nothing in a route with this action", cure);
            }
            return None;
        }
    };
    let door =
        |unsaid| Some(Door { line, name: format!("route {name:?} to {place}"), rule: Some(number), unsaid });
    match said.open.as_ref().filter(|at| at.value) {
        Some(open) if said.require_auth => {
            let what = "open lets in whom require_auth keeps out";
            reader.fault(open.line, what, "remove one of them");
            None
        }
        Some(_) if matching.methods.is_empty() => {
            matching.methods = CALLS.map(str::to_owned).to_vec();
            door(Unsaid::Methods)
        }
        Some(_) => None,
        None if said.require_auth || tells_apart(&matching.sources) => None,
        None => door(Unsaid::Guests),
    }
}
