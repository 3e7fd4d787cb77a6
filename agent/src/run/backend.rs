//! Answers to the admin socket.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use proxy_core::io::{Counters, EngineConfig};
use proxy_core::msg::Uri;
use proxy_core::state::{SipCommand, SipResponse};
use proxy_core::time::{Clocks, MonoTime, Now};
use raft_store::command::GrantReason;
use raft_store::node::rebirths_of;
use raft_store::state::{Event, EventKind};
use serde_json::{Value, json};

use super::amends::Amended;
use super::candidates;
use super::driver::{Handle, Message, Outcome};
use super::live::Live;
use super::overseer::Overseer;
use super::pulse::Shown;
use super::refused::not_taken;
use super::reload::{self, Reloader};
use super::room::Room;
use super::watch::{Rival, Seen, Sight};
use crate::accounting::writer::Running;
use crate::admin::{Backend, Reply, Request, members, views};
use crate::bridge::Cluster;
use crate::cli::print;
use crate::config::{Config, Member, Role};
use crate::control::{
    Ailment, CannotSwitch, Facts, Fitness, HAND_OVER_LIMIT, MAX_HAND_OVER_LAG, News, NotReady, Path, Place,
    Way, Word, unproved_by_word,
};
use crate::net::sip::Sip;
use crate::net::stream;
use crate::os::link::Link;

/// How long a request waits for its commit.
pub(super) const COMMIT_LIMIT: Duration = Duration::from_secs(5);
/// How often a hand-over asked for on a standby is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What answers need.
pub struct Desk<C> {
    /// The configuration as it was at the start: for what only a restart changes.
    pub config: Config,
    /// What the node goes by since the last reload; the addresses and domains of its engines say who is meant by an
    /// address of record.
    pub reloader: Arc<Reloader>,
    /// The cluster.
    pub cluster: C,
    /// What the control thread shows.
    pub live: Arc<Live>,
    /// The control thread.
    pub control: Handle,
    /// The SIP side; none on a witness.
    pub sip: Option<Arc<Sip>>,
    /// The clocks.
    pub clock: fn() -> Clocks,
    /// Writes the records of calls; none on a witness.
    pub records: Option<Running>,
    /// Room on the disk.
    pub room: Arc<Room>,
    /// What is seen of the interface of the floating IP.
    pub sight: Arc<Sight>,
    /// When the agent started.
    pub started: Instant,
    /// How the service does.
    pub overseer: Arc<Overseer<C>>,
}

impl<C: Cluster> Backend for Desk<C> {
    fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Status {} => Reply::Ok { ok: self.status() },
            Request::History { last } => self.history(last),
            Request::Switchover { node } => self.switchover(node),
            Request::UlShow { aor } => {
                let now = self.now().wall;
                match aor.as_deref().map(|aor| self.canonical(aor)).transpose() {
                    Ok(aor) => {
                        Reply::Ok { ok: self.cluster.read(|s| views::bindings(s, aor.as_deref(), now)) }
                    }
                    Err(reply) => reply,
                }
            }
            Request::UlRm { aor, contact } => self.ul_rm(&aor, contact),
            Request::DlgList {} => {
                let now = self.now().wall;
                Reply::Ok { ok: self.cluster.read(|s| views::dialogs(s, now)) }
            }
            Request::RouteExplain { ask } => self.route_explain(&ask),
            Request::Provision { ask } => self.provision(ask),
            Request::Dispatcher { ask } => self.dispatcher(ask),
            Request::Trace { ask } => self.trace(&ask),
            Request::Trunk { ask } => self.trunk(ask),
            Request::Dlg { ask } => self.dlg(&ask),
            Request::Cdr { ask } => self.cdr(ask),
            Request::Rtpengine { ask } => self.rtpengine(&ask),
            Request::Ban { ask } => self.ban(&ask),
            Request::Promote { fenced, sure } => self.promote(&fenced, sure),
            Request::Members { ask } => self.members(&ask),
            Request::Maintenance { ask } => self.maintenance(&ask),
            Request::Reload {} => self.reload(),
            Request::Backup { file, force } => self.backup(&file, force),
        }
    }
}

