//! `relevo cdr`: records of calls.

use std::sync::PoisonError;

use proxy_core::state::{AccountingCommand, SipCommand, SipResponse};
use serde_json::{Value, json};

use crate::accounting::file;
use crate::accounting::line::{Line, utc};
use crate::admin::cdr::Ask;
use crate::admin::{MAX_RECORDS, Reply};
use crate::bridge::Cluster;
use crate::config::Role;
use crate::run::backend::Desk;

/// Bytes of the file that are looked at from its end.
const TAIL_BYTES: u64 = 16 << 20;

impl<C: Cluster> Desk<C> {
    pub(crate) fn cdr(&self, ask: Ask) -> Reply {
        match ask {
            Ask::List { last, kind } => self.cdr_list(last.min(MAX_RECORDS), kind.as_deref()),
            Ask::Status {} => Reply::Ok { ok: self.cdr_status() },
            Ask::Forget { node } => self.cdr_forget(node),
        }
    }

    /// Out of the file, and what is not in it yet out of the outbox.
    fn cdr_list(&self, last: usize, kind: Option<&str>) -> Reply {
        let fits = |record: &Value| kind.is_none_or(|kind| record["kind"] == kind);
        // Kinds are mixed in the file: more is read than is shown.
        let most = if kind.is_some() { MAX_RECORDS } else { last };
        let mut records =
            match self.config.accounting.json.as_deref().map(|p| file::tail(p, most, TAIL_BYTES)) {
                None => Vec::new(),
                Some(Ok(records)) => records,
                Some(Err(e)) => {
                    return Reply::error(format!("the file cannot be read: {e}"), "see relevo cdr status");
                }
            };
        let known = records.last().and_then(|r| r["seq"].as_u64()).unwrap_or(0);
        let newer: Vec<Line> = self.cluster.read(|s| {
            let newest = s.outbox().after(known).rev().take(most).map(Line::from);
            newest.collect()
        });
        records.extend(newer.iter().rev().filter_map(|line| serde_json::to_value(line).ok()));
        records.retain(fits);
        let first = records.len().saturating_sub(last);
        let shown: Vec<Value> = records.split_off(first);
        Reply::Ok { ok: json!({ "records": shown }) }
    }

    fn cdr_status(&self) -> Value {
        let (figures, places, offset) = self.cluster.read(|s| {
            let places: Vec<Value> = s
                .outbox()
                .places()
                .map(|(node, up_to)| {
                    let holds = up_to.map_or(0, |up_to| s.outbox().after(up_to).count());
                    json!({
                        "node": node,
                        "writes": up_to.is_some(),
                        "up_to": up_to,
                        "behind": holds,
                        "appliance": self.is_appliance(node),
                    })
                })
                .collect();
            (s.outbox_figures(), places, s.wall_offset())
        });
        let here = self.records.as_ref().map(|running| {
            let f = running.figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
            json!({ "files": f.sinks, "up_to": f.written, "lost": f.lost, "trouble": f.trouble })
        });
        json!({
            "newest": figures.newest,
            "waiting": figures.waiting,
            "waiting_bytes": figures.bytes,
            "oldest": figures.oldest_at.map(|at| utc(offset.real(at))),
            "lost": figures.lost,
            "nodes": places,
            "here": here,
        })
    }

    /// Whether a node writes records, as far as the configuration of this one goes.
    fn is_appliance(&self, node: u16) -> bool {
        let nodes = &self.config.nodes;
        nodes.iter().any(|m| m.id == node && m.role == Role::Appliance) || node == self.config.id
    }

    fn cdr_forget(&self, node: u16) -> Reply {
        if self.is_appliance(node) {
            return Reply::error(
                format!(
                    "node {node} is an appliance in the configuration of this node: it may come back, and \
                         would lack the records of the time between"
                ),
                "take it out of [[cluster.node]] on every node, start them again one by one, and say this again",
            );
        }
        match self.commit(SipCommand::Accounting(AccountingCommand::Forget { place: node })) {
            Err(reply) => reply,
            Ok(SipResponse::NotFound) => Reply::error(
                format!("node {node} is not among those that write records"),
                "see relevo cdr status",
            ),
            Ok(_) => Reply::Ok { ok: json!({ "node": node, "forgotten": true }) },
        }
    }
}
