//! A tiny phone: one UDP socket or one TCP connection, requests and responses written by hand, so that the tests share no SIP code with
//! the program they test.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::PATIENCE;

pub struct Ua {
    pub user: String,
    link: Link,
    proxy: SocketAddr,
    seq: u32,
}

/// How a phone speaks.
enum Link {
    Udp(UdpSocket),
    /// With what has been read and not yet taken.
    Tcp(TcpStream, RefCell<Vec<u8>>),
}

impl Link {
    fn set_read_timeout(&self, patience: Duration) {
        match self {
            Self::Udp(socket) => socket.set_read_timeout(Some(patience)),
            Self::Tcp(stream, _) => stream.set_read_timeout(Some(patience)),
        }
        .expect("timeout");
    }

    fn receive(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = vec![0; 65_535];
                let n = socket.recv(&mut buffer)?;
                buffer.truncate(n);
                Ok(buffer)
            }
            Self::Tcp(stream, buffer) => {
                let mut buffer = buffer.borrow_mut();
                loop {
                    if let Some(message) = cut(&mut buffer) {
                        return Ok(message);
                    }
                    let mut more = [0; 4096];
                    let n = (&*stream).read(&mut more)?;
                    if n == 0 {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                    buffer.extend_from_slice(&more[..n]);
                }
            }
        }
    }
}

/// The first message of a stream, if it is there whole.
fn cut(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    while buffer.starts_with(b"\r\n") {
        buffer.drain(..2);
    }
    let text = String::from_utf8_lossy(buffer).into_owned();
    let head = text.find("\r\n\r\n")? + 4;
    let length = text[..head]
        .lines()
        .filter_map(|l| l.split_once(':'))
        .find(|(n, _)| n.eq_ignore_ascii_case("content-length"))
        .map(|(_, v)| v.trim().parse::<usize>().expect("a length"))
        .expect("a Content-Length in a stream");
    (buffer.len() >= head + length).then(|| buffer.drain(..head + length).collect())
}

/// A received message, cut where the tests look.
#[derive(Debug, Clone)]
pub struct Message {
    pub text: String,
}

impl Message {
    pub fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// All values of a header, in order, comma lists not split.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.text
            .lines()
            .take_while(|l| !l.is_empty())
            .filter_map(|l| l.split_once(':'))
            .filter(|(n, _)| n.trim().eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim().to_owned())
            .collect()
    }

    pub fn one(&self, name: &str) -> String {
        self.all(name).first().cloned().unwrap_or_else(|| panic!("no {name} in\n{}", self.text))
    }

    pub fn status(&self) -> u16 {
        self.first_line().split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }
}

