//! Goroutines that keep their worker are reported, with the right place; others are not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goby_runtime::{GoBuilder, Runtime, blocking, now, yield_now};

use crate::support::{in_child, stderr, wait_until};

const LIMIT: Duration = Duration::from_millis(30);

fn runtime() -> Runtime {
    Runtime::builder().workers(1).stall_limit(LIMIT).build().unwrap()
}

#[inline(never)]
fn hogs(until: impl Fn() -> bool) {
    while !until() {
        std::hint::spin_loop();
    }
}

/// One that computes, and one that blocks its thread in a lock of std, each reported once.
#[test]
fn computing_and_blocking_are_stalls() {
    let runtime = runtime();
    let stall_of = |id| runtime.stalls().into_iter().find(|stall| stall.goroutine().is_some_and(|g| g.id() == id));
    let enough = Arc::new(AtomicBool::new(false));
    let here = line!() + 1;
    let computes = runtime.go({
        let enough = enough.clone();
        move || hogs(|| enough.load(Ordering::Relaxed))
    });
    let id = computes.id();
    wait_until("the stall", || stall_of(id).is_some());
    // Waits already when the first one ends, and so begins without a further look around: a slice of its own all the same.
    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock().unwrap();
    let blocks = runtime.go({
        let lock = lock.clone();
        move || drop(lock.lock().unwrap())
    });
    enough.store(true, Ordering::Relaxed);
    computes.join().unwrap();
    let stall = stall_of(id).unwrap();
    assert!(stall.lasted() >= LIMIT && stall.worker() == 0);
    let g = stall.goroutine().unwrap();
    assert_eq!(g.started_at().line(), here);
    let names: Vec<String> = g.stack().unwrap().frames().into_iter().map(|frame| frame.function).collect();
    assert!(names.iter().any(|name| name.contains("hogs")), "{names:?}");
    assert!(stall.to_string().contains("tests/it/stalls.rs"), "{stall}");

    let id = blocks.id();
    wait_until("the second stall", || stall_of(id).is_some());
    drop(held);
    blocks.join().unwrap();
}

/// What gives its worker back, or blocks where it may, is none. Not for each a bound: this machine may be busy.
#[test]
fn yielding_and_blocking_calls_are_no_stalls() {
    let runtime = runtime();
    let rounds = Arc::new(AtomicUsize::new(0));
    let counts = rounds.clone();
    runtime.run(move || {
        let start = now();
        while start.elapsed() < 5 * LIMIT {
            yield_now();
            counts.fetch_add(1, Ordering::Relaxed);
        }
        blocking(|| std::thread::sleep(5 * LIMIT));
    });
    for stall in runtime.stalls() {
        let frames = stall.goroutine().and_then(|g| g.stack()).map(|stack| stack.to_string()).unwrap_or_default();
        assert!(!frames.contains("sleep"), "{stall}");
    }
    assert!(rounds.load(Ordering::Relaxed) > 1);
}

#[test]
fn no_limit_no_reports() {
    let runtime = Runtime::builder().workers(1).stall_limit(None).build().unwrap();
    let start = now();
    runtime.run(|| hogs(|| start.elapsed() > 10 * LIMIT));
    assert!(runtime.stalls().is_empty());
}

/// Very many interruptions of threads that switch all the time: whatever they hit, nothing breaks.
#[test]
fn interrupting_is_safe() {
    let output = in_child("stalls::interrupting_is_safe", || {
        // Signals by the hundred, to threads that are in the switch, the scheduler, an allocation, or another handler.
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let handles: Vec<_> = (0..8)
            .map(|i| {
                runtime.go(move || {
                    let start = now();
                    let mut kept = Vec::new();
                    while start.elapsed() < Duration::from_secs(2) {
                        kept.push(vec![i; 100]);
                        kept.truncate(50);
                        let child = GoBuilder::new().name("child").go(yield_now);
                        yield_now();
                        child.join().unwrap();
                    }
                    kept.len()
                })
            })
            .collect();
        while !handles.iter().all(|handle| handle.is_finished()) {
            goby_runtime::sample_all(&runtime);
        }
        assert!(handles.into_iter().all(|handle| handle.join().unwrap() > 0));
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
}
