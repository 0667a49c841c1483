//! Wait groups: 155 to 159, 291.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use goby::context::ContextError;
use goby::sync::WaitGroup;
use goby::{Context, go, scope, yield_now};

use super::{canceled, panic_text};
use crate::support::{size, wait_until, with_workers};

#[test]
fn s155_negative_counter() {
    with_workers(|| {
        let wg = WaitGroup::new();
        wg.add(1);
        wg.done();
        assert_eq!(panic_text(|| wg.done()), "sync: negative WaitGroup counter");
        wg.wait(); // The count is still zero.
    });
}

#[test]
fn s157_wait_group_go() {
    with_workers(|| {
        let (wg, i) = (WaitGroup::new(), Arc::new(AtomicU32::new(0)));
        let counter = i.clone();
        wg.go(move || counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed));
        wg.wait();
        assert_eq!(i.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn s159_racing_adds() {
    with_workers(|| {
        for _ in 0..size(10, 1000) {
            let wg = WaitGroup::new();
            (0..100).for_each(|_| wg.go(|| ()));
            wg.wait();
        }
    });
}

/// Two waiters for the same zero both go on, though one of them adds at once for the next round.
#[test]
fn a_wait_group_can_be_used_again() {
    with_workers(|| {
        let wg = WaitGroup::new();
        for round in 0..size(200, 5000) {
            wg.add(1);
            scope(|s| {
                let waiters: Vec<_> = (0..2)
                    .map(|_| {
                        s.go(|| {
                            wg.wait();
                            wg.add(1);
                        })
                    })
                    .collect();
                if round % 2 == 0 {
                    yield_now();
                }
                // The second waiter may come so late that it meets the first one's add. Then it
                // waits for the first one's `done`.
                wg.done();
                let mut waiters = waiters.into_iter();
                let first = waiters.next().unwrap();
                let second = waiters.next().unwrap();
                wait_until("one to go on", || first.is_finished() || second.is_finished());
                wg.done();
                first.join().unwrap();
                second.join().unwrap();
                wg.done();
            });
            wg.wait();
        }
    });
}

#[test]
fn wait_group_raises_the_panic_of_its_goroutine() {
    with_workers(|| {
        let wg = WaitGroup::new();
        wg.go(|| panic!("child {}", 7));
        (0..3).for_each(|_| wg.go(yield_now));
        assert_eq!(panic_text(|| wg.wait()), "child 7");
        assert_eq!(panic_text(|| wg.wait()), "child 7", "every wait, not only the first");
        assert_eq!(panic_text(|| _ = wg.wait_ctx(&canceled())), "child 7");

        let wg = WaitGroup::new();
        wg.go(|| std::panic::panic_any(42));
        let payload = catch_unwind(|| wg.wait()).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&42), "the payload itself");
    });
}

/// Conformance 291: the `done` of a panicking goroutine, called by a destructor.
#[test]
fn s291_done_while_panicking_does_not_look_well() {
    struct DoneOnDrop(WaitGroup);
    impl Drop for DoneOnDrop {
        fn drop(&mut self) {
            self.0.done();
        }
    }
    with_workers(|| {
        let wg = WaitGroup::new();
        wg.add(1);
        let done = DoneOnDrop(wg.clone());
        let child = go(move || {
            let _done = done;
            panic!("crash");
        });
        assert_eq!(panic_text(|| wg.wait()), "a goroutine of the WaitGroup panicked before it was done");
        assert!(child.join().is_err());
    });
}

#[test]
fn wait_group_with_context() {
    with_workers(|| {
        let wg = WaitGroup::new();
        wg.add(1);
        assert_eq!(wg.wait_ctx(&canceled()), Err(ContextError::Canceled));
        scope(|s| {
            let (ctx, cancel) = Context::background().with_cancel();
            let waiters: Vec<_> = [ctx, Context::background()].map(|ctx| s.go(|| wg.wait_ctx(&{ ctx }))).into();
            let plain = s.go(|| wg.wait());
            yield_now();
            cancel.cancel();
            let mut waiters = waiters.into_iter();
            assert_eq!(waiters.next().unwrap().join().unwrap(), Err(ContextError::Canceled));
            wg.done();
            assert_eq!(waiters.next().unwrap().join().unwrap(), Ok(()));
            plain.join().unwrap();
        });
        assert_eq!(wg.wait_ctx(&canceled()), Ok(()), "what has happened is reported");
    });
}

/// The closure's result is dropped before the wait ends, and a panic of its destructor is the
/// goroutine's panic.
#[test]
fn closures_may_return_something() {
    struct Result<'a>(Option<&'a AtomicU32>);
    impl Drop for Result<'_> {
        fn drop(&mut self) {
            self.0.expect("a result to count").fetch_add(1, Ordering::Relaxed);
        }
    }
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    with_workers(|| {
        DROPPED.store(0, Ordering::Relaxed);
        let wg = WaitGroup::new();
        (0..10).for_each(|_| wg.go(|| Result(Some(&DROPPED))));
        wg.go(|| "text".parse::<u8>());
        wg.wait();
        assert_eq!(DROPPED.load(Ordering::Relaxed), 10);
        wg.go(|| Result(None));
        assert_eq!(panic_text(|| wg.wait()), "a result to count");
    });
}
