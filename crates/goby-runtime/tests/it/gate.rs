//! Gates: each wait is either ready, unparked or timed out, exactly one of these.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use goby_runtime::{Decision, Gate, WaitReason, Waited, blocking, fences_work, go, now};

use crate::support::{in_child, runtime, stderr, wait_until, with_workers};

/// A gate with a state that counts the waiters that have come: they are in the queue when they are
/// counted.
type Counting = Gate<usize>;

fn wait(gate: &Counting, tag: usize, after: Option<Duration>) -> Waited<()> {
    gate.wait(WaitReason::SemaphoreAcquire, after.map(|after| now() + after), |came, _| {
        *came += 1;
        Decision::Wait(tag)
    })
}

fn have_come(gate: &Counting) -> usize {
    gate.with(|came, _| *came)
}

#[test]
fn a_wait_may_be_ready_at_once() {
    with_workers(|| {
        let gate = Gate::new(5);
        assert_eq!(gate.wait(WaitReason::CondWait, None, |state, _| Decision::Ready(*state + 1)), Waited::Ready(6));
        assert_eq!(gate.with(|state, waiters| (*state, waiters.is_empty())), (5, true));
    });
}

#[test]
fn waiters_are_unparked_in_the_order_they_came() {
    with_workers(|| {
        let gate = Arc::new(Counting::new(0));
        let mut ends: Vec<Box<dyn FnOnce() -> Waited<()> + Send>> = Vec::new();
        for tag in 0..20 {
            let theirs = gate.clone();
            let wait = move || wait(&theirs, tag, None);
            // Every fourth is a plain thread.
            if tag % 4 == 0 {
                let thread = thread::spawn(wait);
                ends.push(Box::new(move || thread.join().unwrap()));
            } else {
                let goroutine = go(wait);
                ends.push(Box::new(move || goroutine.join().unwrap()));
            }
            wait_until("the waiter to come", || have_come(&gate) == tag + 1);
        }
        for tag in 0..20 {
            assert_eq!(gate.with(|_, waiters| waiters.front_tag()), Some(tag));
            assert!(gate.with(|_, waiters| waiters.unpark_one(100 + tag)));
        }
        assert!(!gate.with(|_, waiters| waiters.unpark_one(0)));
        blocking(|| {
            for (tag, end) in ends.into_iter().enumerate() {
                assert_eq!(end(), Waited::Unparked(100 + tag));
            }
        });
    });
}

#[test]
fn unpark_all_says_of_how_many() {
    with_workers(|| {
        let gate = Arc::new(Counting::new(0));
        let waiters: Vec<_> = (0..100)
            .map(|tag| {
                let gate = gate.clone();
                go(move || wait(&gate, tag, None))
            })
            .collect();
        wait_until("all to wait", || have_come(&gate) == 100);
        assert_eq!(gate.with(|_, waiters| (waiters.unpark_all(7), waiters.is_empty())), (100, true));
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == Waited::Unparked(7)));
    });
}

#[test]
fn a_deadline_ends_a_wait_not_before_its_time() {
    let check = || {
        let gate = Counting::new(0);
        for time in [0, 1, 20] {
            let (start, time) = (now(), Duration::from_millis(time));
            assert_eq!(wait(&gate, 0, Some(time)), Waited::TimedOut);
            assert!(now() - start >= time);
            // A waiter that timed out is in no queue.
            assert_eq!(gate.with(|_, waiters| (waiters.front_tag(), waiters.unpark_one(0))), (None, false));
        }
        // A deadline far away never comes.
        let far = now() + Duration::from_secs(3600);
        assert_eq!(gate.wait(WaitReason::CondWait, Some(far), |_, _| Decision::Ready(1)), Waited::Ready(1));
    };
    with_workers(check);
    check(); // On a plain thread.
}

