//! Which of the two holders drops a goroutine's result and frees its record.
//!
//! Two hold a record: the scheduler, until the goroutine has ended, and the
//! [`JoinHandle`](crate::JoinHandle). If the handle is dropped before the result is stored
//! (`state`), it has no further part in the record: the goroutine drops its result itself, on its
//! own stack, and the scheduler frees the record. Otherwise the result is the handle's. Then the
//! record is freed by the holder that comes second: the scheduler with "ended", or the handle with
//! "released" (`joiner`).
//!
//! ```text
//! state:   0 ──store───► STORED                  the result is the handle's
//!          0 ──detach──► DETACHED                no handle: goroutine and scheduler do the rest
//! joiner, when the result is the handle's:
//!          null ──show──► waiter                 `end` unparks it; it takes the result, frees
//!          null ──end───► ENDED ──join or release──► freed by the handle
//!          null ──release──► RELEASED ──end──► freed by the scheduler
//! ```
//!
//! Proof sketch. A handle that has shown a waiter does nothing more until it is unparked. So the
//! goroutine that finds a waiter in `store`, or its scheduler that finds one in `end`, is alone
//! with the record, and needs no atomic update.
//!
//! Otherwise `state` leaves 0 once, by an atomic update of the first holder; the other learns of it
//! by its own update. If the handle was first, the handle is done and the scheduler alone is left.
//! If the goroutine was first, both go on to `joiner`, which each of them changes at most once
//! more, by a swap (or a joiner's exchange). The second swap finds the first, and frees, or
//! unparks. `loom_*` below checks it.

use std::ptr;

use crate::base::primitive::{AtomicPtr, AtomicU8, Ordering};

/// `state`: the result has been stored, before any detach.
const STORED: u8 = 1;
/// `state`: there is no handle, and was none when the result was stored.
const DETACHED: u8 = 2;

/// The two words. `W` is what a joiner waits on.
pub(crate) struct Ending<W> {
    state: AtomicU8,
    joiner: AtomicPtr<W>,
}

/// What the scheduler must do about a goroutine that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Duty<W> {
    /// Nothing: the handle frees the record.
    None,
    /// Free the record.
    Free,
    /// Unpark this joiner; it frees the record.
    Unpark(*const W),
}

impl<W> Ending<W> {
    /// `joiner`: the goroutine has ended, and no waiter had been shown. Set by the scheduler, once.
    const ENDED: *mut W = ptr::without_provenance_mut(1);
    /// `joiner`: the handle is gone and no longer touches anything. Set by the handle, once.
    const RELEASED: *mut W = ptr::without_provenance_mut(2);

