//! What the machine itself costs on the day, without goby: a bound in ns means little without it.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};

use crate::measure::{Clock, report};

/// An uncontended atomic update; a word to another spinning thread and back; a sleeping thread woken and back; a page
/// touched first.
pub fn machine() {
    const UPDATES: u32 = 10_000_000;
    let word = AtomicU32::new(0);
    let clock = Clock::start();
    for _ in 0..UPDATES {
        word.fetch_add(1, Ordering::Relaxed);
    }
    report("machine_atomic", clock.ns() / f64::from(UPDATES), "ns");

    round_trips("machine_word_round_trip", 200_000, spin_loop);
    round_trips("machine_wake_round_trip", 10_000, thread::park);

    const PAGES: usize = 50_000;
    let mut memory: Vec<u8> = Vec::with_capacity(PAGES * 4096);
    let clock = Clock::start();
    for page in memory.spare_capacity_mut().chunks_mut(4096) {
        page[0].write(1);
    }
    report("machine_first_touch", clock.ns() / PAGES as f64, "ns/page");
}

/// A word that two threads change in turn; `wait` is what one does until it is its turn.
fn round_trips(name: &str, n: u32, wait: fn()) {
    let word = AtomicU32::new(0);
    let turns = |mine: u32, peer: &Thread| {
        for turn in 0..n {
            while word.load(Ordering::Acquire) != 2 * turn + mine {
                wait();
            }
            word.store(2 * turn + mine + 1, Ordering::Release);
            peer.unpark();
        }
    };
    let main = thread::current();
    thread::scope(|s| {
        let other = s.spawn(|| turns(1, &main));
        let clock = Clock::start();
        turns(0, other.thread());
        report(name, clock.ns() / f64::from(n), "ns");
    });
}
