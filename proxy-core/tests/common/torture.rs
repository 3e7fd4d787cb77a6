//! Our own messages for the points of RFC 4475 (torture tests) and RFC 5118 (IPv6), one per section, with what a
//! registrar and proxy of `lab.test` that knows the user `bob` has to do with each.
//!
//! Two programs run them: the engine alone (`rfc4475.rs`), and a node with its sockets (`agent/tests/torture.rs`).

#![allow(dead_code, reason = "each test program uses its part")]

/// What has to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A response with this status, and nothing reaches the user.
    Status(u16),
    /// The user's phone gets it, its header lines and its body byte for byte.
    Reaches,
    /// No answer; nothing is forwarded.
    Silence,
}

use Expected::{Reaches, Silence, Status};

/// One message.
pub struct Case {
    /// Section of RFC 4475; those of RFC 5118 begin with `v6-`.
    pub section: &'static str,
    pub expected: Expected,
    pub bytes: Vec<u8>,
}

/// What most messages have between start line and the point of the test.
fn usual(section: &str, method: &str, via: &str) -> String {
    let id = section.replace('.', "-");
    format!(
        "Via: {via}\r\nMax-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@lab.test>;tag=f{id}\r\n\
         To: <sip:bob@lab.test>\r\nCall-ID: torture-{id}@192.0.2.7\r\nCSeq: 17 {method}\r\n"
    )
}

fn via(section: &str) -> String {
    format!("SIP/2.0/UDP phone.example.org;branch=z9hG4bKt{}", section.replace('.', "-"))
}

/// A request to `bob` with further header lines and a body.
fn request(section: &str, method: &str, more: &str, body: &str) -> String {
    request_to("sip:bob@lab.test", section, method, more, body)
}

fn request_to(uri: &str, section: &str, method: &str, more: &str, body: &str) -> String {
    let head = usual(section, method, &via(section));
    format!("{method} {uri} SIP/2.0\r\n{head}{more}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn register(section: &str, more: &str) -> String {
    request_to("sip:lab.test", section, "REGISTER", more, "")
        .replace("bob@", "carol@")
        .replace("alice@", "carol@")
}

/// A response that claims to answer a request of this proxy.
fn response(section: &str, line: &str, cseq: &str) -> String {
    format!("{line}\r\n{}Content-Length: 0\r\n\r\n", usual(section, "INVITE", &via(section)))
        .replace("CSeq: 17 INVITE", cseq)
}

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n";

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut list = valid();
    list.extend(invalid());
    list.extend(beyond_syntax());
    list.extend(ipv6());
    list
}

fn case(section: &'static str, expected: Expected, text: impl Into<Vec<u8>>) -> Case {
    Case { section, expected, bytes: text.into() }
}

