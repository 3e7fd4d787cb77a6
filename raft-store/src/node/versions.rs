//! Which format versions the members read, as the cluster remembers it: what a new leader has not heard itself, because a
//! member is away, stands in the state.

use super::client::Transport;
use super::core::Core;
use super::types::{Place, place_of};
use crate::command::{Command, Versions};

impl<T: Transport> Core<T> {
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
