//! Latches, which Go does not have.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use goby::context::ContextError;
use goby::sync::{Latch, Mutex};
use goby::{Context, go, scope};

use super::{canceled, n_waiting};
use crate::support::{MOMENT, size, wait_until, with_workers};

#[test]
fn an_open_latch_lets_all_go_and_stays_open() {
    with_workers(|| {
        let (latch, log) = (Arc::new(Latch::new()), Arc::new(Mutex::new(vec![])));
        assert!(!latch.is_open() && format!("{latch:?}").contains("open: false"));
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let (latch, log) = (latch.clone(), log.clone());
                go(move || {
                    latch.wait();
                    log.lock().push("after");
                })
            })
            .collect();
        let theirs = latch.clone();
        let thread = thread::spawn(move || theirs.wait());
        wait_until("the goroutines to wait", || n_waiting("latch wait") == 10);
        log.lock().push("before");
        assert_eq!((latch.open(), latch.open()), (true, false));
        waiting.into_iter().for_each(|waiter| waiter.join().unwrap());
        goby::blocking(|| thread.join().unwrap());
        let log = log.lock();
        assert_eq!((log[0], log.len()), ("before", 11));
        latch.wait();
        assert!(latch.is_open() && latch.wait_timeout(Duration::ZERO));
    });
}

#[test]
fn a_wait_for_a_latch_can_end_before() {
    with_workers(|| {
        let latch = Latch::default();
        assert!(!latch.wait_timeout(MOMENT));
        assert!(!latch.wait_deadline(goby::now()));
        assert_eq!(latch.wait_ctx(&canceled()), Err(ContextError::Canceled));
        let (ctx, cancel) = Context::background().with_cancel();
        scope(|s| {
            let waiter = s.go(|| latch.wait_ctx(&ctx));
            wait_until("it to wait", || n_waiting("latch wait") == 1);
            cancel.cancel();
            assert_eq!(waiter.join().unwrap(), Err(ContextError::Canceled));
        });
        latch.open();
        assert_eq!(latch.wait_ctx(&ctx), Ok(()), "the event comes first");
    });
}

/// In any order of a wait and the opening, the waiter sees what was done before the opening.
#[test]
fn racing_waits_see_what_was_done_before() {
    with_workers(|| {
        for _ in 0..size(200, 5000) {
            let (latch, value) = (Latch::new(), std::sync::atomic::AtomicU32::new(0));
            scope(|s| {
                for _ in 0..3 {
                    s.go(|| {
                        latch.wait();
                        assert_eq!(value.load(std::sync::atomic::Ordering::Relaxed), 1);
                    });
                }
                s.go(|| {
                    value.store(1, std::sync::atomic::Ordering::Relaxed);
                    latch.open();
                });
            });
        }
    });
}
