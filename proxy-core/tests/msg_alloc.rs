//! Reading and forwarding allocate nothing. One test alone in its process, as the counter is global.

use proxy_core::msg::{Forward, HeaderName, INLINE_HEADERS, Message, ViaStamp, call_id_of};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;

struct Counting;

thread_local! {
    // Per thread, so that the test harness does not count.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged; the counter is a plain cell without a destructor, so that
// touching it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and all memory is of the system allocator.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    f();
    ALLOCATIONS.with(Cell::get) - before
}

fn invite(extra: usize) -> String {
    let mut text = "INVITE sip:bob@example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;rport\r\nRoute: <sip:192.0.2.1;lr>, <sip:192.0.2.2;lr>\r\n\
        From: \"A\" <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: abc@10.0.0.1\r\n\
        CSeq: 7 INVITE\r\nMax-Forwards: 70\r\nContact: <sip:alice@10.0.0.1:5070>;q=0.5\r\n"
        .to_owned();
    (0..extra).for_each(|i| write!(text, "X-{i}: {i}\r\n").expect("text"));
    text + "Content-Length: 0\r\n\r\n"
}

fn parse_check_forward(bytes: &[u8], out: &mut Vec<u8>) {
    out.clear();
    assert!(call_id_of(bytes).is_some());
    let message = Message::parse(bytes).expect("parses");
    assert!(message.check_request().is_ok());
    assert!(message.top_via().is_ok_and(|v| v.branch().is_some()));
    assert!(message.contacts().all(|c| c.is_ok_and(|c| c.parse_uri().is_ok())));
    assert!(message.has(HeaderName::Route));
    Forward::new(&message)
        .request_uri("sip:bob@192.0.2.9:5062")
        .push_via("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKours")
        .record_route("<sip:192.0.2.1;lr>")
        .stamp_via(ViaStamp { received: Some([10, 1, 1, 1].into()), rport: Some(40_000) })
        .max_forwards(69)
        .remove_first_route()
        .write(out);
}

#[test]
fn nothing_is_allocated_per_header() {
    let mut out = Vec::with_capacity(64 * 1024);
    let ordinary = invite(INLINE_HEADERS - 9);
    assert_eq!(
        allocations(|| parse_check_forward(ordinary.as_bytes(), &mut out)),
        0,
        "within the inline room"
    );
    // Beyond the inline room one vector grows: doublings, not one per header.
    let long = invite(240);
    let grown = allocations(|| parse_check_forward(long.as_bytes(), &mut out));
    assert!((1..=8).contains(&grown), "{grown} allocations for 249 headers");
}
