//! One loss: calls in every state are prepared, the active node is lost, and each call is followed to its end.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use super::cast::{ANNA, BERT, CALLER_PORT, Cast, LENA, NICK, RITA, TRIO};
use super::strike::Strike;
use super::teller::{Column, Verdict};
use super::{Loss, RETURN_LIMIT, Stage, TIMER_C_S, after, moment};
use crate::lab::fault::{self, Blow};
use crate::lab::proc::Proc;
use crate::lab::status;
use crate::phones::baresip::Baresip;
use crate::phones::sipp::{Event, Plan, Scenario, Sipp};

/// How long phones wait after they are connected or ring before they act: the loss falls into this time.
const HOLD: Duration = Duration::from_secs(6);
/// When the callee of story 6 answers: after the loss, before the others act.
const LATE_ANSWER: Duration = Duration::from_millis(1500);
/// Bound for a call to get into the state that its story needs.
const PREPARE_LIMIT: Duration = Duration::from_secs(4);
/// Bound for a phone's whole part.
const PHONE_LIMIT: Duration = Duration::from_secs(TIMER_C_S + 20);

/// Callers that use the floating IPv6 address.
const V6_CALLERS: [&str; 2] = ["-calls-bert", "-calls-rita"];

/// The phones of one story in one round: callees first, callers after them.
#[derive(Default)]
struct Story {
    phones: Vec<Sipp>,
}

/// Plays one round.
pub(super) fn play(stage: &mut Stage, cast: &mut Cast, loss: Loss, turn: usize) -> io::Result<Column> {
    let lab = &stage.guard.lab;
    let active = status::wait_ready(lab, RETURN_LIMIT)?;
    let index = lab.index_of(&active.node.to_string())?;
    stage.teller.heading(&format!("{}: node {} is active and will be lost", loss.title(), active.node));

    let round = format!("r{turn}");
    let mut stories = start_calls(stage, &round)?;
    let dialled = cast.baresips.as_mut().map(dial);
    let ready = wait_prepared(stage, &stories);
    let callee = if stage.wants(6) { Some(start_late_callee(stage, &round)?) } else { None };

    let lab = &stage.guard.lab;
    let strike = match loss {
        Loss::KillNode => Strike::Power(Blow::prepare(lab, index)?, lab.switch),
        Loss::KillAgent => Strike::Signal(agent(stage, index)?, Signal::SIGKILL),
        Loss::Stop => Strike::Signal(agent(stage, index)?, Signal::SIGSTOP),
    };
    let last = moment::strike(stage, &strike, turn)?;
    let before = last.observed;
    let struck_wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    stage.teller.say(&match loss {
        Loss::KillNode => {
            format!("node {} has lost power: guard and agent killed, its namespace dies", active.node)
        }
        Loss::KillAgent => format!("the agent of node {} was killed (SIGKILL)", active.node),
        Loss::Stop => format!("the agent of node {} was stopped (SIGSTOP)", active.node),
    });
    if let Strike::Power(blow, _) = &strike {
        fault::finish_kill_node(&mut stage.guard.lab, index, blow)?;
    }

    let mut column = Column { title: loss.title().to_owned(), ..Column::default() };
    after::takeover(stage, index, before, &strike)?;

    if let Some(mut callee) = callee {
        let verdict = moment::complete_invite(&last).and_then(|detail| callee.finish().map(|()| detail));
        conclude(stage, &mut column, 6, verdict.map_err(|e| e.to_string()));
    }
    if stage.wants(5) {
        let verdict = moment::find_registrations(&last);
        conclude(stage, &mut column, 5, verdict.map_err(|e| e.to_string()));
    }
    let calls = cast.baresips.as_mut().zip(dialled).map(|(pair, dialled)| match dialled {
        Ok(()) => hold_and_hang_up(pair, turn),
        Err(e) => Err(format!("the call between the baresips did not get ready: {e}")),
    });
    for story in [1, 3, 2, 4] {
        if !stage.wants(story) {
            continue;
        }
        let mut verdict = match ready.iter().find(|(s, _)| *s == story) {
            Some((_, Err(e))) => Err(format!("the call did not get ready: {e}")),
            _ => finish(story, &mut stories[usize::from(story)], struck_wall),
        };
        if story == 1
            && let Some(calls) = &calls
        {
            verdict = match (verdict, calls) {
                (Ok(sipp), Ok(baresip)) => Ok(format!("{sipp}; {baresip}")),
                (Err(e), Ok(_)) => Err(e),
                (Ok(_), Err(e)) => Err(e.clone()),
                (Err(a), Err(b)) => Err(format!("{a}; {b}")),
            };
        }
        conclude(stage, &mut column, story, verdict);
    }
    drop(stories);
    after::silence(stage, &mut column, before);
    column.came_back = Some(after::come_back(stage, index));
    after::owners(stage, &mut column, before);
    Ok(column)
}

