//! What ends a wait on a socket: deadlines and contexts, set before the wait or during it.

use std::error::Error;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_io::AsyncRead;
use goby::context::ContextError;
use goby::net::{TcpStream, UnixStream};
use goby::{Context, block_on, go, now, scope, spawn};

use super::{LOCAL, listen, pair};
use crate::support::{MOMENT, PATIENCE, pause, size, with_workers};

/// An address where connecting neither succeeds nor fails: its listener's queue is full and nobody
/// accepts. Also returns the sockets that keep the queue full.
pub(super) fn unresponsive() -> (SocketAddr, impl Sized) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(LOCAL).into()).unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    loop {
        match TcpStream::connect_timeout(addr, Duration::from_millis(50)) {
            Ok(stream) => queued.push(stream),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                return (addr, (socket, queued));
            }
        }
    }
}

#[track_caller]
pub(super) fn assert_stopped_by<T: std::fmt::Debug>(result: io::Result<T>, by: ContextError) {
    let error = result.unwrap_err();
    let kind = match by {
        ContextError::Canceled => ErrorKind::ConnectionAborted,
        ContextError::DeadlineExceeded => ErrorKind::TimedOut,
    };
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(error.source().unwrap().downcast_ref(), Some(&by), "{error:?}");
    assert_eq!(error.to_string(), by.to_string());
}

#[track_caller]
pub(super) fn assert_timed_out<T: std::fmt::Debug>(result: io::Result<T>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
    assert_eq!(error.to_string(), "i/o timeout");
}

/// Fills the buffers of the system and the peer, so that the next write waits.
pub(super) fn fill(mut stream: &TcpStream) {
    loop {
        // Each write has some time: on a busy machine the system may take a while to pass on what
        // it has.
        stream.set_write_deadline(Some(now() + Duration::from_millis(20)));
        if stream.write(&[0; 65536]).is_err() {
            break;
        }
    }
    stream.set_write_deadline(None);
}

/// Writes until that fails. The system may find room now and then, even in a stream that is full
/// and that nobody reads.
fn write_on(mut stream: &TcpStream) -> io::Result<usize> {
    loop {
        // It does not matter how much it takes.
        let _ = stream.write(&[0; 65536])?;
    }
}

#[test]
fn a_read_deadline_ends_a_parked_read_and_later_ones() {
    with_workers(|| {
        let (mut client, mut server) = pair();
        let start = now();
        client.set_read_deadline(Some(start + Duration::from_millis(5)));
        assert_timed_out(client.read(&mut [0]));
        assert!(start.elapsed() >= Duration::from_millis(5));
        // Also when there is something to read.
        server.write_all(b"x").unwrap();
        assert_timed_out(client.read(&mut [0]));
        client.set_read_deadline(None);
        assert_eq!(client.read(&mut [0]).unwrap(), 1);
    });
}

#[test]
fn a_write_deadline_ends_a_parked_write_and_spares_reads() {
    with_workers(|| {
        let (mut client, mut server) = pair();
        fill(&client);
        client.set_write_deadline(Some(now() + Duration::from_millis(5)));
        assert_timed_out(write_on(&client));
        server.write_all(b"x").unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 1);
    });
}

#[test]
fn a_deadline_that_is_set_meanwhile_ends_a_parked_read() {
    with_workers(|| {
        let (client, _server) = pair();
        let client = Arc::new(client);
        for parked in [false, true] {
            client.set_deadline(None);
            let reader = go({
                let client = client.clone();
                move || { &*client }.read(&mut [0])
            });
            if parked {
                pause(MOMENT);
            }
            client.set_deadline(Some(now()));
            assert_timed_out(reader.join().unwrap());
        }
    });
}

#[test]
fn a_deadline_that_is_moved_to_later_lets_a_parked_read_wait_on() {
    with_workers(|| {
        let (client, mut server) = pair();
        let client = Arc::new(client);
        client.set_read_deadline(Some(now() + Duration::from_millis(100)));
        let reader = go({
            let client = client.clone();
            move || { &*client }.read(&mut [0])
        });
        client.set_read_deadline(Some(now() + PATIENCE));
        pause(Duration::from_millis(150));
        assert!(!reader.is_finished());
        server.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 1);
    });
}

