//! Questions to rtpengines that are under way.
//!
//! | event | then |
//! |---|---|
//! | the answer | what waits goes on |
//! | none for a moment | the same datagram again, at growing intervals: the cookie makes it one question |
//! | none within `MediaConfig::timeout` | the rtpengine counts as dead until it answers a ping; what waits tries another |
//! | a later offer or the end of the call, while a session is told again | that is void: what comes now counts |
//! | one is dead, or answers again, or is dead and not configured any more | the cluster is told: who takes over does not begin with a dead one |
//! | silence for `MediaConfig::ping`, or dead for [`DEAD_PING`] | a ping |

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::choice::{self, Health};
use super::ng::{self, Said, Talk, Verb};
use super::restore::{Pair, Restore};
use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::state::{MediaCommand, SipCommand, SipState};
use crate::time::{MonoTime, Now};

/// Questions of one engine under way; what needs one more is treated as if nobody had answered.
pub const MAX_QUESTIONS: usize = 8192;
/// How often one that is dead is asked whether it is back.
pub const DEAD_PING: Duration = Duration::from_secs(2);
/// When a question is repeated first; each further time takes twice as long.
const FIRST_REPEAT: Duration = Duration::from_millis(100);

/// Questions under way.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: BTreeMap<u64, Question>,
    /// Deletions, by Call-ID and rtpengine: a call that was moved has one at each. A new offer there makes them void.
    deletions: BTreeMap<(String, SocketAddr), u64>,
    /// Sessions that are being told again. A new offer of the same two makes them void, and so does the end of the call.
    restores: BTreeMap<Pair, u64>,
}

#[derive(Debug)]
struct Question {
    node: SocketAddr,
    cookie: String,
    bytes: Vec<u8>,
    repeat_at: MonoTime,
    interval: Duration,
    ends: MonoTime,
    purpose: Purpose,
}

/// What the answer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// This message waits for it.
    Waiter(u64),
    /// A call is over.
    Delete(String),
    /// To know that it is there.
    Ping,
    /// An offer was refused: it is told what holds.
    Restore(Box<Restore>),
}

impl Engine {
    /// Has SDP taken for a message that waits. `false` if there are too many questions.
    pub(super) fn ask_media(&mut self, cx: Cx<'_>, node: SocketAddr, talk: Talk<'_>, waiter: u64) -> bool {
        match talk.verb {
            Verb::Offer => self.counters.media_offers += 1,
            _ => self.counters.media_answers += 1,
        }
        if let Some(id) = self.media.questions.deletions.remove(&(talk.call_id.to_owned(), node)) {
            // Its retransmission would end what begins here.
            self.end_question(id);
        }
        if let Some(answerer) = talk.answerer {
            self.drop_restore(&Pair::new(talk.call_id, talk.offerer, answerer));
        }
        self.question(cx, node, Purpose::Waiter(waiter), |cookie| ng::talk(cookie, talk))
    }

    /// Has a call forgotten.
    pub(super) fn ask_delete(&mut self, cx: Cx<'_>, node: SocketAddr, call_id: &str, from_tag: &str) {
        if self.media.questions.deletions.contains_key(&(call_id.to_owned(), node)) {
            return;
        }
        // Its retransmission would begin the call anew there.
        self.drop_restores_of(call_id, node);
        self.counters.media_deletes += 1;
        let purpose = Purpose::Delete(call_id.to_owned());
        self.question(cx, node, purpose, |cookie| ng::delete(cookie, call_id, from_tag));
    }

    /// Has the next part of what holds told again: the offer, then the answer.
    pub(super) fn ask_restore(&mut self, cx: Cx<'_>, restore: Box<Restore>) {
        self.drop_restore(&restore.pair());
        let node = restore.node;
        let told = restore.clone();
        self.question(cx, node, Purpose::Restore(restore), |cookie| ng::talk(cookie, told.talk()));
    }

    fn drop_restore(&mut self, pair: &Pair) {
        if let Some(id) = self.media.questions.restores.remove(pair) {
            self.end_question(id);
        }
    }

