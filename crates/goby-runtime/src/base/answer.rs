//! An answer to a goroutine that waits on the processor. A worker with nothing else to run lets a
//! goroutine that is about to park look for a moment whether it is unparked. So partners on two
//! workers hand a word over, and neither goroutine queues nor schedulers, whose cache lines would
//! travel too. A round trip of two goroutines took about ten cache misses each way, and takes about
//! four.
//!
//! ```text
//! state:  ABSENT   the waiter has not begun to look, or has given up: it parks, and is unparked through the inbox
//!         LOOKING  it looks
//!         GIVEN    it has been answered, and goes on without having parked
//! ```
//!
//! Proof sketch. The unparker tries LOOKING → GIVEN, and the waiter that gives up tries LOOKING →
//! ABSENT, both by a compare-and-swap, so one of them comes first. If it is the unparker, the
//! waiter finds the answer, and no thread queues the goroutine. If it is the waiter, or if the
//! waiter has not begun to look, the answer fails, and the goroutine is queued as if there were no
//! answers. Then the goroutine may be queued before it has parked. That does no harm, since only
//! its own thread takes it out of the queue. There is one unpark per wait, so GIVEN is written
//! once. `loom_answer` below checks it.

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

    /// Makes one whose waiter looks already: a goroutine that carries something runs for a while
    /// after it has shown its wait (`carried.rs`).
    pub(crate) fn looking() -> Answer {
        Answer { state: AtomicU8::new(LOOKING) }
    }

    /// Begins to look. For the waiter.
    #[inline]
    pub(crate) fn look(&self) {
        // Release: the thread that answers had the wait from a queue, and so sees it whole without
        // this; but it is free here.
        self.state.store(LOOKING, Ordering::Release);
    }

    /// Returns whether the answer is there. For the waiter, while it looks.
    #[inline]
    pub(crate) fn is_given(&self) -> bool {
        // Acquire pairs with the Release of `give`.
        self.state.load(Ordering::Acquire) == GIVEN
    }

    /// Ends the look. Returns true if the answer has come after all. For the waiter.
    #[inline]
    pub(crate) fn give_up(&self) -> bool {
        // Acquire, where it fails: as in `is_given`. Where it succeeds nothing is published: the
        // unpark then goes through the inbox.
        self.state.compare_exchange(LOOKING, ABSENT, Ordering::Relaxed, Ordering::Acquire).is_err()
    }

    /// Unparks a waiter that looks. Returns false if it does not look. After true the waiter may be
    /// gone.
    #[inline]
    pub(crate) fn give(&self) -> bool {
        // Relaxed: finding LOOKING too late, or not at all, only chooses the way. Release pairs
        // with `is_given` and `give_up`.
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

    /// The waiter is unparked in one way, not both, and sees what was done before.
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
