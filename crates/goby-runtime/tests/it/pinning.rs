//! A goroutine that has started stays on its thread. So it may hold values that Rust ties to a
//! thread across parks. These tests are meant for ThreadSanitizer, too: each is a data race if a
//! stack ever continues on another thread.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use goby_runtime::{block_on, blocking, go, now, sleep_until, spawn, yield_now};

use crate::support::{Door, on_workers};

const GOROUTINES: usize = 200;
const ROUNDS: usize = 10;

/// Parks in one of the ways in which a goroutine can.
fn park_somehow(round: usize) {
    match round % 6 {
        0 => yield_now(),
        1 => sleep_until(now() + std::time::Duration::from_micros(50)),
        2 => go(|| ()).join().unwrap(),
        3 => block_on(spawn(async {})),
        4 => blocking(thread::yield_now),
        _ => {
            // Opened by a goroutine that another worker may steal.
            let door = Arc::new(Door::new());
            let opens = door.clone();
            go(move || opens.open());
            door.pass();
        }
    }
}

/// Runs `body` in many goroutines on 4 workers, and checks that they were on more than one thread.
fn on_many_goroutines(body: impl Fn(usize) + Copy + Send + Sync + 'static) {
    on_workers(4, || {
        let ready = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..GOROUTINES)
            .map(|i| {
                let ready = ready.clone();
                go(move || {
                    // The first goroutine keeps its worker until another worker has begun one, so
                    // the load is really spread.
                    ready.fetch_add(1, Ordering::SeqCst);
                    while ready.load(Ordering::SeqCst) < 2 {
                        thread::yield_now();
                    }
                    body(i);
                    thread::current().id()
                })
            })
            .collect();
        let threads: HashSet<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
        assert_eq!(ready.load(Ordering::SeqCst), GOROUTINES);
        assert!(threads.len() > 1, "all goroutines ran on one of four workers: the test shows nothing");
    });
}

#[test]
fn a_goroutine_keeps_its_thread() {
    on_many_goroutines(|i| {
        let home = thread::current().id();
        for round in 0..ROUNDS {
            park_somehow(i + round);
            assert_eq!(thread::current().id(), home);
        }
    });
}

#[test]
fn an_rc_of_a_thread_local_is_held_across_parks() {
    thread_local! {
        static SHARED: Rc<Cell<u64>> = Rc::new(Cell::new(0));
    }
    on_many_goroutines(|i| {
        let held = SHARED.with(Rc::clone);
        for round in 0..ROUNDS {
            let count = Rc::strong_count(&held);
            let second = held.clone();
            assert_eq!(Rc::strong_count(&held), count + 1);
            held.set(held.get() + 1);
            park_somehow(i + round);
            // The thread-local is still the one that this goroutine shares the count of, without a
            // lock.
            assert!(SHARED.with(|shared| Rc::ptr_eq(shared, &held)));
            drop(second);
        }
    });
}

/// A generator like those of the rand crate: a handle on state of the thread, changed without a
/// lock.
#[derive(Clone)]
struct ThreadRng(Rc<UnsafeCell<u64>>);

thread_local! {
    static RNG: ThreadRng = ThreadRng(Rc::new(UnsafeCell::new(0x9e37_79b9_7f4a_7c15)));
}

impl ThreadRng {
    fn next(&mut self) -> u64 {
        // SAFETY: only this thread has the state, as with an `Rc`, and nothing is called while it
        // is borrowed.
        let state = unsafe { &mut *self.0.get() };
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }
}

#[test]
fn a_thread_local_generator_is_held_across_parks() {
    on_many_goroutines(|i| {
        let mut rng = RNG.with(ThreadRng::clone);
        for round in 0..ROUNDS {
            let before = rng.next();
            park_somehow(i + round + (before % 2) as usize);
            // A generator shared by two threads can be torn into zero, where it would stay.
            assert_ne!(rng.next(), 0);
        }
    });
}

/// A borrow lives on the goroutine's stack while other goroutines of the same thread look at the
/// same thread-local cell.
#[test]
fn a_thread_local_borrow_is_held_across_a_park() {
    thread_local! {
        static LOG: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }
    on_many_goroutines(|i| {
        LOG.with(|log| {
            // Others on this thread find it borrowed; none on another thread does.
            if let Ok(mut log) = log.try_borrow_mut() {
                log.push(i);
                park_somehow(i);
                assert_eq!(log.last(), Some(&i));
                assert!(LOG.with(|log| log.try_borrow().is_err()));
            }
        });
    });
}
