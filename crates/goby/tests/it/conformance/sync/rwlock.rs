//! Readers-writer locks: 149 to 153, 175. The hammers of S29 are in `stress/locks.rs`.

use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

use goby::context::ContextError;
use goby::sync::{Mutex, RwLock, RwLockUpgradableReadGuard as Upgradable, RwLockWriteGuard};
use goby::{Context, scope, yield_now};

use super::{canceled, n_waiting};

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

/// Two writers against readers: a writer is alone, and readers meet only readers.
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
    // What three readers see that came after two waiting writers.
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
        // A reader, or the second writer, may be late, which the test cannot see. But they are not
        // late every time.
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

/// The lock also orders data that is not in it.
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

const READ: &str = "sync.RWMutex.RLock";
const WRITE: &str = "sync.RWMutex.Lock";

/// Readers that wait go in together with the former writer; a writer that waits goes in after them.
#[test]
fn a_downgraded_writer_lets_readers_in_but_no_writer() {
    with_workers(|| {
        let lock = RwLock::new(0);
        let mut writer = lock.write();
        scope(|s| {
            let readers = [(); 2].map(|()| s.go(|| *lock.read()));
            wait_until("the readers to wait", || n_waiting(READ) == 2);
            let other = s.go(|| *lock.write() += 10);
            wait_until("the writer to wait", || n_waiting(WRITE) == 1);
            *writer = 1;
            let reader = RwLockWriteGuard::downgrade(writer);
            assert_eq!(readers.map(|reader| reader.join().unwrap()), [1, 1]);
            assert_eq!(*reader, 1);
            assert!(lock.try_read().is_none(), "behind the writer that waits");
            drop(reader);
            other.join().unwrap();
        });
        let reader = RwLockWriteGuard::downgrade(lock.write());
        assert_eq!((*reader, *lock.read()), (11, 11));
        assert!(lock.try_write().is_none());
        drop(reader);
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn an_upgradable_reader_excludes_writers_and_its_like() {
    with_workers(|| {
        let lock = RwLock::new(1);
        let guard = lock.upgradable_read();
        assert_eq!((*guard, lock.try_read().map(|other| *other)), (1, Some(1)));
        assert_eq!(format!("{guard:?} {guard}"), "1 1");
        assert!(lock.try_write().is_none() && lock.try_upgradable_read().is_none());
        assert_eq!(lock.upgradable_read_ctx(&canceled()).unwrap_err(), ContextError::Canceled);
        let reader = Upgradable::downgrade(guard);
        let guard = lock.try_upgradable_read().expect("the other is a plain reader now");
        let guard = Upgradable::try_upgrade(guard).unwrap_err();
        drop(reader);
        let writer = Upgradable::try_upgrade(guard).unwrap();
        assert!(lock.try_read().is_none() && lock.try_upgradable_read().is_none());
        drop(writer);
        let writer = lock.write();
        assert!(lock.try_upgradable_read().is_none());
        drop(writer);
        drop(lock.try_upgradable_read().unwrap());
        assert!(lock.try_write().is_some());
    });
}

/// The upgrader waits for the readers, bars new ones, and becomes the writer before a writer that
/// has waited longer.
#[test]
fn an_upgrade_comes_before_every_writer() {
    with_workers(|| {
        let lock = RwLock::new(vec!["first"]);
        let (guard, reader) = (lock.upgradable_read(), lock.read());
        scope(|s| {
            let lock = &lock;
            let writer = s.go(move || lock.write().push("writer"));
            wait_until("the writer to wait", || n_waiting(WRITE) == 1);
            let upgrader = s.go(move || {
                let seen = guard.len();
                let mut writer = Upgradable::upgrade(guard);
                assert_eq!(writer.len(), seen, "nobody was in between");
                writer.push("upgrader");
            });
            wait_until("the upgrader to wait", || n_waiting(WRITE) == 2);
            let late = s.go(move || lock.read().len());
            let next = s.go(move || Upgradable::upgrade(lock.upgradable_read()).push("next"));
            wait_until("the others to wait", || n_waiting(READ) + n_waiting("sync.Mutex.Lock") == 2);
            drop(reader);
            upgrader.join().unwrap();
            writer.join().unwrap();
            assert!(late.join().unwrap() >= 2);
            next.join().unwrap();
        });
        let log = lock.into_inner();
        assert_eq!((&log[..2], log.len()), (&["first", "upgrader"][..], 4));
    });
}

/// The readers that waited behind it go in, and it is still an upgradable reader.
#[test]
fn an_upgrade_that_gives_up_lets_readers_in() {
    with_workers(|| {
        let lock = RwLock::new(1);
        let (guard, reader) = (lock.upgradable_read(), lock.read());
        let (guard, error) = Upgradable::upgrade_ctx(guard, &canceled()).unwrap_err();
        assert_eq!(error, ContextError::Canceled);
        let (ctx, cancel) = Context::background().with_cancel();
        let guard = scope(|s| {
            let upgrader = s.go(|| Upgradable::upgrade_ctx(guard, &ctx).unwrap_err().0);
            wait_until("it to wait", || n_waiting(WRITE) == 1);
            let late = s.go(|| *lock.read());
            wait_until("a reader to wait", || n_waiting(READ) == 1);
            cancel.cancel();
            let guard = upgrader.join().unwrap();
            assert_eq!(late.join().unwrap(), 1);
            assert!(lock.try_upgradable_read().is_none() && lock.try_read().is_some());
            guard
        });
        drop(reader);
        *Upgradable::upgrade(guard) += 1;
        assert_eq!(lock.into_inner(), 2);
    });
}

/// All ways to take and change the lock at once: a writer is alone, an upgrade sees what its reader
/// saw, and in the end the lock is free.
#[test]
fn upgrades_and_downgrades_hammer() {
    with_workers(|| {
        let (lock, activity, rounds) = (RwLock::new(0u64), AtomicI32::new(0), size(300, 5000));
        let read = |n: i32| {
            assert!((0..1000).contains(&activity.fetch_add(1, Ordering::Relaxed)), "readers meet readers");
            (0..n).for_each(|_| yield_now());
            activity.fetch_sub(1, Ordering::Relaxed);
        };
        let write = |value: &mut u64| {
            assert_eq!(activity.fetch_add(1000, Ordering::Relaxed), 0, "a writer is alone");
            *value += 1;
            yield_now();
            activity.fetch_sub(1000, Ordering::Relaxed);
        };
        let n_written = AtomicU64::new(0);
        scope(|s| {
            for who in 0..8 {
                let (lock, n_written, read, write) = (&lock, &n_written, &read, &write);
                s.go(move || {
                    for round in 0..rounds {
                        match who {
                            0 | 1 => {
                                let _guard = lock.read();
                                read(round as i32 % 3);
                            }
                            2 => {
                                write(&mut lock.write());
                                n_written.fetch_add(1, Ordering::Relaxed);
                            }
                            3 => {
                                let mut guard = lock.write();
                                write(&mut guard);
                                n_written.fetch_add(1, Ordering::Relaxed);
                                let guard = RwLockWriteGuard::downgrade(guard);
                                read(round as i32 % 2);
                                drop(guard);
                            }
                            4 => {
                                let guard = lock.upgradable_read();
                                read(1);
                                if round % 2 == 0 {
                                    let _guard = Upgradable::downgrade(guard);
                                    read(0);
                                }
                            }
                            5 => {
                                // The context is canceled in time, or not.
                                let (ctx, cancel) = Context::background().with_cancel();
                                let guard = lock.upgradable_read();
                                let seen = *guard;
                                let canceler = goby::go(move || {
                                    (0..round % 4).for_each(|_| yield_now());
                                    cancel.cancel();
                                });
                                match Upgradable::upgrade_ctx(guard, &ctx) {
                                    Ok(mut guard) => {
                                        assert_eq!(*guard, seen);
                                        write(&mut guard);
                                        n_written.fetch_add(1, Ordering::Relaxed);
                                    }
                                    Err((guard, _)) => assert_eq!(*guard, seen),
                                }
                                canceler.join().unwrap();
                            }
                            _ => {
                                let guard = lock.upgradable_read();
                                let seen = *guard;
                                let mut guard = Upgradable::upgrade(guard);
                                assert_eq!(*guard, seen, "nobody was in between");
                                write(&mut guard);
                                n_written.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        assert!(lock.try_write().is_some());
        assert_eq!(lock.into_inner(), n_written.into_inner());
    });
}
