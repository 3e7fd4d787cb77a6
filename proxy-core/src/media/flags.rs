//! What an rtpengine is told about a side, in the words that Kamailio's `rtpengine_manage("…")` takes.
//!
//! | word | dictionary |
//! |---|---|
//! | `RTP/AVP`, `RTP/SAVPF`, … | `transport-protocol` |
//! | `ICE=…`, `DTLS=…` and any other `name=value` | that name, as a string |
//! | `replace-…`, `rtcp-mux-…`, `SDES-…` | a string in the list of that name |
//! | `direction=…` | one more string in that list |
//! | any other word | a string in the list `flags` |
//! | `+…` | the same without the plus, whether it is known here or not |

use super::bencode::{Dict, Value};

/// Protocols that are understood.
const PROTOCOLS: [&str; 7] =
    ["RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF", "OSRTP"];
/// Lists whose name is the beginning of the word.
const LISTS: [(&str, &str); 3] = [("replace-", "replace"), ("rtcp-mux-", "rtcp-mux"), ("SDES-", "SDES")];
/// What may stand in the list `replace`.
const REPLACED: [&str; 9] = [
    "origin",
    "session-connection",
    "sdp-version",
    "SDP-version",
    "username",
    "session-name",
    "zero-address",
    "force-increment-sdp-ver",
    "origin-full",
];
/// What may stand in the list `rtcp-mux`.
const MUXED: [&str; 5] = ["offer", "require", "demux", "accept", "reject"];
/// Words for the list `flags`.
const FLAGS: [&str; 54] = [
    "all",
    "allow-transcoding",
    "always-transcode",
    "asymmetric",
    "asymmetric-codecs",
    "block-dtmf",
    "block-media",
    "debug",
    "debugging",
    "detect-DTMF",
    "discard-recording",
    "drop-traffic",
    "early-media",
    "egress",
    "exclude-recording",
    "external",
    "force",
    "fragment",
    "full-rtcp-attribute",
    "full-RTCP-attribute",
    "generate-RTCP",
    "generate-mid",
    "inactive",
    "inject-DTMF",
    "internal",
    "loop-protect",
    "media-handover",
    "mirror-RTCP",
    "NAT-wait",
    "no-codec-renegotiation",
    "no-jitter-buffer",
    "no-passthrough",
    "no-port-latching",
    "no-rtcp-attribute",
    "no-RTCP-attribute",
    "original-sendrecv",
    "pad-crypto",
    "passthrough",
    "pierce-NAT",
    "port-latching",
    "prefer-v4",
    "prefer-v6",
    "record-call",
    "recrypt",
    "reorder-codecs",
    "reset",
    "reuse-codecs",
    "SIP-source-address",
    "single-codec",
    "skip-recording-db",
    "static-codecs",
    "strict-source",
    "symmetric",
    "symmetric-codecs",
];
/// More of them.
const MORE_FLAGS: [&str; 10] = [
    "trickle-ICE",
    "trust-address",
    "unidirectional",
    "unblock-media",
    "webrtc",
    "WebRTC",
    "via-branch",
    "no-redis-update",
    "silence-media",
    "start-recording",
];
/// How other words begin.
const FLAG_STARTS: [&str; 7] =
    ["codec-", "transcode-", "endpoint-learning-", "extmap-", "sdp-attr-", "OSRTP-", "T.38-"];
/// Names before a `=`.
const NAMES: [&str; 33] = [
    "ICE",
    "ICE-lite",
    "DTLS",
    "DTLS-reverse",
    "DTLS-fingerprint",
    "T.38",
    "T38",
    "OSRTP",
    "SDES",
    "TOS",
    "address-family",
    "media-address",
    "direction",
    "interface",
    "received-from",
    "record-call",
    "recording-file",
    "output-destination",
    "metadata",
    "label",
    "set-label",
    "from-label",
    "to-label",
    "ptime",
    "ptime-reverse",
    "delay-buffer",
    "media-echo",
    "endpoint-learning",
    "xmlrpc-callback",
    "template",
    "transport-protocol",
    "rtcp-mux",
    "bundle",
];
/// What lets a word through that is not known here.
const TRUSTED: char = '+';
/// Names that the proxy writes itself.
const OWN: [&str; 8] =
    ["command", "sdp", "call-id", "from-tag", "to-tag", "via-branch", "received-from", "delete-delay"];

/// Longest text of flags, in bytes: it is part of each call's record.
pub const MAX_FLAGS_BYTES: usize = 256;

