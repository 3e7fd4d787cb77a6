//! Who plays: the users, their ports, and the phones that stay through all rounds.

use std::io;
use std::time::Duration;

use super::Stage;
use crate::phones::baresip::Baresip;
use crate::phones::sipp;

/// Called in story 1; the caller speaks.
pub const ANNA: (&str, u16) = ("anna", 7101);
/// Called in story 1; the callee speaks.
pub const BERT: (&str, u16) = ("bert", 7102);
/// One address, three phones, of story 2.
pub const TRIO: (&str, [u16; 3]) = ("trio", [7111, 7113, 7115]);
/// Called in story 3.
pub const RITA: (&str, u16) = ("rita", 7121);
/// Called in story 4.
pub const NICK: (&str, u16) = ("nick", 7131);
/// Called in story 6.
pub const LENA: (&str, u16) = ("lena", 7141);
/// Called in story 7.
pub const LOAD: (&str, u16) = ("load", 7151);
/// The baresips of story 1 and their SIP ports.
pub const BARESIPS: [(&str, u16); 2] = [("alice", 7401), ("bob", 7411)];

/// First port of the callers.
pub const CALLER_PORT: u16 = 7200;

/// The phones that stay.
pub struct Cast {
    /// Alice and Bob, if story 1 is told.
    pub baresips: Option<[Baresip; 2]>,
}

impl Cast {
    /// Registers every phone that the wanted stories need.
    pub fn assemble(stage: &Stage) -> io::Result<Cast> {
        let lab = &stage.guard.lab;
        let mut phones: Vec<(&str, u16)> = Vec::new();
        for (story, users) in [
            (1, vec![ANNA, BERT]),
            (2, TRIO.1.iter().map(|port| (TRIO.0, *port)).collect()),
            (3, vec![RITA]),
            (4, vec![NICK]),
            (6, vec![LENA]),
            (7, vec![LOAD]),
        ] {
            if stage.wants(story) {
                phones.extend(users);
            }
        }
        // All at once: a SIPp lives for a second after its last message.
        let mut registering = Vec::new();
        for (user, port) in &phones {
            registering.push(sipp::register(lab, &stage.logs, user, *port, false)?);
        }
        let baresips = if stage.wants(1) {
            let [(alice, a), (bob, b)] = BARESIPS;
            let mut pair =
                [Baresip::start(lab, &stage.logs, alice, a)?, Baresip::start(lab, &stage.logs, bob, b)?];
            for phone in &mut pair {
                phone.wait_registered(Duration::from_secs(10))?;
            }
            Some(pair)
        } else {
            None
        };
        for mut phone in registering {
            phone.finish()?;
        }
        let also = if baresips.is_some() { " and two baresip" } else { "" };
        stage.teller.say(&format!("{} SIPp{also} phones have registered", phones.len()));
        Ok(Cast { baresips })
    }
}
