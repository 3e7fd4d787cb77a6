//! `relevo route explain`: a request goes through an engine of its own, of which nothing leaves.

use super::Engine;
use crate::dns::Question;
use crate::io::{EngineConfig, Output};
use crate::msg::Message;
use crate::route::passage::Targets;
use crate::routing::{Bans, Explain, Line, Stage};
use crate::state::{Branch, Flow, SipCommand, SipResponse, SipState};
use crate::time::Now;

/// Most outputs of one request that are looked at.
const MAX_STEPS: usize = 1000;

impl Engine {
    /// What the proxy would do with this request and why, stage by stage; as if its sender had proven to be `user`
    /// (`name@domain`), if one is given, who must be a subscriber. Nothing is sent or proposed, and `state` stays as it is:
    /// what is left out is what only a running engine knows (transactions under way, requests per source).
    #[must_use]
    pub fn explained(
        config: EngineConfig,
        now: Now,
        flow: Flow,
        user: Option<String>,
        bytes: &[u8],
        state: &SipState,
    ) -> Vec<Line> {
        Self::explained_among(config, Bans::default(), now, flow, user, bytes, state)
    }

    /// The same, of a node with these bans. They stay as they are.
    #[must_use]
    pub fn explained_among(
        config: EngineConfig,
        bans: Bans,
        now: Now,
        flow: Flow,
        user: Option<String>,
        bytes: &[u8],
        state: &SipState,
    ) -> Vec<Line> {
        let mut engine = Self::new(config).with_bans(bans);
        engine.active = true;
        engine.explain = Some(Explain::for_user(user));
        engine.handle_datagram(now, flow, bytes, state);
        // What would follow the commit: each proposal is taken as granted.
        for _ in 0..MAX_STEPS {
            match engine.poll_output() {
                Some(Output::Propose { ticket, command }) => {
                    engine.explain_command(&command);
                    engine.handle_committed(now, ticket, granted(&command), state);
                }
                Some(Output::Transmit { flow, bytes }) => engine.explain_transmit(flow, &bytes),
                Some(Output::Resolve { question }) => engine.explain_question(&question),
                Some(Output::Media { .. }) => {}
                None => break,
            }
        }
        let mut explain = engine.explain.unwrap_or_default();
        if explain.lines().is_empty() {
            explain.say("drops it", "it is no SIP request, or one that may not even be answered");
        }
        explain.lines().to_vec()
    }

    /// Who is taken to have authenticated without proof; nobody but in an explanation.
    pub(crate) fn presumed_user(&self) -> Option<&str> {
        self.explain.as_ref()?.user()
    }

    /// Whether this is an explanation: nothing of it leaves.
    pub(crate) fn is_explaining(&self) -> bool {
        self.explain.is_some()
    }

    /// What is said from now on is said by this stage.
    pub(crate) fn enter(&mut self, stage: Stage) {
        if let Some(explain) = &mut self.explain {
            explain.enter(stage);
        }
    }

    /// Notes a decision of the stage at work. `why` is made only if somebody asks.
    pub(crate) fn explain(&mut self, decision: &str, why: impl FnOnce() -> String) {
        if let Some(explain) = &mut self.explain {
            explain.say(decision, why());
        }
    }

    /// Notes that the stage at work lets the request pass, if it has said nothing itself.
    pub(crate) fn explain_next(&mut self, stage: Stage) {
        if let Some(explain) = &mut self.explain
            && !explain.has(stage)
        {
            explain.say("next", "");
        }
    }

    /// Notes where the request goes.
    pub(crate) fn explain_targets(&mut self, targets: &Targets) {
        let Some(explain) = &mut self.explain else { return };
        for branch in &targets.branches {
            explain.say("target", described(branch));
        }
        if let Some(after) = targets.after {
            explain.say("no answer", format!("given up after {} s", after.as_secs()));
        }
        for (number, step) in targets.plan.iter().enumerate() {
            for branch in &step.branches {
                let when = &step.when;
                explain.say(format!("step {}", number + 1), format!("{}, when {when}", described(branch)));
            }
        }
    }

    fn explain_command(&mut self, command: &SipCommand) {
        let what = match command {
            SipCommand::Register(register) => format!("bindings of {}", register.aor),
            SipCommand::InviteReceived(record) => {
                format!("the INVITE with {} branch(es)", record.branches.len())
            }
            SipCommand::InviteCancelled { .. } => String::from("that the caller has hung up"),
            _ => return,
        };
        self.explain("commits", || format!("{what}, before anything leaves"));
    }

    fn explain_question(&mut self, question: &Question) {
        let what = format!("{:?} of {}", question.kind, question.name).to_ascii_uppercase();
        self.explain("asks the DNS", || format!("{what}; it goes on with the answer"));
    }

    fn explain_transmit(&mut self, flow: Flow, bytes: &[u8]) {
        if self.explain.is_none() {
            return;
        }
        let Ok(message) = Message::parse(bytes) else { return };
        let what = match message.status() {
            Some(status) => status.to_string(),
            None => format!("{} {}", message.method().map_or("", |m| m.as_str()), message.request_uri_str()),
        };
        self.explain("sends", || format!("{what} to {} from {}", flow.remote, flow.local));
    }
}

/// The answer of a cluster that agrees to everything.
fn granted(command: &SipCommand) -> SipResponse {
    match command {
        SipCommand::Register(_) => SipResponse::Registered(Vec::new()),
        _ => SipResponse::Done,
    }
}

fn described(branch: &Branch) -> String {
    let by = if branch.route.is_empty() { String::new() } else { format!(" by {}", branch.route.join(", ")) };
    format!("{} at {}{by}", branch.target, branch.flow.remote)
}
