//! Kamailio's PSTN: calls out by a trunk, and in from it.
//!
//! | request | then |
//! |---|---|
//! | a rule names trunks | to the proxy of the first, with the account's domain in the Request-URI; the others are the plan |
//! | an INVITE (without state also its CANCEL and ACK) to a number of the public network, `[trunk] pstn` is set | the same, with 00 as +; 403 unless a user of ours has proved to be one |
//! | from a source of a trunk | a call in of that trunk: trusted, and what is for its Contact user goes to its local user |
//! | to the Contact user of a trunk without sources, from the address that it registers at | a call in of that trunk |
//! | the same from anywhere, `[trunk] by_name` lists the trunk | a call of a stranger, to its local user |
//! | the same, not listed | a call of a stranger to a user of that name |
//! | in a dialog with a trunk | names and CSeq as the trunk knows them, credentials if it asks for them |

use std::net::SocketAddr;

use super::passage::{Passage, Step, Targets, Way};
use super::target::with_user;
use crate::engine::limits::MAX_FAILOVERS;
use crate::engine::{Cx, Engine};
use crate::msg::{Message, Method, NameAddr, Uri};
use crate::proxy::rename::name_of;
use crate::proxy::{build, carried};
use crate::state::trunk::{Account, Trunk};
use crate::state::{Backend, Branch, CountKey, Dress, Leg, NextStep, Renamed, When};
use crate::trunk::{Caller, dressed, is_anonymous};

/// Most digits of a number of the public network (Kamailio's default: 1-9, then 3 to 20 more).
const DIGITS: std::ops::RangeInclusive<usize> = 4..=21;

/// Drawback of a trunk that has as many calls as it may.
const FULL: u8 = 2;

/// What a request has to do with trunks when it comes.
pub(super) enum CameBy {
    /// Its address is that of this trunk; `vouched` if an operator has named it.
    Trunk {
        uuid: String,
        vouched: bool,
    },
    /// It is for the Contact user of this trunk, which takes calls by name from anybody.
    Name(String),
    Nothing,
}

impl Engine {
    /// The trunk that a request without a dialog has come from, if any. Its Contact user anybody can name: it tells apart the
    /// trunks that have this address, and proves nothing.
    pub(super) fn came_by(&self, cx: Cx<'_>, source: SocketAddr, request: &Message<'_>) -> CameBy {
        if !cx.state.has_trunks() || request.to_tag().is_some() || request.method() == Some(Method::Register)
        {
            return CameBy::Nothing;
        }
        let user = request.request_uri().ok().and_then(|uri| uri.user).unwrap_or_default();
        let is_named = |t: &&Trunk| t.account.contact_user == user;
        let by_source = || cx.state.trunks_with_source(source.ip()).filter(|t| !t.account.disabled);
        if let Some(trunk) = by_source().find(is_named).or_else(|| by_source().next()) {
            return CameBy::Trunk { uuid: trunk.account.uuid.clone(), vouched: true };
        }
        let named = || {
            let named = cx.state.trunks_with_contact(user);
            named.filter(|t| !t.account.disabled && t.account.sources.is_empty())
        };
        if let Some(trunk) = named().find(|t| t.account.registers_at(source.ip())) {
            return CameBy::Trunk { uuid: trunk.account.uuid.clone(), vouched: false };
        }
        let by_name = &self.settings.config.trunk.by_name;
        let named = named().find(|t| by_name.contains(&t.account.uuid));
        named.map_or(CameBy::Nothing, |t| CameBy::Name(t.account.uuid.clone()))
    }

