//! Cost against number: scale_*, each at 10, 1000, 100 000 and 1 000 000.

use std::time::Duration;

use goby::chan;
use goby::chan::Select;
use goby::context::Context;
use goby::go;
use goby::sync::WaitGroup;
use goby::time::Timer;

use crate::measure::{Clock, report};

const SIZES: [usize; 4] = [10, 1000, 100_000, 1_000_000];

/// Report the time for each of `n`, over as many rounds as take long enough; `round` returns the ns
/// that count.
fn each_size(name: &str, at_least: usize, sizes: &[usize], round: impl Fn(usize) -> f64) {
    for &n in sizes {
        // The first round warms up, unless it is long.
        if n <= 1000 {
            round(n);
        }
        let rounds = (at_least / n).max(1);
        let ns: f64 = (0..rounds).map(|_| round(n)).sum();
        report(&format!("{name}_{n}"), ns / (rounds * n) as f64, "ns/each");
    }
}

/// n goroutines are started, and all end.
pub fn spawn() {
    each_size("scale_spawn", 1_000_000, &SIZES, |n| {
        let clock = Clock::start();
        let wg = WaitGroup::new();
        for _ in 0..n {
            wg.go(|| {});
        }
        wg.wait();
        clock.ns()
    });
}

/// One close unparks n goroutines, and all end.
pub fn wake() {
    each_size("scale_wake", 300_000, &SIZES, |n| {
        let (close, stop) = chan::bounded::<()>(0);
        let (ready, ended) = (WaitGroup::new(), WaitGroup::new());
        ready.add(n);
        for _ in 0..n {
            let (ready, stop) = (ready.clone(), stop.clone());
            ended.go(move || {
                ready.done();
                let _ = stop.recv();
            });
        }
        ready.wait();
        let clock = Clock::start();
        drop(close);
        ended.wait();
        clock.ns()
    });
}

/// A timer is started and stopped while n others run.
pub fn timer() {
    const OPS: usize = 200_000;
    for n in SIZES {
        let _others: Vec<Timer> = (0..n).map(|i| Timer::new(Duration::from_secs(3600 + i as u64 % 1000))).collect();
        let clock = Clock::start();
        for i in 0..OPS {
            assert!(Timer::new(Duration::from_secs(3600 + i as u64 % 1000)).stop());
        }
        report(&format!("scale_timer_{n}"), clock.ns() / OPS as f64, "ns/each");
    }
}

/// A select takes no more cases than this. Nor does Go's.
const SELECT_SIZES: [usize; 3] = [10, 1000, 65_535];

/// One select over n cases, built anew; another goroutine sends on one of them. The figure is per
/// case.
pub fn select() {
    each_size("scale_select", 1_000_000, &SELECT_SIZES, |n| {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..n).map(|_| chan::bounded::<usize>(0)).unzip();
        let sender = go(move || {
            senders[n / 3].send(n).unwrap();
            senders
        });
        let clock = Clock::start();
        let mut select = Select::new();
        for receiver in &receivers {
            select.recv(receiver);
        }
        let mut chosen = select.select();
        assert_eq!(chosen.index(), n / 3);
        assert_eq!(chosen.recv(&receivers[n / 3]), Ok(n));
        let took = clock.ns();
        drop(sender.join().unwrap());
        took
    });
}

/// A tree of n contexts, ten children each, made and canceled from its root.
pub fn context() {
    each_size("scale_context", 300_000, &SIZES, |n| {
        let clock = Clock::start();
        let (root, cancel) = Context::background().with_cancel();
        let mut tree = vec![(root, cancel)];
        for i in 1..n {
            let child = tree[(i - 1) / 10].0.with_cancel();
            tree.push(child);
        }
        tree[0].1.cancel();
        assert!(tree[n - 1].0.err().is_some());
        clock.ns()
    });
}
