//! Datagrams that keep the entries of NATs alive. A lap over all contacts takes one interval, spread evenly, so that a
//! hundred thousand phones are not pinged, and do not answer, in the same moment. The engine of the first shard walks.

use std::time::Duration;

use super::Ping;
use crate::engine::limits::{CHORES_INTERVAL, MAX_PINGS_PER_TICK};
use crate::engine::{Cx, Engine};
use crate::location::{Hop, hops_of_binding};
use crate::state::{Binding, Flow, Transport};
use crate::time::MonoTime;
use crate::uac::{Originated, OwnRequest, Purpose};

/// A keepalive that a SIP element drops without an answer.
const EMPTY: &[u8] = b"\r\n\r\n";

/// Where the present lap stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lap {
    started: Option<MonoTime>,
    /// The address of record that was seen last.
    cursor: String,
    done: usize,
}

impl Lap {
    /// How many addresses of record are to be looked at now, of `total` in `interval`. Begins anew when it is time.
    fn share(&mut self, now: MonoTime, interval: Duration, total: usize) -> usize {
        let started = match self.started {
            Some(at) if now.since(at) < interval => at,
            _ => {
                *self = Self { started: Some(now), ..Self::default() };
                now
            }
        };
        // Up to the end of this tick.
        let elapsed = (now.since(started) + CHORES_INTERVAL).min(interval).as_millis();
        let goal = (total as u128 * elapsed).div_ceil(interval.as_millis().max(1));
        usize::try_from(goal).unwrap_or(usize::MAX).saturating_sub(self.done).min(MAX_PINGS_PER_TICK)
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
        let share = lap.share(cx.now.mono, interval, cx.state.aor_count());
        for (aor, bindings) in cx.state.aors_after(&lap.cursor.clone()).take(share) {
            lap.done += 1;
            aor.clone_into(&mut lap.cursor);
            let wanted = |b: &&Binding| {
                b.expires_at > cx.now.wall
                    && b.flow.transport == Transport::Udp
                    && b.path.is_empty()
                    && (all || b.natted)
            };
            for binding in bindings.iter().filter(wanted) {
                if let (Hop::Send(flow), _) = hops_of_binding(binding, &self.settings.config.listen) {
                    self.ping_contact(cx, ping, aor, binding, flow);
                }
            }
        }
        self.pings = lap;
    }

    fn ping_contact(&mut self, cx: Cx<'_>, ping: Ping, aor: &str, binding: &Binding, flow: Flow) {
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
    use super::*;

    /// How many are looked at in each tick of a lap and the next one.
    fn shares(total: usize, ticks: u32, interval: Duration) -> Vec<usize> {
        let mut lap = Lap::default();
        (0..ticks)
            .map(|tick| {
                let share = lap.share(MonoTime(0) + CHORES_INTERVAL * tick, interval, total);
                // There are no more than `total` in a lap.
                let seen = share.min(total - lap.done);
                lap.done += seen;
                seen
            })
            .collect()
    }

    #[test]
    fn a_lap_takes_one_interval_and_is_spread_evenly() {
        let interval = CHORES_INTERVAL * 10;
        assert_eq!(shares(20, 20, interval), vec![2; 20]);
        assert_eq!(shares(5, 20, interval).iter().sum::<usize>(), 10, "each one once in a lap");
        assert_eq!(shares(1, 20, interval).iter().filter(|n| **n == 1).count(), 2);
    }

    #[test]
    fn a_tick_never_sends_more_than_its_bound() {
        let most = shares(10_000_000, 3, CHORES_INTERVAL * 2).into_iter().max();
        assert_eq!(most, Some(MAX_PINGS_PER_TICK));
    }
}
