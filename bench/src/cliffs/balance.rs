//! Work that begins on one worker: imbalance_8, hog_*.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use goby::sync::WaitGroup;
use goby::{chan, go, yield_now};

use crate::measure::{Clock, percentile_us, report};

/// Computes for some tens of microseconds. Threads and goroutines share this code, since otherwise
/// it is compiled to loops of different speed.
#[inline(never)]
fn chunk() {
    let mut x = 1_u64;
    for _ in 0..20_000 {
        // Opaque, so that the compiler does not fold many steps into one.
        x = black_box(x).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    black_box(x);
}

/// 8 goroutines that compute and yield, started by one goroutine, beside plain threads that share
/// the same work evenly.
pub fn imbalance() {
    const P: usize = 8;
    const CHUNKS: usize = 3000;
    const REPS: usize = 5;
    let workers = match std::env::var("GOBY_MAXPROCS") {
        Ok(n) => n.parse().expect("GOBY_MAXPROCS is a number"),
        Err(_) => thread::available_parallelism().map_or(1, usize::from),
    };
    let mut ratios = Vec::new();
    for _ in 0..REPS {
        let clock = Clock::start();
        goby::blocking(|| {
            thread::scope(|s| {
                for _ in 0..workers {
                    s.spawn(|| (0..P * CHUNKS / workers).for_each(|_| chunk()));
                }
            });
        });
        let ideal = clock.ns();
        let clock = Clock::start();
        let wg = WaitGroup::new();
        for _ in 0..P {
            wg.go(|| {
                for _ in 0..CHUNKS {
                    chunk();
                    yield_now();
                }
            });
        }
        wg.wait();
        ratios.push(clock.ns() / ideal);
    }
    ratios.sort_by(f64::total_cmp);
    report("imbalance_8", ratios[REPS / 2], "x-ideal");
    report("imbalance_8_worst", ratios[REPS - 1], "x-ideal");
}

const HOG: Duration = Duration::from_millis(100);

/// Compute without a call to goby.
fn compute(length: Duration) {
    let end = Instant::now() + length;
    while Instant::now() < end {
        chunk();
    }
}

/// Reports the longest and the median delay of the work that `leave` leaves for other workers, in a
/// goroutine that then computes for 100 ms.
fn hog(name: &str, n: usize, leave: impl Fn(chan::Sender<Duration>) + Copy + Send + 'static) {
    let mut delays = Vec::new();
    for _ in 0..10 {
        let (tx, rx) = chan::unbounded();
        let hog = go(move || {
            (0..n).for_each(|_| leave(tx.clone()));
            drop(tx);
            compute(HOG);
        });
        delays.extend(rx.iter().map(|d| d.as_nanos() as u64));
        hog.join().unwrap();
    }
    assert_eq!(delays.len(), 10 * n);
    delays.sort_unstable();
    report(&format!("{name}_p50"), percentile_us(&delays, 0.5), "us");
    report(&format!("{name}_max"), percentile_us(&delays, 1.0), "us");
}

/// Goroutines that the hog has started, and that have not run yet.
pub fn hog_goroutines() {
    let start_one = |tx: chan::Sender<Duration>| {
        let asked = Instant::now();
        go(move || tx.send(asked.elapsed()).unwrap());
    };
    hog("hog_1_goroutine", 1, start_one);
    hog("hog_100_goroutines", 100, start_one);
}

/// Futures that the hog has started, and waiting futures that it has woken.
pub fn hog_futures() {
    let start_one = |tx: chan::Sender<Duration>| {
        let asked = Instant::now();
        drop(goby::spawn(async move { tx.send_async(asked.elapsed()).await.unwrap() }));
    };
    hog("hog_1_future", 1, start_one);
    hog("hog_100_futures", 100, start_one);
    hog("hog_100_woken_futures", 100, |tx| {
        let (wake, woken) = chan::bounded::<Instant>(1);
        drop(goby::spawn(async move {
            let asked = woken.recv_async().await.unwrap();
            tx.send_async(asked.elapsed()).await.unwrap();
        }));
        // It runs until it waits.
        yield_now();
        wake.send(Instant::now()).unwrap();
    });
}