    /// Out, where a rule or the number says so; in, where it came from a trunk.
    pub(super) fn stage_trunk(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) -> Step {
        let uuids = match &passage.found.way {
            Some(Way::Trunk(uuids)) => uuids.clone(),
            None => match self.pstn_number(passage) {
                Some((uuid, number)) => {
                    let sender = &passage.found.sender;
                    let hides = sender.is_trusted() && is_anonymous(passage.message);
                    if !sender.is_of_ours() && !hides {
                        self.explain("refuses", || {
                            String::from("no user of ours has proved that it is he who calls")
                        });
                        return Step::Reject(403, "Not Allowed");
                    }
                    self.explain("is a number", || format!("of the public network: {number}"));
                    passage.found.uri = number;
                    // Nobody else is asked for it.
                    passage.found.way = Some(Way::Trunk(vec![uuid.clone()]));
                    vec![uuid]
                }
                None => {
                    self.arrive(cx, passage);
                    return Step::Next;
                }
            },
            Some(_) => return Step::Next,
        };
        let targets = self.targets_by_trunks(cx, passage, &uuids);
        if targets.branches.is_empty() {
            passage.found.failing = Some((503, "Trunk Unavailable"));
            return Step::Next;
        }
        Step::Targets(targets)
    }

    /// The trunks of a list that can be tried, in order: one that is switched off is left out, one whose registrar has us
    /// not, or that has as many calls as it may, comes after those that look better. Should all be full, the limit says so
    /// at admission.
    fn targets_by_trunks(&mut self, cx: Cx<'_>, passage: &Passage<'_, '_>, uuids: &[String]) -> Targets {
        let mut list: Vec<(u8, &Trunk)> = Vec::new();
        for uuid in uuids {
            match cx.state.trunk(uuid).filter(|t| !t.account.disabled) {
                Some(trunk) => list.push((self.drawback_of(cx, trunk), trunk)),
                None => self.explain("no target", || match cx.state.trunk(uuid) {
                    Some(_) => format!("trunk {uuid:?} is switched off; relevo trunk enable {uuid}"),
                    None => format!(
                        "there is no trunk {uuid:?}; relevo trunk add makes it, relevo trunk list names all"
                    ),
                }),
            }
        }
        // Stable: equals stay in the order of the rule.
        list.sort_by_key(|(drawback, _)| *drawback);
        if list.first().is_some_and(|(drawback, _)| *drawback < FULL) {
            list.retain(|(drawback, _)| *drawback < FULL);
        }
        let names: Vec<&str> = list.iter().map(|(_, t)| t.account.uuid.as_str()).collect();
        if !names.is_empty() {
            self.explain("chooses", || format!("trunk {}", names.join(", then ")));
        }
        let mut branches = Vec::new();
        for (number, (_, trunk)) in (0..).zip(list.into_iter().take(MAX_FAILOVERS)) {
            match self.branch_to_trunk(passage, trunk, number) {
                Some(branch) => branches.push(branch),
                None => {
                    self.explain("no target", || format!("{} cannot be reached", trunk.account.next_hop()));
                }
            }
        }
        let mut branches = branches.into_iter();
        let Some(first) = branches.next() else { return Targets::default() };
        let when = When {
            // A challenge that comes this far is one that we cannot answer.
            statuses: [(401, 401), (407, 407)]
                .into_iter()
                .chain(self.settings.config.trunk.failover.iter().copied())
                .collect(),
            timeout: false,
            unreachable: true,
        };
        let after = passage.found.ring;
        let plan =
            branches.map(|branch| NextStep { when: when.clone(), branches: vec![branch], after }).collect();
        Targets { branches: vec![first], after, plan }
    }

    /// What speaks against a trunk: 0 nothing, 1 its registrar has us not or probes do not find it, [`FULL`] that it has as many calls as it may.
    fn drawback_of(&self, cx: Cx<'_>, trunk: &Trunk) -> u8 {
        let uuid = &trunk.account.uuid;
        let most = self.most_calls_of(uuid);
        if most.is_some_and(|most| cx.state.calls_of(&CountKey::Trunk(uuid.clone())) >= most) {
            return FULL;
        }
        let unregistered = trunk.account.registers() && trunk.registration.expires_at <= cx.now.wall;
        u8::from(unregistered || trunk.down)
    }

    /// How many calls a trunk may have at a time.
    fn most_calls_of(&self, uuid: &str) -> Option<u32> {
        let limits = &self.settings.config.dialog.limits;
        limits.trunks.get(uuid).copied().or(limits.trunk)
    }

