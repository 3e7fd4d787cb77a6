//! Routing in the lab: real SIPp as phone and mailbox, and the loss of the active node in the midst of a plan. Needs root
//! and the lab's packages; says so without.

use std::path::Path;
use std::time::Duration;

use crate::common::{PATIENCE, active, json, lab, lose_the_active_node};
use ha_tests::lab::cluster::power_on;
use ha_tests::lab::net;
use ha_tests::lab::state::LabState;
use ha_tests::phones::sipp::{Event, Plan, Scenario, Sipp, register};

/// Port of the mailbox.
const MAILBOX: u16 = 5095;

/// The mailbox rings, and answers two calls after this time.
fn mailbox(lab: &LabState, logs: &Path, answer: Duration) -> Sipp {
    let mut plan = Plan::new("mailbox", Scenario::CalleeRings, MAILBOX, "mailbox");
    (plan.answer, plan.calls, plan.limit) = (answer, 2, Duration::from_secs(300));
    let mut mailbox = Sipp::start(lab, logs, &plan).expect("sipp");
    mailbox.wait_bound(MAILBOX).expect("its port");
    mailbox
}

/// A phone that rings for ever, registered.
fn phone(lab: &LabState, logs: &Path, user: &str, port: u16) -> Sipp {
    register(lab, logs, user, port, false).expect("sipp").finish().expect("registered");
    let mut plan = Plan::new(user, Scenario::CalleeRings, port, user);
    plan.limit = Duration::from_secs(120);
    let mut phone = Sipp::start(lab, logs, &plan).expect("sipp");
    phone.wait_bound(port).expect("its port");
    phone
}

fn invited(events: &[Event], call: &str) -> bool {
    events.iter().any(|e| e.asked("INVITE") && e.call_id.starts_with(call))
}

/// The call ends as it should; if not, both sides are heard.
fn answered(caller: &mut Sipp, mailbox: &Sipp) {
    if let Err(why) = caller.finish() {
        let said: Vec<String> = mailbox
            .events()
            .iter()
            .map(|e| {
                format!("{:.3} {} {} | {}", e.at, if e.sent { "->" } else { "<-" }, e.first_line, e.cseq)
            })
            .collect();
        panic!("the mailbox should answer: {why}; it heard and said {said:#?}");
    }
}

#[test]
fn a_call_that_nobody_takes_goes_to_the_mailbox_also_when_the_active_node_is_lost_before_or_after() {
    let server = format!("\n[voicemail]\nserver = \"sip:{}:{MAILBOX}\"\nafter_s = 4\n", net::CLIENT4);
    let Some((mut guard, logs)) = lab(&server) else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let mailbox = mailbox(lab, logs, Duration::from_secs(3));

    // The node is lost while the phone rings: the next one keeps the time.
    let mut bob = phone(lab, logs, "bob", 5071);
    let mut caller =
        Sipp::start(lab, logs, &Plan::new("one", Scenario::CallerWaits, 5061, "bob")).expect("sipp");
    caller.wait_for("180", PATIENCE, |e| e.iter().any(|e| e.got("180", "INVITE"))).expect("ringing");
    let lost = active(lab);
    lose_the_active_node(lab);
    mailbox.wait_for("INVITE", PATIENCE, |e| invited(e, "one-")).expect("the mailbox is called");
    answered(&mut caller, &mailbox);
    bob.finish().expect("the phone was cancelled and heard the ACK of its 487");

    // The node is lost while the mailbox rings, and the phone's end may not be known yet.
    let index = lab.nodes.iter().position(|n| n.id == lost.id).expect("it is of this lab");
    power_on(lab, index).expect("power on");
    let mut carol = phone(lab, logs, "carol", 5072);
    let mut caller =
        Sipp::start(lab, logs, &Plan::new("two", Scenario::CallerWaits, 5062, "carol")).expect("sipp");
    mailbox.wait_for("INVITE", PATIENCE, |e| invited(e, "two-")).expect("the mailbox is called");
    lose_the_active_node(lab);
    answered(&mut caller, &mailbox);
    carol.finish().expect("the phone was cancelled and heard the ACK of its 487");
    let left = json(lab, &["dlg", "list"]);
    assert_eq!(left["dialogs"], serde_json::json!([]), "{left}");
}
