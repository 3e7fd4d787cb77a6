//! Which rtpengine gets a call: of those of its set that are there and not put aside, the one with the fewest calls for
//! its weight; among equals the Call-ID decides, so that all nodes of a cluster come to the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::config::Node;
use crate::state::SipState;
use crate::time::MonoTime;

/// How an rtpengine fares, as far as this engine knows. One that has not been heard of is believed to be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// It did not answer the last time.
    pub dead: bool,
    /// When it answered last.
    pub heard_at: Option<MonoTime>,
    /// When it was asked last whether it is there.
    pub pinged_at: Option<MonoTime>,
    /// What the cluster was told of it since the last look: not again until the next.
    pub(super) told: Option<bool>,
}

/// Of all that have been asked something.
pub type Fares = BTreeMap<SocketAddr, Health>;

/// Whether it may be asked to take a call.
pub(crate) fn is_usable(node: SocketAddr, fares: &Fares, state: &SipState) -> bool {
    !is_dead(node, fares, state) && !state.media_nodes().disabled.contains_key(&node)
}

/// Whether it has not answered, this engine or another one, on this node or the last owner.
pub(crate) fn is_dead(node: SocketAddr, fares: &Fares, state: &SipState) -> bool {
    fares.get(&node).is_some_and(|h| h.dead) || state.media_nodes().dead.contains_key(&node)
}

/// The one for a call that none of `tried` has taken. `None` if there is none; the dead ones are not asked then either:
/// a ping finds out sooner than a caller would.
pub(crate) fn choose(
    nodes: &[Node],
    set: u32,
    seed: u64,
    tried: &[SocketAddr],
    fares: &Fares,
    state: &SipState,
) -> Option<SocketAddr> {
    let usable: Vec<&Node> = nodes
        .iter()
        .filter(|n| n.set == set && !tried.contains(&n.address) && is_usable(n.address, fares, state))
        .collect();
    let count = usable.len() as u64;
    let first = seed.checked_rem(count).unwrap_or(0) as usize;
    let turned = usable.iter().cycle().skip(first).take(usable.len());
    // Calls per weight, compared without fractions: a/b < c/d is a*d < c*b.
    let load = |n: &Node| u64::from(state.media_load(n.address)) + 1;
    let best = turned.reduce(|best, next| {
        let (a, b) = (load(next) * u64::from(best.weight), load(best) * u64::from(next.weight));
        if a < b { next } else { best }
    });
    best.map(|n| n.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{MediaCommand, SipCommand};
    use crate::time::WallTime;

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 2223))
    }

    fn nodes() -> Vec<Node> {
        [(1, 1, 0), (2, 3, 0), (3, 1, 7)]
            .map(|(n, weight, set)| Node { address: at(n), weight, set })
            .to_vec()
    }

    #[test]
    fn the_set_health_and_the_operator_decide() {
        let mut state = SipState::default();
        let mut fares = Fares::default();
        let of = |set, tried: &[SocketAddr], fares: &Fares, state: &SipState| {
            choose(&nodes(), set, 0, tried, fares, state)
        };
        // Nobody has a call: the first call is lightest for the heavier one.
        assert_eq!(of(0, &[], &fares, &state), Some(at(2)));
        assert_eq!(of(7, &[], &fares, &state), Some(at(3)));
        assert_eq!(of(1, &[], &fares, &state), None);
        assert_eq!(of(0, &[at(2)], &fares, &state), Some(at(1)));
        fares.insert(at(2), Health { dead: true, ..Health::default() });
        assert_eq!(of(0, &[], &fares, &state), Some(at(1)));
        let command = MediaCommand::SetDisabled { node: at(1), disabled: true, at: WallTime(5) };
        state.apply(&SipCommand::Media(command));
        assert_eq!(of(0, &[], &fares, &state), None);
        fares.clear();
        assert_eq!(of(0, &[], &fares, &state), Some(at(2)));
        // What the last owner has found out counts as well.
        let command = MediaCommand::Health { node: at(2), dead: true, at: WallTime(6) };
        state.apply(&SipCommand::Media(command));
        assert_eq!(of(0, &[], &fares, &state), None);
    }

    #[test]
    fn among_equals_the_seed_decides() {
        let two: Vec<Node> = [1, 2].map(|n| Node { address: at(n), weight: 1, set: 0 }).to_vec();
        let state = SipState::default();
        let chosen = [0, 1, 2].map(|seed| choose(&two, 0, seed, &[], &Fares::default(), &state));
        assert_eq!(chosen, [Some(at(1)), Some(at(2)), Some(at(1))]);
    }
}
