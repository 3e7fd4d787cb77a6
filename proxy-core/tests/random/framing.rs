//! Streams cut anywhere, with anything in them: the same messages come out, and what is kept stays bounded.

use proptest::prelude::*;
use proxy_core::msg::MAX_MESSAGE_BYTES;
use proxy_core::msg::frame::{Frame, Framer};

/// Pieces that streams are made of, whole and broken.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let body = proptest::collection::vec(any::<u8>(), 0..80);
    prop_oneof![
        4 => body.prop_map(|body| {
            let mut message = format!(
                "MESSAGE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes();
            message.extend(body);
            message
        }),
        1 => Just(b"\r\n\r\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"SIP/2.0 200 OK\nl: 0\n\n".to_vec()),
        1 => Just(b"no SIP\r\n".to_vec()),
        1 => Just(b"INVITE sip:a SIP/2.0\r\nX: y\r\n\r\n".to_vec()),
        1 => Just(b"INVITE sip:a SIP/2.0\r\nl: 1\r\nl: 2\r\n\r\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
    ]
}

fn cut(stream: &[u8], sizes: &[usize]) -> Vec<Frame> {
    let (mut framer, mut frames, mut at) = (Framer::new(), Vec::new(), 0);
    let mut sizes = sizes.iter().cycle();
    while at < stream.len() {
        let end = (at + sizes.next().copied().unwrap_or(1).max(1)).min(stream.len());
        framer.push(&stream[at..end]);
        at = end;
        frames.extend(std::iter::from_fn(|| framer.next()));
        assert!(framer.waiting() <= MAX_MESSAGE_BYTES + stream.len());
    }
    frames
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_frames_of_a_stream_do_not_depend_on_how_it_is_cut(
        pieces in proptest::collection::vec(piece(), 1..12),
        sizes in proptest::collection::vec(1usize..50, 1..20),
    ) {
        let stream = pieces.concat();
        // A refused head holds what had come of it, which depends on the cut: only that it was refused counts.
        let plain = |frames: Vec<Frame>| -> Vec<Frame> {
            frames
                .into_iter()
                .map(|f| match f {
                    Frame::Refused { status, reason, .. } => Frame::Refused { head: Vec::new(), status, reason },
                    other => other,
                })
                .collect()
        };
        prop_assert_eq!(plain(cut(&stream, &sizes)), plain(cut(&stream, &[stream.len()])));
    }

    #[test]
    fn whole_messages_come_out_as_they_went_in(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
        size in 1usize..200,
    ) {
        let messages: Vec<Vec<u8>> = bodies
            .iter()
            .map(|body| {
                let mut m = format!("INFO sip:a SIP/2.0\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
                m.extend(body);
                m
            })
            .collect();
        let frames = cut(&messages.concat(), &[size]);
        prop_assert_eq!(frames, messages.into_iter().map(Frame::Message).collect::<Vec<_>>());
    }
}
