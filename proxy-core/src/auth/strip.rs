//! Credentials that have served their turn are taken out of what is forwarded (Kamailio's `consume_credentials`): the
//! next hop has no use for them, and could ask the user's password of them.

use crate::digest::Credentials;
use crate::msg::scan::offset_in;
use crate::msg::{HeaderName, Message};

/// The request without its credentials for `realm` in headers of that name; those for others pass.
pub(crate) fn without_credentials(message: &Message<'_>, name: HeaderName, realm: &str) -> Vec<u8> {
    let raw = message.raw();
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    let mut lines = message.header_lines().peekable();
    while let Some(line) = lines.next() {
        let is_used = line.name == name && Credentials::realm_in(line.value).is_some_and(|r| r == realm);
        if !is_used {
            continue;
        }
        let start = offset_in(raw, line.raw_name);
        let value_end = offset_in(raw, line.value) + line.value.len();
        let end = match lines.peek() {
            Some(next) => offset_in(raw, next.raw_name),
            // The line that ends the headers stays.
            None => {
                let rest = raw.get(value_end..).unwrap_or_default();
                value_end + rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |n| n + 1)
            }
        };
        out.extend_from_slice(raw.get(at..start).unwrap_or_default());
        at = end;
    }
    out.extend_from_slice(raw.get(at..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(text: &str) -> String {
        let message = Message::parse(text.as_bytes()).expect("parses");
        let out = without_credentials(&message, HeaderName::ProxyAuthorization, "lab.test");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn our_credentials_go_and_all_else_stays_byte_for_byte_rfc3261_22_3() {
        let ours = "Proxy-Authorization: Digest realm=\"lab.test\",\r\n username=\"a\", x=y \r\n";
        let theirs = "proxy-authorization : Digest realm=\"other\", username=\"a\"\r\n";
        let www = "Authorization: Digest realm=\"lab.test\"\r\n";
        let first = "INVITE sip:b@h SIP/2.0\r\n";
        let body = "\r\nProxy-Authorization: Digest realm=\"lab.test\"\r\n";
        let text = format!("{first}{ours}Via: SIP/2.0/UDP h\r\n{theirs}{www}{ours}{body}");
        assert_eq!(strip(&text), format!("{first}Via: SIP/2.0/UDP h\r\n{theirs}{www}{body}"));
        let text = format!("{first}Via: SIP/2.0/UDP h\r\n\r\n");
        assert_eq!(strip(&text), text);
    }
}
