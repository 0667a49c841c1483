//! What outlives its runtime: timers fire, sockets work, and other objects do no harm.

use std::future::Future;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use goby_runtime::{Decision, Direction, Gate, Source, Timer, WaitReason, go, now, spawn};

use crate::support::{PATIENCE, leaky_runtime, pause, runtime, wait_until};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_timer() {
    for workers in [1, 2] {
        let fired = Arc::new(AtomicUsize::new(0));
        let runtime = runtime(workers);
        let timers: Vec<_> = runtime.run(|| {
            (0..10)
                .map(|i| {
                    let fired = fired.clone();
                    let timer = Timer::new(move |_| {
                        fired.fetch_add(1, Ordering::SeqCst);
                    });
                    if i % 2 == 0 {
                        timer.start(now() + Duration::from_millis(20));
                    }
                    timer
                })
                .collect()
        });
        drop(runtime);
        wait_until("those that ran to fire", || fired.load(Ordering::SeqCst) == 5);
        for timer in &timers {
            timer.start(now() + HOUR);
            assert!(timer.stop());
            timer.start(now() + Duration::from_millis(1));
        }
        wait_until("all to fire", || fired.load(Ordering::SeqCst) == 15);
        timers[0].start_periodic(now(), Duration::from_micros(100));
        wait_until("one to fire again and again", || fired.load(Ordering::SeqCst) > 20);
        // Started while the thread that fires timers waits for a later one.
        timers[1].start(now() + HOUR);
        timers[0].stop();
        let before = fired.load(Ordering::SeqCst);
        timers[2].start(now() + Duration::from_millis(1));
        wait_until("one to fire", || fired.load(Ordering::SeqCst) > before);
        drop(timers);
    }
}

/// A goroutine that waits with a deadline in a runtime that has ended takes nothing from goroutines
/// that still run.
#[test]
fn a_sleeper() {
    let turn = Arc::new(Gate::new(()));
    let runtime = leaky_runtime(1);
    let theirs = turn.clone();
    runtime.go(move || theirs.wait(WaitReason::CondWait, Some(now() + HOUR), |(), _| Decision::<()>::Wait(0)));
    wait_until("it to wait", || turn.with(|(), waiters| !waiters.is_empty()));
    drop(runtime);
    assert!(turn.with(|(), waiters| waiters.is_empty()));
}

/// Reads a byte, and waits as long as there is none; returns how many it has read.
fn reads_one(source: &Arc<Source<UnixStream>>, deadline: Option<Instant>) -> impl FnOnce() -> usize + Send + use<> {
    let source = source.clone();
    move || loop {
        let edges = source.edges(Direction::Read);
        match source.get_ref().read(&mut [0; 1]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                source.wait(Direction::Read, edges, deadline).unwrap();
            }
            read => return read.unwrap(),
        }
    }
}

/// A wait goes on while the runtime where the socket was first waited for is dropped.
#[test]
fn a_socket_that_is_waited_for() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (first, second) = (runtime(1), runtime(1));
    let source = Arc::new(Source::new(ours));
    first.run(|| assert!(source.wait(Direction::Read, source.edges(Direction::Read), Some(now())).is_err()));
    let goroutine = second.go(reads_one(&source, None));
    let thread = std::thread::spawn(reads_one(&source, None));
    pause(Duration::from_millis(10));
    drop(first);
    pause(Duration::from_millis(10));
    theirs.write_all(b"ab").unwrap();
    assert_eq!((goroutine.join().unwrap(), thread.join().unwrap()), (1, 1));
    // And later, by a future.
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(
        source.poll_ready(Direction::Read, source.edges(Direction::Read), &mut cx),
        Poll::Pending | Poll::Ready(Ok(()))
    ));
}

/// The same, but the runtime is dropped while they look whether they have to wait: one of them may
/// take the edge that tells both.
#[test]
fn a_socket_that_is_about_to_be_waited_for() {
    for _ in 0..300 {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let first = runtime(1);
        let source = Arc::new(Source::new(ours));
        first.run(|| assert!(source.wait(Direction::Read, source.edges(Direction::Read), Some(now())).is_err()));
        let readers = [(); 2].map(|()| std::thread::spawn(reads_one(&source, Some(now() + PATIENCE))));
        drop(first);
        theirs.write_all(b"ab").unwrap();
        readers.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap(), 1));
    }
}

/// The socket itself still works. A second one, made afterwards, may have the descriptor numbers of
/// closed files.
#[test]
fn a_socket() {
    for _ in 0..20 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (first, second) = (runtime(1), runtime(1));
        let source = first.run(|| {
            let source = Source::new(ours);
            assert!(source.wait(Direction::Read, source.edges(Direction::Read), Some(now())).is_err());
            source
        });
        drop(first);
        let third = runtime(1);
        drop(source);
        // The poller that may have the old one's number works.
        let (ours, _open) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let source = Source::new(ours);
        third.run(|| {
            assert!(source.wait(Direction::Write, 0, Some(now() + Duration::from_secs(60))).is_ok());
        });
        drop((second, theirs));
    }
}

#[test]
fn a_future_and_its_waker() {
    for workers in [1, 2] {
        let runtime = runtime(workers);
        let (give, wakers) = mpsc::channel::<Waker>();
        let dropped = Arc::new(());
        let theirs = dropped.clone();
        let task = runtime.run(move || {
            spawn(std::future::poll_fn(move |cx| {
                let _kept = &theirs;
                give.send(cx.waker().clone()).unwrap();
                Poll::<()>::Pending
            }))
        });
        let waker = wakers.recv().unwrap();
        drop(runtime);
        waker.wake_by_ref();
        waker.wake();
        assert!(!task.is_finished() || Arc::strong_count(&dropped) == 1);
        let mut task = Box::pin(task);
        // Pending forever, or told that it was canceled; not ready with a value.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            pin!(&mut task).poll(&mut Context::from_waker(Waker::noop()))
        }));
        assert!(!matches!(polled, Ok(Poll::Ready(()))));
        drop(task);
    }
}

/// A goroutine that was parked in a dropped runtime can still be unparked, by a waker and by a
/// gate.
#[test]
fn a_parked_goroutine() {
    let runtime = leaky_runtime(2);
    let (give, wakers) = mpsc::channel::<Waker>();
    let waiting = runtime.go(move || {
        goby_runtime::block_on(std::future::poll_fn(move |cx| {
            give.send(cx.waker().clone()).unwrap();
            Poll::<()>::Pending
        }))
    });
    let waker = wakers.recv().unwrap();
    runtime.run(|| pause(Duration::from_millis(2)));
    drop(runtime);
    waker.wake_by_ref();
    waker.wake();
    assert!(!waiting.is_finished());
    drop(waiting);
    // The default runtime is another one and works.
    assert_eq!(go(|| 7).join().unwrap(), 7);
}
