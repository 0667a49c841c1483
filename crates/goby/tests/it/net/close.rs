//! Closing a socket that others use.

use std::error::Error;
use std::fmt::Debug;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_io::{AsyncRead, AsyncWrite};
use goby::net::{ClosedError, TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use goby::{Context, block_on, go, now, scope, spawn};

use super::unix::TestPath;
use super::{LOCAL, listen, pair};
use crate::support::{MOMENT, PATIENCE, pause, rerun_alone, size, wait_until, with_workers};

#[track_caller]
fn assert_closed<T: Debug>(result: io::Result<T>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected, "{error:?}");
    assert_eq!(error.to_string(), "use of closed network connection");
    assert!(error.source().unwrap().is::<ClosedError>(), "{error:?}");
}

/// Writes until that fails.
fn write_on(mut stream: &TcpStream) -> io::Result<()> {
    loop {
        stream.write_all(&[0; 65536])?;
    }
}

#[test]
fn closing_ends_what_is_parked_and_what_comes_later() {
    with_workers(|| {
        for parked in [false, true] {
            let (stream, mut peer) = pair();
            let stream = Arc::new(stream);
            let start = |operation: fn(&TcpStream) -> io::Result<()>| {
                let stream = stream.clone();
                go(move || operation(&stream))
            };
            let operations: [fn(&TcpStream) -> io::Result<()>; 6] = [
                |mut stream| stream.read(&mut [0]).map(drop),
                |stream| stream.peek(&mut [0]).map(drop),
                write_on,
                |stream| block_on(poll_fn(|cx| Pin::new(&mut &*stream).poll_read(cx, &mut [0]))).map(drop),
                |stream| block_on(poll_fn(|cx| stream.poll_peek(cx, &mut [0]))).map(drop),
                |stream| loop {
                    block_on(poll_fn(|cx| Pin::new(&mut &*stream).poll_write(cx, &[0; 65536])))?;
                },
            ];
            // Polls of one direction share a waker.
            let chosen = [[0, 1, 2, 5], [0, 1, 2, 3], [0, 0, 2, 4]][goby::random() as usize % 3];
            let running: Vec<_> = chosen.into_iter().map(|i| start(operations[i])).collect();
            if parked {
                pause(MOMENT);
            }
            stream.close();
            stream.close();
            running.into_iter().for_each(|operation| assert_closed(operation.join().unwrap()));
            operations.into_iter().for_each(|operation| assert_closed(operation(&stream)));
            assert_closed(stream.local_addr());
            assert_closed(stream.peer_addr());
            assert_closed(stream.nodelay());
            assert_closed(stream.shutdown(Shutdown::Both));
            assert_closed(stream.try_clone());
            // Nothing can be lifted.
            stream.set_deadline(None);
            stream.set_deadline(Some(now()));
            let (ctx, cancel) = Context::background().with_cancel();
            stream.set_context(Some(&ctx));
            cancel.cancel();
            operations.into_iter().for_each(|operation| assert_closed(operation(&stream)));
            let end = io::copy(&mut peer, &mut io::sink());
            assert!(end.is_ok_and(|_| true), "the peer reads to the end, though the stream is not dropped");
        }
    });
}

#[test]
fn closing_wakes_a_task() {
    with_workers(|| {
        let (stream, _peer) = UnixStream::pair().unwrap();
        let stream = Arc::new(stream);
        let shared = stream.clone();
        let reader = spawn(async move { poll_fn(|cx| Pin::new(&mut &*shared).poll_read(cx, &mut [0])).await });
        pause(MOMENT);
        stream.close();
        assert_closed(reader.join().unwrap());
    });
}