/// Reader and writer are parked on one stream while a third goroutine moves their deadlines: each
/// must see each move.
#[test]
fn no_deadline_is_missed_when_reader_and_writer_are_parked() {
    with_workers(|| {
        let (client, _server) = pair();
        fill(&client);
        let rounds = size(300, 5_000);
        let (reads, writes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        scope(|s| {
            s.go(|| {
                while reads.load(Ordering::Acquire) < rounds {
                    assert_timed_out({ &client }.read(&mut [0]));
                    client.set_read_deadline(None);
                    reads.fetch_add(1, Ordering::Release);
                }
            });
            s.go(|| {
                while writes.load(Ordering::Acquire) < rounds {
                    assert_timed_out(write_on(&client));
                    client.set_write_deadline(None);
                    writes.fetch_add(1, Ordering::Release);
                }
            });
            for round in 0..rounds {
                client.set_read_deadline(Some(now()));
                client.set_write_deadline(Some(now()));
                while reads.load(Ordering::Acquire) <= round || writes.load(Ordering::Acquire) <= round {
                    goby::yield_now();
                }
            }
        });
    });
}

#[test]
fn a_context_ends_a_parked_read_and_later_ones_when_it_is_canceled() {
    with_workers(|| {
        for parked in [false, true] {
            let (client, mut server) = pair();
            let client = Arc::new(client);
            let (ctx, cancel) = Context::background().with_cancel();
            client.set_context(Some(&ctx));
            let reader = go({
                let client = client.clone();
                move || { &*client }.read(&mut [0])
            });
            if parked {
                pause(MOMENT);
            }
            cancel.cancel();
            assert_stopped_by(reader.join().unwrap(), ContextError::Canceled);
            // No byte that comes afterwards is read until the context is removed.
            server.write_all(b"x").unwrap();
            assert_stopped_by({ &*client }.read(&mut [0]), ContextError::Canceled);
            client.set_context(None);
            assert_eq!({ &*client }.read(&mut [0]).unwrap(), 1);
        }
    });
}

#[test]
fn a_contexts_deadline_ends_a_parked_write() {
    with_workers(|| {
        let (client, _server) = pair();
        fill(&client);
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(5));
        client.set_context(Some(&ctx));
        assert_stopped_by(write_on(&client), ContextError::DeadlineExceeded);
    });
}

#[test]
fn one_context_ends_reads_and_writes_of_many_streams() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let goroutines: Vec<_> = (0..50)
            .flat_map(|_| {
                let (client, server) = pair();
                fill(&client);
                client.set_context(Some(&ctx));
                let client = Arc::new(client);
                let reader = client.clone();
                [go(move || (Some(server), { &*reader }.read(&mut [0]))), go(move || (None, write_on(&client)))]
            })
            .collect();
        cancel.cancel();
        for goroutine in goroutines {
            assert_stopped_by(goroutine.join().unwrap().1, ContextError::Canceled);
        }
    });
}

#[test]
fn a_context_that_was_replaced_has_no_power() {
    with_workers(|| {
        let (mut client, mut server) = pair();
        let (old, cancel_old) = Context::background().with_cancel();
        let (new, _cancel_new) = Context::background().with_cancel();
        client.set_context(Some(&old));
        client.set_context(Some(&new));
        cancel_old.cancel();
        server.write_all(b"x").unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 1);
        client.set_context(Some(&old));
        assert_stopped_by(client.read(&mut [0]), ContextError::Canceled);
    });
}

#[test]
fn a_context_is_lifted_while_it_is_canceled() {
    with_workers(|| {
        let (client, mut server) = pair();
        for _ in 0..size(300, 5_000) {
            let (ctx, cancel) = Context::background().with_cancel();
            client.set_context(Some(&ctx));
            let canceler = go(move || cancel.cancel());
            goby::yield_now();
            client.set_context(None);
            // The canceled context must not affect this read any more.
            let reader = scope(|s| {
                let reader = s.go(|| { &client }.read(&mut [0]));
                canceler.join().unwrap();
                server.write_all(b"x").unwrap();
                reader.join().unwrap()
            });
            assert_eq!(reader.unwrap(), 1);
        }
    });
}

