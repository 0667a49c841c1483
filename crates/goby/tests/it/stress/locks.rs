//! S29: many goroutines and OS threads use one lock at once, with tries and without, and none is
//! starved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use goby::chan;
use goby::sync::{Mutex, RwLock};
use goby::{Context, blocking, go, scope, yield_now};

use crate::support::{PATIENCE, on_workers, pause, size, with_workers};

#[test]
fn s29_mutex_hammer() {
    with_workers(|| {
        let (mutex, taken) = (Mutex::new(0), AtomicUsize::new(0));
        let rounds = size(1000, 10_000);
        scope(|s| {
            for id in 0..10 {
                let (mutex, taken) = (&mutex, &taken);
                s.go(move || {
                    for round in 0..rounds {
                        let guard = if round % 3 == 0 { mutex.try_lock() } else { Some(mutex.lock()) };
                        let Some(mut guard) = guard else { continue };
                        let before = *guard;
                        if (round + id) % 5 == 0 {
                            yield_now(); // Held while others run on this worker.
                        }
                        *guard = before + 1;
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(mutex.into_inner(), taken.into_inner());
    });
}

#[test]
fn s29_mutex_between_threads_and_goroutines() {
    with_workers(|| {
        let mutex = Arc::new(Mutex::new(0));
        let rounds = size(300, 3000);
        let add = |mutex: Arc<Mutex<usize>>| {
            move || {
                for _ in 0..rounds {
                    let mut guard = mutex.lock();
                    let before = *guard;
                    yield_now();
                    *guard = before + 1;
                }
            }
        };
        let threads: Vec<_> = (0..2).map(|_| thread::spawn(add(mutex.clone()))).collect();
        let goroutines: Vec<_> = (0..4).map(|_| go(add(mutex.clone()))).collect();
        goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
        blocking(|| threads.into_iter().for_each(|thread| thread.join().unwrap()));
        assert_eq!(*mutex.lock(), 6 * rounds);
    });
}

/// Waiters cut short the streaks that make unlocks quick: each goroutine has the mutex to itself
/// for a burst, and now and then yields while it holds it.
#[test]
fn s29_mutex_in_bursts() {
    with_workers(|| {
        let mutex = Mutex::new(0);
        let (bursts, n_goroutines) = (size(200, 2000), 4);
        scope(|s| {
            for id in 0..n_goroutines {
                let mutex = &mutex;
                s.go(move || {
                    for burst in 0..bursts {
                        for _ in 0..100 {
                            *mutex.lock() += 1;
                        }
                        let mut guard = mutex.lock();
                        let before = *guard;
                        if (burst + id) % 3 == 0 {
                            yield_now();
                        }
                        *guard = before + 1;
                    }
                });
            }
        });
        assert_eq!(mutex.into_inner(), n_goroutines * bursts * 101);
    });
}

/// Go's ten pairs of numbers of workers and readers. Every third lock is a try, repeated until it
/// succeeds.
#[test]
fn s29_rwlock_hammer() {
    const PAIRS: [(usize, usize); 10] =
        [(1, 1), (1, 3), (1, 10), (4, 1), (4, 3), (4, 10), (10, 1), (10, 3), (10, 10), (10, 5)];
    let rounds = size(300, 1000);
    for (workers, n_readers) in PAIRS {
        on_workers(workers, 0, || {
            let (lock, activity) = (RwLock::new(0), AtomicI32::new(0));
            scope(|s| {
                for id in 0..2 {
                    let (lock, activity) = (&lock, &activity);
                    s.go(move || {
                        for round in 0..rounds {
                            let mut guard = match (round + id) % 3 {
                                0 => had(|| lock.try_write()),
                                _ => lock.write(),
                            };
                            assert_eq!(activity.fetch_add(10_000, Ordering::Relaxed), 0, "a writer is alone");
                            let before = *guard;
                            if round % 7 == 0 {
                                yield_now();
                            }
                            *guard = before + 1;
                            assert_eq!(activity.fetch_sub(10_000, Ordering::Relaxed), 10_000, "a writer is alone");
                        }
                    });
                }
                for id in 0..n_readers {
                    let (lock, activity) = (&lock, &activity);
                    s.go(move || {
                        for round in 0..rounds {
                            let guard = match (round + id) % 3 {
                                0 => had(|| lock.try_read()),
                                _ => lock.read(),
                            };
                            let n = activity.fetch_add(1, Ordering::Relaxed) + 1;
                            assert!((1..10_000).contains(&n), "readers meet readers: {n}");
                            let before = *guard;
                            if round % 7 == 0 {
                                yield_now();
                            }
                            assert_eq!(*guard, before);
                            activity.fetch_sub(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!((lock.into_inner(), activity.into_inner()), (2 * rounds, 0));
        });
    }
}

/// Tries until it succeeds, and yields in between.
fn had<G>(mut try_lock: impl FnMut() -> Option<G>) -> G {
    loop {
        if let Some(guard) = try_lock() {
            return guard;
        }
        yield_now();
    }
}

/// Checks that 10 calls of `lock` succeed while `hog` runs again and again.
fn comes_through(hog: impl Fn() + Send + Sync, lock: impl Fn()) {
    let (start, stop) = (Instant::now(), AtomicBool::new(false));
    scope(|s| {
        for _ in 0..2 {
            s.go(|| {
                while !stop.load(Ordering::Relaxed) {
                    hog();
                }
            });
        }
        for _ in 0..10 {
            pause(Duration::from_micros(100));
            lock();
        }
        stop.store(true, Ordering::Relaxed);
    });
    // Ten locks take some milliseconds. The limit is long, since the machine may be busy, but far
    // below the time of a starved lock.
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn s29_nobody_is_starved() {
    with_workers(|| {
        let hold = || pause(Duration::from_micros(100));
        let (mutex, lock) = (Mutex::new(()), RwLock::new(()));
        let (ctx, _cancel) = Context::background().with_cancel();
        let hog_mutex = || {
            let _guard = mutex.lock();
            hold();
        };
        comes_through(hog_mutex, || drop(mutex.lock()));
        comes_through(hog_mutex, || drop(mutex.lock_ctx(&ctx).unwrap()));
        // Two overlapping readers would keep a writer out forever if it did not bar them.
        let hog_reading = || {
            let _guard = lock.read();
            hold();
        };
        comes_through(hog_reading, || drop(lock.write()));
        let hog_writing = || {
            let _guard = lock.write();
            hold();
        };
        comes_through(hog_writing, || drop(lock.read()));
        comes_through(hog_writing, || drop(lock.write_ctx(&ctx).unwrap()));
    });
}

/// Go's TestRLocker, with guards that travel: two readers and one writer take turns.
#[test]
fn s29_read_locks_and_write_locks_take_turns() {
    with_workers(|| {
        let lock = RwLock::new(());
        let (read, reads) = chan::bounded(1);
        let (written, writes) = chan::bounded(1);
        scope(|s| {
            s.go(|| {
                for _ in 0..10 {
                    read.send((lock.read(), lock.read())).unwrap();
                    written.send(lock.write()).unwrap();
                }
            });
            for _ in 0..10 {
                let (first, second) = reads.recv().unwrap();
                drop(first);
                assert!(writes.try_recv().is_err(), "a reader is in still");
                drop(second);
                let writer = writes.recv().unwrap();
                assert!(reads.try_recv().is_err(), "the writer is in");
                drop(writer);
            }
        });
    });
}
