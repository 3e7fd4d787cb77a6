//! Changes that concern media proxies.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::state::limits::MAX_MEDIA_NODES;
use crate::state::media::MediaCommand;
use crate::state::{DialogId, SipResponse, SipState};
use crate::time::WallTime;

impl SipState {
    pub(super) fn media_changed(&mut self, command: &MediaCommand) -> SipResponse {
        match command {
            MediaCommand::SetDisabled { node, disabled, at } => {
                mark(&mut self.records.media.disabled, *node, *disabled, *at)
            }
            MediaCommand::Health { node, dead, at } => mark(&mut self.records.media.dead, *node, *dead, *at),
            MediaCommand::Moved { id, node } => self.move_media(id, *node),
        }
    }

    fn move_media(&mut self, id: &DialogId, node: SocketAddr) -> SipResponse {
        let Some(old) = self.records.dialogs.get(id) else { return SipResponse::NotFound };
        let mut new = old.clone();
        let Some(session) = new.media.as_deref_mut() else { return SipResponse::NotFound };
        session.node = node;
        self.put_dialog(new);
        SipResponse::Done
    }
}

/// Puts one on a list, or takes it off.
fn mark(list: &mut BTreeMap<SocketAddr, WallTime>, node: SocketAddr, on: bool, at: WallTime) -> SipResponse {
    if !on {
        list.remove(&node);
        return SipResponse::Done;
    }
    if list.contains_key(&node) {
        return SipResponse::Done;
    }
    if list.len() >= MAX_MEDIA_NODES {
        return SipResponse::Full;
    }
    list.insert(node, at);
    SipResponse::Done
}