    fn branch_to_trunk(&self, passage: &Passage<'_, '_>, trunk: &Trunk, round: u16) -> Option<Branch> {
        let account = &trunk.account;
        let dialled = Uri::parse(&passage.found.uri).ok()?;
        let number = account.style.number(dialled.user?)?;
        let target = format!("sip:{number}@{}", account.remote_domain);
        Uri::parse(&target).ok()?;
        let mut branch = self.branch_to_domain(passage, trunk, round)?;
        branch.target = target;
        self.back_by_trunk(passage, account, &mut branch);
        Some(branch)
    }

    /// A copy for the domain of a trunk: by the way that its registrar has said calls out go (RFC 3608 §6.1). An outbound
    /// proxy of the operator comes first.
    pub(super) fn branch_to_domain(
        &self,
        passage: &Passage<'_, '_>,
        trunk: &Trunk,
        round: u16,
    ) -> Option<Branch> {
        let account = &trunk.account;
        let routes = &trunk.registration.service_route;
        let first = routes.first().and_then(|route| NameAddr::parse(route.as_bytes()).ok()).map(|r| r.uri);
        let hop =
            first.filter(|_| account.proxy.is_empty()).map_or_else(|| account.next_hop(), str::to_owned);
        let mut branch = self.branch_to_uri(passage, &hop, round).ok()?;
        branch.route.clone_from(routes);
        Some(branch)
    }

    /// Makes a copy one that the trunk stands behind: its names, its credentials, its limits.
    pub(super) fn back_by_trunk(&self, passage: &Passage<'_, '_>, account: &Account, branch: &mut Branch) {
        branch.backing.most_calls = self.most_calls_of(&account.uuid);
        branch.backing.backend = Some(Backend::Trunk { uuid: account.uuid.clone() });
        branch.backing.dress = self.dress_for_trunk(passage, account, &branch.target);
        let patience = self.settings.config.trunk.patience.as_millis();
        branch.backing.patience_ms = u32::try_from(patience).ok().filter(|ms| *ms > 0);
    }

    /// What the trunk is told of number and caller. Without state nobody could take other names in From and To back in what
    /// the trunk answers: there it is told who the caller is, and no more.
    fn dress_for_trunk(
        &self,
        passage: &Passage<'_, '_>,
        account: &Account,
        target: &str,
    ) -> Option<Box<Dress>> {
        let sender = &passage.found.sender;
        // Who is trusted speaks for whom he likes; where nobody is asked, our users are taken at their word.
        let caller = Caller { proved: sender.user(), believed: sender.is_believed() };
        let mut dress = dressed(account, passage.message, caller, target);
        // Where nobody could take them back, the names stay.
        if self.is_stateless() || !carried::fits(&self.settings, passage.message, &dress.renamed) {
            dress.renamed = Renamed::default();
        }
        Some(Box::new(dress)).filter(|d| !d.is_plain())
    }

