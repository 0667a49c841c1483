//! Barriers, which Go does not have.

use std::sync::atomic::{AtomicUsize, Ordering};

use goby::context::ContextError;
use goby::sync::Barrier;
use goby::{Context, scope, yield_now};

use super::canceled;
use crate::support::{MOMENT, pause, size, with_workers};

#[test]
fn barrier_rounds() {
    with_workers(|| {
        const N: usize = 5;
        let (barrier, sum, leaders) = (Barrier::new(N), AtomicUsize::new(0), AtomicUsize::new(0));
        let rounds = size(50, 1000);
        scope(|s| {
            for _ in 0..N {
                s.go(|| {
                    for round in 0..rounds {
                        sum.fetch_add(1, Ordering::Relaxed);
                        if barrier.wait().is_leader() {
                            leaders.fetch_add(1, Ordering::Relaxed);
                        }
                        assert_eq!(sum.load(Ordering::Relaxed), N * (round + 1), "all have come");
                        barrier.wait();
                    }
                });
            }
        });
        assert_eq!(leaders.into_inner(), rounds);
    });
}

#[test]
fn barrier_that_is_given_up_counts_again() {
    with_workers(|| {
        let barrier = Barrier::new(2);
        assert_eq!(barrier.wait_ctx(&canceled()), Err(ContextError::Canceled));
        let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
        assert_eq!(barrier.wait_ctx(&ctx), Err(ContextError::DeadlineExceeded));
        scope(|s| {
            let one = s.go(|| barrier.wait());
            yield_now();
            pause(MOMENT);
            assert!(!one.is_finished(), "the one that gave up does not count");
            let two = barrier.wait_ctx(&Context::background()).unwrap();
            assert_ne!(one.join().unwrap().is_leader(), two.is_leader());
        });
    });
}
