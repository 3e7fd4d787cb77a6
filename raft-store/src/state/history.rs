//! What has happened to the service: when it moved, from whom to whom, why, and what that cost. For people; nothing is
//! decided by it.
//!
//! Several nodes know a part of one move: who gave the service away knows why, who took it knows for how long nobody
//! served and what it went on with. Each tells its part under the fence token of the move.

use minicbor::{CborLen, Decode, Encode};
use proxy_core::time::WallTime;
use serde::{Deserialize, Serialize};

use crate::node::Place;

/// Events that are kept; the oldest gives way.
pub const MAX_EVENTS: usize = 128;
/// Longest words of an event, bytes; the rest is cut off.
pub const MAX_WORDS: usize = 240;

/// What kind of event it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room", index_only)]
pub enum EventKind {
    /// The service moved, or began anew where it was.
    #[default]
    #[n(0)]
    Moved,
    /// Something that was asked for was refused, and nothing has changed.
    #[n(1)]
    Refused,
    /// An operator changed what the cluster may do: a drain, a pause, its members.
    #[n(2)]
    Operator,
    /// The lease had ended, and came back to the same node under the same grant.
    #[n(3)]
    Resumed,
}

/// One event, or what one node knows of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, CborLen)]
#[cbor(context_bound = "proxy_core::wire::Room")]
pub struct Event {
    /// What names it: of a move, its fence token; else the log index under which it was told.
    #[n(0)]
    pub token: u64,
    /// Of which kind it is.
    #[n(1)]
    pub kind: EventKind,
    /// When, in the cluster's time, by the first node that told of it.
    #[n(2)]
    pub at: WallTime,
    /// Who held the service before.
    #[n(3)]
    pub from: Option<Place>,
    /// Who holds it since then.
    #[n(4)]
    pub to: Option<Place>,
    /// Why, in words.
    #[n(5)]
    pub why: Option<String>,
    /// For how long nobody served, ms, as the new holder has seen it.
    #[n(6)]
    pub silent_ms: Option<u64>,
    /// INVITEs without an end that the new holder went on with.
    #[n(7)]
    pub invites: Option<u64>,
    /// Answered calls that it found.
    #[n(8)]
    pub dialogs: Option<u64>,
    /// Registered contacts that it found.
    #[n(9)]
    pub bindings: Option<u64>,
}

/// The form of a list that is shared: that of a list.
pub(super) mod shared {
    use std::sync::Arc;

    use minicbor::decode::{Decode, Decoder, Error};
    use minicbor::encode::{self, CborLen, Encode, Encoder, Write};
    use proxy_core::wire::{Room, list};

    pub(in crate::state) fn encode<C, T: Encode<C>, W: Write>(
        v: &Arc<Vec<T>>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        list::encode(v, e, ctx)
    }

    pub(in crate::state) fn decode<'b, C: Room, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Arc<Vec<T>>, Error> {
        list::decode(d, ctx).map(Arc::new)
    }

    pub(in crate::state) fn cbor_len<C, T: CborLen<C>>(v: &Arc<Vec<T>>, ctx: &mut C) -> usize {
        list::cbor_len(v, ctx)
    }

    pub(in crate::state) fn serialize<T: serde::Serialize, S: serde::Serializer>(
        v: &Arc<Vec<T>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&**v, to)
    }

    pub(in crate::state) fn deserialize<'de, T: serde::Deserialize<'de>, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<Vec<T>>, D::Error> {
        serde::Deserialize::deserialize(from).map(Arc::new)
    }

    pub(in crate::state) fn nil<T>() -> Option<Arc<Vec<T>>> {
        Some(Arc::default())
    }

    pub(in crate::state) fn is_nil<T>(v: &Arc<Vec<T>>) -> bool {
        v.is_empty()
    }
}

/// Takes note of what a node has told in the entry at `index`.
pub(super) fn note(all: &mut Vec<Event>, index: u64, told: &Event) {
    let mut told = told.clone();
    if told.kind != EventKind::Moved {
        told.token = index;
    }
    told.why = told.why.map(|why| cut(&why).to_owned());
    let is_same = |e: &Event| (e.kind, e.to, &e.why) == (told.kind, told.to, &told.why);
    if told.kind == EventKind::Refused && all.last().is_some_and(is_same) {
        // What is asked again and again pushes nothing else out.
        return;
    }
    let known = all.iter_mut().rfind(|e| e.token == told.token && e.kind == told.kind);
    let Some(known) = known else {
        if all.len() >= MAX_EVENTS {
            all.remove(0);
        }
        // A part that comes late stands where its move does.
        let at = all.iter().rposition(|e| e.token <= told.token).map_or(0, |before| before + 1);
        all.insert(at, told);
        return;
    };
    // What was told first stays: the same part twice is one that was proposed twice.
    known.from = known.from.or(told.from);
    known.to = known.to.or(told.to);
    known.why = known.why.take().or(told.why);
    known.silent_ms = known.silent_ms.or(told.silent_ms);
    known.invites = known.invites.or(told.invites);
    known.dialogs = known.dialogs.or(told.dialogs);
    known.bindings = known.bindings.or(told.bindings);
}

/// At most [`MAX_WORDS`] bytes of it, whole characters.
fn cut(words: &str) -> &str {
    let mut end = words.len().min(MAX_WORDS);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    words.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(token: u64) -> Event {
        Event { token, at: WallTime(token), ..Event::default() }
    }

    #[test]
    fn who_gave_the_service_away_and_who_took_it_tell_of_one_move() {
        let mut all = Vec::new();
        let why = Some(String::from("node 1 shuts down"));
        note(&mut all, 11, &Event { from: Some(1), to: Some(2), why: why.clone(), ..moved(10) });
        let taken =
            Event { to: Some(2), silent_ms: Some(14), why: Some(String::from("planned")), ..moved(10) };
        note(&mut all, 12, &taken);
        note(&mut all, 13, &Event { silent_ms: Some(9_999), ..moved(10) });
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].from, all[0].to, all[0].silent_ms), (Some(1), Some(2), Some(14)));
        assert_eq!(all[0].why, why, "who gave it away knows better");
    }

    #[test]
    fn what_is_told_late_stands_where_its_move_does_and_the_oldest_gives_way() {
        let mut all = Vec::new();
        note(&mut all, 21, &moved(20));
        note(&mut all, 22, &moved(10));
        note(&mut all, 23, &Event { kind: EventKind::Refused, ..Event::default() });
        assert_eq!(all.iter().map(|e| e.token).collect::<Vec<_>>(), [10, 20, 23]);
        for token in 30..30 + MAX_EVENTS as u64 {
            note(&mut all, token + 1, &moved(token));
        }
        assert_eq!((all.len(), all[0].token), (MAX_EVENTS, 30));
    }

    #[test]
    fn what_is_refused_again_and_again_is_one_event() {
        let mut all = Vec::new();
        let refused = |to| Event { kind: EventKind::Refused, to: Some(to), ..Event::default() };
        for index in 1..50 {
            note(&mut all, index, &refused(2));
        }
        note(&mut all, 50, &refused(3));
        assert_eq!(all.iter().map(|e| e.token).collect::<Vec<_>>(), [1, 50]);
    }

    #[test]
    fn words_are_bounded_and_cut_between_characters() {
        let mut all = Vec::new();
        note(&mut all, 2, &Event { why: Some("ü".repeat(MAX_WORDS)), ..moved(1) });
        assert_eq!(all[0].why.as_ref().map(String::len), Some(MAX_WORDS));
        assert_eq!(cut("a\u{fc}").len(), 3);
    }
}