/// Connections, and what came of them.
fn tcp_figures(s: &stream::Figures) -> Value {
    json!({
        "connections": s.connections,
        "accepted": s.accepted,
        "made": s.made,
        "not_made": s.not_made,
        "refused": s.refused,
        "gave_way": s.gave_way,
        "slow": s.slow,
        "garbage": s.garbage,
        "timed_out": s.timed_out,
        "messages": s.messages,
        "pings": s.pings,
    })
}

/// What is seen of the floating IP on this machine; null where there is none.
fn vip_words(seen: &Seen, amended: &[Amended], now: MonoTime) -> Value {
    if seen.interface.is_empty() {
        return Value::Null;
    }
    let rival = |r: &Rival| {
        json!({
            "ip": r.ip, "mac": r.mac.to_string(), "times": r.times,
            "since_s": now.since(r.since).as_secs(), "heard_ms": ms(now.since(r.at)),
        })
    };
    let one = |a: &Amended| json!({ "what": a.what, "times": a.times, "age_s": now.since(a.at).as_secs() });
    json!({
        "interface": seen.interface,
        "link": if seen.link == Link::Up { "up" } else { "down" },
        "link_words": seen.link.to_string(),
        "link_since_s": now.since(seen.since).as_secs(),
        "conflicts": seen.rivals.iter().map(rival).collect::<Vec<_>>(),
        "put_right": amended.iter().map(one).collect::<Vec<_>>(),
    })
}

/// What is known of the way to and from another node.
fn path_words(place: Place, path: &Path) -> Value {
    let figures = |way: &Way| match way {
        Way::Unknown => json!({ "state": "unknown" }),
        Way::Whole { bytes, age } => json!({ "state": "whole", "bytes": bytes, "age_s": age.as_secs() }),
        Way::Narrow { bytes, lost, age } => {
            json!({ "state": "narrow", "bytes": bytes, "lost_bytes": lost, "age_s": age.as_secs() })
        }
        Way::Blocked { lost, age } => {
            json!({ "state": "blocked", "lost_bytes": lost, "age_s": age.as_secs() })
        }
    };
    let toward = match path.toward {
        Way::Narrow { bytes, .. } => Some(format!("packets over {bytes} bytes do not reach node {place}")),
        Way::Blocked { .. } => Some(format!("large messages do not reach node {place}")),
        Way::Unknown | Way::Whole { .. } => None,
    };
    let from = match path.from {
        Way::Narrow { bytes, .. } => {
            Some(format!("packets over {bytes} bytes from node {place} do not arrive here"))
        }
        Way::Blocked { .. } => Some(format!("large messages from node {place} do not arrive here")),
        Way::Unknown | Way::Whole { .. } => None,
    };
    let words: Vec<String> = toward.into_iter().chain(from).collect();
    let words = (!words.is_empty()).then(|| format!("{}: is the MTU of the way right?", words.join(", ")));
    json!({ "to": figures(&path.toward), "from": figures(&path.from), "words": words })
}

/// What media proxies were asked.
fn media_figures(e: &Counters) -> Value {
    json!({
        "offers": e.media_offers,
        "answers": e.media_answers,
        "deletes": e.media_deletes,
        "timeouts": e.media_timeouts,
        "failed": e.media_failed,
        "moved": e.media_moved,
        "restored": e.media_restored,
    })
}

/// The registrar's key of what an operator typed. `sip:` may be left out, also before a host with colons in it.
fn canonical(engine: &EngineConfig, aor: &str) -> Result<String, Reply> {
    let text = if has_scheme(aor) { aor.to_owned() } else { format!("sip:{aor}") };
    Uri::parse(&text).ok().and_then(|uri| engine.aor(&uri, None)).ok_or_else(|| no_aor(aor))
}

