//! Calls that are over: their rtpengine is told.
//!
//! | end | told when |
//! |---|---|
//! | failure, CANCEL | the failure is safe; and once more by a node that takes over before it is acknowledged |
//! | BYE | it was answered, before its end is proposed: if this node is lost then, the BYE comes again |
//! | longest duration, session timer, operator | the BYEs leave |
//! | a second INVITE of the same call | not, as long as the call has another dialog: the last one ends it, also if both end at the same moment |
//! | two dialogs whose ends are safe at last, though this node proposed one of them in an earlier spell of its service | when the last is gone |
//! | an offer within a call comes to nothing | only the one that it was to bring the call to; the other: see `restore` |

use std::net::SocketAddr;

use crate::engine::{Cx, Engine};
use crate::msg::Message;
use crate::proxy::call::{Call, Phase};
use crate::state::{DialogRecord, MediaSession, NewsItem};

/// How many of the newest entries of the news are read by an engine that becomes active: an end that was proposed before
/// may have been told by nobody. To say it twice does no harm.
const LOOK_BACK: u64 = 64;

impl Engine {
    /// A dialog is over.
    pub(crate) fn end_media(&mut self, cx: Cx<'_>, dialog: &DialogRecord) {
        let Some(session) = &dialog.media else { return };
        let id = &dialog.id;
        self.media.ended.insert(id.clone());
        if !self.has_live_media(cx, &id.call_id) && !self.has_open_media(&id.call_id) {
            self.media.told.insert(id.call_id.clone());
            self.ask_delete(cx, session.node, &id.call_id, &id.from_tag);
        }
    }

    /// Reads the news; called after whatever has happened. A call whose last dialog is gone, and whose rtpengine this
    /// engine has not told, is told of: an end may be applied late that was proposed before this engine became active,
    /// so that another end of the same call was not the last one when it came.
    pub(crate) fn media_look(&mut self, cx: Cx<'_>) {
        let count = cx.state.news_count();
        if !self.is_active() || self.media.seen == Some(count) {
            return;
        }
        let seen = self.media.seen.unwrap_or_else(|| count.saturating_sub(LOOK_BACK));
        self.media.seen = Some(count);
        for item in cx.state.news_since(seen).into_iter().flatten() {
            let NewsItem::MediaOver { call_id, from_tag, node } = item else { continue };
            let is_untold = self.is_own_shard(call_id) && !self.media.told.remove(call_id);
            if is_untold && !self.has_live_media(cx, call_id) && !self.has_open_media(call_id) {
                self.ask_delete(cx, *node, call_id, from_tag);
            }
        }
    }

    /// Whether the call has a dialog with media whose end is not told yet.
    fn has_live_media(&self, cx: Cx<'_>, call_id: &str) -> bool {
        let is_live = |d: &DialogRecord| d.media.is_some() && !self.media.ended.contains(&d.id);
        cx.state.dialogs_of_call(call_id).any(is_live)
    }

    /// Ends that are safe need not be remembered.
    pub(super) fn forget_ended(&mut self, cx: Cx<'_>) {
        self.media.ended.retain(|id| cx.state.dialog(id).is_some());
        self.media.told.retain(|call_id| cx.state.dialogs_of_call(call_id).next().is_some());
    }

    /// An INVITE has failed.
    pub(crate) fn release_media(&mut self, cx: Cx<'_>, call: &Call) {
        let Some(session) = &call.media else { return };
        let Ok(invite) = Message::parse(&call.request) else { return };
        self.release_offer(cx, &invite, session, call.in_dialog);
    }

    /// A request has come to nothing whose offer an rtpengine has taken, or that was to bring its call to one. Within a
    /// call the media stay as they are, unless it was to bring them elsewhere.
    pub(crate) fn release_offer(
        &mut self,
        cx: Cx<'_>,
        request: &Message<'_>,
        session: &MediaSession,
        within: bool,
    ) {
        let call_id = request.call_id().unwrap_or_default();
        let stays = if within {
            let stays = self.media_node_of(cx, request).is_none_or(|node| node == session.node);
            if stays {
                self.restore_media(cx, request);
            }
            stays
        } else {
            self.has_live_media(cx, call_id) || self.has_open_media(call_id)
        };
        if !stays {
            self.ask_delete(cx, session.node, call_id, request.from_tag().unwrap_or_default());
        }
    }

    /// Where the media are of the call that a request belongs to, answered or not.
    fn media_node_of(&self, cx: Cx<'_>, request: &Message<'_>) -> Option<SocketAddr> {
        match crate::dialog::of(cx.state, request) {
            Some((dialog, _)) => dialog.media.as_ref().map(|m| m.node),
            None => self.early_call(request).and_then(|(_, call)| call.media.as_ref()).map(|m| m.node),
        }
    }

    /// Whether an INVITE that begins a call, and has media here, is under way.
    fn has_open_media(&self, call_id: &str) -> bool {
        self.calls_of(call_id).any(|(_, c)| c.media.is_some() && c.is_undecided() && !c.in_dialog)
    }

    /// This node has taken over: the last one may not have come to it.
    pub(crate) fn delete_media_again(&mut self, cx: Cx<'_>) {
        for id in self.call_ids() {
            let failed = self.call(id).is_some_and(|c| c.phase == Phase::Failed && c.media.is_some());
            if failed {
                self.with_call(cx, id, |engine, call| engine.release_media(cx, call));
            }
        }
    }
}