fn agent(stage: &Stage, index: usize) -> io::Result<Proc> {
    let node = &stage.guard.lab.nodes[index];
    node.agent().ok_or_else(|| io::Error::other(format!("node {} has no agent", node.id)))
}

fn conclude(stage: &Stage, column: &mut Column, story: u8, verdict: Verdict) {
    stage.teller.verdict(story, &verdict);
    column.verdicts.insert(story, verdict);
}

/// Starts callees, then callers, of stories 1 to 4. Index = story number.
fn start_calls(stage: &Stage, round: &str) -> io::Result<Vec<Story>> {
    let mut stories: Vec<Story> = (0..5).map(|_| Story::default()).collect();
    let start = |name: &str, scenario, port: u16, user: &str, answer: Option<Duration>| -> io::Result<Sipp> {
        let name = format!("{round}-{name}");
        let mut plan = Plan::new(&name, scenario, port, user);
        // Two callers come over IPv6 to phones that registered over IPv4.
        plan.v6 = V6_CALLERS.iter().any(|caller| name.ends_with(caller));
        plan.hold = HOLD;
        plan.limit = PHONE_LIMIT;
        if let Some(answer) = answer {
            plan.answer = answer;
        }
        let mut phone = Sipp::start(&stage.guard.lab, &stage.logs, &plan)?;
        phone.wait_bound(port)?;
        Ok(phone)
    };
    use Scenario::{
        CalleeListens, CalleeRings, CalleeSpeaks, CallerHangsUp, CallerListens, CallerNoAnswer, CallerSpeaks,
        CallerWaits,
    };
    let mut caller_port = CALLER_PORT;
    let mut next_port = || {
        caller_port += 2;
        caller_port
    };
    if stage.wants(1) {
        stories[1].phones = vec![
            start("anna", CalleeListens, ANNA.1, ANNA.0, None)?,
            start("bert", CalleeSpeaks, BERT.1, BERT.0, None)?,
            start("calls-anna", CallerSpeaks, next_port(), ANNA.0, None)?,
            start("calls-bert", CallerListens, next_port(), BERT.0, None)?,
        ];
    }
    if stage.wants(2) {
        for (i, port) in TRIO.1.into_iter().enumerate() {
            let answer = (i == 0).then_some(HOLD);
            stories[2].phones.push(start(&format!("trio{}", i + 1), CalleeRings, port, TRIO.0, answer)?);
        }
        stories[2].phones.push(start("calls-trio", CallerWaits, next_port(), TRIO.0, None)?);
    }
    if stage.wants(3) {
        stories[3].phones = vec![
            start("rita", CalleeRings, RITA.1, RITA.0, None)?,
            start("calls-rita", CallerHangsUp, next_port(), RITA.0, None)?,
        ];
    }
    if stage.wants(4) {
        stories[4].phones = vec![
            start("nick", CalleeRings, NICK.1, NICK.0, None)?,
            start("calls-nick", CallerNoAnswer, next_port(), NICK.0, None)?,
        ];
    }
    Ok(stories)
}

fn start_late_callee(stage: &Stage, round: &str) -> io::Result<Sipp> {
    let name = format!("{round}-lena");
    let mut plan = Plan::new(&name, Scenario::CalleeRings, LENA.1, LENA.0);
    plan.answer = LATE_ANSWER;
    plan.limit = PHONE_LIMIT;
    let mut phone = Sipp::start(&stage.guard.lab, &stage.logs, &plan)?;
    phone.wait_bound(LENA.1)?;
    Ok(phone)
}

/// Waits until every call is in the state its story needs.
fn wait_prepared(stage: &Stage, stories: &[Story]) -> Vec<(u8, io::Result<()>)> {
    let answered = |e: &[Event]| e.iter().any(|e| e.sent && e.cseq.ends_with("ACK"));
    let got_answer_ack = |e: &[Event]| e.iter().any(|e| e.asked("ACK"));
    let rings = |e: &[Event]| e.iter().any(|e| e.got("180", "INVITE"));
    let is_ringing = |e: &[Event]| e.iter().any(|e| e.sent && e.first_line.starts_with("SIP/2.0 180"));
    let mut ready = Vec::new();
    for (number, story) in (0u8..).zip(stories) {
        let mut result = Ok(());
        for phone in &story.phones {
            let caller = phone.name().contains("-calls-");
            result = match (number, caller) {
                (1, true) => phone.wait_for("answer", PREPARE_LIMIT, answered),
                (1, false) => phone.wait_for("ACK", PREPARE_LIMIT, got_answer_ack),
                (_, true) => phone.wait_for("ringing", PREPARE_LIMIT, rings),
                (_, false) => phone.wait_for("INVITE", PREPARE_LIMIT, is_ringing),
            };
            if result.is_err() {
                break;
            }
        }
        if !story.phones.is_empty() {
            ready.push((number, result));
        }
    }
    let text: Vec<&str> = [
        (1, "two SIPp calls are answered"),
        (2, "one rings on three phones"),
        (3, "one rings and will be hung up"),
        (4, "one rings and nobody will answer"),
    ]
    .iter()
    .filter(|(s, _)| ready.iter().any(|(r, ok)| r == s && ok.is_ok()))
    .map(|(_, t)| *t)
    .collect();
    if !text.is_empty() {
        stage.teller.say(&text.join(", "));
    }
    ready
}