    fn drop_restores_of(&mut self, call_id: &str, node: SocketAddr) {
        let questions = &self.media.questions;
        let from = Pair::first_of(call_id);
        let of_call = questions.restores.range(from..).take_while(|(pair, _)| pair.call_id == call_id);
        let there = |id: &u64| questions.open.get(id).is_some_and(|q| q.node == node);
        let ids: Vec<u64> = of_call.map(|(_, id)| *id).filter(there).collect();
        for id in ids {
            self.end_question(id);
        }
    }

    fn question(
        &mut self,
        cx: Cx<'_>,
        node: SocketAddr,
        purpose: Purpose,
        make: impl FnOnce(&str) -> Vec<u8>,
    ) -> bool {
        if self.media.questions.open.len() >= MAX_QUESTIONS {
            self.counters.dropped_overload += 1;
            return false;
        }
        let id = self.new_id();
        let now = cx.now.mono;
        // An rtpengine answers a cookie that it has seen with what it said then, whoever asks: so it has to be another
        // one after a restart, and on another node.
        let parts = [cx.now.wall.0.to_be_bytes(), now.0.to_be_bytes(), id.to_be_bytes()];
        let parts: Vec<&[u8]> = parts.iter().map(<[u8; 8]>::as_slice).collect();
        let number = self.settings.keys.own_number("cookie", &parts);
        let cookie = format!("{:x}_{id:x}_{number:016x}", self.settings.config.shard);
        let bytes = make(&cookie);
        self.send_to_media(node, &bytes);
        let ends = now + self.settings.config.media.timeout;
        let repeat_at = (now + FIRST_REPEAT).min(ends);
        if let Purpose::Delete(call_id) = &purpose {
            self.media.questions.deletions.insert((call_id.clone(), node), id);
        }
        if let Purpose::Restore(restore) = &purpose {
            self.media.questions.restores.insert(restore.pair(), id);
        }
        self.set_media_timer(id, Some(repeat_at));
        let question = Question { node, cookie, bytes, repeat_at, interval: FIRST_REPEAT, ends, purpose };
        self.media.questions.open.insert(id, question);
        true
    }

    fn end_question(&mut self, id: u64) -> Option<(SocketAddr, Purpose)> {
        let question = self.media.questions.open.remove(&id)?;
        self.set_media_timer(id, None);
        if let Purpose::Delete(call_id) = &question.purpose {
            self.media.questions.deletions.remove(&(call_id.clone(), question.node));
        }
        if let Purpose::Restore(restore) = &question.purpose {
            self.media.questions.restores.remove(&restore.pair());
        }
        Some((question.node, question.purpose))
    }

    /// Nobody waits for this answer any more.
    pub(super) fn drop_question_of(&mut self, waiter: u64) {
        let purpose = Purpose::Waiter(waiter);
        let of = self.media.questions.open.iter().find(|(_, q)| q.purpose == purpose).map(|(id, _)| *id);
        if let Some(id) = of {
            self.end_question(id);
        }
    }

    /// Takes a datagram that came from a media proxy. One that answers nothing is dropped and counted.
    pub fn handle_media(&mut self, now: Now, from: SocketAddr, bytes: &[u8], state: &SipState) {
        if !self.is_active() {
            self.counters.dropped_inactive += 1;
            return;
        }
        let cx = Cx { now, state };
        let Some((id, said)) = self.question_answered(from, bytes) else {
            self.counters.dropped_stray += 1;
            return;
        };
        let Some((node, purpose)) = self.end_question(id) else { return };
        self.media.fares.entry(node).or_default().heard_at = Some(now.mono);
        self.note_health(cx, node, false);
        self.contain(
            || format!("what media proxy {node} said"),
            |engine| match purpose {
                Purpose::Waiter(waiter) => engine.on_media_said(cx, waiter, said),
                Purpose::Restore(restore) => engine.on_restore_said(cx, restore, &said),
                Purpose::Delete(_) | Purpose::Ping => {}
            },
        );
        self.read_news(cx);
    }

