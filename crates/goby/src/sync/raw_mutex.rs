//! The mutex without its value: one word and a queue. This is safe code; the guards use the
//! exclusion for unsafe access.
//!
//! ```text
//! bit       set by                                   cleared by
//! LOCKED    the one that takes the lock              the holder's unlock, unless it hands over
//! QUEUED    a waiter that queues, or `recover`       an unlock that finds the queue empty
//! WOKEN     an unlock that unparks a waiter to try   that waiter, when it takes the lock or
//!           again                                    queues again
//! STARVING  a waiter that queues again after 1 ms    the one the lock was handed to, if it
//!                                                    waited less, or an unlock that finds the
//!                                                    queue empty
//! all                                                a quick unlock that did not see a waiter
//!                                                    come (below)
//! ```
//!
//! While WOKEN is set, an unparked waiter is on the way. After `recover` there may be two. Then the
//! first clears the bit, and one more may be unparked.
//!
//! Uncontended, lock sets LOCKED by a read-modify-write. Unlock clears it by another one, or by a
//! plain store if it is quick (below). QUEUED, STARVING and WOKEN are set only under the queue's
//! lock, and a waiter that queues clears WOKEN only under that lock.
//!
//! While LOCKED is set and the queue's lock is held, only the holders of these two change the word.
//! The short way in (`try_lock`) sets a bit that is set already; the long way (`try_take`) needs it
//! clear. `unlock_in_line` relies on that.
//!
//! As in Go there are two modes:
//!
//! - Normal: an unlock frees the lock and lets the first waiter try. Newcomers, which are running
//!   already, may barge in. This makes a contended mutex fast.
//! - Starving: a waiter that has tried for more than 1 ms makes the mutex starving. From then on
//!   each unlock hands the lock, still locked, to the first waiter. This ends when it serves a
//!   waiter that waited less, or when the queue is empty. So each waiter waits a bounded number of
//!   turns.
//!
//! Before a waiter queues it spins for some microseconds, in pauses that leave the word alone. It
//! does not spin if its worker has other goroutines to run, since the holder may be one of them,
//! nor in starving mode.
//!
//! # Quick unlocks
//!
//! Once nobody has waited for a while, `quick` is set, and unlock is a plain store. `quick` changes
//! only under the queue's lock: an unlock that finds nobody waiting sets it, and a waiter clears it
//! before it queues. So nobody is queued while it is set.
//!
//! An unlock that finds `quick` set: *Store* (`word` := 0), light fence, *Check* (is it still
//! set?). A waiter that finds `quick` set: *Clear* it, heavy fence, *Look* at the word. The heavy
//! fence falls before or after the light one (`goby_runtime::heavy_fence`):
//!
//! - After: Look comes after Store. So the waiter, and each that queues after it, knows of this
//!   unlock.
//! - Before: Check comes after Clear. So the unlock knows that its store may have come after
//!   waiters queued, and may have wiped out what they had put into the word. It unparks one of
//!   them, if there is one, to try again, and marks the word for the others (`recover`). An unpark
//!   that comes too early costs a waiter one more turn.
//!
//! If Check finds `quick` set once more, an unlock that found the queue empty has set it, so none
//! of those waiters is left. The models in `ci/loom-sync` check this.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use goby_runtime::checked::is_checked;
use goby_runtime::{
    Backoff, Decision, Streak, WaitReason, checkpoint_on, fences_work, gives_back, heavy_fence, light_fence,
};

use super::queue::{Outcome, Queue, Until};

const LOCKED: u32 = 1;
const QUEUED: u32 = 2;
const WOKEN: u32 = 4;
const STARVING: u32 = 8;

/// How long a waiter may lose to newcomers: Go's figure (`starvationThresholdNs`).
const STARVES_AFTER: Duration = Duration::from_millis(1);

/// Unlocks are quick after so many in a row that found nobody waiting. The number doubles each time
/// that a waiter comes after all, up to the longest streak: a heavy fence costs as much as some
/// hundred locks.
const SHORTEST_STREAK: u32 = if cfg!(loom) { 1 } else { 64 };
const LONGEST_STREAK: u32 = 1 << 20;

/// Tells an unparked waiter that the lock is free and it may try for it.
const TRY_AGAIN: usize = 0;
/// Tells an unparked waiter that the lock is its own.
const HANDED_OVER: usize = 1;

