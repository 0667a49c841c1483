//! Starting, ending and switching goroutines: spawn, spawn_join, yield, skynet_1m.

use goby::chan::{self, Sender};
use goby::sync::WaitGroup;
use goby::{go, yield_now};

use crate::measure::{Clock, sum_below};

const WAVES: usize = 1000;
const WIDTH: usize = 1000;

pub fn spawn() {
    let clock = Clock::start();
    for _ in 0..WAVES {
        let wg = WaitGroup::new();
        for _ in 0..WIDTH {
            wg.go(|| {});
        }
        wg.wait();
    }
    clock.per_op("spawn", WAVES * WIDTH);
}

pub fn spawn_async() {
    let clock = Clock::start();
    for _ in 0..WAVES {
        let tasks: Vec<_> = (0..WIDTH).map(|_| goby::spawn(async {})).collect();
        for task in tasks {
            goby::block_on(task);
        }
    }
    clock.per_op("spawn_async", WAVES * WIDTH);
}

pub fn spawn_join() {
    const N: usize = 1_000_000;
    let clock = Clock::start();
    for _ in 0..N {
        go(|| {}).join().unwrap();
    }
    clock.per_op("spawn_join", N);
}

pub fn yields() {
    const N: usize = 2_000_000;
    let clock = Clock::start();
    let wg = WaitGroup::new();
    for _ in 0..2 {
        wg.go(|| {
            for _ in 0..N {
                yield_now();
            }
        });
    }
    wg.wait();
    clock.per_op("yield", 2 * N);
}

fn skynet_node(out: Sender<usize>, num: usize, size: usize, div: usize) {
    if size == 1 {
        out.send(num).unwrap();
        return;
    }
    let (tx, rx) = chan::bounded(0);
    for i in 0..div {
        let tx = tx.clone();
        go(move || skynet_node(tx, num + i * (size / div), size / div, div));
    }
    let sum = (0..div).map(|_| rx.recv().unwrap()).sum();
    out.send(sum).unwrap();
}

pub fn skynet() {
    const SIZE: usize = 1_000_000;
    let clock = Clock::start();
    let (tx, rx) = chan::bounded(0);
    go(move || skynet_node(tx, 0, SIZE, 10));
    assert_eq!(rx.recv(), Ok(sum_below(SIZE)));
    clock.ms("skynet_1m");
}
