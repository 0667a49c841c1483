//! Peers that misbehave: each ends as one error of its class, in time, and leaves no goroutine and
//! no descriptor behind.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{self, Shutdown};
use std::thread;
use std::time::Duration;

use goby::net::{TcpListener, TcpStream};
use goby::tls::{self, TlsStream};
use goby::{blocking, now, num_goroutines};
use goby_test_support::{in_child, stderr};
use socket2::SockRef;

use super::support::Authority;
use crate::support::{on_workers, wait_until};

/// Runs a goby client, or server, against `peer`, a thread with a plain socket. Returns what the
/// handshake and a read gave.
fn against(is_client: bool, peer: impl FnOnce(net::TcpStream) + Send + 'static) -> std::io::Error {
    let authority = Authority::new("root");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let peer = thread::spawn(move || peer(net::TcpStream::connect(addr).unwrap()));
    let tcp = listener.accept().unwrap().0;
    let stream: TlsStream = match is_client {
        true => authority.connector().connect("localhost", tcp).unwrap(),
        false => authority.acceptor(&["localhost"]).accept(tcp).unwrap(),
    };
    stream.get_ref().set_deadline(Some(now() + Duration::from_secs(2)));
    let error = stream.handshake().and_then(|()| (&stream).read(&mut [0; 100]).map(drop)).unwrap_err();
    // The peer may wait for the end.
    drop(stream);
    blocking(|| peer.join().unwrap());
    error
}

/// Closes so that the other side gets a reset.
fn reset(socket: net::TcpStream) {
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

fn first_bytes(mut socket: &net::TcpStream) -> Vec<u8> {
    let mut hello = vec![0; 4000];
    let n = socket.read(&mut hello).unwrap();
    hello.truncate(n);
    hello
}

fn misbehave() {
    for is_client in [true, false] {
        let say = |text: &'static [u8]| {
            against(is_client, move |mut socket| {
                socket.write_all(text).unwrap();
                // Until it gives up, which may be by a reset.
                let _ = socket.read_to_end(&mut Vec::new());
            })
        };
        let is_tls =
            |error: &std::io::Error| error.kind() == ErrorKind::InvalidData && tls::Error::find(error).is_some();
        // Plain HTTP, from either side.
        for text in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let error = say(text);
            assert!(is_tls(&error) && tls::Error::find(&error).unwrap().is_plain_http(), "{error:?}");
            assert_eq!(error.to_string(), "the other side speaks plain HTTP, not TLS: is it the right port?");
        }
        // Garbage.
        let error = say(b"SSH-2.0-OpenSSH_9.2\r\n");
        assert!(is_tls(&error), "{error:?}");
        assert_eq!(error.to_string(), "the other side does not speak TLS: is it the right port?");
        // A record that is longer than any may be.
        let error = say(&[22, 3, 3, 0xff, 0xff, 1, 2, 3]);
        assert!(is_tls(&error), "{error:?}");
        // The other message: each side sends what only the other may.
        let error = say(&[22, 3, 3, 0, 4, 14, 0, 0, 0]);
        assert!(is_tls(&error), "{error:?}");
        // Reset, closed, and half of a record before that.
        let error = against(is_client, |socket| {
            reset(socket);
        });
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error:?}");
        let error = against(is_client, |mut socket| {
            socket.write_all(&[22, 3, 3, 0, 100, 1]).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        });
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error:?}");
        assert_eq!(error.to_string(), "the connection was closed during the TLS handshake");
        // A stall, after half of a record.
        let error = against(is_client, |mut socket| {
            socket.write_all(&[22, 3, 3, 0, 100, 1]).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        });
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
    }
    // A server that stops to speak after it has heard the client, by a reset.
    let error = against(true, |socket| {
        assert_eq!(first_bytes(&socket)[0], 22);
        reset(socket);
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error:?}");
    changed_on_the_way();
}

/// A proxy that flips a bit in what the server sends after the handshake, or cuts it off in the
/// middle of a record.
fn changed_on_the_way() {
    for cut in [false, true] {
        let authority = Authority::new("root");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, proxy_addr) = (listener.local_addr().unwrap(), proxy.local_addr().unwrap());
        let acceptor = authority.acceptor(&["localhost"]);
        goby::scope(|s| {
            s.go(|| {
                let stream = acceptor.accept(listener.accept().unwrap().0).unwrap();
                stream.handshake().unwrap();
                let mut ready = [0];
                (&stream).read_exact(&mut ready).unwrap();
                let _ = (&stream).write_all(&[3; 5000]);
                let _ = (&stream).read(&mut ready);
            });
            s.go(|| {
                let client = proxy.accept().unwrap().0;
                let server = TcpStream::connect(addr).unwrap();
                goby::scope(|s| {
                    s.go(|| {
                        let _ = std::io::copy(&mut &client, &mut &server);
                        let _ = server.shutdown(Shutdown::Write);
                    });
                    let mut piece = [0; 8000];
                    loop {
                        let n = (&server).read(&mut piece).unwrap_or(0);
                        // Only the record with the 5000 bytes is that long.
                        let is_data = n > 4000;
                        if n == 0 || is_data && cut {
                            let _ = (&client).write_all(&piece[..n / 2]);
                            let _ = client.shutdown(Shutdown::Write);
                            break;
                        }
                        if is_data {
                            piece[n / 2] ^= 1;
                        }
                        (&client).write_all(&piece[..n]).unwrap();
                    }
                });
            });
            let tcp = TcpStream::connect(proxy_addr).unwrap();
            let stream = authority.connector().connect("localhost", tcp).unwrap();
            (&stream).write_all(b"!").unwrap();
            let error = (&stream).read(&mut [0; 100]).unwrap_err();
            match cut {
                true => assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error:?}"),
                false => {
                    assert_eq!(error.kind(), ErrorKind::InvalidData);
                    assert_eq!(error.to_string(), "what was received has been changed on its way, or is not TLS");
                }
            }
            let _ = stream.shutdown();
        });
    }
}

#[test]
fn peers_that_misbehave_are_one_error_each() {
    let output = in_child("tls::hostile::peers_that_misbehave_are_one_error_each", || {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        on_workers(2, 0, || {
            let goroutines = num_goroutines();
            let settle = || wait_until("goroutines", || num_goroutines() == goroutines);
            // Once for what stays: pollers and the like.
            misbehave();
            settle();
            let open = descriptors();
            misbehave();
            settle();
            // A socket may have been about to close at the first count.
            wait_until("descriptors", || descriptors() <= open);
        });
    });
    assert!(output.status.success(), "{}", stderr(&output));
}
