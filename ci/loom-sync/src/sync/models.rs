//! The models. Each checks three things in every schedule: that nobody reads what another thread is
//! writing (by loom's cells); that all threads end, so that no wake-up is lost; and that in the end
//! the primitive is free.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::queue::Until;
use super::raw_mutex::RawMutex;
use super::raw_rwlock::RawRwLock;
use super::semaphore::Semaphore;
use super::wait_group::WaitGroup;
use crate::{Context, gate};

/// Explores `f` with at most `preemptions` preemptions; a look at the clock moves it on by `step`
/// microseconds. If that is more than 1000, a waiter that has to queue again makes the mutex
/// starving.
fn explore(step: u64, preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(move || {
        gate::set_clock(step);
        f();
    });
}

/// A lock, and a value that loom watches.
struct Locked<L> {
    raw: L,
    value: UnsafeCell<u32>,
}

// SAFETY: the models use the value only while they hold the lock, and loom checks that.
unsafe impl<L> Sync for Locked<L> {}
// SAFETY: as above.
unsafe impl<L> Send for Locked<L> {}

impl<L> Locked<L> {
    fn new(raw: L) -> Arc<Locked<L>> {
        Arc::new(Locked { raw, value: UnsafeCell::new(0) })
    }

    fn add(&self) {
        // SAFETY: the caller has the lock.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }

    fn get(&self) -> u32 {
        // SAFETY: the caller has the lock.
        self.value.with(|value| unsafe { *value })
    }
}

fn mutex(step: u64, n_threads: u32, rounds: u32, preemptions: usize) {
    explore(step, preemptions, move || {
        let mutex = Locked::new(RawMutex::new());
        let threads: Vec<_> = (0..n_threads)
            .map(|_| {
                let mutex = mutex.clone();
                thread::spawn(move || {
                    for _ in 0..rounds {
                        mutex.raw.lock();
                        mutex.add();
                        mutex.raw.unlock();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(mutex.raw.try_lock());
        assert_eq!(mutex.get(), n_threads * rounds);
    });
}

#[test]
fn mutex_of_2_twice() {
    mutex(0, 2, 2, 4);
}

#[test]
fn mutex_of_2_twice_starving() {
    mutex(2000, 2, 2, 4);
}

#[test]
fn mutex_of_3() {
    mutex(0, 3, 1, 3);
}

#[test]
fn mutex_of_3_starving() {
    mutex(2000, 3, 1, 3);
}

#[test]
fn mutex_of_3_twice_starving_now_and_then() {
    mutex(600, 3, 2, 2);
}

#[test]
fn mutex_with_a_waiter_that_is_canceled() {
    for step in [0, 2000] {
        explore(step, 3, || {
            let (mutex, ctx) = (Locked::new(RawMutex::new()), Context::background());
            let canceled = {
                let (mutex, ctx) = (mutex.clone(), ctx.clone());
                thread::spawn(move || {
                    let locked = mutex.raw.lock_until(Until::Done(&ctx));
                    if locked {
                        mutex.add();
                        mutex.raw.unlock();
                    }
                    locked
                })
            };
            let other = {
                let mutex = mutex.clone();
                thread::spawn(move || {
                    mutex.raw.lock();
                    mutex.add();
                    mutex.raw.unlock();
                })
            };
            mutex.raw.lock();
            ctx.cancel();
            mutex.raw.unlock();
            let n_locked = 1 + u32::from(canceled.join().unwrap());
            other.join().unwrap();
            assert!(mutex.raw.try_lock());
            assert_eq!(mutex.get(), n_locked);
        });
    }
}

fn rwlock(n_readers: u32, n_writers: u32, rounds: u32, preemptions: usize) {
    explore(0, preemptions, move || {
        let lock = Locked::new(RawRwLock::new());
        let readers = (0..n_readers).map(|_| {
            let lock = lock.clone();
            thread::spawn(move || (0..rounds).for_each(|_| assert!(read(&lock, Until::Forever).is_some())))
        });
        let writers = (0..n_writers).map(|_| {
            let lock = lock.clone();
            thread::spawn(move || (0..rounds).for_each(|_| assert!(write(&lock, Until::Forever))))
        });
        let threads: Vec<_> = readers.chain(writers).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(lock.raw.try_write());
        assert_eq!(lock.get(), n_writers * rounds);
    });
}

/// Reads if the lock is granted, and returns what was read.
fn read(lock: &Locked<RawRwLock>, until: Until<'_>) -> Option<u32> {
    lock.raw.read(until).then(|| {
        let value = lock.get();
        lock.raw.unlock_read();
        value
    })
}

/// Writes if the lock is granted, and returns whether it was.
fn write(lock: &Locked<RawRwLock>, until: Until<'_>) -> bool {
    let granted = lock.raw.write(until);
    if granted {
        lock.add();
        lock.raw.unlock_write();
    }
    granted
}

#[test]
fn rwlock_of_a_reader_and_a_writer_twice() {
    rwlock(1, 1, 2, 4);
}

#[test]
fn rwlock_of_2_readers_and_a_writer() {
    rwlock(2, 1, 1, 3);
}

#[test]
fn rwlock_of_a_reader_and_2_writers() {
    rwlock(1, 2, 1, 3);
}

#[test]
fn rwlock_of_2_writers_twice() {
    rwlock(0, 2, 2, 4);
}

#[test]
fn rwlock_of_2_readers_and_a_writer_twice() {
    rwlock(2, 1, 2, 2);
}

#[test]
fn rwlock_of_a_reader_and_2_writers_twice() {
    rwlock(1, 2, 2, 2);
}

/// One thread reads, a writer and a reader come, and the writer is canceled while the first reader
/// leaves.
#[test]
fn rwlock_with_a_writer_that_is_canceled() {
    explore(0, 3, || {
        let (lock, ctx) = (Locked::new(RawRwLock::new()), Context::background());
        assert!(lock.raw.read(Until::Forever));
        let writer = {
            let (lock, ctx) = (lock.clone(), ctx.clone());
            thread::spawn(move || u32::from(write(&lock, Until::Done(&ctx))))
        };
        let reader = {
            let lock = lock.clone();
            thread::spawn(move || read(&lock, Until::Forever).expect("a read lock"))
        };
        ctx.cancel();
        assert_eq!(lock.get(), 0);
        lock.raw.unlock_read();
        let n_writes = writer.join().unwrap();
        assert!(reader.join().unwrap() <= n_writes);
        assert!(lock.raw.try_write());
        assert_eq!(lock.get(), n_writes);
    });
}

/// The same, but the first reader stays until the others have ended: the writer that gives up must
/// let the second reader in.
#[test]
fn rwlock_with_a_writer_that_gives_up_before_readers() {
    explore(0, 3, || {
        let (lock, ctx) = (Locked::new(RawRwLock::new()), Context::background());
        assert!(lock.raw.read(Until::Forever));
        let writer = {
            let (lock, ctx) = (lock.clone(), ctx.clone());
            thread::spawn(move || assert!(!write(&lock, Until::Done(&ctx))))
        };
        let reader = {
            let lock = lock.clone();
            thread::spawn(move || read(&lock, Until::Forever).expect("a read lock"))
        };
        ctx.cancel();
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap(), 0);
        lock.raw.unlock_read();
        assert!(lock.raw.try_write());
    });
}

#[test]
fn rwlock_with_a_reader_that_is_canceled() {
    explore(0, 3, || {
        let (lock, ctx) = (Locked::new(RawRwLock::new()), Context::background());
        assert!(lock.raw.write(Until::Forever));
        let reader = {
            let (lock, ctx) = (lock.clone(), ctx.clone());
            thread::spawn(move || assert_ne!(read(&lock, Until::Done(&ctx)), Some(0)))
        };
        let writer = {
            let lock = lock.clone();
            thread::spawn(move || assert!(write(&lock, Until::Forever)))
        };
        ctx.cancel();
        lock.add();
        lock.raw.unlock_write();
        reader.join().unwrap();
        writer.join().unwrap();
        assert!(lock.raw.try_write());
        assert_eq!(lock.get(), 2);
    });
}

/// The writer becomes a reader while a reader and a writer come: the reader sees what it wrote, and
/// so does the writer, which comes after both.
#[test]
fn rwlock_with_a_writer_that_becomes_a_reader() {
    explore(0, 3, || {
        let lock = Locked::new(RawRwLock::new());
        assert!(lock.raw.write(Until::Forever));
        let reader = {
            let lock = lock.clone();
            thread::spawn(move || read(&lock, Until::Forever).expect("a read lock"))
        };
        let writer = {
            let lock = lock.clone();
            thread::spawn(move || assert!(write(&lock, Until::Forever)))
        };
        lock.add();
        lock.raw.downgrade();
        assert_eq!(lock.get(), 1, "no writer was in between");
        lock.raw.unlock_read();
        assert_ne!(reader.join().unwrap(), 0);
        writer.join().unwrap();
        assert!(lock.raw.try_write());
        assert_eq!(lock.get(), 2);
    });
}

/// Upgrades, and checks that the writer finds what it read before.
fn upgrade(lock: &Locked<RawRwLock>) {
    assert!(lock.raw.upgradable_read(Until::Forever));
    let seen = lock.get();
    assert!(lock.raw.become_writer(Until::Forever));
    assert_eq!(lock.get(), seen, "no writer was in between");
    lock.add();
    lock.raw.unlock_write();
}

fn rwlock_upgrade(n_readers: u32, n_writers: u32, n_upgraders: u32, preemptions: usize) {
    explore(0, preemptions, move || {
        let lock = Locked::new(RawRwLock::new());
        // Makes what upgradable readers need: loom does not see that std orders this before its
        // uses.
        assert!(lock.raw.try_upgradable_read());
        lock.raw.unlock_upgradable();
        let readers = (0..n_readers).map(|_| {
            let lock = lock.clone();
            thread::spawn(move || assert!(read(&lock, Until::Forever).is_some()))
        });
        let writers = (0..n_writers).map(|_| {
            let lock = lock.clone();
            thread::spawn(move || assert!(write(&lock, Until::Forever)))
        });
        let upgraders = (1..n_upgraders).map(|_| {
            let lock = lock.clone();
            thread::spawn(move || upgrade(&lock))
        });
        let threads: Vec<_> = readers.chain(writers).chain(upgraders).collect();
        upgrade(&lock);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(lock.raw.try_write());
        assert_eq!(lock.get(), n_writers + n_upgraders);
    });
}

#[test]
fn rwlock_of_an_upgrader_and_2_readers() {
    rwlock_upgrade(2, 0, 1, 3);
}

#[test]
fn rwlock_of_an_upgrader_a_reader_and_a_writer() {
    rwlock_upgrade(1, 1, 1, 3);
}

#[test]
fn rwlock_of_2_upgraders_and_a_reader() {
    rwlock_upgrade(1, 0, 2, 2);
}

/// An upgrade is canceled while the other reader leaves and a new one comes: the new one gets in,
/// in any case.
#[test]
fn rwlock_with_an_upgrade_that_is_canceled() {
    explore(0, 3, || {
        let (lock, ctx) = (Locked::new(RawRwLock::new()), Context::background());
        assert!(lock.raw.read(Until::Forever));
        let upgrader = {
            let (lock, ctx) = (lock.clone(), ctx.clone());
            thread::spawn(move || {
                assert!(lock.raw.upgradable_read(Until::Forever));
                let seen = lock.get();
                let is_writer = lock.raw.become_writer(Until::Done(&ctx));
                assert_eq!(lock.get(), seen);
                if is_writer {
                    lock.add();
                    lock.raw.unlock_write();
                } else {
                    lock.raw.unlock_upgradable();
                }
                u32::from(is_writer)
            })
        };
        let reader = {
            let lock = lock.clone();
            thread::spawn(move || read(&lock, Until::Forever).expect("a read lock"))
        };
        ctx.cancel();
        assert_eq!(lock.get(), 0);
        lock.raw.unlock_read();
        let n_writes = upgrader.join().unwrap();
        assert!(reader.join().unwrap() <= n_writes);
        assert!(lock.raw.try_write());
        assert_eq!(lock.get(), n_writes);
    });
}

/// The same, but the first reader stays until the others have ended: the upgrader that gives up
/// must let the new reader in.
#[test]
fn rwlock_with_an_upgrade_that_gives_up_before_readers() {
    explore(0, 3, || {
        let (lock, ctx) = (Locked::new(RawRwLock::new()), Context::background());
        assert!(lock.raw.read(Until::Forever));
        let upgrader = {
            let (lock, ctx) = (lock.clone(), ctx.clone());
            thread::spawn(move || {
                assert!(lock.raw.upgradable_read(Until::Forever));
                assert!(!lock.raw.become_writer(Until::Done(&ctx)));
                lock.raw.unlock_upgradable();
            })
        };
        let reader = {
            let lock = lock.clone();
            thread::spawn(move || read(&lock, Until::Forever).expect("a read lock"))
        };
        ctx.cancel();
        upgrader.join().unwrap();
        assert_eq!(reader.join().unwrap(), 0);
        lock.raw.unlock_read();
        assert!(lock.raw.try_write());
    });
}

/// The waiter sees what both threads did, though only the last one unparks it.
#[test]
fn wait_group_orders_all_that_was_done() {
    explore(0, 3, || {
        let wg = WaitGroup::new();
        wg.add(2);
        let work: Vec<_> = (0..2)
            .map(|_| {
                let (wg, value) = (wg.clone(), Locked::new(()));
                let seen = value.clone();
                let thread = thread::spawn(move || {
                    value.add();
                    wg.done();
                });
                (thread, seen)
            })
            .collect();
        wg.wait();
        for (thread, value) in work {
            assert_eq!(value.get(), 1);
            thread.join().unwrap();
        }
    });
}

/// A waiter for one zero goes on, though the group is used again at once.
#[test]
fn wait_group_that_is_used_again() {
    explore(0, 3, || {
        let wg = WaitGroup::new();
        wg.add(1);
        let waiter = {
            let wg = wg.clone();
            thread::spawn(move || wg.wait())
        };
        let worker = {
            let wg = wg.clone();
            thread::spawn(move || wg.done())
        };
        wg.wait();
        wg.add(1);
        wg.done();
        worker.join().unwrap();
        waiter.join().unwrap();
    });
}

/// A large request at the front is canceled: the small one behind it is served.
#[test]
fn semaphore_with_a_request_that_is_canceled() {
    explore(0, 3, || {
        let (semaphore, ctx) = (Semaphore::new(2), Context::background());
        let held = semaphore.try_acquire(1).expect("a permit");
        let large = {
            let (semaphore, ctx) = (semaphore.clone(), ctx.clone());
            thread::spawn(move || drop(semaphore.acquire(&ctx, 2)))
        };
        let small = {
            let semaphore = semaphore.clone();
            thread::spawn(move || drop(semaphore.acquire(&Context::background(), 1).expect("a permit")))
        };
        ctx.cancel();
        large.join().unwrap();
        small.join().unwrap();
        drop(held);
        assert_eq!(semaphore.available(), 2);
        assert!(semaphore.try_acquire(2).is_some(), "nobody waits any more");
    });
}
