//! The same sockets with socat at the other end, over Unix sockets and UDP. Where socat is not
//! installed these tests only say so, except in CI.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use goby::net::{UdpSocket, UnixDatagram, UnixListener, UnixStream};
use goby::{blocking, now};

use goby_test_support::has;

use super::LOCAL;
use super::unix::TestPath;
use crate::support::{PATIENCE, wait_until, with_workers};

/// A socat that is killed when this is dropped.
struct Socat(Child);

impl Socat {
    fn start(args: &[&str]) -> Socat {
        let mut command = Command::new("socat");
        Socat(command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Runs one that reads `input` and then waits for what comes; returns all that it prints.
    fn ask(address: &str, input: &[u8]) -> Vec<u8> {
        let mut socat = Socat::start(&["-t", "60", "-", address]);
        let mut stdin = socat.0.stdin.take().unwrap();
        let mut stdout = socat.0.stdout.take().unwrap();
        blocking(|| {
            stdin.write_all(input).unwrap();
            drop(stdin);
            let mut all = Vec::new();
            stdout.read_to_end(&mut all).unwrap();
            all
        })
    }
}

impl Drop for Socat {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends until an answer comes: the other end may not be there yet.
fn ask_again(send: impl Fn() -> std::io::Result<usize>, recv: impl Fn() -> std::io::Result<usize>) -> usize {
    let mut n = None;
    wait_until("an answer", || {
        let sent = send();
        let absent = [ErrorKind::ConnectionRefused, ErrorKind::NotFound];
        assert!(sent.as_ref().map_or_else(|error| absent.contains(&error.kind()), |_| true), "{sent:?}");
        n = recv().ok();
        n.is_some()
    });
    n.unwrap()
}

#[test]
fn socat_talks_over_unix_streams() {
    if !has("socat") {
        return;
    }
    with_workers(|| {
        let path = TestPath::new();
        // goby serves.
        let listener = UnixListener::bind(&path.0).unwrap();
        let server = goby::go(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        let answer = Socat::ask(&format!("UNIX-CONNECT:{}", path.0.display()), b"hello from socat");
        assert_eq!(answer, b"HELLO FROM SOCAT");
        server.join().unwrap();

        // socat serves.
        let _socat = Socat::start(&["-t", "60", &format!("UNIX-LISTEN:{}", path.0.display()), "PIPE"]);
        let mut connected = None;
        wait_until("socat to listen", || {
            connected = UnixStream::connect(&path.0).ok();
            connected.is_some()
        });
        let mut stream = connected.unwrap();
        stream.set_read_deadline(Some(now() + PATIENCE));
        stream.write_all(b"there and back").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut echo = String::new();
        stream.read_to_string(&mut echo).unwrap();
        assert_eq!(echo, "there and back");
    });
}

#[test]
fn socat_talks_over_abstract_sockets() {
    if !has("socat") {
        return;
    }
    use std::os::linux::net::SocketAddrExt;
    with_workers(|| {
        let name = format!("goby-socat-{}-{}", std::process::id(), goby::random());
        let addr = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&addr).unwrap();
        let server = goby::go(move || {
            let (stream, _) = listener.accept().unwrap();
            std::io::copy(&mut &stream, &mut &stream).unwrap()
        });
        assert_eq!(Socat::ask(&format!("ABSTRACT-CONNECT:{name}"), b"abstract"), b"abstract");
        assert_eq!(server.join().unwrap(), 8);
    });
}

#[test]
fn socat_answers_datagrams() {
    if !has("socat") {
        return;
    }
    with_workers(|| {
        let (here, there) = (TestPath::new(), TestPath::new());
        let socket = UnixDatagram::bind(&here.0).unwrap();
        let _socat = Socat::start(&[&format!("UNIX-RECVFROM:{},fork", there.0.display()), "PIPE"]);
        let mut buf = [0; 64];
        let n = {
            let buf = parking_lot::Mutex::new(&mut buf);
            ask_again(
                || socket.send_to(b"datagram", &there.0),
                || {
                    socket.set_read_deadline(Some(now() + Duration::from_millis(200)));
                    socket.recv_from(&mut buf.lock()[..]).map(|(n, _)| n)
                },
            )
        };
        assert_eq!(&buf[..n], b"datagram");
    });
}

#[test]
fn socat_talks_over_udp() {
    if !has("socat") {
        return;
    }
    with_workers(|| {
        // goby serves.
        let server = UdpSocket::bind(LOCAL).unwrap();
        let addr = server.local_addr().unwrap();
        let mut socat = Socat::start(&["-", &format!("UDP4:{addr}")]);
        let (mut stdin, mut stdout) = (socat.0.stdin.take().unwrap(), socat.0.stdout.take().unwrap());
        blocking(|| stdin.write_all(b"ping").unwrap());
        let mut buf = [0; 64];
        server.set_read_deadline(Some(now() + PATIENCE));
        let (n, from) = server.recv_from(&mut buf).unwrap();
        assert_eq!(&buf[..n], b"ping");
        server.send_to(b"pong", from).unwrap();
        let mut answer = [0; 4];
        blocking(|| stdout.read_exact(&mut answer).unwrap());
        assert_eq!(&answer, b"pong");

        // socat serves, on a port that was free a moment ago.
        let free = UdpSocket::bind(LOCAL).unwrap().local_addr().unwrap();
        let _socat = Socat::start(&[&format!("UDP4-RECVFROM:{},bind=127.0.0.1,fork", free.port()), "PIPE"]);
        let client = UdpSocket::bind(LOCAL).unwrap();
        let recv = || -> std::io::Result<usize> {
            client.set_read_deadline(Some(now() + Duration::from_millis(200)));
            let (n, from): (usize, SocketAddr) = client.recv_from(&mut [0; 64])?;
            assert_eq!(from, free);
            Ok(n)
        };
        assert_eq!(ask_again(|| client.send_to(b"question", free), recv), 8);
    });
}
