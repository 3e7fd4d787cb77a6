//! What stops working, or works again, is in the log of every node, once, with where to look: an operator reads it there
//! first.
//!
//! | what | ails while | where to look |
//! |---|---|---|
//! | destination | it is inactive or disabled | `relevo dispatcher list` |
//! | trunk | it is not registered after a refusal, does not answer probes, or is disabled | `relevo trunk list` |
//! | rtpengine | it does not answer, or is disabled | `relevo rtpengine list` |
//!
//! The replicated state is looked at once in a second and compared with what was seen before: so nothing has to tell, a
//! node that starts says what ails already, and what changes to and fro within a second is one line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use proxy_core::state::SipState;
use proxy_core::state::dispatcher::flag;
use proxy_core::state::trunk::{RegistrationState, Trunk};
use proxy_core::time::{Clocks, WallTime};

use crate::bridge::Store;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(1);
/// Lines of one look; more are counted.
const MAX_LINES: usize = 20;

/// Something that can fail and come back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Destination { set: u32, uri: String },
    Trunk { uuid: String },
    Rtpengine { node: SocketAddr },
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ailment {
    Silent,
    Disabled,
    /// With what the registrar has said last.
    Unregistered(String),
}

impl Part {
    fn name(&self) -> String {
        match self {
            Self::Destination { set, uri } => format!("destination {uri} of set {set}"),
            Self::Trunk { uuid } => format!("trunk {uuid}"),
            Self::Rtpengine { node } => format!("rtpengine {node}"),
        }
    }

    fn list(&self) -> &'static str {
        match self {
            Self::Destination { .. } => "relevo dispatcher list",
            Self::Trunk { .. } => "relevo trunk list",
            Self::Rtpengine { .. } => "relevo rtpengine list",
        }
    }

    /// Whether there is such a part still: what was taken away does not work again. Rtpengines are those of the configuration.
    fn is_there(&self, state: &SipState) -> bool {
        match self {
            Self::Destination { set, uri } => {
                state.dispatcher().sets.get(set).is_some_and(|list| list.iter().any(|d| d.uri == *uri))
            }
            Self::Trunk { uuid } => state.trunk(uuid).is_some(),
            Self::Rtpengine { .. } => true,
        }
    }
}

impl Ailment {
    fn text(&self, part: &Part) -> String {
        let name = part.name();
        let what = match (self, part) {
            (Self::Silent, Part::Trunk { .. }) => "does not answer probes: calls try it last",
            (Self::Silent, _) => "does not answer: no new calls go there",
            (Self::Disabled, _) => "is disabled by an operator: no new calls go there",
            (Self::Unregistered(last), _) => {
                return format!("{name} is not registered: {} (see {})", last.escape_debug(), part.list());
            }
        };
        format!("{name} {what} (see {})", part.list())
    }
}

/// What ails now.
fn ailing(state: &SipState, rtpengines: &[SocketAddr], now: WallTime) -> BTreeMap<Part, Ailment> {
    let mut all = BTreeMap::new();
    for (set, list) in &state.dispatcher().sets {
        for d in list.iter().filter(|d| !d.is_eligible()) {
            let is_off = d.flags & flag::DISABLED != 0;
            let part = Part::Destination { set: *set, uri: d.uri.clone() };
            all.insert(part, if is_off { Ailment::Disabled } else { Ailment::Silent });
        }
    }
    for trunk in state.trunks() {
        if let Some(ailment) = of_trunk(trunk, now) {
            all.insert(Part::Trunk { uuid: trunk.account.uuid.clone() }, ailment);
        }
    }
    let media = state.media_nodes();
    for node in rtpengines {
        let ailment = match (media.disabled.contains_key(node), media.dead.contains_key(node)) {
            (true, _) => Ailment::Disabled,
            (false, true) => Ailment::Silent,
            (false, false) => continue,
        };
        all.insert(Part::Rtpengine { node: *node }, ailment);
    }
    all
}

fn of_trunk(trunk: &Trunk, now: WallTime) -> Option<Ailment> {
    let registration = &trunk.registration;
    if trunk.account.disabled {
        return Some(Ailment::Disabled);
    }
    let refused = match registration.state {
        RegistrationState::Failed => true,
        // The next try is under way: it has not come to anything yet.
        RegistrationState::Ongoing => registration.failures > 0 && registration.expires_at <= now,
        RegistrationState::Idle | RegistrationState::Registered => false,
    };
    if refused && trunk.account.registers() {
        return Some(Ailment::Unregistered(registration.last.clone()));
    }
    (trunk.is_probed() && trunk.down).then_some(Ailment::Silent)
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// Somebody should look.
    Bad(String),
    /// It is as an operator has said, or works again.
    Good(String),
}

