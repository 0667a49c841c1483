//! Rate limits and shared calls.

use criterion::Criterion;
use goby::rate::Limiter;
use goby::{Context, scope, singleflight, yield_now};

pub fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("limit");
    let generous = Limiter::per_second(1e12, 1 << 30);
    group.bench_function("limiter_allow", |b| b.iter(|| assert!(generous.allow())));
    let ctx = Context::background();
    group.bench_function("limiter_wait_at_once", |b| b.iter(|| generous.wait(&ctx).expect("there are tokens")));
    let strict = Limiter::per_second(1e-9, 1);
    assert!(strict.allow());
    group.bench_function("limiter_refuse", |b| b.iter(|| assert!(!strict.allow())));
    let flights = singleflight::Group::new();
    group.bench_function("singleflight_alone", |b| b.iter(|| flights.run("key", || 7)));
    // One goroutine runs the call, the others come while it does.
    let call = || {
        yield_now();
        7
    };
    group.bench_function("singleflight_of_8", |b| {
        b.iter(|| {
            scope(|s| {
                (0..8).for_each(|_| drop(s.go(|| flights.run("key", call))));
            });
        });
    });
}
