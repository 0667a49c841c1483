//! Readers-writer locks: 149 to 153, 175. The hammers of S29 are in `stress/locks.rs`.

use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

use goby::context::ContextError;
use goby::sync::{Mutex, RwLock};
use goby::{Context, scope, yield_now};

use crate::support::{on_workers, size, wait_until, with_workers};

#[test]
fn s149_rwlock_try_locks() {
    with_workers(|| {
        let lock = RwLock::new(());
        let writer = lock.write();
        assert!(lock.try_write().is_none());
        assert!(lock.try_read().is_none());
        drop(writer);
        drop(lock.try_write().expect("a free lock"));
        let first = lock.try_read().expect("a free lock");
        let second = lock.try_read().expect("readers share");
        assert!(lock.try_write().is_none());
        drop((first, second));
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn s151_rwlock_hammer() {
    const PAIRS: [(usize, usize); 10] =
        [(1, 1), (1, 3), (1, 10), (4, 1), (4, 3), (4, 10), (10, 1), (10, 3), (10, 10), (10, 5)];
    for (workers, n_readers) in PAIRS {
        on_workers(workers, 0, || hammer(n_readers, size(100, 1000)));
    }
}

/// Two writers against readers: a writer is alone, readers meet readers only.
fn hammer(n_readers: usize, rounds: usize) {
    let (lock, activity) = (RwLock::new(()), AtomicI32::new(0));
    scope(|s| {
        for _ in 0..2 {
            s.go(|| {
                for round in 0..rounds {
                    let _guard = lock.write();
                    assert_eq!(activity.fetch_add(10_000, Ordering::Relaxed), 0, "a writer is alone");
                    if round % 3 == 0 {
                        yield_now();
                    }
                    assert_eq!(activity.fetch_sub(10_000, Ordering::Relaxed), 10_000, "a writer is alone");
                }
            });
        }
        for _ in 0..n_readers {
            s.go(|| {
                for round in 0..rounds {
                    let _guard = lock.read();
                    let n = activity.fetch_add(1, Ordering::Relaxed) + 1;
                    assert!((1..10_000).contains(&n), "readers meet readers: {n}");
                    if round % 3 == 0 {
                        yield_now();
                    }
                    activity.fetch_sub(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(activity.into_inner(), 0);
}

#[test]
fn s153_waiting_writer_blocks_new_readers() {
    with_workers(|| {
        let lock = RwLock::new(0);
        scope(|s| {
            let first = lock.read();
            s.go(|| *lock.write() += 1);
            wait_until("the writer to wait", || lock.try_read().is_none());
            let second = s.go(|| *lock.read());
            yield_now();
            assert_eq!(*first, 0);
            drop(first);
            assert_eq!(second.join().unwrap(), 1, "the reader comes after the writer");
        });
    });
}

/// Readers that wait when a writer leaves go in before the next writer, as in Go.
#[test]
fn s153_waiting_readers_come_before_the_next_writer() {
    // What three readers see that came behind two waiting writers.
    let seen = || {
        let (lock, here) = (RwLock::new(0), AtomicUsize::new(0));
        scope(|s| {
            let first = lock.read();
            for _ in 0..2 {
                s.go(|| *lock.write() += 1);
            }
            wait_until("a writer to wait", || lock.try_read().is_none());
            let readers = [0; 3].map(|_| {
                s.go(|| {
                    here.fetch_add(1, Ordering::SeqCst);
                    *lock.read()
                })
            });
            wait_until("the readers to come", || here.load(Ordering::SeqCst) == 3);
            (0..10).for_each(|_| yield_now());
            drop(first);
            readers.map(|reader| reader.join().unwrap())
        })
    };
    with_workers(|| {
        // A reader, or the second writer, may be late, which cannot be seen. But not every time.
        let mut tries = (0..1000).map(|_| seen());
        assert!(tries.any(|seen| seen == [1; 3]), "the second writer always comes before the readers");
    });
}

#[test]
fn a_writer_that_gives_up_lets_readers_in() {
    with_workers(|| {
        let lock = RwLock::new(5);
        let (ctx, cancel) = Context::background().with_cancel();
        scope(|s| {
            let first = lock.read();
            let writer = s.go(|| lock.write_ctx(&ctx).map(drop));
            wait_until("the writer to wait", || lock.try_read().is_none());
            let second = s.go(|| *lock.read());
            yield_now();
            cancel.cancel();
            assert_eq!(writer.join().unwrap(), Err(ContextError::Canceled));
            assert_eq!(second.join().unwrap(), 5, "with the first reader still in");
            assert!(lock.try_read().is_some());
            drop(first);
        });
        assert!(lock.try_write().is_some());
    });
}

/// Data that is not in the lock is ordered by it too.
#[test]
fn s175_locks_order_memory() {
    with_workers(|| {
        let (mutex, lock, a, b) = (Mutex::new(0u64), RwLock::new(0u64), AtomicU64::new(0), AtomicU64::new(0));
        let rounds = size(1000, 100_000) as u64;
        scope(|s| {
            s.go(|| {
                for i in 1..=rounds {
                    a.store(i, Ordering::Relaxed);
                    *mutex.lock() = i;
                    b.store(i, Ordering::Relaxed);
                    *lock.write() = i;
                    if i % 64 == 0 {
                        yield_now();
                    }
                }
            });
            for _ in 0..2 {
                s.go(|| {
                    loop {
                        let (locked, seen) = (*mutex.lock(), a.load(Ordering::Relaxed));
                        assert!(seen >= locked, "{seen} < {locked}");
                        let (locked, seen) = (*lock.read(), b.load(Ordering::Relaxed));
                        assert!(seen >= locked, "{seen} < {locked}");
                        if locked == rounds {
                            return;
                        }
                        yield_now();
                    }
                });
            }
        });
    });
}
