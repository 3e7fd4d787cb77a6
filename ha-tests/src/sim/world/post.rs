//! What travels: it arrives, and machines send more.

use openraft::async_runtime::WatchReceiver;
use raft_store::node::Place;
use raft_store::node::client::Lane;
use raft_store::node::inbound::Rpc;

use super::World;
use crate::sim::broken::Mutation;
use crate::sim::net::{Body, Letter, Parcel};
use crate::sim::rtp;
use crate::sim::service::Done;
use crate::sim::sip;

impl World {
    /// What has come to its end of the way by now.
    pub(super) fn arrive(&mut self) {
        let now = self.now;
        for parcel in self.net.arrivals(now) {
            match parcel {
                Parcel::Letter(letter) => self.letter(letter),
                Parcel::ToProxy { from, bytes } => {
                    if let Some(machine) = self.machines.iter_mut().find(|m| m.answers(now)) {
                        machine.datagram(from, bytes);
                    }
                }
                Parcel::Unreachable { at } => {
                    if let Some(machine) = self.machines.iter_mut().find(|m| m.answers(now)) {
                        machine.unreachable(at);
                    }
                }
                Parcel::Resolved { place, question } => {
                    if let Some(machine) = self.machine(place) {
                        machine.resolved(question);
                    }
                }
                Parcel::ToMedia { place, to, bytes } => {
                    if let Some(answer) = self.phones.rtp.on(to, &bytes) {
                        if let Some(call) = rtp::answers(&bytes).filter(|c| self.phones.rtp.forgot(to, c)) {
                            self.judge.media.forgotten(call);
                        }
                        if let Some(call) = rtp::deletes(&bytes) {
                            self.judge.media.heard(to, &call);
                        }
                        self.net.media(now, Parcel::FromMedia { place, from: to, bytes: answer });
                    }
                }
                Parcel::FromMedia { place, from, bytes } => {
                    if let Some(machine) = self.machine(place) {
                        machine.media(from, bytes);
                    }
                }
                Parcel::ToPhone { to, .. } if self.phones.is_absent(to) => {
                    self.net.datagram(now, Parcel::Unreachable { at: to });
                }
                Parcel::ToPhone { to, bytes } => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    for (from, text) in self.phones.on(to, &text, now, &mut self.phone_rng) {
                        self.net.datagram(now, Parcel::ToProxy { from, bytes: text.into_bytes() });
                    }
                }
            }
        }
    }

    fn letter(&mut self, letter: Letter) {
        let Letter { from, to, body } = letter;
        self.look_at_heartbeat(to, &body);
        let Some(machine) = self.machine(to) else { return };
        match (&mut machine.agent, body) {
            (Some(agent), Body::Answer { call, run, lane, reply, vote }) => {
                if run == agent.process.run() {
                    agent.process.deliver(from, Body::Answer { call, run, lane, reply, vote });
                }
            }
            (Some(agent), body) => agent.process.deliver(from, body),
            (None, Body::Ask { call, run, lane, .. }) if machine.power => {
                // The kernel of a machine without agent refuses the connection.
                let body = Body::Answer { call, run, lane, reply: None, vote: false };
                self.net.send(self.now, Letter { from: to, to: from, body });
            }
            (None, _) => {}
        }
    }

    /// Whether a heartbeat names what the log that it comes to lacks: from its answer on its node knows that it has forgotten.
    fn look_at_heartbeat(&mut self, to: Place, body: &Body) {
        let Body::Ask { lane: Lane::Control, target, run, call, rpc: Rpc::Append(rpc) } = body else {
            return;
        };
        let Some(named) = rpc.prev_log_id.filter(|_| rpc.entries.is_empty()) else { return };
        let Some(machine) = self.machines.iter().find(|m| m.place == to && m.id == Some(*target)) else {
            return;
        };
        let Some(running) = machine.agent.as_ref().and_then(|a| a.process.running()) else { return };
        let term = running.core.raft().metrics().borrow_watched().current_term;
        let (end, purged) =
            running.log.with(|log| (log.entries().end, log.purged().map_or(0, |(index, _)| index)));
        if rpc.vote.leader_id.term >= term && named.index >= end && named.index > purged {
            self.judge.memory.told(*target, *run, *call);
        }
    }

    /// The engine of a machine sends this; its kernel lets it pass or not.
    pub(super) fn post(&mut self, place: Place, done: &mut Done) {
        let now = self.now;
        let passes = self.machine(place).is_some_and(|m| m.answers(now));
        for question in std::mem::take(&mut done.questions) {
            self.net.ask(now, place, question);
        }
        for (to, bytes) in std::mem::take(&mut done.media) {
            let deleted = rtp::deletes(&bytes);
            let arrives = if passes || self.site.mutation == Mutation::NoLease {
                self.trace.say(format!("node {place} -> {to} {}", rtp::short(&bytes)));
                if !passes {
                    self.judge.accuse(format!(
                        "invariant 13: node {place} asks an rtpengine though its lease is over: {}",
                        rtp::short(&bytes)
                    ));
                }
                self.net.media(now, Parcel::ToMedia { place, to, bytes })
            } else {
                self.trace.say(format!("node {place} has no lease for {}", rtp::short(&bytes)));
                false
            };
            if let Some(call) = deleted.filter(|_| !arrives) {
                self.judge.media.unheard(place, to, call, now);
            }
        }
        for (to, bytes) in std::mem::take(&mut done.datagrams) {
            let text = String::from_utf8_lossy(&bytes);
            if !passes {
                self.trace.say(format!("node {place}: the gate drops {}", sip::short(&text)));
                continue;
            }
            self.trace.say(format!("node {place} -> {to} {}", sip::short(&text)));
            self.judge.sent(place, &text, now);
            self.net.datagram(now, Parcel::ToPhone { to, bytes });
        }
    }
}
