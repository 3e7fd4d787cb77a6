//! Calls: who calls, who is called, and how it should end.
//!
//! | kind | who is called |
//! |---|---|
//! | Forks | one to three phones of a user at once |
//! | Serial | two phones of a user, one q after the other |
//! | Mailbox | one or two phones of a user, then voicemail |
//! | Pool | one of three PBXs, the next one if it dies |
//! | Trunk | the carrier, which asks for credentials |
//! | Named | a phone whose Contact is a name with two servers, the first of which may be out of service |

use super::base::{MS, Rng};
use super::callee::{Callee, Manner};
use super::caller::{Caller, Plan};
use super::client::Registrar;
use super::setup::{CARRIER, MAILBOX, PBXS, name_of, phone};

/// See the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Phones at once.
    Forks,
    /// Phones one after the other.
    Serial,
    /// Phones, then voicemail.
    Mailbox,
    /// PBXs.
    Pool,
    /// The carrier.
    Trunk,
    /// A name with two servers.
    Named,
}

impl Kind {
    /// What names of its users begin with.
    fn letter(self) -> char {
        match self {
            Self::Forks => 'u',
            Self::Serial => 'q',
            Self::Mailbox => 'v',
            Self::Pool => 'd',
            Self::Trunk => 't',
            Self::Named => 'h',
        }
    }
}

/// One call: phones that register, are called, and end it somehow.
#[derive(Debug)]
pub struct Call {
    /// Its Call-ID.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The caller.
    pub caller: Caller,
    /// Registrations of those called.
    pub registrars: Vec<Registrar>,
    /// Those called.
    pub callees: Vec<Callee>,
    /// Somebody would answer if the caller waited, and he does.
    pub must_be_answered: bool,
    /// Not before, ns.
    pub from: u64,
    /// When it began, ns.
    pub begun: Option<u64>,
}

/// A manner in which a phone does not end a call by itself, or does.
fn phone_manner(rng: &mut Rng, refusal: u16) -> Manner {
    let after = rng.between(20, 2_500) * MS;
    match rng.between(0, 9) {
        0..=3 => Manner::Rings,
        4..=6 => Manner::Refuses(after, refusal),
        _ => Manner::Answers(after),
    }
}

fn answers(rng: &mut Rng) -> Manner {
    Manner::Answers(rng.between(10, 1_500) * MS)
}

impl Call {
    /// Call number `n`; its phones register at `from`.
    #[must_use]
    pub fn new(n: u16, from: u64, rng: &mut Rng) -> Self {
        let kind = match rng.between(0, 11) {
            0..=3 => Kind::Forks,
            4 | 5 => Kind::Serial,
            6 | 7 => Kind::Mailbox,
            8 | 9 => Kind::Pool,
            10 => Kind::Trunk,
            _ => Kind::Named,
        };
        let user = format!("{}{n}", kind.letter());
        let id = format!("call{n}");
        let plan = if rng.chance(35) {
            Plan::CancelAfter(rng.between(50, 2500) * MS)
        } else {
            Plan::HangUpAfter(rng.between(10, 4000) * MS)
        };
        let waits = matches!(plan, Plan::HangUpAfter(_));
        let manners = match kind {
            Kind::Forks => forks(rng, waits),
            Kind::Serial => vec![phone_manner(rng, 480), answers(rng)],
            Kind::Mailbox => (0..rng.between(1, 2)).map(|_| phone_manner(rng, 486)).collect(),
            Kind::Pool => PBXS.map(|_| answers(rng)).to_vec(),
            Kind::Trunk => vec![answers(rng)],
            Kind::Named => {
                let after = rng.between(0, 300) * MS;
                let first = rng.pick(&[Manner::Absent, Manner::Refuses(after, 503)]);
                vec![first.unwrap_or(Manner::Absent), answers(rng)]
            }
        };
        let mut callees = Vec::new();
        let mut registrars = Vec::new();
        for (i, manner) in (1..).zip(manners) {
            let at = match kind {
                Kind::Pool => PBXS.get(usize::from(i - 1)).copied().unwrap_or(MAILBOX),
                Kind::Trunk => CARRIER,
                _ => phone(n, i),
            };
            let callee = Callee::new(at, &id, manner);
            callees.push(if kind == Kind::Trunk { callee.challenging() } else { callee });
            let contact = match kind {
                Kind::Pool | Kind::Trunk => continue,
                Kind::Named if i > 1 => continue,
                Kind::Named => format!("<sip:{user}@{}>", name_of(n)),
                Kind::Serial => format!("<sip:{user}@{at}>;q=0.{}", 9 - i),
                _ => format!("<sip:{user}@{at}>"),
            };
            // Who registers a name is not where the name leads.
            let registers_at = if kind == Kind::Named { phone(n, 7) } else { at };
            registrars.push(Registrar::new(registers_at, user.clone(), contact, from, None));
        }
        if kind == Kind::Mailbox {
            callees.push(Callee::new(MAILBOX, &id, answers(rng)));
        }
        let must_be_answered = waits && callees.iter().any(|c| matches!(c.manner, Manner::Answers(_)));
        let caller = Caller::new(phone(n, 0), &user, &id, plan);
        Self { id, kind, caller, registrars, callees, must_be_answered, from, begun: None }
    }

    /// The user who is called, if this is call number `n`.
    #[must_use]
    pub fn user(&self, n: u16) -> String {
        format!("{}{n}", self.kind.letter())
    }

    /// Whether it has come to an end.
    #[must_use]
    pub fn over(&self) -> bool {
        self.begun.is_some() && self.caller.over()
    }
}

/// Phones that are called at once. If the caller waits, somebody ends the call: timer C is too long to wait for.
fn forks(rng: &mut Rng, waits: bool) -> Vec<Manner> {
    let mut manners = Vec::new();
    for i in 0..rng.between(1, 3) {
        let after = rng.between(20, 2500) * MS;
        manners.push(match rng.between(0, 9) {
            0..=2 if !waits || i > 0 => Manner::Rings,
            3 => Manner::Refuses(after, 486),
            _ => Manner::Answers(after),
        });
    }
    let ends = manners.iter().any(|m| matches!(m, Manner::Answers(_)))
        || manners.iter().all(|m| matches!(m, Manner::Refuses(..)));
    if !ends
        && waits
        && let Some(manner) = manners.first_mut()
    {
        *manner = Manner::Answers(100 * MS);
    }
    manners
}
