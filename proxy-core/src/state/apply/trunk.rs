//! Changes of the trunks.

use crate::state::index::trunk_bytes;
use crate::state::limits::{
    MAX_TRUNK_BYTES, MAX_TRUNK_ROUTE_BYTES, MAX_TRUNK_SOURCES, MAX_TRUNK_WORDS, MAX_TRUNKS, admits_bytes,
};
use crate::state::trunk::{Account, Registration, RegistrationState, Trunk, TrunkCommand};
use crate::state::trunk_style::TrunkStyle;
use crate::state::{SipResponse, SipState};
use crate::time::WallTime;

impl SipState {
    pub(super) fn trunk_changed(&mut self, command: &TrunkCommand) -> SipResponse {
        match command {
            TrunkCommand::Put { account, call_id, at } => self.put_trunk(account, call_id, *at),
            TrunkCommand::Remove { uuid } => {
                if self.remove_trunk(uuid) {
                    SipResponse::Done
                } else {
                    SipResponse::NotFound
                }
            }
            TrunkCommand::Enable { uuid, enabled, at } => self.change_trunk(uuid, |trunk| {
                if trunk.account.disabled == *enabled {
                    trunk.account.disabled = !enabled;
                    trunk.registration.next_at = *at;
                    trunk.registration.failures = 0;
                }
                SipResponse::Done
            }),
            TrunkCommand::Refresh { uuid, at } => self.change_trunk(uuid, |trunk| {
                trunk.registration.next_at = *at;
                SipResponse::Done
            }),
            TrunkCommand::Registering { uuid, cseq, next_at, at } => self.change_trunk(uuid, |trunk| {
                let registration = &mut trunk.registration;
                let is_early =
                    registration.state == RegistrationState::Registered && registration.next_at > *at;
                if *cseq <= registration.cseq || is_early {
                    return SipResponse::Superseded;
                }
                registration.cseq = *cseq;
                registration.state = RegistrationState::Ongoing;
                registration.next_at = *next_at;
                SipResponse::Done
            }),
            TrunkCommand::Outcome {
                uuid,
                cseq,
                state,
                next_at,
                expires_at,
                min_expires_s,
                service_route,
                last,
            } => self.change_trunk(uuid, |trunk| {
                let registration = &mut trunk.registration;
                if *cseq != registration.cseq || registration.state != RegistrationState::Ongoing {
                    return SipResponse::Superseded;
                }
                registration.state = *state;
                registration.next_at = *next_at;
                registration.failures = match state {
                    RegistrationState::Failed => registration.failures.saturating_add(1),
                    _ => 0,
                };
                registration.expires_at = expires_at.unwrap_or(registration.expires_at);
                registration.min_expires_s = min_expires_s.unwrap_or(registration.min_expires_s);
                if let Some(routes) = service_route {
                    let fits = routes.iter().map(String::len).sum::<usize>() <= MAX_TRUNK_ROUTE_BYTES;
                    registration.service_route = if fits { routes.clone() } else { Vec::new() };
                }
                registration.last = last.chars().take(MAX_TRUNK_WORDS).collect();
                SipResponse::Done
            }),
            TrunkCommand::Probed { uuid, up } => self.change_trunk(uuid, |trunk| {
                trunk.down = !up;
                SipResponse::Done
            }),
            TrunkCommand::Style { uuid, style } => self.style_trunk(uuid, style),
        }
    }

    fn put_trunk(&mut self, account: &Account, call_id: &str, at: WallTime) -> SipResponse {
        let trunks = &self.records.trunks.trunks;
        let old = trunks.get(&account.uuid);
        let registration = match old {
            Some(old) => {
                let mut known =
                    Registration { next_at: at, failures: 0, min_expires_s: 0, ..old.registration.clone() };
                let of = |a: &Account| (a.remote_user.clone(), a.remote_domain.clone());
                if of(&old.account) != of(account) || account.expires_s == 0 {
                    // It was said for another registration (RFC 3608 §5).
                    known.service_route.clear();
                }
                known
            }
            None => Registration {
                call_id: call_id.to_owned(),
                cseq: 0,
                state: RegistrationState::Idle,
                next_at: at,
                expires_at: WallTime(0),
                failures: 0,
                min_expires_s: 0,
                last: String::new(),
                service_route: Vec::new(),
            },
        };
        // Who is not probed is not known to be down.
        let down = account.style.probe && old.is_some_and(|t| t.down);
        let new = Trunk { account: account.clone(), registration, down };
        let bytes = trunk_bytes(&new);
        let more = bytes.saturating_sub(old.map_or(0, trunk_bytes)) as u64;
        if (old.is_none() && trunks.len() >= MAX_TRUNKS)
            || account.sources.len() > MAX_TRUNK_SOURCES
            || bytes > MAX_TRUNK_BYTES
            || !admits_bytes(self.index.bytes, more)
        {
            return SipResponse::Full;
        }
        self.remove_trunk(&account.uuid);
        self.insert_trunk(new);
        SipResponse::Done
    }

    fn style_trunk(&mut self, uuid: &str, style: &TrunkStyle) -> SipResponse {
        let Some(old) = self.records.trunks.trunks.get(uuid) else { return SipResponse::NotFound };
        let mut new = old.clone();
        new.account.style = style.clone();
        let bytes = trunk_bytes(&new);
        let more = bytes.saturating_sub(trunk_bytes(old)) as u64;
        if bytes > MAX_TRUNK_BYTES || !admits_bytes(self.index.bytes, more) {
            return SipResponse::Full;
        }
        self.change_trunk(uuid, |trunk| {
            trunk.account.style = style.clone();
            // Who is not probed is not known to be down.
            trunk.down = trunk.down && style.probe;
            SipResponse::Done
        })
    }

    fn change_trunk(&mut self, uuid: &str, change: impl FnOnce(&mut Trunk) -> SipResponse) -> SipResponse {
        let Some(mut trunk) = self.records.trunks.trunks.get(uuid).cloned() else {
            return SipResponse::NotFound;
        };
        let response = change(&mut trunk);
        self.remove_trunk(uuid);
        self.insert_trunk(trunk);
        response
    }
}
