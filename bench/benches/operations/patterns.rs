//! Ready-made patterns: a thousand values through each.

use criterion::{Criterion, Throughput};
use goby::group::Group;
use goby::{Context, chan, pattern};

const N: u64 = 1000;

/// A channel with all values in it, closed.
fn values() -> chan::Receiver<u64> {
    let (tx, rx) = chan::unbounded();
    (0..N).for_each(|i| tx.send(i).expect("the receiver is there"));
    rx
}

pub fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("pattern_of_1000");
    group.throughput(Throughput::Elements(N));
    let ctx = Context::background();
    group
        .bench_function("par_map_8", |b| b.iter(|| pattern::par_map(&ctx, values(), 8, |i| i + 1).iter().sum::<u64>()));
    group.bench_function("fan_out_8_fan_in", |b| {
        b.iter(|| pattern::fan_in(&ctx, pattern::fan_out(&ctx, values(), 8, |i| i + 1)).iter().sum::<u64>());
    });
    group.bench_function("group", |b| {
        b.iter(|| {
            let group: Group<u64> = Group::new();
            (0..N).for_each(|i| group.go(move || Ok(i)));
            group.wait().expect("none fails").len()
        });
    });
}
