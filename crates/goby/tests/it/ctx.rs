//! All calls that take a context. Each ends with its context while it waits, refuses a context that
//! is done already, and loses nothing to a cancellation that races with the event that it waits
//! for.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use goby::chan::{RecvCtxError, SendCtxError, bounded, never, unbounded};
use goby::context::ContextError;
use goby::rate::{Limiter, WaitError};
use goby::sync::{Barrier, Cond, Mutex, Once, OnceCell, RwLock, Semaphore, WaitGroup};
use goby::{Context, block_on_ctx, go, scope, spawn, time, yield_now};

use crate::support::{MOMENT, pause, race, size, wait_until, with_workers};

const CANCELED: ContextError = ContextError::Canceled;

/// Runs `wait` with a context that is canceled while it waits, and with one that is canceled
/// before.
fn ends_with_its_context(wait: impl Fn(&Context) -> Result<(), ContextError> + Sync) {
    let (ctx, cancel) = Context::background().with_cancel();
    scope(|s| {
        let waiter = s.go(|| wait(&ctx));
        yield_now();
        pause(MOMENT);
        assert!(!waiter.is_finished(), "it did not wait");
        cancel.cancel();
        assert_eq!(waiter.join().unwrap(), Err(CANCELED));
    });
    assert_eq!(wait(&ctx), Err(CANCELED));
    let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
    assert_eq!(wait(&ctx), Err(ContextError::DeadlineExceeded));
}

fn by_done<T>(result: Result<T, RecvCtxError>) -> Result<(), ContextError> {
    match result {
        Err(RecvCtxError::Done(error)) => Err(error),
        Err(RecvCtxError::Closed) => panic!("closed"),
        Ok(_) => Ok(()),
    }
}

#[test]
fn every_wait_ends_with_its_context() {
    with_workers(|| {
        let ((tx, rx), (full, _rx)) = (bounded::<u8>(0), bounded(1));
        full.send(1).unwrap();
        ends_with_its_context(|ctx| by_done(rx.recv_ctx(ctx)));
        ends_with_its_context(|ctx| by_done(never::<u8>().recv_ctx(ctx)));
        for end in [&tx, &full] {
            ends_with_its_context(|ctx| match end.send_ctx(ctx, 7) {
                Err(SendCtxError::Done(7, error)) => Err(error),
                other => panic!("{other:?}"),
            });
        }
        ends_with_its_context(|ctx| block_on_ctx(ctx, pending()));
        ends_with_its_context(|ctx| {
            let (ended, end) = bounded::<()>(0);
            let mut task = spawn(async move { _ = end.recv_async().await });
            let result = block_on_ctx(ctx, &mut task);
            // The task is still there, and can be joined.
            drop(ended);
            task.join().unwrap();
            result
        });

        let (mutex, lock, cond) = (Mutex::new(true), RwLock::new(()), Cond::new());
        let (held, writer) = (mutex.lock(), lock.write());
        ends_with_its_context(|ctx| mutex.lock_ctx(ctx).map(drop));
        ends_with_its_context(|ctx| lock.read_ctx(ctx).map(drop));
        ends_with_its_context(|ctx| lock.write_ctx(ctx).map(drop));
        drop((held, writer));
        ends_with_its_context(|ctx| cond.wait_ctx(mutex.lock(), ctx).1);
        ends_with_its_context(|ctx| cond.wait_while_ctx(mutex.lock(), ctx, |holds| *holds).1);

        let (once, cell) = (Once::new(), OnceCell::new());
        once.call_once(|| ends_with_its_context(|ctx| once.call_once_ctx(ctx, || ())));
        cell.get_or_init(|| ends_with_its_context(|ctx| cell.get_or_init_ctx(ctx, || ()).map(drop)));

        let wg = WaitGroup::new();
        wg.add(1);
        ends_with_its_context(|ctx| wg.wait_ctx(ctx));
        let (semaphore, barrier) = (Semaphore::new(1), Barrier::new(2));
        let _permit = semaphore.try_acquire(1);
        ends_with_its_context(|ctx| semaphore.acquire(ctx, 1).map(drop));
        ends_with_its_context(|ctx| semaphore.acquire(ctx, 2).map(drop));
        ends_with_its_context(|ctx| barrier.wait_ctx(ctx).map(drop));

        ends_with_its_context(|ctx| time::sleep_ctx(ctx, std::time::Duration::from_secs(3600)));
        let limiter = Limiter::per_second(1e-3, 1);
        assert!(limiter.allow());
        ends_with_its_context(|ctx| match limiter.wait(ctx) {
            Err(WaitError::Context(error)) => Err(error),
            // It knows beforehand that the deadline will come first.
            Err(WaitError::ExceedsDeadline { .. }) => Err(ContextError::DeadlineExceeded),
            other => panic!("{other:?}"),
        });
    });
}