    fn question_answered(&self, from: SocketAddr, bytes: &[u8]) -> Option<(u64, Said)> {
        let (cookie, said) = ng::heard(bytes)?;
        let id = u64::from_str_radix(cookie.split('_').nth(1)?, 16).ok()?;
        let question = self.media.questions.open.get(&id)?;
        let same = |a: SocketAddr, b: SocketAddr| {
            a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
        };
        (question.cookie == cookie && same(question.node, from)).then_some((id, said))
    }

    /// A question is repeated, or given up.
    pub(crate) fn on_media_timeout(&mut self, cx: Cx<'_>, id: u64) {
        let now = cx.now.mono;
        let Some(question) = self.media.questions.open.get_mut(&id) else { return };
        if now < question.ends {
            question.interval *= 2;
            question.repeat_at = (now + question.interval).min(question.ends);
            let (node, bytes, at) = (question.node, question.bytes.clone(), question.repeat_at);
            self.send_to_media(node, &bytes);
            self.set_media_timer(id, Some(at));
            return;
        }
        let Some((node, purpose)) = self.end_question(id) else { return };
        self.counters.media_timeouts += 1;
        self.note_health(cx, node, true);
        match purpose {
            Purpose::Waiter(waiter) => self.on_media_silent(cx, waiter),
            Purpose::Restore(_) => self.counters.media_failed += 1,
            Purpose::Delete(_) | Purpose::Ping => {}
        }
    }

    /// What was noticed of one. The cluster is told if it knows otherwise, so that who takes over need not find out.
    fn note_health(&mut self, cx: Cx<'_>, node: SocketAddr, dead: bool) {
        let health = self.media.fares.entry(node).or_default();
        health.dead = dead;
        let known = cx.state.media_nodes().dead.contains_key(&node);
        if known == dead || health.told == Some(dead) {
            return;
        }
        health.told = Some(dead);
        let command = MediaCommand::Health { node, dead, at: cx.now.wall };
        self.propose(SipCommand::Media(command), Awaiting::Nothing);
    }

    /// This node has taken over: those that the last owner knew to be dead are asked at once whether they are.
    pub(crate) fn media_begins(&mut self, cx: Cx<'_>) {
        let nodes = self.settings.config.media.nodes.iter().map(|n| n.address);
        let dead: BTreeSet<SocketAddr> =
            nodes.filter(|n| choice::is_dead(*n, &self.media.fares, cx.state)).collect();
        for node in dead {
            let health = Health { dead: true, pinged_at: Some(cx.now.mono), ..Health::default() };
            self.media.fares.insert(node, health);
            self.question(cx, node, Purpose::Ping, ng::ping);
        }
    }

    /// Nobody asks one that is not configured any more whether it is back, so it would be dead for ever.
    fn forget_removed_nodes(&mut self, cx: Cx<'_>) {
        let nodes = &self.settings.config.media.nodes;
        let dead = cx.state.media_nodes().dead.keys();
        let removed: Vec<SocketAddr> =
            dead.filter(|dead| nodes.iter().all(|n| n.address != **dead)).copied().collect();
        for node in removed {
            let command = MediaCommand::Health { node, dead: false, at: cx.now.wall };
            self.propose(SipCommand::Media(command), Awaiting::Nothing);
        }
    }

    /// Pings those that have been silent, and those that are dead. What the cluster has been told may be said again.
    pub(crate) fn media_tick(&mut self, cx: Cx<'_>) {
        self.forget_ended(cx);
        if self.is_first_shard() {
            self.forget_removed_nodes(cx);
        }
        if self.settings.config.media.nodes.is_empty() {
            return;
        }
        let now = cx.now.mono;
        let interval = self.settings.config.media.ping;
        let mut nodes: Vec<SocketAddr> = self.settings.config.media.nodes.iter().map(|n| n.address).collect();
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            let health = self.media.fares.entry(node).or_default();
            health.told = None;
            let dead = health.dead || cx.state.media_nodes().dead.contains_key(&node);
            let wait = if dead { DEAD_PING } else { interval };
            let last = health.pinged_at.max(health.heard_at);
            let due = !wait.is_zero() && last.is_none_or(|at| at + wait <= now);
            if due {
                health.pinged_at = Some(now);
                self.question(cx, node, Purpose::Ping, ng::ping);
            }
        }
    }
}