/// §3.1.1: strange, and right.
fn valid() -> Vec<Case> {
    let folded = "INVITE sip:bob@lab.test;strange SIP/2.0\r\nTO :\r\n\t<sip:bob@lab.test> ;\r\n  x = y\r\n\
        f   : \"A. \\\\\\\"\"   <sip:alice@lab.test>\r\n ;\r\n   tag\t=  a1b2\r\nmAx-FoRwArDs:  0070\r\n\
        I: torture-3-1-1-1@192.0.2.7\r\ncseq: 0017\r\n INVITE\r\nVIA : SIP / 2.0\r\n /UDP\r\n\
        \x20   phone.example.org;branch = z9hG4bKt3-1-1-1\r\ns :\r\nX-New:   one\r\n two\r\nX-Odd: ;;,,=,;\r\n\
        v: SIP / 2.0 / TCP   a.example.org  ;\r\n branch =  z9hG4bKlower1 ,\r\n SIP /  2.0 / UDP 192.0.2.77 ; branch=\r\n z9hG4bKlower2\r\n\
        m:\"Q \\\"\\\"\" <sip:alice@192.0.2.7> ; p =\r\n   v ;\r\n q = 0.5\r\nl : 0\r\n\r\n";
    let odd = "!odd-M3thod_*+`.%~' sip:bob@lab.test;a!~b=(c)$d/&:+ SIP/2.0\r\nVia: SIP/2.0/UDP phone.example.org;branch=z9hG4bK-.!%*_+`'~\r\n\
        To: \"BEL:\\\x07 NUL:\\\0 DEL:\\\x7f\" <sip:bob@lab.test>\r\nFrom: one~` two'+_ three*%!.- <sip:alice@lab.test>;pa''~+=\"привет\";tag=_x~1'+`*%!-.\r\n\
        Call-ID: word%ZK-!.*_+'@word`~)(><:\\/\"][?}{\r\nCSeq: 17 !odd-M3thod_*+`.%~'\r\nMax-Forwards: 255\r\n\
        eXtension-!.%*+_`'~:\u{feff}大停電\r\nContent-Length: 0\r\n\r\n";
    let long = format!(
        "X-Long: {}\r\nContact: <sip:alice@192.0.2.7;{}=1>;{}\r\n{}",
        "verylong".repeat(60),
        "name".repeat(50),
        "flag".repeat(50),
        "v: SIP/2.0/UDP far.example.org;branch=z9hG4bKfar\r\n".repeat(20),
    );
    let mut binary =
        request("3.1.1.11", "MESSAGE", "Content-Type: multipart/mixed;boundary=x\r\n", "").into_bytes();
    let body =
        b"--x\r\nContent-Type: application/octet-stream\r\n\r\n\x00\x01\r\n\r\n\xff\xfe\x80\r--x--\r\n";
    let end = binary.len() - "Content-Length: 0\r\n\r\n".len();
    binary.truncate(end);
    binary.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    binary.extend_from_slice(body);
    vec![
        case("3.1.1.1", Reaches, folded),
        case("3.1.1.2", Reaches, odd),
        case(
            "3.1.1.3",
            Reaches,
            request_to(
                "sip:%62o%62@lab.test",
                "3.1.1.3",
                "INVITE",
                "Contact:\r\n  <sip:c%61ll@192.0.2.7;n%61me=v%61l>\r\n",
                SDP,
            ),
        ),
        case(
            "3.1.1.4",
            Status(200),
            register("3.1.1.4", "Contact: <sip:%00@192.0.2.7>\r\nContact: <sip:%00%00@192.0.2.7>\r\n")
                .replace("carol@", "nul-%00@"),
        ),
        // An escape in a method means nothing: this is no REGISTER.
        case(
            "3.1.1.5",
            Reaches,
            request(
                "3.1.1.5",
                "RE%47ISTER",
                "C%6Fntact: <sip:x@192.0.2.8>\r\nContact: <sip:alice@192.0.2.7>\r\n",
                "",
            ),
        ),
        case("3.1.1.6", Reaches, request("3.1.1.6", "OPTIONS", "", "").replace("\"Alice\" <", "caller<")),
        case("3.1.1.7", Reaches, request("3.1.1.7", "INVITE", &long, SDP)),
        case(
            "3.1.1.8",
            Status(200),
            register("3.1.1.8", "Contact: <sip:carol@192.0.2.9>\r\n")
                + "\r\n"
                + &request("3.1.1.8", "INVITE", "", SDP),
        ),
        // All before the @ is the user: not bob.
        case(
            "3.1.1.9",
            Status(404),
            request_to("sip:bob;par=x%40lab.test@lab.test", "3.1.1.9", "OPTIONS", "", ""),
        ),
        case(
            "3.1.1.10",
            Reaches,
            request(
                "3.1.1.10",
                "OPTIONS",
                "Via: SIP/2.0/SCTP b.example.org;branch=z9hG4bKb\r\nVia: SIP/2.0/CARRIER-PIGEON c.example.org;branch=z9hG4bKc\r\nVia: SIP/2.0/TLS d.example.org;branch=z9hG4bKd\r\n",
                "",
            ),
        ),
        case("3.1.1.11", Reaches, binary),
        case(
            "3.1.1.12",
            Silence,
            response("3.1.1.12", "SIP/2.0 200 = 2**3 * 5**2 сто девяносто девять", "CSeq: 17 INVITE"),
        ),
        case("3.1.1.13", Silence, response("3.1.1.13", "SIP/2.0 183 ", "CSeq: 17 INVITE")),
    ]
}

