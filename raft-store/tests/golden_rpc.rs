//! What nodes say to each other keeps its bytes. `RELEVO_GOLDEN=write` makes a file that is not there.

#[path = "common/golden.rs"]
mod common;

use std::collections::BTreeMap;

use common::golden_bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use openraft::type_config::alias::CommittedLeaderIdOf;
use openraft::{EntryPayload, Membership, SnapshotMeta, StoredMembership};
use proxy_core::time::{RealTime, WallTime};
use raft_store::codec::Kind;
use raft_store::command::{Batch, Command, Response, Responses};
use raft_store::node::doubt::Reach;
use raft_store::node::inbound::{DiskWord, Hello, JoinReply, ProposeRefused, Rpc, RpcReply, Told};
use raft_store::node::members::{Ask, Done, Newcomer, Refusal};
use raft_store::node::types::{Entry, LogId, Vote};
use raft_store::node::{Member, Role, TypeConfig, raft_id};

fn log_id() -> LogId {
    LogId::new(CommittedLeaderIdOf::<TypeConfig>::new(7), 300)
}

fn vote() -> Vote {
    Vote::new_committed(7, raft_id(1_800_000_000_000, 2))
}

fn member() -> Member {
    Member { addr: "[fd77::11]:7400".parse().expect("an address"), role: Role::Appliance }
}

fn told() -> Told {
    Told { time: Some(WallTime(1_800_000_000_000)), real: RealTime(1_800_000_000_500), is_odd: false }
}

fn hello() -> Hello {
    Hello {
        id: Some(3),
        initialized: true,
        leader: Some(2),
        damaged: false,
        leads: true,
        term: 7,
        applied: 300,
        incarnation: 1_800_000_000_000,
        digests: vec![],
        reach: None,
        members: vec![],
    }
}

fn newcomer() -> Newcomer {
    Newcomer { place: 4, member: member(), again: true }
}

fn batch() -> Batch {
    Batch(vec![Command::Drain { place: 1, drained: true }])
}

fn questions() -> Vec<Rpc> {
    let ask = VoteRequest { vote: Vote::new(8, 3), last_log_id: Some(log_id()), leadership_transfer: true };
    let members = Membership::new(vec![[1].into()], BTreeMap::from([(1, member())])).expect("a membership");
    vec![
        Rpc::Append(AppendEntriesRequest {
            vote: vote(),
            prev_log_id: Some(log_id()),
            entries: vec![Entry { log_id: log_id(), payload: EntryPayload::Normal(batch()) }],
            leader_commit: None,
        }),
        Rpc::Vote(ask.clone()),
        Rpc::PreVote(ask),
        Rpc::Snapshot {
            vote: vote(),
            meta: SnapshotMeta {
                last_log_id: Some(log_id()),
                last_membership: StoredMembership::new(None, members),
            },
            transfer: 9,
            offset: 1 << 20,
            data: vec![1, 2, 3],
            last: true,
        },
        Rpc::TransferLeader(TransferLeaderRequest::new(vote(), 3, Some(log_id()))),
        Rpc::Hello,
        Rpc::Join { id: raft_id(1_800_000_000_001, 3), member: member() },
        Rpc::Propose(batch()),
        Rpc::Disk,
        Rpc::Time(told()),
    ]
}

fn answers() -> Vec<RpcReply> {
    use AppendEntriesResponse as Appended;
    vec![
        RpcReply::Append(Appended::Success),
        RpcReply::Append(Appended::PartialSuccess(Some(log_id()))),
        RpcReply::Append(Appended::Conflict),
        RpcReply::Append(Appended::HigherVote(vote())),
        RpcReply::Vote(VoteResponse { vote: vote(), vote_granted: true, last_log_id: Some(log_id()) }),
        RpcReply::SnapshotPart,
        RpcReply::Snapshot(SnapshotResponse::new(vote())),
        RpcReply::TransferLeader,
        RpcReply::Hello(hello()),
        RpcReply::Join(JoinReply::Joined),
        RpcReply::Join(JoinReply::Wait),
        RpcReply::Join(JoinReply::AskLeader(2)),
        RpcReply::Join(JoinReply::Refused("no".into())),
        RpcReply::Propose(Ok(Responses(vec![Response::Done]))),
        RpcReply::Propose(Err(ProposeRefused::Unread)),
        RpcReply::Unavailable("starting".into()),
        RpcReply::SilentAppend(Appended::Success),
        RpcReply::CannotLead("behind".into()),
        RpcReply::Disk(DiskWord { goes_on: true, slowest_us: 2_500, waiting_us: 0 }),
        RpcReply::Forgotten { last: 299 },
        RpcReply::Time(told()),
        RpcReply::Join(JoinReply::UseAtLeast(5)),
        RpcReply::Hello(Hello {
            reach: Some(Reach { term: 7, index: 290, doubtful: true, promised: Some(300), proven: false }),
            ..hello()
        }),
    ]
}