#[test]
fn accepting_ends_by_deadline_and_by_context() {
    with_workers(|| {
        let (listener, addr) = listen();
        listener.set_deadline(Some(now() + MOMENT));
        assert_timed_out(listener.accept());
        listener.set_deadline(None);

        let (ctx, cancel) = Context::background().with_cancel();
        listener.set_context(Some(&ctx));
        let result = scope(|s| {
            let accepting = s.go(|| listener.accept());
            pause(MOMENT);
            cancel.cancel();
            accepting.join().unwrap()
        });
        assert_stopped_by(result, ContextError::Canceled);

        listener.set_context(None);
        let client = TcpStream::connect(addr).unwrap();
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    });
}

#[test]
fn connecting_ends_by_timeout_and_by_context() {
    with_workers(|| {
        let (addr, _full) = unresponsive();
        let start = now();
        let timeout = Duration::from_millis(20);
        assert_timed_out(TcpStream::connect_timeout(addr, timeout));
        assert!(start.elapsed() >= timeout);

        let (ctx, cancel) = Context::background().with_cancel();
        let connecting = go(move || TcpStream::connect_ctx(&ctx, addr));
        pause(MOMENT);
        cancel.cancel();
        assert_stopped_by(connecting.join().unwrap(), ContextError::Canceled);

        let (ctx, _cancel) = Context::background().with_timeout(timeout);
        assert_stopped_by(TcpStream::connect_ctx(&ctx, addr), ContextError::DeadlineExceeded);
    });
}

#[test]
fn a_connection_outlives_the_context_it_was_made_under() {
    with_workers(|| {
        let (listener, addr) = listen();
        let (ctx, cancel) = Context::background().with_cancel();
        let mut client = TcpStream::connect_ctx(&ctx, addr).unwrap();
        cancel.cancel();
        client.write_all(b"x").unwrap();
        assert_eq!(listener.accept().unwrap().0.read(&mut [0]).unwrap(), 1);
        assert_stopped_by(TcpStream::connect_ctx(&ctx, addr), ContextError::Canceled);
    });
}

#[test]
fn a_polled_read_ends_at_its_deadline() {
    with_workers(|| {
        let (client, _server) = pair();
        let read = || block_on(poll_fn(|cx| Pin::new(&mut &client).poll_read(cx, &mut [0])));
        let start = now();
        client.set_read_deadline(Some(start + Duration::from_millis(5)));
        assert_timed_out(read());
        assert!(start.elapsed() >= Duration::from_millis(5));
        assert_timed_out(read());

        // Moved to later, then to earlier, while it waits.
        client.set_read_deadline(Some(now() + Duration::from_millis(100)));
        scope(|s| {
            let reader = s.go(read);
            client.set_read_deadline(Some(now() + PATIENCE));
            pause(Duration::from_millis(150));
            assert!(!reader.is_finished());
            client.set_read_deadline(Some(now() + MOMENT));
            assert_timed_out(reader.join().unwrap());
        });
    });
}

#[test]
fn a_polled_read_ends_when_its_context_is_done() {
    with_workers(|| {
        let (client, _server) = pair();
        let (ctx, cancel) = Context::background().with_cancel();
        client.set_context(Some(&ctx));
        let reader = spawn(async move {
            let result = poll_fn(|cx| Pin::new(&mut &client).poll_read(cx, &mut [0])).await;
            let again = poll_fn(|cx| Pin::new(&mut &client).poll_read(cx, &mut [0])).await;
            (result, again)
        });
        pause(MOMENT);
        cancel.cancel();
        let (result, again) = reader.join().unwrap();
        assert_stopped_by(result, ContextError::Canceled);
        assert_stopped_by(again, ContextError::Canceled);
    });
}

/// A limit changes while one goroutine is parked and another polls: both look at it, and neither
/// spins forever.
#[test]
fn a_parked_write_and_a_polled_read_share_an_interrupt() {
    with_workers(|| {
        let (client, mut server) = pair();
        fill(&client);
        scope(|s| {
            let writer = s.go(|| write_on(&client));
            let reader = s.go(|| block_on(poll_fn(|cx| Pin::new(&mut &client).poll_read(cx, &mut [0]))));
            pause(MOMENT);
            // The reader's wait goes on, the writer's does not.
            client.set_read_deadline(Some(now() + PATIENCE));
            client.set_write_deadline(Some(now()));
            assert_timed_out(writer.join().unwrap());
            server.write_all(b"x").unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), 1);
        });
    });
}

