//! Conditions: 169 to 173.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::context::ContextError;
use goby::sync::{Cond, Mutex, RwLock};
use goby::{Context, go, scope, yield_now};

use super::{canceled, panic_text};
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
                    // Waiters with a context and without stand in one queue.
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

/// Each signal is given either to a waiter that returns `Ok`, or to nobody: a signal that races
/// with a cancellation is not lost.
#[test]
fn canceled_cond_waits_lose_no_signal() {
    with_workers(|| {
        // Permits that signals announce. A signaled waiter takes one, which must be there.
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

/// Each call says how many waiters it has unparked, without those that gave up.
#[test]
fn signal_and_broadcast_tell_how_many_they_woke() {
    with_workers(|| {
        let (waiting, cond) = (Mutex::new(0), Cond::new());
        assert_eq!((cond.signal(), cond.broadcast(), cond.notify_one(), cond.notify_all()), (false, 0, false, 0));
        let (guard, result) = cond.wait_timeout(waiting.lock(), MOMENT);
        assert!(result.timed_out());
        drop(cond.wait_ctx(guard, &canceled()));
        assert!(!cond.signal());
        let (ctx, _cancel) = Context::background().with_cancel();
        scope(|s| {
            let (waiting, cond, ctx) = (&waiting, &cond, &ctx);
            for n in 0..5 {
                s.go(move || {
                    let mut guard = waiting.lock();
                    *guard += 1;
                    if n % 2 == 0 {
                        drop(cond.wait(guard));
                    } else {
                        cond.wait_ctx(guard, ctx).1.unwrap();
                    }
                });
            }
            wait_until("all to wait", || *waiting.lock() == 5);
            assert_eq!((cond.signal(), cond.notify_one(), cond.broadcast(), cond.broadcast()), (true, true, 3, 0));
        });
    });
}

/// A goroutine that changes the first lock's value would never find the waiter with the second
/// lock.
#[test]
fn a_cond_with_two_locks_panics() {
    const TWO: &str = "sync: a Cond is waited for with more than one lock";
    with_workers(|| {
        let (mutex, other, lock, cond) = (Mutex::new(false), Mutex::new(()), RwLock::new(()), Cond::new());
        // One after the other is fine, also if the first gave up.
        drop(cond.wait_timeout(other.lock(), Duration::ZERO));
        scope(|s| {
            let waiter = s.go(|| {
                let mut guard = mutex.lock();
                *guard = true;
                drop(cond.wait(guard));
            });
            wait_until("it to wait", || *mutex.lock());
            assert_eq!(panic_text(|| drop(cond.wait(other.lock()))), TWO);
            assert_eq!(panic_text(|| drop(cond.wait_ctx(lock.write(), &Context::background()))), TWO);
            assert_eq!(panic_text(|| drop(cond.wait_timeout(lock.read(), MOMENT))), TWO);
            assert!(other.try_lock().is_some() && lock.try_write().is_some(), "unlocked by the panic");
            assert!(cond.signal());
            waiter.join().unwrap();
        });
        drop(cond.wait_timeout(lock.read(), Duration::ZERO));
    });
}

#[test]
fn a_cond_waits_with_any_guard() {
    with_workers(|| {
        // Readers and a writer of one lock wait together.
        let (lock, cond) = (RwLock::new(0), Cond::new());
        scope(|s| {
            let readers = [(); 3].map(|()| {
                s.go(|| {
                    let mut guard = lock.read();
                    while *guard == 0 {
                        guard = cond.wait(guard);
                    }
                    *guard
                })
            });
            let writer = s.go(|| *cond.wait_while(lock.write(), |value| *value == 0) += 1);
            wait_until("all to wait", || super::n_waiting("sync.Cond.Wait") == 4);
            *lock.write() = 7;
            assert_eq!(cond.broadcast(), 4);
            writer.join().unwrap();
            assert!(readers.map(|reader| reader.join().unwrap()).iter().all(|seen| (7..=8).contains(seen)));
            assert_eq!(*lock.read(), 8);
        });
    });
}

#[test]
fn a_cond_waits_with_guards_that_own_their_lock() {
    with_workers(|| {
        let (mutex, lock, cond) =
            (Arc::new(Mutex::new(0)), Arc::new(RwLock::new(0)), Arc::new((Cond::new(), Cond::new())));
        let waiters = [
            go({
                let (mutex, cond) = (mutex.lock_arc(), cond.clone());
                move || *cond.0.wait_while(mutex, |value| *value == 0)
            }),
            go({
                let (lock, cond) = (lock.clone(), cond.clone());
                move || *cond.1.wait_while(lock.write_arc(), |value| *value == 0)
            }),
            go({
                let (lock, cond) = (lock.clone(), cond.clone());
                move || {
                    let mut guard = lock.read_arc();
                    while *guard == 0 {
                        guard = cond.1.wait(guard);
                    }
                    *guard
                }
            }),
        ];
        wait_until("all to wait", || super::n_waiting("sync.Cond.Wait") == 3);
        (*mutex.lock(), *lock.write()) = (1, 2);
        assert_eq!((cond.0.broadcast(), cond.1.broadcast()), (1, 2));
        assert_eq!(waiters.map(|waiter| waiter.join().unwrap()), [1, 2, 2]);
    });
}
