//! Registrations after an outage of the whole cluster.
//!
//! No phone could refresh during the outage. Dropping all that ended in it at once would leave users unreachable although
//! their phones are there, and all phones would be sought anew in the same second.

use std::collections::BTreeSet;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::state::{Binding, SipState};
use crate::time::WallTime;

/// Shortest time for which a registration that ended during the outage goes on.
pub const GRACE_MIN: Duration = Duration::from_secs(60);
/// Longest one: within it most phones try again.
pub const GRACE_MAX: Duration = Duration::from_secs(300);

impl SipState {
    /// The cluster's time goes forward at once, from `from` to `now`. Registrations that end in between, or within
    /// `GRACE_MIN` of it, end between `GRACE_MIN` and `GRACE_MAX` after `now`, spread evenly.
    pub fn bridge_outage(&mut self, from: WallTime, now: WallTime) {
        let first = now + GRACE_MIN;
        let late = self.index.bindings.range(..=(first, String::new()));
        let aors: BTreeSet<String> = late.map(|(_, aor)| aor.clone()).collect();
        for aor in aors {
            let mut list = self.bindings(&aor).to_vec();
            for binding in list.iter_mut().filter(|b| from < b.expires_at && b.expires_at < first) {
                binding.expires_at = first + share(&aor, binding);
            }
            self.put_bindings(&aor, list);
        }
    }
}

/// Some part of the time between [`GRACE_MIN`] and [`GRACE_MAX`]: the same on every node.
fn share(aor: &str, binding: &Binding) -> Duration {
    let mut hash = Sha256::new();
    hash.update(aor.as_bytes());
    hash.update(binding.contact_key.as_bytes());
    let drawn = hash.finalize().iter().take(4).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let span = u64::try_from((GRACE_MAX - GRACE_MIN).as_millis()).unwrap_or(1);
    Duration::from_millis(drawn % span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Flow, RegisterChange, RegisterCommand, SipCommand, Transport};

    fn registered(state: &mut SipState, user: u32, ends: u64) {
        let at = "192.0.2.1:5060".parse().expect("an address");
        let aor = format!("sip:u{user}@lab.test");
        let binding = Binding {
            contact: format!("sip:u{user}@192.0.2.1"),
            contact_key: format!("sip:u{user}@192.0.2.1"),
            flow: Flow { transport: Transport::Udp, local: at, remote: at },
            natted: false,
            path: Vec::new(),
            q: 1000,
            expires_at: WallTime(ends),
            call_id: String::from("r"),
            cseq: 1,
            instance: None,
            reg_id: None,
            user_agent: String::new(),
            updated_at: WallTime(1),
            methods: None,
            outbound: false,
            gruu: None,
        };
        state.apply(&SipCommand::Register(RegisterCommand {
            aor,
            call_id: String::from("r"),
            cseq: 1,
            change: RegisterChange::Contacts(vec![binding]),
            max_contacts: 8,
            at: WallTime(1),
        }));
    }

    #[test]
    fn registrations_that_ended_in_an_outage_go_on_for_a_while_and_end_one_by_one() {
        let mut state = SipState::default();
        let (from, now) = (WallTime(1_000_000), WallTime(2_000_000));
        for user in 0..200 {
            registered(&mut state, user, 1_000_001 + u64::from(user) * 5_000);
        }
        registered(&mut state, 200, 5_000_000);
        state.bridge_outage(from, now);
        let ends: BTreeSet<u64> = state.aors().flat_map(|(_, list)| list).map(|b| b.expires_at.0).collect();
        // 201 registrations; two of them meet in one ms (2,136,460), as they are drawn by their names.
        assert_eq!(ends.len(), 200, "hardly two at once");
        assert_eq!(ends.last(), Some(&5_000_000), "what lasts longer is as it was");
        assert!(ends.iter().rev().skip(1).all(|end| (2_060_000..2_300_000).contains(end)), "{ends:?}");
        assert!(state.index_is_right());
        let before = state.clone();
        state.bridge_outage(from, now);
        assert_eq!(state, before, "said twice, it changes nothing");
    }
}
