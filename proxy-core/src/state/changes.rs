//! What an entry changed, as bytes: nodes compare hashes of it, to see whether they still agree.
//!
//! A record is written as it was and as it is, so that one that is another on some node shows when it is changed next,
//! however it came to be another. It costs as much as the changed records, whatever the size of the state.

use minicbor::Encode;
use minicbor::encode::{Encoder, Error, Write};

use super::{PMap, SipState};
use crate::wire::Memory;

type Written<W> = Result<(), Error<<W as Write>::Error>>;

impl SipState {
    /// Writes the bindings, calls, subscriptions and accounting records that differ from those of `before`, in the order of
    /// their keys. Equal changes give equal bytes.
    ///
    /// # Errors
    /// `to` fails.
    pub fn write_changes<W: Write>(&self, before: &Self, to: W) -> Result<(), Error<W::Error>> {
        let (old, new) = (&before.records, &self.records);
        let e = &mut Encoder::new(to);
        table(e, &old.bindings, &new.bindings, |e, list, room| {
            list.iter().try_for_each(|b| b.encode(e, room))
        })?;
        table(e, &old.pending, &new.pending, |e, record, room| record.encode(e, room))?;
        table(e, &old.dialogs, &new.dialogs, |e, record, room| record.encode(e, room))?;
        table(e, &old.subscriptions.all, &new.subscriptions.all, |e, record, room| record.encode(e, room))?;
        table(e, &old.outbox.records, &new.outbox.records, |e, record, room| record.encode(e, room))
    }
}

fn table<W: Write, K: Ord + Clone + Encode<Memory>, V: Eq>(
    e: &mut Encoder<W>,
    old: &PMap<K, V>,
    new: &PMap<K, V>,
    write: impl Fn(&mut Encoder<W>, &V, &mut Memory) -> Written<W>,
) -> Written<W> {
    let room = &mut Memory::endless();
    for (key, before, after) in new.changed_since(old) {
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
    use crate::state::{Binding, Flow, RegisterChange, RegisterCommand, SipCommand, Transport};
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
        let before = state.frozen();
        state.apply(last);
        let mut bytes = Vec::new();
        state.frozen().write_changes(&before, &mut bytes).expect("memory does not fail");
        bytes
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
