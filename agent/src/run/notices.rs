//! What this node does when the guard of the leader says that the leader's agent is dead and its floating IP is down.
//!
//! The named heir campaigns at once. It loses if another node's log is longer: an entry that the leader and that node
//! had committed, and the heir had not received yet. That node then stands itself when it refuses the heir
//! (`raft_store::node`), and a witness that wins hands the service on ([`crate::control`]). Messages get lost, and heirs
//! die, too: so each other node waits long enough for somebody to win, and then campaigns, one after the other.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use raft_store::node::Node;

use crate::control::Place;
use crate::guard::notice::Notice;

/// What the heir gets to win: a round of pre-votes, one of votes and one fsync, with room. Two fifths of the shortest
/// election timeout, which goes with the ways between the nodes, and 30 ms at least.
const HEIR_FIRST: Duration = Duration::from_millis(30);

/// The same for these times; also the time between one other node's campaign and the next one's.
fn turn(election_min: Duration) -> Duration {
    HEIR_FIRST.max(election_min * 2 / 5)
}

/// Looks at whether somebody has won, of a node that is not the heir. A campaign may meet the votes of another one and
/// lose; the next one has the higher term. After that the election timeout takes over.
const LOOKS: u32 = 4;
/// Terms after the dead leader's in which nobody has won until this node stops to care.
const MAX_TERMS: u64 = 8;

/// Hears notices for one node.
pub struct Notices {
    node: Node,
    me: Place,
    /// All nodes in the order of the configuration.
    places: Vec<Place>,
    turn: Duration,
    /// The notice that was acted on last: each comes several times.
    last: Mutex<ActedOn>,
}

/// The death that was acted on last.
#[derive(Default)]
struct ActedOn(Option<(Place, u64)>);

impl ActedOn {
    /// Whether `notice` is to be acted on. Each comes several times, perhaps all at once: a second campaign for the same
    /// death would end the first. But one that came before its leader was known here (`led` is false) did nothing.
    fn is_news(&mut self, notice: Notice, led: bool) -> bool {
        let key = Some((notice.dead, notice.term));
        let known = self.0 == key;
        if led {
            self.0 = key;
        }
        !known
    }
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Notices {
    /// For this node.
    #[must_use]
    pub fn new(node: Node, me: Place, places: Vec<Place>, election_min: Duration) -> Self {
        Self { node, me, places, turn: turn(election_min), last: Mutex::default() }
    }

    /// A verified notice has come.
    pub fn hear(&self, notice: Notice) {
        let led = self.still_led(notice);
        if !self.last.lock().unwrap_or_else(PoisonError::into_inner).is_news(notice, led) {
            return;
        }
        self.node.leader_is_dead(notice.dead, notice.term, notice.heir);
        let Some(wait) = patience(self.me, notice, &self.places, self.turn).filter(|_| led) else {
            return;
        };
        let (node, turn) = (self.node.clone(), self.turn);
        // Without a thread the election timeout does it.
        let _ = std::thread::Builder::new().name(String::from("relevo-second")).spawn(move || {
            // Not before the first wait: what the dead leader had sent may still be on its way to the log.
            let mut log_end = None;
            let mut term = notice.term;
            for again in 0..LOOKS {
                std::thread::sleep(if again == 0 { wait } else { turn });
                let facts = node.facts();
                // Whoever wins begins with an entry of its own. Another campaign would only disturb it, or the transfer
                // that follows.
                let log_end = *log_end.get_or_insert(facts.last_log);
                // The dead one may be back, and lead again in a later term.
                let led = facts.leader.is_some_and(|l| l != notice.dead || facts.term > notice.term);
                let won = facts.last_log > log_end || led;
                if won || facts.term > notice.term + MAX_TERMS {
                    return;
                }
                // A campaign has reached this node since the last look, or is its own; where disks are slow its votes are
                // still on their way, and another campaign would make them worthless.
                let under_way = facts.term > term;
                term = facts.term;
                if under_way {
                    continue;
                }
                tracing::info!(term = facts.term, "node {} has not won: campaigning", notice.heir);
                node.campaign();
            }
        });
    }

    fn still_led(&self, notice: Notice) -> bool {
        let facts = self.node.facts();
        facts.term == notice.term && facts.leader == Some(notice.dead)
    }
}

/// How long this node leaves the field to others; `None` if it is the heir or the dead one.
fn patience(me: Place, notice: Notice, places: &[Place], turn: Duration) -> Option<Duration> {
    let mut others = places.iter().filter(|p| **p != notice.dead && **p != notice.heir);
    let rank = u32::try_from(others.position(|p| *p == me)?).ok()?;
    Some(turn + turn * rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_acted_on_once_but_not_before_its_leader_is_known() {
        let notice = Notice { dead: 1, term: 7, heir: 2 };
        let mut last = ActedOn::default();
        let led = [false, true, true, false];
        assert_eq!(led.map(|led| last.is_news(notice, led)), [true, true, false, false]);
        assert!(last.is_news(Notice { term: 9, ..notice }, true), "a later death of the same node");
    }

    #[test]
    fn the_heir_goes_first_then_the_others_one_after_the_other_and_the_dead_one_never() {
        let notice = Notice { dead: 1, term: 7, heir: 3 };
        let places = [1, 2, 3, 4];
        let order = [1, 2, 3, 4, 9]
            .map(|me| patience(me, notice, &places, turn(Duration::from_millis(75))).map(|d| d.as_millis()));
        assert_eq!(order, [None, Some(30), None, Some(60), None]);
        assert_eq!(turn(Duration::from_millis(400)).as_millis(), 160, "votes take longer between two cities");
    }
}
