//! The mutex without its value: one word and a queue. Safe code; what it excludes is for the guards to use.
//!
//! ```text
//! bit       set by                                         cleared by
//! LOCKED    whoever takes the lock                         the holder's unlock (not when it hands the lock over)
//! QUEUED    a waiter that joins the queue                  an unlock that finds the queue empty
//! WOKEN     an unlock that unparks a waiter to try again   that waiter, when it takes the lock or queues again
//! STARVING  a waiter that queues again after 1 ms          the one the lock was handed to, if it waited less,
//!                                                          or an unlock that finds the queue empty
//! ```
//!
//! Uncontended, lock and unlock change 0 to LOCKED and back: one read-modify-write each. QUEUED and STARVING are set, and
//! WOKEN is both set and cleared by a queueing waiter, only under the queue's lock. While LOCKED is set and the queue's
//! lock is held, nobody but the holder may change the word: the short way in needs 0, the long way needs LOCKED clear.
//! `unlock_slow` relies on that.
//!
//! As in Go there are two modes. In normal mode an unlock frees the lock and lets the first waiter try: newcomers, who
//! are running already, may barge in, which is what makes a contended mutex fast. A waiter that has been at it for more
//! than 1 ms makes the mutex starving: from then on each unlock hands the lock, still locked, to the first waiter, until
//! one is served that waited less or the queue is empty. So one waits a bounded number of turns.
//!
//! Nobody spins: the holder may be a goroutine queued behind the one that would spin.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use goby_runtime::{WaitReason, checkpoint};

use super::queue::{Outcome, Queue, Until};

const LOCKED: u32 = 1;
const QUEUED: u32 = 2;
const WOKEN: u32 = 4;
const STARVING: u32 = 8;

/// How long one may lose to newcomers: Go's figure (`starvationThresholdNs`).
const STARVES_AFTER: Duration = Duration::from_millis(1);

/// Tells an unparked waiter that the lock is free and it may try for it.
const TRY_AGAIN: usize = 0;
/// Tells an unparked waiter that the lock is its own.
const HANDED_OVER: usize = 1;

/// A lock that guards nothing by itself.
#[derive(Debug)]
pub(super) struct RawMutex {
    word: AtomicU32,
    queue: Queue<()>,
}

impl RawMutex {
    pub(super) const fn new() -> RawMutex {
        RawMutex { word: AtomicU32::new(0), queue: Queue::new(()) }
    }

    /// Takes the lock. The caller of every form becomes the holder and calls `unlock` once.
    #[inline]
    pub(super) fn lock(&self) {
        // Before, not after: a goroutine that gives its worker up here holds nothing that others want.
        checkpoint();
        if !self.try_lock_free() {
            self.lock_slow(Until::Forever);
        }
    }

    /// Takes the lock unless `until` comes first; tells whether it did.
    pub(super) fn lock_until(&self, until: Until<'_>) -> bool {
        checkpoint();
        self.try_lock_free() || self.lock_slow(until)
    }

    /// Takes the lock if nobody holds it, waiters or not.
    pub(super) fn try_lock(&self) -> bool {
        checkpoint();
        self.try_barge(0)
    }

    /// Gives the lock up. Only its holder calls this.
    #[inline]
    pub(super) fn unlock(&self) {
        // Release pairs with the Acquire of whoever takes the lock next: it sees all that was done under it.
        if self.word.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_slow();
        }
    }

    #[inline]
    fn try_lock_free(&self) -> bool {
        // Acquire pairs with the Release in `unlock` and `unlock_slow`.
        self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock if it is free, however many wait for it, and takes `clear` out of the word with that.
    fn try_barge(&self, clear: u32) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & LOCKED == 0 {
            // Acquire pairs with the Release in `unlock` and `unlock_slow`.
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
        // What this waiter must take out of the word with its next change of it: WOKEN, if an unlock put it in for us.
        let mut woken = 0;
        while !self.try_barge(woken) {
            let now = goby_runtime::now();
            let starving = if now - *since.get_or_insert(now) > STARVES_AFTER { STARVING } else { 0 };
            let outcome = self.queue.wait_until(WaitReason::MutexLock, until, |(), _| {
                let mut word = self.word.load(Ordering::Relaxed);
                loop {
                    let free = word & LOCKED == 0;
                    let next = if free { word & !woken | LOCKED } else { word & !woken | QUEUED | starving };
                    // Acquire, for the case that the lock was free: pairs with the Release in `unlock` and `unlock_slow`.
                    match self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed) {
                        Ok(_) => return if free { Err(()) } else { Ok(()) },
                        Err(current) => word = current,
                    }
                }
            });
            match outcome {
                Outcome::Ready(()) => return true,
                // WOKEN was cleared when this waiter queued, and no unlock chose it: nothing is owed.
                Outcome::GaveUp => return false,
                Outcome::Unparked(HANDED_OVER) => {
                    if since.is_some_and(|since| goby_runtime::now() - since < STARVES_AFTER) {
                        // Those behind it waited less still. Relaxed: the holder changes a bit that guards no data.
                        self.word.fetch_and(!STARVING, Ordering::Relaxed);
                    }
                    return true;
                }
                Outcome::Unparked(_) => woken = WOKEN,
            }
        }
        true
    }

    /// Unlocks a mutex that has, or had, waiters.
    #[cold]
    fn unlock_slow(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        debug_assert!(word & LOCKED != 0, "unlock of unlocked mutex");
        // Nobody to unpark, or somebody is on the way already: just free it.
        while word & QUEUED == 0 || word & (WOKEN | STARVING) == WOKEN {
            // Release pairs with the Acquire of whoever takes the lock next.
            match self.word.compare_exchange_weak(word, word & !LOCKED, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
        self.queue.with(|(), line| {
            // Ours alone to change until the store (see the header). What a waiter put in, it put in under this lock.
            let word = self.word.load(Ordering::Relaxed);
            let woken = word & WOKEN;
            let (held, on_the_way) = if word & STARVING != 0 {
                (if line.unpark_one(HANDED_OVER) { LOCKED } else { 0 }, woken)
            } else if woken == 0 && line.unpark_one(TRY_AGAIN) {
                (0, WOKEN)
            } else {
                (0, woken)
            };
            let queued = if line.is_empty() { 0 } else { QUEUED | word & STARVING };
            // Release pairs with the Acquire of whoever takes the lock next; a waiter that it is handed to is ordered
            // by being unparked.
            self.word.store(held | on_the_way | queued, Ordering::Release);
        });
    }
}
