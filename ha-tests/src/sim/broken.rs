//! The parts that are broken on purpose, to see that the judge finds them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use proxy_core::state::message_store::{MessageCommand, Tries};
use proxy_core::state::subscriptions::SubscriptionCommand;
use proxy_core::state::trunk::TrunkCommand;
use proxy_core::state::{ServerKey, SipCommand, SipState};
use proxy_core::time::WallTime;

use super::rtp;
use super::sip;

/// What a test breaks, to see that the judge notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mutation {
    /// Nothing.
    #[default]
    None,
    /// The control thread takes a lease of three seconds for granted.
    LongLease,
    /// The kernel's timeouts are 400 ms late.
    LateKernel,
    /// Nothing is synced before it is acknowledged.
    NoFsync,
    /// Engines are told "committed" as soon as they ask.
    EarlyVerdict,
    /// A restarted voter votes at once.
    NoSilence,
    /// The engine is not told to stop when the lease has gone.
    NoStop,
    /// What is to be tried after the first phones is not replicated.
    NoPlan,
    /// Backends are neither probed nor given up.
    NoFailover,
    /// CANCEL never leaves.
    NoCancel,
    /// Who was told how a call ended is told otherwise, too.
    SecondFinal,
    /// Nothing is accounted for.
    NoRecords,
    /// Failed calls are accounted for twice.
    TwoRecords,
    /// A registration at a trunk is followed by another one at once.
    EagerTrunk,
    /// All registrations at trunks have the same number.
    NoNumbers,
    /// No rtpengine is asked for the answer.
    NoAnswers,
    /// No rtpengine hears that a call is over.
    NoDeletes,
    /// Rtpengines are asked after the end of the lease, too.
    NoLease,
    /// No rtpengine is told twice that a call is over.
    NoRepeats,
    /// A subscription is promised before it is committed.
    EarlyLamp,
    /// Nobody is told of a change.
    LostLamps,
    /// Calls that are over are shown as if they went on.
    StaleLamps,
    /// A subscription that was accepted is forgotten.
    NoLamps,
    /// All NOTIFYs have the same number.
    SameNotify,
    /// A message is promised before it is committed.
    EarlyNote,
    /// No message is delivered.
    LostNotes,
    /// What was delivered is taken for refused.
    TwoNotes,
    /// Who has a grave ailment is no candidate, not even where there is no other.
    NoLastChoice,
    /// Every other node is believed to have everything and to answer.
    BlindTransfer,
    /// A heartbeat is answered by the vote that is on the disk, before the core has renewed its promise.
    EarlyPromise,
    /// Entries are acknowledged like heartbeats, before they are on the disk.
    EarlyEntries,
    /// A leader that cannot commit stays, whatever the others could do.
    NoAbdication,
    /// A node whose store was lost to damage begins as if nothing had ever been there.
    Emptiness,
    /// A node does not notice that it lacks what it had acknowledged.
    Forgetful,
    /// Engines are given the wall clock for the time of the cluster.
    WallClock,
    /// Node 1 has another record than the others.
    OddApply,
}