impl Ua {
    pub fn new(user: &str, proxy: SocketAddr) -> Self {
        Self::at(user, proxy, if proxy.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" })
    }

    /// One with an address of its own.
    pub fn at(user: &str, proxy: SocketAddr, local: &str) -> Self {
        let link = Link::Udp(UdpSocket::bind(local).expect("bind"));
        link.set_read_timeout(PATIENCE);
        Self { user: user.to_owned(), link, proxy, seq: 0 }
    }

    /// One with a connection, which is also all it can be reached by.
    pub fn tcp(user: &str, proxy: SocketAddr) -> Self {
        let stream = TcpStream::connect(proxy).expect("connect");
        Self::with_stream(user, proxy, stream)
    }

    pub fn with_stream(user: &str, proxy: SocketAddr, stream: TcpStream) -> Self {
        let link = Link::Tcp(stream, RefCell::default());
        link.set_read_timeout(PATIENCE);
        Self { user: user.to_owned(), link, proxy, seq: 0 }
    }

    pub fn addr(&self) -> SocketAddr {
        match &self.link {
            Link::Udp(socket) => socket.local_addr(),
            Link::Tcp(stream, _) => stream.local_addr(),
        }
        .expect("bound")
    }

    pub fn contact(&self) -> String {
        let transport = match &self.link {
            Link::Udp(_) => "",
            Link::Tcp(..) => ";transport=tcp",
        };
        format!("<sip:{}@{}{transport}>", self.user, self.addr())
    }

    pub fn send(&self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    pub fn send_bytes(&self, bytes: &[u8]) {
        match &self.link {
            Link::Udp(socket) => drop(socket.send_to(bytes, self.proxy).expect("send")),
            Link::Tcp(stream, _) => (&*stream).write_all(bytes).expect("send"),
        }
    }

    /// Waits until the connection is closed by the other side; what came before is lost.
    pub fn is_closed(&self) {
        loop {
            let Err(e) = self.link.receive() else { continue };
            assert!(
                matches!(e.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset),
                "{} is still connected: {e}",
                self.user
            );
            return;
        }
    }

    /// The next message, if one comes within this time.
    pub fn try_receive(&self, patience: Duration) -> Option<Message> {
        self.link.set_read_timeout(patience);
        let got = self.link.receive().ok();
        self.link.set_read_timeout(PATIENCE);
        got.map(|bytes| Message { text: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// The next message, whatever it is.
    pub fn receive(&self) -> Message {
        let bytes = self.link.receive().unwrap_or_else(|e| panic!("{} heard nothing: {e}", self.user));
        Message { text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    /// The next message whose first line contains `what`; others are passed over.
    pub fn expect(&self, what: &str) -> Message {
        let mut seen = Vec::new();
        for _ in 0..50 {
            let m = self.receive();
            if m.first_line().contains(what) {
                return m;
            }
            seen.push(m.first_line().to_owned());
        }
        panic!("{} waited for {what}, got {seen:?}", self.user)
    }

    pub fn hears_nothing(&self, for_: Duration) {
        self.link.set_read_timeout(for_);
        let got = self.link.receive();
        self.link.set_read_timeout(PATIENCE);
        if let Ok(bytes) = got {
            panic!("{} heard {}", self.user, String::from_utf8_lossy(&bytes));
        }
    }

    pub fn branch(&mut self) -> String {
        self.seq += 1;
        format!("z9hG4bK-{}-{}-{}", self.user, self.addr().port(), self.seq)
    }

    pub fn via(&mut self) -> String {
        let branch = self.branch();
        let transport = match &self.link {
            Link::Udp(_) => "UDP",
            Link::Tcp(..) => "TCP",
        };
        format!("Via: SIP/2.0/{transport} {};branch={branch};rport\r\n", self.addr())
    }

    pub fn register(&mut self, expires: u32) -> Message {
        let via = self.via();
        let (user, host, contact, seq) = (&self.user, self.proxy, self.contact(), self.seq);
        self.send(&format!(
            "REGISTER sip:{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:{user}@{host}>;tag=r\r\n\
             To: <sip:{user}@{host}>\r\nCall-ID: reg-{user}-{port}\r\nCSeq: {seq} REGISTER\r\nContact: {contact}\r\n\
             Expires: {expires}\r\nContent-Length: 0\r\n\r\n",
            port = self.addr().port(),
        ));
        self.receive()
    }

    /// An INVITE to `user`; returns its text so that ACK and CANCEL can be made of it.
    pub fn invite(&mut self, user: &str, call_id: &str) -> String {
        let via = self.via();
        let (me, host, contact, seq) = (&self.user, self.proxy, self.contact(), self.seq);
        let text = format!(
            "INVITE sip:{user}@{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:{me}@{host}>;tag=c{seq}\r\n\
             To: <sip:{user}@{host}>\r\nCall-ID: {call_id}\r\nCSeq: {seq} INVITE\r\nContact: {contact}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        self.send(&text);
        text
    }

    /// The response of this phone to a request.
    pub fn respond(&self, request: &Message, status: &str, tag: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "Record-Route"] {
            for value in request.all(name) {
                text += &format!("{name}: {value}\r\n");
            }
        }
        let to = request.one("To");
        let to = if to.contains("tag=") { to } else { format!("{to};tag={tag}") };
        text += &format!(
            "From: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: {}\r\nContent-Length: 0\r\n\r\n",
            request.one("From"),
            request.one("Call-ID"),
            request.one("CSeq"),
            self.contact(),
        );
        self.send(&text);
    }

    /// A request inside the dialog that `ok` (the 200 to this phone's INVITE) made.
    pub fn in_dialog(&mut self, method: &str, ok: &Message) -> String {
        let via = self.via();
        let target = ok.one("Contact").trim_matches(['<', '>']).to_owned();
        let number = ok.one("CSeq").split(' ').next().unwrap_or("1").parse::<u32>().unwrap_or(1);
        let number = if method == "ACK" { number } else { number + 1 };
        let mut route = String::new();
        for value in ok.all("Record-Route").iter().rev() {
            route += &format!("Route: {value}\r\n");
        }
        let text = format!(
            "{method} {target} SIP/2.0\r\n{via}{route}Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
             CSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n",
            ok.one("From"),
            ok.one("To"),
            ok.one("Call-ID"),
        );
        self.send(&text);
        text
    }

    /// CANCEL of an INVITE sent before (RFC 3261 §9.1).
    pub fn cancel(&self, invite: &str) {
        let text = invite
            .replacen("INVITE", "CANCEL", 1)
            .replace(" INVITE\r\n", " CANCEL\r\n")
            .replace(&format!("Contact: {}\r\n", self.contact()), "");
        self.send(&text);
    }

    /// ACK to a non-2xx (RFC 3261 §17.1.1.3).
    pub fn ack_failure(&self, invite: &str, response: &Message) {
        let head = invite.replacen("INVITE", "ACK", 1).replace(" INVITE\r\n", " ACK\r\n");
        let lines: Vec<String> = head
            .split("\r\n")
            .map(|l| if l.starts_with("To:") { format!("To: {}", response.one("To")) } else { l.to_owned() })
            .collect();
        self.send(&lines.join("\r\n"));
    }
}
