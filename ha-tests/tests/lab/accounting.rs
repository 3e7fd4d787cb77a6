//! Records of calls in the lab: real SIPp calls, the active node lost at every step of one, and after that one record of
//! each event in the files of every appliance. Needs root and the lab's packages; says so without.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::common::{PATIENCE, active, all_agree, json, lab, lose_and_restart, until};
use ha_tests::lab::fault::{Fault, inflict};
use ha_tests::lab::state::{LabState, Node, Role};
use ha_tests::phones::sipp::{Event, Plan, Scenario, Sipp, register};
use serde_json::Value;

/// What a phone that takes its time needs before each answer: so long every step can be looked at.
const PAUSE: Duration = Duration::from_millis(600);

/// Whether a call has come to a step, by what caller and callee have seen.
type Step = fn(&[Event], &[Event]) -> bool;

/// One call that loses its node.
struct Drill {
    name: &'static str,
    caller: Scenario,
    callee: Scenario,
    /// At which step the node is lost; `None`: when the call is over.
    when: Option<Step>,
    /// Kinds of records it leaves, in order of their names.
    leaves: &'static [&'static str],
}

const ANSWERED: &[&str] = &["answered", "bye", "cdr"];
const MISSED: &[&str] = &["cdr", "failed", "missed"];

fn asked(events: &[Event], cseq: &str) -> bool {
    events.iter().any(|e| !e.sent && e.cseq == cseq && !e.first_line.starts_with("SIP/2.0"))
}

fn got(events: &[Event], status: &str) -> bool {
    events.iter().any(|e| e.got(status, "INVITE"))
}

fn answered(name: &'static str, when: Option<Step>) -> Drill {
    let (caller, callee) = (Scenario::CallerSpeaks, Scenario::CalleeSlow);
    Drill { name, caller, callee, when, leaves: ANSWERED }
}

fn missed(name: &'static str, when: Option<Step>) -> Drill {
    let (caller, callee) = (Scenario::CallerHangsUp, Scenario::CalleeRings);
    Drill { name, caller, callee, when, leaves: MISSED }
}

/// Makes the calls one after the other; each loses the active node, which is there again before the next.
fn drill(lab: &mut LabState, logs: &Path, drills: &[Drill]) {
    register(lab, logs, "bob", 5080, false).expect("sipp").finish().expect("registered");
    for drill in drills {
        let mut plan = Plan::new(drill.name, drill.caller, 5070, "bob");
        plan.hold = Duration::from_millis(500);
        let name = format!("{}-bob", drill.name);
        let mut other = Plan::new(&name, drill.callee, 5080, "bob");
        if drill.callee == Scenario::CalleeSlow {
            other.answer = PAUSE;
        }
        let mut callee = Sipp::start(lab, logs, &other).expect("sipp");
        callee.wait_bound(5080).expect("its port");
        let mut caller = Sipp::start(lab, logs, &plan).expect("sipp");
        if let Some(when) = drill.when {
            let it_is_time = |events: &[Event]| when(events, &callee.events());
            caller.wait_for(drill.name, PATIENCE, it_is_time).expect("the step comes");
            lose_and_restart(lab);
        }
        caller.finish().expect("the call goes on");
        if drill.when.is_none() {
            lose_and_restart(lab);
        }
        callee.finish().expect("the call goes on");
        until("all nodes are the same", || all_agree(lab));
    }
}

fn appliances(lab: &LabState) -> impl Iterator<Item = &Node> {
    lab.nodes.iter().filter(|n| n.role == Role::Appliance)
}

fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("it is there");
    text.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
}

/// Waits until every appliance has written all there is, looks at its files, and gives the records.
fn written(lab: &LabState) -> Vec<Value> {
    let mut newest = 0;
    until("all is written", || {
        let status = json(lab, &["cdr", "status"]);
        newest = status["newest"].as_u64().expect("a number");
        let nodes = status["nodes"].as_array().expect("a list").clone();
        nodes.len() == 2 && nodes.iter().all(|n| n["up_to"] == newest) && status["waiting"] == 0
    });
    assert_eq!(json(lab, &["cdr", "status"])["lost"], 0);
    let mut files = Vec::new();
    for node in appliances(lab) {
        let records = json_lines(&node.data.join("cdr.jsonl"));
        let seqs: Vec<u64> = records.iter().map(|r| r["seq"].as_u64().expect("a number")).collect();
        assert_eq!(seqs, (1..=newest).collect::<Vec<_>>(), "node {}", node.id);
        let ids: BTreeSet<&str> = records.iter().map(|r| r["id"].as_str().expect("an id")).collect();
        assert_eq!(ids.len(), records.len(), "node {}", node.id);
        // The CSV has the same records, below its head.
        let csv = fs::read_to_string(node.data.join("cdr.csv")).expect("it is there");
        let rows: Vec<(String, String)> = csv
            .lines()
            .skip(1)
            .map(|line| {
                let mut fields = line.split(',').map(str::to_owned);
                (fields.next().expect("seq"), fields.next().expect("id"))
            })
            .collect();
        let same: Vec<(String, String)> = records
            .iter()
            .map(|r| (r["seq"].to_string(), r["id"].as_str().expect("an id").to_owned()))
            .collect();
        assert_eq!(rows, same, "node {}", node.id);
        files.push(records);
    }
    assert_eq!(files[0], files[1], "both have the same records");
    let records = files.remove(0);
    for record in records.iter().filter(|r| r["kind"] == "cdr") {
        assert_eq!(record["ended_by"], "caller", "{record}");
        let long = record["duration_s"].as_f64().expect("a number");
        let talked = record["answer"].is_string();
        assert!(if talked { (0.4..30.0).contains(&long) } else { long == 0.0 }, "{record}");
    }
    records
}

