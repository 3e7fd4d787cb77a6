//! An operator makes this node the whole cluster, because all other voters are gone and he has fenced them: a pair without
//! a witness of which one is lost, or three of which two are.
//!
//! The node retires and begins the cluster anew with its own state, as one does after a majority in doubt
//! ([`super::doubt`]): a new incarnation, a later birth, one voter. A later birth is a larger term whatever the others have
//! done since ([`super::rebirth`]), so that none of them can outvote it: when one comes back it hears of the later birth
//! during its silence of one lease, sets its store aside, and joins as a learner.
//!
//! | refused | why |
//! |---|---|
//! | this node leads a majority | there is nothing to promote |
//! | one of the others answers | it is not fenced; together they may be a majority |
//! | not every other voter was named as fenced | it may serve somewhere |
//! | somebody was named who does not vote | a slip: it is the wrong cluster, or the wrong node |
//! | this node is no voter, or has retired | what it has may be old |

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::client::Transport;
use super::core::Core;
use super::doubt::{Begins, Reach};
use super::join;
use super::members::Refusal;
use super::retire::Retired;
use super::types::{Place, incarnation_of, place_of};

/// How often the others are asked before they count as silent: one answer may be lost.
const TRIES: u32 = 2;

/// What a node would begin with, and what may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prospect {
    /// The last entry that it has.
    pub last: u64,
    /// The last one that it knows to be committed.
    pub committed: u64,
    /// Whether the others may have committed something without it: they were a majority without it.
    pub may_miss: bool,
    /// What the others said last: who, up to which entry, how long ago.
    pub said: Vec<(Place, u64, Duration)>,
    /// The other voters.
    pub fenced: Vec<Place>,
}

/// What is known when a node is asked to become the whole cluster.
#[derive(Debug, Clone, Default)]
struct Picture {
    me: Place,
    /// Places of all voters, this one too.
    voters: BTreeSet<Place>,
    /// Others that answer now.
    answer: Vec<Place>,
    /// It leads, and a majority has acknowledged that.
    leads: bool,
    /// Why it cannot be trusted.
    outside: Option<String>,
}

/// Checks what was named against what is known; pure.
fn check(picture: &Picture, named: &BTreeSet<Place>) -> Result<(), Refusal> {
    let refuse = |error: String, cure: &str| {
        Err(Refusal { error: error + "; nothing was changed", cure: cure.into() })
    };
    let list =
        |places: &BTreeSet<Place>| places.iter().map(Place::to_string).collect::<Vec<_>>().join(" and ");
    if let Some(why) = &picture.outside {
        return refuse(format!("what this node has may be old: {why}"), "look at the other nodes first");
    }
    if !picture.voters.contains(&picture.me) {
        return refuse(
            "this node does not vote: what it has may be old".into(),
            "promote a node that votes, or begin from a backup: relevo restore FILE",
        );
    }
    let others: BTreeSet<Place> = picture.voters.iter().copied().filter(|p| *p != picture.me).collect();
    if others.is_empty() {
        return refuse(
            "this node is the whole cluster already".into(),
            "relevo status says whether it serves",
        );
    }
    if picture.leads {
        return refuse(
            "this node leads, and a majority of the nodes follows".into(),
            "to move the service: relevo switchover; to take a lost node out: relevo members remove NODE",
        );
    }
    let answer: BTreeSet<Place> = picture.answer.iter().copied().filter(|p| others.contains(p)).collect();
    if !answer.is_empty() {
        let verb = if answer.len() == 1 { "answers" } else { "answer" };
        return refuse(
            format!("node {} {verb} on the port of the nodes", list(&answer)),
            "it is not fenced: mend it, so that a majority leads again; or cut its power, and say it again",
        );
    }
    let unnamed: BTreeSet<Place> = others.difference(named).copied().collect();
    if !unnamed.is_empty() {
        return refuse(
            format!("node {} votes, too, and was not named: it may serve somewhere", list(&unnamed)),
            "cut its power, and name each lost node: --i-have-fenced NODE",
        );
    }
    let strangers: BTreeSet<Place> = named.difference(&others).copied().collect();
    if !strangers.is_empty() {
        return refuse(
            format!(
                "node {} was named, and is none of the others that vote ({})",
                list(&strangers),
                list(&others)
            ),
            "name those: relevo members list",
        );
    }
    Ok(())
}