/// A read with no room has nothing to wait for, whatever was read before.
#[test]
fn a_read_into_nothing_returns_at_once() {
    /// Whether every way to read into nothing returns 0, or fails at a deadline.
    fn check<R>(name: &str, reader: &R)
    where
        for<'a> &'a R: Read,
    {
        let mut of_empty = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
        assert_eq!({ reader }.read(&mut []).unwrap(), 0, "{name}: read");
        assert_eq!({ reader }.read_vectored(&mut []).unwrap(), 0, "{name}: no buffers");
        assert_eq!({ reader }.read_vectored(&mut of_empty).unwrap(), 0, "{name}: empty buffers");
    }
    with_workers(|| {
        let (stream, mut peer) = pair();
        let (unix, mut unix_peer) = UnixStream::pair().unwrap();
        let (reader, mut writer) = goby::io::pipe().unwrap();
        let late = Some(now() + PATIENCE);
        stream.set_read_deadline(late);
        unix.set_read_deadline(late);
        reader.set_read_deadline(late);
        // With nothing there, and after a read that has found less than there was room for.
        for round in 0..2 {
            check("tcp", &stream);
            check("unix", &unix);
            check("pipe", &reader);
            assert_eq!(stream.peek(&mut []).unwrap(), 0);
            assert_eq!(unix.peek(&mut []).unwrap(), 0);
            assert_eq!(block_on(poll_fn(|cx| Pin::new(&mut &stream).poll_read(cx, &mut []))).unwrap(), 0);
            assert_eq!(block_on(poll_fn(|cx| Pin::new(&mut &unix).poll_read(cx, &mut []))).unwrap(), 0);
            assert_eq!(block_on(poll_fn(|cx| stream.poll_peek(cx, &mut []))).unwrap(), 0);
            if round == 0 {
                peer.write_all(b"abc").unwrap();
                unix_peer.write_all(b"abc").unwrap();
                writer.write_all(b"abc").unwrap();
                assert_eq!({ &stream }.read(&mut [0; 9]).unwrap(), 3);
                assert_eq!({ &unix }.read(&mut [0; 9]).unwrap(), 3);
                assert_eq!({ &reader }.read(&mut [0; 9]).unwrap(), 3);
            }
        }
        // A limit that is reached comes first.
        stream.set_read_deadline(Some(now()));
        assert_timed_out({ &stream }.read(&mut []));
    });
}

/// Two contexts are set at the same time: one of them holds, whichever it is.
#[test]
fn of_two_contexts_that_are_set_at_once_one_holds() {
    for round in 0..size(2000, 20_000) {
        let (stream, _peer) = UnixStream::pair().unwrap();
        let (stream, ready) = (Arc::new(stream), Arc::new(AtomicUsize::new(0)));
        let (contexts, cancels): (Vec<_>, Vec<_>) = (0..2).map(|_| Context::background().with_cancel()).unzip();
        let setters = contexts.into_iter().map(|ctx| {
            let (stream, ready) = (stream.clone(), ready.clone());
            std::thread::spawn(move || {
                ready.fetch_add(1, Ordering::Relaxed);
                // Closer together than a barrier, which wakes one after the other.
                while ready.load(Ordering::Relaxed) < 2 {
                    std::hint::spin_loop();
                }
                stream.set_context(Some(&ctx));
            })
        });
        let setters: Vec<_> = setters.collect();
        setters.into_iter().for_each(|setter| setter.join().unwrap());
        stream.set_read_deadline(Some(now() + PATIENCE));
        let reader = go({
            let stream = stream.clone();
            move || { &*stream }.read(&mut [0])
        });
        let mut cancels: Vec<_> = cancels.into_iter().collect();
        if round % 2 == 0 {
            cancels.reverse();
        }
        cancels.into_iter().for_each(|cancel| cancel.cancel());
        assert_stopped_by(reader.join().unwrap(), ContextError::Canceled);
    }
}
