//! The `ng` protocol of rtpengine: `cookie SP dictionary`, one datagram each way. A question that comes again with its
//! cookie gets the answer that was given before.

use std::net::IpAddr;

use super::bencode::{Dict, Value, write_dict};
use super::flags;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// SDP that asks.
    Offer,
    /// SDP that answers.
    Answer,
    /// The call is over.
    Delete,
    /// Is anybody there.
    Ping,
}

impl Verb {
    /// As the protocol writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::Delete => "delete",
            Self::Ping => "ping",
        }
    }
}

/// SDP for an rtpengine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk<'a> {
    pub(crate) verb: Verb,
    pub(crate) call_id: &'a str,
    /// Tag of who offers, also in an answer.
    pub(crate) offerer: &'a str,
    /// Tag of the other, if it is known.
    pub(crate) answerer: Option<&'a str>,
    pub(crate) sdp: &'a [u8],
    /// What the SDP that comes back has to be like.
    pub(crate) flags: &'a str,
    /// The SDP has an address that cannot be reached: this one is believed.
    pub(crate) source: Option<IpAddr>,
}

/// An offer or an answer.
pub(crate) fn talk(cookie: &str, talk: Talk<'_>) -> Vec<u8> {
    let mut dict = Dict::new();
    let mut flags = talk.flags.to_owned();
    if let Some(ip) = talk.source {
        let ip = ip.to_canonical();
        flags.push_str(" SIP-source-address");
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        let from = vec![Value::from(family), Value::from(ip.to_string().as_str())];
        dict.insert(b"received-from".to_vec(), Value::List(from));
    }
    flags::put(&flags, &mut dict);
    dict.insert(b"sdp".to_vec(), Value::from(talk.sdp));
    dict.insert(b"call-id".to_vec(), Value::from(talk.call_id));
    dict.insert(b"from-tag".to_vec(), Value::from(talk.offerer));
    if let Some(tag) = talk.answerer {
        dict.insert(b"to-tag".to_vec(), Value::from(tag));
    }
    said(cookie, talk.verb, dict)
}

/// The call is over, for all who take part in it.
pub(crate) fn delete(cookie: &str, call_id: &str, from_tag: &str) -> Vec<u8> {
    let mut dict = Dict::new();
    dict.insert(b"call-id".to_vec(), Value::from(call_id));
    dict.insert(b"from-tag".to_vec(), Value::from(from_tag));
    // At once: nothing of this call comes after it.
    dict.insert(b"delete-delay".to_vec(), Value::Number(0));
    said(cookie, Verb::Delete, dict)
}

/// Is anybody there.
pub(crate) fn ping(cookie: &str) -> Vec<u8> {
    said(cookie, Verb::Ping, Dict::new())
}

fn said(cookie: &str, verb: Verb, mut dict: Dict) -> Vec<u8> {
    dict.insert(b"command".to_vec(), Value::from(verb.word()));
    let mut out = cookie.as_bytes().to_vec();
    out.push(b' ');
    write_dict(&dict, &mut out);
    out
}

/// What an rtpengine says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// `ok`, `pong`: with SDP, if there is some.
    Done(Option<Vec<u8>>),
    /// It has as many calls as it takes, or wants no more for another reason of its own.
    Busy,
    /// It cannot do that.
    Error(String),
}

/// Takes an answer apart: its cookie, and what it says. `None` if it is no answer.
pub(crate) fn heard(bytes: &[u8]) -> Option<(&str, Said)> {
    let at = bytes.iter().position(|b| *b == b' ')?;
    let cookie = std::str::from_utf8(bytes.get(..at)?).ok()?;
    let Value::Dict(dict) = Value::read(bytes.get(at + 1..)?)? else { return None };
    let text = |key: &[u8]| dict.get(key).and_then(Value::text);
    let said = match text(b"result")? {
        b"ok" | b"pong" => Said::Done(text(b"sdp").map(<[u8]>::to_vec)),
        b"load limit" => Said::Busy,
        other => {
            let why = text(b"error-reason").unwrap_or(other);
            Said::Error(String::from_utf8_lossy(why).chars().take(200).collect())
        }
    };
    Some((cookie, said))
}

/// The engine whose question this answers, if it is an answer: its cookie says so.
#[must_use]
pub fn shard_of_answer(bytes: &[u8]) -> Option<u16> {
    let at = bytes.iter().take(8).position(|b| *b == b'_')?;
    u16::from_str_radix(std::str::from_utf8(bytes.get(..at)?).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SDP: &[u8] = b"v=0\r\n";

    #[test]
    fn an_offer_has_these_bytes() {
        let offer = Talk {
            verb: Verb::Offer,
            call_id: "c1",
            offerer: "a",
            answerer: None,
            sdp: SDP,
            flags: "RTP/SAVPF ICE=force replace-origin",
            source: Some(IpAddr::from([192, 168, 1, 5])),
        };
        let wanted = "0_1_x d3:ICE5:force7:call-id2:c17:command5:offer5:flagsl18:SIP-source-addresse8:from-tag1:a\
                      13:received-froml3:IP411:192.168.1.5e7:replacel6:origine3:sdp5:v=0\r\n\
                      18:transport-protocol9:RTP/SAVPFe";
        assert_eq!(String::from_utf8_lossy(&talk("0_1_x", offer)), wanted);
    }

    #[test]
    fn an_answer_names_both_sides_offerer_first() {
        let answer = Talk {
            verb: Verb::Answer,
            call_id: "c1",
            offerer: "a",
            answerer: Some("b"),
            sdp: SDP,
            flags: "",
            source: None,
        };
        let wanted = "0_2_x d7:call-id2:c17:command6:answer8:from-tag1:a3:sdp5:v=0\r\n6:to-tag1:be";
        assert_eq!(String::from_utf8_lossy(&talk("0_2_x", answer)), wanted);
    }

    #[test]
    fn a_deletion_and_a_ping_have_these_bytes() {
        let wanted = "1_3_x d7:call-id2:c17:command6:delete12:delete-delayi0e8:from-tag1:ae";
        assert_eq!(String::from_utf8_lossy(&delete("1_3_x", "c1", "a")), wanted);
        assert_eq!(ping("1_4_x"), b"1_4_x d7:command4:pinge");
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(heard(b"a d6:result4:ponge"), Some(("a", Said::Done(None))));
        let ok = b"a d6:result2:ok3:sdp5:v=0\r\ne";
        assert_eq!(heard(ok), Some(("a", Said::Done(Some(SDP.to_vec())))));
        assert_eq!(heard(b"a d6:result10:load limite"), Some(("a", Said::Busy)));
        let error = b"a d12:error-reason3:bad6:result5:errore";
        assert_eq!(heard(error), Some(("a", Said::Error("bad".into()))));
        for garbage in [&b""[..], b"a", b"a ", b"a i1e", b"a de", b"\xff d6:result2:oke"] {
            assert_eq!(heard(garbage), None);
        }
    }

    #[test]
    fn the_engine_is_found_by_the_cookie() {
        assert_eq!(shard_of_answer(b"1f_22_ab d6:result4:ponge"), Some(31));
        for bad in [&b""[..], b"x_1", b"_1", b"1", b"fffff_1", b"000000000_1"] {
            assert_eq!(shard_of_answer(bad), None);
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = heard(&bytes);
            let _ = shard_of_answer(&bytes);
        }
    }
}
