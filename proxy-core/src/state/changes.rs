//! What an entry changed, as bytes: nodes compare hashes of it, to see whether they still agree.
//!
//! A record is written as it was and as it is, so that one that is another on some node shows when it is changed next,
//! however it came to be another. It costs as much as the changed records, whatever the size of the state.

use minicbor::Encode;
use minicbor::encode::{Encoder, Error, Write};

use super::pmap::Change;
use super::subscriptions::Subscription;
use super::{AccountRecord, Binding, DialogId, DialogRecord, PendingInvite, ServerKey};
use crate::wire::Memory;

type Written<W> = Result<(), Error<<W as Write>::Error>>;

/// The bindings, calls, subscriptions and accounting records that differ from what they were, in the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub(super) bindings: Vec<Change<String, Vec<Binding>>>,
    pub(super) pending: Vec<Change<ServerKey, PendingInvite>>,
    pub(super) dialogs: Vec<Change<DialogId, DialogRecord>>,
    pub(super) subscriptions: Vec<Change<DialogId, Subscription>>,
    pub(super) outbox: Vec<Change<u64, AccountRecord>>,
}

impl Changes {
    /// Writes them. Equal changes give equal bytes.
    ///
    /// # Errors
    /// `to` fails.
    pub fn write<W: Write>(&self, to: W) -> Result<(), Error<W::Error>> {
        let e = &mut Encoder::new(to);
        table(e, &self.bindings, |e, list, room| list.iter().try_for_each(|b| b.encode(e, room)))?;
        table(e, &self.pending, |e, record, room| record.encode(e, room))?;
        table(e, &self.dialogs, |e, record, room| record.encode(e, room))?;
        table(e, &self.subscriptions, |e, record, room| record.encode(e, room))?;
        table(e, &self.outbox, |e, record, room| record.encode(e, room))
    }
}

fn table<W: Write, K: Encode<Memory>, V>(
    e: &mut Encoder<W>,
    changes: &[Change<K, V>],
    write: impl Fn(&mut Encoder<W>, &V, &mut Memory) -> Written<W>,
) -> Written<W> {
    let room = &mut Memory::endless();
    for Change { key, before, after } in changes {
        key.encode(e, room)?;
        for value in [before, after] {
            e.bool(value.is_some())?;
            if let Some(value) = value {
                write(e, value, room)?;
            }
        }
    }
    // Where the next table begins.
    e.null()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Binding, Flow, RegisterChange, RegisterCommand, SipCommand, SipState, Transport};
    use crate::time::WallTime;

    fn register(user: &str, cseq: u32, agent: &str) -> SipCommand {
        let at = "192.0.2.1:5060".parse().expect("an address");
        let binding = Binding {
            contact: format!("sip:{user}@192.0.2.1"),
            contact_key: format!("sip:{user}@192.0.2.1"),
            flow: Flow { transport: Transport::Udp, local: at, remote: at },
            natted: false,
            path: Vec::new(),
            q: 1000,
            expires_at: WallTime(1_000),
            call_id: String::from("r"),
            cseq,
            instance: None,
            reg_id: None,
            user_agent: agent.to_owned(),
            updated_at: WallTime(1),
            methods: None,
            outbound: false,
            gruu: None,
        };
        SipCommand::Register(RegisterCommand {
            aor: format!("sip:{user}@lab.test"),
            call_id: String::from("r"),
            cseq,
            change: RegisterChange::Contacts(vec![binding]),
            max_contacts: 8,
            at: WallTime(1),
        })
    }

    /// What the last of these commands changed.
    fn changes(commands: &[SipCommand]) -> Vec<u8> {
        let mut state = SipState::default();
        let (last, first) = commands.split_last().expect("one");
        first.iter().for_each(|command| drop(state.apply(command)));
        let _ = state.watch();
        state.apply(last);
        let mut bytes = Vec::new();
        state.changes().write(&mut bytes).expect("memory does not fail");
        bytes
    }

    #[test]
    fn what_is_taken_back_leaves_the_state_and_what_is_derived_from_it_as_they_were() {
        let mut state = SipState::default();
        state.apply(&register("a", 1, "x"));
        let before = state.clone();
        let kept = state.watch();
        state.set_wall_offset(crate::time::WallOffset(7));
        for command in
            [register("a", 2, "y"), register("b", 1, "x"), SipCommand::Expire { up_to: WallTime(2_000) }]
        {
            state.apply(&command);
        }
        assert_ne!(state, before);
        assert_eq!(state.take_back(&kept), Ok(()));
        assert_eq!(state, before);
        assert!(state.index_is_right());
        // It goes on noting.
        state.apply(&register("c", 1, "x"));
        assert_eq!(state.take_back(&kept), Ok(()));
        assert_eq!(state.changes(), Changes::default());
        assert_eq!(state, before);
    }

    #[test]
    fn what_was_changed_is_told_and_nothing_else() {
        let one = changes(&[register("a", 1, "x")]);
        assert_eq!(one, changes(&[register("b", 1, "x"), register("c", 1, "x"), register("a", 1, "x")]));
        assert_ne!(one, changes(&[register("a", 1, "y")]));
        let nothing = changes(&[register("a", 2, "x"), register("a", 1, "x")]);
        assert!(nothing.len() < 16, "an old number is refused: {} bytes", nothing.len());
    }

    #[test]
    fn a_record_that_was_another_shows_when_it_is_changed() {
        let refresh = register("a", 2, "x");
        let right = changes(&[register("a", 1, "x"), refresh.clone()]);
        assert_ne!(right, changes(&[register("a", 1, "odd"), refresh]));
    }
}
