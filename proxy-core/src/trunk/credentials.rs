//! Answers to the challenges of trunks, with the secret of the account.

use crate::digest::{Asked, Login, Password, Unanswerable, answer_challenge, challenges_of};
use crate::engine::keys::Keys;
use crate::msg::Message;
use crate::state::trunk::Account;

/// The request that was challenged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Challenged<'a> {
    pub(crate) method: &'a str,
    /// Its Request-URI.
    pub(crate) uri: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) call_id: &'a str,
    /// CSeq that it will have when it is sent again.
    pub(crate) cseq: u32,
}

/// The headers to send it again with, or what is wrong, for the operator. The client nonce is derived with the cluster
/// key, so that nobody can foretell it and a successor writes the same one.
pub(crate) fn answer(
    keys: &Keys,
    account: &Account,
    response: &Message<'_>,
    what: Challenged<'_>,
) -> Result<Vec<(&'static str, String)>, String> {
    let username = if account.auth_user.is_empty() { &account.remote_user } else { &account.auth_user };
    let login = Login { username, password: Password::Ha1 { realm: &account.realm, ha1: &account.ha1 } };
    let challenges = challenges_of(response);
    let nonce = challenges.first().map(|c| c.nonce.as_str()).unwrap_or_default();
    let parts: [&[u8]; 3] = [what.call_id.as_bytes(), &what.cseq.to_be_bytes(), nonce.as_bytes()];
    let cnonce = keys.own_tag("cnonce", &parts);
    let asked = Asked { method: what.method, uri: what.uri, body: what.body, cnonce: &cnonce, count: 1 };
    answer_challenge(response, &login, &asked).map_err(|why| match why {
        Unanswerable::NoChallenge => String::from("a challenge that cannot be answered"),
        Unanswerable::NoSecret => {
            let realms: Vec<&str> = challenges.iter().map(|c| c.realm.as_str()).collect();
            format!("the secret is for realm {:?}, asked is {:?}", account.realm, realms.join(", "))
        }
    })
}