fn has_scheme(aor: &str) -> bool {
    aor.split_once(':').is_some_and(|(scheme, _)| !scheme.contains('@'))
}

fn no_aor(aor: &str) -> Reply {
    Reply::error(format!("{aor:?} is no address of record"), "write it as sip:user@domain")
}

impl<C: Cluster> Desk<C> {
    /// What the node goes by now.
    pub(in crate::run) fn running(&self) -> Arc<reload::Running> {
        self.reloader.running()
    }

    /// What an engine would be told of the time.
    pub(in crate::run) fn now(&self) -> Now {
        self.cluster.now((self.clock)())
    }

    /// The same, also of a bare user name where only one domain can be meant, as the commands for subscribers take it.
    pub(in crate::run) fn canonical(&self, aor: &str) -> Result<String, Reply> {
        if has_scheme(aor) || aor.contains('@') {
            return canonical(&self.running().engine, aor);
        }
        Uri::parse(&format!("sip:{aor}@localhost")).map_err(|_| no_aor(aor))?;
        canonical(&self.running().engine, &format!("{aor}@{}", self.own_domain(aor)?))
    }
}

impl<C: Cluster> Desk<C> {
    fn status(&self) -> Value {
        let facts = self.cluster.facts();
        let now = (self.clock)();
        let picture = self.live.picture();
        let active = picture.active(now.mono);
        let left = picture.lease_until.filter(|_| active).map(|end| end.since(now.mono).as_millis() as u64);
        let (counts, records) = self.cluster.read(|s| (s.counts(), s.outbox_figures()));
        let holder = facts.grant.map(|g| g.holder);
        let said = self.cluster.said();
        let peers: Vec<Value> = self
            .config
            .nodes
            .iter()
            .filter(|m| m.id != self.config.id)
            .map(|m| {
                let peer = facts.peers.iter().find(|p| p.place == m.id);
                let said = said.iter().find(|s| s.place == m.id);
                // What its answers prove to the leader; else its own word of a moment ago.
                let behind = said.map(|s| facts.applied.saturating_sub(s.applied));
                json!({
                    "node": m.id,
                    "role": m.role.word(),
                    "addr": m.addr.to_string(),
                    "lag": peer.and_then(|p| p.lag).or(behind),
                    "applied": said.map(|s| s.applied),
                    "said_ms": said.map(|s| ms(now.mono.since(s.at))),
                    "clock_ahead_ms": facts.skew.get(&m.id),
                    "last_ack_ms": peer.and_then(|p| p.last_ack).map(|at| ms(now.mono.since(at))),
                    "path": facts.paths.iter().find(|(place, _)| *place == m.id).map(|(_, path)| path_words(m.id, path)),
                    "unanswered_ms": peer.and_then(|p| p.unanswered).map(|at| ms(now.mono.since(at))),
                    "acknowledges_in_ms": peer.and_then(|p| p.acknowledges_in).map(ms),
                    "reads": self.cluster.reads(m.id).map(|v| [v.first, v.last]),
                    "round_trip_ms": peer.and_then(|p| p.round_trip).map(|(took, _)| ms(took)),
                    "round_trip_slowest_ms": peer.and_then(|p| p.round_trip).map(|(_, slowest)| ms(slowest)),
                })
            })
            .collect();
        let standing = self.overseer.standing();
        json!({
            "verdict": {
                "level": standing.verdict.level.word(),
                "code": standing.verdict.level.code(),
                "words": standing.verdict.words(),
                "server": standing.verdict.server,
                "losses_borne": standing.verdict.borne,
                "lasts_s": standing.lasts.as_secs(),
                "since_ms": standing.since.0,
            },
            "floating_ip": self.config.vip.iter().flat_map(|vip| &vip.addresses).map(|(ip, _)| ip.to_string()).collect::<Vec<_>>(),
            "times": {
                "heartbeat_ms": ms(self.config.heartbeat),
                "lease_ms": ms(self.config.lease()),
                "misfit": self.overseer.misfit(&facts),
            },
            "node": self.config.id,
            "role": self.config.role.word(),
            "active": active,
            "leader": facts.leader,
            "holder": holder,
            "holder_active": if facts.leading { active } else { facts.leader.is_some() && facts.leader == holder },
            "token": facts.grant.map(|g| g.token),
            "lease_ms_left": left,
            "term": facts.term,
            "rebirths": rebirths_of(facts.term),
            "waits": self.cluster.waits(),
            "membership": members::summary(&self.config, &self.cluster.members()),
            "leading": facts.leading,
            "applied": facts.applied,
            "last_log": facts.last_log,
            "peers": peers,
            "counts": {
                "bindings": counts.bindings,
                "dialogs": counts.dialogs,
                "pending_invites": counts.pending_invites,
                "subscribers": counts.subscribers,
                "domains": counts.domains,
                "aliases": counts.aliases,
                "acl": counts.acl,
                "subscriptions": counts.subscriptions,
                "messages": counts.messages,
                "cdr_waiting": records.waiting,
                "cdr_lost": records.lost,
            },
            "cluster": self.config.cluster,
            "cluster_time_ms": self.cluster.now(now).wall.0,
            "wall_time_ms": now.real.0,
            "version": env!("CARGO_PKG_VERSION"),
            "format": print::format(),
            "pid": std::process::id(),
            "uptime_s": self.started.elapsed().as_secs(),
            "takeovers": picture.takeovers,
            "longest_round_ms": ms(picture.longest_round),
            "oldest_proposal_ms": facts.oldest_waits.map(ms),
            "pulses": pulses(&picture.pulses),
            "trouble": picture.trouble,
            "pause": facts.pause.as_ref().map(|pause| self.pause_words(pause)),
            "planned_switchover": facts.planned.map(|planned| self.planned_words(planned, &facts)),
            "vip": vip_words(&self.sight.seen(), &picture.amended, now.mono),
            "unfit": picture.fitness.iter().filter(|(_, f)| f.is_grave()).map(|(place, _)| place).collect::<Vec<_>>(),
            "disk": self.disk(&facts, &picture.fitness),
            "fitness": self.candidates(&facts, &picture.fitness),
            "counters": self.counters(),
        })
    }

