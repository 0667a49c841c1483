//! Thread-locals, which the goroutines of a worker share: what goby does about it, and what it
//! says.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use goby_runtime::{checkpoint, go, now, yield_now};

use crate::support::{Door, in_child, printed_until, runtime, stderr, wait_until};

/// Mistakes that only debug builds find.
const ARE_SOUGHT: bool = cfg!(debug_assertions);

/// An initializer calls goby in vain for several time slices, while a neighbor that needs the same
/// thread-local is runnable.
#[test]
fn no_slice_ends_inside_an_initializer() {
    static N_MADE: AtomicU32 = AtomicU32::new(0);
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    static NEIGHBOR_IS_PINNED: AtomicBool = AtomicBool::new(false);
    thread_local! {
        static LOCAL: Cell<u32> = {
            HAS_BEGUN.store(true, Ordering::Relaxed);
            let start = now();
            while start.elapsed() < Duration::from_millis(100) {
                checkpoint();
            }
            Cell::new(N_MADE.fetch_add(1, Ordering::Relaxed))
        };
    }
    // Each on a thread of its own. The program's symbols are read when the first slice ends, and
    // are not waited for.
    let round = || {
        for flag in [&HAS_BEGUN, &NEIGHBOR_IS_PINNED] {
            flag.store(false, Ordering::Relaxed);
        }
        let before = N_MADE.load(Ordering::Relaxed);
        runtime(1).run(|| {
            let neighbor = go(|| {
                NEIGHBOR_IS_PINNED.store(true, Ordering::Relaxed);
                while !HAS_BEGUN.load(Ordering::Relaxed) {
                    yield_now();
                }
                LOCAL.with(Cell::get)
            });
            wait_until("the neighbor to begin", || NEIGHBOR_IS_PINNED.load(Ordering::Relaxed));
            LOCAL.with(|_| ());
            neighbor.join().unwrap();
        });
        N_MADE.load(Ordering::Relaxed) - before == 1
    };
    assert!((0..30).any(|_| round()), "the neighbor always runs");
    assert!((0..3).all(|_| round()));
}

#[test]
fn a_wait_inside_an_initializer_is_named() {
    static ASKED: Door = Door::new();
    thread_local! {
        static LOCAL: u32 = {
            ASKED.pass();
            7
        };
    }
    let here = line!() + 4;
    let output = in_child("thread_locals::a_wait_inside_an_initializer_is_named", || {
        let waits = || {
            runtime(1).run(|| {
                let asks = go(|| LOCAL.with(|value| *value));
                wait_until("it to ask", || ASKED.has_waiters());
                ASKED.open();
                assert_eq!(asks.join().unwrap(), 7);
            });
        };
        if ARE_SOUGHT { printed_until(" was here:", waits) } else { waits() }
    });
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find(|line| line.contains("inside the initializer of a thread-local"));
    assert_eq!(line.is_some(), ARE_SOUGHT, "{text}");
    if let Some(line) = line {
        assert!(line.contains(&format!("tests/it/thread_locals.rs:{here}:")), "{text}");
        assert!(line.contains("waits [sync.Cond.Wait]") && line.ends_with("see goby::thread_locals"), "{text}");
    }
}

/// A neighbor finds the cell borrowed. The message names the goroutine that has borrowed it and
/// waits meanwhile.
#[test]
fn a_borrow_across_a_wait_is_named() {
    thread_local! {
        static LOCAL: RefCell<u32> = const { RefCell::new(7) };
    }
    let here = line!() + 4;
    let output = in_child("thread_locals::a_borrow_across_a_wait_is_named", || {
        runtime(1).run(|| {
            let door = Arc::new(Door::new());
            let holds = go({
                let door = door.clone();
                move || {
                    LOCAL.with(|cell| {
                        let _borrowed = cell.borrow_mut();
                        door.pass();
                    });
                }
            });
            wait_until("it to wait", || door.has_waiters());
            let joined = go(|| LOCAL.with(|cell| *cell.borrow()));
            let detached = go(|| LOCAL.with(|cell| *cell.borrow()));
            drop(detached);
            assert!(joined.join().is_err());
            door.open();
            holds.join().unwrap();
        });
    });
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("nobody joined it: ") && text.contains(" (if it is a thread-local's: "), "{text}");
    let line = text.lines().find(|line| line.contains("inside a `LocalKey::with` of the same worker"));
    assert_eq!(line.is_some(), ARE_SOUGHT, "{text}");
    if let Some(line) = line {
        assert!(line.contains(&format!("tests/it/thread_locals.rs:{here}:")), "{text}");
        assert!(line.contains("is parked [sync.Cond.Wait]"), "{text}");
    }
}
