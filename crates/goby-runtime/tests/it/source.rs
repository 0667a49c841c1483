//! Sockets on the poller.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use goby_runtime::{Direction, Source, blocking, go, now};

use crate::support::{PATIENCE, pause, with_workers};

fn pair() -> (Source<UnixStream>, Source<UnixStream>) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (Source::new(a), Source::new(b))
}

/// Tries, and waits when it would block.
fn retry<T>(
    source: &Source<UnixStream>,
    direction: Direction,
    mut operation: impl FnMut(&mut &UnixStream) -> io::Result<T>,
) -> io::Result<T> {
    loop {
        let edges = source.edges(direction);
        match operation(&mut source.get_ref()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => source.wait(direction, edges, None)?,
            result => return result,
        }
    }
}

fn read_all(source: &Source<UnixStream>) -> Vec<u8> {
    let (mut received, mut buffer) = (Vec::new(), vec![0; 1000]);
    loop {
        match retry(source, Direction::Read, |socket| socket.read(&mut buffer)).unwrap() {
            0 => return received,
            n => received.extend_from_slice(&buffer[..n]),
        }
    }
}

fn write_all(source: &Source<UnixStream>, mut data: &[u8]) {
    while !data.is_empty() {
        let n = retry(source, Direction::Write, |socket| socket.write(data)).unwrap();
        data = &data[n..];
    }
}

/// Two had to wait. The first that is told of an edge may leave bytes for the other, so the other
/// is told as well, though it comes later.
#[test]
fn an_edge_is_for_all_who_tried_before_it() {
    with_workers(|| {
        let (a, b) = pair();
        assert!(a.wait(Direction::Read, a.edges(Direction::Read), Some(now())).is_err());
        let edges = a.edges(Direction::Read);
        write_all(&b, b"xy");
        for n in 1..=2 {
            a.wait(Direction::Read, edges, Some(now() + PATIENCE)).unwrap();
            assert_eq!(a.get_ref().read(&mut [0; 1]).unwrap(), 1, "reader {n}");
        }
        // Waiters that have tried since then wait for the next edge.
        assert!(a.wait(Direction::Read, a.edges(Direction::Read), Some(now())).is_err());
    });
}

/// Far more than the system buffers, so both sides wait many times; goroutines and plain threads at
/// either end.
#[test]
fn a_stream_of_bytes_arrives_complete() {
    with_workers(|| {
        for (sender_is_thread, receiver_is_thread) in [(false, false), (true, false), (false, true), (true, true)] {
            let (a, b) = pair();
            let data: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
            let sent = data.clone();
            let send = move || write_all(&a, &sent);
            let receive = move || read_all(&b);
            let sender = if sender_is_thread { go(move || blocking(send)) } else { go(send) };
            let receiver = if receiver_is_thread { go(move || blocking(receive)) } else { go(receive) };
            sender.join().unwrap();
            assert!(receiver.join().unwrap() == data, "bytes lost or out of order");
        }
    });
}

#[test]
fn many_sockets_wait_at_once() {
    with_workers(|| {
        let (ours, theirs): (Vec<_>, Vec<_>) = (0..100).map(|_| pair()).unzip();
        let readers: Vec<_> = theirs.into_iter().map(|source| go(move || read_all(&source))).collect();
        pause(Duration::from_millis(1));
        for (i, source) in ours.iter().enumerate().rev() {
            write_all(source, &[i as u8]);
        }
        drop(ours);
        for (i, reader) in readers.into_iter().enumerate() {
            assert_eq!(reader.join().unwrap(), [i as u8]);
        }
    });
}

#[test]
fn a_deadline_ends_a_wait_and_later_waits_work() {
    with_workers(|| {
        let (a, b) = pair();
        for time in [0, 1, 10] {
            let (start, time) = (now(), Duration::from_millis(time));
            let error = a.wait(Direction::Read, a.edges(Direction::Read), Some(start + time)).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::TimedOut, "deadline exceeded"));
            assert!(now() - start >= time);
        }
        let edges = a.edges(Direction::Read);
        write_all(&b, b"x");
        a.wait(Direction::Read, edges, Some(now() + Duration::from_secs(60))).unwrap();
        assert_eq!(a.get_ref().read(&mut [0; 9]).unwrap(), 1);
    });
}

#[test]
fn interrupting_ends_waits_of_both_directions_until_it_is_cleared() {
    let check_error = |error: io::Error| {
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::ConnectionAborted, "wait interrupted"));
    };
    with_workers(move || {
        let (a, b) = pair();
        let a = Arc::new(a);
        // Fill it, so that writing has to wait.
        while a.get_ref().write(&[0; 4096]).is_ok() {}
        let waits = [Direction::Read, Direction::Write].map(|direction| {
            let a = a.clone();
            go(move || {
                loop {
                    if let Err(error) = a.wait(direction, a.edges(direction), None) {
                        return error;
                    }
                }
            })
        });
        pause(Duration::from_millis(1));
        assert!(!waits[0].is_finished() && !waits[1].is_finished());
        a.interrupt();
        waits.into_iter().for_each(|wait| check_error(wait.join().unwrap()));
        check_error(a.wait(Direction::Read, a.edges(Direction::Read), None).unwrap_err());
        check_error(a.wait(Direction::Write, a.edges(Direction::Write), None).unwrap_err());
        a.clear_interrupt();
        let reader = go({
            let a = a.clone();
            move || retry(&a, Direction::Read, |socket| socket.read(&mut [0; 9])).unwrap()
        });
        write_all(&b, b"abc");
        assert_eq!(reader.join().unwrap(), 3);
    });
}

/// An event between the failing attempt and the wait is not missed: the edge is remembered.
#[test]
fn an_edge_before_the_wait_is_remembered() {
    with_workers(|| {
        for round in 0..200 {
            let (a, b) = pair();
            let reader = go(move || retry(&a, Direction::Read, |socket| socket.read(&mut [0; 9])).unwrap());
            if round % 2 == 0 {
                write_all(&b, b"x");
            } else {
                thread::spawn(move || write_all(&b, b"x"));
            }
            assert_eq!(reader.join().unwrap(), 1);
        }
    });
}

#[test]
fn futures_wait_for_sockets() {
    with_workers(|| {
        let (a, b) = pair();
        let mut context = Context::from_waker(Waker::noop());
        assert!(a.poll_ready(Direction::Read, a.edges(Direction::Read), &mut context).is_pending());
        let reader = go(move || {
            goby_runtime::block_on(std::future::poll_fn(|cx| {
                let mut buffer = [0; 9];
                loop {
                    let edges = a.edges(Direction::Read);
                    match a.get_ref().read(&mut buffer) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        result => return Poll::Ready(result.unwrap()),
                    }
                    match a.poll_ready(Direction::Read, edges, cx) {
                        Poll::Ready(result) => result.unwrap(),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }))
        });
        pause(Duration::from_millis(1));
        assert!(!reader.is_finished());
        write_all(&b, b"abcd");
        assert_eq!(reader.join().unwrap(), 4);
    });
}

/// The system uses descriptors again. A new socket must not get the edges of an old one with its
/// number.
#[test]
fn sockets_come_and_go() {
    with_workers(|| {
        for _ in 0..200 {
            let (a, b) = pair();
            let start = now();
            assert!(a.wait(Direction::Read, a.edges(Direction::Read), Some(start)).is_err());
            let reader = go(move || read_all(&a));
            write_all(&b, b"bye");
            drop(b);
            assert_eq!(reader.join().unwrap(), b"bye");
        }
    });
}
