//! `goexit`: an end from inside that is neither a success nor a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use goby_runtime::{Goexit, go, goexit, scope, yield_now};

use crate::support::{in_child, runtime, stderr, with_workers};

struct Counts(Arc<AtomicU32>);

impl Drop for Counts {
    fn drop(&mut self) {
        // A deferred call may park.
        yield_now();
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Destructors run, the innermost first, and a `catch_unwind` on the way sees a payload that is not
/// a user's panic.
#[test]
fn c287_goexit_runs_the_destructors() {
    with_workers(|| {
        let dropped = Arc::new(AtomicU32::new(0));
        let (outer, inner) = (Counts(dropped.clone()), Counts(dropped.clone()));
        let seen = dropped.clone();
        let end = go(move || {
            let _outer = outer;
            fn exits(_inner: Counts) -> u32 {
                goexit()
            }
            let unwound = catch_unwind(AssertUnwindSafe(|| exits(inner))).unwrap_err();
            assert!(unwound.is::<Goexit>());
            assert_eq!(seen.load(Ordering::Relaxed), 1);
            // Stopping the unwinding does not make it a success.
            7
        })
        .join();
        assert!(end.unwrap_err().is::<Goexit>());
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    });
}

/// Nobody re-raises it and nobody prints it.
#[test]
fn goexit_is_no_panic() {
    let output = in_child("goexit::goexit_is_no_panic", || {
        runtime(2).run(|| {
            drop(go(|| goexit()));
            scope(|s| {
                s.go(|| goexit());
                let joined = s.go(|| -> u32 { goexit() });
                assert!(joined.join().unwrap_err().is::<Goexit>());
            });
        });
    });
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

/// A panic after the exit was stopped is a panic.
#[test]
fn a_panic_after_goexit_is_a_panic() {
    with_workers(|| {
        let end = go(|| {
            let _ = catch_unwind(|| goexit());
            panic!("hello");
        })
        .join();
        let end: Result<(), _> = end;
        assert_eq!(*end.unwrap_err().downcast::<&str>().unwrap(), "hello");
    });
}

/// A destructor that panics during the exit: Rust ends the process, saying why.
#[test]
fn c289_a_panic_during_goexit_is_reported() {
    let output = in_child("goexit::c289_a_panic_during_goexit_is_reported", || {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("hello");
            }
        }
        runtime(1).run(|| {
            let _panics = Panics;
            goexit();
        })
    });
    assert!(!output.status.success());
    assert!(stderr(&output).contains("hello"), "{}", stderr(&output));
}

#[test]
fn a_thread_cannot_goexit() {
    assert!(!catch_unwind(|| goexit()).unwrap_err().is::<Goexit>());
}
