//! Changes that concern media proxies.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::state::index::{dialog_bytes, pending_bytes};
use crate::state::limits::{
    MAX_AGREED_BYTES, MAX_DIALOG_BYTES, MAX_EARLY_MEDIA, MAX_MEDIA_NODES, MAX_PENDING_BYTES,
};
use crate::state::media::{Agreed, EarlyMedia, MediaCommand};
use crate::state::{DialogId, InviteState, ServerKey, SipResponse, SipState};
use crate::time::WallTime;

impl SipState {
    pub(super) fn media_changed(&mut self, command: &MediaCommand) -> SipResponse {
        match command {
            MediaCommand::SetDisabled { node, disabled, at } => {
                mark(&mut self.records.media.disabled, *node, *disabled, *at)
            }
            MediaCommand::Health { node, dead, at } => mark(&mut self.records.media.dead, *node, *dead, *at),
            MediaCommand::Agreed { id, node, agreed } => self.media_agreed(id, *node, agreed.as_deref()),
            MediaCommand::Early { key, node, early } => self.media_early(key, *node, early),
        }
    }

    fn media_agreed(&mut self, id: &DialogId, node: SocketAddr, agreed: Option<&Agreed>) -> SipResponse {
        let Some(old) = self.records.dialogs.get(id) else { return SipResponse::NotFound };
        let mut new = old.clone();
        let Some(session) = new.media.as_deref_mut() else { return SipResponse::NotFound };
        session.node = node;
        // What was agreed on before does not hold any more, also where there is no room for the new.
        session.agreed = agreed.filter(|a| a.bytes() <= MAX_AGREED_BYTES).cloned().map(Box::new);
        if dialog_bytes(&new) > MAX_DIALOG_BYTES
            && let Some(session) = new.media.as_deref_mut()
        {
            session.agreed = None;
        }
        self.put_dialog(new);
        SipResponse::Done
    }

    fn media_early(&mut self, key: &ServerKey, node: SocketAddr, early: &EarlyMedia) -> SipResponse {
        let Some(old) = self.records.pending.get(key) else { return SipResponse::NotFound };
        let open = matches!(old.state, InviteState::Proceeding | InviteState::Cancelled);
        if !open || old.media.is_none() {
            return SipResponse::Superseded;
        }
        let known = old.early_media.iter().any(|e| e.to_tag == early.to_tag);
        let agreed = early.agreed.as_deref().filter(|a| a.bytes() <= MAX_AGREED_BYTES);
        let more = early.to_tag.len() + agreed.map_or(0, Agreed::bytes);
        let fits = pending_bytes(old) + more <= MAX_PENDING_BYTES
            && (known || old.early_media.len() < MAX_EARLY_MEDIA);
        let early = EarlyMedia { agreed: agreed.cloned().map(Box::new), ..early.clone() };
        self.change_pending(key, |record| {
            if let Some(session) = record.media.as_deref_mut() {
                session.node = node;
            }
            record.early_media.retain(|e| e.to_tag != early.to_tag);
            if fits {
                record.early_media.push(early);
            }
        });
        if fits { SipResponse::Done } else { SipResponse::Full }
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
