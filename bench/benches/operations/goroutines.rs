//! Starting and joining, in the forms that the table does not have, and timers.

use std::time::Duration;

use criterion::Criterion;
use goby::time::{Ticker, Timer, after_func};
use goby::{block_on, blocking, checkpoint, go, scope, spawn};

pub fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("goroutine");
    group.bench_function("go_join", |b| b.iter(|| go(|| 7).join().expect("it does not panic")));
    group.bench_function("scope_of_8", |b| {
        b.iter(|| {
            scope(|s| {
                (0..8).for_each(|_| drop(s.go(|| ())));
            });
        });
    });
    group.bench_function("spawn_join", |b| b.iter(|| spawn(async { 7 }).join().expect("it does not panic")));
    group.bench_function("block_on_ready", |b| b.iter(|| block_on(async { 7 })));
    group.bench_function("blocking", |b| b.iter(|| blocking(|| 7)));
    group.bench_function("checkpoint", |b| b.iter(checkpoint));
    group.finish();

    let mut group = c.benchmark_group("timer");
    let timer = Timer::new(Duration::from_secs(3600));
    group.bench_function("reset", |b| b.iter(|| timer.reset(Duration::from_secs(3600))));
    group.bench_function("after_func_stop", |b| b.iter(|| after_func(Duration::from_secs(3600), || ()).stop()));
    group.bench_function("ticker_start_stop", |b| b.iter(|| Ticker::new(Duration::from_secs(3600)).stop()));
    // It is always due, so each tick is a timer that fires, a send and a receive.
    let ticker = Ticker::new(Duration::from_nanos(1));
    group.bench_function("ticker_tick", |b| b.iter(|| ticker.receiver().recv().expect("it ticks on")));
}
