//! The key of nonces: drawn when there is none, and again when it has served its time. The first engine of the active
//! node proposes it, so that every node has it; one that takes over goes on with it.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::engine::ticket::Awaiting;
use crate::engine::{Cx, Engine};
use crate::state::{NonceSecret, ProvisionCommand, SipCommand};
use crate::time::Now;

impl Engine {
    /// Proposes a key when one is due. What comes of it is seen at the next tick.
    pub(crate) fn auth_tick(&mut self, cx: Cx<'_>) {
        let config = &self.settings.config.auth;
        // A rule may ask for credentials though nobody else is asked.
        let is_used = config.enabled
            || cx.state.counts().subscribers > 0
            || self.settings.config.routing.rules.iter().any(|rule| rule.require_auth);
        if !is_used || !self.is_first_shard() {
            return;
        }
        let newest = cx.state.provision().nonce_key();
        if newest.is_some_and(|key| key.made_at + config.key_life > cx.now.wall) {
            return;
        }
        let command = ProvisionCommand::NonceKey {
            replaces: newest.map(|key| key.id),
            secret: draw(&config.seed, cx.now),
            at: cx.now.wall,
        };
        self.propose(SipCommand::Provision(command), Awaiting::Nothing);
    }
}

/// A new secret from the seed of this process: another one at each moment.
fn draw(seed: &NonceSecret, now: Now) -> NonceSecret {
    let mut out = [0; 32];
    // HMAC takes keys of any length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(seed.bytes()) {
        mac.update(b"relevo nonce key");
        mac.update(&now.wall.0.to_be_bytes());
        mac.update(&now.mono.0.to_be_bytes());
        out = mac.finalize().into_bytes().into();
    }
    NonceSecret::new(out)
}
