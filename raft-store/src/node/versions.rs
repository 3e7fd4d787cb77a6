//! Which format versions the members read, as the cluster remembers it: what a new leader has not heard itself, because a
//! member is away, stands in the state.

use openraft::async_runtime::WatchReceiver;

use super::client::Transport;
use super::core::Core;
use super::types::{Place, place_of};
use crate::command::{Command, Versions};
use crate::wire::FIRST_VERSION;

impl<T: Transport> Core<T> {
    /// A member that does not read `version` of the stored and sent form; what it has said last counts.
    #[must_use]
    pub fn unread_by(&self, version: u8) -> Option<Place> {
        if version <= FIRST_VERSION {
            return None;
        }
        let metrics = self.0.raft.metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let mut others =
            membership.nodes().map(|(id, _)| place_of(*id)).filter(|p| *p != place_of(self.0.config.id));
        others.find(|place| {
            let said = self.0.clients.transport.reads(*place);
            said.unwrap_or_else(|| self.0.view.read(|state| state.reads(*place))).last < version
        })
    }

    /// Notes in the state what members have said that they read.
    pub(super) fn note_versions(&self) {
        let facts = self.facts();
        if !facts.leading {
            return;
        }
        let me = place_of(facts.raft_id);
        let said = |place: Place| match place == me {
            true => Some(Versions::OURS),
            false => self.clients().transport.reads(place),
        };
        let places = facts.peers.iter().map(|peer| peer.place).chain([me]);
        let news: Vec<Command> = self.view().read(|state| {
            places
                .filter_map(|place| Some((place, said(place)?)))
                .filter(|(place, versions)| state.reads(*place) != *versions)
                .map(|(place, versions)| Command::Reads { place, versions })
                .collect()
        });
        if !news.is_empty() {
            // One that is lost is told with the next thing that needs it.
            self.0.batcher.propose(news, Box::new(|_| ()));
        }
    }
}
