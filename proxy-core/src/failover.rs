//! How long silence is borne: what the operator chooses about targets that say nothing, or nothing more.
//!
//! | the target | the call waits for | then |
//! |---|---|---|
//! | has said nothing, and its name has a server at another address | `next_address` | goes on there |
//! | has said nothing, is a backend or a trunk, and the plan has somebody else | its own patience | the next one |
//! | has said nothing, and nobody else is left | `fr_timer`, 64*T1 without one | 408 of the branch |
//! | has said 100 and nothing more, and is a destination that is probed | `doubt` | it is probed at once |
//! | rings, and its backend is found dead | nothing, if `ringing` | the next one |

use std::time::Duration;

/// What the operator chooses. The defaults leave phones what RFC 3261 gives them, and take it from servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailoverConfig {
    /// Kamailio's `fr_timer`: a target without any response by then has failed with 408. `None`: timer B (64*T1).
    pub fr_timer: Option<Duration>,
    /// Without any response by then the next address of the name is tried (RFC 3263 §4.3); zero: only after timer B.
    /// A server says 100 at once, and three seconds are three copies of the INVITE (at 0, 0.5, 1.5 s): whoever has
    /// heard none of them is not there.
    pub next_address: Duration,
    /// A destination that has said 100 and nothing else by then is asked whether it is alive; zero: never.
    pub doubt: Duration,
    /// Calls that ring at a backend which is found dead go on, too; otherwise only those that have not rung.
    pub ringing: bool,
}

impl Default for FailoverConfig {
    fn default() -> Self {
        Self {
            fr_timer: None,
            next_address: Duration::from_secs(3),
            doubt: Duration::from_secs(2),
            ringing: true,
        }
    }
}
