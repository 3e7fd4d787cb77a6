//! All simulated phones together: what comes for them, and what they send.

use std::net::SocketAddr;

use super::base::Rng;
use super::call::{Call, Kind};
use super::callee::Manner;
use super::client::Registrar;
use super::lamps::Lamps;
use super::notes::Notes;
use super::peers::{Carrier, Pbxs};
use super::rtp::RtpEngines;
use super::setup::{CARRIER, PBXS};
use super::sip;

/// All phones, and who else there is to be called.
#[derive(Debug, Default)]
pub struct Phones {
    /// Phones that only register.
    pub registrars: Vec<Registrar>,
    /// Calls.
    pub calls: Vec<Call>,
    /// The carrier of the trunk.
    pub carrier: Carrier,
    /// Rtpengines.
    pub rtp: RtpEngines,
    /// Watchers.
    pub lamps: Lamps,
    /// Messages.
    pub notes: Notes,
    /// The PBXs.
    pub pbxs: Pbxs,
    /// Backends and trunk are known to the cluster: they can be called.
    pub provisioned: bool,
}

/// What a phone sends.
pub type Sent = (SocketAddr, String);

impl Phones {
    /// Whether nothing listens at `to`, so that an ICMP error goes back.
    #[must_use]
    pub fn is_absent(&self, to: SocketAddr) -> bool {
        let mut callees = self.calls.iter().flat_map(|c| &c.callees);
        callees.any(|c| c.at == to && c.manner == Manner::Absent)
    }

    /// A PBX dies, if one can be spared. Says which.
    pub fn pbx_dies(&mut self, detail: u64) -> Option<SocketAddr> {
        let dead = self.pbxs.die(detail)?;
        for callee in self.calls.iter_mut().flat_map(|c| &mut c.callees).filter(|c| c.at == dead) {
            callee.die();
        }
        Some(dead)
    }

    /// What is no phone at `to` says to this; `None` if it is for a phone or a call.
    fn peer_says(&mut self, to: SocketAddr, text: &str, now: u64) -> Option<Vec<String>> {
        let method = text.split(' ').next().unwrap_or_default();
        if to == CARRIER && method == "REGISTER" {
            return Some(vec![self.carrier.on_register(text, now)]);
        }
        if PBXS.contains(&to) && method == "OPTIONS" {
            let dead = self.pbxs.is_dead(to);
            return Some(if dead { Vec::new() } else { vec![sip::respond(text, 200, "o", None)] });
        }
        None
    }

    /// Something has come for the phone at `to`.
    pub fn on(&mut self, to: SocketAddr, text: &str, now: u64, rng: &mut Rng) -> Vec<Sent> {
        let mut out = Vec::new();
        if let Some(said) = self.peer_says(to, text, now) {
            return said.into_iter().map(|text| (to, text)).collect();
        }
        let own = self.notes.on(to, text, now, rng).or_else(|| self.lamps.on(to, text, now));
        if let Some(said) = own {
            return said.into_iter().map(|text| (to, text)).collect();
        }
        let registering = sip::cseq(text).is_some_and(|(_, method)| method == "REGISTER");
        if let Some(registrar) = self.registrars.iter_mut().find(|r| r.at == to) {
            registrar.on(text, now, rng);
        }
        for call in &mut self.calls {
            if call.caller.at == to {
                call.caller.on(text, now, &mut out);
            }
            if registering {
                for registrar in call.registrars.iter_mut().filter(|r| r.at == to) {
                    registrar.on(text, now, rng);
                }
            } else if let Some(callee) = call.callees.iter_mut().find(|c| c.is_meant(to, text)) {
                callee.on(text, now, &mut out);
            }
        }
        out.into_iter().map(|text| (to, text)).collect()
    }

    /// Time goes on.
    pub fn tick(&mut self, now: u64) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut add = |at: SocketAddr, out: &mut Vec<String>| sent.extend(out.drain(..).map(|t| (at, t)));
        self.rtp.tick(now);
        self.notes.tick(now, &mut add);
        self.lamps.tick(now, &mut add);
        let mut out = Vec::new();
        for registrar in &mut self.registrars {
            registrar.tick(now, &mut out);
            add(registrar.at, &mut out);
        }
        let provisioned = self.provisioned;
        let is_live = |c: &Call| !c.over() || c.callees.iter().any(|c| c.is_busy() || c.is_ringing());
        for call in self.calls.iter_mut().filter(|c| is_live(c)) {
            for registrar in &mut call.registrars {
                registrar.tick(now, &mut out);
                add(registrar.at, &mut out);
            }
            for callee in &mut call.callees {
                callee.tick(now, &mut out);
                add(callee.at, &mut out);
            }
            let ready = provisioned || !matches!(call.kind, Kind::Pool | Kind::Trunk);
            let registered = call.registrars.iter().all(|r| r.confirmed > 0);
            if call.begun.is_none() && ready && registered && now >= call.from {
                call.begun = Some(now);
                call.caller.begin(now, &mut out);
            }
            if call.begun.is_some() {
                call.caller.tick(now, &mut out);
            }
            add(call.caller.at, &mut out);
        }
        sent
    }
}
