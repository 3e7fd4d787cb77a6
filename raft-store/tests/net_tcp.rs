//! The connections between nodes over real loopback sockets, by the public API: who gets in, what ends a connection,
//! and that nothing on one connection holds up another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raft_store::node::client::{Lane, NoAnswer, Transport};
use raft_store::node::inbound::{Hello, Inbound, Rpc, RpcReply};
use raft_store::node::net::{Credentials, Endpoint, Server, TcpTransport, Waits};
use raft_store::node::{Member, Place, RaftId, Role, raft_id};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Longest wait for a condition; a healthy machine needs a hundredth of it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Id of the node that answers.
const TARGET: RaftId = 2;
/// A question to this id is answered only when the test says so.
const HELD: RaftId = raft_id(1, 2);

struct Stub {
    answered: AtomicUsize,
    held: AtomicUsize,
    gate: Semaphore,
}

impl Inbound for Stub {
    async fn handle(&self, from: Place, to: RaftId, _: Lane, _: Rpc) -> RpcReply {
        if to == HELD {
            self.held.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.expect("open").forget();
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
        RpcReply::Hello(Hello {
            id: Some(from.into()),
            initialized: true,
            leader: Some(to),
            ..Hello::default()
        })
    }
}

fn who(place: Place, key: u8, cluster: &str) -> Credentials {
    Credentials::new(cluster, [key; 32], place)
}

struct Node {
    addr: SocketAddr,
    stub: Arc<Stub>,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn node_at(addr: SocketAddr) -> Node {
    let server = Server::bind(addr, who(2, 7, "lab")).await.expect("binds");
    let addr = server.addr().expect("bound");
    let stub =
        Arc::new(Stub { answered: AtomicUsize::new(0), held: AtomicUsize::new(0), gate: Semaphore::new(0) });
    let task = tokio::spawn(server.run(stub.clone()));
    Node { addr, stub, task }
}

async fn node() -> Node {
    node_at(([127, 0, 0, 1], 0).into()).await
}

fn transport(to: &Node, place: Place, key: u8, cluster: &str) -> TcpTransport {
    TcpTransport::new(
        who(place, key, cluster),
        None,
        &[Endpoint { place: 2, addr: to.addr }],
        Waits::default(),
    )
}

async fn ask(t: &TcpTransport, to: RaftId, lane: Lane, limit: Duration) -> Result<RpcReply, NoAnswer> {
    let member = Member { addr: ([127, 0, 0, 1], 1).into(), role: Role::Appliance };
    t.call(to, member, lane, Rpc::Hello, limit).await
}

async fn ask_control(t: &TcpTransport) -> Result<RpcReply, NoAnswer> {
    ask(t, TARGET, Lane::Control, Duration::from_secs(2)).await
}

/// Asks until there is an answer; for what takes effect only after a while.
async fn answered_at_last(t: &TcpTransport) {
    let end = Instant::now() + PATIENCE;
    while let Err(e) = ask_control(t).await {
        assert!(Instant::now() < end, "no answer within {PATIENCE:?}: {e}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until(what: &str, f: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !f() {
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Whether the other end closes within the patience.
async fn closes(stream: &mut TcpStream) -> bool {
    let mut sink = Vec::new();
    // A reset counts as closed, too.
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut sink)).await.is_ok()
}

#[tokio::test]
async fn a_node_with_a_wrong_key_or_of_another_cluster_is_refused() {
    let node = node().await;
    for (key, cluster, says) in [(8, "lab", "cluster's key"), (7, "other", "cluster name")] {
        let why = ask_control(&transport(&node, 1, key, cluster)).await.expect_err("refused").why;
        assert!(why.contains(says), "{why}");
    }
    assert_eq!(node.stub.answered.load(Ordering::SeqCst), 0, "no question reached the node");
    ask_control(&transport(&node, 1, 7, "lab")).await.expect("the right one gets in");
}

#[tokio::test]
async fn garbage_and_absurd_lengths_end_only_their_own_connection() {
    let node = node().await;
    let good = transport(&node, 1, 7, "lab");
    ask_control(&good).await.expect("an answer");
    for bytes in [vec![0xff; 4096], b"INVITE sip:bob@lab SIP/2.0\r\n\r\n".repeat(4), vec![0; 100]] {
        let mut stranger = TcpStream::connect(node.addr).await.expect("connects");
        // The node may have closed it in the middle of this.
        stranger.write_all(&bytes).await.ok();
        assert!(closes(&mut stranger).await);
    }
    // Place 1's control connection has served all along: the next number on it is answered.
    ask_control(&good).await.expect("the good connection is untouched");
    assert_eq!(node.stub.answered.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn strangers_that_say_nothing_are_dropped_and_free_their_slots() {
    let node = node().await;
    let mut silent = Vec::new();
    // More than there are slots: the rest is closed at once, the others after their time.
    for _ in 0..64 {
        silent.push(TcpStream::connect(node.addr).await.expect("connects"));
    }
    answered_at_last(&transport(&node, 1, 7, "lab")).await;
    for stream in &mut silent {
        assert!(closes(stream).await, "a silent stranger stays for ever");
    }
}

#[tokio::test]
async fn a_stalled_bulk_call_does_not_hold_up_control_calls() {
    let node = node().await;
    let t = transport(&node, 1, 7, "lab");
    let bulk = t.clone();
    let stalled = tokio::spawn(async move { ask(&bulk, HELD, Lane::Bulk, PATIENCE).await });
    until("the bulk call has arrived", || node.stub.held.load(Ordering::SeqCst) == 1).await;
    for _ in 0..50 {
        ask_control(&t).await.expect("control calls go on");
    }
    assert!(!stalled.is_finished(), "the bulk call was under way all the time");
    node.stub.gate.add_permits(1);
    stalled.await.expect("no panic").expect("answered in the end");
}

#[tokio::test]
async fn many_questions_are_under_way_and_each_gets_its_own_answer() {
    let node = node().await;
    let t = transport(&node, 1, 7, "lab");
    let ids = (0..48).map(|n| if n % 2 == 0 { HELD } else { raft_id(n + 10, 2) });
    let asks: Vec<_> = ids
        .map(|id| {
            let t = t.clone();
            (id, tokio::spawn(async move { ask(&t, id, Lane::Bulk, PATIENCE).await }))
        })
        .collect();
    until("half of them wait", || node.stub.held.load(Ordering::SeqCst) == 24).await;
    // The others overtake those that wait.
    until("the other half is answered", || node.stub.answered.load(Ordering::SeqCst) == 24).await;
    node.stub.gate.add_permits(24);
    for (id, ask) in asks {
        match ask.await.expect("no panic").expect("an answer") {
            RpcReply::Hello(hello) => assert_eq!((hello.id, hello.leader), (Some(1), Some(id))),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_within_its_limit() {
    let node = node().await;
    let t = transport(&node, 1, 7, "lab");
    let limit = Duration::from_millis(300);
    for lane in [Lane::Bulk, Lane::Control] {
        let began = Instant::now();
        let asked = tokio::time::timeout(PATIENCE, ask(&t, HELD, lane, limit)).await;
        asked.expect("it ends by itself").expect_err("nobody answered");
        // The lower bound of the patience of every test here: far from the limit, but no measurement of it.
        assert!(began.elapsed() < PATIENCE / 2);
    }
    answered_at_last(&t).await;
}

#[tokio::test]
async fn a_node_that_comes_back_is_found_again() {
    // A runtime of its own, so that its connections end with it, as those of a dead process do.
    let process = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("a runtime")
    };
    let first_life = process();
    let first = first_life.spawn(node()).await.expect("starts");
    let t = transport(&first, 1, 7, "lab");
    ask_control(&t).await.expect("an answer");
    let addr = first.addr;
    first_life.shutdown_background();
    let end = Instant::now() + PATIENCE;
    // Its port is free as soon as its tasks are gone.
    while let Ok(still) = TcpStream::connect(addr).await {
        drop(still);
        assert!(Instant::now() < end, "the first life does not end");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    ask_control(&t).await.expect_err("nobody is there");
    let second_life = process();
    let second = second_life.spawn(node_at(addr)).await.expect("starts again");
    answered_at_last(&t).await;
    assert!(second.stub.answered.load(Ordering::SeqCst) > 0);
    second_life.shutdown_background();
}

#[tokio::test]
async fn a_second_connection_of_a_peer_replaces_its_first() {
    let node = node().await;
    let (first, second) = (transport(&node, 1, 7, "lab"), transport(&node, 1, 7, "lab"));
    let old = first.clone();
    let waiting = tokio::spawn(async move { ask(&old, HELD, Lane::Bulk, PATIENCE).await });
    until("the first connection is in use", || node.stub.held.load(Ordering::SeqCst) == 1).await;
    ask(&second, TARGET, Lane::Bulk, PATIENCE).await.expect("the second one serves");
    let ended = tokio::time::timeout(PATIENCE / 2, waiting).await.expect("the first one is closed");
    assert!(ended.expect("no panic").is_err(), "its question has no answer");
}