    /// Who may be given the service, in which order, and why.
    fn candidates(&self, facts: &Facts, known: &[(Place, Fitness)]) -> Vec<Value> {
        let of =
            |place| known.iter().find(|(p, _)| *p == place).map_or(Fitness::FIT, |(_, fitness)| *fitness);
        let one = |m: &Member| candidates::Known {
            place: m.id,
            appliance: m.role == Role::Appliance,
            answers: self.answers(m.id),
            learns: facts.is_learner(m.id),
            fitness: of(m.id),
        };
        let nodes: Vec<candidates::Known> = self.config.nodes.iter().map(one).collect();
        candidates::list(&nodes, facts.grant.map(|g| g.holder), facts.pause.is_some())
    }

    /// How quick the disk of this node is, how much room it has, and what is refused for the want of it.
    fn disk(&self, facts: &Facts, known: &[(Place, Fitness)]) -> Value {
        let full: Vec<Place> = known.iter().filter(|(_, f)| f.has(Ailment::Full)).map(|(p, _)| *p).collect();
        let mut disk = json!({
            "sync_typical_ms": ms(facts.syncs.typical),
            "sync_slowest_ms": ms(facts.syncs.slowest),
            "waiting_ms": facts.syncs.waiting.map(ms),
        });
        let Some((free, low)) = self.room.figures() else { return disk };
        let trouble = full
            .contains(&self.config.id)
            .then(|| format!("nearly full: {} MiB are free, {} are needed", free >> 20, low >> 20));
        let trouble = match self.room.unwritten() {
            0 => trouble,
            bytes => Some(format!("full: {bytes} bytes wait to be written, {} MiB are free", free >> 20)),
        };
        disk["free_bytes"] = json!(free);
        disk["low_bytes"] = json!(low);
        disk["unwritten_bytes"] = json!(self.room.unwritten());
        disk["trouble"] = json!(trouble);
        disk["full_nodes"] = json!(full);
        disk
    }

