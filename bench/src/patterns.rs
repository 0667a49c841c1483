//! The patterns by hand, as the Go programs are written, and in the ready-made form of
//! `goby::pattern`: sieve_1000, worker_pool_8, fanout_fanin_8.

use std::time::Duration;

use goby::chan::{self, Receiver};
use goby::context::Context;
use goby::sync::WaitGroup;
use goby::{go, pattern, select, time};

use crate::measure::Clock;

pub fn sieve() {
    const N: usize = 1000;
    let clock = Clock::start();
    let (first, mut numbers) = chan::bounded(0);
    // After the clock has stopped, dropping the last receiver unwinds the chain before the next
    // workload.
    let chain = WaitGroup::new();
    chain.go(move || {
        for i in 2.. {
            if first.send(i).is_err() {
                return;
            }
        }
    });
    let mut prime = 0;
    for _ in 0..N {
        prime = numbers.recv().unwrap();
        let (tx, rx) = chan::bounded(0);
        let input = std::mem::replace(&mut numbers, rx);
        chain.go(move || {
            for v in input {
                if v % prime != 0 && tx.send(v).is_err() {
                    return;
                }
            }
        });
    }
    assert_eq!(prime, 7919);
    clock.ms("sieve_1000");
    drop(numbers);
    chain.wait();
}

const WORKERS: usize = 8;
const JOBS: usize = 2_000_000;

/// A goroutine that sends 0..n.
fn numbers(n: usize, capacity: usize) -> Receiver<usize> {
    let (tx, rx) = chan::bounded(capacity);
    go(move || {
        for i in 0..n {
            if tx.send(i).is_err() {
                return;
            }
        }
    });
    rx
}

/// Checks that twice the sum of 0..n came out.
fn check_sum(results: Receiver<usize>, n: usize) {
    let s: usize = results.iter().sum();
    assert_eq!(s, n * (n - 1));
}

pub fn worker_pool() {
    let clock = Clock::start();
    let (ctx, _cancel) = Context::background().with_cancel();
    let jobs = numbers(JOBS, 64);
    let (results_tx, results) = chan::bounded(64);
    for _ in 0..WORKERS {
        let (ctx, jobs, results) = (ctx.clone(), jobs.clone(), results_tx.clone());
        go(move || {
            loop {
                select! {
                    recv(jobs) -> job => match job {
                        Ok(job) => results.send(job * 2).unwrap(),
                        Err(_) => return,
                    },
                    recv(ctx.done()) -> _ => return,
                }
            }
        });
    }
    // The results end when the last worker has dropped its sender.
    drop((jobs, results_tx));
    check_sum(results, JOBS);
    clock.per_op("worker_pool_8", JOBS);
}

pub fn worker_pool_pattern() {
    let clock = Clock::start();
    let (ctx, _cancel) = Context::background().with_cancel();
    let results = pattern::worker_pool(&ctx, numbers(JOBS, 64), WORKERS, |job| job * 2);
    check_sum(results, JOBS);
    clock.per_op("worker_pool_8_pattern", JOBS);
}

/// Jobs of about 100 µs each that only compute: they show what a pool gains by the second core.
pub fn worker_pool_cpu() {
    pool_cpu("worker_pool_8_cpu", Duration::ZERO);
}

/// The same, with a pool that was idle before.
pub fn worker_pool_cpu_idle() {
    pool_cpu("worker_pool_8_cpu_idle", Duration::from_millis(20));
}

fn pool_cpu(name: &str, idle: Duration) {
    const JOBS: usize = 4000;
    let (ctx, _cancel) = Context::background().with_cancel();
    let (tx, jobs) = chan::bounded(64);
    let results = pattern::worker_pool(&ctx, jobs, WORKERS, compute);
    time::sleep(idle);
    let clock = Clock::start();
    go(move || (0..JOBS).try_for_each(|job| tx.send(job)));
    assert_eq!(results.iter().count(), JOBS);
    clock.per_op(name, JOBS);
}

/// Computes for about 100 µs.
fn compute(seed: usize) -> usize {
    (0..140_000).fold(seed | 1, |x, _| std::hint::black_box(x.wrapping_mul(0x5851_f42d_4c95_7f2d)))
}

const VALUES: usize = 1_000_000;

pub fn fanout_fanin() {
    let clock = Clock::start();
    let (ctx, _cancel) = Context::background().with_cancel();
    let (input_tx, input) = chan::bounded(0);
    let source = ctx.clone();
    go(move || {
        for i in 0..VALUES {
            select! {
                send(input_tx, i) -> sent => sent.unwrap(),
                recv(source.done()) -> _ => return,
            }
        }
    });
    let (merged_tx, merged) = chan::bounded(0);
    for _ in 0..WORKERS {
        let (out_tx, out) = chan::bounded(0);
        let (worker, input) = (ctx.clone(), input.clone());
        go(move || {
            for v in input {
                select! {
                    send(out_tx, v * 2) -> sent => sent.unwrap(),
                    recv(worker.done()) -> _ => return,
                }
            }
        });
        let (merger, merged) = (ctx.clone(), merged_tx.clone());
        go(move || {
            for v in out {
                select! {
                    send(merged, v) -> sent => sent.unwrap(),
                    recv(merger.done()) -> _ => return,
                }
            }
        });
    }
    drop((input, merged_tx));
    check_sum(merged, VALUES);
    clock.per_op("fanout_fanin_8", VALUES);
}

pub fn fanout_fanin_pattern() {
    let clock = Clock::start();
    let (ctx, _cancel) = Context::background().with_cancel();
    let outs = pattern::fan_out(&ctx, numbers(VALUES, 0), WORKERS, |v| v * 2);
    check_sum(pattern::fan_in(&ctx, outs), VALUES);
    clock.per_op("fanout_fanin_8_pattern", VALUES);
}