/// What is proposed in place of a command by a store that is broken on purpose: the command itself comes last.
#[must_use]
pub fn spoilt(mutation: Mutation, command: SipCommand, state: &SipState, now: WallTime) -> Vec<SipCommand> {
    match (mutation, command) {
        (Mutation::NoPlan, SipCommand::InviteReceived(mut record)) => {
            record.plan.clear();
            record.no_answer_at = None;
            vec![SipCommand::InviteReceived(record)]
        }
        (Mutation::NoRecords, SipCommand::InviteReceived(mut record)) => {
            record.facts = None;
            vec![SipCommand::InviteReceived(record)]
        }
        (Mutation::TwoRecords, SipCommand::InviteFailed { key, response, at, forget_at, .. }) => {
            let other = ServerKey { branch: format!("{}-x", key.branch), sent_by: key.sent_by.clone() };
            let twin = state.pending(&key).cloned().map(|mut twin| {
                twin.key = other.clone();
                SipCommand::InviteReceived(Box::new(twin))
            });
            let failed = |key, to_tag: &str| SipCommand::InviteFailed {
                key,
                response: response.clone(),
                to_tag: to_tag.to_owned(),
                at,
                forget_at,
            };
            twin.into_iter().chain([failed(other, "x"), failed(key, "")]).collect()
        }
        (Mutation::EagerTrunk, SipCommand::Trunk(outcome @ TrunkCommand::Outcome { .. })) => {
            let TrunkCommand::Outcome { uuid, cseq, .. } = &outcome else { return Vec::new() };
            let next_at = now + Duration::from_secs(40);
            // With its real time it would be refused.
            let at = next_at + Duration::from_secs(86_400);
            let again = TrunkCommand::Registering { uuid: uuid.clone(), cseq: cseq + 1, next_at, at };
            [outcome.clone(), again, outcome].map(SipCommand::Trunk).to_vec()
        }
        (Mutation::NoLamps, SipCommand::Subscription(SubscriptionCommand::Subscribe(subscription))) => {
            let remove = SubscriptionCommand::Remove { id: subscription.id.clone() };
            [SubscriptionCommand::Subscribe(subscription), remove].map(SipCommand::Subscription).to_vec()
        }
        (Mutation::TwoNotes, SipCommand::Message(MessageCommand::Remove { aor, number })) => {
            let cseq = state.messages_of(&aor).next().map_or(1, |(_, m)| m.cseq) + 1;
            let tries = Tries { failures: 1, cseq, next_at: Some(now) };
            let registration = String::from("of-nobody");
            vec![SipCommand::Message(MessageCommand::Failed { aor, number, registration, tries })]
        }
        (_, command) => vec![command],
    }
}

/// Sends a datagram of the engine, as a socket does that may be broken on purpose.
pub fn send(mutation: Mutation, to: SocketAddr, bytes: Vec<u8>, out: &mut Vec<(SocketAddr, Vec<u8>)>) {
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let method = if mutation == Mutation::NoNumbers { "REGISTER " } else { "NOTIFY " };
    match mutation {
        Mutation::LostNotes if text.starts_with("MESSAGE ") => return,
        Mutation::NoCancel if text.starts_with("CANCEL ") => return,
        Mutation::SecondFinal if sip::status(&text).is_some_and(|s| (200..500).contains(&s)) => {
            if sip::cseq(&text).is_some_and(|(_, method)| method == "INVITE")
                && let Some((_, rest)) = text.split_once("\r\n")
            {
                let other = format!("SIP/2.0 503 Service Unavailable\r\n{rest}");
                out.push((to, other.into_bytes()));
            }
        }
        Mutation::StaleLamps if text.starts_with("NOTIFY ") => {
            // As long as before, so that its length is right.
            let stale = text.replace("<state>terminated</state>", "<state>confirmed </state>");
            out.push((to, stale.into_bytes()));
            return;
        }
        Mutation::LostLamps
            if text.starts_with("NOTIFY ") && sip::cseq(&text).is_some_and(|(n, _)| n > 1) =>
        {
            return;
        }
        Mutation::NoNumbers | Mutation::SameNotify if text.starts_with(method) => {
            if let Some((number, _)) = sip::cseq(&text) {
                let same = text.replace(&format!("CSeq: {number} "), "CSeq: 1 ");
                out.push((to, same.into_bytes()));
                return;
            }
        }
        _ => {}
    }
    out.push((to, bytes));
}

/// Whether a question to an rtpengine never leaves. `asked`: those that have left.
#[must_use]
pub fn is_lost(mutation: Mutation, bytes: &[u8], asked: &mut BTreeSet<Vec<u8>>) -> bool {
    match mutation {
        Mutation::NoRepeats => rtp::says(bytes, "delete") && !asked.insert(bytes.to_vec()),
        Mutation::NoAnswers => rtp::says(bytes, "answer"),
        Mutation::NoDeletes => rtp::says(bytes, "delete"),
        _ => false,
    }
}