/// Alice calls Bob with real audio between them.
fn dial(pair: &mut [Baresip; 2]) -> io::Result<()> {
    let before = pair.each_mut().map(|phone| phone.count("CALL_ESTABLISHED"));
    let [alice, bob] = pair;
    alice.command("dial", &format!("sip:{}@{}", bob.user, crate::lab::config::DOMAIN))?;
    for (phone, before) in pair.iter_mut().zip(before) {
        phone.wait_for("CALL_ESTABLISHED", before + 1, PREPARE_LIMIT)?;
    }
    Ok(())
}

/// After the loss: hold and resume (each a re-INVITE), then BYE: by the caller in even turns, by the callee in odd.
fn hold_and_hang_up(pair: &mut [Baresip; 2], turn: usize) -> Verdict {
    let go = |pair: &mut [Baresip; 2]| -> io::Result<&'static str> {
        let limit = Duration::from_secs(8);
        let [alice, bob] = pair;
        for command in ["hold", "resume"] {
            // The ACK of the re-INVITE shows that all three messages went through.
            let asked = bob.traced("\nACK sip:") + 1;
            alice.command(command, "")?;
            bob.wait_trace("\nACK sip:", asked, limit)
                .map_err(|e| io::Error::other(format!("{command}: {e}")))?;
        }
        let (first, other, who) =
            if turn.is_multiple_of(2) { (alice, bob, "caller") } else { (bob, alice, "callee") };
        let closed = other.count("CALL_CLOSED");
        first.command("hangup", "")?;
        other.wait_for("CALL_CLOSED", closed + 1, limit)?;
        Ok(who)
    };
    go(pair)
        .map(|who| format!("baresip: hold, resume, and BYE by the {who}"))
        .map_err(|e| format!("the call between the baresips: {e}"))
}

/// Waits for the phones of a story and looks at what they saw.
fn finish(story: u8, phones: &mut Story, struck: f64) -> Verdict {
    for phone in &mut phones.phones {
        phone.finish().map_err(|e| e.to_string())?;
    }
    // What the phones did of their own will must have come after the loss, otherwise nothing was shown.
    let acts: Vec<f64> = phones.phones.iter().flat_map(|p| own_acts(story, &p.events())).collect();
    if acts.is_empty() {
        return Err("no phone did what the story says".to_owned());
    }
    if acts.iter().any(|at| *at < struck) {
        return Err(
            "a phone acted before the loss (the machine was too slow to prepare all in time)".to_owned()
        );
    }
    match story {
        1 => Ok("SIPp: re-INVITE and BYE by a caller and by a callee".to_owned()),
        2 => {
            let cancelled =
                phones.phones.iter().filter(|p| p.events().iter().any(|e| e.asked("CANCEL"))).count();
            let answered = phones.phones.iter().any(|p| p.events().iter().any(|e| e.got("200", "INVITE")));
            if cancelled == 2 && answered {
                Ok("one 200, two CANCEL".to_owned())
            } else {
                Err(format!("{cancelled} phones got CANCEL, the caller got a 200: {answered}"))
            }
        }
        3 => Ok("CANCEL reached the phone, the caller got 487".to_owned()),
        _ => Ok("CANCEL to the phone, 408 to the caller".to_owned()),
    }
}

/// When a phone did the thing that must come after the loss.
fn own_acts(story: u8, events: &[Event]) -> Vec<f64> {
    let is_act = |e: &&Event| match story {
        1 => {
            e.sent
                && (e.first_line.starts_with("INVITE") && !e.cseq.starts_with("1 ")
                    || e.first_line.starts_with("BYE"))
        }
        2 => e.sent && e.first_line.starts_with("SIP/2.0 200") && e.cseq.ends_with("INVITE"),
        3 => e.sent && e.first_line.starts_with("CANCEL"),
        _ => e.got("408", "INVITE"),
    };
    events.iter().filter(is_act).map(|e| e.at).collect()
}
