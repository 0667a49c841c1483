//! Mutexes: 141 and 145. The hammers of S29 are in `stress/locks.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use goby::chan;
use goby::context::ContextError;
use goby::sync::{Mutex, RwLock};
use goby::{Context, blocking, go, scope, yield_now};

use super::{canceled, panic_text};
use crate::support::{MOMENT, pause, size, with_workers};

#[test]
fn s141_try_lock() {
    with_workers(|| {
        let mutex = Mutex::new(0);
        let guard = mutex.lock();
        assert!(mutex.try_lock().is_none());
        drop(guard);
        *mutex.try_lock().expect("an unlocked mutex") += 1;
        assert_eq!(*mutex.lock(), 1);
    });
}

#[test]
fn s145_fairness() {
    with_workers(|| {
        let start = Instant::now();
        let (mutex, stop) = (Mutex::new(()), AtomicBool::new(false));
        scope(|s| {
            s.go(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _guard = mutex.lock();
                    pause(Duration::from_micros(100));
                }
            });
            for _ in 0..10 {
                pause(Duration::from_micros(100));
                drop(mutex.lock());
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    });
}

#[test]
fn a_panic_unlocks() {
    with_workers(|| {
        let (mutex, lock) = (Mutex::new(1), RwLock::new(1));
        for _ in 0..3 {
            let text = panic_text(|| {
                let (_guard, _writer) = (mutex.lock(), lock.write());
                panic!("while locked");
            });
            assert_eq!(text, "while locked");
        }
        assert_eq!((*mutex.lock(), *lock.read()), (1, 1));
    });
}

#[test]
fn a_guard_may_be_dropped_elsewhere() {
    with_workers(|| {
        let mutex = Arc::new(Mutex::new(1));
        let (tx, rx) = chan::bounded(0);
        scope(|s| {
            let guard = mutex.lock();
            s.go(move || {
                let mut guard = guard;
                tx.send(()).unwrap();
                *guard += 1;
            });
            rx.recv().unwrap();
            assert_eq!(*mutex.lock(), 2);
            let guard = mutex.lock();
            blocking(move || drop(guard));
            assert!(mutex.try_lock().is_some());
        });
    });
}

#[test]
fn lock_with_context_or_timeout() {
    with_workers(|| {
        let mutex = Mutex::new(());
        assert_eq!(mutex.lock_ctx(&canceled()).unwrap_err(), ContextError::Canceled, "even when it is free");
        let held = mutex.lock();
        let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
        assert_eq!(mutex.lock_ctx(&ctx).unwrap_err(), ContextError::DeadlineExceeded);
        assert!(mutex.lock_timeout(MOMENT).is_none());
        assert!(mutex.lock_deadline(Instant::now()).is_none());
        let (ctx, cancel) = Context::background().with_cancel();
        scope(|s| {
            let waiter = s.go(|| mutex.lock_ctx(&ctx).map(drop));
            yield_now();
            cancel.cancel();
            assert_eq!(waiter.join().unwrap(), Err(ContextError::Canceled));
        });
        scope(|s| {
            let waiter = s.go(|| mutex.lock_ctx(&Context::background()).map(drop));
            yield_now();
            drop(held);
            assert_eq!(waiter.join().unwrap(), Ok(()));
        });
        assert!(mutex.try_lock().is_some(), "those that gave up left nothing behind");
    });
}

/// Locks with contexts that are canceled at any moment: the lock excludes, and is free in the end.
#[test]
fn canceled_locks_lose_nothing() {
    with_workers(|| {
        let (mutex, lock) = (Mutex::new(0), RwLock::new(0));
        let counts = [const { AtomicUsize::new(0) }; 3];
        scope(|s| {
            for id in 0..8 {
                let (mutex, lock, counts) = (&mutex, &lock, &counts);
                s.go(move || {
                    for round in 0..size(100, 2000) {
                        let (ctx, cancel) = Context::background().with_cancel();
                        let canceler = go(move || {
                            (0..(round + id) % 7).for_each(|_| yield_now());
                            cancel.cancel();
                        });
                        if let Ok(mut guard) = mutex.lock_ctx(&ctx) {
                            let before = *guard;
                            yield_now();
                            *guard = before + 1;
                            counts[0].fetch_add(1, Ordering::Relaxed);
                        }
                        if (round + id) % 3 == 0 {
                            if let Ok(mut guard) = lock.write_ctx(&ctx) {
                                let before = *guard;
                                yield_now();
                                *guard = before + 1;
                                counts[1].fetch_add(1, Ordering::Relaxed);
                            }
                        } else if let Ok(guard) = lock.read_ctx(&ctx) {
                            let before = *guard;
                            yield_now();
                            assert_eq!(*guard, before);
                            counts[2].fetch_add(1, Ordering::Relaxed);
                        }
                        canceler.join().unwrap();
                    }
                });
            }
        });
        assert_eq!(*mutex.try_lock().expect("a free mutex"), counts[0].load(Ordering::Relaxed));
        assert_eq!(*lock.try_write().expect("a free lock"), counts[1].load(Ordering::Relaxed));
    });
}
