//! Changes of the subscriptions.

use crate::state::limits::{
    MAX_EXPIRED_AT_ONCE, MAX_SHOWN, MAX_SUBSCRIPTION_BYTES, MAX_SUBSCRIPTIONS, MAX_WATCHERS_PER_AOR,
    admits_bytes,
};
use crate::state::subscriptions::{
    SUBSCRIPTION_GRACE_MS, Shown, Subscription, SubscriptionCommand, subscription_bytes,
};
use crate::state::{DialogId, SipResponse, SipState};
use crate::time::WallTime;

impl SipState {
    pub(super) fn subscription_changed(&mut self, command: &SubscriptionCommand) -> SipResponse {
        match command {
            SubscriptionCommand::Subscribe(subscription) => self.subscribed(subscription),
            SubscriptionCommand::Notifying { id, cseq, shown } => self.notifying(id, *cseq, shown),
            SubscriptionCommand::Remove { id } => {
                if self.remove_subscription(id) {
                    SipResponse::Done
                } else {
                    SipResponse::NotFound
                }
            }
        }
    }

    fn subscribed(&mut self, new: &Subscription) -> SipResponse {
        let bytes = subscription_bytes(new);
        if bytes > MAX_SUBSCRIPTION_BYTES {
            return SipResponse::Full;
        }
        if let Some(old) = self.records.subscriptions.all.get(&new.id) {
            if new.remote_cseq < old.remote_cseq {
                return SipResponse::Superseded;
            }
            if new.remote_cseq == old.remote_cseq {
                // The same request, by another node.
                return SipResponse::Done;
            }
            // What a target refresh changes (RFC 6665 §4.4.1), and the time.
            let refreshed = Subscription {
                contact: new.contact.clone(),
                flow: new.flow,
                by_flow: new.by_flow,
                remote_cseq: new.remote_cseq,
                expires_at: new.expires_at,
                ..old.clone()
            };
            self.put_subscription(refreshed);
            return SipResponse::Done;
        }
        if new.notify_cseq > 0 {
            // A refresh of one that has ended meanwhile: made anew under its name, its NOTIFYs would begin at 1 again.
            return SipResponse::NotFound;
        }
        let watchers = self.index.subscriptions.watchers.get(&new.watched).map_or(0, |w| w.len());
        if self.records.subscriptions.all.len() >= MAX_SUBSCRIPTIONS
            || watchers >= MAX_WATCHERS_PER_AOR
            || !admits_bytes(self.index.bytes, bytes as u64)
        {
            return SipResponse::Full;
        }
        self.put_subscription(Subscription { notify_cseq: 0, shown: Vec::new(), ..new.clone() });
        SipResponse::Done
    }

    fn notifying(&mut self, id: &DialogId, cseq: u32, shown: &[Shown]) -> SipResponse {
        let Some(old) = self.records.subscriptions.all.get(id) else { return SipResponse::NotFound };
        if old.notify_cseq.checked_add(1) != Some(cseq) {
            return SipResponse::Superseded;
        }
        let shown = shown.iter().take(MAX_SHOWN).copied().collect();
        self.put_subscription(Subscription { notify_cseq: cseq, shown, ..old.clone() });
        SipResponse::Done
    }

    /// What has ended long ago, and nobody has told the watcher.
    pub(super) fn expire_subscriptions(&mut self, up_to: WallTime) {
        let ended = |end: WallTime| end.0.saturating_add(SUBSCRIPTION_GRACE_MS) <= up_to.0;
        for _ in 0..MAX_EXPIRED_AT_ONCE {
            let first = self.index.subscriptions.ends.first().filter(|(end, _)| ended(*end));
            let Some((_, id)) = first.cloned() else { break };
            self.remove_subscription(&id);
        }
    }
}
