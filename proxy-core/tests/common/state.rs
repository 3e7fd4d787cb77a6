//! Records for the tests of the replicated state.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proxy_core::state::{
    Backing, Binding, Branch, BranchState, CallFacts, CallLimit, CountKey, DialogBacking, DialogId,
    DialogRecord, EndedBy, Ending, Flow, InviteState, PendingInvite, RegisterChange, RegisterCommand,
    ServerKey, SipCommand, Transport,
};
use proxy_core::time::WallTime;

/// A moment in the life of the tests, in seconds.
pub fn at(seconds: u64) -> WallTime {
    WallTime(1_700_000_000_000 + seconds * 1000)
}

pub fn flow(last: u8) -> Flow {
    let address = |last, port| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port);
    Flow { transport: Transport::Udp, local: address(100, 5060), remote: address(last, 5060) }
}

/// A contact `sip:NAME@10.0.0.1` registered at `now` for `expires` seconds.
pub fn contact(name: &str, now: u64, expires: u64) -> Binding {
    let uri = format!("sip:{name}@10.0.0.1");
    Binding {
        contact: uri.clone(),
        contact_key: uri,
        flow: flow(1),
        natted: false,
        path: Vec::new(),
        q: 1000,
        expires_at: at(now + expires),
        call_id: String::new(),
        cseq: 0,
        instance: None,
        reg_id: None,
        user_agent: String::from("phone"),
        updated_at: at(now),
        methods: None,
        outbound: false,
        gruu: None,
    }
}

pub fn register(call_id: &str, cseq: u32, now: u64, change: RegisterChange) -> SipCommand {
    SipCommand::Register(RegisterCommand {
        aor: String::from("sip:alice@lab.test"),
        call_id: call_id.to_owned(),
        cseq,
        change,
        max_contacts: 3,
        at: at(now),
    })
}

/// Alice registers these contacts.
pub fn contacts(call_id: &str, cseq: u32, now: u64, list: &[Binding]) -> SipCommand {
    register(call_id, cseq, now, RegisterChange::Contacts(list.to_vec()))
}

pub fn key(n: u32) -> ServerKey {
    ServerKey { branch: format!("z9hG4bK{n}"), sent_by: String::from("10.0.0.9:5060") }
}

pub fn branch(target: &str) -> Branch {
    Branch {
        target: format!("sip:{target}"),
        route: Vec::new(),
        flow: flow(2),
        via_branch: format!("z9hG4bK-{target}"),
        next: Vec::new(),
        left: Vec::new(),
        others: Vec::new(),
        state: BranchState::Trying,
        backing: Backing::default(),
        headers: Vec::new(),
        round: 0,
    }
}

/// An INVITE forwarded to `targets` at second 0, timer C at second 180.
pub fn invite(n: u32, targets: &[&str]) -> PendingInvite {
    PendingInvite {
        key: key(n),
        call_id: format!("call-{n}"),
        request: b"INVITE".to_vec(),
        flow: flow(9),
        received_at: at(0),
        timer_c_at: at(180),
        local_tag: String::from("tag"),
        branches: targets.iter().map(|t| branch(t)).collect(),
        state: InviteState::Proceeding,
        plan: Vec::new(),
        steps_used: 0,
        round: 0,
        no_answer_at: None,
        facts: None,
        media: None,
        ending: None,
        early_media: Vec::new(),
    }
}

/// A call of `caller`, of whom there may be `most` calls.
pub fn facts(caller: &str, most: Option<u32>) -> CallFacts {
    CallFacts {
        from_tag: String::from("from"),
        cseq: 1,
        src_user: String::from("a"),
        src_domain: String::from("lab.test"),
        src_ip: flow(9).remote.ip(),
        dst_ouser: String::from("b"),
        dst_user: String::from("b"),
        dst_domain: String::from("lab.test"),
        caller: Some(caller.to_owned()),
        from_trunk: None,
        counted: most
            .map(|most| CallLimit { key: CountKey::Caller(caller.to_owned()), most })
            .into_iter()
            .collect(),
    }
}

pub fn received(n: u32, targets: &[&str]) -> SipCommand {
    SipCommand::InviteReceived(Box::new(invite(n, targets)))
}

/// The next round of branches goes to `targets`; timer C stays.
pub fn added(n: u32, round: u16, targets: &[&str]) -> SipCommand {
    SipCommand::BranchesAdded {
        key: key(n),
        branches: targets.iter().map(|t| branch(t)).collect(),
        round,
        steps_used: round,
        no_answer_at: None,
        timer_c_at: at(0),
    }
}

pub fn dialog(n: u32, to_tag: &str) -> DialogRecord {
    DialogRecord {
        id: DialogId {
            call_id: format!("call-{n}"),
            from_tag: String::from("from"),
            to_tag: to_tag.to_owned(),
        },
        from_uri: String::from("sip:a@lab.test"),
        to_uri: String::from("sip:b@lab.test"),
        request_uri: String::from("sip:b@lab.test"),
        caller_target: String::from("sip:a@10.0.0.9"),
        callee_target: String::from("sip:b@10.0.0.2"),
        caller_route: Vec::new(),
        callee_route: Vec::new(),
        caller_cseq: 1,
        callee_cseq: 0,
        invited_at: at(1),
        caller_flow: flow(9),
        callee_flow: flow(2),
        started_at: at(1),
        expires_at: at(43_200),
        backing: DialogBacking::default(),
        facts: None,
        session: None,
        ending: None,
        media: None,
        ack_until: None,
    }
}

pub fn ok(to_tag: &str) -> Vec<u8> {
    format!("SIP/2.0 200 OK {to_tag}").into_bytes()
}

/// A 2xx of a branch with its dialog, to be forgotten at second 40.
pub fn answered(n: u32, branch: u16, to_tag: &str) -> SipCommand {
    SipCommand::InviteAnswered {
        key: key(n),
        branch,
        response: ok(to_tag),
        dialog: Some(Box::new(dialog(n, to_tag))),
        forget_at: at(40),
    }
}

/// The dialog of [`answered`] is over at second 5: the caller has hung up.
pub fn ended(n: u32, to_tag: &str) -> SipCommand {
    let ending = Ending { at: at(5), by: EndedBy::Caller, bye: Some(200) };
    SipCommand::DialogEnded { id: dialog(n, to_tag).id, ending }
}

pub fn failed(n: u32, status: u16) -> SipCommand {
    SipCommand::InviteFailed {
        key: key(n),
        response: format!("SIP/2.0 {status}").into_bytes(),
        to_tag: String::from("tag"),
        at: at(18),
        forget_at: at(50),
    }
}

pub fn progress(n: u32, branch: u16, state: BranchState) -> SipCommand {
    SipCommand::BranchProgress { key: key(n), branch, state, timer_c_at: None }
}

pub fn ringing(tag: &str) -> BranchState {
    BranchState::Proceeding { status: 180, to_tag: Some(tag.to_owned()) }
}

pub fn refused(status: u16) -> BranchState {
    BranchState::Final { status, response: format!("SIP/2.0 {status}").into_bytes() }
}