/// Kinds of the records of each call, in order of their names.
fn by_call(records: &[Value]) -> BTreeMap<&str, Vec<&str>> {
    let mut calls: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for r in records {
        let call = r["call_id"].as_str().expect("a Call-ID");
        calls.entry(call).or_default().push(r["kind"].as_str().expect("a kind"));
    }
    calls.values_mut().for_each(|kinds| kinds.sort_unstable());
    calls
}

/// One record of each event, and no other.
fn audit(lab: &LabState, drills: &[Drill]) {
    let records = written(lab);
    let calls = by_call(&records);
    assert_eq!(calls.len(), drills.len(), "{calls:#?}");
    for drill in drills {
        let of_it = |(id, _): &(&&str, &Vec<&str>)| id.starts_with(&format!("{}-1-", drill.name));
        let (_, kinds) = calls.iter().find(of_it).expect("the call is there");
        assert_eq!(kinds, drill.leaves, "{}", drill.name);
    }
}

const FILES: &str = "\n[accounting]\njson = \"cdr.jsonl\"\ncsv = \"cdr.csv\"\n";

#[test]
fn an_answered_call_leaves_one_record_of_each_event_at_whichever_step_the_node_is_lost() {
    let Some((mut guard, logs)) = lab(FILES) else { return };
    let lab = &mut guard.lab;
    let drills = [
        answered("invite", Some(|caller, callee| got(caller, "100") && asked(callee, "1 INVITE"))),
        answered("ringing", Some(|caller, _| got(caller, "180"))),
        answered("answered", Some(|caller, _| got(caller, "200"))),
        answered("reinvite", Some(|_, callee| asked(callee, "2 INVITE"))),
        answered("bye", Some(|_, callee| asked(callee, "3 BYE"))),
        answered("after", None),
    ];
    drill(lab, logs.path(), &drills);
    audit(lab, &drills);
}

#[test]
fn a_missed_call_leaves_one_record_of_each_event_at_whichever_step_the_node_is_lost() {
    let Some((mut guard, logs)) = lab(FILES) else { return };
    let lab = &mut guard.lab;
    let drills = [
        missed("rings", Some(|caller, _| got(caller, "180"))),
        missed("cancel", Some(|_, callee| asked(callee, "1 CANCEL"))),
        missed("over", None),
    ];
    drill(lab, logs.path(), &drills);
    audit(lab, &drills);
    let lab = &guard.lab;
    let missed = json(lab, &["cdr", "list", "--kind", "missed"]);
    let missed = missed["records"].as_array().expect("a list");
    assert!(missed.len() == 3 && missed.iter().all(|r| r["called"] == "sip:bob@lab.test"), "{missed:#?}");
    assert!(missed.iter().all(|r| r["code"] == 487), "{missed:#?}");
}

#[test]
fn many_calls_leave_their_records_once_while_agents_die_that_write_them() {
    const CALLS: u32 = 80;
    let Some((mut guard, logs)) = lab(FILES) else { return };
    let (lab, logs) = (&mut guard.lab, logs.path());
    register(lab, logs, "bob", 5080, false).expect("sipp").finish().expect("registered");
    let mut plan = Plan::new("callee", Scenario::LoadCallee, 5080, "bob");
    plan.calls = CALLS;
    let mut callee = Sipp::start(lab, logs, &plan).expect("sipp");
    callee.wait_bound(5080).expect("its port");
    let mut plan = Plan::new("many", Scenario::LoadCaller, 5070, "bob");
    (plan.calls, plan.rate) = (CALLS, 10);
    let mut caller = Sipp::start(lab, logs, &plan).expect("sipp");
    for answers in [15, 40] {
        let enough = |events: &[Event]| events.iter().filter(|e| e.got("200", "BYE")).count() >= answers;
        caller.wait_for("calls", PATIENCE, enough).expect("calls end");
        let node = active(lab).id;
        let index = lab.nodes.iter().position(|n| n.id == node).expect("it is of this lab");
        // Its guard starts it again: it goes on where its files end.
        inflict(lab, index, Fault::KillAgent).expect("killed");
    }
    caller.finish().expect("every call goes on");
    callee.finish().expect("every call goes on");
    let records = written(lab);
    let calls = by_call(&records);
    assert_eq!(calls.len(), CALLS as usize);
    assert!(calls.values().all(|kinds| kinds == ANSWERED), "{calls:#?}");
}
