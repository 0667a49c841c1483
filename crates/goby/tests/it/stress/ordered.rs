//! S40: an ordered stream, and pools that panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::context::ContextError;
use goby::pattern::{Stream, par_map, source};
use goby::sync::{Barrier, Mutex};
use goby::{Context, random, time};

use crate::support::{on_workers, size, with_workers};

fn milliseconds(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Counts how many tasks are inside, and the most at a time.
#[derive(Default)]
struct Gauge {
    active: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn enter(&self) {
        let active = self.active.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(active, Ordering::Relaxed);
    }

    fn leave(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    fn most(&self) -> usize {
        assert_eq!(self.active.load(Ordering::Relaxed), 0);
        self.most.load(Ordering::Relaxed)
    }
}

#[test]
fn s40_callbacks_in_submission_order() {
    with_workers(|| {
        let delays = [20, 52, 16, 45, 4, 80];
        let (ended, called) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(vec![])));
        let stream = Stream::new(&Context::background(), delays.len());
        for ms in delays {
            let (ended, called) = (ended.clone(), called.clone());
            let task = move || {
                time::sleep(milliseconds(ms));
                ended.lock().push(ms);
                move || called.lock().push(ms)
            };
            stream.go(task).unwrap();
        }
        stream.wait();
        assert_eq!(*called.lock(), delays);
        assert_eq!(ended.lock().len(), delays.len());
        assert_ne!(*ended.lock(), delays, "they run at the same time");
    });
}

#[test]
fn s40_at_most_the_limit_of_tasks_and_one_callback() {
    with_workers(|| {
        for (limit, n) in [(5, 50), (1, 10), (10, 100), (100, 1000)] {
            let (tasks, callbacks) = (Arc::new(Gauge::default()), Arc::new(Gauge::default()));
            let (barrier, order) = (Arc::new(Barrier::new(limit)), Arc::new(AtomicUsize::new(0)));
            let stream = Stream::new(&Context::background(), limit);
            for i in 0..n {
                let (tasks, callbacks, barrier, order) =
                    (tasks.clone(), callbacks.clone(), barrier.clone(), order.clone());
                let task = move || {
                    tasks.enter();
                    barrier.wait(); // Nobody gets past this unless the limit is reached.
                    tasks.leave();
                    move || {
                        callbacks.enter();
                        assert_eq!(order.fetch_add(1, Ordering::Relaxed), i);
                        goby::yield_now();
                        callbacks.leave();
                    }
                };
                stream.go(task).unwrap();
            }
            stream.wait();
            assert_eq!((tasks.most(), callbacks.most()), (limit, 1));
            assert_eq!(order.load(Ordering::Relaxed), n);
        }
    });
}

/// Also 249, without errors: the results of tasks that end in any order come in the order of
/// submission.
#[test]
fn s40_results_in_submission_order() {
    with_workers(|| {
        let most_ms = size(10, 100) as u64;
        let ctx = Context::background();
        let results = par_map(&ctx, source(&ctx, 0..100), 100, move |i| {
            time::sleep(milliseconds(random() % most_ms));
            i
        });
        assert!(results.iter().eq(0..100));
    });
}

#[test]
fn s40_panics_are_raised_by_wait_and_the_stream_is_usable_again() {
    with_workers(|| {
        let stream = Stream::new(&Context::background(), 2);
        for round in 0..2 {
            for i in 0..10 {
                stream.go(move || if i < 10 { panic!("task {i} of round {round}") } else { || () }).unwrap();
            }
            let payload = catch_unwind(AssertUnwindSafe(|| stream.wait())).expect_err("they panicked");
            assert_eq!(*payload.downcast::<String>().unwrap(), format!("task 0 of round {round}"));

            let sum = Arc::new(AtomicUsize::new(0));
            for i in 0..10 {
                let sum = sum.clone();
                stream.go(move || move || _ = sum.fetch_add(i, Ordering::Relaxed)).unwrap();
            }
            stream.wait();
            assert_eq!(sum.load(Ordering::Relaxed), 45);
        }
    });
}

/// After a panic, of a task or of a callback, no callback runs; before it all run.
#[test]
fn s40_no_callback_runs_behind_a_panic() {
    with_workers(|| {
        for in_task in [true, false] {
            let called = Arc::new(Mutex::new(vec![]));
            let stream = Stream::new(&Context::background(), 3);
            for i in 0..20 {
                let called = called.clone();
                let task = move || {
                    assert!(!in_task || i != 7, "task 7");
                    move || {
                        assert_ne!(i, 7, "callback 7");
                        called.lock().push(i);
                    }
                };
                stream.go(task).unwrap();
            }
            assert!(catch_unwind(AssertUnwindSafe(|| stream.wait())).is_err());
            assert_eq!(*called.lock(), [0, 1, 2, 3, 4, 5, 6]);
        }
    });
}

#[test]
fn s40_a_done_context_stops_the_stream() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let called = Arc::new(AtomicUsize::new(0));
        let stream = Stream::new(&ctx, 1);
        let task = |called: &Arc<AtomicUsize>| {
            let (ctx, called) = (ctx.clone(), called.clone());
            move || {
                assert!(ctx.done().recv().is_err());
                move || _ = called.fetch_add(1, Ordering::Relaxed)
            }
        };
        stream.go(task(&called)).unwrap();
        let handle = goby::go({
            let task = task(&called);
            move || (stream.go(task), stream)
        });
        cancel.cancel();
        let (refused, stream) = handle.join().unwrap();
        assert_eq!(refused, Err(ContextError::Canceled));
        stream.wait();
        assert_eq!(called.load(Ordering::Relaxed), 0, "callbacks that had not begun are dropped");
    });
}

/// A stream that is dropped goes on, and a panic that nobody waits for is reported.
#[test]
fn s40_a_dropped_stream_goes_on() {
    with_workers(|| {
        let called = Arc::new(AtomicUsize::new(0));
        let stream = Stream::new(&Context::background(), 2);
        for _ in 0..2 {
            let called = called.clone();
            let task = move || {
                time::sleep(milliseconds(1));
                move || _ = called.fetch_add(1, Ordering::Relaxed)
            };
            stream.go(task).unwrap();
        }
        drop(stream);
        crate::support::wait_until("the callbacks", || called.load(Ordering::Relaxed) == 2);
        let stream = Stream::new(&Context::background(), 2);
        stream.go(|| || panic!("the expected panic")).unwrap();
        drop(stream);
    });
}

#[test]
fn s40_a_stream_works_from_os_threads() {
    on_workers(2, 0, || {
        let stream = Stream::new(&Context::background(), 3);
        let sum = Arc::new(AtomicUsize::new(0));
        goby::blocking(|| {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for i in 0..100 {
                            let sum = sum.clone();
                            stream.go(move || move || _ = sum.fetch_add(i, Ordering::Relaxed)).unwrap();
                        }
                    });
                }
            });
        });
        stream.wait();
        assert_eq!(sum.load(Ordering::Relaxed), 4 * 4950);
    });
}
