//! Backends and trunks in the lab: real SIPp as PBXs and as a carrier, a second relevo as a registrar, and the loss of the
//! active node. Needs root and the lab's packages; says so without.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use crate::common::{PATIENCE, json, lab, lose_the_active_node, say, until};
use ha_tests::lab::proc::{run_bounded, spawn};
use ha_tests::lab::state::LabState;
use ha_tests::lab::{net, ns};
use ha_tests::phones::sipp::{Plan, Scenario, Sipp};
use serde_json::Value;

fn letters(lab: &LabState) -> Vec<String> {
    let sets = json(lab, &["dispatcher", "list"]);
    let targets = sets["sets"][0]["targets"].as_array().expect("targets").clone();
    targets.iter().map(|t| t["flags"].as_str().expect("letters").to_owned()).collect()
}

/// A PBX that answers a call after this time.
fn pbx(lab: &LabState, logs: &Path, name: &str, port: u16, answer: Duration) -> Sipp {
    let mut plan = Plan::new(name, Scenario::Pbx, port, "pbx");
    (plan.answer, plan.calls, plan.limit) = (answer, 100_000, Duration::from_secs(300));
    let mut pbx = Sipp::start(lab, logs, &plan).expect("sipp");
    pbx.wait_bound(port).expect("its port");
    pbx
}

fn call(lab: &LabState, logs: &Path, name: &str, port: u16) -> Sipp {
    Sipp::start(lab, logs, &Plan::new(name, Scenario::CallerWaits, port, "100")).expect("sipp")
}

fn rings(pbx: &Sipp, call: &str) {
    let is_it = |events: &[ha_tests::phones::sipp::Event]| {
        events.iter().any(|e| e.asked("INVITE") && e.call_id.starts_with(call))
    };
    pbx.wait_for("INVITE", PATIENCE, is_it).expect("the call comes");
}

#[test]
fn a_pbx_that_dies_between_invite_and_answer_is_followed_by_the_next_also_when_the_active_node_is_lost() {
    let extra = "\n[dispatcher]\ndefault_set = 1\nalgorithm = \"priority\"\nprobe_interval_s = 1\n\
                 probe_timeout_s = 1\npatience_ms = 1500\n";
    let Some((mut guard, logs)) = lab(extra) else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let slow = Duration::from_secs(3600);
    let second = pbx(lab, logs, "pbx2", 5092, Duration::from_millis(300));
    let first = pbx(lab, logs, "pbx1", 5091, slow);
    let (uri1, uri2) = (format!("sip:{}:5091", net::CLIENT4), format!("sip:{}:5092", net::CLIENT4));
    say(lab, &["dispatcher", "add", "1", &uri1, "--priority", "9", "--description", "first"]);
    say(lab, &["dispatcher", "add", "1", &uri2]);
    first.wait_for("a probe", PATIENCE, |e| e.iter().any(|e| e.asked("OPTIONS"))).expect("probed");
    assert_eq!(letters(lab), ["AP", "AP"]);

    // It rings, and dies.
    let mut caller = call(lab, logs, "one", 5061);
    rings(&first, "one-");
    drop(first);
    rings(&second, "one-");
    caller.finish().expect("the call is answered by the second");
    until("the dead one is inactive", || letters(lab) == ["IP", "AP"]);

    // It comes back, rings, the active node is lost, and then it dies.
    let first = pbx(lab, logs, "pbx1b", 5091, slow);
    until("it is active again", || letters(lab) == ["AP", "AP"]);
    let mut caller = call(lab, logs, "two", 5062);
    rings(&first, "two-");
    caller.wait_for("180", PATIENCE, |e| e.iter().any(|e| e.got("180", "INVITE"))).expect("ringing");
    lose_the_active_node(lab);
    drop(first);
    rings(&second, "two-");
    caller.finish().expect("the call is answered by the second");
    until("the dead one is inactive", || letters(lab) == ["IP", "AP"]);

    // Dead and not yet noticed, or noticed: either way the call is answered.
    let mut caller = call(lab, logs, "three", 5063);
    caller.finish().expect("the call is answered by the second");
}

/// A relevo alone in the namespace of the phones.
struct Registrar {
    child: Child,
    admin: PathBuf,
    relevo: PathBuf,
}

