//! The answering side: one thread that accepts, one per connection, at most [`MAX_CONNECTIONS`].

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::{Backend, MAX_CONNECTIONS, MAX_REQUEST_BYTES, Reply, Request};

/// A peer that neither sends nor reads for this long is let go.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause after an accept that failed for want of resources.
const BREATHER: Duration = Duration::from_millis(100);

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another agent listens there.
    #[error(
        "the admin socket {path} belongs to a running relevo; stop that one, or set node.admin (or --data)"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error(
        "the admin socket {path} cannot be made: {why}; make its folder, or set node.admin to a writable place"
    )]
    Cannot {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
}

/// A bound socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct Admin {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Admin {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes the socket, readable and writable for the owner only. A file left by a dead process is replaced.
///
/// # Errors
/// A living process listens there, or the kernel refuses.
pub fn bind(path: &Path) -> Result<Admin, AdminError> {
    let cannot = |why| AdminError::Cannot { path: path.to_path_buf(), why };
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        // Often the data folder, and then perhaps the first one to make it.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
    }
    match knock(path) {
        Ok(()) => return Err(AdminError::InUse { path: path.to_path_buf() }),
        // Its queue is full: somebody listens there who does not answer, for he may be stopped.
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            return Err(AdminError::InUse { path: path.to_path_buf() });
        }
        // A socket file without a listener. Anything else that stands there is not ours to remove.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => {
            std::fs::remove_file(path).map_err(cannot)?;
        }
        Err(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(cannot)?;
    // Linux gives the file the mode of the socket at bind: there is no moment at which others could connect.
    // SAFETY: fchmod on a descriptor that `socket` owns.
    if unsafe { libc::fchmod(socket.as_raw_fd(), 0o600) } != 0 {
        return Err(cannot(io::Error::last_os_error()));
    }
    socket.bind(&SockAddr::unix(path).map_err(cannot)?).map_err(cannot)?;
    socket.listen(MAX_CONNECTIONS as i32).map_err(cannot)?;
    Ok(Admin { listener: socket.into(), path: path.to_path_buf() })
}

/// Whether somebody listens there. Does not wait for him.
fn knock(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
}

impl Admin {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers on a thread of its own until the process ends.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn serve(&self, backend: Arc<dyn Backend>) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        std::thread::Builder::new()
            .name(String::from("relevo-admin"))
            .spawn(move || accept(&listener, &backend))?;
        Ok(())
    }
}

fn accept(listener: &UnixListener, backend: &Arc<dyn Backend>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(BREATHER);
            continue;
        };
        let slot = Slot(Arc::clone(&open));
        if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            let busy = Reply::error("too many admin connections are open", "close some and try again");
            // Best effort: whoever it is may be gone.
            let _ = write_reply(&stream, &busy);
            continue;
        }
        let backend = Arc::clone(backend);
        // Without a thread the connection is closed, which says enough.
        let _ = std::thread::Builder::new().name(String::from("relevo-admin-c")).spawn(move || {
            let _slot = slot;
            let _ = converse(&stream, backend.as_ref());
        });
    }
}

/// Counts a connection off when it ends, however it ends.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(stream: &UnixStream, backend: &dyn Backend) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader).take(MAX_REQUEST_BYTES).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && read as u64 == MAX_REQUEST_BYTES {
            let cure = format!("send one line of at most {MAX_REQUEST_BYTES} bytes");
            return write_reply(stream, &Reply::error("the request is too long", cure));
        }
        let reply = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => backend.answer(request),
            Err(e) => Reply::error(
                format!("this is no request: {e}"),
                "send one line such as {\"command\":\"status\"}; is this relevo as old as the running one?",
            ),
        };
        write_reply(stream, &reply)?;
    }
}

fn write_reply(mut stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    let mut text = serde_json::to_vec(reply)?;
    text.push(b'\n');
    stream.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Echo;

    impl Backend for Echo {
        fn answer(&self, request: Request) -> Reply {
            match request {
                Request::UlRm { .. } => Reply::error("no", "try yes"),
                other => Reply::Ok { ok: json!(other) },
            }
        }
    }

    fn serving() -> (tempfile::TempDir, Admin) {
        let dir = tempfile::tempdir().expect("tempdir");
        let admin = bind(&dir.path().join("a.sock")).expect("bind");
        admin.serve(Arc::new(Echo)).expect("serve");
        (dir, admin)
    }

    fn say(admin: &Admin, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(admin.path()).expect("connect");
        stream.write_all(bytes).expect("write");
        stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("read");
        text
    }

    #[test]
    fn a_socket_whose_owner_is_stopped_is_in_use_and_nobody_waits_for_him() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.sock");
        let owner = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        owner.bind(&SockAddr::unix(&path).expect("a name")).expect("bound");
        owner.listen(0).expect("listens");
        let mut waiting = Vec::new();
        let full = loop {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("set");
            match socket.connect(&SockAddr::unix(&path).expect("a name")) {
                Ok(()) => waiting.push(socket),
                Err(e) => break e,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(bind(&path), Err(AdminError::InUse { .. })));
    }

    #[test]
    fn requests_are_answered_one_per_line_on_one_connection() {
        let (_dir, admin) = serving();
        let said = say(&admin, b"{\"command\":\"status\"}\n{\"command\":\"switchover\",\"node\":2}\n");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(lines[1].contains("\"node\":2"), "{said}");
        let ask =
            super::super::client::ask(admin.path(), &Request::UlRm { aor: "sip:a@b".into(), contact: None });
        assert_eq!(ask.expect("reply"), Reply::error("no", "try yes"));
    }

    #[test]
    fn garbage_unknown_commands_and_endless_lines_get_an_error_and_the_socket_goes_on() {
        let (_dir, admin) = serving();
        for bad in [
            &b"\xff\xfe\n"[..],
            b"{\"command\":\"reboot\"}\n",
            b"{\"command\":\"status\",\"x\":1}\n",
            b"[]\n",
        ] {
            let said = say(&admin, bad);
            assert!(said.contains("\"error\"") && said.contains("\"cure\""), "{said}");
        }
        let said = say(&admin, &vec![b'a'; usize::try_from(MAX_REQUEST_BYTES).expect("small")]);
        assert!(said.contains("too long"), "{said}");
        assert!(say(&admin, b"{\"command\":\"status\"}\n").contains("ok"));
    }

    #[test]
    fn only_the_owner_may_open_the_socket_and_it_goes_with_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, admin) = serving();
        let mode = std::fs::metadata(admin.path()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(admin);
        assert!(!dir.path().join("a.sock").exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_and_a_plain_file_are_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.sock");
        drop(UnixListener::bind(&path).expect("a socket nobody listens on any more"));
        let living = bind(&path).expect("stale is replaced");
        assert!(matches!(bind(&path), Err(AdminError::InUse { .. })));
        drop(living);
        std::fs::write(&path, "precious").expect("write");
        assert!(matches!(bind(&path), Err(AdminError::Cannot { .. })));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "precious");
    }
}
