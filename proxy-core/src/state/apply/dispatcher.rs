//! Changes of the dispatcher's sets.

use crate::state::dispatcher::{Destination, DispatcherCommand, flag};
use crate::state::index::destination_bytes;
use crate::state::limits::{MAX_DESTINATION_BYTES, MAX_DESTINATIONS, admits_bytes};
use crate::state::{SipResponse, SipState};
use crate::time::WallTime;

impl SipState {
    pub(super) fn dispatcher_changed(&mut self, command: &DispatcherCommand) -> SipResponse {
        match command {
            DispatcherCommand::Put { set, destination } => self.put_destination(*set, destination),
            DispatcherCommand::Remove { set, uri } => self.remove_destination(*set, uri.as_deref()),
            DispatcherCommand::SetState { set, uri, flags, at } => {
                let mask = flag::STATES | flag::PROBING;
                self.change_destinations(*set, uri.as_deref(), *at, |d| {
                    d.flags = d.flags & !mask | flags & mask;
                    d.count = 0;
                })
            }
            DispatcherCommand::Observed { set, uri, up, failures, successes, at } => self
                .change_destinations(*set, Some(uri), *at, |d| {
                    if *at > d.seen_at && d.is_news(*up, *failures, *successes) {
                        d.observe(*up, *failures, *successes);
                        d.seen_at = *at;
                    }
                }),
        }
    }

    fn put_destination(&mut self, set: u32, new: &Destination) -> SipResponse {
        let dispatcher = &self.records.dispatcher;
        let old = dispatcher.sets.get(&set).and_then(|list| list.iter().find(|d| d.uri == new.uri));
        if old == Some(new) {
            return SipResponse::Done;
        }
        let count: usize = dispatcher.sets.values().map(Vec::len).sum();
        let bytes = destination_bytes(new);
        let more = bytes.saturating_sub(old.map_or(0, destination_bytes)) as u64;
        if (old.is_none() && count >= MAX_DESTINATIONS)
            || bytes > MAX_DESTINATION_BYTES
            || !admits_bytes(self.index.bytes, more)
        {
            return SipResponse::Full;
        }
        self.change_sets(|sets| {
            let list = sets.get_or_default(&set);
            match list.iter_mut().find(|d| d.uri == new.uri) {
                Some(known) => known.clone_from(new),
                None => list.push(new.clone()),
            }
            // Stable: equal priorities stay in the order in which they were added.
            list.sort_by_key(|d| std::cmp::Reverse(d.priority));
        });
        SipResponse::Done
    }

    fn remove_destination(&mut self, set: u32, uri: Option<&str>) -> SipResponse {
        let Some(list) = self.records.dispatcher.sets.get(&set) else { return SipResponse::NotFound };
        if uri.is_some_and(|uri| list.iter().all(|d| d.uri != uri)) {
            return SipResponse::NotFound;
        }
        self.change_sets(|sets| {
            if let Some(list) = sets.get_mut(&set) {
                list.retain(|d| uri.is_some_and(|uri| d.uri != uri));
                if list.is_empty() {
                    sets.remove(&set);
                }
            }
        });
        SipResponse::Done
    }

    fn change_destinations(
        &mut self,
        set: u32,
        uri: Option<&str>,
        at: WallTime,
        change: impl Fn(&mut Destination),
    ) -> SipResponse {
        let Some(list) = self.records.dispatcher.sets.get_mut(&set) else { return SipResponse::NotFound };
        let mut found = false;
        let mut moved = false;
        for destination in list.iter_mut().filter(|d| uri.is_none_or(|uri| d.uri == uri)) {
            found = true;
            let before = destination.flags & flag::STATES;
            change(destination);
            if before != destination.flags & flag::STATES {
                destination.changed_at = at;
                moved = true;
            }
        }
        if moved {
            self.records.dispatcher.revision += 1;
        }
        if found { SipResponse::Done } else { SipResponse::NotFound }
    }
}