#[test]
fn a_timed_out_waiter_leaves_the_middle_of_the_queue() {
    with_workers(|| {
        let gate = Arc::new(Counting::new(0));
        let start = |tag, after| {
            let theirs = gate.clone();
            let waiter = go(move || wait(&theirs, tag, after));
            wait_until("it to come", || have_come(&gate) == tag + 1);
            waiter
        };
        let first = start(0, None);
        let second = start(1, Some(Duration::from_millis(5)));
        let third = start(2, None);
        assert_eq!(second.join().unwrap(), Waited::TimedOut);
        assert!(gate.with(|_, waiters| waiters.unpark_one(10)));
        assert_eq!(gate.with(|_, waiters| waiters.front_tag()), Some(2));
        assert!(gate.with(|_, waiters| waiters.unpark_one(12)));
        assert!(!gate.with(|_, waiters| waiters.unpark_one(0)));
        assert_eq!((first.join().unwrap(), third.join().unwrap()), (Waited::Unparked(10), Waited::Unparked(12)));
    });
}

/// Deadlines race with notifiers: a waiter that a notifier counted says `Unparked`, all others say
/// `TimedOut`.
#[test]
fn timed_out_and_unparked_exclude_each_other() {
    with_workers(|| {
        let gate = Arc::new(Counting::new(0));
        let ended = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = (0..4)
            .map(|i| {
                let (gate, ended) = (gate.clone(), ended.clone());
                let rounds = move || {
                    let mut unparked = 0;
                    for round in 0..500 {
                        let after = Duration::from_micros((round * 7 + i * 3) % 60);
                        match wait(&gate, 0, Some(after)) {
                            Waited::Unparked(token) => unparked += token,
                            Waited::TimedOut => {}
                            Waited::Ready(()) => unreachable!(),
                        }
                    }
                    ended.fetch_add(1, Ordering::SeqCst);
                    unparked
                };
                // One of them waits on a plain thread.
                if i == 0 { go(move || blocking(rounds)) } else { go(rounds) }
            })
            .collect();
        let mut counted = 0;
        wait_until("all waiters to end", || {
            for _ in 0..50 {
                counted += usize::from(gate.with(|_, waiters| waiters.unpark_one(1)));
            }
            ended.load(Ordering::SeqCst) == 4
        });
        let unparked: usize = waiters.into_iter().map(|waiter| waiter.join().unwrap()).sum();
        assert_eq!(unparked, counted);
        assert!(gate.with(|_, waiters| waiters.is_empty()));
    });
}

/// A semaphore made of a gate, with more threads and goroutines than places: there are never more
/// inside than places, and all get in.
#[test]
fn a_gate_makes_a_semaphore() {
    with_workers(|| {
        const PLACES: usize = 3;
        let gate = Arc::new(Gate::new(PLACES));
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let users: Vec<_> = (0..8)
            .map(|i| {
                let (gate, inside, most) = (gate.clone(), inside.clone(), most.clone());
                let use_it = move || {
                    for _ in 0..200 {
                        gate.wait(WaitReason::SemaphoreAcquire, None, |free, _| {
                            if *free == 0 {
                                return Decision::Wait(0);
                            }
                            *free -= 1;
                            Decision::Ready(())
                        });
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        goby_runtime::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        // The place is handed over, or becomes free.
                        gate.with(|free, waiters| {
                            if !waiters.unpark_one(0) {
                                *free += 1;
                            }
                        });
                    }
                };
                if i < 2 { go(move || blocking(use_it)) } else { go(use_it) }
            })
            .collect();
        users.into_iter().for_each(|user| user.join().unwrap());
        assert_eq!((inside.load(Ordering::SeqCst), gate.with(|free, _| *free)), (0, PLACES));
        assert!((1..=PLACES).contains(&most.load(Ordering::SeqCst)));
    });
}

/// Entering again would give the state twice, mutably. Only a lock that is biased to a worker knows
/// its holder.
#[test]
fn a_gate_entered_again_by_who_is_inside_aborts() {
    if !fences_work() {
        return;
    }
    let output = in_child("gate::a_gate_entered_again_by_who_is_inside_aborts", || {
        runtime(1).run(|| {
            let gate = Gate::new(0u32);
            // So that its lock is biased to this worker.
            for _ in 0..1000 {
                gate.with(|n, _| *n += 1);
            }
            gate.with(|outer, _| {
                gate.with(|inner, _| *inner += 1);
                *outer += 1;
            });
        });
    });
    let text = stderr(&output);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{}: {text}", output.status);
    assert!(text.contains("a short lock is taken by the thread that holds it"), "{text}");
}
