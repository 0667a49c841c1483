//! What the machine itself costs on the day, without goby: a bound in ns means little without it.

use std::hint::spin_loop;
<<<<<<< HEAD
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};
=======
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
>>>>>>> main

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

<<<<<<< HEAD
    round_trips("machine_word_round_trip", 200_000, spin_loop);
    round_trips("machine_wake_round_trip", 10_000, thread::park);
=======
    word.store(0, Ordering::Relaxed);
    thread::scope(|s| {
        s.spawn(|| pass_on(&word, 1));
        let clock = Clock::start();
        pass_on(&word, 0);
        report("machine_word_round_trip", clock.ns() / f64::from(N), "ns");
    });

    // The turn says whose it is: a token alone may be left over, and the scope parks on it too.
    const WAKES: u32 = 20_000;
    let turn = AtomicUsize::new(0);
    let await_turn = |mine: usize| {
        while turn.load(Ordering::Acquire) % 2 != mine {
            thread::park();
        }
    };
    let main = thread::current();
    thread::scope(|s| {
        let other = s.spawn(|| {
            for _ in 0..WAKES {
                await_turn(1);
                turn.fetch_add(1, Ordering::AcqRel);
                main.unpark();
            }
        });
        let clock = Clock::start();
        for _ in 0..WAKES {
            turn.fetch_add(1, Ordering::AcqRel);
            other.thread().unpark();
            await_turn(0);
        }
        report("machine_wake_round_trip", clock.ns() / f64::from(WAKES), "ns");
    });
>>>>>>> main

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