/// A call that needs no wait succeeds, also with a context that can end but has not.
#[test]
fn what_is_ready_is_had() {
    with_workers(|| {
        let (open, _cancel) = Context::background().with_cancel();
        for ctx in [&open, &Context::background()] {
            let (tx, rx) = bounded(1);
            assert_eq!(tx.send_ctx(ctx, 5), Ok(()));
            assert_eq!(rx.recv_ctx(ctx), Ok(5));
            tx.close();
            assert_eq!(tx.send_ctx(ctx, 6), Err(SendCtxError::Closed(6)));
            assert_eq!(rx.recv_ctx(ctx), Err(RecvCtxError::Closed));
            assert_eq!(block_on_ctx(ctx, async { 1 }), Ok(1));
            let cell = OnceCell::new();
            assert_eq!(cell.get_or_init_ctx(ctx, || 1), Ok(&1));
            assert_eq!(cell.get_or_init_ctx(ctx, || 2), Ok(&1));
            // How often the condition was asked, and whether to go on.
            let (state, cond) = (Mutex::new((0, false)), Cond::new());
            scope(|s| {
                let waiter = s.go(|| {
                    cond.wait_while_ctx(state.lock(), ctx, |(asked, go_on)| {
                        *asked += 1;
                        !*go_on
                    })
                    .1
                });
                wait_until("it to wait", || state.lock().0 == 1);
                cond.signal();
                wait_until("it to ask again", || state.lock().0 == 2);
                assert!(!waiter.is_finished());
                state.lock().1 = true;
                cond.signal();
                assert_eq!(waiter.join().unwrap(), Ok(()));
            });
            assert_eq!(state.into_inner(), (3, true));
        }
        // A value that came before the end is reported although the context is done.
        let cell = OnceCell::from(1);
        let (ctx, cancel) = Context::background().with_cancel();
        cancel.cancel();
        assert_eq!(cell.get_or_init_ctx(&ctx, || 2), Ok(&1));
        assert_eq!(OnceCell::new().get_or_init_ctx(&ctx, || 2), Err(CANCELED));
    });
}

#[test]
fn a_value_is_delivered_or_comes_back() {
    with_workers(|| {
        for capacity in [0, 1] {
            race(
                size(1000, 100_000),
                |_| (bounded(capacity), Context::background().with_cancel()),
                |((tx, rx), (ctx, _))| (tx.send_ctx(ctx, 7), rx.len()),
                |((_, rx), (_, cancel))| {
                    let received = rx.try_recv().ok();
                    cancel.cancel();
                    received
                },
                |((_, rx), _), (sent, _), received| match sent {
                    Ok(()) => assert_eq!(received.or_else(|| rx.try_recv().ok()), Some(7)),
                    Err(SendCtxError::Done(7, CANCELED)) => {
                        assert_eq!((received, rx.try_recv().ok()), (None, None));
                    }
                    other => panic!("{other:?}"),
                },
            );
        }
    });
}

/// Receivers that give up again and again lose no value to their cancellations.
#[test]
fn canceled_receives_lose_no_value() {
    with_workers(|| {
        for (tx, rx) in [bounded(0), bounded(2), unbounded()] {
            let n = size(500, 10_000);
            let sum = Arc::new(AtomicUsize::new(0));
            let receivers: Vec<_> = (0..4)
                .map(|id| {
                    let (rx, sum) = (rx.clone(), sum.clone());
                    go(move || {
                        for round in 0.. {
                            let (ctx, cancel) = Context::background().with_cancel();
                            let canceler = go(move || {
                                (0..(round + id) % 5).for_each(|_| yield_now());
                                cancel.cancel();
                            });
                            let received = rx.recv_ctx(&ctx);
                            canceler.join().unwrap();
                            match received {
                                Ok(value) => _ = sum.fetch_add(value, Ordering::Relaxed),
                                Err(RecvCtxError::Done(error)) => assert_eq!(error, CANCELED),
                                Err(RecvCtxError::Closed) => return,
                            }
                        }
                    })
                })
                .collect();
            (1..=n).for_each(|value| tx.send(value).unwrap());
            drop(tx);
            receivers.into_iter().for_each(|receiver| receiver.join().unwrap());
            assert_eq!(sum.load(Ordering::Relaxed), n * (n + 1) / 2);
        }
    });
}