    fn counters(&self) -> Value {
        let Some(sip) = &self.sip else { return Value::Null };
        let f = sip.figures();
        let e = f.engines;
        json!({
            "datagrams": f.datagrams,
            "oversized": f.oversized,
            "without_call_id": f.without_call_id,
            "keepalives": f.keepalives,
            "queue_full": f.queue_full,
            "send_failed": f.send_failed,
            "unreachable": f.unreachable,
            "received": e.received,
            "sent": e.sent,
            "dropped_malformed": e.dropped_malformed,
            "dropped_stray": e.dropped_stray,
            "foreign": e.foreign,
            "straightened": e.straightened,
            "dropped_inactive": e.dropped_inactive,
            "dropped_overload": e.dropped_overload,
            "dropped_flood": e.dropped_flood,
            "dropped_scanner": e.dropped_scanner,
            "banned": e.banned,
            "rejected": e.rejected,
            "retransmissions_in": e.retransmissions_in,
            "retransmissions_out": e.retransmissions_out,
            "rebuilt": e.rebuilt,
            "originated": e.originated,
            "originated_refused": e.originated_refused,
            "originated_timeouts": e.originated_timeouts,
            "abandoned": e.abandoned,
            "moved": e.moved,
            "late_answers": e.late_answers,
            "transport_failures": e.transport_failures,
            "refused_unrecorded": e.refused_unrecorded,
            "strangers_refused": e.strangers_refused,
            "left_out": e.left_out,
            "media": media_figures(&e),
            "dns": { "asked": e.dns_asked, "failed": e.dns_failed },
            "nat_pings": e.nat_pings,
            "tcp": tcp_figures(&f.streams),
        })
    }

    fn ul_rm(&self, aor: &str, contact: Option<String>) -> Reply {
        let aor = match self.canonical(aor) {
            Ok(aor) => aor,
            Err(reply) => return reply,
        };
        let (tx, rx) = sync_channel(1);
        let one = contact.is_some();
        let command = SipCommand::Unregister { aor: aor.clone(), contact };
        // The receiver may have given up waiting.
        self.cluster.operate(command, Box::new(move |outcome| drop(tx.try_send(outcome))));
        match rx.recv_timeout(COMMIT_LIMIT) {
            Ok(Ok(SipResponse::NotFound)) => {
                let which = if one { "has no such contact" } else { "has no contacts" };
                Reply::error(format!("{aor} {which}"), "see what there is: relevo ul show")
            }
            Ok(Ok(_)) => Reply::Ok { ok: json!({ "removed": true, "aor": aor }) },
            Ok(Err(why)) => not_taken(why),
            Err(_) => {
                Reply::error("the cluster did not answer in time", "see relevo status: is there a leader?")
            }
        }
    }

    /// A hand-over that does not come about is kept in the history: whoever comes later sees what was tried.
    fn switchover(&self, target: Option<Place>) -> Reply {
        let reply = self.hand_over(target);
        if let Reply::Error { error, .. } = &reply {
            let why = Some(format!("switchover: {error}"));
            let at = self.now().wall;
            self.cluster.tell(Event { kind: EventKind::Refused, at, to: target, why, ..Event::default() });
        }
        reply
    }

