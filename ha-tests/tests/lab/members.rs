//! Who is in the cluster, changed by an operator while the machines are lost that he changes it for: a witness that is
//! replaced under a new id, a node that is removed, a pair of which one half is promoted. Needs root and the lab's
//! packages; says so without.

use crate::common::{PATIENCE, active, json, lab, lab_of, lose_the_active_node, refused, say, until};
use crate::phone::Phone;
use ha_tests::lab::cluster::power_on;
use ha_tests::lab::config::{self, Options};
use ha_tests::lab::fault::{Fault, inflict};
use ha_tests::lab::state::{LabState, Node};
use ha_tests::lab::{disk, net, status};
use serde_json::{Value, json};

fn node(lab: &LabState, id: u64) -> Node {
    lab.nodes.iter().find(|n| n.id == id).expect("it is of this lab").clone()
}

fn of(lab: &LabState, id: u64, args: &[&str]) -> Value {
    let args = [args, &["--json"]].concat();
    let said = status::admin(lab, &node(lab, id), &args, PATIENCE);
    said.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// A machine that was never a member, and that knows the nodes with these ids.
fn arrives(lab: &mut LabState, id: u64, knows: &[u64]) {
    let options = Options::default();
    let text = std::fs::read_to_string(&lab.nodes[0].config).expect("a configuration");
    let key = text.lines().find_map(|l| l.strip_prefix("key = \"")).expect("a key").trim_end_matches('"');
    let home = lab.dir.join(format!("n{id}"));
    let host = net::host_of(id);
    let new = Node {
        id,
        host,
        addr: format!("{}.{host}:{}", net::NET4, config::RAFT_PORT),
        holder: None,
        guard: None,
        config: home.join("relevo.toml"),
        admin: home.join("admin.sock"),
        disk: home.join("disk"),
        data: home.join("disk").join("data"),
        log: home.join("log"),
        ..node(lab, 3)
    };
    std::fs::create_dir_all(&home).expect("a folder");
    disk::make(&new.disk, options.disk_bytes, lab.rootless).expect("a disk");
    std::fs::create_dir_all(&new.data).expect("a folder");
    let mut known: Vec<Node> = lab.nodes.iter().filter(|n| knows.contains(&n.id)).cloned().collect();
    known.push(new.clone());
    std::fs::write(&new.config, config::node_toml(&new, &known, key, &options)).expect("written");
    lab.nodes.push(new);
    let index = lab.nodes.len() - 1;
    power_on(lab, index).expect("power on");
}

#[test]
fn a_lost_witness_is_replaced_under_a_new_id_and_the_next_loss_does_not_end_the_service() {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let mut alice = Phone::open(lab, "alice", 5061);
    alice.register(1, 600);
    assert_eq!(json(lab, &["members", "list"])["losses"], 1);
    inflict(lab, 2, Fault::KillNode).expect("power off");
    until("no loss is borne", || json(lab, &["members", "list"])["losses"] == 0);
    let other = 3 - active(lab).id;
    let fatal = refused(lab, &["members", "remove", &other.to_string()]);
    assert!(fatal.contains("the service would end"), "{fatal}");
    let holder = refused(lab, &["members", "rm", &active(lab).id.to_string()]);
    assert!(holder.contains("relevo switchover"), "{holder}");

    arrives(lab, 4, &[1, 2]);
    until("it says what it waits for", || {
        of(lab, 4, &["status"])["waits"].as_str().is_some_and(|w| w.contains("relevo members replace OLD 4"))
    });
    // On the standby, which passes it on.
    let done = of(lab, other, &["members", "replace", "3", "4", "10.77.0.14:7400"]);
    assert_eq!((&done["voters"], &done["losses"]), (&json!([1, 2, 4]), &json!(1)), "{done}");
    let list = json(lab, &["members", "list"]);
    let drift = list["drift"].to_string();
    assert!(drift.contains("node 4 votes, and is not in") && drift.contains("node 3 is in"), "{drift}");
    let four =
        list["members"].as_array().expect("a list").iter().find(|m| m["node"] == 4).expect("it").clone();
    assert_eq!((&four["role"], &four["votes"]), (&json!("witness"), &json!(true)), "{four}");
    assert!(say(lab, &["status"]).contains("voters 1 2 4  majority 2  heard 3: 1 loss is borne"));

    lose_the_active_node(lab);
    assert_eq!(active(lab).id, other);
    alice.register(2, 600);
}

#[test]
fn a_removed_node_says_so_and_does_not_come_back_by_itself() {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    // One that is out has not what the others have: from here on the nodes are not waited for.
    let holder = active(lab);
    let on = holder.id;
    let done = of(lab, on, &["members", "remove", "3"]);
    assert_eq!((&done["voters"], &done["losses"]), (&json!([1, 2]), &json!(0)), "{done}");
    until("it knows", || {
        of(lab, 3, &["status"])["waits"]
            .as_str()
            .is_some_and(|w| w.contains("node 3 was removed from the cluster"))
    });
    inflict(lab, 2, Fault::KillNode).expect("power off");
    std::fs::remove_dir_all(&lab.nodes[2].data).expect("an empty folder");
    std::fs::create_dir_all(&lab.nodes[2].data).expect("an empty folder");
    power_on(lab, 2).expect("power on");
    until("it is not taken in", || {
        of(lab, 3, &["status"])["waits"].as_str().is_some_and(|w| w.contains("--again"))
    });
    let used =
        status::admin(lab, &holder, &["members", "add", "3"], PATIENCE).expect_err("refused").to_string();
    assert!(used.contains("was a member before"), "{used}");
    let done = of(lab, on, &["members", "add", "3", "--again"]);
    assert_eq!((&done["voters"], &done["losses"]), (&json!([1, 2, 3]), &json!(1)), "{done}");
    lose_the_active_node(lab);
    assert_ne!(active(lab).id, on);
}

#[test]
fn half_of_a_pair_is_promoted_and_the_fenced_node_comes_back_as_a_new_member() {
    let Some((mut guard, _logs)) = lab_of(Options { witness: false, ..Options::default() }) else { return };
    let lab = &mut guard.lab;
    let mut alice = Phone::open(lab, "alice", 5061);
    alice.register(1, 600);
    let lost = active(lab);
    let left = 3 - lost.id;
    let lost_id = lost.id.to_string();
    let promote = |lab: &LabState, args: &[&str]| {
        status::admin(lab, &node(lab, left), &[&["promote"], args].concat(), PATIENCE)
    };
    let lives = promote(lab, &["--i-have-fenced", &lost_id, "--yes"]).expect_err("it lives").to_string();
    assert!(lives.contains("not fenced: something listens on"), "{lives}");
    assert!(lives.contains("somebody answers SIP on the floating IP"), "{lives}");

    let index = lab.nodes.iter().position(|n| n.id == lost.id).expect("it");
    inflict(lab, index, Fault::KillNode).expect("power off");
    let slip = promote(lab, &["--i-have-fenced", "7", "--yes"]).expect_err("a slip").to_string();
    assert!(slip.contains(&format!("node {lost_id} votes, too, and was not named")), "{slip}");
    let outlook = promote(lab, &["--i-have-fenced", &lost_id, "--dry-run"]).expect("an outlook");
    assert!(outlook.contains("nothing that was acknowledged is missing"), "{outlook}");
    let done = promote(lab, &["--i-have-fenced", &lost_id, "--yes"]).expect("it is promoted");
    assert!(done.contains("this node is the whole cluster now"), "{done}");
    assert_eq!(active(lab).id, left);
    assert_eq!(of(lab, left, &["status"])["counts"]["bindings"], 1, "nothing is lost");
    alice.register(2, 600);

    power_on(lab, index).expect("power on");
    until("it is taken in again", || of(lab, left, &["members", "list"])["voters"] == json!([1, 2]));
    let log = std::fs::read_to_string(&lost.log).expect("a log");
    assert!(log.contains("the cluster was begun anew on node"), "it says why its state is set aside");
    until("it has all", || {
        let said = of(lab, left, &["members", "list"]);
        said["losses"] == 0 && status::wait_ready(lab, PATIENCE).is_ok()
    });
    // Not in the first moment after it has started.
    until("it takes the service", || {
        status::admin(lab, &node(lab, left), &["switchover", &lost_id], PATIENCE).is_ok()
    });
    assert_eq!(active(lab).id, lost.id);
    alice.register(3, 600);
}

#[test]
fn the_last_of_three_is_promoted_and_the_others_take_its_state() {
    let Some((mut guard, _logs)) = lab("") else { return };
    let lab = &mut guard.lab;
    let mut alice = Phone::open(lab, "alice", 5061);
    alice.register(1, 600);
    let lost = active(lab);
    let left = 3 - lost.id;
    let index = lab.nodes.iter().position(|n| n.id == lost.id).expect("it");
    inflict(lab, 2, Fault::KillNode).expect("power off");
    inflict(lab, index, Fault::KillNode).expect("power off");
    let lost_id = lost.id.to_string();
    let named = ["promote", "--i-have-fenced", &lost_id, "--i-have-fenced", "3", "--yes"];
    let done = status::admin(lab, &node(lab, left), &named, PATIENCE).expect("it is promoted");
    assert!(done.contains("this node is the whole cluster now"), "{done}");
    assert_eq!(active(lab).id, left);
    alice.register(2, 600);
    // Together they were a majority of the former cluster.
    power_on(lab, index).expect("power on");
    power_on(lab, 2).expect("power on");
    until("they are taken in again", || {
        let said = of(lab, left, &["members", "list"]);
        said["voters"] == json!([1, 2, 3]) && said["losses"] == 1
    });
    lose_the_active_node(lab);
    assert_eq!(active(lab).id, lost.id);
    alice.register(3, 600);
}
