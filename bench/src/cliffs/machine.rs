//! What the machine itself costs on that day, without goby: a bound in ns means little without
//! these figures.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use crate::measure::{Clock, report};

const N: u32 = 1_000_000;

/// An uncontended atomic update; a word to another spinning thread and back; a sleeping thread
/// woken and back; a page touched first.
pub fn machine() {
    let word = AtomicU32::new(0);
    let clock = Clock::start();
    for _ in 0..10 * N {
        word.fetch_add(1, Ordering::Relaxed);
    }
    report("machine_atomic", clock.ns() / f64::from(10 * N), "ns");

    word.store(0, Ordering::Relaxed);
    thread::scope(|s| {
        s.spawn(|| pass_on(&word, 1));
        let clock = Clock::start();
        pass_on(&word, 0);
        report("machine_word_round_trip", clock.ns() / f64::from(N), "ns");
    });

    // The word `turn` names the thread that goes next. A token alone may be left over, and the
    // scope parks on it, too.
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

    const PAGES: usize = 50_000;
    let mut memory: Vec<u8> = Vec::with_capacity(PAGES * 4096);
    let clock = Clock::start();
    for page in memory.spare_capacity_mut().chunks_mut(4096) {
        page[0].write(1);
    }
    report("machine_first_touch", clock.ns() / PAGES as f64, "ns/page");
}

/// Take each turn with a number that is `mine` modulo 2.
fn pass_on(word: &AtomicU32, mine: u32) {
    for turn in 0..N {
        while word.load(Ordering::Acquire) != 2 * turn + mine {
            spin_loop();
        }
        word.store(2 * turn + mine + 1, Ordering::Release);
    }
}