/// What was seen the last time.
#[derive(Debug, Default)]
struct Watch {
    /// Those that are configured here: what is remembered of others is of no use to anybody.
    rtpengines: Vec<SocketAddr>,
    known: BTreeMap<Part, Ailment>,
}

impl Watch {
    /// What has changed since.
    fn look(&mut self, state: &SipState, now: WallTime) -> Vec<Line> {
        let seen = ailing(state, &self.rtpengines, now);
        let is_known = |part: &Part, ailment: &Ailment| {
            // A registrar that refuses again, in other words, is no news.
            self.known.get(part).is_some_and(|b| std::mem::discriminant(b) == std::mem::discriminant(ailment))
        };
        let new = seen.iter().filter(|(part, ailment)| !is_known(part, ailment));
        let over = self.known.keys().filter(|part| !seen.contains_key(part) && part.is_there(state));
        let mut changes =
            new.map(|(part, ailment)| (part, Some(ailment))).chain(over.map(|part| (part, None)));
        let mut lines: Vec<Line> =
            changes.by_ref().take(MAX_LINES).map(|(part, now)| line(part, now)).collect();
        let more = changes.count();
        if more > 0 {
            lines.push(Line::Bad(format!(
                "{more} more have failed or come back: see relevo dispatcher list, trunk list, rtpengine list"
            )));
        }
        self.known = seen;
        lines
    }
}

fn line(part: &Part, now: Option<&Ailment>) -> Line {
    match now {
        None => Line::Good(format!("{} is in service again", part.name())),
        Some(ailment @ Ailment::Disabled) => Line::Good(ailment.text(part)),
        Some(ailment) => Line::Bad(ailment.text(part)),
    }
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    _stop: SyncSender<()>,
}

/// Starts the thread. `rtpengines` are those of the configuration.
///
/// # Errors
/// The thread cannot be started.
pub fn start<S: Store>(
    store: S,
    rtpengines: Vec<SocketAddr>,
    clock: fn() -> Clocks,
) -> std::io::Result<Running> {
    let (stop, stopped) = sync_channel(1);
    std::thread::Builder::new().name(String::from("relevo-health")).spawn(move || {
        let mut watch = Watch { rtpengines, ..Watch::default() };
        while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let now = store.now(clock()).wall;
            for line in store.read(|state| watch.look(state, now)) {
                match line {
                    Line::Bad(text) => tracing::warn!("{text}"),
                    Line::Good(text) => tracing::info!("{text}"),
                }
            }
        }
    })?;
    Ok(Running { _stop: stop })
}

#[cfg(test)]
mod tests {
    use proxy_core::state::SipCommand;
    use proxy_core::state::dispatcher::{Attributes, Destination, DispatcherCommand};
    use proxy_core::state::media::MediaCommand;
    use proxy_core::state::trunk::{Account, TrunkCommand};

    use super::*;

    const PBX: &str = "sip:10.0.0.21";
    const NOW: WallTime = WallTime(1_000_000);

    fn put(state: &mut SipState, uri: &str) {
        let destination = Destination {
            uri: uri.to_owned(),
            flags: 0,
            priority: 0,
            attrs: Attributes::default(),
            description: String::new(),
            count: 0,
            changed_at: NOW,
            seen_at: NOW,
        };
        let destination = Box::new(destination);
        state.apply(&SipCommand::Dispatcher(DispatcherCommand::Put { set: 1, destination }));
    }

    fn set_state(state: &mut SipState, uri: Option<&str>, flags: u32) {
        let uri = uri.map(str::to_owned);
        state.apply(&SipCommand::Dispatcher(DispatcherCommand::SetState { set: 1, uri, flags, at: NOW }));
    }

    fn texts(lines: Vec<Line>) -> Vec<String> {
        let text = |line| match line {
            Line::Bad(text) => format!("! {text}"),
            Line::Good(text) => text,
        };
        lines.into_iter().map(text).collect()
    }

