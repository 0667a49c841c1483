//! Worker pools, fan-out and fan-in; the other patterns have files of their own. After each test
//! `with_workers` checks that every goroutine has ended: a test that returns while one is still
//! parked fails there.

mod elastic;
mod first;
mod goexit;
mod map;
mod pipeline;
mod timed;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{hint, thread};

use goby::chan::{self, Receiver, Sender, TryRecvError};
use goby::pattern::{fan_in, fan_out, worker_pool};
use goby::sync::{Barrier, Mutex};
use goby::{Context, go, select};

use crate::support::{MOMENT, on_workers, pause, size, wait_until, with_workers};

/// A channel that gives 1 to `n`.
fn numbers(n: usize) -> Receiver<usize> {
    let (tx, rx) = chan::bounded(0);
    go(move || (1..=n).try_for_each(|i| tx.send(i)));
    rx
}

/// An open channel in which there is nothing.
fn silence() -> (Sender<usize>, Receiver<usize>) {
    chan::bounded(0)
}

fn sorted(results: &Receiver<usize>) -> Vec<usize> {
    let mut all: Vec<_> = results.iter().collect();
    all.sort_unstable();
    all
}

/// A function that returns how many calls of it are active. No call returns until `n` are active.
fn counts_active(n: usize) -> impl Fn(usize) -> usize + Send + Sync {
    let (active, barrier) = (AtomicUsize::new(0), Barrier::new(n));
    move |_| {
        let n_active = active.fetch_add(1, Ordering::Relaxed) + 1;
        barrier.wait(); // Nobody gets past this unless n are active.
        active.fetch_sub(1, Ordering::Relaxed);
        n_active
    }
}

/// The text of the panic that `f` ends with.
#[track_caller]
fn panic_text(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast_ref::<&str>().expect("a panic with a text")).to_owned(),
    }
}

#[test]
fn pool_does_every_job_once_and_closes() {
    with_workers(|| {
        let ctx = Context::background();
        for n_workers in [1, 3, 8] {
            let n = size(200, 20_000);
            let results = worker_pool(&ctx, numbers(n), n_workers, |job| job);
            assert_eq!(sorted(&results), (1..=n).collect::<Vec<_>>());
            assert_eq!(results.try_recv(), Err(TryRecvError::Closed));
        }
    });
}

#[test]
fn pool_of_closed_jobs_closes_at_once() {
    with_workers(|| {
        let results = worker_pool(&Context::background(), silence().1, 4, |job| job);
        assert!(results.recv().is_err());
    });
}

/// 243: all of the workers work at the same time, and never more.
#[test]
fn s243_pool_has_n_workers() {
    with_workers(|| {
        for n in [1, 10] {
            let results = worker_pool(&Context::background(), numbers(10 * n), n, counts_active(n));
            assert!(results.iter().all(|n_active| n_active <= n));
        }
    });
}

/// If nobody receives, each worker stops after one result in the channel and one in its hand.
#[test]
fn pool_does_not_run_ahead() {
    with_workers(|| {
        let begun = Arc::new(AtomicUsize::new(0));
        let (ctx, _cancel) = Context::background().with_cancel();
        let results = worker_pool(&ctx, numbers(1000), 3, {
            let begun = begun.clone();
            move |_| begun.fetch_add(1, Ordering::Relaxed)
        });
        wait_until("the workers to fill the channel", || begun.load(Ordering::Relaxed) == 6);
        pause(MOMENT);
        assert_eq!(begun.load(Ordering::Relaxed), 6);
        assert_eq!(results.iter().count(), 1000);
    });
}

