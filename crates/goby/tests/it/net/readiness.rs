//! Waiting for sockets and channels at once.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan::{self, TryRecvError};
use goby::net::{TcpStream, UdpSocket, UnixStream};
use goby::{Context, Runtime, go, now, scope, select};

use super::{LOCAL, listen, pair};
use crate::support::{MOMENT, PATIENCE, pause, size, with_workers};

/// Whether the channel of readiness is closed within a time that suffices for what is on its way.
macro_rules! comes {
    ($ready:expr) => {
        select! {
            recv($ready) -> _ => true,
            default(PATIENCE) => false,
        }
    };
}

macro_rules! is_now {
    ($ready:expr) => {
        match $ready.try_recv() {
            Err(TryRecvError::Closed) => true,
            Err(TryRecvError::Empty) => false,
        }
    };
}

#[test]
fn a_stream_is_readable_as_long_as_bytes_are_unread() {
    with_workers(|| {
        let (mut stream, mut peer) = pair();
        assert!(!is_now!(stream.readable()));
        for round in 0..20 {
            peer.write_all(b"abc").unwrap();
            // A read of less than there is room for says that the stream is empty; another does
            // not.
            let (room, mut unread) = (1 + round % 2, 3);
            while unread > 0 {
                assert!(comes!(stream.readable()), "round {round}");
                assert!(comes!(stream.readable()), "nobody has read");
                assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
                assert!(is_now!(stream.readable()));
                unread -= stream.read(&mut [0; 2][..room]).unwrap();
            }
            assert!(!is_now!(stream.readable()), "all is read, round {round}");
        }
    });
}

#[test]
fn a_select_waits_for_a_stream_and_commands_at_once() {
    with_workers(|| {
        let (mut stream, mut peer) = pair();
        let (commands_tx, commands) = chan::bounded(0);
        let rounds = size(300, 3_000);
        let session = go(move || {
            let (mut n_bytes, mut n_commands, mut buf) = (0, 0, [0; 3]);
            loop {
                select! {
                    recv(stream.readable()) -> _ => {
                        // A read that waited would keep commands waiting.
                        stream.set_read_deadline(Some(now() + PATIENCE));
                        match stream.read(&mut buf).unwrap() {
                            0 => return (n_bytes, n_commands),
                            n => n_bytes += n,
                        }
                    },
                    recv(commands) -> command => match command {
                        Ok(()) => n_commands += 1,
                        Err(_) => return (n_bytes, n_commands),
                    },
                }
            }
        });
        for round in 0..rounds {
            match round % 3 {
                0 => commands_tx.send(()).unwrap(),
                1 => peer.write_all(b"bytes").unwrap(),
                // Both at once.
                _ => scope(|s| {
                    s.go(|| peer.write_all(b"bytes").unwrap());
                    s.go(|| commands_tx.send(()).unwrap());
                }),
            }
        }
        drop(peer);
        // The commands come first: their channel is unbuffered.
        let (n_bytes, n_commands) = session.join().unwrap();
        assert_eq!(n_commands, rounds.div_ceil(3) + rounds / 3);
        assert_eq!(n_bytes, 5 * (rounds - rounds.div_ceil(3)));
    });
}

/// What was told is not forgotten while the waiter is busy, and what was read meanwhile is not
/// told.
#[test]
fn an_edge_before_or_during_the_wait_is_not_lost() {
    with_workers(|| {
        let (mut stream, mut peer) = UnixStream::pair().unwrap();
        for _ in 0..size(300, 5_000) {
            scope(|s| {
                s.go(|| {
                    (0..goby::random() % 3).for_each(|_| goby::yield_now());
                    peer.write_all(b"x").unwrap();
                });
                assert!(comes!(stream.readable()));
                assert_eq!(stream.read(&mut [0; 2]).unwrap(), 1);
            });
            assert!(!is_now!(stream.readable()));
        }
    });
}

