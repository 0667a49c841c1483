//! The same kinds of exchange as in `racy`, each with the edge that orders it, repeated some
//! hundred times.

use std::sync::Arc;
use std::time::Duration;

use goby::sync::{Cond, Mutex, Once, RwLock, WaitGroup};
use goby::{Context, blocking, chan, go, scope, select, spawn, time, yield_now};

use crate::Program;
use crate::shared::Unprotected;

pub const PROGRAMS: &[Program] = &[
    ("go_and_join", go_and_join),
    ("panic_and_join", panic_and_join),
    ("result_dropped", result_dropped),
    ("rendezvous_both_ways", rendezvous_both_ways),
    ("full_channel_is_a_lock", full_channel_is_a_lock),
    ("close", close),
    ("pipeline", pipeline),
    ("select_both_ways", select_both_ways),
    ("cancel", cancel),
    ("mutex", mutex),
    ("rwlock", rwlock),
    ("cond", cond),
    ("once", once),
    ("wait_group", wait_group),
    ("timer", timer),
    ("last_drop", last_drop),
    ("blocking_closure_waited_for", blocking_closure_waited_for),
    ("future_joined", future_joined),
    ("futures_started_by_many", futures_started_by_many),
    ("os_thread_and_channel", os_thread_and_channel),
];

const ROUNDS: u64 = 200;

fn go_and_join() {
    let n = Arc::new(Unprotected::new());
    for round in 0..ROUNDS {
        n.add();
        let theirs = n.clone();
        go(move || {
            yield_now();
            theirs.add();
        })
        .join()
        .unwrap();
        assert_eq!(n.read(), 2 * (round + 1));
    }
}

