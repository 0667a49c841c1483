//! S36: programs that leak, with exact counts.

use goby::chan::{self, Receiver, Sender};
use goby::{Context, go, select};

use crate::conformance::leak::{chain_to_a_sleeper, leaks_of, lock_twice};
use crate::support::{on_workers, with_workers_leaving};

/// A tree of goroutines. Each starts one that receives forever on a channel of its own.
#[test]
fn s36_a_tree_of_leaking_goroutines() {
    /// How many goroutines `node(i)` and those below it start, itself included, and how many of
    /// them leak.
    fn counts(i: usize) -> (usize, usize) {
        let children = (0..i).map(|_| counts(i - 1)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if i == 0 { (1, 0) } else { (children.0 + 2, children.1 + 1) }
    }
    fn node(i: usize, started: Sender<()>) {
        started.send(()).unwrap();
        if i == 0 {
            return;
        }
        let leaks = started.clone();
        go(move || {
            leaks.send(()).unwrap();
            drop(leaks);
            let (_tx, rx) = chan::bounded::<()>(0);
            rx.recv()
        });
        for _ in 0..i {
            let started = started.clone();
            go(move || node(i - 1, started));
        }
    }
    assert_eq!(counts(5), (532, 206));
    with_workers_leaving(206, || {
        let (tx, rx) = chan::unbounded();
        let found = leaks_of(|| {
            node(5, tx);
            // The root is not a goroutine of its own.
            assert_eq!(rx.iter().count() - 1, 531);
        });
        assert_eq!(found, ["chan receive"; 206]);
    });
}

/// A thousand mutexes, each locked twice by its goroutine; and a chain of a thousand with a tail
/// that sleeps.
#[test]
fn s36_mutexes_and_a_chain() {
    on_workers(2, 1000, || {
        let found = leaks_of(|| (0..1000).for_each(|_| lock_twice()));
        assert_eq!(found, ["sync.Mutex.Lock"; 1000]);
    });
    on_workers(2, 1001, || {
        let found = leaks_of(|| chain_to_a_sleeper(1000));
        assert!(found.is_empty(), "{found:?}");
    });
}

/// Six classic patterns. The ends that Go's garbage collector would find unreachable are forgotten
/// here, or kept by the goroutine itself, since dropping them is what frees it in goby.
#[test]
fn s36_classic_patterns() {
    let check = |name: &str, expected: usize, body: fn()| {
        on_workers(2, expected, || {
            let found = leaks_of(body);
            assert_eq!(found.len(), expected, "{name}: {found:?}");
        });
    };
    fn range_over(jobs: Receiver<u32>) {
        jobs.iter().for_each(drop);
    }
    check("one range without a close", 1, || {
        let (tx, rx) = chan::bounded(0);
        go(move || range_over(rx));
        tx.send(1).unwrap();
        std::mem::forget(tx);
    });
    check("three ranges without a close", 3, || {
        let (tx, rx) = chan::bounded(0);
        for _ in 0..3 {
            let rx = rx.clone();
            go(move || range_over(rx));
        }
        (0..6).for_each(|n| tx.send(n).unwrap());
        std::mem::forget(tx);
    });
    check("a stop that is missing", 1, || {
        let (stop, stopped) = chan::bounded::<()>(0);
        let (work, jobs) = chan::bounded::<()>(0);
        go(move || {
            loop {
                select! {
                    recv(jobs) -> _ => {},
                    recv(stopped) -> _ => return,
                }
            }
        });
        (0..10).for_each(|_| work.send(()).unwrap());
        std::mem::forget((stop, work));
    });
    check("a double send", 1, || {
        let (tx, rx) = chan::bounded(0);
        go(move || (1..=2).try_for_each(|n| tx.send(n)));
        assert_eq!(rx.recv(), Ok(1));
        std::mem::forget(rx);
    });
    check("a double send with room", 0, || {
        let (tx, rx) = chan::bounded(1);
        go(move || (1..=2).try_for_each(|n| tx.send(n)));
        assert_eq!(rx.recv(), Ok(1));
        std::mem::forget(rx);
    });
    check("an early return", 1, || {
        let (tx, rx) = chan::bounded(0);
        go(move || tx.send("result"));
        let failed = true;
        if failed {
            return std::mem::forget(rx);
        }
        rx.recv().unwrap();
    });
    fn first_of(n: usize) {
        let (tx, rx) = chan::bounded(0);
        for i in 0..n {
            let tx = tx.clone();
            go(move || tx.send(i));
        }
        if n > 0 {
            rx.recv().unwrap();
        }
        std::mem::forget(rx);
    }
    check("the first of five", 4, || first_of(5));
    check("the first of none", 0, || first_of(0));
}

/// The same patterns, written as goby recommends, leak nothing: ends are dropped, and contexts end
/// the rest.
#[test]
fn s36_the_cures() {
    on_workers(2, 0, || {
        let found = leaks_of(|| {
            let (tx, rx) = chan::bounded(0);
            for i in 0..5 {
                let tx = tx.clone();
                go(move || tx.send(i));
            }
            rx.recv().unwrap();
            drop(rx);
            let (ctx, cancel) = Context::background().with_cancel();
            let (work, jobs) = chan::bounded::<()>(0);
            go(move || {
                loop {
                    select! {
                        recv(jobs) -> _ => {},
                        recv(ctx.done()) -> _ => return,
                    }
                }
            });
            work.send(()).unwrap();
            drop(cancel);
            std::mem::forget(work);
        });
        assert!(found.is_empty(), "{found:?}");
    });
}
