//! Objects in great numbers: idle_1m, sleep_1m, context_cancel_100k, timer_start_stop.

use std::time::Duration;

use goby::chan::{self, Receiver};
use goby::context::Context;
use goby::sync::WaitGroup;
use goby::time;

use crate::measure::{Clock, page_tables, report, rss};

const N: usize = 1_000_000;

/// Start `N` of them, wait until all are parked on `stop`, close it, wait until all have ended.
fn idle_of(name: &str, start_one: impl Fn(&WaitGroup, &WaitGroup, &Receiver<()>)) {
    let (before, tables_before) = (rss(), page_tables());
    let (close, stop) = chan::bounded::<()>(0);
    let (ready, woken) = (WaitGroup::new(), WaitGroup::new());
    let clock = Clock::start();
    ready.add(N);
    for _ in 0..N {
        start_one(&ready, &woken, &stop);
    }
    ready.wait();
    let took = clock.ns();
    let (after, tables) = (rss(), page_tables());
    let clock = Clock::start();
    drop(close);
    woken.wait();
    let woke = clock.ns();
    report(&format!("{name}_bytes"), (after - before) / N as f64, "B/goroutine");
    report(&format!("{name}_tables"), (tables - tables_before) / N as f64, "B/goroutine");
    report(&format!("{name}_park"), took / N as f64, "ns/goroutine");
    report(&format!("{name}_wake"), woke / N as f64, "ns/goroutine");
}

pub fn idle() {
    idle_of("idle_1m", |ready, woken, stop| {
        let (ready, stop) = (ready.clone(), stop.clone());
        woken.go(move || {
            ready.done();
            let _ = stop.recv();
        });
    });
}

pub fn idle_async() {
    idle_of("idle_1m_async", |ready, woken, stop| {
        let (ready, woken, stop) = (ready.clone(), woken.clone(), stop.clone());
        woken.add(1);
        drop(goby::spawn(async move {
            ready.done();
            let _ = stop.recv_async().await;
            woken.done();
        }));
    });
}

pub fn sleepers() {
    let wg = WaitGroup::new();
    let clock = Clock::start();
    for _ in 0..N {
        wg.go(|| time::sleep(Duration::from_secs(1)));
    }
    wg.wait();
    clock.ms("sleep_1m");
    report("sleep_1m_rss", rss() / 1e6, "MB");
}

pub fn sleepers_async() {
    let wg = WaitGroup::new();
    let clock = Clock::start();
    wg.add(N);
    for _ in 0..N {
        let wg = wg.clone();
        drop(goby::spawn(async move {
            let _ = time::after(Duration::from_secs(1)).recv_async().await;
            wg.done();
        }));
    }
    wg.wait();
    clock.ms("sleep_1m_async");
    report("sleep_1m_async_rss", rss() / 1e6, "MB");
}

pub fn context_cancel() {
    const N: usize = 100_000;
    let clock = Clock::start();
    let (ctx, cancel) = Context::background().with_cancel();
    let wg = WaitGroup::new();
    for _ in 0..N {
        let (child, stop) = ctx.with_cancel();
        wg.go(move || {
            let _stop = stop;
            let _ = child.done().recv();
        });
    }
    cancel.cancel();
    wg.wait();
    clock.per_op("context_cancel_100k", N);
}

pub fn context_cancel_async() {
    const N: usize = 100_000;
    let clock = Clock::start();
    let (ctx, cancel) = Context::background().with_cancel();
    let wg = WaitGroup::new();
    wg.add(N);
    for _ in 0..N {
        let (child, stop) = ctx.with_cancel();
        let wg = wg.clone();
        drop(goby::spawn(async move {
            let _stop = stop;
            let _ = child.done().recv_async().await;
            wg.done();
        }));
    }
    cancel.cancel();
    wg.wait();
    clock.per_op("context_cancel_100k_async", N);
}

pub fn timer_start_stop() {
    const N: usize = 2_000_000;
    let clock = Clock::start();
    for _ in 0..N {
        let timer = time::Timer::new(Duration::from_secs(3600));
        timer.stop();
    }
    clock.per_op("timer_start_stop", N);
}
