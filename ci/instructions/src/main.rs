//! The hot paths, each by itself on one worker.
//!
//!     goby-instructions NAME N    does it N times
//!     goby-instructions list      the names
//!
//! ci/instructions.sh runs each twice under callgrind, with two values of N, so that start-up and
//! end do not count. With one worker and no clock, the count is the same in every run, to less than
//! one in a hundred.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use goby::chan::{self, Receiver};
use goby::context::Context;
use goby::sync::{Mutex, WaitGroup};
use goby::time::Timer;
use goby::{Runtime, go, select, yield_now};

/// Does one operation so many times.
type HotPath = fn(usize);

const PATHS: &[(&str, HotPath)] = &[
    ("spawn_join", spawn_join),
    ("spawn_1000", spawn_1000),
    ("spawn_async", spawn_async),
    ("yield", yields),
    ("pingpong", pingpong),
    ("chan_spsc_128", |n| spsc(n, 128)),
    ("chan_spsc_0", |n| spsc(n, 0)),
    ("select_2_default", select_default),
    ("select_2_ready", select_ready),
    ("select_2_blocking", select_blocking),
    ("mutex_uncontended", mutex),
    ("timer_start_stop", timer),
    ("context_cancel", context_cancel),
    ("check_mutex", check_mutex),
];

/// A goroutine is started and joined, and its spawner is parked meanwhile.
fn spawn_join(n: usize) {
    for i in 0..n {
        assert_eq!(go(move || i).join().unwrap(), i);
    }
}

/// Goroutines started a thousand at a time.
fn spawn_1000(n: usize) {
    for _ in 0..n / 1000 {
        let wg = WaitGroup::new();
        for _ in 0..1000 {
            wg.go(|| {});
        }
        wg.wait();
    }
}

/// Futures started a thousand at a time.
fn spawn_async(n: usize) {
    for _ in 0..n / 1000 {
        let tasks: Vec<_> = (0..1000).map(|_| goby::spawn(async {})).collect();
        for task in tasks {
            goby::block_on(task);
        }
    }
}

/// One switch to another goroutine that does the same, and one back.
fn yields(n: usize) {
    let other = go(move || (0..n / 2).for_each(|_| yield_now()));
    (0..n / 2).for_each(|_| yield_now());
    other.join().unwrap();
}

/// A round trip over two rendezvous channels.
fn pingpong(n: usize) {
    let (a_tx, a) = chan::bounded(0);
    let (b_tx, b) = chan::bounded(0);
    go(move || a.iter().for_each(|v: usize| b_tx.send(v).unwrap()));
    for i in 0..n {
        a_tx.send(i).unwrap();
        assert_eq!(b.recv(), Ok(i));
    }
}

/// A goroutine that sends 0..n.
fn numbers(n: usize, capacity: usize) -> Receiver<usize> {
    let (tx, rx) = chan::bounded(capacity);
    go(move || (0..n).for_each(|i| tx.send(i).unwrap()));
    rx
}

/// A message from one goroutine to one other.
fn spsc(n: usize, capacity: usize) {
    assert_eq!(numbers(n, capacity).iter().sum::<usize>(), n * (n - 1) / 2);
}

/// Two cases, neither ready, and a default.
fn select_default(n: usize) {
    let (_a_tx, a) = chan::bounded::<usize>(0);
    let (_b_tx, b) = chan::bounded::<usize>(0);
    let mut k = 0;
    for _ in 0..n {
        select! {
            recv(a) -> _ => {},
            recv(b) -> _ => {},
            default => k += 1,
        }
    }
    assert_eq!(black_box(k), n);
}

/// Two cases, one ready; this includes the send that makes it ready.
fn select_ready(n: usize) {
    let (a_tx, a) = chan::bounded(1);
    let (_b_tx, b) = chan::bounded::<usize>(1);
    let mut s = 0;
    for i in 0..n {
        a_tx.send(i).unwrap();
        select! {
            recv(a) -> v => s += v.unwrap(),
            recv(b) -> v => s += v.unwrap(),
        }
    }
    assert_eq!(s, n * (n - 1) / 2);
}

/// Three cases; other goroutines eventually send on two of them.
fn select_blocking(n: usize) {
    let (a_tx, a) = chan::bounded(0);
    let (b_tx, b) = chan::bounded(0);
    let (_stop, done) = chan::bounded::<()>(0);
    for tx in [&a_tx, &b_tx] {
        let tx = tx.clone();
        go(move || (0..n / 2).for_each(|i| tx.send(i).unwrap()));
    }
    // Nothing closes: a_tx and b_tx live to the end of this function.
    let mut s = 0;
    for _ in 0..n {
        select! {
            recv(a) -> v => s += v.unwrap(),
            recv(b) -> v => s += v.unwrap(),
            recv(done) -> _ => return,
        }
    }
    assert_eq!(s, n / 2 * (n / 2 - 1));
}

/// A lock that nobody else wants.
fn mutex(n: usize) {
    let m = Mutex::new(0);
    for _ in 0..n {
        *black_box(&m).lock() += 1;
    }
    assert_eq!(m.into_inner(), n);
}

/// A timer that never fires.
fn timer(n: usize) {
    for _ in 0..n {
        assert!(Timer::new(Duration::from_secs(3600)).stop());
    }
}

/// A child context, canceled.
fn context_cancel(n: usize) {
    let (parent, _cancel) = Context::background().with_cancel();
    for _ in 0..n {
        let (child, cancel) = parent.with_cancel();
        cancel.cancel();
        assert!(child.err().is_some());
    }
}

/// An execution of a check: two goroutines take a lock five times each.
fn check_mutex(n: usize) {
    let config = goby_check::Config::random(n as u64).seed(1);
    goby_check::check(config, || {
        let lock = Arc::new(Mutex::new(0));
        let adds = |lock: Arc<Mutex<u32>>| move || (0..5).for_each(|_| *lock.lock() += 1);
        let both = [go(adds(lock.clone())), go(adds(lock.clone()))];
        both.into_iter().for_each(|goroutine| goroutine.join().unwrap());
        assert_eq!(*lock.lock(), 10);
    });
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if args == ["list"] {
        PATHS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let found = match *args {
        [name, n] => PATHS.iter().find(|(known, _)| *known == name).zip(n.parse().ok()),
        _ => None,
    };
    let Some(((_, path), n)) = found else {
        eprintln!("usage: goby-instructions NAME N | list");
        return ExitCode::from(2);
    };
    // No stalls: under callgrind a run is slow enough to report them, and callgrind cannot follow
    // the signal that looks at one.
    Runtime::builder().workers(1).stall_limit(None).build().expect("a runtime starts").run(|| path(n));
    ExitCode::SUCCESS
}
