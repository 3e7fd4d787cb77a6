//! Calls that nobody has answered, and that an operator ends.
//!
//! | call | then |
//! |---|---|
//! | rings, and is marked (`dlg end`) | 480 to the caller, 487 if it has hung up meanwhile; CANCEL to who rings |
//! | the node is lost in between | the next one finds the mark and does the same |
//! | it is answered before the failure is safe | its dialog has the mark, and is ended with BYE to both sides |

use super::call::{Call, Phase};
use crate::engine::limits::MAX_ENDS_PER_TICK;
use crate::engine::{Cx, Engine};
use crate::state::ServerKey;

impl Engine {
    /// Fails the calls that are marked.
    pub(crate) fn end_marked_calls(&mut self, cx: Cx<'_>) {
        let own = cx.state.invites_ending().filter(|p| self.is_own_shard(&p.call_id));
        let keys: Vec<ServerKey> = own.take(MAX_ENDS_PER_TICK).map(|p| p.key.clone()).collect();
        for key in keys {
            match self.call_of_key(&key) {
                Some(id) => {
                    self.with_call(cx, id, |engine, call| engine.end_marked(cx, id, call));
                }
                // Forgotten here: what is made of its record is ended the next time.
                None => {
                    if let Some(record) = cx.state.pending(&key) {
                        self.rebuild(cx, record);
                    }
                }
            }
        }
    }

    fn end_marked(&mut self, cx: Cx<'_>, id: u64, call: &mut Call) {
        // What waits for its verdict comes first; then there is a next time.
        let waits = call.deciding.is_some() || call.stepping;
        if !call.is_undecided() || waits || call.retry_at.is_some_and(|at| at > cx.now.mono) {
            return;
        }
        let status = if call.phase == Phase::Cancelled { 487 } else { 480 };
        let bytes = self.made_response(call, status);
        self.propose_failure(cx, id, call, status, bytes);
    }
}
