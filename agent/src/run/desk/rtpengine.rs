//! `relevo rtpengine`: the media proxies.

use std::net::SocketAddr;

use proxy_core::state::{MediaCommand, SipCommand, SipResponse};
use serde_json::json;

use crate::admin::Reply;
use crate::admin::rtpengine::{Ask, list};
use crate::bridge::Cluster;
use crate::run::backend::Desk;

impl<C: Cluster> Desk<C> {
    pub(in crate::run) fn rtpengine(&self, ask: &Ask) -> Reply {
        let now = self.now();
        let media = &self.config.media;
        if media.nodes.is_empty() {
            return Reply::error(
                "there is no rtpengine in the configuration",
                "add [rtpengine] with [[rtpengine.node]] on every node, and restart them one after the other",
            );
        }
        match ask {
            Ask::List {} => {
                let sip = self.sip.as_ref().filter(|sip| sip.active_engines() > 0);
                let health = sip.map(|sip| sip.media_health());
                Reply::Ok { ok: self.cluster.read(|s| list(media, s, health.as_deref(), now)) }
            }
            Ask::SetState { addr, state } => {
                let disabled = match state.as_str() {
                    "enabled" => false,
                    "disabled" => true,
                    other => {
                        return Reply::error(format!("{other:?} is no state"), "write enabled or disabled");
                    }
                };
                let wanted = addr.as_deref().map(|a| a.strip_prefix("udp:").unwrap_or(a));
                let parsed = wanted.map(str::parse::<SocketAddr>);
                let chosen: Vec<SocketAddr> = media
                    .nodes
                    .iter()
                    .map(|n| n.address)
                    .filter(|a| parsed.as_ref().is_none_or(|p| p.as_ref() == Ok(a)))
                    .collect();
                if chosen.is_empty() {
                    let what =
                        format!("{:?} is no rtpengine of the configuration", wanted.unwrap_or_default());
                    return Reply::error(what, "see what there is: relevo rtpengine list");
                }
                for node in &chosen {
                    let command = MediaCommand::SetDisabled { node: *node, disabled, at: now.wall };
                    match self.commit(SipCommand::Media(command)) {
                        Err(reply) => return reply,
                        Ok(SipResponse::Done) => {}
                        Ok(_) => {
                            return Reply::error(
                                "too many rtpengines are put aside",
                                "enable those that are not used any more: relevo rtpengine set-state enabled all",
                            );
                        }
                    }
                }
                let nodes: Vec<String> = chosen.iter().map(SocketAddr::to_string).collect();
                Reply::Ok { ok: json!({ "nodes": nodes, "state": state }) }
            }
        }
    }
}