impl Registrar {
    fn start(lab: &LabState, folder: &Path) -> Self {
        let admin = folder.join("registrar.sock");
        let config = folder.join("registrar.toml");
        let text = format!(
            "[node]\ndata = \"{}\"\nadmin = \"{}\"\n[sip]\nport = 5090\nlisten = [\"{}\"]\n\
             domains = [\"carrier.test\"]\nmin_expires_s = 1\n[auth]\nenabled = true\n",
            folder.join("registrar-data").display(),
            admin.display(),
            net::CLIENT4,
        );
        fs::write(&config, text).expect("written");
        let mut command = ns::command_in(lab.client, &lab.relevo, true).expect("the namespace");
        command.arg("run").arg("--config").arg(&config);
        let log = fs::File::create(folder.join("registrar.log")).expect("a log");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        let this = Self { child: spawn(command).expect("started"), admin, relevo: lab.relevo.clone() };
        until("the registrar is active", || {
            this.say(&["status", "--json"]).is_ok_and(|text| text.contains("\"active\":true"))
        });
        this
    }

    fn say(&self, args: &[&str]) -> io::Result<String> {
        let mut command = std::process::Command::new(&self.relevo);
        command.args(args).arg("--admin").arg(&self.admin);
        let out = run_bounded(command, "", PATIENCE)?;
        if out.status.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        Err(io::Error::other(String::from_utf8_lossy(&out.stderr).into_owned()))
    }

    /// Call-ID, CSeq and Contact of the only registration there is. There is never a second one.
    fn binding(&self) -> Option<(String, u64, String)> {
        let v: Value = serde_json::from_str(&self.say(&["ul", "show", "--json"]).ok()?).ok()?;
        let list = v["bindings"].as_array()?;
        assert!(list.len() <= 1, "one client, one registration: {list:#?}");
        let b = list.first()?;
        Some((b["call_id"].as_str()?.to_owned(), b["cseq"].as_u64()?, b["contact"].as_str()?.to_owned()))
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_trunk_stays_registered_once_when_the_active_node_is_lost_and_calls_go_out_with_credentials() {
    let Some((mut guard, logs)) = lab("\n[trunk]\npstn = \"gateway\"\n") else { return };
    let lab = &mut guard.lab;
    let logs = logs.path();
    let registrar = Registrar::start(lab, logs);
    let password = logs.join("password");
    fs::write(&password, "secret\n").expect("written");
    let password = password.to_str().expect("a path");
    registrar
        .say(&["subscriber", "add", "carrier@carrier.test", "--password-file", password])
        .expect("added");
    let proxy = format!("sip:{}:5090", net::CLIENT4);
    say(
        lab,
        &[
            "trunk",
            "add",
            "carrier",
            "carrier@carrier.test",
            "--proxy",
            &proxy,
            "--expires",
            "12",
            "--password-file",
            password,
        ],
    );
    until("it is registered", || registrar.binding().is_some());
    let before = registrar.binding().expect("registered");
    assert_eq!(before.2, format!("sip:carrier@{}:5060", net::VIP4));
    let shown = json(lab, &["trunk", "show", "carrier"]);
    assert_eq!(
        (&shown["state"], &shown["callid"]),
        (&Value::from("registered"), &Value::from(before.0.clone()))
    );

    lose_the_active_node(lab);
    until("the next node refreshes it", || {
        let now = registrar.binding().expect("it never runs out");
        assert_eq!((&now.0, &now.2), (&before.0, &before.2), "the same client");
        now.1 > before.1 + 1
    });

    // Another trunk, by which calls go out.
    let mut gateway = Plan::new("gateway", Scenario::Gateway, 5095, "gateway");
    gateway.limit = Duration::from_secs(30);
    let mut gateway = Sipp::start(lab, logs, &gateway).expect("sipp");
    gateway.wait_bound(5095).expect("its port");
    let proxy = format!("sip:{}:5095", net::CLIENT4);
    say(
        lab,
        &[
            "trunk",
            "add",
            "gateway",
            "carrier@carrier.test",
            "--proxy",
            &proxy,
            "--expires",
            "0",
            "--password-file",
            password,
        ],
    );
    let plan = Plan::new("out", Scenario::CallerWaits, 5064, "004930123456");
    Sipp::start(lab, logs, &plan).expect("sipp").finish().expect("the call goes out and ends");
    gateway.finish().expect("credentials and CSeq are right");
    let mut records = Vec::new();
    until("the call has its records", || {
        let all = json(lab, &["cdr", "list", "--last", "50"]);
        let of_call = |r: &&Value| r["dst_ouser"] == "004930123456";
        records = all["records"].as_array().into_iter().flatten().filter(of_call).cloned().collect();
        ["answered", "bye", "cdr"].iter().all(|kind| records.iter().any(|r| r["kind"] == **kind))
    });
    for record in &records {
        assert_eq!(record["to_trunk"], "gateway", "{record:#}");
        assert_eq!(record["from_trunk"], Value::Null, "{record:#}");
    }
}
