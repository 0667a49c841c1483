use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::{Runtime, scope, yield_now};

/// All helper threads that look up names are taken when its only caller leaves.
#[test]
fn a_call_that_has_not_begun_is_taken_back_when_all_have_left() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let (open, gate) = mpsc::channel::<()>();
        let gate = parking_lot::Mutex::new(gate);
        let begun = AtomicUsize::new(0);
        let group = Group::new();
        scope(|s| {
            for _ in 0..256 {
                s.go(|| {
                    goby_runtime::blocking_as(WaitReason::LookUp, || {
                        begun.fetch_add(1, Ordering::Relaxed);
                        let _ = gate.lock().recv();
                    });
                });
            }
            while begun.load(Ordering::Relaxed) < 256 {
                yield_now();
            }
            let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
            let abandoned = group.run_blocking(&ctx, "key", || unreachable!("all have left"));
            assert_eq!(abandoned, Err(ContextError::DeadlineExceeded));
            // One that joins while it is taken back makes a call of its own.
            let next = s.go(|| group.run_blocking(&Context::background(), "key", || 2).unwrap().value);
            yield_now();
            drop(open);
            assert_eq!(next.join().unwrap(), 2);
        });
    });
}
