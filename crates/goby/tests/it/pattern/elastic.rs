//! Elastic pools.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan;
use goby::pattern::elastic_pool;
use goby::sync::Barrier;
use goby::{Context, num_goroutines};

use super::{numbers, panic_text, silence, sorted};
use crate::support::{MOMENT, pause, size, wait_until, with_workers};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(1000);

/// Makes workers that wait for each other in jobs below `n`, so that `n` workers are needed.
fn together(n: usize) -> impl Fn() -> Box<dyn FnMut(usize) -> usize> + Send + Sync {
    let barrier = Arc::new(Barrier::new(n));
    move || {
        let barrier = barrier.clone();
        Box::new(move |job| {
            assert_ne!(job, usize::MAX, "a bad job");
            if job < n {
                barrier.wait();
            }
            job
        })
    }
}

#[test]
fn elastic_pool_does_every_job_once_and_closes() {
    with_workers(|| {
        for (max, idle) in [(1, LONG), (3, LONG), (8, Duration::from_micros(1)), (8, Duration::ZERO)] {
            let n = size(200, 20_000);
            let results = elastic_pool(&Context::background(), numbers(n), max, idle, || |job| job);
            assert_eq!(sorted(&results), (1..=n).collect::<Vec<_>>(), "at most {max}, idle {idle:?}");
        }
    });
}

