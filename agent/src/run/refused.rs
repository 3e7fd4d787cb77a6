//! Changes that the cluster did not take, in words.

use proxy_core::io::Refusal;

use crate::admin::Reply;

/// What an operator reads when a change was refused.
pub(super) fn not_taken(why: Refusal) -> Reply {
    match why {
        Refusal::NotActive => Reply::error(
            "the cluster did not take it: no leader is known here",
            "see relevo status: do a majority of the nodes run and hear each other? then try again",
        ),
        Refusal::Overloaded => {
            Reply::error("the cluster did not take it: too many changes wait", "try again in a moment")
        }
        Refusal::Poisoned => Reply::error(
            "the cluster did not take it: it cannot be applied, which is a fault of relevo",
            "see the log for the file to send in; do not try again",
        ),
        Refusal::Unknown => Reply::error(
            "nobody knows whether the cluster took it: its leader was lost, or has changed meanwhile",
            "see relevo status: is there a leader? then list what there is, and if the change is not there, try again",
        ),
        Refusal::Unread => Reply::error(
            "the cluster did not take it: a node of an older version could not read it",
            "see relevo status for the versions; upgrade that node, or remove it, then try again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_was_refused_is_explained_in_words_with_a_cure() {
        for why in [Refusal::NotActive, Refusal::Overloaded, Refusal::Unknown, Refusal::Unread] {
            let text = format!("{:?}", not_taken(why));
            assert!(text.contains("the cluster") && text.contains("try again"), "{text}");
            let is_shown = why == Refusal::Overloaded || text.contains("relevo status");
            assert!(is_shown, "whether there is a leader: {text}");
            assert!(!text.contains(&format!("{why:?}")), "no name of a variant: {text}");
        }
    }
}
