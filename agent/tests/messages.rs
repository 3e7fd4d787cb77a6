//! What the commands say to somebody who uses them for the first time, and the prompt for a password on a real terminal.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use common::lone::Node;
use common::ua::Ua;
use common::until;
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};

fn out(node: &Node, args: &[&str]) -> String {
    let said = node.say(args);
    assert!(said.status.success(), "{args:?}: {said:?}");
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

fn error(node: &Node, args: &[&str]) -> String {
    let said = node.say(args);
    assert!(!said.status.success(), "{args:?}: {said:?}");
    String::from_utf8_lossy(&said.stderr).into_owned()
}

#[test]
fn a_list_of_nothing_says_so_in_a_word() {
    let node = Node::start(&["lab.test"], "");
    for (args, word) in [
        (&["ul", "show"][..], "no contacts"),
        (&["ul", "show", "bob"], "no contacts"),
        (&["dlg", "list"], "no calls"),
        (&["subscriber", "list"], "no subscribers"),
        (&["alias", "list"], "no aliases"),
        (&["acl", "list"], "no entries"),
        (&["trunk", "list"], "no trunks"),
        (&["cdr", "list"], "no records"),
        (&["dispatcher", "list"], "No Destination Sets"),
        (&["dispatcher", "list", "7"], "No Destination Set 7"),
    ] {
        assert_eq!(out(&node, args), word, "{args:?}");
    }
    // For programs nothing has changed.
    assert!(out(&node, &["ul", "show", "--json"]).contains("\"bindings\":[]"));
}

#[test]
fn an_error_names_what_is_wrong_and_not_what_is_near_it() {
    let node = Node::start(&["lab.test"], "");
    for (args, words) in [
        (&["ul", "rm", "bob"][..], &["sip:bob@lab.test has no contacts"][..]),
        (&["switchover", "2"], &["no appliance of this cluster", "there is no other one"]),
        (&["dispatcher", "set-state", "d", "9", "all"], &["there is no set 9"]),
        (
            &["dispatcher", "add", "1", "127.0.0.1:5090", "--attrs", "weight=x"],
            &["weight=x is out of range", "a number from 0 to 100"],
        ),
        (&["dispatcher", "add", "1", "127.0.0.1:5090", "--attrs", "weight"], &["\"weight\" is no attribute"]),
        (&["dispatcher", "add", "1", "127.0.0.1:5090", "--attrs", "wieght=5"], &["wieght"]),
        (&["trunk", "add", "carrier", "me"], &["\"me\" is no account", "user@domain"]),
        (&["subscriber", "add", "bob", "--ha1", "xyz"], &["32 or 64 hex digits", "column ha1"]),
    ] {
        let said = error(&node, args);
        assert!(words.iter().all(|word| said.contains(word)), "{args:?}: {said}");
        assert!(said.contains("cure: "), "{args:?}: {said}");
    }
    assert_eq!(
        out(&node, &["dispatcher", "add", "1", "127.0.0.1:5090", "--attrs", "weight=5; maxload=9;cc=1"]),
        "sip:127.0.0.1:5090 added to set 1\nwithout effect here: cc"
    );
    assert!(
        error(&node, &["dispatcher", "rm", "1", "sip:192.0.2.1"]).contains("no such destination in set 1")
    );
}

#[test]
fn a_contact_is_found_by_the_bare_name_of_its_user_where_the_domain_is_clear() {
    let node = Node::start(&["lab.test"], "");
    let mut bob = Ua::new("bob", node.proxy);
    bob.register(300);
    assert!(out(&node, &["ul", "show", "bob"]).contains(&bob.addr().to_string()));
    assert_eq!(out(&node, &["ul", "rm", "bob"]), "removed");
    assert!(error(&node, &["ul", "show", "b ob"]).contains("no address of record"));
    let node = Node::start(&[], "");
    assert!(error(&node, &["ul", "show", "bob"]).contains("the domain of 'bob' is not clear"));
}

#[test]
fn without_a_command_the_commands_are_shown() {
    let said = Command::new(env!("CARGO_BIN_EXE_relevo")).output().expect("relevo runs");
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(2));
    assert!(text.contains("switchover") && text.contains("Hand the service over"), "{text}");
}

/// A command on a terminal of its own. Each input is typed when the question before it has been asked. How it ended, what
/// was seen, and whether the terminal shows again what is typed.
fn on_terminal(node: &Node, args: &[&str], inputs: &[(&str, &str)]) -> (ExitStatus, String, bool) {
    let pty = openpty(None, None).expect("a terminal");
    let stdio = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_relevo"))
        .args(args)
        .arg("--config")
        .arg(node.file())
        .stdin(stdio())
        .stdout(stdio())
        .stderr(stdio())
        .spawn()
        .expect("relevo runs");
    let mut keyboard = File::from(pty.master.try_clone().expect("a descriptor"));
    let mut screen = File::from(pty.master);
    let (tx, rx) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 1000];
        // Ends with an error when the last descriptor of the terminal is closed.
        while let Ok(n @ 1..) = screen.read(&mut buffer) {
            if tx.send(String::from_utf8_lossy(&buffer[..n]).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut seen = String::new();
    for (question, input) in inputs {
        until(question, || {
            seen.extend(rx.recv_timeout(Duration::from_millis(100)).ok());
            let hidden = !tcgetattr(&pty.slave).expect("settings").local_flags.contains(LocalFlags::ECHO);
            (seen.contains(question) && hidden).then_some(())
        });
        keyboard.write_all(input.as_bytes()).expect("typed");
    }
    let ended = until("the command ends", || child.try_wait().expect("wait"));
    let echo = tcgetattr(&pty.slave).expect("settings").local_flags.contains(LocalFlags::ECHO);
    drop((pty.slave, keyboard));
    reader.join().expect("reader");
    seen.extend(rx.try_iter());
    (ended, seen, echo)
}

const ADD: [&str; 3] = ["subscriber", "add", "eve"];
const FIRST: &str = "password for eve@lab.test: ";
const SECOND: &str = "once more: ";

#[test]
fn a_password_is_asked_for_twice_on_a_terminal_and_never_shown() {
    let node = Node::start(&["lab.test"], "");
    let (ended, seen, echo) = on_terminal(&node, &ADD, &[(FIRST, "first-pw\n"), (SECOND, "other-pw\n")]);
    assert!(!ended.success() && seen.contains("the two passwords differ") && echo, "{seen}");
    let (ended, seen, echo) = on_terminal(&node, &ADD, &[(FIRST, "first-pw\n"), (SECOND, "first-pw\n")]);
    assert!(ended.success() && seen.contains("new user 'eve@lab.test' added") && echo, "{seen}");
    assert!(!seen.contains("first-pw"), "{seen}");
}

#[test]
fn an_empty_password_is_refused_at_once() {
    let node = Node::start(&["lab.test"], "");
    let (ended, seen, echo) = on_terminal(&node, &ADD, &[(FIRST, "\n")]);
    assert!(
        !ended.success() && seen.contains("the password is empty") && !seen.contains(SECOND) && echo,
        "{seen}"
    );
}

#[test]
fn ctrl_c_at_the_prompt_gives_the_terminal_back_and_changes_nothing() {
    let node = Node::start(&["lab.test"], "");
    let (ended, seen, echo) = on_terminal(&node, &ADD, &[(FIRST, "half\x03")]);
    assert!(!ended.success() && seen.contains("nothing was changed"), "{seen}");
    assert!(echo, "the terminal shows again what is typed");
    assert_eq!(out(&node, &["subscriber", "list"]), "no subscribers");
}
