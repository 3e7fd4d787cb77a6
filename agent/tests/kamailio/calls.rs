//! Calls, refused, forked and cancelled, the same with both proxies.

use std::time::Duration;

use crate::scenarios::uri;
use crate::stage::{Stage, Stopped};

pub fn call(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    s.send("alice", s.request("alice", "INVITE", &uri("bob"), "Subject: hello\r\nX-Own: 1\r\n"));
    let invite = s.wait("bob", "INVITE")?;
    s.answer("bob", &invite, "100 Trying", "");
    s.answer_with_contact("bob", &invite, "180 Ringing");
    s.wait("alice", "SIP/2.0 180")?;
    s.answer_with_contact("bob", &invite, "183 Session Progress");
    s.wait("alice", "SIP/2.0 183")?;
    s.answer_with_contact("bob", &invite, "200 OK");
    let ok = s.wait("alice", "SIP/2.0 200")?;
    s.send("alice", s.in_dialog("alice", "ACK", 1, &ok));
    s.wait("bob", "ACK")?;
    s.send("alice", s.in_dialog("alice", "BYE", 2, &ok));
    let bye = s.wait("bob", "BYE")?;
    s.answer("bob", &bye, "200 OK", "");
    Ok(())
}

/// A call of `user` that was answered; the INVITE as bob got it, and the 200 as alice got it.
pub fn answered(s: &mut Stage) -> Result<(crate::common::ua::Message, crate::common::ua::Message), Stopped> {
    s.is_registered("bob", "bob")?;
    s.send("alice", s.request("alice", "INVITE", &uri("bob"), ""));
    let invite = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &invite, "200 OK");
    let ok = s.wait("alice", "SIP/2.0 200")?;
    s.send("alice", s.in_dialog("alice", "ACK", 1, &ok));
    s.wait("bob", "ACK")?;
    Ok((invite, ok))
}

pub fn call_hold(s: &mut Stage) -> Result<(), Stopped> {
    let (_, ok) = answered(s)?;
    s.heard.clear();
    s.send("alice", s.in_dialog("alice", "INVITE", 2, &ok));
    let again = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &again, "200 OK");
    s.wait("alice", "SIP/2.0 200")?;
    s.send("alice", s.in_dialog("alice", "ACK", 2, &ok));
    s.wait("bob", "ACK")?;
    for (cseq, method) in [(3, "INFO"), (4, "UPDATE"), (5, "REFER"), (6, "MESSAGE"), (7, "NOTIFY")] {
        s.send("alice", s.in_dialog("alice", method, cseq, &ok));
        let request = s.wait("bob", method)?;
        s.answer("bob", &request, "200 OK", "");
        s.hush();
    }
    Ok(())
}

pub fn call_bye_back(s: &mut Stage) -> Result<(), Stopped> {
    let (invite, _) = answered(s)?;
    s.heard.clear();
    s.send("bob", s.in_dialog_back("bob", "BYE", 1, &invite));
    let bye = s.wait("alice", "BYE")?;
    s.answer("alice", &bye, "481 Call/Transaction Does Not Exist", "");
    Ok(())
}

/// Bob refuses with this.
pub fn refused(s: &mut Stage, status: &str, more: &str) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    let got = s.wait("bob", "INVITE")?;
    s.answer("bob", &got, status, more);
    s.wait("bob", "ACK")?;
    let code = status.split(' ').next().unwrap_or_default();
    // Which final the caller gets is what is compared.
    let class = s.wait("alice", &format!("SIP/2.0 {code}")).or_else(|_| s.wait("alice", "SIP/2.0 5"))?;
    s.send("alice", s.like("ACK", &invite, Some(&class)));
    Ok(())
}

pub fn call_busy(s: &mut Stage) -> Result<(), Stopped> {
    refused(s, "486 Busy Here", "X-Why: on the phone\r\n")
}

pub fn call_declined(s: &mut Stage) -> Result<(), Stopped> {
    refused(s, "603 Decline", "")
}

pub fn call_unavailable(s: &mut Stage) -> Result<(), Stopped> {
    refused(s, "503 Service Unavailable", "Retry-After: 20\r\n")
}

pub fn call_redirected(s: &mut Stage) -> Result<(), Stopped> {
    refused(s, "302 Moved Temporarily", "Contact: <sip:carol@192.0.2.1>\r\n")
}

pub fn call_challenged(s: &mut Stage) -> Result<(), Stopped> {
    refused(s, "407 Proxy Authentication Required", "Proxy-Authenticate: Digest realm=\"x\", nonce=\"y\"\r\n")
}

pub fn call_cancel(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    let got = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &got, "180 Ringing");
    s.wait("alice", "SIP/2.0 180")?;
    s.send("alice", s.like("CANCEL", &invite, None));
    let cancel = s.wait("bob", "CANCEL")?;
    s.answer("bob", &cancel, "200 OK", "");
    s.answer("bob", &got, "487 Request Terminated", "");
    s.wait("bob", "ACK")?;
    let failed = s.wait("alice", "SIP/2.0 487")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}

pub fn call_unknown(s: &mut Stage) -> Result<(), Stopped> {
    let invite = s.request("alice", "INVITE", &uri("nobody"), "");
    s.send("alice", &invite);
    let failed = s.wait("alice", "SIP/2.0 404")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}

