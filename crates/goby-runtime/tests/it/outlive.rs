//! What outlives its runtime: it does nothing any more, and does no harm.

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use goby_runtime::{Direction, Source, Timer, go, now, spawn};

use crate::support::{leaky_runtime, pause, runtime};

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
        for timer in &timers {
            timer.start(now());
            timer.stop();
            timer.start(now() + Duration::from_millis(1));
        }
        pause(Duration::from_millis(30));
        drop(timers);
        assert_eq!(fired.load(Ordering::SeqCst), 0);
    }
}

/// The socket itself lives on; a second one, made afterwards, may have the numbers of what is gone.
#[test]
fn a_socket() {
    for _ in 0..20 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (first, second) = (runtime(1), runtime(1));
        let source = first.run(|| {
            let source = Source::new(ours);
            assert!(source.wait(Direction::Read, Some(now())).is_err());
            source
        });
        drop(first);
        let third = runtime(1);
        drop(source);
        // The poller that may have got the old one's number works.
        let (ours, _open) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let source = Source::new(ours);
        third.run(|| {
            assert!(source.wait(Direction::Write, Some(now() + Duration::from_secs(60))).is_ok());
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
        // Pending for ever, or told that it was cancelled; not ready with a value.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            pin!(&mut task).poll(&mut Context::from_waker(Waker::noop()))
        }));
        assert!(!matches!(polled, Ok(Poll::Ready(()))));
        drop(task);
    }
}

/// A goroutine that was parked in a runtime that is gone can still be unparked, by a waker and by a gate.
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
