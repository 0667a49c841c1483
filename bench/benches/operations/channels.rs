//! Channels without a partner: what the try forms and the iterators cost.

use criterion::Criterion;
use goby::{block_on, chan};

pub fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("chan");
    group.bench_function("make_bounded", |b| b.iter(|| chan::bounded::<u64>(1)));
    group.bench_function("make_unbounded", |b| b.iter(chan::unbounded::<u64>));
    let (tx, rx) = chan::bounded(1);
    group.bench_function("try_send_try_recv", |b| {
        b.iter(|| {
            tx.try_send(1).expect("there is room");
            rx.try_recv().expect("it is there")
        });
    });
    group.bench_function("try_recv_empty", |b| b.iter(|| rx.try_recv()));
    group.bench_function("send_recv_async", |b| {
        b.iter(|| {
            block_on(async {
                tx.send_async(1).await.expect("there is room");
                rx.recv_async().await.expect("it is there")
            })
        });
    });
    let (tx, rx) = chan::unbounded();
    group.bench_function("unbounded_send_recv", |b| {
        b.iter(|| {
            tx.send(1).expect("the receiver is there");
            rx.recv().expect("it is there")
        });
    });
    group.bench_function("iterate_1000", |b| {
        b.iter(|| {
            (0..1000).for_each(|i| tx.send(i).expect("the receiver is there"));
            rx.try_iter().sum::<u64>()
        });
    });
}