/// Puts the words into a dictionary.
pub(super) fn put(words: &str, dict: &mut Dict) {
    for word in words.split_ascii_whitespace() {
        let word = word.strip_prefix(TRUSTED).unwrap_or(word);
        let mut list = |name: &str, item: &str| {
            let entry = dict.entry(name.as_bytes().to_vec()).or_insert_with(|| Value::List(Vec::new()));
            let item = Value::from(item);
            if let Value::List(list) = entry
                && !list.contains(&item)
            {
                list.push(item);
            }
        };
        if PROTOCOLS.contains(&word) {
            dict.insert(b"transport-protocol".to_vec(), Value::from(word));
        } else if let Some((_, name)) = LISTS.iter().find(|(prefix, _)| word.starts_with(prefix)) {
            let item = word.get(name.len() + 1..).unwrap_or_default();
            list(name, item);
        } else if let Some((name, value)) = word.split_once('=') {
            if name == "direction" {
                list(name, value);
            } else {
                dict.insert(name.as_bytes().to_vec(), Value::from(value));
            }
        } else {
            list("flags", word);
        }
    }
}

/// What is wrong with a text of flags; `None` if it can be used.
#[must_use]
pub fn fault(words: &str) -> Option<String> {
    if words.len() > MAX_FLAGS_BYTES {
        return Some(format!("it is longer than {MAX_FLAGS_BYTES} bytes"));
    }
    for word in words.split_ascii_whitespace() {
        if !word.bytes().all(|b| b.is_ascii_graphic()) {
            return Some(format!("{word:?} is not plain text"));
        }
        let (trusted, word) = word.strip_prefix(TRUSTED).map_or((false, word), |word| (true, word));
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        if name.is_empty() || OWN.contains(&name) {
            return Some(format!("{word:?} is what the proxy writes itself"));
        }
        if word.contains('/') && !word.contains('=') && !PROTOCOLS.contains(&word) {
            return Some(format!("{word:?} is none of the protocols {}", PROTOCOLS.join(", ")));
        }
        if !trusted && !is_known(word) {
            return Some(format!("nobody knows {word:?}; is it new in your rtpengine? then write +{word}"));
        }
    }
    None
}

/// Whether rtpengine (14, and those before it) understands the word.
fn is_known(word: &str) -> bool {
    let is = |list: &[&str], name: &str| list.iter().any(|known| known.eq_ignore_ascii_case(name));
    let starts = |prefix: &&str| word.get(..prefix.len()).is_some_and(|s| s.eq_ignore_ascii_case(prefix));
    if let Some((name, _)) = word.split_once('=') {
        return is(&NAMES, name) || FLAG_STARTS.iter().any(starts);
    }
    PROTOCOLS.contains(&word)
        || word.strip_prefix("replace-").is_some_and(|item| is(&REPLACED, item))
        || word.strip_prefix("rtcp-mux-").is_some_and(|item| is(&MUXED, item))
        || word.strip_prefix("SDES-").is_some_and(|item| !item.is_empty())
        || is(&FLAGS, word)
        || is(&MORE_FLAGS, word)
        || FLAG_STARTS.iter().any(|p| word.len() > p.len() && starts(p))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::bencode::write_dict;

    fn written(words: &str) -> String {
        let mut dict = Dict::new();
        put(words, &mut dict);
        let mut out = Vec::new();
        write_dict(&dict, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn words_of_kamailio_become_a_dictionary() {
        let words = "RTP/SAVPF ICE=force replace-origin replace-session-connection rtcp-mux-offer trust-address \
                     direction=pub direction=priv SDES-off";
        let wanted = "d3:ICE5:force4:SDESl3:offe9:directionl3:pub4:prive5:flagsl13:trust-addresse7:replacel6:origin\
                      18:session-connectione8:rtcp-muxl5:offere18:transport-protocol9:RTP/SAVPFe";
        assert_eq!(written(words), wanted);
        assert_eq!(written("a a"), "d5:flagsl1:aee");
        assert_eq!(written("+brand-new"), "d5:flagsl9:brand-newee");
    }

    #[test]
    fn words_that_would_hide_what_the_proxy_says_are_faults() {
        for bad in [
            "replace-orgin",
            "rtcp-mux-offr",
            "trust-adress",
            "ICE-force",
            "codec-",
            "replace-",
            "IEC=force",
            "+",
            "+sdp=x",
        ] {
            assert!(fault(bad).is_some(), "{bad}");
        }
        for bad in ["call-id=x", "sdp=x", "RTP/XYZ", "=x", "command", "ä", &"x".repeat(257)] {
            assert!(fault(bad).is_some(), "{bad}");
        }
        for good in ["", "RTP/AVP ICE=remove", "media-address=192.0.2.1", "loop-protect", "+new=1"] {
            assert_eq!(fault(good), None, "{good}");
        }
    }
}