    fn hand_over(&self, target: Option<Place>) -> Reply {
        let begun = Instant::now();
        if !self.live.picture().active((self.clock)().mono) {
            return self.switchover_from_afar(target, begun);
        }
        let (tx, rx) = sync_channel(1);
        if !self.control.tell(Message::Switchover { target, reply: tx }) {
            return Reply::error("the control thread is busy", "try again in a moment");
        }
        match rx.recv_timeout(HAND_OVER_LIMIT + Duration::from_secs(1)) {
            Ok(Outcome::Ended(News::SwitchedOver { to })) => done(to, begun),
            Ok(Outcome::Ended(News::SwitchoverFailed { to, holder })) => {
                failed(to, holder, self.live.picture().refused)
            }
            Ok(Outcome::Ended(News::NotBegun { to, why })) => {
                refusal(&CannotSwitch::NotReady { why: vec![(to, why)] })
            }
            Ok(Outcome::Cannot(CannotSwitch::NotActive { .. })) => self.switchover_from_afar(target, begun),
            Ok(Outcome::Cannot(why)) => refusal(&why),
            Err(_) => failed(target.unwrap_or(0), self.cluster.facts().grant.map(|g| g.holder), None),
        }
    }

    /// Asked on a node that is not active: if the target can take over by the words of all nodes, the grant goes to the
    /// leader through the log. Whoever holds the service obeys it, or takes it back if the target does not take over.
    fn switchover_from_afar(&self, target: Option<Place>, begun: Instant) -> Reply {
        let facts = self.cluster.facts();
        let holder = facts.grant.map(|g| g.holder);
        let appliances: Vec<Place> =
            self.config.nodes.iter().filter(|m| m.role == Role::Appliance).map(|m| m.id).collect();
        let me = Some(self.config.id).filter(|_| self.config.role == Role::Appliance);
        let to = target
            .or(me.filter(|me| holder != Some(*me)))
            .or_else(|| appliances.iter().copied().find(|p| Some(*p) != holder));
        let Some(to) = to else {
            return refusal(&CannotSwitch::NotReady { why: Vec::new() });
        };
        if !appliances.contains(&to) {
            return refusal(&CannotSwitch::NoAppliance { appliances });
        }
        if holder == Some(to) {
            return refusal(&CannotSwitch::AlreadyThere);
        }
        let fitness = facts.fitness_of(to);
        if fitness.yields_to(holder.map_or(Fitness::FIT, |h| facts.fitness_of(h))) {
            return refusal(&CannotSwitch::NotReady { why: vec![(to, NotReady::Unfit(fitness))] });
        }
        let now = (self.clock)().mono;
        let said = self.cluster.said().into_iter().map(|said| (said.place, said.applied, said.at));
        // The others were asked at one moment; what this node has applied since would make them look late.
        let own = (to == self.config.id).then_some((to, facts.applied, now));
        let words: Vec<Word> = said.chain(own).collect();
        if let Some(why) = unproved_by_word(now, to, &words) {
            return refusal(&CannotSwitch::NotReady { why: vec![(to, why)] });
        }
        let (tx, rx) = sync_channel(1);
        self.cluster.grant(
            to,
            GrantReason::Switchover,
            Box::new(move |ok| {
                // The receiver may have given up waiting.
                let _ = tx.try_send(ok);
            }),
        );
        if !matches!(rx.recv_timeout(COMMIT_LIMIT), Ok(true)) {
            let ask = holder.map_or_else(String::new, |h| format!(", or ask node {h}"));
            return Reply::error("the cluster did not take the grant", format!("see relevo status{ask}"));
        }
        while begun.elapsed() < HAND_OVER_LIMIT {
            let facts = self.cluster.facts();
            let is = |f: &Facts| f.leader == Some(to) && f.grant.is_some_and(|g| g.holder == to);
            if is(&facts) {
                return done(to, begun);
            }
            std::thread::sleep(LOOK);
        }
        failed(to, self.cluster.facts().grant.map(|g| g.holder), None)
    }
}

/// What ails a node, in words.
fn words(fitness: Fitness) -> String {
    let list: Vec<String> = fitness.ailments().map(|a| format!("{a} ({})", a.meaning())).collect();
    list.join(", ")
}

