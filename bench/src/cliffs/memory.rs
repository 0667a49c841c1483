//! Memory over a program's life: life_10m, release_1m.

use std::time::Duration;

use goby::chan::{self, Receiver};
use goby::sync::WaitGroup;
use goby::{go, time};

use crate::measure::{Clock, exact_rss, report, rss};

/// The longest time that memory may take to go back to the system.
const SETTLE: Duration = Duration::from_secs(10);

/// One wave of goroutines that are all alive at once.
fn wave(width: usize) {
    let (close, stop) = chan::bounded::<()>(0);
    let (ready, ended) = (WaitGroup::new(), WaitGroup::new());
    ready.add(width);
    for _ in 0..width {
        let (ready, stop) = (ready.clone(), stop.clone());
        ended.go(move || {
            ready.done();
            let _ = stop.recv();
        });
    }
    ready.wait();
    drop(close);
    ended.wait();
}

/// Ten million goroutines, ten thousand alive at a time; the size before the first and after the
/// last.
pub fn life() {
    const WIDTH: usize = 10_000;
    go(|| {}).join().unwrap();
    time::sleep(Duration::from_secs(1));
    let (before, files_before) = exact_rss();
    wave(WIDTH);
    time::sleep(SETTLE);
    let (warm, _) = exact_rss();
    for _ in 0..1000 {
        wave(WIDTH);
    }
    let peak = rss();
    time::sleep(SETTLE);
    let (after, files) = exact_rss();
    report("life_10m_before", before / 1e6, "MB");
    report("life_10m_first_wave", warm / 1e6, "MB");
    report("life_10m_peak", peak / 1e6, "MB");
    report("life_10m_after", after / 1e6, "MB");
    report("life_10m_growth", (after / before - 1.0) * 100.0, "%");
    report("life_10m_growth_text", (files - files_before) / before * 100.0, "%");
    report("life_10m_growth_warm", (after / warm - 1.0) * 100.0, "%");
}

/// A million idle goroutines, then none: how much of their memory the system has back, and when it
/// had 90 %.
fn release_of(name: &str, start_one: impl Fn(&WaitGroup, &WaitGroup, &Receiver<()>)) {
    const N: usize = 1_000_000;
    let before = rss();
    let (close, stop) = chan::bounded::<()>(0);
    let (ready, ended) = (WaitGroup::new(), WaitGroup::new());
    ready.add(N);
    for _ in 0..N {
        start_one(&ready, &ended, &stop);
    }
    ready.wait();
    let peak = rss();
    drop(close);
    ended.wait();
    let clock = Clock::start();
    let back = || (peak - rss()) / (peak - before) * 100.0;
    let mut when = None;
    while clock.elapsed() < SETTLE {
        if when.is_none() && back() >= 90.0 {
            when = Some(clock.ns() / 1e6);
        }
        time::sleep(Duration::from_millis(100));
    }
    report(&format!("{name}_back"), back(), "%");
    report(&format!("{name}_90_percent"), when.unwrap_or(f64::INFINITY), "ms");
}

pub fn release() {
    release_of("release_1m", |ready, ended, stop| {
        let (ready, stop) = (ready.clone(), stop.clone());
        ended.go(move || {
            ready.done();
            let _ = stop.recv();
        });
    });
}

pub fn release_async() {
    release_of("release_1m_async", |ready, ended, stop| {
        let (ready, ended, stop) = (ready.clone(), ended.clone(), stop.clone());
        ended.add(1);
        drop(goby::spawn(async move {
            ready.done();
            let _ = stop.recv_async().await;
            ended.done();
        }));
    });
}
