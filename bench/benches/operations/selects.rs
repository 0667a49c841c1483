//! `select!` and its dynamic form, over more cases than the table has.

use criterion::{BenchmarkId, Criterion};
use goby::{chan, go, select};

type Channel = (chan::Sender<u64>, chan::Receiver<u64>);

fn receive_any(channels: &[Channel]) -> u64 {
    let mut select = goby::chan::Select::new();
    for (_, rx) in channels {
        select.recv(rx);
    }
    let mut chosen = select.select();
    let index = chosen.index();
    chosen.recv(&channels[index].1).expect("it is there")
}

pub fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("select");
    let (tx, rx) = chan::bounded(1);
    let (_other_tx, other) = chan::bounded::<u64>(1);
    group.bench_function("ready_of_2", |b| {
        b.iter(|| {
            tx.send(1).expect("there is room");
            select! {
                recv(rx) -> value => value.expect("it is there"),
                recv(other) -> value => value.expect("nothing is sent"),
            }
        });
    });
    for n in [8, 64] {
        let channels: Vec<_> = (0..n).map(|_| chan::bounded::<u64>(1)).collect();
        group.bench_function(BenchmarkId::new("ready_of", n), |b| {
            b.iter(|| {
                channels[n / 2].0.send(1).expect("there is room");
                receive_any(&channels)
            });
        });
        // A round trip: the partner sends the value only when it is asked.
        let (ask, asked) = chan::bounded::<()>(0);
        let answer = channels[n / 2].0.clone();
        let partner = go(move || asked.iter().for_each(|()| answer.send(1).expect("the receiver is there")));
        group.bench_function(BenchmarkId::new("blocking_of", n), |b| {
            b.iter(|| {
                ask.send(()).expect("the partner receives");
                receive_any(&channels)
            });
        });
        drop(ask);
        partner.join().expect("it only answers");
    }
}
