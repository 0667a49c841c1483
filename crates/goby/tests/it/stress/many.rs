//! S11 and S13: very many goroutines, parked together or one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use goby::chan::{Receiver, TryRecvError, bounded};
use goby::sync::{Cond, Mutex, WaitGroup};
use goby::{Context, go, num_goroutines, yield_now};

use crate::support::{debug_or_release, size, wait_until, with_workers};

/// Starts `count` goroutines that run `wait` and count themselves, ends their wait, and checks that
/// all have been counted.
fn park_many(count: usize, wait: impl Fn() + Clone + Send + 'static, end: impl FnOnce()) {
    let start = num_goroutines();
    let (reached, passed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..count {
        let (wait, reached, passed) = (wait.clone(), reached.clone(), passed.clone());
        go(move || {
            reached.fetch_add(1, Ordering::Relaxed);
            wait();
            passed.fetch_add(1, Ordering::Relaxed);
        });
    }
    wait_until("all goroutines to reach their wait", || reached.load(Ordering::Relaxed) == count);
    assert_eq!((num_goroutines(), passed.load(Ordering::Relaxed)), (start + count, 0));
    end();
    wait_until("all goroutines to end", || num_goroutines() == start);
    assert_eq!(passed.load(Ordering::Relaxed), count);
}

/// Goroutines that wait for one event together. In a debug build each needs 20 KB.
fn many() -> usize {
    size(debug_or_release(20_000, 100_000), 1_000_000)
}

#[test]
fn s11_many_parked_one_close() {
    with_workers(|| {
        let (tx, rx) = bounded::<i32>(0);
        park_many(many(), move || assert!(rx.recv().is_err()), || drop(tx));
    });
}

#[test]
fn s11_many_parked_one_broadcast() {
    with_workers(|| {
        let shared = Arc::new((Mutex::new(false), Cond::new()));
        let theirs = shared.clone();
        let wait = move || {
            let (ended, cond) = &*theirs;
            drop(cond.wait_while(ended.lock(), |ended| !*ended));
        };
        park_many(many() / 4, wait, || {
            *shared.0.lock() = true;
            shared.1.broadcast();
        });
    });
}

#[test]
fn s11_many_parked_one_cancel() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        park_many(many() / 4, move || assert!(ctx.done().recv().is_err()), || cancel.cancel());
    });
}

#[test]
fn s11_many_parked_one_wait_group() {
    with_workers(|| {
        let group = WaitGroup::new();
        group.add(1);
        let theirs = group.clone();
        park_many(many() / 4, move || theirs.wait(), || group.done());
    });
}

/// Starts its successor and ends, unless told to stop.
fn respawn(stop: Receiver<()>, generations: Arc<AtomicUsize>) {
    match stop.try_recv() {
        Err(TryRecvError::Empty) => {
            generations.fetch_add(1, Ordering::Relaxed);
            go(move || respawn(stop, generations));
        }
        _ => assert!(stop.is_closed()),
    }
}

#[test]
fn s13_perpetual_respawn() {
    with_workers(|| {
        let (stop, stopped) = bounded(0);
        let generations = Arc::new(AtomicUsize::new(0));
        go({
            let generations = generations.clone();
            move || respawn(stopped, generations)
        });
        // Two observers look at the runtime as a whole, and start goroutines and yield meanwhile.
        let observers = [0, 1].map(|_| {
            go(|| {
                for _ in 0..size(300, 1000) {
                    assert!(num_goroutines() >= 2);
                    assert_eq!(go(num_goroutines).join().unwrap().min(2), 2);
                    yield_now();
                }
            })
        });
        observers.into_iter().for_each(|observer| observer.join().unwrap());
        // The observers may end before the system has run the thread that took the chain's first
        // goroutine.
        wait_until("the chain to move", || generations.load(Ordering::Relaxed) > 0);
        drop(stop);
    });
}
