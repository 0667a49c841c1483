//! One-time work: 161 to 167.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use goby::chan;
use goby::context::ContextError;
use goby::sync::{Once, OnceCell, once_func, once_value};
use goby::{Context, Goexit, go, goexit, scope, yield_now};

use super::{canceled, panic_text};
use crate::support::{wait_until, with_workers};

#[test]
fn s161_once() {
    with_workers(|| {
        let (once, counter) = (Once::new(), AtomicU32::new(0));
        scope(|s| {
            for _ in 0..10 {
                s.go(|| {
                    once.call_once(|| {
                        yield_now(); // The others come and wait.
                        counter.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(counter.load(Ordering::Relaxed), 1);
                });
            }
        });
        assert_eq!(counter.into_inner(), 1);
    });
}

#[test]
fn s163_once_func_and_value() {
    with_workers(|| {
        let calls = Arc::new(AtomicU32::new(0));
        let count = || {
            let calls = calls.clone();
            move || calls.fetch_add(1, Ordering::Relaxed) + 1
        };
        let counted = count();
        let func = once_func(move || _ = counted());
        (0..10).for_each(|_| func());
        func.clone()();
        assert_eq!(calls.load(Ordering::Relaxed), 1);

        calls.store(0, Ordering::Relaxed);
        let value = once_value(count());
        assert_eq!([(); 10].map(|()| value()), [1; 10]);
        assert_eq!(calls.load(Ordering::Relaxed), 1);

        calls.store(0, Ordering::Relaxed);
        let counted = count();
        let values = once_value(move || (counted(), 2));
        assert_eq!([(); 10].map(|()| values()), [(1, 2); 10]);
        let elsewhere = values.clone();
        assert_eq!(go(elsewhere).join().unwrap(), (1, 2));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    });
}

/// Every caller and every waiter panics; nobody runs the function again, and nobody hangs.
#[test]
fn s165_goexit_is_not_run_again() {
    const ABANDONED: &str = "sync: the function of this Once ended its goroutine by goexit";
    with_workers(|| {
        let calls = Arc::new(AtomicU32::new(0));
        let (begun, begins) = chan::bounded::<()>(0);
        let exits = {
            let calls = calls.clone();
            move || -> u32 {
                calls.fetch_add(1, Ordering::Relaxed);
                begun.send(()).unwrap();
                (0..10).for_each(|_| yield_now());
                goexit()
            }
        };
        let value = once_value(exits.clone());
        let func = once_func(move || _ = exits());
        let func = move || {
            func();
            0
        };
        type Function = Box<dyn Fn() -> u32 + Send>;
        let make_value = || -> Function { Box::new(value.clone()) };
        let make_func = || -> Function { Box::new(func.clone()) };
        for (n, function) in [(1, &make_value as &dyn Fn() -> Function), (2, &make_func)] {
            let (first, second) = (function(), function());
            let first = go(first);
            begins.recv().unwrap();
            let waiting = go(move || panic_text(|| _ = second()));
            assert!(first.join().unwrap_err().is::<Goexit>());
            assert_eq!(waiting.join().unwrap(), ABANDONED);
            assert_eq!(panic_text(|| _ = function()()), ABANDONED);
            assert_eq!(calls.load(Ordering::Relaxed), n);
        }
    });
}

/// After a panic it counts as not done, and the first call unwinds with the function's own panic.
#[test]
fn s167_a_panic_counts_as_not_done() {
    with_workers(|| {
        let (once, cell) = (Once::new(), OnceCell::new());
        assert_eq!(panic_text(|| once.call_once(|| panic!("first"))), "first");
        assert_eq!(panic_text(|| _ = cell.get_or_init(|| -> u8 { panic!("second") })), "second");
        assert!(!once.is_completed());
        assert_eq!(cell.get(), None);
        let mut ran = false;
        once.call_once(|| ran = true);
        assert!(ran);
        assert_eq!(cell.get_or_init(|| 3), &3);
    });
}

/// As in Go: the function is used up, so every call panics, the first with the function's own
/// payload.
#[test]
fn a_panic_of_once_func_and_once_value_comes_with_every_call() {
    with_workers(|| {
        let tries = Arc::new(AtomicU32::new(0));
        let panics = {
            let tries = tries.clone();
            move || -> u32 {
                tries.fetch_add(1, Ordering::Relaxed);
                std::panic::panic_any("not at all")
            }
        };
        let value = once_value(panics.clone());
        let func = once_func(move || _ = panics());
        assert_eq!(go(value.clone()).join().unwrap_err().downcast_ref(), Some(&"not at all"));
        assert_eq!(go(func.clone()).join().unwrap_err().downcast_ref(), Some(&"not at all"));
        for _ in 0..3 {
            assert_eq!(panic_text(|| _ = value()), "not at all");
            assert_eq!(panic_text(&func), "not at all");
        }
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    });
}

/// However the first call ends, the captured values are dropped then, though the function that was
/// made still exists.
#[test]
fn once_func_and_once_value_let_go_of_what_they_captured() {
    with_workers(|| {
        let captured = Arc::new(());
        let ends: [fn() -> u32; 3] = [|| 1, || panic!("expected"), || goexit()];
        for end in ends {
            let value = once_value({
                let captured = captured.clone();
                move || {
                    let _used = &captured;
                    end()
                }
            });
            let func = once_func({
                let captured = captured.clone();
                move || {
                    let _used = &captured;
                    end();
                }
            });
            assert_eq!(Arc::strong_count(&captured), 3);
            drop(go(value.clone()).join());
            assert_eq!(Arc::strong_count(&captured), 2);
            drop(go(func.clone()).join());
            assert_eq!(Arc::strong_count(&captured), 1);
        }
        // If it is not called, the captured value is dropped with the last clone.
        let func = once_func(move || drop(captured));
        drop((func.clone(), func));
        // A function that can be called once is enough.
        let text = String::from("moved");
        assert_eq!(once_value(move || text)(), "moved");
    });
}

/// Waiters for a function that panics do not hang: one of them runs its own function.
#[test]
fn a_panic_lets_a_waiting_caller_run() {
    with_workers(|| {
        let (once, ran) = (Once::new(), AtomicU32::new(0));
        let (begun, begins) = chan::bounded::<()>(1);
        scope(|s| {
            let first = s.go(|| {
                let panics = || {
                    once.call_once(|| {
                        begun.send(()).unwrap();
                        (0..10).for_each(|_| yield_now());
                        panic!("in the first call");
                    });
                };
                panic_text(panics)
            });
            begins.recv().unwrap();
            for _ in 0..4 {
                s.go(|| once.call_once(|| _ = ran.fetch_add(1, Ordering::Relaxed)));
            }
            assert_eq!(first.join().unwrap(), "in the first call");
        });
        assert_eq!(ran.into_inner(), 1);
    });
}

#[test]
fn once_with_context() {
    with_workers(|| {
        let once = Once::new();
        assert_eq!(once.call_once_ctx(&canceled(), || ()), Err(ContextError::Canceled));
        assert!(!once.is_completed());
        let (ctx, cancel) = Context::background().with_cancel();
        once.call_once(|| {
            scope(|s| {
                let other = s.go(|| once.call_once_ctx(&ctx, || ()));
                yield_now();
                cancel.cancel();
                assert_eq!(other.join().unwrap(), Err(ContextError::Canceled));
            });
        });
        assert_eq!(once.call_once_ctx(&ctx, || ()), Ok(()));
    });
}

/// It waits for a value that other goroutines make, even if some panic, and gives up with its
/// context.
#[test]
fn a_wait_for_a_once_cell_ends_with_the_value() {
    with_workers(|| {
        let (cell, once) = (OnceCell::new(), Once::new());
        assert_eq!(cell.wait_ctx(&canceled()), Err(ContextError::Canceled));
        assert_eq!(once.wait_ctx(&canceled()), Err(ContextError::Canceled));
        let (ctx, cancel) = Context::background().with_cancel();
        scope(|s| {
            let waiters = [s.go(|| *cell.wait()), s.go(|| *cell.wait_ctx(&Context::background()).unwrap())];
            let impatient = s.go(|| cell.wait_ctx(&ctx).copied());
            let of_once = s.go(|| {
                once.wait();
                assert!(once.is_completed());
            });
            wait_until("all to wait", || super::n_waiting("sync.Once.Do") == 4);
            cancel.cancel();
            assert_eq!(impatient.join().unwrap(), Err(ContextError::Canceled));
            assert_eq!(panic_text(|| _ = cell.get_or_init(|| panic!("no value"))), "no value");
            assert_eq!(cell.get_or_try_init(|| Err::<u8, _>("none")), Err("none"));
            wait_until("them to wait again", || super::n_waiting("sync.Once.Do") == 3);
            assert_eq!(cell.set(7), Ok(()));
            assert_eq!(waiters.map(|waiter| waiter.join().unwrap()), [7, 7]);
            once.call_once(|| ());
            of_once.join().unwrap();
        });
        assert_eq!((*cell.wait(), cell.wait_ctx(&canceled())), (7, Ok(&7)));
        assert_eq!(once.wait_ctx(&canceled()), Ok(()));

        let abandoned = Arc::new(Once::new());
        let waiter = go({
            let abandoned = abandoned.clone();
            move || panic_text(|| abandoned.wait())
        });
        wait_until("it to wait", || super::n_waiting("sync.Once.Do") == 1);
        let exits = abandoned.clone();
        assert!(go(move || exits.call_once(|| goexit())).join().is_err());
        assert_eq!(waiter.join().unwrap(), "sync: the function of this Once ended its goroutine by goexit");
    });
}