/// Two phones of one user ring.
pub fn forked(s: &mut Stage) -> Result<(String, [crate::common::ua::Message; 2]), Stopped> {
    for phone in ["bob", "carol"] {
        let contact = format!("Contact: <sip:{phone}@{}>\r\n", s.addr(phone));
        s.send(phone, s.register(phone, "team", 1, &contact));
        s.wait(phone, "SIP/2.0 200")?;
    }
    s.hush();
    s.heard.clear();
    let invite = s.request("alice", "INVITE", &uri("team"), "");
    s.send("alice", &invite);
    let both = [s.wait("bob", "INVITE")?, s.wait("carol", "INVITE")?];
    s.answer_with_contact("bob", &both[0], "180 Ringing");
    s.hush();
    s.answer_with_contact("carol", &both[1], "180 Ringing");
    s.hush();
    Ok((invite, both))
}

pub fn fork(s: &mut Stage) -> Result<(), Stopped> {
    let (_, both) = forked(s)?;
    s.answer_with_contact("carol", &both[1], "200 OK");
    let ok = s.wait("alice", "SIP/2.0 200")?;
    s.send("alice", s.in_dialog("alice", "ACK", 1, &ok));
    let cancel = s.wait("bob", "CANCEL")?;
    s.answer("bob", &cancel, "200 OK", "");
    s.answer("bob", &both[0], "487 Request Terminated", "");
    s.wait("bob", "ACK")?;
    Ok(())
}

pub fn fork_busy(s: &mut Stage) -> Result<(), Stopped> {
    let (invite, both) = forked(s)?;
    s.answer("bob", &both[0], "486 Busy Here", "");
    s.hush();
    s.answer("carol", &both[1], "404 Not Found", "");
    let failed = s.wait("alice", "SIP/2.0 4")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}

pub fn fork_decline(s: &mut Stage) -> Result<(), Stopped> {
    let (invite, both) = forked(s)?;
    s.answer("bob", &both[0], "603 Decline", "");
    let cancel = s.wait("carol", "CANCEL")?;
    s.answer("carol", &cancel, "200 OK", "");
    s.answer("carol", &both[1], "487 Request Terminated", "");
    let failed = s.wait("alice", "SIP/2.0 6")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}

pub fn invite_again(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    let got = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &got, "180 Ringing");
    s.wait("alice", "SIP/2.0 180")?;
    s.send("alice", &invite);
    s.hush();
    s.answer("bob", &got, "486 Busy Here", "");
    let failed = s.wait("alice", "SIP/2.0 486")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    s.hush();
    s.send("alice", &invite);
    Ok(())
}

pub fn cancel_stray(s: &mut Stage) -> Result<(), Stopped> {
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", s.like("CANCEL", &invite, None));
    Ok(())
}

pub fn cancel_again(s: &mut Stage) -> Result<(), Stopped> {
    call_cancel(s)?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.hush();
    s.send("alice", s.like("CANCEL", &invite, None));
    Ok(())
}

/// Before the phone has said anything.
pub fn cancel_early(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    let got = s.wait("bob", "INVITE")?;
    s.send("alice", s.like("CANCEL", &invite, None));
    s.hush();
    s.answer_with_contact("bob", &got, "180 Ringing");
    let cancel = s.wait("bob", "CANCEL")?;
    s.answer("bob", &cancel, "200 OK", "");
    s.answer("bob", &got, "487 Request Terminated", "");
    let failed = s.wait("alice", "SIP/2.0 487")?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}

/// After the answer.
pub fn cancel_late(s: &mut Stage) -> Result<(), Stopped> {
    let (_, ok) = answered(s)?;
    s.heard.clear();
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", s.like("CANCEL", &invite, None));
    s.hush();
    s.send("alice", s.in_dialog("alice", "BYE", 2, &ok));
    let bye = s.wait("bob", "BYE")?;
    s.answer("bob", &bye, "200 OK", "");
    Ok(())
}

/// The phone answers while it is being cancelled.
pub fn cancel_crossing(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    let got = s.wait("bob", "INVITE")?;
    s.answer_with_contact("bob", &got, "180 Ringing");
    s.wait("alice", "SIP/2.0 180")?;
    s.send("alice", s.like("CANCEL", &invite, None));
    let cancel = s.wait("bob", "CANCEL")?;
    s.answer_with_contact("bob", &got, "200 OK");
    s.answer("bob", &cancel, "481 Call/Transaction Does Not Exist", "");
    s.hush();
    // Not that of the CANCEL.
    let mut heard = s.heard.get("alice").into_iter().flatten();
    let ok =
        heard.find(|m| m.status() == 200 && m.one("CSeq").ends_with("INVITE")).cloned().ok_or(Stopped)?;
    s.send("alice", s.in_dialog("alice", "ACK", 1, &ok));
    s.wait("bob", "ACK")?;
    Ok(())
}

pub fn callee_silent(s: &mut Stage) -> Result<(), Stopped> {
    s.is_registered("bob", "bob")?;
    let invite = s.request("alice", "INVITE", &uri("bob"), "");
    s.send("alice", &invite);
    s.wait("bob", "INVITE")?;
    let failed = s.wait_as("alice", "SIP/2.0 4", Duration::from_secs(40))?;
    s.send("alice", s.like("ACK", &invite, Some(&failed)));
    Ok(())
}
