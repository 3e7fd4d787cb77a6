//! `relevo reload` on this node.

use serde_json::{Value, json};

use crate::admin::Reply;
use crate::bridge::Cluster;
use crate::config::keys::{Difference, shown};
use crate::run::backend::Desk;

impl<C: Cluster> Desk<C> {
    pub(in crate::run) fn reload(&self) -> Reply {
        match self.reloader.reload() {
            Ok(outcome) => Reply::Ok {
                ok: json!({
                    "node": self.config.id,
                    "changed": list(&outcome.changed),
                    "needs_restart": list(&outcome.left),
                }),
            },
            Err(why) => Reply::error(why.to_string(), why.cure()),
        }
    }
}

fn list(differences: &[Difference]) -> Value {
    let of = |d: &Difference, value: &Option<String>| value.as_ref().map(|v| shown(&d.key, v));
    differences.iter().map(|d| json!({ "key": d.key, "from": of(d, &d.from), "to": of(d, &d.to) })).collect()
}
