//! Nanoseconds for reading and for forwarding a 900-byte INVITE, beside rsip in the same run.
//!
//! `cargo bench -p proxy-core --bench msg`. The best of several rounds is printed, as everything else on the machine
//! only adds.

use proxy_core::msg::{Forward, Message, ViaStamp, call_id_of};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 15;
const CALLS: u32 = 20_000;

const HEAD: &str = "INVITE sip:bob@relevo.example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.33:5070;branch=z9hG4bK-524287-1---f3a8d09b1c2e;rport\r\n\
    Max-Forwards: 70\r\n\
    Contact: <sip:alice@192.0.2.33:5070;transport=udp>\r\n\
    To: \"Bob\" <sip:bob@relevo.example.com>\r\n\
    From: \"Alice\" <sip:alice@relevo.example.com>;tag=9fxced76sl\r\n\
    Call-ID: 3848276298220188511@192.0.2.33\r\n\
    CSeq: 314159 INVITE\r\n\
    Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, INFO\r\n\
    Supported: replaces, outbound, path\r\n\
    User-Agent: some phone 4.5.6 build 78901\r\n\
    Content-Type: application/sdp\r\n";
const BODY: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.33\r\ns=-\r\nc=IN IP4 192.0.2.33\r\nt=0 0\r\n\
    m=audio 49170 RTP/AVP 0 8 97\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:97 iLBC/8000\r\n\
    a=sendrecv\r\n";

/// Best time of one call, in nanoseconds.
fn time(mut f: impl FnMut()) -> f64 {
    let round = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| f());
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    (0..ROUNDS).map(|_| round(&mut f)).fold(f64::INFINITY, f64::min)
}

fn main() {
    let mut text = format!("{HEAD}Content-Length: {}\r\n\r\n{BODY}", BODY.len());
    // Filled up to 900 bytes with an unknown header, as phones do.
    let fill = "x".repeat(900usize.saturating_sub(text.len() + "X-Fill: \r\n".len()));
    text = text.replace("Content-Type", &format!("X-Fill: {fill}\r\nContent-Type"));
    let bytes = text.as_bytes();
    assert!(Message::parse(bytes).is_ok_and(|m| m.check_request().is_ok()));

    let mut out = Vec::with_capacity(2048);
    let scan = time(|| {
        let _ = black_box(call_id_of(black_box(bytes)));
    });
    let parse = time(|| drop(black_box(Message::parse(black_box(bytes)))));
    let check = time(|| {
        let _ = black_box(Message::parse(black_box(bytes)).map(|m| m.check_request()));
    });
    let forward = time(|| {
        let Ok(message) = Message::parse(black_box(bytes)) else { return };
        out.clear();
        Forward::new(&message)
            .request_uri("sip:bob@198.51.100.7:5062;ob")
            .push_via("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK0123456789abcdef0123456789abcdef")
            .record_route("<sip:192.0.2.1:5060;lr>")
            .stamp_via(ViaStamp { received: Some([192, 0, 2, 33].into()), rport: Some(5070) })
            .max_forwards(69)
            .write(&mut out);
        black_box(&out);
    });
    let all = time(|| {
        let Ok(message) = Message::parse(black_box(bytes)) else { return };
        if message.check_request().is_err() {
            return;
        }
        out.clear();
        Forward::new(&message)
            .push_via("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK0123456789abcdef0123456789abcdef")
            .max_forwards(69)
            .write(&mut out);
        black_box(&out);
    });
    let rsip = time(|| drop(black_box(rsip::Request::try_from(black_box(bytes)))));
    println!(
        "INVITE of {} bytes, {} header lines",
        bytes.len(),
        text.matches("\r\n").count() - BODY.lines().count() - 2
    );
    println!("call_id_of        {scan:8.0} ns");
    println!("parse             {parse:8.0} ns");
    println!("parse + check     {check:8.0} ns");
    println!("parse+check+fwd   {all:8.0} ns   (Via and Max-Forwards only)");
    println!("parse + forward   {forward:8.0} ns   (aim: below 3000)");
    println!(
        "rsip parse        {rsip:8.0} ns   = {:.1} x our parse, {:.1} x our parse + forward",
        rsip / parse,
        rsip / forward
    );
}
