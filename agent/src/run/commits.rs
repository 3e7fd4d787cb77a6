//! Says in the log which node does not acknowledge entries although it is heard, and what the leader does about it: an
//! operator whose phones get no answers looks there first.

use std::collections::BTreeSet;
use std::time::Duration;

use proxy_core::time::MonoTime;

use crate::control::{Control, Facts, Place};

/// What was said last.
#[derive(Debug, Default)]
pub struct Commits {
    /// Those that are known not to acknowledge.
    tardy: BTreeSet<Place>,
    /// The leader's own proposals are late, and that was said.
    late: bool,
}

fn seconds(d: Duration) -> String {
    format!("{:.1} s", d.as_secs_f64())
}

impl Commits {
    /// What is to be said now, worst first: to be called in each round of the control thread.
    pub fn look(&mut self, now: MonoTime, facts: &Facts) -> Vec<String> {
        let bound = Control::commit_bound(facts);
        let mut lines = Vec::new();
        let since = |place: Place| {
            let peer = facts.peers.iter().find(|peer| peer.place == place)?;
            Some(now.since(peer.unanswered?)).filter(|age| facts.leading && *age > bound)
        };
        let is_late = facts.oldest_waits.is_some_and(|waits| waits > bound);
        if is_late && !self.late {
            let who: Vec<String> = facts
                .peers
                .iter()
                .filter_map(|peer| {
                    let age = seconds(since(peer.place)?);
                    let disk =
                        if peer.writes { "its disk writes" } else { "its disk does not, or it says nothing" };
                    Some(format!("node {} has acknowledged no entries for {age} ({disk})", peer.place))
                })
                .collect();
            let who = if who.is_empty() { String::from("all others acknowledge") } else { who.join(", ") };
            lines.push(format!(
                "nothing has been committed and applied for {}: {who}; see relevo status",
                seconds(facts.oldest_waits.unwrap_or_default())
            ));
        }
        self.late = is_late;
        for peer in &facts.peers {
            let age = since(peer.place).filter(|_| peer.last_ack.is_some_and(|at| now.since(at) < bound));
            match age {
                Some(age) if self.tardy.insert(peer.place) => lines.push(format!(
                    "node {} is heard, and has acknowledged no entries for {}: its disk, or the way of large messages \
                     to it; see relevo status there",
                    peer.place,
                    seconds(age)
                )),
                None if peer.unanswered.is_none() => {
                    self.tardy.remove(&peer.place);
                }
                _ => {}
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Peer;

    fn at(ms: u64) -> MonoTime {
        MonoTime(ms * 1_000_000)
    }

    #[test]
    fn who_does_not_acknowledge_is_named_once_and_again_when_it_has_done_so_meanwhile() {
        let facts = |now: u64, unanswered: Option<u64>| Facts {
            leading: true,
            peers: [2, 3]
                .map(|place| Peer {
                    place,
                    last_ack: Some(at(now)),
                    unanswered: unanswered.filter(|_| place == 3).map(at),
                    ..Peer::default()
                })
                .to_vec(),
            ..Facts::default()
        };
        let mut commits = Commits::default();
        assert_eq!(commits.look(at(2_000), &facts(2_000, Some(1_000))), Vec::<String>::new());
        let said = commits.look(at(3_100), &facts(3_100, Some(1_000)));
        assert!(matches!(&said[..], [one] if one.starts_with("node 3 is heard")), "{said:?}");
        assert_eq!(commits.look(at(4_000), &facts(4_000, Some(1_000))), Vec::<String>::new(), "no news");
        commits.look(at(4_100), &facts(4_100, None));
        assert_eq!(commits.look(at(9_000), &facts(9_000, Some(5_000))).len(), 1);
    }

    #[test]
    fn a_leader_that_cannot_commit_says_who_keeps_it_from_it() {
        let facts = Facts {
            leading: true,
            oldest_waits: Some(Duration::from_millis(2_300)),
            peers: vec![Peer {
                place: 2,
                last_ack: Some(at(3_000)),
                unanswered: Some(at(800)),
                ..Peer::default()
            }],
            ..Facts::default()
        };
        let mut commits = Commits::default();
        let said = commits.look(at(3_000), &facts);
        assert!(said[0].contains("for 2.3 s: node 2 has acknowledged no entries for 2.2 s"), "{said:?}");
        assert_eq!(commits.look(at(3_000), &facts), Vec::<String>::new());
    }
}
