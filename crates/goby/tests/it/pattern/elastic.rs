//! Elastic pools.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan;
use goby::pattern::elastic_pool;
use goby::sync::Barrier;
use goby::{Context, num_goroutines};

use super::{numbers, panic_text, silence, sorted};
use crate::support::{size, wait_until, with_workers};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(1000);

#[test]
fn elastic_pool_does_every_job_once_and_closes() {
    with_workers(|| {
        for (max, idle) in [(1, LONG), (3, LONG), (8, Duration::from_micros(1)), (8, Duration::ZERO)] {
            let n = size(200, 20_000);
            let results = elastic_pool(&Context::background(), numbers(n), max, idle, |job| job);
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
            move |job| {
                most.fetch_max(active.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                assert!(gate.recv().is_err(), "nothing is sent");
                active.fetch_sub(1, Ordering::Relaxed);
                job
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
        let barrier = Arc::new(Barrier::new(8));
        let before = num_goroutines();
        let results = elastic_pool(&Context::background(), jobs, 8, Duration::from_millis(5), move |job| {
            barrier.wait();
            job
        });
        for _ in 0..2 {
            (0..8).for_each(|n| tx.send(n).unwrap());
            assert_eq!(results.iter().take(8).count(), 8);
            wait_until("all but one to end", || num_goroutines() == before + 1);
        }
    });
}

/// Jobs that one can do do not keep the others from their rest: who worked last is taken first.
#[test]
fn elastic_pool_shrinks_under_a_small_load() {
    with_workers(|| {
        let (tx, jobs) = silence();
        let barrier = Arc::new(Barrier::new(8));
        let before = num_goroutines();
        let results = elastic_pool(&Context::background(), jobs, 8, Duration::from_millis(20), move |job| {
            if job < 8 {
                barrier.wait();
            }
            job
        });
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
            let barrier = Arc::new(Barrier::new(4));
            let results = elastic_pool(ctx, jobs, 4, LONG, move |job| {
                barrier.wait();
                job
            });
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

#[test]
fn elastic_pool_hands_a_panic_to_the_receiver_while_others_rest() {
    with_workers(|| {
        let (tx, jobs) = silence();
        let barrier = Arc::new(Barrier::new(4));
        let results = elastic_pool(&Context::background(), jobs, 4, LONG, move |job| {
            assert_ne!(job, 4, "job {job} is a bad one");
            barrier.wait();
            job
        });
        (0..4).for_each(|n| tx.send(n).unwrap());
        assert_eq!(results.iter().take(4).count(), 4);
        tx.send(4).unwrap();
        assert!(panic_text(|| _ = results.recv()).contains("job 4 is a bad one"));
        assert!(
            panic_text(|| drop(elastic_pool(&Context::background(), silence().1, 0, LONG, |v| v)))
                .contains("without workers")
        );
    });
}
