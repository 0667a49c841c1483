//! Goroutines that borrow.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use goby_runtime::{go, scope, yield_now};

use crate::support::{Door, in_child, on_workers, stderr, wait_until, with_workers};

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
        // The other goroutines have run to their end before it is raised.
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

/// A payload that nobody takes is dropped outside of all locks: its destructor may park.
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

/// A value that panics when dropped, with a text that says which value it is.
struct Breaks(&'static str);

impl Drop for Breaks {
    fn drop(&mut self) {
        panic!("{} breaks", self.0);
    }
}

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).into()))
        .unwrap()
}

/// A result that nobody joins and that panics when dropped counts as a panic of its goroutine,
/// whether the goroutine or the handle drops it. In a child, because the process must not end by
/// it.
#[test]
fn a_result_that_panics_when_dropped_is_a_panic_of_its_goroutine() {
    let output = in_child("scope::a_result_that_panics_when_dropped_is_a_panic_of_its_goroutine", || {
        on_workers(2, || {
            let by_goroutine = catch_unwind(|| {
                scope(|s| {
                    s.go(|| Breaks("a result"));
                })
            });
            assert_eq!(message(&*by_goroutine.unwrap_err()), "a result breaks");
            let by_handle = catch_unwind(|| {
                scope(|s| {
                    let handle = s.go(|| Breaks("a result"));
                    wait_until("it to end", || handle.is_finished());
                    // Also on a stack that unwinds.
                    panic!("the scope's own, {}", handle.is_finished());
                })
            });
            assert_eq!(message(&*by_handle.unwrap_err()), "the scope's own, true");
        });
        println!("goes on");
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("goes on"));
}

/// Of several panics one is raised. The payloads of the others may panic when dropped, and so may
/// the scope's value.
#[test]
fn what_a_scope_does_not_raise_may_panic_when_dropped() {
    let output = in_child("scope::what_a_scope_does_not_raise_may_panic_when_dropped", || {
        on_workers(1, || {
            let several = catch_unwind(|| {
                scope(|s| {
                    s.go(|| panic!("the first"));
                    s.go(|| panic_any(Breaks("the second payload")));
                    s.go(|| panic_any(Breaks("the third payload")));
                })
            });
            // On one worker, goroutines that do not park begin with the newest.
            let first = several.unwrap_err();
            if let Err(first) = first.downcast::<&str>() {
                std::mem::forget(first);
            }
            let with_value = catch_unwind(|| {
                scope(|s| {
                    s.go(|| panic!("a goroutine's"));
                    Breaks("the value")
                })
            });
            assert_eq!(message(&*with_value.map(std::mem::forget).unwrap_err()), "a goroutine's");
            let of_both = catch_unwind(|| {
                scope(|s| {
                    s.go(|| panic_any(Breaks("a goroutine's payload")));
                    yield_now();
                    panic!("the scope's own");
                })
            });
            assert_eq!(message(&*of_both.unwrap_err()), "the scope's own");
        });
        println!("goes on");
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("goes on"));
}
