//! Conditions: 169 to 173.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::context::ContextError;
use goby::sync::{Cond, Mutex};
use goby::{Context, go, scope, yield_now};

use super::canceled;
use crate::support::{MOMENT, pause, size, wait_until, with_workers};

#[test]
fn s169_signal_wakes_exactly_one() {
    with_workers(|| {
        // How many wait, how many have been unparked.
        let (counts, cond) = (Mutex::new((0, 0)), Cond::new());
        cond.signal(); // Nobody waits: nothing happens.
        scope(|s| {
            for _ in 0..2 {
                s.go(|| {
                    let mut guard = counts.lock();
                    guard.0 += 1;
                    guard = cond.wait(guard);
                    guard.1 += 1;
                });
            }
            wait_until("both to wait", || counts.lock().0 == 2);
            for unparked in 1..=2 {
                pause(MOMENT);
                assert_eq!(counts.lock().1, unparked - 1, "nobody goes on without a signal");
                cond.signal();
                wait_until("one to go on", || counts.lock().1 == unparked);
            }
        });
        cond.signal();
    });
}

/// The waiters go on in the order in which they came.
#[test]
fn signals_come_in_turn() {
    with_workers(|| {
        let (log, cond) = (Mutex::new((0, vec![])), Cond::new());
        let (ctx, _cancel) = Context::background().with_cancel();
        scope(|s| {
            for id in 0..6 {
                let (log, cond, ctx) = (&log, &cond, &ctx);
                s.go(move || {
                    let mut guard = log.lock();
                    guard.0 += 1;
                    // Waiters with a context and without are one line.
                    guard = if id % 2 == 0 { cond.wait(guard) } else { cond.wait_ctx(guard, ctx).0 };
                    guard.1.push(id);
                });
                wait_until("it to wait", || log.lock().0 == id + 1);
            }
            for n in 1..=6 {
                cond.signal();
                wait_until("it to go on", || log.lock().1.len() == n);
            }
        });
        assert_eq!(log.into_inner().1, [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn s171_broadcast() {
    with_workers(|| {
        let (n, rounds) = (size(50, 200), size(20, 200));
        struct State {
            waiting: usize,
            unparked: usize,
            exit: bool,
        }
        let state = Mutex::new(State { waiting: 0, unparked: 0, exit: false });
        let cond = Cond::new();
        cond.broadcast(); // Nobody waits: nothing happens.
        scope(|s| {
            for _ in 0..n {
                s.go(|| {
                    let mut guard = state.lock();
                    while !guard.exit {
                        guard.waiting += 1;
                        guard = cond.wait(guard);
                        guard.unparked += 1;
                    }
                });
            }
            for round in 1..=rounds {
                wait_until("all to wait", || state.lock().waiting == n * round);
                assert_eq!(state.lock().unparked, n * (round - 1), "each broadcast unparks each once");
                state.lock().exit = round == rounds;
                cond.broadcast();
            }
        });
        assert_eq!(state.lock().unparked, n * rounds);
        cond.broadcast();
    });
}

#[test]
fn s173_no_stolen_wake_up() {
    with_workers(|| {
        for _ in 0..size(200, 1000) {
            let (waiting, cond) = (Mutex::new(false), Cond::new());
            scope(|s| {
                let first = s.go(|| {
                    let mut guard = waiting.lock();
                    *guard = true;
                    drop(cond.wait(guard));
                });
                wait_until("the first to wait", || *waiting.lock());
                let second = s.go(|| drop(cond.wait(waiting.lock())));
                cond.broadcast();
                first.join().unwrap();
                // The second may have come too late for that broadcast.
                wait_until("the second to go on", || {
                    cond.broadcast();
                    second.is_finished()
                });
            });
        }
    });
}

#[test]
fn cond_with_timeout_or_context() {
    with_workers(|| {
        let (mutex, cond) = (Mutex::new(0), Cond::new());
        let (guard, result) = cond.wait_timeout(mutex.lock(), MOMENT);
        assert!(result.timed_out());
        assert!(mutex.try_lock().is_none(), "it comes back locked");
        let (guard, result) = cond.wait_ctx(guard, &canceled());
        assert_eq!(result, Err(ContextError::Canceled));
        let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
        let (guard, result) = cond.wait_ctx(guard, &ctx);
        assert_eq!(result, Err(ContextError::DeadlineExceeded));
        assert!(mutex.try_lock().is_none(), "it comes back locked");
        drop(guard);

        scope(|s| {
            let waiter = s.go(|| {
                let mut guard = mutex.lock();
                *guard += 1;
                cond.wait_timeout(guard, Duration::from_secs(3600)).1.timed_out()
            });
            wait_until("it to wait", || *mutex.lock() == 1);
            cond.notify_one();
            assert!(!waiter.join().unwrap());
        });
    });
}

/// Each signal is either given to a waiter that returns `Ok`, or to nobody: what a cancellation races with is not lost.
#[test]
fn canceled_cond_waits_lose_no_signal() {
    with_workers(|| {
        // Permits that signals announce. Whoever is signaled takes one; it must be there.
        let (permits, cond) = (Mutex::new(0usize), Cond::new());
        let taken = AtomicUsize::new(0);
        let rounds = size(200, 5000);
        scope(|s| {
            for id in 0..4 {
                let (permits, cond, taken) = (&permits, &cond, &taken);
                s.go(move || {
                    while taken.load(Ordering::Relaxed) < rounds {
                        let (ctx, cancel) = Context::background().with_cancel();
                        let canceler = go(move || {
                            (0..id).for_each(|_| yield_now());
                            cancel.cancel();
                        });
                        let mut guard = permits.lock();
                        while *guard == 0 {
                            let (back, result) = cond.wait_ctx(guard, &ctx);
                            guard = back;
                            if result.is_err() {
                                break;
                            }
                        }
                        if *guard > 0 {
                            *guard -= 1;
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                        drop(guard);
                        canceler.join().unwrap();
                    }
                });
            }
            for _ in 0..rounds {
                *permits.lock() += 1;
                cond.signal();
                yield_now();
            }
        });
        assert_eq!((taken.into_inner(), permits.into_inner()), (rounds, 0));
    });
}
