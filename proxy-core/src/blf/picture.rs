//! The calls of a user as the replicated state has them, and the document that shows them (RFC 4235 §4).

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::engine::keys::Keys;
use crate::state::limits::MAX_SHOWN;
use crate::state::subscriptions::{CallPhase, Shown};
use crate::state::{BranchState, PendingInvite, SipState};

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) shown: Shown,
    pub(super) call_id: String,
    /// Tag of the user who is watched.
    pub(super) local_tag: String,
    pub(super) remote_tag: String,
    /// Who is on the other side.
    pub(super) peer: String,
}

/// The calls of a user now, in the order of their names.
pub(super) fn pictures(state: &SipState, keys: &Keys, aor: &str) -> Vec<Picture> {
    let mut all: BTreeMap<u64, Picture> = BTreeMap::new();
    let mut add = |picture: Picture| {
        // Of an INVITE that has come by twice, the copy that is further.
        let known = all.entry(picture.shown.name).or_insert_with(|| picture.clone());
        if known.shown.phase < picture.shown.phase {
            *known = picture;
        }
    };
    let (pending, dialogs) = state.calls_of_user(aor);
    for invite in pending {
        let Some(facts) = &invite.facts else { continue };
        let picture = |outgoing: bool, phase: CallPhase, to_tag: &str| {
            let from_tag = facts.from_tag.clone();
            let name = name(keys, &invite.call_id, &from_tag, outgoing);
            let (local_tag, remote_tag, peer) = if outgoing {
                (from_tag, to_tag.to_owned(), uri(&facts.dst_user, &facts.dst_domain))
            } else {
                (to_tag.to_owned(), from_tag, uri(&facts.src_user, &facts.src_domain))
            };
            let shown = Shown { name, phase, outgoing };
            Picture { shown, call_id: invite.call_id.clone(), local_tag, remote_tag, peer }
        };
        if facts.caller.as_deref() == Some(aor) {
            let (phase, tag) = furthest(invite, None).unwrap_or((CallPhase::Trying, ""));
            add(picture(true, phase, tag));
        }
        if let Some((phase, tag)) = furthest(invite, Some(aor)) {
            add(picture(false, phase, tag));
        }
    }
    for dialog in dialogs {
        let facts = dialog.facts.as_ref();
        let mut picture = |outgoing: bool| {
            let id = &dialog.id;
            let name = name(keys, &id.call_id, &id.from_tag, outgoing);
            let (local, remote, peer) = if outgoing {
                let callee = facts.map_or_else(String::new, |f| uri(&f.dst_user, &f.dst_domain));
                (&id.from_tag, &id.to_tag, callee)
            } else {
                (&id.to_tag, &id.from_tag, dialog.from_uri.clone())
            };
            add(Picture {
                shown: Shown { name, phase: CallPhase::Confirmed, outgoing },
                call_id: id.call_id.clone(),
                local_tag: local.clone(),
                remote_tag: remote.clone(),
                peer,
            });
        };
        if facts.is_some_and(|f| f.caller.as_deref() == Some(aor)) {
            picture(true);
        }
        if dialog.backing.called.as_deref() == Some(aor) {
            picture(false);
        }
    }
    all.into_values().take(MAX_SHOWN).collect()
}

/// How far the copies of the last round have come, those for one user or all; `None` if there is none that is open.
fn furthest<'i>(invite: &'i PendingInvite, called: Option<&str>) -> Option<(CallPhase, &'i str)> {
    let open = invite.branches.iter().filter(|b| {
        b.round == invite.round
            && (called.is_none() || b.backing.called.as_deref() == called)
            && !matches!(b.state, BranchState::Final { .. })
    });
    open.map(|b| match &b.state {
        BranchState::Proceeding { to_tag: Some(tag), .. } => (CallPhase::Early, tag.as_str()),
        BranchState::Proceeding { to_tag: None, .. } => (CallPhase::Proceeding, ""),
        _ => (CallPhase::Trying, ""),
    })
    .max_by_key(|(phase, _)| *phase)
}

/// The name of a call in documents: the same while it rings and when it is answered.
fn name(keys: &Keys, call_id: &str, from_tag: &str, outgoing: bool) -> u64 {
    keys.own_number("call", &[call_id.as_bytes(), from_tag.as_bytes(), &[u8::from(outgoing)]])
}

fn uri(user: &str, domain: &str) -> String {
    if user.is_empty() { format!("sip:{domain}") } else { format!("sip:{user}@{domain}") }
}

