//! Objects that were made in a dropped runtime go on: timers fire, deadlines pass, sockets transfer
//! data.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use goby::context::{Cause, ContextError};
use goby::net::{TcpListener, TcpStream};
use goby::{Context, Runtime, diag, time};

use crate::support::{MOMENT, PATIENCE, rerun_alone, wait_until};

const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Makes an object in a runtime that is then dropped.
fn made_in_a_dropped_runtime<T: Send>(make: impl FnOnce() -> T + Send) -> T {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(make)
}

#[test]
fn a_timer_fires() {
    let receiver = made_in_a_dropped_runtime(|| time::after(MOMENT));
    receiver.recv_timeout(PATIENCE).unwrap();
    let timer = made_in_a_dropped_runtime(|| {
        let timer = time::Timer::new(PATIENCE);
        timer.receiver();
        timer
    });
    assert!(timer.reset(MOMENT));
    timer.receiver().recv_timeout(PATIENCE).unwrap();
    let ticker = made_in_a_dropped_runtime(|| time::Ticker::new(MOMENT));
    (0..3).for_each(|_| _ = ticker.receiver().recv_timeout(PATIENCE).unwrap());
}

#[test]
fn a_function_is_called_later() {
    let (called, was_called) = mpsc::channel();
    let later = made_in_a_dropped_runtime(|| {
        time::after_func(MOMENT, move || called.send(goby_runtime::current_id().is_some()).unwrap())
    });
    assert!(was_called.recv_timeout(PATIENCE).unwrap(), "in a goroutine");
    drop(later);
}

#[test]
fn a_context_ends() {
    let (ctx, _cancel) = made_in_a_dropped_runtime(|| Context::background().with_timeout(MOMENT));
    assert_eq!(time::sleep_ctx(&ctx, PATIENCE), Err(ContextError::DeadlineExceeded));
    assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
}

/// Its timer may come late, or not at all. A caller that asks is told by the clock, and from then
/// on so are all others.
#[test]
fn a_context_is_over_when_its_deadline_has_passed() {
    let cause: Cause = Arc::new(std::fmt::Error);
    let ask = || {
        let start = Instant::now();
        let (parent, _cancel) = Context::background().with_timeout_cause(MOMENT, cause.clone());
        let (child, _cancel_child) = parent.with_timeout(PATIENCE);
        let (grandchild, _cancel_grandchild) = child.with_cancel();
        // The loop stays within the time slice: the worker does not come to its timers.
        while grandchild.err().is_none() {
            assert!(start.elapsed() < PATIENCE);
            std::hint::spin_loop();
        }
        assert!(start.elapsed() >= MOMENT);
        assert_eq!(grandchild.err(), Some(ContextError::DeadlineExceeded));
        for ctx in [&parent, &child, &grandchild] {
            assert!(ctx.done().is_closed());
            assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &cause));
        }
    };
    made_in_a_dropped_runtime(ask);
    ask();
}

/// A peer that sends what it is told to.
fn peer() -> (mpsc::Sender<&'static [u8]>, SocketAddr) {
    let listener = std::net::TcpListener::bind(LOCAL).unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel::<&[u8]>();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        told.iter().for_each(|text| stream.write_all(text).unwrap());
    });
    (tell, addr)
}

/// A stream that has waited in a runtime that was dropped since.
fn stream_that_has_waited(addr: SocketAddr) -> TcpStream {
    made_in_a_dropped_runtime(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_deadline(Some(goby::now() + Duration::from_millis(1)));
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        stream.set_read_deadline(None);
        stream
    })
}

#[test]
fn a_stream_reads() {
    let (tell, addr) = peer();
    let mut stream = stream_that_has_waited(addr);
    let mut buffer = [0; 10];
    thread::scope(|s| {
        s.spawn(|| {
            thread::sleep(MOMENT);
            tell.send(b"a").unwrap();
        });
        assert_eq!(stream.read(&mut buffer).unwrap(), 1);
    });
    // In a runtime that lives.
    let reader = goby::go(move || stream.read(&mut [0; 10]).unwrap());
    thread::sleep(MOMENT);
    tell.send(b"bc").unwrap();
    assert_eq!(reader.join().unwrap(), 2);
}

#[test]
fn a_stream_has_deadlines() {
    let (_tell, addr) = peer();
    let mut stream = stream_that_has_waited(addr);
    let start = Instant::now();
    stream.set_read_deadline(Some(goby::now() + MOMENT));
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() < PATIENCE);
    let (ctx, _cancel) = made_in_a_dropped_runtime(|| Context::background().with_timeout(MOMENT));
    stream.set_read_deadline(None);
    stream.set_context(Some(&ctx));
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_listener_accepts() {
    let listener = made_in_a_dropped_runtime(|| {
        let listener = TcpListener::bind(LOCAL).unwrap();
        listener.set_deadline(Some(goby::now() + Duration::from_millis(1)));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::TimedOut);
        listener.set_deadline(None);
        listener
    });
    let addr = listener.local_addr().unwrap();
    let client = thread::spawn(move || {
        thread::sleep(MOMENT);
        std::net::TcpStream::connect(addr).unwrap()
    });
    listener.accept().unwrap();
    client.join().unwrap();
}

/// Whoever waited in the dropped runtime waits for ever, and a limit that was lifted is over all
/// the same.
#[test]
fn a_stream_that_is_waited_for_in_a_dropped_runtime_waits_after_a_limit() {
    if !rerun_alone("outlive::a_stream_that_is_waited_for_in_a_dropped_runtime_waits_after_a_limit") {
        return;
    }
    let (tell, addr) = peer();
    let stream = Arc::new(TcpStream::connect(addr).unwrap());
    let waits = || diag::dump().to_string().contains("[IO wait]");
    let runtime = Runtime::builder().report_leaks(false).workers(1).build().unwrap();
    let reader = stream.clone();
    drop(runtime.go(move || (&*reader).read(&mut [0])));
    wait_until("it to wait", waits);
    drop(runtime);
    assert!(!waits());
    stream.set_read_deadline(Some(goby::now()));
    stream.set_read_deadline(None);
    let reader = goby::go(move || (&*stream).read(&mut [0; 10]).unwrap());
    wait_until("the other to wait", waits);
    tell.send(b"a").unwrap();
    assert_eq!(reader.join().unwrap(), 1);
}
