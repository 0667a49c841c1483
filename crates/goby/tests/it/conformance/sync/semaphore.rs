//! Semaphores: 223 to 231.

use std::sync::atomic::{AtomicUsize, Ordering};

use goby::context::ContextError;
use goby::sync::Semaphore;
use goby::{Context, go, scope, yield_now};

use super::{canceled, panic_text};
use crate::support::{MOMENT, pause, size, wait_until, with_workers};

#[test]
fn s223_weighted_semaphore_hammer() {
    with_workers(|| {
        const N: usize = 8;
        let (semaphore, ctx) = (Semaphore::new(N), Context::background());
        let held = AtomicUsize::new(0);
        scope(|s| {
            for weight in 0..N {
                let (semaphore, ctx, held) = (&semaphore, &ctx, &held);
                s.go(move || {
                    for _ in 0..size(100, 10_000 / N) {
                        let permit = semaphore.acquire(ctx, weight).unwrap();
                        assert_eq!(permit.count(), weight);
                        assert!(held.fetch_add(weight, Ordering::Relaxed) + weight <= N);
                        yield_now();
                        held.fetch_sub(weight, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(semaphore.available(), N);
    });
}

#[test]
fn s225_try_acquire() {
    with_workers(|| {
        let semaphore = Semaphore::new(2);
        semaphore.try_acquire(1).unwrap().forget();
        let tries =
            [semaphore.try_acquire(1), semaphore.try_acquire(1)].map(|permit| permit.map(|p| p.forget()).is_some());
        assert_eq!(tries, [true, false]);
        semaphore.release(2);
        let permit = semaphore.try_acquire(1).expect("two are free");
        let second = semaphore.acquire(&Context::background(), 1).unwrap();
        assert!(semaphore.try_acquire(1).is_none());
        drop((permit, second));
        assert_eq!(panic_text(|| semaphore.release(1)), "semaphore: released more than held");
        assert_eq!(semaphore.available(), 2);
    });
}

#[test]
fn s227_impossible_request_blocks_nobody() {
    with_workers(|| {
        let semaphore = Semaphore::new(2);
        let (ctx, cancel) = Context::background().with_cancel();
        scope(|s| {
            let impossible = s.go(|| semaphore.acquire(&ctx, 3).map(drop));
            let possible: Vec<_> = (0..6)
                .map(|_| {
                    s.go(|| {
                        let _permit = semaphore.acquire(&Context::background(), 1).unwrap();
                        pause(MOMENT);
                    })
                })
                .collect();
            possible.into_iter().for_each(|task| task.join().unwrap());
            assert!(!impossible.is_finished());
            cancel.cancel();
            assert_eq!(impossible.join().unwrap(), Err(ContextError::Canceled));
        });
        assert_eq!(semaphore.available(), 2);
    });
}

#[test]
fn s229_canceled_request_does_not_starve_others() {
    with_workers(|| {
        let semaphore = Semaphore::new(10);
        let held = semaphore.try_acquire(1).unwrap();
        let (ctx, cancel) = Context::background().with_cancel();
        scope(|s| {
            let large = s.go(|| semaphore.acquire(&ctx, 10).map(drop));
            wait_until("the large request to queue", || semaphore.try_acquire(1).is_none());
            assert_eq!(semaphore.available(), 9);
            let small = s.go(|| semaphore.acquire(&Context::background(), 1).map(drop));
            yield_now();
            assert!(!small.is_finished(), "nobody overtakes");
            cancel.cancel();
            assert_eq!(large.join().unwrap(), Err(ContextError::Canceled));
            assert_eq!(small.join().unwrap(), Ok(()));
        });
        drop(held);
        assert_eq!(semaphore.available(), 10);
    });
}

#[test]
fn s231_context_that_is_done_comes_first() {
    with_workers(|| {
        let semaphore = Semaphore::new(2);
        assert_eq!(semaphore.acquire(&canceled(), 1).unwrap_err(), ContextError::Canceled);
        assert_eq!(semaphore.available(), 2);
    });
}

#[test]
fn canceled_acquires_lose_no_permit() {
    with_workers(|| {
        const N: usize = 3;
        let semaphore = Semaphore::new(N);
        scope(|s| {
            for id in 0..8 {
                let semaphore = &semaphore;
                s.go(move || {
                    for round in 0..size(100, 3000) {
                        let (ctx, cancel) = Context::background().with_cancel();
                        let canceler = go(move || {
                            (0..(round + id) % 5).for_each(|_| yield_now());
                            cancel.cancel();
                        });
                        let permit = semaphore.acquire(&ctx, 1 + (round + id) % N);
                        yield_now();
                        drop(permit);
                        canceler.join().unwrap();
                    }
                });
            }
        });
        assert_eq!(semaphore.available(), N);
        assert!(semaphore.try_acquire(N).is_some(), "nobody waits any more");
    });
}

#[test]
fn permits_are_taken_without_a_context() {
    with_workers(|| {
        let semaphore = Semaphore::new(2);
        let held = semaphore.take(2);
        assert_eq!((held.count(), semaphore.available()), (2, 0));
        scope(|s| {
            let waiters = [1, 2].map(|n| {
                let semaphore = &semaphore;
                s.go(move || drop(semaphore.take(n)))
            });
            wait_until("both to wait", || super::n_waiting("semacquire") == 2);
            drop(held);
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        });
        assert_eq!(semaphore.available(), 2);
        assert_eq!(
            panic_text(|| drop(semaphore.take(3))),
            "semaphore: 3 permits of a semaphore of 2 are never granted"
        );
    });
}