#[test]
fn questions_and_answers_keep_their_bytes() {
    for (n, rpc) in questions().iter().enumerate() {
        golden_bytes(4, &format!("ask_{n:02}"), Kind::Rpc, rpc);
    }
    for (n, reply) in answers().iter().enumerate() {
        golden_bytes(4, &format!("answer_{n:02}"), Kind::Rpc, reply);
    }
}

#[test]
fn changes_of_the_membership_keep_their_bytes() {
    let asks = [
        Ask::Add { newcomer: newcomer(), wait_s: 60 },
        Ask::Remove { place: 3 },
        Ask::Replace { place: 3, newcomer: newcomer(), wait_s: 60 },
    ];
    let refusal = Refusal { error: "node 3 is no member".into(), cure: "relevo members list".into() };
    let replies = [Ok(Done { voters: vec![1, 2, 4], heard: vec![1, 4] }), Err(refusal)];
    for (n, ask) in asks.into_iter().enumerate() {
        golden_bytes(4, &format!("members_ask_{n}"), Kind::Rpc, &Rpc::Members(ask));
    }
    for (n, reply) in replies.into_iter().enumerate() {
        golden_bytes(4, &format!("members_reply_{n}"), Kind::Rpc, &RpcReply::Members(reply));
    }
    golden_bytes(
        4,
        "hello_members",
        Kind::Rpc,
        &RpcReply::Hello(Hello { members: vec![1, 2, 4], ..hello() }),
    );
}

/// Fails to compile when a question or an answer is added, so that nobody forgets to add it above.
#[test]
fn no_question_and_no_answer_is_missing_from_the_golden_files() {
    let question = |rpc: &Rpc| match rpc {
        Rpc::Append(_) => 0,
        Rpc::Vote(_) => 1,
        Rpc::PreVote(_) => 2,
        Rpc::Snapshot { .. } => 3,
        Rpc::TransferLeader(_) => 4,
        Rpc::Hello => 5,
        Rpc::Join { .. } => 6,
        Rpc::Propose(_) => 7,
        Rpc::Disk => 8,
        Rpc::Time(_) => 9,
        // In a file of its own: it came later.
        Rpc::Members(_) => 20,
    };
    let answer = |reply: &RpcReply| match reply {
        RpcReply::Append(_) => 0,
        RpcReply::Vote(_) => 1,
        RpcReply::SnapshotPart => 2,
        RpcReply::Snapshot(_) => 3,
        RpcReply::TransferLeader => 4,
        RpcReply::Hello(_) => 5,
        RpcReply::Join(_) => 6,
        RpcReply::Propose(_) => 7,
        RpcReply::Unavailable(_) => 8,
        RpcReply::SilentAppend(_) => 9,
        RpcReply::CannotLead(_) => 10,
        RpcReply::Disk(_) => 11,
        RpcReply::Forgotten { .. } => 12,
        RpcReply::Time(_) => 13,
        RpcReply::Members(_) => 20,
    };
    let asked: Vec<_> = questions().iter().map(question).collect();
    assert_eq!(asked, (0..10).collect::<Vec<_>>());
    let mut answered: Vec<_> = answers().iter().map(answer).collect();
    answered.sort_unstable();
    answered.dedup();
    assert_eq!(answered, (0..14).collect::<Vec<_>>());
}