impl<T: Transport> Core<T> {
    /// What would come of [`Core::promote`], with the same checks.
    ///
    /// # Errors
    /// Why it must not be.
    pub async fn prospect(&self, named: &[Place]) -> Result<Prospect, Refusal> {
        let facts = self.facts();
        let id = self.config().id;
        let me = place_of(id);
        let metrics = self.raft().metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let voters: BTreeSet<Place> = membership.membership().voter_ids().map(place_of).collect();
        let others: Vec<_> = self.known_peers().into_iter().filter(|p| p.place != me).collect();
        let mut answer = Vec::new();
        for _ in 0..TRIES {
            let transport = &self.clients().transport;
            let asked = others.iter().map(|peer| async { (peer.place, join::hello(transport, *peer).await) });
            let heard = futures::future::join_all(asked).await;
            answer.extend(heard.into_iter().filter(|(_, hello)| hello.is_some()).map(|(place, _)| place));
        }
        let young = |at| self.now().since(at) < self.config().election_max;
        let retired = self.is_retired().then(|| String::from("it comes back as a new member"));
        let picture = Picture {
            me,
            voters: voters.clone(),
            answer,
            leads: facts.leading && facts.quorum_ack_at.is_some_and(young),
            outside: self.outside().or(retired),
        };
        check(&picture, &named.iter().copied().collect())?;
        let said = self.last_words();
        let fenced: Vec<Place> = voters.iter().copied().filter(|p| *p != me).collect();
        let now = self.now();
        Ok(Prospect {
            last: facts.last_log,
            committed: facts.applied,
            may_miss: fenced.len() > voters.len() / 2,
            said: said
                .into_iter()
                .filter(|(p, ..)| fenced.contains(p))
                .map(|(p, n, at)| (p, n, now.since(at)))
                .collect(),
            fenced,
        })
    }

    /// Makes this node the whole cluster. From its return on it neither votes nor acknowledges as what it was; it comes
    /// back by itself, within seconds, as the only voter of a cluster that is begun anew.
    ///
    /// # Errors
    /// Why it must not be; nothing has changed then.
    pub async fn promote(&self, named: &[Place]) -> Result<Prospect, Refusal> {
        let prospect = self.prospect(named).await?;
        let last = self.raft().with_raft_state(|state| state.log_ids.last().cloned()).await.ok().flatten();
        let Some(last) = last else {
            return Err(Refusal {
                error: "this node has no state to begin from; nothing was changed".into(),
                cure: "promote the node that has one, or begin from a backup: relevo restore FILE".into(),
            });
        };
        let own = Reach::whole(last);
        let names: Vec<String> = prospect.fenced.iter().map(Place::to_string).collect();
        self.retire(Retired {
            why: format!(
                "an operator promotes it to the whole cluster, and says that he has fenced node {}",
                names.join(" and ")
            ),
            incarnation: incarnation_of(self.config().id),
            begins: Some(Begins {
                last: own.index,
                promised: Some(own.index).filter(|_| !prospect.may_miss),
                own,
                by_operator: true,
            }),
        });
        Ok(prospect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(voters: &[Place]) -> Picture {
        Picture { me: 1, voters: voters.iter().copied().collect(), ..Picture::default() }
    }

    fn why(picture: &Picture, named: &[Place]) -> String {
        check(picture, &named.iter().copied().collect()).expect_err("refused").to_string()
    }

    #[test]
    fn a_node_is_promoted_when_all_other_voters_are_silent_and_named() {
        assert_eq!(check(&picture(&[1, 2]), &[2].into()), Ok(()));
        assert_eq!(check(&picture(&[1, 2, 3]), &[2, 3].into()), Ok(()));
    }

    #[test]
    fn whoever_answers_is_not_fenced_and_whoever_is_not_named_may_serve() {
        let answers = Picture { answer: vec![2, 2], ..picture(&[1, 2, 3]) };
        assert!(why(&answers, &[2, 3]).contains("node 2 answers on the port of the nodes"));
        assert!(why(&picture(&[1, 2, 3]), &[2]).contains("node 3 votes, too"));
        assert!(
            why(&picture(&[1, 2]), &[2, 7])
                .contains("node 7 was named, and is none of the others that vote (2)")
        );
    }

    #[test]
    fn a_node_that_leads_that_is_alone_or_whose_state_may_be_old_is_not_promoted() {
        assert!(
            why(&Picture { leads: true, ..picture(&[1, 2]) }, &[2])
                .contains("a majority of the nodes follows")
        );
        assert!(why(&picture(&[1]), &[2]).contains("the whole cluster already"));
        assert!(why(&picture(&[2, 3]), &[2, 3]).contains("does not vote"));
        let removed = Picture { outside: Some("it was removed".into()), ..picture(&[1, 2]) };
        assert!(why(&removed, &[2]).contains("may be old: it was removed"));
    }
}