    /// Returns the words for a goroutine that has a handle.
    pub(crate) fn joined() -> Ending<W> {
        Ending { state: AtomicU8::new(0), joiner: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Returns the words for a goroutine that never has a handle.
    pub(crate) fn detached() -> Ending<W> {
        Ending { state: AtomicU8::new(DETACHED), joiner: AtomicPtr::new(ptr::null_mut()) }
    }

    // The goroutine's, and its scheduler's, in this order.

    /// Records that the result has been stored. Returns true if the result is the caller's own,
    /// because the handle has gone before.
    #[inline]
    pub(crate) fn store(&self) -> bool {
        // Relaxed: a joiner neither detaches nor looks at the result before `end`.
        if !self.joiner.load(Ordering::Relaxed).is_null() {
            return false;
        }
        // Acquire, twice: what the handle did before its detach has happened. Only a handle that is
        // still there is worth an update. Release: publishes the result to a handle that finds it
        // stored.
        self.state.load(Ordering::Acquire) == DETACHED
            || self.state.compare_exchange(0, STORED, Ordering::AcqRel, Ordering::Acquire).is_err()
    }

    /// Records that the goroutine no longer touches its record. Returns what the scheduler must do.
    #[inline]
    pub(crate) fn end(&self) -> Duty<W> {
        // Relaxed: it does not change after `store`, which this thread has called.
        if self.state.load(Ordering::Relaxed) == DETACHED {
            return Duty::Free;
        }
        // Acquire pairs with `show` and `release`. A handle that has shown a waiter learns all that
        // the goroutine did by the unpark.
        let mut found = self.joiner.load(Ordering::Acquire);
        if found.is_null() {
            // AcqRel: the release publishes that to a handle that finds the goroutine ended; the
            // acquire is as above.
            found = self.joiner.swap(Self::ENDED, Ordering::AcqRel);
        }
        match found {
            found if found.is_null() => Duty::None,
            found if found == Self::RELEASED => Duty::Free,
            waiter => Duty::Unpark(waiter),
        }
    }

    // The handle's: either `show`, or `detach` and, if that was late, `release`.

    /// Returns whether the goroutine has ended. Not for a handle that has shown a waiter: the
    /// unpark tells it.
    pub(crate) fn has_ended(&self) -> bool {
        // Acquire pairs with the swap in `end`.
        self.joiner.load(Ordering::Acquire) == Self::ENDED
    }

    /// Shows a waiter, which the scheduler unparks when the goroutine ends. Returns false if it has
    /// ended already.
    pub(crate) fn show(&self, waiter: *const W) -> bool {
        // AcqRel: the release publishes the waiter to `end`; the acquire pairs with the swap there.
        let found =
            self.joiner.compare_exchange(ptr::null_mut(), waiter.cast_mut(), Ordering::AcqRel, Ordering::Acquire);
        found.is_ok()
    }

    /// Lets go of result and record. Returns false if the result had been stored: then the caller
    /// must drop the result, and [`release`](Ending::release) the record.
    #[must_use]
    pub(crate) fn detach(&self) -> bool {
        // AcqRel: pairs with `store`, both ways.
        self.state.compare_exchange(0, DETACHED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Lets go of the record, when the result is gone. Returns true if the caller must free the
    /// record.
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        // AcqRel: pairs with the swap in `end`, both ways.
        self.joiner.swap(Self::RELEASED, Ordering::AcqRel) == Self::ENDED
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicUsize};

    /// A record whose result and whose freeing are tracked: loom reports any two accesses that are
    /// not ordered.
    struct Record {
        ending: Ending<Waiter>,
        result: UnsafeCell<Option<u32>>,
        freed: UnsafeCell<bool>,
        dropped: AtomicUsize,
    }

    /// A joiner's wait: made by the joiner, read by the thread that unparks it, which is all that
    /// the joiner learns of.
    struct Waiter {
        is_made: UnsafeCell<bool>,
        unparked: AtomicBool,
    }

    impl Waiter {
        fn make() -> Waiter {
            let waiter = Waiter { is_made: UnsafeCell::new(false), unparked: AtomicBool::new(false) };
            // SAFETY: not shown yet.
            waiter.is_made.with_mut(|is_made| unsafe { *is_made = true });
            waiter
        }

        fn park(&self) {
            // Acquire pairs with `unpark`, as the claim's does in a real wait.
            while !self.unparked.load(Ordering::Acquire) {
                loom::thread::yield_now();
            }
        }

        fn unpark(&self) {
            // SAFETY: no thread writes it once the waiter has been shown.
            assert!(self.is_made.with(|is_made| unsafe { *is_made }));
            assert!(!self.unparked.load(Ordering::Relaxed), "unparked twice");
            self.unparked.store(true, Ordering::Release);
        }
    }

    impl Record {
        fn drop_result(&self) {
            // SAFETY: the holder that may drop the result is the only one that touches it.
            assert!(self.result.with_mut(|result| unsafe { (*result).take() }).is_some());
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }

        fn free(&self) {
            // SAFETY: as above.
            self.freed.with_mut(|freed| unsafe {
                assert!(!*freed, "freed twice");
                *freed = true;
            });
        }

        /// Does what the goroutine and its scheduler do. Returns whether they have unparked a
        /// joiner.
        fn goroutine(&self) -> bool {
            // SAFETY: before `store`, the result is the goroutine's.
            self.result.with_mut(|result| unsafe { *result = Some(7) });
            if self.ending.store() {
                self.drop_result();
            }
            // SAFETY: nobody writes it before the scheduler has read it, here for the last time.
            assert!(!self.freed.with(|freed| unsafe { *freed }));
            match self.ending.end() {
                Duty::None => false,
                Duty::Free => {
                    self.free();
                    false
                }
                Duty::Unpark(waiter) => {
                    // SAFETY: it lives until it is unparked.
                    unsafe { &*waiter }.unpark();
                    true
                }
            }
        }
    }

    fn record(ending: Ending<Waiter>) -> Arc<Record> {
        Arc::new(Record {
            ending,
            result: UnsafeCell::new(None),
            freed: UnsafeCell::new(false),
            dropped: AtomicUsize::new(0),
        })
    }

    fn check(record: &Record) {
        assert_eq!(record.dropped.load(Ordering::Relaxed), 1);
        // SAFETY: all threads have been joined.
        assert!(record.freed.with(|freed| unsafe { *freed }), "not freed");
    }

    #[test]
    fn loom_detach_against_the_end() {
        loom::model(|| {
            let record = record(Ending::joined());
            let theirs = record.clone();
            let goroutine = loom::thread::spawn(move || assert!(!theirs.goroutine()));
            if !record.ending.detach() {
                record.drop_result();
                if record.ending.release() {
                    record.free();
                }
            }
            goroutine.join().unwrap();
            check(&record);
        });
    }

    #[test]
    fn loom_join_against_the_end() {
        loom::model(|| {
            let record = record(Ending::joined());
            let theirs = record.clone();
            let goroutine = loom::thread::spawn(move || theirs.goroutine());
            let waiter = Waiter::make();
            let is_shown = !record.ending.has_ended() && record.ending.show(&raw const waiter);
            if is_shown {
                waiter.park();
            }
            record.drop_result();
            record.free();
            assert_eq!(goroutine.join().unwrap(), is_shown);
            check(&record);
        });
    }

    #[test]
    fn loom_without_a_handle() {
        loom::model(|| {
            let record = record(Ending::detached());
            assert!(!record.goroutine());
            check(&record);
        });
    }
}
