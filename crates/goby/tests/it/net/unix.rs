//! Unix sockets: what differs from TCP.

use std::fs;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net as std_unix;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::net::{ListenConfig, UnixDatagram, UnixListener, UnixStream};
use goby::{Context, go, now, scope};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::support::{MOMENT, PATIENCE, pause, with_workers};

/// A path for a socket that nobody else uses; what is there is removed in the end.
pub(super) struct TestPath(pub(super) PathBuf);

impl TestPath {
    pub(super) fn new() -> TestPath {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        TestPath(std::env::temp_dir().join(format!("goby-test-{}-{n}.sock", std::process::id())))
    }
}

impl Drop for TestPath {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_listener_removes_its_file_and_no_other() {
    with_workers(|| {
        let path = TestPath::new();
        let bind = || UnixListener::bind(&path.0).unwrap();
        drop(bind());
        assert!(!path.0.exists(), "dropped");

        let listener = bind();
        assert_eq!(UnixListener::bind(&path.0).unwrap_err().kind(), ErrorKind::AddrInUse);
        listener.close();
        assert!(!path.0.exists(), "closed");
        // The first one is dropped when the path is the second one's.
        let second = bind();
        drop(listener);
        assert!(UnixStream::connect(&path.0).is_ok());

        // Somebody puts another socket in its place.
        fs::remove_file(&path.0).unwrap();
        let third = bind();
        drop(second);
        assert!(UnixStream::connect(&path.0).is_ok(), "the third one's file");
        third.set_unlink_on_close(false);
        drop(third);
        assert!(path.0.exists());
        assert_eq!(UnixStream::connect(&path.0).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(UnixListener::bind(&path.0).unwrap_err().kind(), ErrorKind::AddrInUse);
        fs::remove_file(&path.0).unwrap();

        drop(UnixListener::from_std(std_unix::UnixListener::bind(&path.0).unwrap()).unwrap());
        assert!(path.0.exists(), "std has made it");
        fs::remove_file(&path.0).unwrap();
        assert_eq!(UnixStream::connect(&path.0).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

/// The system refuses to queue a connection, and tells nobody when it would.
#[test]
fn connecting_waits_for_room_in_the_listeners_queue() {
    with_workers(|| {
        let path = TestPath::new();
        let listener = ListenConfig::new().backlog(0).bind_unix(&path.0).unwrap();
        let mut queued = Vec::new();
        let error = loop {
            let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(20));
            match UnixStream::connect_ctx(&ctx, &path.0) {
                Ok(stream) => queued.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(queued.len(), 1, "one more than the backlog");
        let connecting = go({
            let path = path.0.clone();
            move || UnixStream::connect(path)
        });
        pause(MOMENT);
        assert!(!connecting.is_finished());
        for _ in 0..queued.len() + 1 {
            listener.accept().unwrap();
        }
        let mut stream = connecting.join().unwrap().unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        assert_eq!(stream.peer_addr().unwrap().as_pathname(), Some(&*path.0));
        drop(listener);
        assert!(!path.0.exists(), "the file is the listener's own");
    });
}

#[test]
fn abstract_addresses_need_no_file() {
    with_workers(|| {
        let name = format!("goby-test-{}-{}", std::process::id(), goby::random());
        let addr = std_unix::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&addr).unwrap();
        assert_eq!(UnixListener::bind_addr(&addr).unwrap_err().kind(), ErrorKind::AddrInUse);
        let client = UnixStream::connect_addr(&addr).unwrap();
        let (server, from) = listener.accept().unwrap();
        assert!(from.is_unnamed());
        assert_eq!(client.peer_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
        let cred = server.peer_cred().unwrap();
        assert_eq!(cred.pid(), Some(std::process::id().cast_signed()));
        assert_eq!(cred.uid(), rustix::process::getuid().as_raw());
        assert_eq!(cred.gid(), rustix::process::getgid().as_raw());
        drop((listener, client, server));
        assert_eq!(UnixStream::connect_addr(&addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

/// A read stops at bytes that came with a descriptor: it is short, and has not emptied the socket.
#[test]
fn bytes_behind_a_descriptor_are_not_missed() {
    with_workers(|| {
        let (mut stream, mut peer) = UnixStream::pair().unwrap();
        stream.set_read_deadline(Some(now() + PATIENCE));
        // Registers the socket.
        let reader = scope(|s| {
            let reader = s.go(|| stream.read(&mut [0; 16]));
            pause(MOMENT);
            peer.write_all(b"0").unwrap();
            reader.join().unwrap()
        });
        assert_eq!(reader.unwrap(), 1);

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [peer.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        rustix::net::sendmsg(&peer, &[IoSlice::new(b"a")], &mut control, SendFlags::empty()).unwrap();
        (&peer).write_all(b"b").unwrap();
        pause(MOMENT);
        let mut got = Vec::new();
        while got.len() < 2 {
            let mut buf = [0; 16];
            let n = stream.read(&mut buf).unwrap();
            got.extend_from_slice(&buf[..n]);
        }
        assert_eq!(got, b"ab");
    });
}

/// Fills the queue of the socket at the other end.
fn fill(send: impl Fn() -> io::Result<usize>) -> usize {
    let mut n = 0;
    while send().is_ok() {
        n += 1;
    }
    n
}

#[test]
fn sends_wait_for_a_full_receiver_connected_or_not() {
    with_workers(|| {
        let path = TestPath::new();
        let receiver = UnixDatagram::bind(&path.0).unwrap();
        for connected in [true, false] {
            let sender = Arc::new(UnixDatagram::unbound().unwrap());
            if connected {
                sender.connect(&path.0).unwrap();
            }
            let send = {
                let (sender, path) = (sender.clone(), path.0.clone());
                move || if connected { sender.send(b"x") } else { sender.send_to(b"x", &path) }
            };
            sender.set_write_deadline(Some(now() + Duration::from_millis(20)));
            let n = fill(&send);
            assert!(n > 0);
            sender.set_write_deadline(None);
            let waiting = go(send.clone());
            pause(MOMENT);
            assert!(!waiting.is_finished());
            for _ in 0..n {
                assert_eq!(receiver.recv(&mut [0; 2]).unwrap(), 1);
            }
            assert_eq!(waiting.join().unwrap().unwrap(), 1);
            assert_eq!(receiver.recv(&mut [0; 2]).unwrap(), 1);

            let (ctx, cancel) = Context::background().with_cancel();
            sender.set_context(Some(&ctx));
            let waiting = go(move || while send().is_ok() {});
            pause(MOMENT);
            cancel.cancel();
            waiting.join().unwrap();
            // What is queued now is not for the next round.
            receiver.set_read_deadline(Some(now() + Duration::from_millis(5)));
            while receiver.recv(&mut [0; 2]).is_ok() {}
            receiver.set_read_deadline(None);
        }
    });
}

#[test]
fn datagrams_keep_their_ends_and_their_senders() {
    with_workers(|| {
        let (here, there) = (TestPath::new(), TestPath::new());
        let (a, b) = (UnixDatagram::bind(&here.0).unwrap(), UnixDatagram::bind(&there.0).unwrap());
        for text in [&b"one"[..], b"", b"three"] {
            a.send_to(text, &there.0).unwrap();
        }
        let mut buf = [0; 4];
        for (len, text) in [(3, &b"one"[..]), (0, b""), (4, b"thre")] {
            let (n, from) = b.recv_from(&mut buf).unwrap();
            assert_eq!((n, &buf[..n]), (len, text), "what does not fit is lost");
            assert_eq!(from.as_pathname(), Some(&*here.0));
        }
        drop(b);
        assert!(there.0.exists(), "the file stays");
        assert_eq!(a.send_to(b"x", &there.0).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

/// The file belongs to all clones of a listener: it goes with the last one.
#[test]
fn the_file_of_a_listener_stays_as_long_as_a_clone_listens() {
    with_workers(|| {
        for close in [false, true] {
            let path = TestPath::new();
            let first = UnixListener::bind(&path.0).unwrap();
            let second = first.try_clone().unwrap();
            if close {
                first.close();
            } else {
                drop(first);
            }
            let _client = UnixStream::connect(&path.0).unwrap();
            second.accept().unwrap();
            drop(second);
            assert!(!path.0.exists());

            let first = UnixListener::bind(&path.0).unwrap();
            let second = first.try_clone().unwrap();
            // This is the file's, and holds for all of them.
            second.set_unlink_on_close(false);
            drop((second, first));
            assert!(path.0.exists());
        }
    });
}