#[test]
fn pool_ends_with_its_context() {
    with_workers(|| {
        // Idle workers: the jobs stay open, and there are none.
        let (_tx, jobs) = silence();
        let (ctx, cancel) = Context::background().with_cancel();
        let results = worker_pool(&ctx, jobs, 4, |job| job);
        cancel.cancel();
        assert!(results.recv().is_err());

        // Workers that wait for somebody to receive.
        let (ctx, cancel) = Context::background().with_cancel();
        let results = worker_pool(&ctx, numbers(1000), 4, |job| job);
        wait_until("the channel to be full", || results.is_full());
        cancel.cancel();
        assert!(results.iter().count() < 1000);

        // A context that is done already: no job is begun.
        let results = worker_pool(&ctx, numbers(1000), 4, |_| panic!("begun"));
        assert_eq!(results.iter().count(), 0);
    });
}

/// No job is begun after the context was done, and the one in progress is finished.
#[test]
fn pool_finishes_what_it_began() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let done = Arc::new(AtomicUsize::new(0));
        let results = worker_pool(&ctx, numbers(1000), 1, {
            let (done, cancel) = (done.clone(), Mutex::new(Some(cancel)));
            move |job| {
                if job == 10 {
                    cancel.lock().take().expect("the tenth job comes once").cancel();
                }
                done.fetch_add(1, Ordering::Relaxed);
                job
            }
        });
        let received = results.iter().count();
        assert_eq!(done.load(Ordering::Relaxed), 10);
        assert!((9..=10).contains(&received), "{received}");
    });
}

#[test]
fn pool_ends_when_nobody_receives_any_more() {
    with_workers(|| {
        // While its workers wait for jobs.
        let (tx, jobs) = silence();
        drop(worker_pool(&Context::background(), jobs, 4, |job| job));
        wait_until("the workers to leave the jobs", || tx.is_closed());

        // While they have results.
        let results = worker_pool(&Context::background(), numbers(1000), 4, |job| job);
        let second = results.clone();
        drop(results);
        assert!(second.recv().is_ok(), "one receiver is left");
        drop(second);
    });
}

/// The workers of an idle pool are all pinned to one OS thread. With jobs that compute they use
/// both threads.
#[test]
fn pool_spreads_under_long_jobs() {
    on_workers(2, 0, || {
        // The other thread is busy while the pool starts.
        let (busy, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let spinner = go({
            let (busy, over) = (busy.clone(), over.clone());
            move || {
                busy.store(true, Ordering::Relaxed);
                while !over.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            }
        });
        while !busy.load(Ordering::Relaxed) {
            hint::spin_loop();
        }
        let (tx, jobs) = silence();
        let results = worker_pool(&Context::background(), jobs, 8, |_| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(200) {
                hint::spin_loop();
            }
            thread::current().id()
        });
        pause(MOMENT);
        over.store(true, Ordering::Relaxed);
        spinner.join().unwrap();
        go(move || (0..).try_for_each(|job| tx.send(job)));
        let mut threads = HashSet::new();
        // If they do not, this loop has no end, and the watchdog notices.
        while threads.len() < 2 {
            threads.insert(results.recv().unwrap());
        }
    });
}

#[test]
fn pool_hands_a_panic_to_the_receiver() {
    with_workers(|| {
        let begun = Arc::new(AtomicUsize::new(0));
        let results = worker_pool(&Context::background(), numbers(100_000), 4, {
            let begun = begun.clone();
            move |job| {
                begun.fetch_add(1, Ordering::Relaxed);
                assert_ne!(job, 10, "job {job} is a bad one");
                job
            }
        });
        let mut received = 0;
        let text = panic_text(|| results.iter().for_each(|_| received += 1));
        assert!(text.contains("job 10 is a bad one"), "{text}");
        assert!(received < 99_999, "the others stop");
        assert!(begun.load(Ordering::Relaxed) < 100_000, "the others stop");
        // Every end of the results, not only the first.
        assert!(panic_text(|| _ = results.try_recv()).contains("bad one"));
        let selected = panic_text(|| select! { recv(results) -> _ => () });
        assert!(selected.contains("bad one"), "{selected}");
    });
}