/// What a NOTIFY shows: the calls there are, and those that the watcher still sees and that have ended. `told`: the
/// watcher is known to have got the last one, so that what had ended in it need not be said again.
pub(super) fn next_shown(before: &[Shown], now: &[Picture], told: bool) -> Vec<Shown> {
    let mut next: Vec<Shown> = now.iter().map(|p| p.shown).collect();
    for old in before {
        let is_there = next.iter().any(|s| s.name == old.name);
        if !is_there && (old.phase != CallPhase::Terminated || !told) && next.len() < MAX_SHOWN {
            next.push(Shown { phase: CallPhase::Terminated, ..*old });
        }
    }
    next.sort_unstable();
    next
}

/// Whether a watcher who was shown `before` sees something else now.
pub(super) fn is_news(before: &[Shown], now: &[Picture]) -> bool {
    let alive = before.iter().filter(|s| s.phase != CallPhase::Terminated);
    !alive.copied().eq(now.iter().map(|p| p.shown))
}

/// The document (RFC 4235 §4.1), always a full one.
pub(super) fn document(entity: &str, version: u32, shown: &[Shown], now: &[Picture]) -> Vec<u8> {
    let mut out = String::with_capacity(256 + 512 * shown.len());
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<?xml version=\"1.0\"?>\r\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"{version}\" \
         state=\"full\" entity=\"{}\">\r\n",
        Escaped(entity)
    );
    for s in shown {
        let picture = now.iter().find(|p| p.shown == *s);
        let direction = if s.outgoing { "initiator" } else { "recipient" };
        let _ = write!(out, "<dialog id=\"{:016x}\"", s.name);
        if let Some(p) = picture {
            let _ = write!(out, " call-id=\"{}\"", Escaped(&p.call_id));
            for (name, tag) in [("local-tag", &p.local_tag), ("remote-tag", &p.remote_tag)] {
                if !tag.is_empty() {
                    let _ = write!(out, " {name}=\"{}\"", Escaped(tag));
                }
            }
        }
        let _ = write!(out, " direction=\"{direction}\">\r\n<state>{}</state>\r\n", s.phase.word());
        if let Some(p) = picture {
            for (side, uri) in [("local", entity), ("remote", &p.peer)] {
                let uri = Escaped(uri);
                let _ = write!(
                    out,
                    "<{side}>\r\n<identity>{uri}</identity>\r\n<target uri=\"{uri}\"/>\r\n</{side}>\r\n"
                );
            }
        }
        out.push_str("</dialog>\r\n");
    }
    out.push_str("</dialog-info>\r\n");
    out.into_bytes()
}

/// Text in an XML document; what may not stand in one is left out.
struct Escaped<'t>(&'t str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&apos;")?,
                c if c.is_control() => {}
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: u64, phase: CallPhase) -> Shown {
        Shown { name, phase, outgoing: false }
    }

    fn picture(name: u64, phase: CallPhase) -> Picture {
        Picture {
            shown: shown(name, phase),
            call_id: String::from("c&\"1"),
            local_tag: String::from("l"),
            remote_tag: String::new(),
            peer: String::from("sip:<x>@h"),
        }
    }

    #[test]
    fn an_ended_call_is_shown_once_and_again_only_until_it_is_known_to_be_seen() {
        let before = [shown(1, CallPhase::Confirmed), shown(2, CallPhase::Early)];
        let now = [picture(2, CallPhase::Early)];
        assert!(is_news(&before, &now));
        let next = next_shown(&before, &now, true);
        assert_eq!(next, [shown(1, CallPhase::Terminated), shown(2, CallPhase::Early)]);
        assert!(!is_news(&next, &now), "it is no news that it has ended");
        assert_eq!(next_shown(&next, &now, true), [shown(2, CallPhase::Early)]);
        assert_eq!(next_shown(&next, &now, false), next);
    }

    #[test]
    fn nothing_in_a_call_can_break_the_document_rfc4235_4() {
        let now = [picture(1, CallPhase::Early)];
        let text = String::from_utf8(document("sip:b@h", 4, &[now[0].shown], &now)).expect("text");
        assert!(text.contains("call-id=\"c&amp;&quot;1\" local-tag=\"l\" direction=\"recipient\""), "{text}");
        assert!(
            text.contains("<identity>sip:&lt;x&gt;@h</identity>") && text.contains("version=\"4\""),
            "{text}"
        );
        assert!(!text.contains("remote-tag"), "{text}");
    }
}