/// A lock that guards nothing by itself.
#[derive(Debug)]
pub(super) struct RawMutex {
    word: AtomicU32,
    quick: AtomicBool,
    /// Unlocks until they are quick. It is the holder's. A waiter lengthens it, under the queue's
    /// lock.
    streak: Streak,
    queue: Queue<()>,
}

impl RawMutex {
    pub(super) const fn new() -> RawMutex {
        RawMutex {
            word: AtomicU32::new(0),
            quick: AtomicBool::new(false),
            streak: Streak::new(SHORTEST_STREAK),
            queue: Queue::new(()),
        }
    }

    /// Takes the lock. With this and every other form, the caller becomes the holder and calls
    /// `unlock` once.
    #[inline]
    pub(super) fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow(Until::Forever);
        }
    }

    /// Takes the lock unless `until` comes first; returns whether it did.
    pub(super) fn lock_until(&self, until: Until<'_>) -> bool {
        self.try_lock() || self.lock_slow(until)
    }

    /// Takes the lock if nobody holds it, waiters or not.
    #[inline]
    pub(super) fn try_lock(&self) -> bool {
        // Before, not after: a goroutine that yields here holds nothing that others want.
        checkpoint_on(ptr::from_ref(self).addr());
        // Acquire pairs with the Release in `unlock`, `try_free` and `unlock_in_line`.
        self.word.fetch_or(LOCKED, Ordering::Acquire) & LOCKED == 0
    }

    /// Gives the lock up. Only its holder calls this.
    #[inline]
    pub(super) fn unlock(&self) {
        // Relaxed, here and at Check: the fences order it (see the head of the file).
        if self.quick.load(Ordering::Relaxed) {
            // Store. Release pairs with the Acquire of the next holder's lock: it sees all that was
            // done under this lock.
            self.word.store(0, Ordering::Release);
            light_fence();
            // Check.
            if !self.quick.load(Ordering::Relaxed) {
                self.recover();
            }
            return;
        }
        gives_back(ptr::from_ref(self).addr());
        if self.streak.count() || !self.try_free() {
            self.unlock_in_line();
        }
    }

    /// Frees the lock if there is nobody to unpark, or an unparked waiter is on the way already.
    #[inline]
    fn try_free(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        debug_assert!(word & LOCKED != 0, "unlock of unlocked mutex");
        while word & QUEUED == 0 || word & (WOKEN | STARVING) == WOKEN {
            // Release: as in `unlock`.
            match self.word.compare_exchange_weak(word, word & !LOCKED, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(current) => word = current,
            }
        }
        false
    }

    /// Takes the lock if it is free, and clears the bits `clear` in the same change.
    fn try_take(&self, clear: u32) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & LOCKED == 0 {
            // Acquire: as in `try_lock`.
            let next = word & !clear | LOCKED;
            match self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(current) => word = current,
            }
        }
        false
    }

    /// Queues until the lock is taken (`true`) or given up (`false`).
    #[cold]
    fn lock_slow(&self, until: Until<'_>) -> bool {
        let mut since: Option<Instant> = None;
        // The bits that this waiter must clear with its next change of the word: WOKEN, if an
        // unlock set it for this waiter.
        let mut woken = 0;
        loop {
            let mut backoff = Backoff::new();
            // Relaxed: a hint. A starving mutex is handed over, not freed.
            while self.word.load(Ordering::Relaxed) & STARVING == 0 && backoff.spin() {
                if self.try_take(woken) {
                    return true;
                }
            }
            let now = goby_runtime::now();
            let starving = if now - *since.get_or_insert(now) > STARVES_AFTER { STARVING } else { 0 };
            let outcome = self.queue.wait_until(WaitReason::MutexLock, until, |(), _| {
                self.end_quick();
                let mut word = self.word.load(Ordering::Relaxed);
                loop {
                    let free = word & LOCKED == 0;
                    let next = if free { word & !woken | LOCKED } else { word & !woken | QUEUED | starving };
                    // Acquire, for the case that the lock was free: as in `try_lock`.
                    match self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed) {
                        Ok(_) => return Decision::ready_if(free),
                        Err(current) => word = current,
                    }
                }
            });
            match outcome {
                Outcome::Ready(()) => return true,
                // WOKEN was cleared when this waiter queued, and no unlock chose this waiter: it
                // owes nothing.
                Outcome::GaveUp => return false,
                Outcome::Unparked(HANDED_OVER) => {
                    if since.is_some_and(|since| goby_runtime::now() - since < STARVES_AFTER) {
                        // The waiters behind this one waited even less. Relaxed: the holder changes
                        // a bit that guards no data.
                        self.word.fetch_and(!STARVING, Ordering::Relaxed);
                    }
                    return true;
                }
                Outcome::Unparked(_) => woken = WOKEN,
            }
        }
    }

    /// Makes every unlock look for waiters from now on. Called under the queue's lock, by a waiter
    /// that is about to queue.
    fn end_quick(&self) {
        // Relaxed: written under this lock only; the fences order it against an unlock's Check.
        if self.quick.load(Ordering::Relaxed) {
            // Clear; Look is the caller's next load of the word.
            self.quick.store(false, Ordering::Relaxed);
            heavy_fence();
            self.streak.lengthen(LONGEST_STREAK);
        }
    }

    /// Unlocks a mutex that has, or had, waiters, or for which nobody has waited during a whole
    /// streak.
    #[cold]
    fn unlock_in_line(&self) {
        // Not in a check: a quick unlock is no point of it. Outside the queue's lock: the first
        // answer may cost the system 10 ms.
        let may_be_quick = self.streak.is_full() && !is_checked() && fences_work();
        self.queue.with(|(), line| {
            // Only this unlock changes the word until the store (see the head of the file). Waiters
            // set their bits under this lock.
            let word = self.word.load(Ordering::Relaxed);
            let woken = word & WOKEN;
            let (held, on_the_way) = if word & STARVING != 0 {
                // Hand the lock over, still locked.
                (if line.unpark_one(HANDED_OVER) { LOCKED } else { 0 }, woken)
            } else if woken == 0 && line.unpark_one(TRY_AGAIN) {
                // Free the lock, and let the first waiter try again.
                (0, WOKEN)
            } else {
                // Free the lock: a waiter is on the way already, or none waits.
                (0, woken)
            };
            let queued = if line.is_empty() { 0 } else { QUEUED | word & STARVING };
            let next = held | on_the_way | queued;
            // Relaxed: as in `end_quick`.
            if next == 0 && may_be_quick {
                self.quick.store(true, Ordering::Relaxed);
            } else {
                self.streak.restart();
            }
            // Release pairs with the Acquire by which the next holder takes the lock. A waiter to
            // which the lock is handed over is ordered by the unpark.
            self.word.store(next, Ordering::Release);
        });
    }

    /// Unparks a waiter, if there is one, after a quick unlock during which a waiter has come.
    #[cold]
    fn recover(&self) {
        self.queue.with(|(), line| {
            if line.unpark_one(TRY_AGAIN) {
                // Relaxed: the bits guard no data. If nobody is behind the unparked waiter, an
                // unlock clears QUEUED again.
                self.word.fetch_or(QUEUED | WOKEN, Ordering::Relaxed);
            }
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_streak_makes_unlocks_quick_and_a_waiter_ends_that_for_twice_as_long() {
        if !fences_work() {
            return; // Nothing is quick.
        }
        let runtime = goby_runtime::Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            let mutex: &'static RawMutex = Box::leak(Box::new(RawMutex::new()));
            let is_quick = || mutex.quick.load(Ordering::Relaxed);
            let pass = || {
                mutex.lock();
                mutex.unlock();
            };
            let passes_until_quick = || {
                let passes = (1..).find(|_| {
                    pass();
                    is_quick()
                });
                (0..100).for_each(|_| pass());
                assert!(is_quick(), "it stays so");
                passes
            };
            assert_eq!(passes_until_quick(), Some(SHORTEST_STREAK));
            for streak in [2 * SHORTEST_STREAK, 4 * SHORTEST_STREAK] {
                mutex.lock();
                let waiter = goby_runtime::go(pass);
                while mutex.word.load(Ordering::Relaxed) & QUEUED == 0 {
                    goby_runtime::yield_now();
                }
                assert!(!is_quick());
                mutex.unlock();
                waiter.join().unwrap();
                assert_eq!(passes_until_quick(), Some(streak - 1), "and the waiter's own unlock");
            }
        });
    }
}