/// §3.1.2: wrong.
fn invalid() -> Vec<Case> {
    let invite = |section: &'static str, more: &str| request(section, "INVITE", more, SDP);
    let contact = "Contact: <sip:alice@192.0.2.7>\r\n";
    vec![
        case("3.1.2.1", Status(400), invite("3.1.2.1", "Contact: \"Joe\" <sip:joe@example.org>;;;;\r\n").replace("phone.example.org;branch=", "192.0.2.7;;,;,,;b=")),
        case("3.1.2.2", Status(400), invite("3.1.2.2", contact).replace("Content-Length: ", "Content-Length: 9")),
        case("3.1.2.3", Status(400), invite("3.1.2.3", contact).replace("Content-Length: ", "Content-Length: -")),
        case("3.1.2.4", Status(400), register("3.1.2.4", "Expires: 1000000000000000000000000\r\nContact: <sip:carol@192.0.2.9>;expires=280297596632815\r\n").replace("CSeq: 17", "CSeq: 36893488147419103232").replace("Forwards: 70", "Forwards: 300")),
        case("3.1.2.5", Silence, response("3.1.2.5", "SIP/2.0 503 Service Unavailable", "CSeq: 9292394834772304023312 OPTIONS\r\nRetry-After: 949302838503028349304023988")),
        case("3.1.2.6", Status(400), invite("3.1.2.6", contact).replace("To: <", "To: \"Mr. Bob <")),
        case("3.1.2.7", Status(400), request_to("<sip:bob@lab.test>", "3.1.2.7", "INVITE", contact, SDP)),
        case("3.1.2.8", Status(400), request_to("sip:bob@lab.test; lr", "3.1.2.8", "INVITE", contact, SDP)),
        case("3.1.2.9", Status(400), invite("3.1.2.9", contact).replacen("INVITE sip:bob@lab.test ", "INVITE  sip:bob@lab.test  ", 1)),
        // RFC 4475 allows both; trailing white space can mislead nobody.
        case("3.1.2.10", Reaches, request("3.1.2.10", "OPTIONS", "", "").replacen("SIP/2.0\r\n", "SIP/2.0  \r\n", 1)),
        case("3.1.2.11", Status(400), request_to("sip:bob@lab.test?Route=%3Csip:lab.test%3E", "3.1.2.11", "INVITE", contact, SDP)),
        // A proxy has no business with Date (§16.3 step 1).
        case("3.1.2.12", Reaches, invite("3.1.2.12", "Date: Fri, 01 Jan 2010 16:00:00 EST\r\n")),
        case("3.1.2.13", Status(400), register("3.1.2.13", "Contact: sip:carol@192.0.2.9?Route=%3Csip:lab.test%3E\r\n")),
        case("3.1.2.14", Reaches, request("3.1.2.14", "OPTIONS", "", "").replace("To: <sip:bob@lab.test>", "To: \"Bob, B\" < sip:bob@lab.test >")),
        case("3.1.2.15", Status(400), request("3.1.2.15", "OPTIONS", "", "").replace("To: <", "To: Bob, B <")),
        case("3.1.2.16", Status(505), request("3.1.2.16", "OPTIONS", "", "").replace("SIP/2.0", "SIP/7.0")),
        case("3.1.2.17", Status(400), request("3.1.2.17", "OPTIONS", "", "").replace("17 OPTIONS", "17 INVITE")),
        case("3.1.2.18", Status(400), request("3.1.2.18", "NEWMETHOD", contact, SDP).replace("17 NEWMETHOD", "17 INVITE")),
        case("3.1.2.19", Silence, response("3.1.2.19", "SIP/2.0 4294967301 too much", "CSeq: 17 INVITE")),
    ]
}

/// §3.2 and §3.3: well-formed, and a problem above the syntax.
fn beyond_syntax() -> Vec<Case> {
    let options = |section: &'static str, more: &str| request(section, "OPTIONS", more, "");
    let rfc2543 = "INVITE sip:bob@lab.test SIP/2.0\r\nVia: SIP/2.0/UDP old.example.org\r\nFrom: <sip:+13035551111@old.example.org;user=phone>\r\n\
        Record-Route: <sip:bob@lab.test;maddr=ss1.example.org>\r\nTo: sip:bob@lab.test;user=phone\r\nCall-ID: torture-3-3-16@old\r\nCSeq: 56 INVITE\r\n\
        Content-Type: application/sdp\r\n\r\nv=0\r\n";
    vec![
        case("3.2.1", Reaches, options("3.2.1", "").replace("z9hG4bKt3-2-1", "z9hG4bK")),
        case(
            "3.3.1",
            Status(400),
            "INVITE sip:bob@lab.test SIP/2.0\r\nCSeq: 17 INVITE\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKt3-3-1\r\nCall-ID: torture-3-3-1\r\nl: 0\r\n\r\n",
        ),
        case("3.3.2", Status(416), request_to("nobodyKnowsThis:opaque", "3.3.2", "OPTIONS", "", "")),
        case("3.3.3", Status(416), request_to("soap.beep://192.0.2.7:3002", "3.3.3", "OPTIONS", "", "")),
        case(
            "3.3.4",
            Status(404),
            register("3.3.4", "Contact: <name:Carol>\r\n")
                .replace("To: <sip:carol@lab.test>", "To: isbn:2983792873"),
        ),
        case("3.3.5", Status(420), options("3.3.5", "Require: x-one\r\nProxy-Require: x-two, x-three\r\n")),
        case(
            "3.3.6",
            Reaches,
            request("3.3.6", "INVITE", "Content-Type: application/x-odd\r\n", "<audio/>\r\n"),
        ),
        // Without authentication the scheme is as good as none.
        case("3.3.7", Status(200), register("3.3.7", "Authorization: Nobodyknowsthis opaque=here\r\n")),
        case(
            "3.3.8",
            Status(400),
            request(
                "3.3.8",
                "INVITE",
                "Call-ID: other\r\nCSeq: 59 INVITE\r\nTo: <sip:eve@lab.test>\r\nFrom: <sip:eve@lab.test>;tag=2\r\nMax-Forwards: 5\r\n",
                SDP,
            ),
        ),
        case(
            "3.3.9",
            Status(400),
            options("3.3.9", "Content-Length: 13\r\n") + "nobody knows how long this is",
        ),
        case(
            "3.3.10",
            Silence,
            response(
                "3.3.10",
                "SIP/2.0 200 OK",
                "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKall\r\nCSeq: 17 INVITE",
            ),
        ),
        case("3.3.11", Status(483), options("3.3.11", "").replace("Forwards: 70", "Forwards: 0")),
        case(
            "3.3.12",
            Status(200),
            register("3.3.12", "Contact: sip:+19725552222@192.0.2.9;unknownparam\r\n"),
        ),
        case(
            "3.3.13",
            Status(200),
            register("3.3.13", "Contact: <sip:+19725552222@192.0.2.9;unknownparam>\r\n"),
        ),
        case(
            "3.3.14",
            Status(200),
            register("3.3.14", "M: <sip:carol@192.0.2.9?Route=%3Csip:lab.test%3E>\r\n"),
        ),
        case(
            "3.3.15",
            Reaches,
            request(
                "3.3.15",
                "INVITE",
                "Accept: text/nobodyKnowsThis\r\nContent-Type: application/sdp\r\n",
                SDP,
            ),
        ),
        case("3.3.16", Reaches, rfc2543),
    ]
}

