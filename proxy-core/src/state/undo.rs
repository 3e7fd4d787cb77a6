//! What one entry of the log changes is noted while it is applied: to be told ([`super::changes`]), and taken back when a
//! command of it cannot be applied. It costs as much as what is changed, whatever the size of the state.
//!
//! Maps note their records ([`PMap::watch`]). Everything else is small, and is copied. Structs are taken apart by all of
//! their fields: one that is added is not forgotten here.

use super::changes::Changes;
use super::dispatcher::Dispatcher;
use super::media::MediaNodes;
use super::message_store::MessageStore;
use super::pmap::Lost;
use super::provision::Provision;
use super::subscriptions::Subscriptions;
use super::trunk::Trunks;
use super::{NonceCounts, Outbox, PMap, Records, SipState};

/// What is not in maps, as it was at [`SipState::watch`].
#[derive(Debug, Clone)]
pub struct Kept {
    /// The records, with empty maps.
    rest: Records,
}

/// What can be done to each of the maps.
trait Each {
    fn on<K: Ord + Clone, V: Eq>(&mut self, map: &mut PMap<K, V>);
}

struct Watching;

impl Each for Watching {
    fn on<K: Ord + Clone, V: Eq>(&mut self, map: &mut PMap<K, V>) {
        map.watch();
    }
}

struct Leaving;

impl Each for Leaving {
    fn on<K: Ord + Clone, V: Eq>(&mut self, map: &mut PMap<K, V>) {
        map.leave();
    }
}

struct TakingBack(Result<(), Lost>);

impl Each for TakingBack {
    fn on<K: Ord + Clone, V: Eq>(&mut self, map: &mut PMap<K, V>) {
        self.0 = self.0.and(map.take_back());
    }
}

impl Records {
    fn maps(&mut self, each: &mut impl Each) {
        let Self {
            bindings,
            pending,
            dialogs,
            dispatcher: Dispatcher { sets, revision: _ },
            trunks: Trunks { trunks },
            provision,
            outbox: Outbox { newest: _, records, places: _, lost: _, refused: _ },
            subscriptions: Subscriptions { all },
            messages: MessageStore { next: _, users, receipts },
            media: MediaNodes { disabled: _, dead: _ },
            nonces: NonceCounts { windows, forgotten: _ },
            wall_offset: _,
        } = self;
        let Provision {
            subscribers,
            domains,
            domains_revision: _,
            aliases,
            acl,
            nonce_key: _,
            old_nonce_key: _,
        } = provision;
        each.on(bindings);
        each.on(pending);
        each.on(dialogs);
        each.on(sets);
        each.on(trunks);
        each.on(subscribers);
        each.on(domains);
        each.on(aliases);
        each.on(acl);
        each.on(records);
        each.on(all);
        each.on(users);
        each.on(receipts);
        each.on(windows);
    }

    /// All that is not in maps.
    fn rest(&self) -> Self {
        let Self {
            bindings: _,
            pending: _,
            dialogs: _,
            dispatcher,
            trunks: Trunks { trunks: _ },
            provision,
            outbox,
            subscriptions: Subscriptions { all: _ },
            messages,
            media,
            nonces,
            wall_offset,
        } = self;
        Self {
            bindings: PMap::new(),
            pending: PMap::new(),
            dialogs: PMap::new(),
            dispatcher: Dispatcher { sets: PMap::new(), revision: dispatcher.revision },
            trunks: Trunks::default(),
            provision: Provision {
                subscribers: PMap::new(),
                domains: PMap::new(),
                domains_revision: provision.domains_revision,
                aliases: PMap::new(),
                acl: PMap::new(),
                nonce_key: provision.nonce_key,
                old_nonce_key: provision.old_nonce_key,
            },
            outbox: Outbox {
                newest: outbox.newest,
                records: PMap::new(),
                places: outbox.places.clone(),
                lost: outbox.lost,
                refused: outbox.refused.clone(),
            },
            subscriptions: Subscriptions::default(),
            messages: MessageStore { next: messages.next, users: PMap::new(), receipts: PMap::new() },
            media: media.clone(),
            nonces: NonceCounts { windows: PMap::new(), forgotten: nonces.forgotten },
            wall_offset: *wall_offset,
        }
    }

    /// Puts back what [`Records::rest`] has copied.
    fn put_back(&mut self, rest: &Self) {
        let Self { dispatcher, provision, outbox, messages, media, nonces, wall_offset, .. } = rest;
        self.dispatcher.revision = dispatcher.revision;
        self.provision.domains_revision = provision.domains_revision;
        self.provision.nonce_key = provision.nonce_key;
        self.provision.old_nonce_key = provision.old_nonce_key;
        self.outbox.newest = outbox.newest;
        self.outbox.places = outbox.places.clone();
        self.outbox.lost = outbox.lost;
        self.outbox.refused = outbox.refused.clone();
        self.messages.next = messages.next;
        self.media = media.clone();
        self.nonces.forgotten = nonces.forgotten;
        self.wall_offset = *wall_offset;
    }
}

impl SipState {
    /// Begins to note what is changed. What was noted before is forgotten.
    #[must_use]
    pub fn watch(&mut self) -> Kept {
        self.records.maps(&mut Watching);
        Kept { rest: self.records.rest() }
    }

    /// Makes the state what it was at [`SipState::watch`], and goes on noting. It takes as long as the state is large: what
    /// is derived from the records is made anew, because a panic may have left it half done.
    ///
    /// # Errors
    /// It cannot be taken back. The state is of no use then.
    pub fn take_back(&mut self, kept: &Kept) -> Result<(), Lost> {
        let mut taking = TakingBack(Ok(()));
        self.records.maps(&mut taking);
        self.records.put_back(&kept.rest);
        self.mend();
        taking.0
    }

    /// What was changed since [`SipState::watch`]. Notes no more.
    #[must_use]
    pub fn changes(&mut self) -> Changes {
        let changes = Changes {
            bindings: self.records.bindings.changes(),
            pending: self.records.pending.changes(),
            dialogs: self.records.dialogs.changes(),
            subscriptions: self.records.subscriptions.all.changes(),
            outbox: self.records.outbox.records.changes(),
        };
        self.records.maps(&mut Leaving);
        changes
    }
}
