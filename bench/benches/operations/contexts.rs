//! Contexts: making, asking, canceling.

use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion};
use goby::Context;

struct Level(usize);

pub fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("context");
    let background = Context::background();
    let (parent, _guard) = background.with_cancel();
    group.bench_function("with_cancel", |b| b.iter(|| parent.with_cancel()));
    group.bench_function("with_timeout", |b| b.iter(|| parent.with_timeout(Duration::from_secs(3600))));
    group.bench_function("with_value", |b| b.iter(|| parent.with_value(Level(0))));
    group.bench_function("err", |b| b.iter(|| parent.err()));
    for depth in [1, 10, 100] {
        let mut ctx = parent.with_value(Level(depth));
        for i in 1..depth {
            ctx = ctx.with_value(i as u64);
        }
        group.bench_function(BenchmarkId::new("value_at_depth", depth), |b| {
            b.iter(|| ctx.value::<Level>().expect("it is there").0);
        });
    }
    for children in [10, 1000] {
        group.bench_function(BenchmarkId::new("cancel_children", children), |b| {
            b.iter_batched(
                || {
                    let (root, cancel) = background.with_cancel();
                    let children: Vec<_> = (0..children).map(|_| root.with_cancel()).collect();
                    (cancel, children)
                },
                |(cancel, children)| {
                    cancel.cancel();
                    children
                },
                BatchSize::SmallInput,
            );
        });
    }
}
