//! `relevo ban`: out of the table that the engines of this node share.

use serde_json::json;

use crate::admin::Reply;
use crate::admin::ban::{Ask, list, name, source};
use crate::bridge::Cluster;
use crate::run::backend::Desk;

impl<C: Cluster> Desk<C> {
    pub(in crate::run) fn ban(&self, ask: &Ask) -> Reply {
        let Some(sip) = &self.sip else {
            return Reply::error(
                "a witness sees no SIP, and bans nobody",
                "ask the node that is active (relevo status names the holder)",
            );
        };
        let now = (self.clock)().mono;
        let active = self.live.picture().active(now);
        match ask {
            Ask::List {} => {
                let limited = self.running().engine.routing.screen.flood.is_some();
                Reply::Ok { ok: list(&sip.bans().list(now), active, limited) }
            }
            Ask::Clear { address: None } => {
                Reply::Ok { ok: json!({ "cleared": sip.bans().clear(now, None) }) }
            }
            Ask::Clear { address: Some(text) } => {
                let Some(address) = source(text) else {
                    return Reply::error(
                        format!("{text:?} is no address"),
                        "write it as relevo ban list does, such as 192.0.2.7, or 'all'",
                    );
                };
                if sip.bans().clear(now, Some(address)) > 0 {
                    return Reply::Ok { ok: json!({ "cleared": name(address) }) };
                }
                let elsewhere = if active { "" } else { "; this node is a standby: ask the active one" };
                Reply::error(
                    format!("{} is not banned here", name(address)),
                    format!("relevo ban list names who is{elsewhere}"),
                )
            }
        }
    }
}
