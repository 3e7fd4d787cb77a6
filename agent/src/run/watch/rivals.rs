//! Others that claim a floating IP which this node holds (RFC 5227 §2.4): what to do about each claim.
//!
//! | claim | what is done |
//! |---|---|
//! | while this node does not serve, or has done so for less than [`GRACE`] | nothing: the former holder may speak last |
//! | the first one, and then after [`DEFEND_EVERY`] | one announcement of ours |
//! | the first one of a machine, and then after [`SAY_EVERY`] | a line at ERROR |
//!
//! RFC 5227 §2.4 (c) lets a host defend its address indefinitely, once in 10 s. Calls would be lost for as long; once in
//! a second is no storm either, with two machines.

use std::net::IpAddr;
use std::time::Duration;

use proxy_core::time::MonoTime;

use crate::os::conflict::Mac;

/// What a former holder said just before it stopped may be heard for so long.
pub const GRACE: Duration = Duration::from_millis(200);
/// At most one defence in this time.
pub const DEFEND_EVERY: Duration = Duration::from_secs(1);
/// The same machine is named in the log at most so often.
pub const SAY_EVERY: Duration = Duration::from_secs(60);
/// A claim is shown in the status for so long.
pub const SHOWN_FOR: Duration = Duration::from_secs(60);
/// Machines that are remembered; a further one is defended against, and named when one of them is forgotten.
pub const MAX_RIVALS: usize = 16;

/// Somebody else that claims a floating IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rival {
    /// Which one.
    pub ip: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
    /// When it was heard first.
    pub since: MonoTime,
    /// When it was heard last.
    pub at: MonoTime,
    /// How often.
    pub times: u64,
    said_at: MonoTime,
}

/// What a claim makes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// An announcement.
    pub defend: bool,
    /// A line in the log.
    pub say: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Rivals {
    active_since: Option<MonoTime>,
    defended_at: Option<MonoTime>,
    known: Vec<Rival>,
}

impl Rivals {
    /// Whether this node serves now.
    pub fn note_active(&mut self, now: MonoTime, active: bool) {
        self.active_since = active.then(|| self.active_since.unwrap_or(now));
        self.known.retain(|r| now.since(r.at) <= SHOWN_FOR);
    }

    /// Somebody else has claimed `ip`; `None`: that is no conflict.
    pub fn heard(&mut self, now: MonoTime, ip: IpAddr, mac: Mac) -> Option<Due> {
        self.active_since.filter(|since| now.since(*since) >= GRACE)?;
        let defend = self.defended_at.is_none_or(|at| now.since(at) >= DEFEND_EVERY);
        if defend {
            self.defended_at = Some(now);
        }
        let has_room = self.known.len() < MAX_RIVALS;
        let say = match self.known.iter_mut().find(|r| r.ip == ip && r.mac == mac) {
            Some(rival) => {
                (rival.at, rival.times) = (now, rival.times + 1);
                let say = now.since(rival.said_at) >= SAY_EVERY;
                if say {
                    rival.said_at = now;
                }
                say
            }
            None if has_room => {
                self.known.push(Rival { ip, mac, since: now, at: now, times: 1, said_at: now });
                true
            }
            None => false,
        };
        Some(Due { defend, say })
    }

    /// Those that were heard a moment ago.
    #[must_use]
    pub fn shown(&self, now: MonoTime) -> Vec<Rival> {
        self.known.iter().filter(|r| now.since(r.at) <= SHOWN_FOR).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn at(ms: u64) -> MonoTime {
        MonoTime(1_000_000_000_000 + ms * 1_000_000)
    }

    fn ip() -> IpAddr {
        [10, 0, 0, 100].into()
    }

    #[test]
    fn a_rival_is_answered_at_once_then_once_a_second_and_named_once_a_minute_rfc5227_2_4() {
        let mut rivals = Rivals::default();
        rivals.note_active(at(0), true);
        let dues: Vec<(u64, Due)> = (1000..62_000)
            .step_by(100)
            .filter_map(|ms| Some((ms, rivals.heard(at(ms), ip(), MAC)?)))
            .collect();
        assert_eq!(dues[0].1, Due { defend: true, say: true });
        assert_eq!(dues.iter().filter(|(_, due)| due.defend).count(), 61);
        let said: Vec<u64> = dues.iter().filter(|(_, due)| due.say).map(|(ms, _)| *ms).collect();
        assert_eq!(said, [1000, 61_000]);
        assert_eq!(rivals.shown(at(62_000))[0].times, 610);
        rivals.note_active(at(130_000), true);
        assert_eq!(rivals.shown(at(130_000)), [], "it has fallen silent");
    }

    #[test]
    fn a_standby_hears_the_holder_and_a_new_holder_the_former_one_and_neither_minds() {
        let mut rivals = Rivals::default();
        rivals.note_active(at(0), false);
        assert_eq!(rivals.heard(at(10), ip(), MAC), None);
        rivals.note_active(at(20), true);
        assert_eq!(rivals.heard(at(30), ip(), MAC), None);
        rivals.note_active(at(230), true);
        assert!(rivals.heard(at(230), ip(), MAC).is_some());
        rivals.note_active(at(240), false);
        assert_eq!(rivals.heard(at(250), ip(), MAC), None);
    }

    #[test]
    fn made_up_machines_take_no_more_room_than_a_few() {
        let mut rivals = Rivals::default();
        rivals.note_active(at(0), true);
        let said = (0..200)
            .filter(|n| rivals.heard(at(1000), ip(), Mac([2, 0, 0, 0, 0, *n])).is_some_and(|d| d.say));
        assert_eq!(said.count(), MAX_RIVALS);
    }
}