/// The threads that calls need, and for how long each has had work without getting any further.
fn pulses(all: &[Shown]) -> Value {
    let one = |p: &Shown| json!({ "thread": p.name, "waits_ms": p.waits.map(ms), "stopped": p.stopped });
    all.iter().map(one).collect()
}

fn done(to: Place, begun: Instant) -> Reply {
    Reply::Ok { ok: json!({ "holder": to, "ms": ms(begun.elapsed()) }) }
}

fn failed(to: Place, holder: Option<Place>, why: Option<String>) -> Reply {
    let holder = holder.map_or_else(|| String::from("nobody"), |h| format!("node {h}"));
    Reply::error(
        match why {
            Some(why) => format!("node {to} did not take over ({why}); the service is granted to {holder}"),
            None => format!("node {to} did not take over in time; the service is granted to {holder}"),
        },
        "see relevo status on every node, then try again",
    )
}

/// Why a switchover cannot begin, in words.
pub(super) fn refusal(why: &CannotSwitch) -> Reply {
    match why {
        CannotSwitch::NotActive { holder: Some(holder) } => {
            Reply::error("this node is not active", format!("ask node {holder}, which holds the service"))
        }
        CannotSwitch::NotActive { holder: None } => {
            Reply::error("nobody holds the service", "see relevo status: is there a leader?")
        }
        CannotSwitch::AlreadyThere => Reply::error("that node holds the service already", "name another one"),
        CannotSwitch::NoAppliance { appliances } => {
            let list: Vec<String> = appliances.iter().map(Place::to_string).collect();
            let cure = match list.len() {
                ..2 => String::from("there is no other one; add one to [[cluster.node]]"),
                _ => format!("name one of: {}", list.join(", ")),
            };
            Reply::error("that is no appliance of this cluster: only an appliance can hold the service", cure)
        }
        CannotSwitch::NotReady { why } if why.is_empty() => {
            Reply::error("there is no other appliance", "add one to [[cluster.node]]")
        }
        CannotSwitch::NotReady { why } => {
            let list: Vec<String> = why
                .iter()
                .map(|(place, why)| match why {
                    NotReady::PathBlocked => {
                        format!("large messages do not pass between this node and node {place}")
                    }
                    NotReady::JustStarted => format!("node {place} has just started"),
                    NotReady::Learner => format!("node {place} is being taken in, and does not vote yet"),
                    NotReady::OutOfReach => format!("node {place} does not answer"),
                    NotReady::Behind(lag) => {
                        format!("node {place} is {lag} entries behind (at most {MAX_HAND_OVER_LAG})")
                    }
                    NotReady::Unfit(fitness) => {
                        format!(
                            "node {place} would hand the service back, for it is ailing: {}",
                            words(*fitness)
                        )
                    }
                })
                .collect();
            Reply::error(list.join(", "), "start or mend it; relevo status shows when it has caught up")
        }
        CannotSwitch::Busy => {
            Reply::error("a hand-over is under way already", "wait for its end: relevo status")
        }
    }
}

/// Milliseconds with three digits behind the point.
fn ms(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_may_name_a_user_by_domain_or_floating_address_with_or_without_sip() {
        let engine = EngineConfig {
            domains: vec!["lab.test".into()],
            listen: ["10.77.0.100:5060", "[fd77::100]:5060"].map(|a| a.parse().expect("address")).to_vec(),
            ..EngineConfig::default()
        };
        for typed in ["alice@lab.test", "alice@10.77.0.100", "alice@10.77.0.100:5060", "alice@[fd77::100]"] {
            for text in [typed.to_owned(), format!("sip:{typed}"), format!("sips:{typed}")] {
                assert!(matches!(canonical(&engine, &text).as_deref(), Ok("sip:alice@lab.test")), "{text}");
            }
        }
        assert!(canonical(&engine, "mailto:alice@lab.test").is_err());
    }
}
