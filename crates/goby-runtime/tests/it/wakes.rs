//! No wake-up is lost: work comes from every side to workers that run, look around, fall asleep or
//! sleep. Workers look around for some 40 µs before they sleep, so the pauses in between are spread
//! around that time. A lost wake-up shows as a hang: nothing else would wake the worker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use goby_runtime::{Decision, Gate, Runtime, Timer, WaitReason, blocking, go, now, random, spawn};

use crate::support::{Door, on_workers, runtime, with_workers};

const ROUNDS: usize = 1000;

/// Passes up to 150 µs without sleeping and without a call to goby.
fn dither() {
    let end = Instant::now() + Duration::from_nanos(random() % 150_000);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// Runs `rounds` on a plain thread while a goroutine waits for it. The wait needs no worker.
fn on_a_thread(rounds: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        rounds();
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(60)).expect("a wake-up was lost");
}

/// A thread outside starts a new goroutine each time.
#[test]
fn goroutines_started_from_outside() {
    for workers in [1, 2, 4] {
        let runtime = Arc::new(runtime(workers));
        on_a_thread(move || {
            for i in 0..ROUNDS {
                dither();
                assert_eq!(runtime.go(move || i).join().unwrap(), i);
            }
        });
    }
}

/// A parked goroutine unparked from outside, and back.
#[test]
fn goroutines_unparked_from_outside() {
    with_workers(|| {
        let turn = Arc::new(Gate::new(0usize));
        let wait_for = |turn: &Gate<usize>, own: usize| {
            turn.wait(WaitReason::CondWait, None, |turn, _| Decision::ready_if(*turn % 2 == own));
        };
        let next = |turn: &Gate<usize>| {
            turn.with(|turn, waiters| {
                *turn += 1;
                waiters.unpark_all(0);
            });
        };
        let theirs = turn.clone();
        let partner = thread::spawn(move || {
            for _ in 0..ROUNDS {
                wait_for(&theirs, 1);
                dither();
                next(&theirs);
            }
        });
        for _ in 0..ROUNDS {
            wait_for(&turn, 0);
            next(&turn);
        }
        wait_for(&turn, 0);
        blocking(|| partner.join().unwrap());
    });
}

/// Futures woken from outside.
#[test]
fn futures_woken_from_outside() {
    for workers in [1, 2, 4] {
        let runtime = runtime(workers);
        let (give, wakers) = mpsc::channel::<std::task::Waker>();
        let polls = Arc::new(AtomicUsize::new(0));
        let counts = polls.clone();
        let task = runtime.run(move || {
            spawn(std::future::poll_fn(move |cx| {
                if counts.fetch_add(1, Ordering::SeqCst) == ROUNDS {
                    return std::task::Poll::Ready(());
                }
                give.send(cx.waker().clone()).unwrap();
                std::task::Poll::Pending
            }))
        });
        on_a_thread(move || {
            for waker in wakers {
                dither();
                waker.wake();
            }
        });
        task.join().unwrap();
        assert_eq!(polls.load(Ordering::SeqCst), ROUNDS + 1);
    }
}

/// Timers started from outside, for the worker of the runtime that made them.
#[test]
fn timers_started_from_outside() {
    for workers in [1, 2] {
        let runtime = runtime(workers);
        let (fired, firings) = mpsc::channel();
        let timer = runtime.run(|| Timer::new(move |due| fired.send(due).unwrap()));
        on_a_thread(move || {
            for _ in 0..ROUNDS / 2 {
                dither();
                let due = now() + Duration::from_nanos(random() % 100_000);
                timer.start(due);
                assert!(firings.recv().unwrap() <= due);
            }
        });
    }
}

/// A goroutine is left to a thief, because its spawner computes: a worker wakes to take it.
#[test]
fn goroutines_left_to_thieves() {
    on_workers(2, || {
        for i in 0..ROUNDS {
            let ran = Arc::new(AtomicUsize::new(0));
            let sets = ran.clone();
            let handle = go(move || sets.store(1, Ordering::SeqCst));
            let start = Instant::now();
            while ran.load(Ordering::SeqCst) == 0 {
                thread::yield_now(); // The processor, not the worker.
                assert!(start.elapsed() < Duration::from_secs(60), "nobody took the goroutine in round {i}");
            }
            handle.join().unwrap();
            if i % 3 == 0 {
                dither();
            }
        }
    });
}

/// Workers of one runtime wake each other across all pairs.
#[test]
fn goroutines_unparked_by_other_workers() {
    on_workers(4, || {
        let doors: Vec<_> = (0..64).map(|_| Arc::new([const { Door::new() }; 40])).collect();
        // A ring: each waits for its left neighbor, round by round.
        let ring: Vec<_> = (0..64)
            .map(|i| {
                let (own, left) = (doors[i].clone(), doors[(i + 63) % 64].clone());
                go(move || {
                    for round in 0..40 {
                        if i == 0 {
                            own[round].open();
                            left[round].pass();
                        } else {
                            left[round].pass();
                            if i % 16 == 0 {
                                dither();
                            }
                            own[round].open();
                        }
                    }
                })
            })
            .collect();
        ring.into_iter().for_each(|goroutine| goroutine.join().unwrap());
    });
}

/// Runtimes start, do little and end: no sleeping worker misses the end.
#[test]
fn runtimes_come_and_go() {
    on_a_thread(|| {
        for round in 0..60 {
            let runtime = Runtime::builder().workers(1 + round % 4).build().unwrap();
            if round % 3 > 0 {
                assert_eq!(runtime.run(|| go(|| 1).join().unwrap()), 1);
            }
            if round % 2 == 0 {
                dither();
            }
            drop(runtime);
        }
    });
}
