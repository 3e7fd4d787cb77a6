//! The last millisecond: registrations and an INVITE are acknowledged, and at that very moment the node is lost.
//!
//! Registrations are sent one per millisecond; in the midst of them an INVITE. When its `100` arrives, the loss
//! follows in the same thread, a few system calls later. So the last registrations were acknowledged within the
//! last milliseconds, and the caller never sends its INVITE again.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use rsip::Method;

use super::Stage;
use super::cast::{CALLER_PORT, LENA};
use super::strike::Strike;
use crate::phones::tiny::{Message, Tiny};

/// Registrations before the INVITE is sent.
const BEFORE_INVITE: u32 = 20;
/// Most registrations of one round.
const MOST: u32 = 300;
/// Time between two registrations.
const EVERY: Duration = Duration::from_millis(1);
/// Bound for the `100`.
const TRYING_LIMIT: Duration = Duration::from_secs(3);
/// After the loss: answers that were sent before it may still be on their way.
const DRAIN: Duration = Duration::from_millis(30);

/// What had been acknowledged when the node was lost.
pub struct Last {
    caller: Tiny,
    phone: Tiny,
    /// Users whose registration was answered with 200, and when (before the loss).
    acknowledged: Vec<(String, Instant)>,
    trying: bool,
    struck: Instant,
    /// The same moment on the observer's clock, ns.
    pub observed: u64,
    early: Vec<Message>,
}

/// Registers, calls, and strikes at the `100`.
pub fn strike(stage: &Stage, strike: &Strike, turn: usize) -> io::Result<Last> {
    let lab = &stage.guard.lab;
    let caller = Tiny::open(lab, CALLER_PORT + 80)?;
    let phone = Tiny::open(lab, CALLER_PORT + 81)?;
    let mut acknowledged = Vec::new();
    let mut early = Vec::new();
    let mut trying = !stage.wants(6);
    let began = Instant::now();
    let user = |n: u32| format!("late{turn}x{n}");
    let mut sent = 0;
    loop {
        if stage.wants(5) && sent < MOST {
            phone.register(&user(sent))?;
        }
        sent += 1;
        if sent == BEFORE_INVITE && stage.wants(6) {
            caller.invite(LENA.0)?;
        }
        let next = Instant::now() + EVERY;
        while Instant::now() < next {
            if sent > BEFORE_INVITE
                && stage.wants(6)
                && let Some(m) = caller.next(Duration::from_micros(200))?
            {
                trying |= m.status == 100;
                early.push(m);
                if trying {
                    break;
                }
            }
            registered(&phone, &mut acknowledged, Duration::from_micros(200))?;
        }
        let enough = !stage.wants(5) || !acknowledged.is_empty();
        if trying && enough && sent > BEFORE_INVITE || began.elapsed() > TRYING_LIMIT {
            break;
        }
    }
    let observed = stage.observer.now();
    strike.now();
    let struck = Instant::now();
    let end = struck + DRAIN;
    while Instant::now() < end {
        registered(&phone, &mut acknowledged, Duration::from_millis(1))?;
    }
    let within: Vec<Duration> =
        acknowledged.iter().filter(|(_, at)| *at <= struck).map(|(_, at)| struck - *at).collect();
    if let Some(last) = within.iter().min() {
        stage.teller.say(&format!(
            "{} registrations acknowledged, the last {:.1} ms before the loss",
            acknowledged.len(),
            last.as_secs_f64() * 1000.0
        ));
    }
    Ok(Last { caller, phone, acknowledged, trying, struck, observed, early })
}

/// Notes a registration that was answered with 200.
fn registered(phone: &Tiny, acknowledged: &mut Vec<(String, Instant)>, within: Duration) -> io::Result<()> {
    if let Some(m) = phone.next(within)?
        && m.status == 200
        && m.method == "REGISTER"
        && let Some(name) = m.call_id.split('-').nth(1)
    {
        acknowledged.push((name.to_owned(), Instant::now()));
    }
    Ok(())
}

/// Story 6: without another INVITE the caller gets its 200; then ACK and BYE.
pub fn complete_invite(last: &Last) -> io::Result<String> {
    /// The callee answers after 1.5 s; the rest is for the takeover and the callee's own repetitions.
    const LIMIT: Duration = Duration::from_secs(12);
    if !last.trying {
        return Err(io::Error::other("no 100 for the INVITE"));
    }
    let answered = |m: &Message| m.method == "INVITE" && m.status >= 200;
    let mut early = last.early.iter().filter(|m| answered(m)).cloned();
    let end = Instant::now() + LIMIT;
    let answer = loop {
        if let Some(m) = early.next() {
            break m;
        }
        match last.caller.next(end.saturating_duration_since(Instant::now()))? {
            Some(m) if answered(&m) => break m,
            Some(_) => {}
            None => return Err(io::Error::other("the caller never got an answer to its INVITE")),
        }
    };
    let after = last.struck.elapsed();
    if answer.status != 200 {
        return Err(io::Error::other(format!("the caller got {} instead of 200", answer.status)));
    }
    last.caller.acknowledge(&answer, Method::Ack, 1)?;
    // BYE as a phone does: again until it is answered.
    for _ in 0..6 {
        last.caller.acknowledge(&answer, Method::Bye, 2)?;
        let end = Instant::now() + Duration::from_millis(500);
        while let Some(m) = last.caller.next(end.saturating_duration_since(Instant::now()))? {
            if m.method == "BYE" && m.status == 200 {
                return Ok(format!("200 after {:.1} s, INVITE sent once", after.as_secs_f64()));
            }
            if m.method == "INVITE" && m.status == 200 {
                // The callee repeats its 200 until the ACK has reached it.
                last.caller.acknowledge(&m, Method::Ack, 1)?;
            }
        }
    }
    Err(io::Error::other("the BYE was never answered"))
}

/// Story 5: every registration that was acknowledged is found: an OPTIONS to it reaches the phone.
pub fn find_registrations(last: &Last) -> io::Result<String> {
    /// Tries, each with time for all answers.
    const TRIES: u32 = 6;
    const TRY: Duration = Duration::from_millis(700);
    let mut missing: BTreeSet<&str> = last.acknowledged.iter().map(|(user, _)| user.as_str()).collect();
    if missing.is_empty() {
        return Err(io::Error::other("no registration was acknowledged before the loss"));
    }
    let all = missing.len();
    for cseq in 1..=TRIES {
        for user in &missing {
            last.caller.options(user, cseq)?;
        }
        let end = Instant::now() + TRY;
        while !missing.is_empty()
            && let Some(m) = last.phone.next(end.saturating_duration_since(Instant::now()))?
        {
            if m.status == 0 && m.method == "OPTIONS" {
                last.phone.answer(&m)?;
                let user = m.text.split(['@', ' ']).nth(1).and_then(|u| u.strip_prefix("sip:"));
                if let Some(user) = user {
                    missing.remove(user);
                }
            }
        }
        if missing.is_empty() {
            return Ok(format!("all {all} are found"));
        }
    }
    let names: Vec<&str> = missing.into_iter().take(5).collect();
    Err(io::Error::other(format!("acknowledged but not found afterwards: {} …", names.join(", "))))
}
