//! Calls that block an OS thread.

use std::cell::RefCell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

use goby_runtime::{
    WaitReason, Withdrawal, blocking, blocking_as, blocking_unless, go, num_goroutines, scope, yield_now,
};

use crate::support::{on_workers, wait_until, with_workers};

#[test]
fn a_blocking_call_borrows_and_gives_its_value() {
    with_workers(|| {
        let text = String::from("borrowed");
        let mut log = vec![1];
        let length = blocking(|| {
            log.push(2);
            text.len()
        });
        assert_eq!((length, &log[..]), (8, &[1, 2][..]));
    });
}

#[test]
fn it_runs_on_another_thread_and_comes_back_to_the_same() {
    with_workers(|| {
        let worker = thread::current().id();
        let helper = blocking(|| thread::current().id());
        assert_ne!(worker, helper);
        assert_eq!(worker, thread::current().id());
    });
}

#[test]
fn on_a_plain_thread_it_is_a_call() {
    let here = thread::current().id();
    assert_eq!(blocking(|| thread::current().id()), here);
    let state = RefCell::new(1);
    blocking(|| *Arc::new(Mutex::new(2)).lock().unwrap());
    assert_eq!(state.take(), 1);
    // Inside a helper it is a plain call, too: there is no goroutine to park.
    on_workers(1, || {
        blocking(|| {
            let helper = thread::current().id();
            assert_eq!(blocking(|| thread::current().id()), helper);
        });
    });
}

#[test]
fn its_panic_comes_out_with_the_payload() {
    with_workers(|| {
        let payload = catch_unwind(|| blocking(|| panic!("on the helper"))).unwrap_err();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "on the helper");
        // The helper still works.
        assert_eq!(blocking(|| 1), 1);
        let mut touched = false;
        let caught = catch_unwind(AssertUnwindSafe(|| {
            blocking(|| {
                touched = true;
                std::panic::panic_any(7)
            })
        }));
        assert_eq!((*caught.unwrap_err().downcast::<i32>().unwrap(), touched), (7, true));
    });
}

/// Each call waits for all others. So this ends only if there are as many helper threads as calls.
#[test]
fn there_are_as_many_helpers_as_calls() {
    with_workers(|| {
        let barrier = Arc::new(Barrier::new(40));
        let threads = Arc::new(Mutex::new(HashSet::new()));
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let (barrier, threads) = (barrier.clone(), threads.clone());
                go(move || {
                    blocking(|| {
                        barrier.wait();
                        threads.lock().unwrap().insert(thread::current().id())
                    })
                })
            })
            .collect();
        assert!(calls.into_iter().all(|call| call.join().unwrap()));
        assert_eq!(threads.lock().unwrap().len(), 40);
    });
}

/// A helper without work is used again: one call after another needs few threads.
#[test]
fn idle_helpers_are_used_again() {
    on_workers(1, || {
        let threads: HashSet<_> = (0..200).map(|_| blocking(|| thread::current().id())).collect();
        assert!(threads.len() <= 10, "{} helper threads for calls one by one", threads.len());
    });
}

/// More calls than there may be helpers: the other calls wait, and all are made.
#[test]
fn a_thousand_calls_at_once() {
    on_workers(2, || {
        let done = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..1000 {
                s.go(|| {
                    blocking(|| {
                        thread::yield_now();
                        done.fetch_add(1, Ordering::Relaxed)
                    })
                });
            }
        });
        assert_eq!(done.load(Ordering::Relaxed), 1000);
    });
}

/// More look-ups than there are helpers leave helpers to others, and all get their turn.
#[test]
fn look_ups_leave_helpers_to_others() {
    with_workers(|| {
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let ended = AtomicUsize::new(0);
        let answers = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..600 {
                s.go(|| {
                    blocking_as(WaitReason::LookUp, || {
                        let _ = gate.lock().unwrap().recv();
                    });
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
            s.go(|| {
                blocking(|| answers.fetch_add(1, Ordering::Relaxed));
            });
            wait_until("the other call", || answers.load(Ordering::Relaxed) == 1);
            assert_eq!(ended.load(Ordering::Relaxed), 0);
            drop(open);
        });
        assert_eq!(ended.load(Ordering::Relaxed), 600);
    });
}

/// There is no helper for it, so it is taken back before it is queued or from the queue.
#[test]
fn a_call_that_has_not_begun_is_withdrawn() {
    with_workers(|| {
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let begun = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..256 {
                s.go(|| {
                    blocking_as(WaitReason::LookUp, || {
                        begun.fetch_add(1, Ordering::Relaxed);
                        let _ = gate.lock().unwrap().recv();
                    });
                });
            }
            wait_until("the helpers to be taken", || begun.load(Ordering::Relaxed) == 256);
            for round in 0..100 {
                let withdrawal = Withdrawal::new();
                let withdraws = withdrawal.clone();
                let call = s.go(move || blocking_unless(&withdrawal, WaitReason::LookUp, || unreachable!("withdrawn")));
                (0..round % 3).for_each(|_| yield_now());
                withdraws.withdraw();
                withdraws.withdraw();
                assert_eq!(call.join().unwrap(), None);
            }
            drop(open);
        });
    });
}

#[test]
fn a_call_is_made_or_withdrawn_never_both() {
    with_workers(|| {
        let calls = AtomicUsize::new(0);
        let made = (0..2000).filter(|round| {
            let withdrawal = Withdrawal::new();
            let withdraws = withdrawal.clone();
            scope(|s| {
                let call = s.go(|| {
                    blocking_unless(&withdrawal, WaitReason::Blocking, || calls.fetch_add(1, Ordering::Relaxed))
                });
                (0..round % 4).for_each(|_| yield_now());
                withdraws.withdraw();
                call.join().unwrap().is_some()
            })
        });
        assert_eq!(made.count(), calls.load(Ordering::Relaxed));
    });
}

/// The only worker goes on with other goroutines while a call blocks; the call waits for one of
/// them.
#[test]
fn a_blocking_call_starves_no_goroutine() {
    on_workers(1, || {
        let (tx, rx) = mpsc::channel();
        let call = go(move || blocking(move || rx.recv().unwrap()));
        let others: Vec<_> = (0..10).map(|_| go(yield_now)).collect();
        others.into_iter().for_each(|other| other.join().unwrap());
        tx.send(7).unwrap();
        assert_eq!(call.join().unwrap(), 7);
    });
}

#[test]
fn inside_it_the_runtime_is_the_callers() {
    on_workers(1, || {
        let ran = AtomicBool::new(false);
        blocking(|| {
            assert_eq!(num_goroutines(), 1);
            let handle = go(|| (num_goroutines(), thread::current().name().map(str::to_owned)));
            let (count, name) = handle.join().unwrap();
            assert_eq!(count, 2);
            assert!(name.unwrap().starts_with("goby-worker-"));
            ran.store(true, Ordering::SeqCst);
        });
        assert!(ran.load(Ordering::SeqCst));
    });
}
