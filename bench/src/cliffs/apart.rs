//! Partners that live on different workers: *_apart.
//!
//! A goroutine stays on the worker that ran it first, so partners are placed at their start. A
//! goroutine that begins on the wrong worker gives its job back and ends, and another is started.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use goby::chan::{self, Receiver, Sender};
use goby::{go, yield_now};

use crate::measure::{Clock, sum_below};

const BEGUN: u8 = 1;
const MISPLACED: u8 = 2;

struct Job<F> {
    f: Mutex<Option<F>>,
    state: AtomicU8,
}

/// Start `f` on the caller's worker, or on another; return when it has begun.
fn start(here: bool, f: impl FnOnce() + Send + 'static) {
    let home = thread::current().id();
    let give_up = Instant::now() + Duration::from_secs(5);
    let job = Arc::new(Job { f: Mutex::new(Some(f)), state: AtomicU8::new(0) });
    loop {
        job.state.store(0, Ordering::Relaxed);
        let given = job.clone();
        go(move || {
            if (thread::current().id() == home) != here {
                given.state.store(MISPLACED, Ordering::Release);
                return;
            }
            let f = given.f.lock().unwrap().take();
            given.state.store(BEGUN, Ordering::Release);
            f.expect("only the one in its place takes the job")();
        });
        loop {
            match job.state.load(Ordering::Acquire) {
                BEGUN => return,
                MISPLACED => break,
                _ if here => yield_now(),
                // No call to goby, so that this worker does not take it.
                _ => spin_loop(),
            }
            assert!(Instant::now() < give_up, "partners apart need two workers: GOBY_MAXPROCS=2");
        }
    }
}

fn start_here(f: impl FnOnce() + Send + 'static) {
    start(true, f);
}

fn start_elsewhere(f: impl FnOnce() + Send + 'static) {
    start(false, f);
}

pub fn pingpong() {
    const N: usize = 300_000;
    let (a_tx, a) = chan::bounded(0);
    let (b_tx, b) = chan::bounded(0);
    start_elsewhere(move || a.iter().for_each(|v: usize| b_tx.send(v).unwrap()));
    let clock = Clock::start();
    for i in 0..N {
        a_tx.send(i).unwrap();
        assert_eq!(b.recv(), Ok(i));
    }
    clock.per_op("pingpong_apart", N);
}

/// Wait for the gate to open, then send 0..n.
fn produce(gate: Receiver<()>, tx: Sender<usize>, n: usize) -> impl FnOnce() + Send + 'static {
    move || {
        let _ = gate.recv();
        (0..n).for_each(|i| tx.send(i).unwrap());
    }
}

/// `producers` goroutines elsewhere, the caller receives.
fn many_to_one(name: &str, n: usize, producers: usize, capacity: usize) {
    let (tx, rx) = chan::bounded(capacity);
    let (open, gate) = chan::bounded(0);
    for _ in 0..producers {
        start_elsewhere(produce(gate.clone(), tx.clone(), n / producers));
    }
    let clock = Clock::start();
    drop((open, tx));
    let s: usize = rx.iter().sum();
    assert_eq!(s, producers * sum_below(n / producers));
    clock.per_op(name, n);
}

pub fn spsc_128() {
    many_to_one("chan_spsc_128_apart", 3_000_000, 1, 128);
}

pub fn spsc_0() {
    many_to_one("chan_spsc_0_apart", 1_000_000, 1, 0);
}

pub fn fanin() {
    many_to_one("fanin_100_0_apart", 1_000_000, 100, 0);
}

pub fn mpmc() {
    const N: usize = 2_000_000;
    const P: usize = 4;
    let (tx, rx) = chan::bounded(128);
    let (open, gate) = chan::bounded(0);
    let (sums_tx, sums) = chan::bounded(P);
    for _ in 0..P {
        let (rx, sums) = (rx.clone(), sums_tx.clone());
        start_elsewhere(move || sums.send(rx.iter().sum::<usize>()).unwrap());
        start_here(produce(gate.clone(), tx.clone(), N / P));
    }
    let clock = Clock::start();
    drop((open, tx, rx, sums_tx));
    assert_eq!(sums.iter().sum::<usize>(), P * sum_below(N / P));
    clock.per_op("chan_mpmc_4x4_128_apart", N);
}