#[test]
fn elastic_pool_grows_with_its_load_to_its_maximum() {
    with_workers(|| {
        let (tx, jobs) = silence();
        let (active, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (open, gate) = chan::bounded::<()>(0);
        let before = num_goroutines();
        let results = elastic_pool(&Context::background(), jobs, 4, LONG, {
            let (active, most) = (active.clone(), most.clone());
            move || {
                let (active, most, gate) = (active.clone(), most.clone(), gate.clone());
                move |job| {
                    most.fetch_max(active.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    assert!(gate.recv().is_err(), "nothing is sent");
                    active.fetch_sub(1, Ordering::Relaxed);
                    job
                }
            }
        });
        for n in 1..=4 {
            tx.send(n).unwrap();
            wait_until("the job to begin", || active.load(Ordering::Relaxed) == n);
            let expected = before + (n + 1).min(4);
            wait_until("one more to wait", || num_goroutines() == expected);
        }
        let sender = goby::go(move || (5..=20).try_for_each(|n| tx.send(n)));
        drop(open);
        assert_eq!(sorted(&results), (1..=20).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::Relaxed), 4);
        sender.join().unwrap().unwrap();
    });
}

#[test]
fn elastic_pool_shrinks_to_one_when_idle_and_grows_again() {
    with_workers(|| {
        let (tx, jobs) = silence();
        let before = num_goroutines();
        let results = elastic_pool(&Context::background(), jobs, 8, Duration::from_millis(5), together(8));
        for _ in 0..2 {
            (0..8).for_each(|n| tx.send(n).unwrap());
            assert_eq!(results.iter().take(8).count(), 8);
            wait_until("all but one to end", || num_goroutines() == before + 1);
        }
    });
}

/// Jobs that one worker can do do not keep the others from resting: the worker that worked last
/// gets the next job.
#[test]
fn elastic_pool_shrinks_under_a_small_load() {
    with_workers(|| {
        let (tx, jobs) = silence();
        let before = num_goroutines();
        let results = elastic_pool(&Context::background(), jobs, 8, Duration::from_millis(20), together(8));
        (0..8).for_each(|n| tx.send(n).unwrap());
        assert_eq!(results.iter().take(8).count(), 8);
        wait_until("all but those at work to end", || {
            tx.send(8).unwrap();
            assert_eq!(results.recv(), Ok(8));
            num_goroutines() <= before + 2
        });
    });
}

#[test]
fn elastic_pool_ends_while_its_workers_rest() {
    with_workers(|| {
        let rest = |ctx: &Context| {
            let (tx, jobs) = silence();
            let results = elastic_pool(ctx, jobs, 4, LONG, together(4));
            (0..4).for_each(|n| tx.send(n).unwrap());
            assert_eq!(results.iter().take(4).count(), 4);
            (tx, results)
        };
        // The jobs close.
        let (tx, results) = rest(&Context::background());
        drop(tx);
        assert!(results.recv().is_err());
        // The context is done.
        let (ctx, cancel) = Context::background().with_cancel();
        let (_tx, results) = rest(&ctx);
        cancel.cancel();
        assert!(results.recv().is_err());
        // Nobody receives.
        let (tx, results) = rest(&Context::background());
        drop(results);
        wait_until("the workers to leave the jobs", || tx.is_closed());
    });
}

/// A worker that works when the jobs close does not rest afterwards.
#[test]
fn elastic_pool_ends_with_its_last_job() {
    with_workers(|| {
        let (tx, jobs) = silence();
        let (begun, begins) = chan::bounded(0);
        let (open, gate) = chan::bounded::<()>(0);
        let before = num_goroutines();
        let results = elastic_pool(&Context::background(), jobs, 4, LONG, move || {
            let (begun, gate) = (begun.clone(), gate.clone());
            move |job| {
                begun.send(()).unwrap();
                assert!(gate.recv().is_err(), "nothing is sent");
                job
            }
        });
        (0..2).for_each(|n| tx.send(n).unwrap());
        begins.iter().take(2).for_each(drop);
        drop(tx);
        wait_until("the leader to end", || num_goroutines() == before + 2);
        drop(open);
        assert_eq!(sorted(&results), [0, 1]);
    });
}

#[test]
fn elastic_pool_hands_a_panic_to_the_receiver_while_others_rest() {
    with_workers(|| {
        let (tx, jobs) = silence();
        let results = elastic_pool(&Context::background(), jobs, 4, LONG, together(4));
        (0..4).for_each(|n| tx.send(n).unwrap());
        assert_eq!(results.iter().take(4).count(), 4);
        tx.send(usize::MAX).unwrap();
        assert!(panic_text(|| _ = results.recv()).contains("a bad job"));
        assert!(
            panic_text(|| drop(elastic_pool(&Context::background(), silence().1, 0, LONG, || |v| v)))
                .contains("without workers")
        );
    });
}

/// A worker is made with its first job, keeps its values, and drops them when it ends.
#[test]
fn elastic_pool_keeps_what_its_workers_have() {
    with_workers(|| {
        let (tx, jobs) = silence();
        let (made, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        struct Connection(Arc<AtomicUsize>);
        impl Drop for Connection {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let results = elastic_pool(&Context::background(), jobs, 2, LONG, {
            let (made, dropped) = (made.clone(), dropped.clone());
            move || {
                made.fetch_add(1, Ordering::Relaxed);
                let connection = Rc::new(Connection(dropped.clone())); // It need not be `Send`.
                let mut n_jobs = 0;
                move |_| {
                    n_jobs += 1;
                    assert_eq!(Rc::strong_count(&connection), 1);
                    n_jobs
                }
            }
        });
        pause(MOMENT);
        assert_eq!(made.load(Ordering::Relaxed), 0, "there is no job yet");
        let mut most = 0;
        for job in 0..100 {
            tx.send(job).unwrap();
            most = most.max(results.recv().unwrap());
        }
        assert!((1..=2).contains(&made.load(Ordering::Relaxed)));
        assert!(most >= 50, "the same worker does many jobs: {most}");
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        drop(tx);
        assert!(results.recv().is_err());
        assert_eq!(dropped.load(Ordering::Relaxed), made.load(Ordering::Relaxed));

        let failing =
            elastic_pool(&Context::background(), numbers(9), 2, LONG, || -> fn(usize) { panic!("no server") });
        assert_eq!(panic_text(|| _ = failing.recv()), "no server");
    });
}
