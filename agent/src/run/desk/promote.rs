//! `relevo promote`: this node becomes the whole cluster, because an operator has fenced all others.

use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use raft_store::node::promote::Prospect;
use raft_store::node::rebirths_of;
use serde_json::{Value, json};

use crate::admin::Reply;
use crate::bridge::Cluster;
use crate::config::Role;
use crate::run::backend::Desk;
use crate::run::evidence::{self, Suspect};
use crate::run::setup;

/// How long the store may take to answer: two rounds of questions to others that are silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long the node may take to come back: it waits for others that are silent for 18 s at most.
const BEGIN_LIMIT: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long an answer may take.
pub const LIMIT: Duration = Duration::from_secs(75);

impl<C: Cluster> Desk<C> {
    pub(in crate::run) fn promote(&self, fenced: &[u16], sure: bool) -> Reply {
        let refuse = |refusal: raft_store::node::members::Refusal| Reply::error(refusal.error, refusal.cure);
        let notes = match self.signs_of_life(fenced) {
            Ok(notes) => notes,
            Err(reply) => return reply,
        };
        let before = rebirths_of(self.cluster.facts().term);
        let (tx, rx) = sync_channel(1);
        // The receiver may have given up waiting.
        self.cluster.promote(fenced.to_vec(), sure, Box::new(move |outcome| drop(tx.try_send(outcome))));
        let prospect = match rx.recv_timeout(ANSWER_LIMIT) {
            Ok(Ok(prospect)) => prospect,
            Ok(Err(refusal)) => return refuse(refusal),
            Err(_) => {
                return Reply::error(
                    "the store did not answer in time",
                    "see relevo status, then say it again",
                );
            }
        };
        let mut said = told(&prospect, &notes);
        said["witness"] = json!(self.config.role == Role::Witness);
        said["promoted"] = json!(sure);
        if sure {
            let begun = Instant::now();
            let leads = || {
                let facts = self.cluster.facts();
                facts.leading && rebirths_of(facts.term) > before
            };
            while !leads() && begun.elapsed() < BEGIN_LIMIT {
                std::thread::sleep(LOOK);
            }
            if !leads() {
                return Reply::error(
                    "the cluster was to begin anew here, and this node does not lead it yet",
                    "relevo status says what it waits for (WAITING), and its log",
                );
            }
            said["ms"] = json!(begun.elapsed().as_millis() as u64);
        }
        Reply::Ok { ok: said }
    }

    /// Refuses if one of the fenced nodes shows a sign of life; else what was seen.
    fn signs_of_life(&self, fenced: &[u16]) -> Result<Vec<String>, Reply> {
        let listing = self.cluster.members();
        let address = |node: u16| {
            let known = self.config.nodes.iter().find(|m| m.id == node).map(|m| m.addr);
            known.or(listing.of(node).map(|m| m.member.addr))
        };
        let suspects: Vec<Suspect> = fenced
            .iter()
            .filter(|node| **node != self.config.id)
            .filter_map(|node| Some(Suspect { node: *node, addr: address(*node)? }))
            .collect();
        let serves = self.live.picture().active((self.clock)().mono);
        let floating: Vec<SocketAddr> = match &self.config.vip {
            Some(vip) if !serves => {
                vip.addresses.iter().map(|(ip, _)| SocketAddr::new(*ip, self.config.sip.port)).collect()
            }
            _ => Vec::new(),
        };
        let key = setup::cluster_key(&self.config)
            .map_err(|e| Reply::error(e.to_string(), "see relevo config check"))?;
        let seen = evidence::gather(&suspects, &floating, self.config.id, &key);
        if seen.alive.is_empty() {
            return Ok(seen.notes);
        }
        Err(Reply::error(
            format!("not fenced: {}; nothing was changed", seen.alive.join("; ")),
            "cut the power of that node, or stop it (systemctl stop relevo) where a majority can be had with it; then say \
             it again",
        ))
    }
}

fn told(prospect: &Prospect, notes: &[String]) -> Value {
    let said = prospect
        .said
        .iter()
        .map(|(node, applied, age)| json!({ "node": node, "applied": applied, "s_ago": age.as_secs() }));
    json!({
        "last": prospect.last,
        "committed": prospect.committed,
        "may_miss": prospect.may_miss,
        "said": said.collect::<Vec<_>>(),
        "fenced": prospect.fenced,
        "seen": notes,
    })
}
