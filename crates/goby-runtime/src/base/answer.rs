//! An answer to a goroutine that waits on the processor: with nothing else to run, a worker lets
//! who is about to park look for a moment whether it is unparked, before it parks it. Partners on
//! two workers then hand a word over, and neither goroutine queues nor schedulers, whose cache
//! lines would travel too: a round trip of two goroutines took about ten cache misses each way, and
//! takes about four.
//!
//! ```text
//! state:  ABSENT   the waiter has not begun to look, or has given up: it parks, and is unparked through the inbox
//!         LOOKING  it looks
//!         GIVEN    it has been answered, and goes on without having parked
//! ```
//!
//! Proof sketch. Whoever unparks tries LOOKING → GIVEN, the waiter that gives up LOOKING → ABSENT,
//! both by a compare-and-swap: one of them comes first. If it is the answer, the waiter finds it,
//! and nobody queues the goroutine; if it is the waiter, or if it has not begun, the answer fails,
//! and the goroutine is queued as if there were no such thing: that it parks only later is no
//! matter, since only its own thread takes it out of the queue. There is one unpark a wait, so
//! GIVEN is written once. `loom_answer` below checks it.

use crate::base::primitive::{AtomicU8, Ordering};

const ABSENT: u8 = 0;
const LOOKING: u8 = 1;
const GIVEN: u8 = 2;

/// Part of a wait, see above.
pub(crate) struct Answer {
    state: AtomicU8,
}

impl Answer {
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn new() -> Answer {
        Answer { state: AtomicU8::new(ABSENT) }
    }

    /// Begins to look. For the waiter.
    #[inline]
    pub(crate) fn look(&self) {
        // Release: whoever answers had the wait from a queue, and so sees it whole without this;
        // but it is free here.
        self.state.store(LOOKING, Ordering::Release);
    }

    /// Whether the answer is there. For the waiter, while it looks.
    #[inline]
    pub(crate) fn is_given(&self) -> bool {
        // Acquire pairs with the Release of `give`.
        self.state.load(Ordering::Acquire) == GIVEN
    }

    /// Ends the look; true if the answer has come after all. For the waiter.
    #[inline]
    pub(crate) fn give_up(&self) -> bool {
        // Acquire, where it fails: as in `is_given`. Where it succeeds nothing is published: the
        // unpark then goes its way.
        self.state.compare_exchange(LOOKING, ABSENT, Ordering::Relaxed, Ordering::Acquire).is_err()
    }

    /// Unparks a waiter that looks; false if it does not. After true it may be gone.
    #[inline]
    pub(crate) fn give(&self) -> bool {
        // Relaxed: to find LOOKING too late, or not, only chooses the way. Release pairs with
        // `is_given` and `give_up`.
        self.state.load(Ordering::Relaxed) == LOOKING
            && self.state.compare_exchange(LOOKING, GIVEN, Ordering::Release, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::base::primitive::AtomicBool;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    struct Shared {
        answer: Answer,
        /// In place of the inbox.
        queued: AtomicBool,
        value: UnsafeCell<u32>,
    }

    /// The waiter is unparked one way, not both, and sees what was done before.
    #[test]
    fn loom_answer() {
        loom::model(|| {
            let shared =
                Arc::new(Shared { answer: Answer::new(), queued: AtomicBool::new(false), value: UnsafeCell::new(0) });
            let theirs = shared.clone();
            let unparker = loom::thread::spawn(move || {
                // SAFETY: the waiter reads it once it is unparked.
                theirs.value.with_mut(|value| unsafe { *value = 7 });
                if !theirs.answer.give() {
                    theirs.queued.store(true, Ordering::Release);
                }
            });
            shared.answer.look();
            let is_given = shared.answer.is_given() || shared.answer.give_up();
            if !is_given {
                while !shared.queued.load(Ordering::Acquire) {
                    loom::thread::yield_now();
                }
            }
            // SAFETY: unparked.
            assert_eq!(shared.value.with(|value| unsafe { *value }), 7);
            unparker.join().unwrap();
            assert_eq!(shared.queued.load(Ordering::Relaxed), !is_given);
        });
    }
}
