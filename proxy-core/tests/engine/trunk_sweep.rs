//! A call through a trunk over a node that is lost after any one of its outputs.

use std::time::Duration;

use crate::common::story::*;
use proxy_core::msg::HeaderName;

use crate::common::trunk::*;

/// Alice and a carrier that act by themselves and repeat what is not answered, over a node that is lost after any one of
/// its outputs.
struct Drive {
    w: World,
    outputs: u64,
    lost_after: Option<u64>,
    /// What the lost node had proposed is committed all the same.
    committed: bool,
    ok: Option<String>,
    bye_done: bool,
    trying: bool,
    /// Branch and CSeq of each INVITE and BYE that the carrier has seen, in order.
    seen: Vec<(String, u32)>,
    acked: bool,
    /// The carrier has answered a BYE.
    over: bool,
    /// The 200 of the carrier, until its ACK.
    answer: Option<String>,
}

impl Drive {
    fn new(lost_after: Option<u64>, committed: bool) -> Self {
        Self {
            w: calling(),
            outputs: 0,
            lost_after,
            committed,
            ok: None,
            bye_done: false,
            trying: false,
            seen: Vec::new(),
            acked: false,
            over: false,
            answer: None,
        }
    }

    /// All that follows at once, output by output.
    fn settle(&mut self) {
        loop {
            while self.w.step() {
                self.outputs += 1;
                if self.lost_after == Some(self.outputs) {
                    self.lose();
                }
            }
            if !self.w.verdict() {
                return;
            }
        }
    }

    fn lose(&mut self) {
        for (_, command) in std::mem::take(&mut self.w.waiting) {
            if self.committed {
                self.w.state.apply(&command);
            }
        }
        self.w.tick(Duration::from_millis(300));
        self.w.engine = proxy_core::engine::Engine::new(self.w.config.clone());
        self.w.engine.activate(self.w.now, &self.w.state);
    }

    fn say(&mut self, from: &str, text: &str) {
        self.w.deliver(addr(from), text);
        self.settle();
    }

    fn carrier_hears(&mut self, text: &str) {
        let method = text.split(' ').next().unwrap_or_default();
        if method == "SIP/2.0" {
            return;
        }
        let branch = header(text, "Via").expect("Via").split(", ").next().unwrap_or_default().to_owned();
        if method == "BYE" && self.over && !self.seen.iter().any(|(b, _)| *b == branch) {
            // The call has ended here: a BYE that comes once more, by a node that has forgotten the call, is none's.
            self.say(CARRIER, &respond(text, 481, "k", ""));
            return;
        }
        if matches!(method, "INVITE" | "BYE") {
            let last = self.seen.last().cloned();
            if !self.seen.iter().any(|(b, c)| *b == branch && *c == cseq(text)) {
                let fits = last.is_none_or(|(_, c)| c < cseq(text));
                assert!(fits, "a new request has a higher CSeq: {text}\nafter {:?}", self.seen);
                self.seen.push((branch, cseq(text)));
            }
        }
        match method {
            "INVITE" if !is_proved(text, HeaderName::ProxyAuthorization) => {
                self.say(CARRIER, &challenge(text, 407));
            }
            "INVITE" => {
                let ok = respond(text, 200, "k", &format!("Contact: <sip:gw@{CARRIER}>\r\n"));
                self.answer.get_or_insert(ok.clone());
                self.say(CARRIER, &ok);
            }
            "ACK" => {
                let of_answer = self.answer.as_ref().is_some_and(|ok| cseq(ok) == cseq(text));
                self.acked |= of_answer;
            }
            "BYE" if !is_proved(text, HeaderName::ProxyAuthorization) => {
                self.say(CARRIER, &challenge(text, 407));
            }
            "BYE" => {
                self.over = true;
                self.say(CARRIER, &respond(text, 200, "k", ""));
            }
            other => panic!("the carrier gets {other}"),
        }
    }

    fn alice_hears(&mut self, text: &str) {
        let of_bye = header(text, "CSeq").is_some_and(|c| c.ends_with("BYE"));
        if text.starts_with("SIP/2.0 100 ") {
            self.trying = true;
        } else if text.starts_with("SIP/2.0 200 ") && !of_bye {
            assert_eq!(cseq(text), 1);
            self.ok = Some(text.to_owned());
            self.say(ALICE, &in_dialog_of_caller("ACK", 1, text, ALICE));
        } else if text.starts_with("SIP/2.0 200 ") || (self.over && text.starts_with("SIP/2.0 481 ")) {
            assert_eq!(cseq(text), 2);
            self.bye_done = true;
        } else {
            panic!("Alice gets {text}");
        }
    }

    fn run(&mut self) -> u64 {
        for round in 0..600 {
            let again = round % 5 == 0;
            if again && !self.trying && self.ok.is_none() {
                self.say(ALICE, &invite("sip:0049301234@lab.test", ALICE, "c1"));
            }
            if let Some(ok) = self.ok.clone().filter(|_| again && self.acked && !self.bye_done) {
                self.say(ALICE, &in_dialog_of_caller("BYE", 2, &ok, ALICE));
            }
            if let Some(answer) = self.answer.clone().filter(|_| again && !self.acked) {
                self.say(CARRIER, &answer);
            }
            for text in self.w.take(CARRIER) {
                self.carrier_hears(&text);
            }
            for text in self.w.take(ALICE) {
                self.alice_hears(&text);
            }
            self.w.tick(Duration::from_millis(100));
            self.w.engine.handle_timeout(self.w.now, &self.w.state);
            self.settle();
            if self.bye_done {
                break;
            }
        }
        assert!(self.bye_done, "the call ends; the carrier has seen {:?}", self.seen);
        assert_eq!(self.w.state.counts().dialogs, 0);
        self.outputs
    }
}

#[test]
fn a_call_out_with_credentials_survives_the_loss_of_the_node_after_each_of_its_outputs() {
    let outputs = Drive::new(None, false).run();
    assert!(outputs > 15, "{outputs}");
    for lost_after in 1..=outputs {
        for committed in [false, true] {
            println!("lost after {lost_after}, committed: {committed}");
            let mut drive = Drive::new(Some(lost_after), committed);
            drive.run();
            assert!(drive.seen.len() <= 6, "{:?}", drive.seen);
        }
    }
}
