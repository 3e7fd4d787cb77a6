//! Random input for what reads pieces of messages: streams, URIs, header lists. Nothing panics, nothing grows beyond
//! what came in, and what was read once is read the same again.

use proptest::collection::vec;
use proptest::prelude::*;
use proxy_core::msg::frame::{Frame, Framer};
use proxy_core::msg::{ListItems, MAX_MESSAGE_BYTES, NameAddr, Uri, Via};

/// Pieces of streams: whole messages, halves, keepalives, lies about lengths, garbage.
const PIECES: [&[u8]; 11] = [
    b"OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n",
    b"MESSAGE sip:a SIP/2.0\r\nCall-ID: 2\r\nl: 5\r\n\r\nhello",
    b"SIP/2.0 200 OK\r\nCall-ID: 3\r\nContent-Length : 0\r\n\r\n",
    b"INVITE sip:a SIP/2.0\r\nContent-Length: 99999\r\n\r\n",
    b"INVITE sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n",
    b"INVITE sip:a SIP/2.0\r\nContent-Length: 1\r\nl: 2\r\n\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"INVITE sip:a",
    b"\0\xff\x16\x03\x01",
];

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(&PIECES[..]).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..60),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// All frames of a stream that comes in chunks of these sizes.
fn frames(bytes: &[u8], chunks: &[usize]) -> Vec<Frame> {
    let mut framer = Framer::new();
    let mut out = Vec::new();
    let mut rest = bytes;
    let mut sizes = chunks.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let (chunk, more) = rest.split_at(size);
        rest = more;
        framer.push(chunk);
        while let Some(frame) = framer.next() {
            out.push(frame);
        }
        assert!(framer.waiting() <= MAX_MESSAGE_BYTES + size, "it keeps {} bytes", framer.waiting());
    }
    out
}

fn taken(frames: &[Frame]) -> usize {
    let lengths = frames.iter().map(|f| match f {
        Frame::Message(bytes) => bytes.len(),
        Frame::Refused { head, .. } => head.len(),
        Frame::Ping | Frame::Garbage => 0,
    });
    lengths.sum()
}

/// Text that is a URI now and then.
fn uri_text() -> impl Strategy<Value = String> {
    let part = prop::sample::select(
        &[
            "sip:",
            "sips:",
            "tel:",
            "SIP:",
            "a",
            "B%6f",
            "%00",
            "%",
            ":",
            "pw",
            "@",
            "example.org",
            "EXAMPLE.org",
            "10.0.0.1",
            "[2001:db8::1]",
            "[::1",
            "]",
            ":5060",
            ":99999",
            ";",
            "lr",
            "transport=tcp",
            "maddr=x",
            "user=phone",
            "?",
            "Route=%3Cx%3E",
            "&",
            "=",
            "+49",
            "-",
            " ",
            "<",
            ">",
            ",",
            "\"",
            "é",
            "\u{0}",
        ][..],
    );
    vec(part, 0..10).prop_map(|parts| parts.concat())
}

/// Pieces of comma lists.
const LIST_PIECES: [&[u8]; 19] = [
    b",",
    b"\"",
    b"\\",
    b"<",
    b">",
    b"<sip:a@b;x=1,2>",
    b"\"a, b\" <sip:c>",
    b" ",
    b"\t",
    b"\r\n ",
    b";q=0.5",
    b"SIP/2.0/UDP h",
    b";branch=z9hG4bKa",
    b"*",
    b"\xff",
    b"\0",
    b"=",
    b"token",
    b"%41",
];

fn list_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(&LIST_PIECES[..]), 0..16).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_stream_is_cut_alike_wherever_the_network_cuts_it_and_keeps_no_more_than_a_message(
        bytes in stream(),
        chunks in vec(1..80usize, 1..6),
    ) {
        let whole = frames(&bytes, &[usize::MAX]);
        prop_assert!(taken(&whole) <= bytes.len());
        prop_assert_eq!(frames(&bytes, &chunks), whole.clone());
        prop_assert_eq!(frames(&bytes, &[1]), whole);
    }

    #[test]
    fn a_uri_that_is_read_is_itself_and_its_key_is_the_key_of_its_key(text in uri_text()) {
        if let Ok(uri) = Uri::parse(&text) {
            prop_assert_eq!(uri.raw, &text[..]);
            prop_assert!(uri.equivalent(&uri), "{} is not itself", text);
            let key = uri.aor_key();
            prop_assert!(key.len() <= 3 * text.len() + 8, "{} became {}", text, key);
            if uri.is_sip() {
                let full = format!("sip:{key}");
                let again = Uri::parse(&full);
                prop_assert!(again.is_ok(), "{} has the key {}", text, key);
                prop_assert_eq!(again.map(|u| u.aor_key()), Ok(key));
            }
        }
    }

    #[test]
    fn uris_are_equal_in_both_directions(a in uri_text(), b in uri_text()) {
        if let (Ok(a), Ok(b)) = (Uri::parse(&a), Uri::parse(&b)) {
            prop_assert_eq!(a.equivalent(&b), b.equivalent(&a));
        }
    }

    #[test]
    fn a_list_parts_into_pieces_of_itself_and_parts_alike_when_joined_again(value in list_bytes()) {
        let items: Vec<&[u8]> = ListItems::new(&value).collect();
        prop_assert!(items.iter().map(|i| i.len()).sum::<usize>() <= value.len());
        prop_assert!(items.iter().all(|i| !i.is_empty()));
        let joined = items.join(&b", "[..]);
        let again: Vec<&[u8]> = ListItems::new(&joined).collect();
        prop_assert_eq!(&again, &items);
        for item in items {
            // Neither panics, whatever it is.
            let _ = (NameAddr::parse(item).map(|n| (n.tag().map(str::len), n.expires(), n.q().is_ok())), Via::parse(item).is_ok());
        }
    }
}
