//! Goroutines that borrow.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use goby_runtime::{go, scope, yield_now};

use crate::support::{Door, wait_until, with_workers};

#[test]
fn goroutines_of_a_scope_borrow_and_change_what_is_outside() {
    with_workers(|| {
        let mut numbers: Vec<u64> = (0..1000).collect();
        let offset = 5;
        scope(|s| {
            for chunk in numbers.chunks_mut(100) {
                s.go(|| {
                    yield_now();
                    chunk.iter_mut().for_each(|number| *number += offset);
                });
            }
        });
        assert_eq!(numbers, (5..1005).collect::<Vec<_>>());
    });
}

#[test]
fn a_scope_works_on_a_plain_thread() {
    let mut numbers = [1, 2, 3];
    let sum: i32 = scope(|s| {
        let sum = s.go(|| numbers.iter().sum());
        sum.join().unwrap()
    });
    numbers[0] = sum;
    assert_eq!(numbers, [6, 2, 3]);
}

#[test]
fn a_scope_ends_after_its_goroutines() {
    with_workers(|| {
        let ended = AtomicUsize::new(0);
        let door = Door::new();
        scope(|s| {
            for _ in 0..10 {
                s.go(|| {
                    door.pass();
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
            s.go(|| {
                wait_until("somebody to wait", || door.has_waiters());
                door.open();
            });
        });
        assert_eq!(ended.load(Ordering::SeqCst), 10);
    });
}

#[test]
fn scopes_nest_and_their_goroutines_start_more() {
    with_workers(|| {
        let count = AtomicUsize::new(0);
        scope(|outer| {
            for _ in 0..4 {
                outer.go(|| {
                    scope(|inner| {
                        for _ in 0..4 {
                            inner.go(|| count.fetch_add(1, Ordering::SeqCst));
                        }
                    });
                    outer.go(|| count.fetch_add(100, Ordering::SeqCst));
                });
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 416);
    });
}

#[test]
fn join_gives_the_value_or_the_panic_which_is_then_not_raised_again() {
    with_workers(|| {
        let text = String::from("borrowed");
        scope(|s| {
            let length = s.go(|| text.len());
            let failed = s.go(|| -> usize { panic!("seen by join") });
            assert_eq!(length.join().unwrap(), 8);
            assert_eq!(*failed.join().unwrap_err().downcast::<&str>().unwrap(), "seen by join");
        });
    });
}

fn panic_of(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
    (*payload.downcast_ref::<&str>().expect("a text")).to_owned()
}

#[test]
fn c319_a_scope_raises_the_panic_of_a_goroutine_nobody_joined() {
    with_workers(|| {
        let done = AtomicUsize::new(0);
        let message = panic_of(|| {
            scope(|s| {
                s.go(|| {
                    yield_now();
                    done.fetch_add(1, Ordering::SeqCst);
                });
                s.go(|| panic!("super bad thing"));
                s.go(|| {
                    yield_now();
                    done.fetch_add(1, Ordering::SeqCst);
                });
            });
        });
        // The others have run to their end before it is raised.
        assert_eq!((message.as_str(), done.load(Ordering::SeqCst)), ("super bad thing", 2));
        let message = panic_of(|| {
            scope(|s| {
                s.go(|| panic!("one of two"));
                s.go(|| panic!("one of two"));
            });
        });
        assert_eq!(message, "one of two");
    });
}

#[test]
fn a_panic_of_the_scopes_own_function_waits_for_the_goroutines() {
    with_workers(|| {
        let door = Door::new();
        let ended = AtomicUsize::new(0);
        let message = panic_of(|| {
            scope(|s| {
                s.go(|| {
                    door.pass();
                    ended.fetch_add(1, Ordering::SeqCst);
                });
                s.go(|| {
                    wait_until("the other to wait", || door.has_waiters());
                    door.open();
                });
                panic!("in the function");
            });
        });
        assert_eq!((message.as_str(), ended.load(Ordering::SeqCst)), ("in the function", 1));
    });
}

/// The result of a goroutine may borrow, too; it is gone when the scope ends, joined or not.
#[test]
fn results_that_borrow_are_dropped_within_the_scope() {
    struct Reports<'a>(&'a AtomicUsize);
    impl Drop for Reports<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    with_workers(|| {
        for _ in 0..100 {
            let drops = AtomicUsize::new(0);
            scope(|s| {
                s.go(|| Reports(&drops));
                let kept = s.go(|| Reports(&drops));
                s.go(|| Reports(&drops)).join().unwrap();
                yield_now();
                drop(kept);
            });
            assert_eq!(drops.load(Ordering::SeqCst), 3);
        }
    });
}

#[test]
fn goroutines_without_borrows_outlive_the_scope() {
    with_workers(|| {
        let door = Arc::new(Door::new());
        let outside = scope(|_| {
            let door = door.clone();
            go(move || door.pass())
        });
        assert!(!outside.is_finished());
        door.open();
        outside.join().unwrap();
    });
}

/// A payload that nobody wants is dropped outside of all locks: its destructor may park.
#[test]
fn payloads_beyond_the_first_may_park_when_dropped() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            goby_runtime::sleep_until(goby_runtime::now() + std::time::Duration::from_millis(5));
        }
    }
    crate::support::on_workers(1, || {
        let result = std::panic::catch_unwind(|| {
            goby_runtime::scope(|s| {
                for _ in 0..4 {
                    s.go(|| std::panic::resume_unwind(Box::new(Payload)));
                }
            });
        });
        assert!(result.unwrap_err().is::<Payload>());
    });
}