#[test]
fn a_closed_listener_frees_its_address_and_ends_all_accepts() {
    with_workers(|| {
        let (listener, addr) = listen();
        let waiting = TcpStream::connect(addr).unwrap();
        scope(|s| {
            let acceptors: Vec<_> = (0..3).map(|_| s.go(|| while listener.accept().is_ok() {})).collect();
            pause(MOMENT);
            listener.close();
            acceptors.into_iter().for_each(|acceptor| acceptor.join().unwrap());
        });
        assert_closed(listener.accept());
        assert_closed(listener.local_addr());
        assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(TcpListener::bind(addr).is_ok());
        drop(waiting);

        let path = TestPath::new();
        let listener = UnixListener::bind(&path.0).unwrap();
        scope(|s| {
            let acceptor = s.go(|| listener.accept());
            pause(MOMENT);
            listener.close();
            assert_closed(acceptor.join().unwrap());
        });
        assert!(UnixListener::bind(&path.0).is_ok());
    });
}

#[test]
fn closed_datagram_sockets_free_their_address() {
    with_workers(|| {
        let socket = UdpSocket::bind(LOCAL).unwrap();
        let addr = socket.local_addr().unwrap();
        scope(|s| {
            let receivers: Vec<_> = (0..3).map(|_| s.go(|| socket.recv_from(&mut [0]))).collect();
            pause(MOMENT);
            socket.close();
            receivers.into_iter().for_each(|receiver| assert_closed(receiver.join().unwrap()));
        });
        assert_closed(socket.send_to(b"x", addr));
        assert!(UdpSocket::bind(addr).is_ok());

        let (a, b) = UnixDatagram::pair().unwrap();
        a.close();
        assert_closed(a.send(b"x"));
        assert_eq!(b.send(b"x").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

/// A reader and a closer meet at every point of a read.
#[test]
fn a_close_is_never_missed() {
    with_workers(|| {
        for _ in 0..size(300, 5_000) {
            let (stream, _peer) = UnixStream::pair().unwrap();
            let stream = Arc::new(stream);
            let shared = stream.clone();
            let reader = go(move || (&*shared).read(&mut [0]));
            (0..goby::random() % 3).for_each(|_| goby::yield_now());
            stream.close();
            assert_closed(reader.join().unwrap());
        }
    });
}

/// Sockets are closed under their readers while others are opened. Each connection carries a byte
/// of its own: a reader that used the number of its descriptor after the system gave it away would
/// read another's.
#[test]
fn no_descriptor_is_used_after_close() {
    with_workers(|| {
        let (rounds, n_lanes) = (size(100, 2_000), 8);
        scope(|s| {
            for lane in 0..n_lanes {
                s.go(move || {
                    for round in 0..rounds {
                        let reads = AtomicUsize::new(0);
                        let (stream, peer) = UnixStream::pair().unwrap();
                        let tag = (lane * 31 + round) as u8;
                        let stopped = AtomicBool::new(false);
                        scope(|s| {
                            for _ in 0..3 {
                                s.go(|| {
                                    let mut buf = [0; 16];
                                    loop {
                                        match { &stream }.read(&mut buf) {
                                            Ok(n) => {
                                                assert!(n > 0, "its peer is open");
                                                assert!(buf[..n].iter().all(|byte| *byte == tag), "another's bytes");
                                                reads.fetch_add(n, Ordering::Relaxed);
                                            }
                                            result => return assert_closed(result),
                                        }
                                    }
                                });
                            }
                            s.go(|| {
                                while !stopped.load(Ordering::Acquire) {
                                    match { &peer }.write_all(&[tag; 4]) {
                                        Ok(()) => goby::yield_now(),
                                        Err(error) => {
                                            let kinds = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                                            assert!(kinds.contains(&error.kind()), "{error:?}");
                                            break;
                                        }
                                    }
                                }
                            });
                            match round % 2 {
                                0 => wait_until("a read", || reads.load(Ordering::Relaxed) > 0),
                                _ => (0..goby::random() % 8).for_each(|_| goby::yield_now()),
                            }
                            stream.close();
                            stopped.store(true, Ordering::Release);
                        });
                    }
                });
            }
        });
    });
}

/// The numbers of closed descriptors are given to new sockets, whose readers park at once.
#[test]
fn no_wake_up_is_lost_when_numbers_are_used_again() {
    with_workers(|| {
        let mut numbers = std::collections::HashMap::new();
        for round in 0..size(50, 500) {
            let pairs: Vec<_> = (0..20).map(|_| UnixStream::pair().unwrap()).collect();
            for (a, _) in &pairs {
                *numbers.entry(a.as_fd().as_raw_fd()).or_insert(0) += 1;
            }
            scope(|s| {
                for (i, (a, b)) in pairs.iter().enumerate() {
                    s.go(move || {
                        a.set_read_deadline(Some(now() + PATIENCE));
                        assert_eq!({ a }.read(&mut [0]).unwrap(), 1, "round {round}");
                        // Half of them are closed while they are held, half are dropped.
                        if i % 2 == 0 {
                            a.close();
                        }
                    });
                    s.go(move || {
                        goby::yield_now();
                        { b }.write_all(b"x").unwrap();
                    });
                }
            });
        }
        assert!(numbers.values().any(|n| *n > 1), "numbers were used again");
    });
}

/// Counts the descriptors, but for those of pollers: on a busy machine the monitor starts another
/// worker, which stays.
pub(super) fn n_descriptors() -> usize {
    let is_pollers = |name: &Path| name.to_string_lossy().starts_with("anon_inode:[event");
    let names = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| std::fs::read_link(entry.unwrap().path()));
    // What another thread has closed meanwhile has no name.
    names.filter(|name| name.as_ref().is_ok_and(|name| !is_pollers(name))).count()
}

#[test]
fn closing_leaves_no_descriptor_once_the_socket_is_dropped() {
    if !rerun_alone("net::close::closing_leaves_no_descriptor_once_the_socket_is_dropped") {
        return;
    }
    with_workers(|| {
        drop(pair());
        let start = n_descriptors();
        for _ in 0..50 {
            let (stream, peer) = pair();
            let stream = Arc::new(stream);
            let shared = stream.clone();
            let reader = go(move || (&*shared).read(&mut [0]));
            pause(MOMENT);
            stream.close();
            assert_closed(reader.join().unwrap());
            drop(peer);
        }
        wait_until("the descriptors to be closed", || n_descriptors() <= start);
    });
}

/// There is no descriptor left that could keep the number: the connection ends all the same.
#[test]
fn closing_works_when_there_are_too_many_descriptors() {
    if !rerun_alone("net::close::closing_works_when_there_are_too_many_descriptors") {
        return;
    }
    with_workers(|| {
        let (stream, mut peer) = pair();
        scope(|s| {
            let reader = s.go(|| { &stream }.read(&mut [0]));
            pause(MOMENT);
            let mut hoard = Vec::new();
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            let few = rustix::process::Rlimit {
                current: Some(std::fs::read_dir("/proc/self/fd").unwrap().count() as u64),
                ..limit
            };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                hoard.push(file);
            }
            stream.close();
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
            assert_closed(reader.join().unwrap());
        });
        assert_closed({ &stream }.write(b"x"));
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    });
}

/// What is closed is gone from the system at once, also then, although others hold the socket.
#[test]
fn closing_frees_the_address_when_there_are_too_many_descriptors() {
    if !rerun_alone("net::close::closing_frees_the_address_when_there_are_too_many_descriptors") {
        return;
    }
    with_workers(|| {
        let socket = UdpSocket::bind(LOCAL).unwrap();
        let addr = socket.local_addr().unwrap();
        let (listener, at) = listen();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let few = rustix::process::Rlimit {
            current: Some(std::fs::read_dir("/proc/self/fd").unwrap().count() as u64),
            ..limit
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        socket.close();
        listener.close();
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        drop(UdpSocket::bind(addr).unwrap());
        drop(TcpListener::bind(at).unwrap());
        // The numbers are still taken.
        socket.close();
        drop((socket, listener));
    });
}