    /// The trunk for the public network and the Request-URI for it, if the number is one of those.
    fn pstn_number(&self, passage: &Passage<'_, '_>) -> Option<(String, String)> {
        let uuid = self.settings.config.trunk.pstn.clone()?;
        let uri = Uri::parse(&passage.found.uri).ok()?;
        let starts_call = match passage.method {
            Method::Invite => true,
            // They go the way of their INVITE.
            Method::Ack => self.is_stateless(),
            Method::Cancel => self.passes_cancels(),
            _ => false,
        };
        if !starts_call
            || passage.found.sender.trunk().is_some()
            || passage.found.by_name.is_some()
            || !self.settings.is_local(&uri, passage.flow.local)
        {
            return None;
        }
        let digits = uri.user.and_then(|u| u.strip_prefix('+').or_else(|| u.strip_prefix("00")))?;
        let fits = DIGITS.contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| with_user(&uri, &format!("+{digits}"))).flatten().map(|number| (uuid, number))
    }

    /// A call in: what is addressed to the registration goes to the local user.
    fn arrive(&mut self, cx: Cx<'_>, passage: &mut Passage<'_, '_>) {
        let uuid = passage.found.sender.trunk().or(passage.found.by_name.as_deref());
        let Some(account) = uuid.and_then(|uuid| cx.state.trunk(uuid)).map(|t| &t.account) else { return };
        let Some(uri) = local_uri(account, &passage.found.uri) else { return };
        self.explain("comes in", || format!("by trunk {:?}, for {uri}", account.uuid));
        passage.found.uri = uri;
    }

    /// Makes the copies of a request within a dialog fit the side that they go to, should that be a trunk.
    pub(super) fn fit_to_leg(&self, cx: Cx<'_>, message: &Message<'_>, branches: &mut [Branch]) {
        let (leg, names) = match crate::dialog::of(cx.state, message) {
            Some((dialog, from_caller)) => {
                let backing = &dialog.backing;
                let leg = if from_caller { &backing.towards_callee } else { &backing.towards_caller };
                (leg.clone(), crate::dialog::names_of(dialog, from_caller))
            }
            None => self.early_leg(message),
        };
        let names = names.map(|names| *names).or_else(|| carried::names_of(&self.settings, message));
        let renamed = names.map(|names| as_it_comes(names, message)).unwrap_or_default();
        let trunk = leg.trunk.as_deref().and_then(|uuid| cx.state.trunk(uuid));
        let told = trunk.is_some_and(|t| t.account.style.asserted.is_some());
        for branch in branches.iter_mut() {
            // What strangers must not read they must not read here either, unless this side is trusted with it.
            let kept = branch.backing.dress.take().filter(|_| !told).map(|d| d.asserted);
            let asserted = kept.unwrap_or_default();
            let dress = Dress { renamed: renamed.clone(), asserted, ..Dress::default() };
            branch.backing.dress = Some(Box::new(dress)).filter(|d| !d.is_plain());
        }
        if leg == Leg::default() {
            return;
        }
        let number = message.cseq().map_or(0, |c| c.number);
        for branch in branches {
            if leg.cseq_shift > 0 {
                let cseq = build::shifted(number, leg.cseq_shift);
                branch.via_branch = self.settings.keys.moved_branch(&branch.via_branch, None, cseq);
            }
            branch.backing.cseq_shift = leg.cseq_shift;
            branch.backing.backend = leg.trunk.clone().map(|uuid| Backend::Trunk { uuid });
        }
    }

    /// The other side of a call that is not answered yet, with the names it knows: PRACK, UPDATE, or a BYE by the caller.
    fn early_leg(&self, message: &Message<'_>) -> (Leg, Option<Box<Renamed>>) {
        let (from, to) = (message.from_tag(), message.to_tag());
        let of = |caller: Option<&str>, callee| self.early_backing(message.call_id()?, caller?, callee);
        if let Some(backing) = of(from, to) {
            let dialog = backing.of_dialog();
            return (dialog.towards_callee, dialog.renamed);
        }
        let dialog = of(to, from).map(|backing| backing.of_dialog());
        let names = dialog.and_then(|d| d.renamed).map(|names| Box::new(names.reversed()));
        (Leg::default(), names)
    }
}

/// What a request within a dialog calls its sides need not be what its INVITE did: answers bring it back as it is.
fn as_it_comes(mut names: Renamed, message: &Message<'_>) -> Renamed {
    let sides = [(names.from.as_mut(), message.from()), (names.to.as_mut(), message.to())];
    for (swap, value) in sides {
        if let Some(swap) = swap
            && let Some(came) = value.ok().and_then(|v| name_of(&v))
        {
            swap.came = came;
        }
    }
    names
}

/// Where a call for `uri` that came by a trunk goes here; `None` if that is as it should be.
fn local_uri(account: &Account, uri: &str) -> Option<String> {
    let parsed = Uri::parse(uri).ok()?;
    let is_registration = parsed.user == Some(account.contact_user.as_str());
    let user = match (is_registration, account.local_user.as_str()) {
        (true, user) if !user.is_empty() => user,
        _ => parsed.user?,
    };
    if account.local_domain.is_empty() {
        return if Some(user) == parsed.user { None } else { with_user(&parsed, user) };
    }
    Some(format!("sip:{user}@{}", account.local_domain))
}