#[test]
fn pool_takes_a_panic_that_nobody_receives() {
    with_workers(|| {
        let (begun, begins) = chan::bounded(1);
        let (end, ends) = chan::bounded::<()>(0);
        let results = worker_pool(&Context::background(), numbers(1), 1, move |_| {
            begun.send(()).unwrap();
            assert!(ends.recv().is_ok(), "the expected panic");
        });
        begins.recv().unwrap();
        drop(results);
        drop(end);
        // The panic is reported as a goroutine's panic. All goroutines end, which `with_workers`
        // checks.
    });
}

#[test]
fn patterns_without_workers_are_refused() {
    with_workers(|| {
        let ctx = Context::background();
        assert!(panic_text(|| drop(worker_pool(&ctx, silence().1, 0, |v| v))).contains("without workers"));
        assert!(panic_text(|| drop(fan_out(&ctx, silence().1, 0, |v| v))).contains("no worker"));
        assert!(fan_in::<u8>(&ctx, vec![]).recv().is_err(), "of no input everything has come out");
    });
}

#[test]
fn fan_out_and_in() {
    with_workers(|| {
        let ctx = Context::background();
        let n = size(200, 20_000);
        let outs = fan_out(&ctx, numbers(n), 8, |v| v * 2);
        assert_eq!(outs.len(), 8);
        let merged = fan_in(&ctx, outs);
        assert_eq!(sorted(&merged), (1..=n).map(|v| v * 2).collect::<Vec<_>>());
        assert_eq!(merged.try_recv(), Err(TryRecvError::Closed));
    });
}

#[test]
fn fan_in_keeps_the_order_of_each_input() {
    with_workers(|| {
        let merged = fan_in(&Context::background(), (0..4).map(|_| numbers(100)).collect());
        // Four times 1, 2, 3, …, mixed: the kth time a number comes, it is at most as high as the
        // (k-1)th sequence got.
        let mut seen = [0; 102];
        seen[0] = 4;
        for value in merged {
            seen[value] += 1;
            assert!(seen[value] <= seen[value - 1], "{value} came before {}", value - 1);
        }
        assert_eq!(seen[1..=100], [4; 100]);
    });
}

#[test]
fn fan_out_loses_one_consumer_and_goes_on() {
    with_workers(|| {
        let mut outs = fan_out(&Context::background(), numbers(500), 3, |v| v);
        let first = outs.remove(0);
        let taken = first.recv().is_ok();
        drop(first);
        let rest = fan_in(&Context::background(), outs).iter().count();
        // The first worker may have had 16 more results in its channel, and one in its hand.
        assert!(taken && (482..=499).contains(&rest), "{rest}");
    });
}

#[test]
fn fans_end_with_their_context_or_their_consumer() {
    with_workers(|| {
        // The context, with everything idle.
        let (tx, input) = silence();
        let (ctx, cancel) = Context::background().with_cancel();
        let merged = fan_in(&ctx, fan_out(&ctx, input, 4, |v| v));
        cancel.cancel();
        assert!(merged.recv().is_err());
        wait_until("the workers to leave the input", || tx.is_closed());

        // The consumer, with everything idle: its end passes upstream.
        let (tx, input) = silence();
        let ctx = Context::background();
        drop(fan_in(&ctx, fan_out(&ctx, input, 4, |v| v)));
        wait_until("the workers to leave the input", || tx.is_closed());

        // The consumer, with everything under way.
        let merged = fan_in(&ctx, fan_out(&ctx, numbers(1000), 4, |v| v));
        assert!(merged.recv().is_ok());
    });
}

#[test]
fn fans_hand_a_panic_down() {
    with_workers(|| {
        let ctx = Context::background();
        let fail = |v: usize| if v == 20 { panic!("value {v}") } else { v };
        let merged = fan_in(&ctx, fan_out(&ctx, numbers(100_000), 4, fail));
        let text = panic_text(|| assert!(merged.iter().count() < 99_999));
        assert_eq!(text, "value 20");

        // Without fan-in: every output ends with it.
        let outs = fan_out(&ctx, numbers(100_000), 3, fail);
        for out in &outs {
            assert_eq!(panic_text(|| _ = out.iter().count()), "value 20");
        }
    });
}