fn panic_and_join() {
    let n = Arc::new(Unprotected::new());
    for round in 0..20 {
        let theirs = n.clone();
        let panicked = go(move || {
            theirs.add();
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(panicked.join().is_err());
        assert_eq!(n.read(), round + 1);
    }
}

/// A result that nobody takes is dropped by the goroutine or its handle, whichever ends second.
fn result_dropped() {
    struct Owned(Arc<Unprotected>);
    impl Drop for Owned {
        fn drop(&mut self) {
            self.0.add();
        }
    }
    for round in 0..ROUNDS {
        let (one, other) = (Arc::new(Unprotected::new()), Arc::new(Unprotected::new()));
        let handle = go(move || {
            one.add();
            Owned(one)
        });
        scope(|s| {
            let scoped = s.go(|| {
                other.add();
                Owned(other.clone())
            });
            (0..round % 8).for_each(|_| yield_now());
            drop(scoped);
        });
        drop(handle);
        assert_eq!(other.read(), 2);
    }
}

/// Writes before a send are seen after its receive, and writes before a receive are seen after its
/// send.
fn rendezvous_both_ways() {
    let (ours, theirs) = (Unprotected::new(), Unprotected::new());
    let (tx, rx) = chan::bounded(0);
    scope(|s| {
        s.go(|| {
            for round in 0..ROUNDS {
                theirs.add();
                rx.recv().unwrap();
                assert_eq!(ours.read(), round + 1);
                rx.recv().unwrap();
            }
        });
        for round in 0..ROUNDS {
            ours.add();
            tx.send(()).unwrap();
            assert_eq!(theirs.read(), round + 1);
            tx.send(()).unwrap();
        }
    });
}

/// The k-th receive is ordered before the (k + C)-th send: lock is send, unlock is receive.
fn full_channel_is_a_lock() {
    let n = Unprotected::new();
    let (tx, rx) = chan::bounded(1);
    scope(|s| {
        for _ in 0..4 {
            s.go(|| {
                for _ in 0..ROUNDS {
                    tx.send(()).unwrap();
                    n.add();
                    rx.recv().unwrap();
                }
            });
        }
    });
    assert_eq!(n.read(), 4 * ROUNDS);
}

fn close() {
    for _ in 0..ROUNDS {
        let n = Unprotected::new();
        let (tx, rx) = chan::bounded::<()>(0);
        scope(|s| {
            for _ in 0..2 {
                s.go(|| {
                    assert!(rx.recv().is_err());
                    n.read();
                });
            }
            n.add();
            tx.close();
        });
    }
}

/// Boxes go through three goroutines, and each changes the box that it was given.
fn pipeline() {
    let (first, second_in) = chan::bounded(4);
    let (second, third_in) = chan::bounded(0);
    let (third, out) = chan::unbounded();
    go(move || (0..ROUNDS).try_for_each(|i| first.send(Box::new(i))));
    go(move || {
        second_in.iter().try_for_each(|mut v| {
            *v += 1;
            second.send(v)
        })
    });
    go(move || {
        third_in.iter().try_for_each(|mut v| {
            *v *= 2;
            third.send(v)
        })
    });
    let sum: u64 = out.iter().map(|v| *v).sum();
    assert_eq!(sum, ROUNDS * (ROUNDS + 1));
}

fn select_both_ways() {
    let n = Unprotected::new();
    let (to_tx, to) = chan::bounded::<()>(0);
    let (back_tx, back) = chan::bounded::<()>(0);
    let never = chan::never::<()>();
    scope(|s| {
        s.go(|| {
            for _ in 0..ROUNDS {
                select! {
                    recv(to) -> v => v.unwrap(),
                    recv(never) -> _ => unreachable!(),
                }
                n.add();
                select! {
                    send(back_tx, ()) -> sent => sent.unwrap(),
                    recv(never) -> _ => unreachable!(),
                }
            }
        });
        for _ in 0..ROUNDS {
            n.add();
            select! {
                send(to_tx, ()) -> sent => sent.unwrap(),
                recv(never) -> _ => unreachable!(),
            }
            select! {
                recv(back) -> v => v.unwrap(),
                default(Duration::from_secs(60)) => panic!("the other side is there"),
            }
        }
    });
    assert_eq!(n.read(), 2 * ROUNDS);
}

fn cancel() {
    for _ in 0..ROUNDS {
        let n = Unprotected::new();
        let (ctx, cancel) = Context::background().with_cancel();
        let (child, _guard) = ctx.with_cancel();
        scope(|s| {
            s.go(|| {
                let _ = child.done().recv();
                n.read();
            });
            n.add();
            cancel.cancel();
        });
    }
}

fn mutex() {
    let n = Unprotected::new();
    let lock = Mutex::new(());
    scope(|s| {
        for _ in 0..4 {
            s.go(|| {
                for _ in 0..ROUNDS {
                    let _guard = lock.lock();
                    n.add();
                    yield_now();
                }
            });
        }
    });
    assert_eq!(n.read(), 4 * ROUNDS);
}

fn rwlock() {
    let n = Unprotected::new();
    let lock = RwLock::new(());
    scope(|s| {
        for _ in 0..2 {
            s.go(|| {
                for _ in 0..ROUNDS {
                    let _guard = lock.write();
                    n.add();
                }
            });
            s.go(|| {
                for _ in 0..ROUNDS {
                    let _guard = lock.read();
                    n.read();
                    yield_now();
                }
            });
        }
    });
    assert_eq!(n.read(), 2 * ROUNDS);
}

fn cond() {
    let n = Unprotected::new();
    let (turn, changed) = (Mutex::new(0), Cond::new());
    scope(|s| {
        for me in 0..2 {
            let (n, turn, changed) = (&n, &turn, &changed);
            s.go(move || {
                for _ in 0..ROUNDS {
                    let mut turn = turn.lock();
                    while *turn != me {
                        turn = changed.wait(turn);
                    }
                    n.add();
                    *turn = 1 - me;
                    changed.broadcast();
                }
            });
        }
    });
    assert_eq!(n.read(), 2 * ROUNDS);
}

fn once() {
    for _ in 0..ROUNDS {
        let n = Unprotected::new();
        let once = Once::new();
        scope(|s| {
            for _ in 0..3 {
                s.go(|| {
                    once.call_once(|| n.add());
                    assert_eq!(n.read(), 1);
                });
            }
        });
    }
}

fn wait_group() {
    for _ in 0..ROUNDS {
        let wg = WaitGroup::new();
        let cells: Vec<Arc<Unprotected>> = (0..4).map(|_| Arc::new(Unprotected::new())).collect();
        for cell in &cells {
            let cell = cell.clone();
            wg.go(move || cell.add());
        }
        wg.wait();
        assert!(cells.iter().all(|cell| cell.read() == 1));
    }
}

fn timer() {
    let n = Arc::new(Unprotected::new());
    for round in 0..20 {
        let (theirs, (tx, rx)) = (n.clone(), chan::bounded(1));
        n.add();
        let _timer = time::after_func(Duration::from_micros(100), move || {
            theirs.add();
            tx.send(()).unwrap();
        });
        rx.recv().unwrap();
        assert_eq!(n.read(), 2 * (round + 1));
    }
}

/// The owners' last uses are ordered before the destructor: see goby race's hooks.c.
fn last_drop() {
    struct Owned(Unprotected);
    impl Drop for Owned {
        fn drop(&mut self) {
            self.0.add();
        }
    }
    for _ in 0..ROUNDS {
        let shared = Arc::new(Owned(Unprotected::new()));
        let share = shared.clone();
        go(move || {
            share.0.read();
            yield_now();
            drop(share);
        });
        yield_now();
        drop(shared);
    }
}

fn blocking_closure_waited_for() {
    let mut n = 0;
    for round in 0..ROUNDS {
        n += 1;
        blocking(|| n += 1);
        assert_eq!(n, 2 * (round + 1));
    }
}

fn future_joined() {
    let n = Arc::new(Unprotected::new());
    for round in 0..ROUNDS {
        let (theirs, (tx, rx)) = (n.clone(), chan::bounded(0));
        let task = spawn(async move {
            rx.recv_async().await.unwrap();
            theirs.add();
        });
        n.add();
        tx.send(()).unwrap();
        task.join().unwrap();
        assert_eq!(n.read(), 2 * (round + 1));
    }
}

/// More futures than a worker allocates before it asks for room.
fn futures_started_by_many() {
    let wg = WaitGroup::new();
    for _ in 0..8 {
        wg.go(|| {
            for _ in 0..ROUNDS {
                let n = Arc::new(Unprotected::new());
                n.add();
                let theirs = n.clone();
                spawn(async move { theirs.add() }).detach();
                yield_now();
            }
        });
    }
    wg.wait();
}

fn os_thread_and_channel() {
    let n = Arc::new(Unprotected::new());
    let (tx, rx) = chan::bounded(0);
    let theirs = n.clone();
    let thread = std::thread::spawn(move || {
        for _ in 0..ROUNDS {
            theirs.add();
            tx.send(()).unwrap();
            tx.send(()).unwrap();
        }
    });
    for round in 0..ROUNDS {
        rx.recv().unwrap();
        n.add();
        assert_eq!(n.read(), 2 * (round + 1));
        rx.recv().unwrap();
    }
    blocking(|| thread.join()).unwrap();
}
