//! Datagrams that keep the entries of NATs alive. A lap over all contacts takes one interval, spread evenly, so that a
//! hundred thousand phones are not pinged, and do not answer, in the same moment. The engine of the first shard walks.
//!
//! Laps follow the wall clock, so that every node has the same turn for a contact: one that takes over goes on where the
//! lost one was, and no contact waits for two intervals, which the entry in its NAT might not outlast.

use std::time::Duration;

use super::Ping;
use crate::engine::limits::{CHORES_INTERVAL, MAX_PINGS_PER_TICK};
use crate::engine::{Cx, Engine};
use crate::location::{Hop, hops_of_binding};
use crate::state::{Binding, Flow, Transport};
use crate::time::WallTime;
use crate::uac::{Originated, OwnRequest, Purpose};

/// A keepalive that a SIP element drops without an answer.
const EMPTY: &[u8] = b"\r\n\r\n";

/// An owner that begins goes back so far: the turns of these contacts may have come while nobody was there.
const OUTAGE: Duration = Duration::from_secs(5);

/// Where the present lap stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lap {
    /// Intervals of the wall clock so far.
    number: Option<u64>,
    /// The address of record that was seen last.
    cursor: String,
    done: usize,
}

impl Lap {
    /// The addresses of record whose turn it is, of `total`. `after` gives those behind a name, in their order.
    fn turn<'a, T, I: Iterator<Item = (&'a str, T)>>(
        &mut self,
        now: WallTime,
        interval: Duration,
        total: usize,
        after: impl Fn(&str) -> I,
    ) -> Vec<(&'a str, T)> {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let interval = ms(interval).max(1);
        let (number, elapsed) = (now.0 / interval, now.0 % interval);
        let share = |ms: u64| total as u128 * u128::from(ms.min(interval));
        if self.number.is_none() {
            let before = share(elapsed.saturating_sub(ms(OUTAGE))) / u128::from(interval);
            self.done = usize::try_from(before).unwrap_or(usize::MAX);
            if let Some(last) = self.done.checked_sub(1) {
                self.cursor = after("").nth(last).map_or_else(String::new, |(name, _)| name.to_owned());
            }
        } else if self.number != Some(number) {
            if self.done >= total {
                self.cursor.clear();
            }
            // Otherwise there are more than can be seen in an interval: the walk goes on, so that all are seen.
            self.done = 0;
        }
        self.number = Some(number);
        // Up to the end of this tick.
        let goal = share(elapsed + ms(CHORES_INTERVAL)).div_ceil(u128::from(interval));
        let due =
            usize::try_from(goal).unwrap_or(usize::MAX).saturating_sub(self.done).min(MAX_PINGS_PER_TICK);
        let mut found: Vec<_> = after(&self.cursor).take(due).collect();
        if found.len() < due && !self.cursor.is_empty() {
            // Behind the last one comes the first one.
            found.extend(after("").take((due - found.len()).min(total.saturating_sub(found.len()))));
        }
        self.done += found.len();
        if let Some((name, _)) = found.last() {
            (*name).clone_into(&mut self.cursor);
        }
        found
    }
}

impl Engine {
    /// Pings the contacts whose turn it is.
    pub(crate) fn nat_tick(&mut self, cx: Cx<'_>) {
        let config = &self.settings.config.nat;
        let (ping, all, interval) = (config.ping, config.ping_all, config.ping_interval);
        if ping == Ping::Off || !self.is_first_shard() {
            return;
        }
        let mut lap = std::mem::take(&mut self.pings);
        let after = |name: &str| cx.state.aors_after(name);
        for (aor, bindings) in lap.turn(cx.now.wall, interval, cx.state.aor_count(), after) {
            let wanted = |b: &&Binding| {
                b.expires_at > cx.now.wall
                    && b.flow.transport == Transport::Udp
                    && b.path.is_empty()
                    && (all || b.natted)
            };
            for binding in bindings.iter().filter(wanted) {
                let name = || format!("the pings to {} of {aor}", binding.contact);
                self.contain_each(name, |engine| {
                    if let (Hop::Send(flow), _) = hops_of_binding(binding, &engine.settings.config.listen) {
                        engine.ping_contact(cx, ping, aor, binding, flow);
                    }
                });
            }
        }
        self.pings = lap;
    }