#[test]
fn the_end_and_every_limit_make_a_stream_readable() {
    with_workers(|| {
        let waits = |end: &dyn Fn(&Arc<UnixStream>, UnixStream)| {
            let (stream, peer) = UnixStream::pair().unwrap();
            let stream = Arc::new(stream);
            let ready = stream.readable();
            assert!(!is_now!(ready));
            let waiter = go(move || comes!(ready));
            pause(MOMENT);
            end(&stream, peer);
            assert!(waiter.join().unwrap());
            assert!(is_now!(stream.readable()), "it stays so");
            { &*stream }.read(&mut [0])
        };
        assert_eq!(waits(&|_, peer| drop(peer)).unwrap(), 0);
        assert_eq!(
            waits(&|stream, peer| {
                stream.close();
                drop(peer);
            })
            .unwrap_err()
            .kind(),
            ErrorKind::NotConnected
        );
        let (ctx, cancel) = Context::background().with_cancel();
        let (cancel, peers) = (parking_lot::Mutex::new(Some(cancel)), parking_lot::Mutex::new(Vec::new()));
        let result = waits(&|stream, peer| {
            peers.lock().push(peer);
            stream.set_context(Some(&ctx));
            cancel.lock().take().unwrap().cancel();
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        let result = waits(&|stream, peer| {
            peers.lock().push(peer);
            stream.set_read_deadline(Some(now() + Duration::from_millis(2)));
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

/// The other direction's limits are not its own.
#[test]
fn a_write_deadline_does_not_make_a_stream_readable() {
    with_workers(|| {
        let (stream, _peer) = UnixStream::pair().unwrap();
        let ready = stream.readable();
        stream.set_write_deadline(Some(now()));
        pause(MOMENT);
        assert!(!is_now!(ready) && !is_now!(stream.readable()));
        assert!(is_now!(stream.writable()));
        // A deadline that is past and then lifted leaves nothing behind.
        stream.set_read_deadline(Some(now()));
        assert!(is_now!(ready) && is_now!(stream.readable()));
        stream.set_read_deadline(None);
        assert!(!is_now!(stream.readable()));
    });
}

#[test]
fn a_stream_is_writable_when_its_peer_has_read() {
    with_workers(|| {
        let (mut stream, mut peer) = pair();
        assert!(is_now!(stream.writable()));
        // Fills it: the last write takes what there is room for, and the next would wait.
        while is_now!(stream.writable()) {
            stream.set_write_deadline(Some(now() + Duration::from_millis(20)));
            if stream.write(&[0; 65536]).is_err() {
                stream.set_write_deadline(None);
                break;
            }
            stream.set_write_deadline(None);
        }
        let reader = go(move || {
            pause(MOMENT);
            std::io::copy(&mut peer, &mut std::io::sink()).unwrap()
        });
        assert!(comes!(stream.writable()));
        assert!(stream.write(&[0]).is_ok());
        drop(stream);
        reader.join().unwrap();
    });
}

#[test]
fn listeners_and_datagram_sockets_are_cases_too() {
    with_workers(|| {
        let (listener, addr) = listen();
        assert!(!is_now!(listener.acceptable()));
        let clients = [(); 2].map(|()| TcpStream::connect(addr).unwrap());
        for client in &clients {
            assert!(comes!(listener.acceptable()));
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
        assert!(!is_now!(listener.acceptable()));
        let ready = listener.acceptable();
        listener.close();
        assert!(is_now!(ready));

        let socket = UdpSocket::bind(LOCAL).unwrap();
        let to = socket.local_addr().unwrap();
        for _ in 0..3 {
            assert!(!is_now!(socket.readable()));
            socket.send_to(b"a", to).unwrap();
            socket.send_to(b"b", to).unwrap();
            for _ in 0..2 {
                assert!(comes!(socket.readable()));
                assert_eq!(socket.recv(&mut [0]).unwrap(), 1);
            }
        }
    });
}

/// Each is told; one gets the byte, and the others wait on.
#[test]
fn all_that_wait_for_one_stream_are_told() {
    with_workers(|| {
        let (stream, mut peer) = UnixStream::pair().unwrap();
        let told = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..5 {
                s.go(|| {
                    assert!(comes!(stream.readable()));
                    told.fetch_add(1, Ordering::Relaxed);
                });
            }
            pause(MOMENT);
            peer.write_all(b"x").unwrap();
        });
        assert_eq!(told.into_inner(), 5);
    });
}

/// A future that polls the stream and a select do not take the edge from each other.
#[test]
fn a_parked_read_and_a_select_are_both_told() {
    with_workers(|| {
        let (stream, mut peer) = UnixStream::pair().unwrap();
        scope(|s| {
            let selecting = s.go(|| comes!(stream.readable()));
            pause(MOMENT);
            let reading = s.go(|| stream.peek(&mut [0]));
            let polling = s.go(|| goby::block_on(std::future::poll_fn(|cx| stream.poll_peek(cx, &mut [0]))));
            pause(MOMENT);
            peer.write_all(b"x").unwrap();
            assert!(selecting.join().unwrap());
            assert_eq!(reading.join().unwrap().unwrap(), 1);
            assert_eq!(polling.join().unwrap().unwrap(), 1);
        });
    });
}

#[test]
fn a_channel_that_is_dropped_leaves_nothing_behind() {
    with_workers(|| {
        let (mut stream, mut peer) = UnixStream::pair().unwrap();
        for _ in 0..100 {
            drop(stream.readable());
        }
        peer.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 1);
        let (ready, writable) = (stream.readable(), stream.writable());
        drop(stream);
        assert!(is_now!(ready) && is_now!(writable), "the stream is gone");
    });
}

/// The worker whose poller knew the socket has gone; the channel is still told.
#[test]
fn a_runtime_that_is_dropped_takes_no_readiness_with_it() {
    let (stream, mut peer) = UnixStream::pair().unwrap();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let ready = runtime.run(|| stream.readable());
    drop(runtime);
    assert!(!is_now!(ready));
    peer.write_all(b"x").unwrap();
    assert!(comes!(ready));
    assert!(is_now!(stream.readable()));
}
