//! Channels and select: pingpong, chan_*, fanin_100_0, select_2_*.

use std::hint::black_box;

use goby::{chan, go, select};

use crate::measure::{Clock, sum_below};

pub fn pingpong() {
    const N: usize = 1_000_000;
    let (a_tx, a) = chan::bounded(0);
    let (b_tx, b) = chan::bounded(0);
    go(move || {
        for v in a {
            b_tx.send(v).unwrap();
        }
    });
    let clock = Clock::start();
    for i in 0..N {
        a_tx.send(i).unwrap();
        assert_eq!(b.recv(), Ok(i));
    }
    clock.per_op("pingpong", N);
}

pub fn pingpong_async() {
    const N: usize = 1_000_000;
    let (a_tx, a) = chan::bounded(0);
    let (b_tx, b) = chan::bounded(0);
    let echo = goby::spawn(async move {
        while let Ok(v) = a.recv_async().await {
            b_tx.send_async(v).await.unwrap();
        }
    });
    // Both partners are futures, as both are goroutines in pingpong.
    goby::block_on(goby::spawn(async move {
        let clock = Clock::start();
        for i in 0..N {
            a_tx.send_async(i).await.unwrap();
            assert_eq!(b.recv_async().await, Ok(i));
        }
        clock.per_op("pingpong_async", N);
    }));
    goby::block_on(echo);
}

fn spsc(name: &str, n: usize, capacity: usize) {
    let (tx, rx) = chan::bounded(capacity);
    let clock = Clock::start();
    go(move || {
        for i in 0..n {
            tx.send(i).unwrap();
        }
    });
    let s: usize = rx.iter().sum();
    assert_eq!(s, sum_below(n));
    clock.per_op(name, n);
}

pub fn spsc_128() {
    spsc("chan_spsc_128", 10_000_000, 128);
}

pub fn spsc_0() {
    spsc("chan_spsc_0", 3_000_000, 0);
}

pub fn mpmc() {
    const N: usize = 4_000_000;
    const P: usize = 4;
    let clock = Clock::start();
    let (tx, rx) = chan::bounded(128);
    let consumers: Vec<_> = (0..P)
        .map(|_| {
            let (tx, rx) = (tx.clone(), rx.clone());
            go(move || {
                for i in 0..N / P {
                    tx.send(i).unwrap();
                }
            });
            go(move || rx.iter().sum::<usize>())
        })
        .collect();
    // The consumers end when the last producer has dropped its sender.
    drop((tx, rx));
    let s: usize = consumers.into_iter().map(|c| c.join().unwrap()).sum();
    assert_eq!(s, P * sum_below(N / P));
    clock.per_op("chan_mpmc_4x4_128", N);
}

pub fn fanin() {
    const N: usize = 2_000_000;
    const P: usize = 100;
    let clock = Clock::start();
    let (tx, rx) = chan::bounded(0);
    for _ in 0..P {
        let tx = tx.clone();
        go(move || {
            for i in 0..N / P {
                tx.send(i).unwrap();
            }
        });
    }
    let s: usize = (0..N).map(|_| rx.recv().unwrap()).sum();
    assert_eq!(s, P * sum_below(N / P));
    clock.per_op("fanin_100_0", N);
}

pub fn select_blocking() {
    const N: usize = 2_000_000;
    let (a_tx, a) = chan::bounded(0);
    let (b_tx, b) = chan::bounded(0);
    let (_stop, done) = chan::bounded::<()>(0);
    let clock = Clock::start();
    for tx in [&a_tx, &b_tx] {
        let tx = tx.clone();
        go(move || {
            for i in 0..N / 2 {
                tx.send(i).unwrap();
            }
        });
    }
    let mut s = 0;
    for _ in 0..N {
        // As in Go, nothing closes: a_tx and b_tx live to the end of this function.
        select! {
            recv(a) -> v => s += v.unwrap(),
            recv(b) -> v => s += v.unwrap(),
            recv(done) -> _ => return,
        }
    }
    assert_eq!(s, 2 * sum_below(N / 2));
    clock.per_op("select_2_blocking", N);
}

pub fn select_default() {
    const N: usize = 20_000_000;
    let (_a_tx, a) = chan::bounded::<usize>(0);
    let (_b_tx, b) = chan::bounded::<usize>(0);
    let mut k = 0;
    let clock = Clock::start();
    for _ in 0..N {
        select! {
            recv(a) -> _ => {},
            recv(b) -> _ => {},
            default => k += 1,
        }
    }
    assert_eq!(black_box(k), N);
    clock.per_op("select_2_default", N);
}
