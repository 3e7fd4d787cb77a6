//! `relevo trace`: out of the rings of this node.

use crate::admin::Reply;
use crate::admin::trace::{Ask, told};
use crate::bridge::Cluster;
use crate::run::backend::Desk;

/// Messages of one answer; the newest are told.
const MAX_MESSAGES: usize = 2000;

impl<C: Cluster> Desk<C> {
    pub(in crate::run) fn trace(&self, ask: &Ask) -> Reply {
        let Some(sip) = &self.sip else {
            return Reply::error(
                "a witness sees no SIP",
                "ask the node that is active (relevo status names the holder)",
            );
        };
        let active = self.live.picture().active((self.clock)().mono);
        let entries = sip.capture().recall(ask.call_id.as_deref(), ask.after, MAX_MESSAGES);
        if !active && entries.is_empty() && ask.after == 0 {
            let holder = self.cluster.facts().grant.map(|g| g.holder);
            let whom = holder.map_or(String::from("the active node"), |h| format!("node {h}"));
            return Reply::error(
                "this node is a standby: it sees no SIP, and remembers none of that",
                format!("ask {whom}: run relevo trace there"),
            );
        }
        Reply::Ok { ok: told(&entries, active) }
    }
}
