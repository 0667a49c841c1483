//! Peers that reset, half-close, truncate and stall: each ends as one error, in time, and leaves
//! neither a goroutine nor a descriptor.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use goby::net::TcpStream;
use goby::{Context, go, now, num_goroutines, select};

use super::close::n_descriptors;
use super::listen;
use crate::support::{MOMENT, PATIENCE, pause, rerun_alone, wait_until, with_workers};

/// A stream of goby and its peer, which is std's, so that nothing of goby answers for it.
fn hostile_pair() -> (TcpStream, std::net::TcpStream) {
    let (listener, addr) = listen();
    let peer = std::net::TcpStream::connect(addr).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_deadline(Some(now() + PATIENCE));
    (stream, peer)
}

fn reset(peer: std::net::TcpStream) {
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
}

fn write_on(mut stream: &TcpStream) -> io::Result<()> {
    loop {
        stream.write_all(&[0; 65536])?;
    }
}

#[track_caller]
fn assert_kind<T: Debug>(result: io::Result<T>, kinds: &[ErrorKind]) {
    let error = result.unwrap_err();
    assert!(kinds.contains(&error.kind()), "{error:?}");
}

#[test]
fn hostile_peers_end_as_one_error_and_leave_nothing() {
    if !rerun_alone("net::hostile::hostile_peers_end_as_one_error_and_leave_nothing") {
        return;
    }
    with_workers(|| {
        drop(hostile_pair());
        let (descriptors, goroutines) = (n_descriptors(), num_goroutines());
        for _ in 0..10 {
            resets();
            half_closes();
            truncates();
            stalls();
        }
        wait_until("the descriptors to be closed", || n_descriptors() <= descriptors);
        wait_until("the goroutines to end", || num_goroutines() <= goroutines);
    });
}

fn resets() {
    // A read that is parked, one that comes later, a write, and one that waits in a select.
    let (mut stream, peer) = hostile_pair();
    let reader = go(move || (stream.read(&mut [0]), stream));
    pause(MOMENT);
    reset(peer);
    let (result, mut stream) = reader.join().unwrap();
    assert_kind(result, &[ErrorKind::ConnectionReset]);
    assert_kind(stream.write_all(&[0]), &[ErrorKind::BrokenPipe, ErrorKind::ConnectionReset]);

    let (stream, peer) = hostile_pair();
    let writer = go(move || write_on(&stream));
    pause(MOMENT);
    reset(peer);
    assert_kind(writer.join().unwrap(), &[ErrorKind::ConnectionReset, ErrorKind::BrokenPipe]);

    let (mut stream, peer) = hostile_pair();
    let selecting = go(move || {
        select! {
            recv(stream.readable()) -> _ => stream.read(&mut [0]),
            default(PATIENCE) => panic!("nothing is told"),
        }
    });
    pause(MOMENT);
    reset(peer);
    assert_kind(selecting.join().unwrap(), &[ErrorKind::ConnectionReset]);
}

fn half_closes() {
    let (mut stream, mut peer) = hostile_pair();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    stream.write_all(b"still open").unwrap();
    drop(stream);
    let mut all = String::new();
    peer.read_to_string(&mut all).unwrap();
    assert_eq!(all, "still open");
}

fn truncates() {
    let (mut stream, mut peer) = hostile_pair();
    let reader = go(move || stream.read_exact(&mut [0; 10]));
    peer.write_all(b"12345").unwrap();
    drop(peer);
    assert_kind(reader.join().unwrap(), &[ErrorKind::UnexpectedEof]);
}

fn stalls() {
    let limit = Duration::from_millis(5);
    let (mut stream, _peer) = hostile_pair();
    let start = now();
    stream.set_deadline(Some(start + limit));
    assert_kind(stream.read(&mut [0]), &[ErrorKind::TimedOut]);
    assert!(start.elapsed() >= limit);

    let (stream, _peer) = hostile_pair();
    let start = now();
    stream.set_deadline(Some(start + limit));
    assert_kind(write_on(&stream), &[ErrorKind::TimedOut]);
    assert!(start.elapsed() >= limit);

    let (mut stream, _peer) = hostile_pair();
    let (ctx, _cancel) = Context::background().with_timeout(limit);
    stream.set_context(Some(&ctx));
    assert_kind(stream.read(&mut [0]), &[ErrorKind::TimedOut]);
    let (ctx, cancel) = Context::background().with_cancel();
    stream.set_context(Some(&ctx));
    let writer = go(move || write_on(&stream));
    pause(MOMENT);
    cancel.cancel();
    assert_kind(writer.join().unwrap(), &[ErrorKind::ConnectionAborted]);
}