    fn ping_contact(&mut self, cx: Cx<'_>, ping: Ping, aor: &str, binding: &Binding, flow: Flow) {
        self.drill("ping", aor);
        self.counters.nat_pings += 1;
        if ping == Ping::Crlf {
            self.transmit(flow, EMPTY);
            return;
        }
        let at = cx.now.wall.0.to_be_bytes();
        let call_id = self.call_id_here("natping", &[aor.as_bytes(), binding.contact_key.as_bytes(), &at]);
        let from = format!("sip:ping@{}", flow.local);
        let request =
            OwnRequest::new("OPTIONS", &binding.contact, &from, &call_id, aor).numbered(&call_id, 1);
        let purpose = Purpose::NatPing { aor: aor.to_owned(), contact_key: binding.contact_key.clone() };
        let patience = Some(self.settings.timers.t1() * 8);
        self.originate(cx, Originated { flow, request, purpose, patience });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ops::Bound;

    use super::*;

    fn names(total: usize) -> BTreeSet<String> {
        (0..total).map(|n| format!("{n:07}")).collect()
    }

    /// Who has his turn in each tick from `start` on.
    fn turns<'a>(
        lap: &mut Lap,
        names: &'a BTreeSet<String>,
        start: u64,
        ticks: u32,
        interval: Duration,
    ) -> Vec<Vec<&'a str>> {
        let after = |name: &str| {
            let behind = (Bound::Excluded(name.to_owned()), Bound::Unbounded);
            names.range(behind).map(|n| (n.as_str(), ()))
        };
        (0..ticks)
            .map(|tick| {
                let now = WallTime(start) + CHORES_INTERVAL * tick;
                lap.turn(now, interval, names.len(), after).into_iter().map(|(n, ())| n).collect()
            })
            .collect()
    }

    fn counts(total: usize, ticks: u32, interval: Duration) -> Vec<usize> {
        turns(&mut Lap::default(), &names(total), 0, ticks, interval).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_lap_takes_one_interval_and_is_spread_evenly() {
        let interval = CHORES_INTERVAL * 10;
        assert_eq!(counts(20, 20, interval), vec![2; 20]);
        assert_eq!(counts(5, 20, interval).iter().sum::<usize>(), 10, "each one once in a lap");
        assert_eq!(counts(1, 20, interval).iter().filter(|n| **n == 1).count(), 2);
    }

    #[test]
    fn one_that_takes_over_goes_on_where_the_other_was_and_a_little_before() {
        let (interval, all) = (CHORES_INTERVAL * 60, names(60));
        let at = 1_700_000_010_000 / 30_000 * 30_000;
        let whole = turns(&mut Lap::default(), &all, at, 60, interval);
        let rest = turns(&mut Lap::default(), &all, at + 15_000, 30, interval);
        assert_eq!(rest[0], whole[20..=30].concat(), "the turns of the last five seconds, and the next");
        assert_eq!(rest[1..], whole[31..]);
    }

    #[test]
    fn a_tick_never_sends_more_than_its_bound_and_nobody_is_left_out() {
        let (interval, total) = (CHORES_INTERVAL * 2, MAX_PINGS_PER_TICK * 7);
        let all = names(total);
        let turns = turns(&mut Lap::default(), &all, 0, 7, interval);
        assert!(turns.iter().all(|t| t.len() == MAX_PINGS_PER_TICK));
        assert_eq!(turns.concat().into_iter().collect::<BTreeSet<_>>().len(), total);
    }
}