/// RFC 5118.
fn ipv6() -> Vec<Case> {
    let to =
        |uri: &'static str, section: &'static str, method: &str| request_to(uri, section, method, "", "");
    let v6_via = |text: String, via: &str| text.replace("SIP/2.0/UDP phone.example.org", via);
    vec![
        case(
            "v6-4.1",
            Status(200),
            v6_via(
                register("v6-4.1", "Contact: \"C\" <sip:carol@[2001:db8::1]>\r\n"),
                "SIP/2.0/UDP [2001:db8::9:1]",
            ),
        ),
        // Without brackets the end of the address and the port cannot be told apart.
        case("v6-4.2", Status(400), register("v6-4.2", "").replacen("sip:lab.test", "sip:2001:db8::10", 1)),
        // What looks like a port is part of the address; a REGISTER for that host is not for us.
        case(
            "v6-4.3",
            Status(403),
            register("v6-4.3", "").replacen("sip:lab.test", "sip:[2001:db8::10:5070]", 1),
        ),
        case(
            "v6-4.4",
            Status(403),
            register("v6-4.4", "").replacen("sip:lab.test", "sip:[2001:db8::10]:5070", 1),
        ),
        // received with the brackets that RFC 3261 does not foresee: be liberal.
        case(
            "v6-4.5",
            Reaches,
            v6_via(
                to("sip:bob@lab.test", "v6-4.5", "OPTIONS"),
                "SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255]",
            ),
        ),
        case(
            "v6-4.6",
            Reaches,
            v6_via(
                to("sip:bob@lab.test", "v6-4.6", "OPTIONS"),
                "SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255",
            ),
        ),
        case(
            "v6-4.7",
            Reaches,
            request(
                "v6-4.7",
                "INVITE",
                "Contact: <sip:alice@[2001:db8::20]>\r\nContent-Type: application/sdp\r\n",
                "v=0\r\no=- 1 0 IN IP6 2001:db8::20\r\ns=-\r\nc=IN IP6 2001:db8::20\r\nt=0 0\r\nm=audio 6000 RTP/AVP 2\r\n",
            ),
        ),
        case(
            "v6-4.8",
            Reaches,
            request(
                "v6-4.8",
                "OPTIONS",
                "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKj\r\nVia: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bKk;received=192.0.2.200\r\n",
                "",
            ),
        ),
        case(
            "v6-4.9",
            Reaches,
            request(
                "v6-4.9",
                "INVITE",
                "Content-Type: application/sdp\r\n",
                "v=0\r\no=- 1 0 IN IP4 host.example.org\r\ns=-\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\nm=video 6002 RTP/AVP 107\r\nc=IN IP6 2001:db8::1\r\n",
            ),
        ),
        case(
            "v6-4.10",
            Reaches,
            v6_via(
                request("v6-4.10", "INVITE", "Contact: <sip:alice@[::ffff:192.0.2.2]>\r\n", SDP),
                "SIP/2.0/UDP [::ffff:192.0.2.10]:19823",
            ),
        ),
    ]
}