    #[test]
    fn a_destination_that_fails_and_comes_back_is_told_once_each() {
        let (mut state, mut watch) = (SipState::default(), Watch::default());
        put(&mut state, PBX);
        assert_eq!(watch.look(&state, NOW), []);
        set_state(&mut state, Some(PBX), flag::INACTIVE);
        let gone = "! destination sip:10.0.0.21 of set 1 does not answer: no new calls go there (see relevo dispatcher list)";
        assert_eq!(texts(watch.look(&state, NOW)), [gone]);
        assert_eq!(watch.look(&state, NOW), [], "it is no news any more");
        set_state(&mut state, Some(PBX), flag::TRYING);
        assert_eq!(
            texts(watch.look(&state, NOW)),
            ["destination sip:10.0.0.21 of set 1 is in service again"]
        );
        set_state(&mut state, Some(PBX), flag::DISABLED);
        let off = "destination sip:10.0.0.21 of set 1 is disabled by an operator: no new calls go there \
                   (see relevo dispatcher list)";
        assert_eq!(texts(watch.look(&state, NOW)), [off]);
        let uri = Some(PBX.to_owned());
        state.apply(&SipCommand::Dispatcher(DispatcherCommand::Remove { set: 1, uri }));
        assert_eq!(watch.look(&state, NOW), [], "what was taken away does not work again");
    }

    #[test]
    fn a_node_that_starts_says_what_ails_already_and_many_at_once_are_few_lines() {
        let mut state = SipState::default();
        for n in 0..100 {
            put(&mut state, &format!("sip:10.0.1.{n}"));
        }
        set_state(&mut state, None, flag::INACTIVE);
        let lines = texts(Watch::default().look(&state, NOW));
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert!(lines[MAX_LINES].starts_with("! 80 more have failed"), "{lines:#?}");
    }

    #[test]
    fn a_trunk_that_is_refused_is_told_with_the_words_of_the_registrar_until_it_is_registered() {
        let (mut state, mut watch) = (SipState::default(), Watch::default());
        let account = Account {
            uuid: "carrier".into(),
            remote_user: "u".into(),
            remote_domain: "carrier.test".into(),
            expires_s: 600,
            contact_user: "carrier".into(),
            ..Account::default()
        };
        let trunk = |command| SipCommand::Trunk(command);
        let account = Box::new(account);
        state.apply(&trunk(TrunkCommand::Put { account, call_id: "c".into(), at: NOW }));
        let mut cseq = 0;
        let mut outcome = |to: RegistrationState, last: &str| {
            cseq += 1;
            let next_at = WallTime(NOW.0 + 30_000);
            let uuid = String::from("carrier");
            state.apply(&trunk(TrunkCommand::Registering { uuid: uuid.clone(), cseq, next_at, at: next_at }));
            let under_way = texts(watch.look(&state, NOW));
            let expires_at = (to == RegistrationState::Registered).then_some(WallTime(NOW.0 + 600_000));
            let (last, min_expires_s, service_route) = (last.to_owned(), None, None);
            state.apply(&trunk(TrunkCommand::Outcome {
                uuid,
                cseq,
                state: to,
                next_at,
                expires_at,
                min_expires_s,
                service_route,
                last,
            }));
            (under_way, texts(watch.look(&state, NOW)))
        };
        let nothing: Vec<String> = Vec::new();
        let refused =
            vec![String::from("! trunk carrier is not registered: 403 No\\u{7}pe (see relevo trunk list)")];
        assert_eq!(outcome(RegistrationState::Failed, "403 No\u{7}pe"), (nothing.clone(), refused));
        assert_eq!(
            outcome(RegistrationState::Failed, "503"),
            (nothing.clone(), nothing.clone()),
            "as before"
        );
        let again = vec![String::from("trunk carrier is in service again")];
        assert_eq!(outcome(RegistrationState::Registered, "200 OK"), (nothing.clone(), again));
        // It is registered for a while yet, but the registrar does not want it any more.
        let (under_way, refused) = outcome(RegistrationState::Failed, "403 Gone");
        assert_eq!((under_way, refused.len()), (nothing, 1));
    }

    #[test]
    fn an_rtpengine_that_dies_is_told_and_one_that_is_dead_and_disabled_is_disabled() {
        let node: SocketAddr = "192.0.2.9:2223".parse().expect("an address");
        let mut state = SipState::default();
        let mut watch = Watch { rtpengines: vec![node], ..Watch::default() };
        state.apply(&SipCommand::Media(MediaCommand::Health { node, dead: true, at: NOW }));
        let dead =
            "! rtpengine 192.0.2.9:2223 does not answer: no new calls go there (see relevo rtpengine list)";
        assert_eq!(texts(watch.look(&state, NOW)), [dead]);
        state.apply(&SipCommand::Media(MediaCommand::SetDisabled { node, disabled: true, at: NOW }));
        assert!(texts(watch.look(&state, NOW))[0].starts_with("rtpengine 192.0.2.9:2223 is disabled"));
        state.apply(&SipCommand::Media(MediaCommand::SetDisabled { node, disabled: false, at: NOW }));
        assert_eq!(texts(watch.look(&state, NOW)), [dead]);
        assert_eq!(Watch::default().look(&state, NOW), [], "it is not configured any more");
    }
}
