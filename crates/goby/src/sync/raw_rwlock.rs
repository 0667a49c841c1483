//! The readers-writer lock without its value: one word and two queues. Safe code; what it excludes is for the guards to
//! use.
//!
//! ```text
//! bits             meaning                             set under the lock of   cleared under the lock of
//! WRITER           a writer is in                      (any)                   (any)
//! QUEUED_WRITERS   writers wait; bars new readers      `writers`               `writers`
//! QUEUED_READERS   readers wait                        `readers`               `readers`
//! the rest         how many readers are in, × READER
//! ```
//!
//! Go's order: a waiting writer bars new readers; when a writer leaves, all readers that wait by then go in before the
//! next writer; when the last of them leaves, the next writer goes in. So neither side starves. Grants are handed over:
//! whoever grants puts the new holders into the word and unparks them, and they need not try again.
//!
//! Who owes the wake-up, that is, why nobody waits for ever:
//! - A writer queues only while somebody is in (one compare-exchange sees that and sets QUEUED_WRITERS). The last one
//!   out sees the bit in the very change by which it leaves, and calls `hand_to_writer`. A newcomer who barges in before
//!   that takes the debt over: only a writer can, and its own way out is the slow one.
//! - A reader queues only while WRITER or QUEUED_WRITERS is set. The writer that is in sees QUEUED_READERS when it leaves
//!   and calls `admit_readers`. If no writer is in, one waits, is handed the lock, and leaves in its turn; or it
//!   gives up, and then clears QUEUED_WRITERS and calls `admit_readers` itself (`writer_gave_up`).
//! - One who gave up may leave its bit behind. QUEUED_READERS then costs one slow unlock; QUEUED_WRITERS would bar
//!   readers, so `writer_gave_up` clears it.
//!
//! Lock order: the two queues' locks are never held together.

use std::sync::atomic::{AtomicUsize, Ordering};

use goby_runtime::{WaitReason, checkpoint, refused};

use super::queue::{Line, Outcome, Queue, Until};

const WRITER: usize = 1;
const QUEUED_WRITERS: usize = 2;
const QUEUED_READERS: usize = 4;
/// One reader. There is room for 2^61; a count cannot be brought there by leaking guards.
const READER: usize = 8;

/// Somebody is in.
const fn is_held(word: usize) -> bool {
    word & WRITER != 0 || word >= READER
}

/// A reader may go in.
const fn bars_no_reader(word: usize) -> bool {
    word & (WRITER | QUEUED_WRITERS) == 0
}

/// What an unparked waiter is told: it is in, there is nothing to try again.
const GRANTED: usize = 0;

/// A readers-writer lock that guards nothing by itself.
#[derive(Debug)]
pub(super) struct RawRwLock {
    word: AtomicUsize,
    readers: Queue<()>,
    writers: Queue<()>,
}

impl RawRwLock {
    pub(super) const fn new() -> RawRwLock {
        RawRwLock { word: AtomicUsize::new(0), readers: Queue::new(()), writers: Queue::new(()) }
    }

    /// Goes in as a reader; tells whether it did before `until`. The caller calls `unlock_read` once.
    #[inline]
    pub(super) fn read(&self, until: Until<'_>) -> bool {
        checkpoint();
        self.enter_as_reader() || self.read_slow(until)
    }

    /// Goes in as a reader if that needs no waiting.
    pub(super) fn try_read(&self) -> bool {
        checkpoint();
        let is_in = self.enter_as_reader();
        if !is_in {
            refused();
        }
        is_in
    }

    #[inline]
    fn enter_as_reader(&self) -> bool {
        // Acquire pairs with the Release by which a writer leaves: a reader sees all that it did.
        self.word
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |word| bars_no_reader(word).then_some(word + READER))
            .is_ok()
    }

    #[cold]
    fn read_slow(&self, until: Until<'_>) -> bool {
        let outcome = self.readers.wait_until(WaitReason::RwLockRead, until, |(), _| {
            // Acquire as in `enter_as_reader`. One change decides: in, or QUEUED_READERS set while something bars.
            let before = self.change(Ordering::Acquire, |word| {
                if bars_no_reader(word) { word + READER } else { word | QUEUED_READERS }
            });
            if bars_no_reader(before) { Err(()) } else { Ok(()) }
        });
        outcome != Outcome::GaveUp
    }

    /// Leaves, of a reader.
    #[inline]
    pub(super) fn unlock_read(&self) {
        // Release pairs with the Acquire of the writer who goes in next, or of the one who goes in for it in
        // `hand_to_writer`: it sees that this reader has finished.
        let before = self.word.fetch_sub(READER, Ordering::Release);
        debug_assert!(before >= READER, "read unlock of a lock that is not read-locked");
        if before & !QUEUED_READERS == READER | QUEUED_WRITERS {
            self.hand_to_writer();
        }
    }

    /// Goes in as the writer; tells whether it did before `until`. The caller calls `unlock_write` once.
    #[inline]
    pub(super) fn write(&self, until: Until<'_>) -> bool {
        checkpoint();
        // Acquire pairs with the Release by which readers and writers leave.
        self.word.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok() || self.write_slow(until)
    }

    /// Goes in as the writer if nobody is in.
    pub(super) fn try_write(&self) -> bool {
        checkpoint();
        let is_in = self.enter_as_writer();
        if !is_in {
            refused();
        }
        is_in
    }

    /// Leaves, of the writer.
    #[inline]
    pub(super) fn unlock_write(&self) {
        // Release pairs with the Acquire of whoever goes in next.
        if self.word.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_write_slow();
        }
    }

    fn enter_as_writer(&self) -> bool {
        // Acquire pairs with the Release by which readers and writers leave.
        self.word
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |word| (!is_held(word)).then_some(word | WRITER))
            .is_ok()
    }

    #[cold]
    fn write_slow(&self, until: Until<'_>) -> bool {
        let outcome = self.writers.wait_until(WaitReason::RwLockWrite, until, |(), _| {
            // Acquire as in `enter_as_writer`. One change decides: in, or QUEUED_WRITERS set while somebody is in.
            let before = self
                .change(Ordering::Acquire, |word| if is_held(word) { word | QUEUED_WRITERS } else { word | WRITER });
            if is_held(before) { Ok(()) } else { Err(()) }
        });
        if outcome == Outcome::GaveUp {
            self.writer_gave_up();
            return false;
        }
        true
    }

    #[cold]
    fn unlock_write_slow(&self) {
        // Each round that does not end takes out a stale bit, or meets one that was just put in.
        loop {
            let word = self.word.load(Ordering::Relaxed);
            debug_assert!(word & WRITER != 0, "unlock of a lock that is not write-locked");
            let left = if word & QUEUED_READERS != 0 {
                self.admit_readers(WRITER)
            } else if word & QUEUED_WRITERS != 0 {
                self.writers.with(|(), line| self.hand_over(line))
            } else {
                // Release pairs with the Acquire of whoever goes in next.
                self.word.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed).is_ok()
            };
            if left {
                return;
            }
        }
    }

    /// Lets all waiting readers in. If there were any, the caller, who is in, leaves in the same change (`leaving` is
    /// its WRITER or READER); otherwise it has not left. Tells whether it has.
    fn admit_readers(&self, leaving: usize) -> bool {
        self.readers.with(|(), line| {
            let n_readers = line.unpark_all(GRANTED);
            let leaving = if n_readers > 0 { leaving } else { 0 };
            // Release pairs with the Acquire of whoever goes in next. Those let in are ordered by being unparked, which
            // happens after this lock is released: the word counts them by then.
            self.change(Ordering::Release, |word| (word & !QUEUED_READERS) - leaving + n_readers * READER);
            n_readers > 0
        })
    }

    /// Passes the WRITER that is set already to the first waiting writer; `false` if none waits.
    fn hand_over(&self, line: &mut Line<'_, '_>) -> bool {
        let handed = line.unpark_one(GRANTED);
        if line.is_empty() {
            // Relaxed: the bit guards no data; the next holder is ordered by being unparked.
            self.word.fetch_and(!QUEUED_WRITERS, Ordering::Relaxed);
        }
        handed
    }

    /// Goes in for the first waiting writer and passes the lock to it: the duty of the last reader that left while
    /// QUEUED_WRITERS was set.
    #[cold]
    fn hand_to_writer(&self) {
        // Somebody in already: a barging writer, or readers let in because the waiting writers gave up. They owe it now.
        let settled = self.writers.with(|(), line| !self.enter_as_writer() || self.hand_over(line));
        if !settled {
            self.unlock_write();
        }
    }

    /// Clears up behind a writer that no longer waits: if it was the last, the readers it barred may go in.
    #[cold]
    fn writer_gave_up(&self) {
        self.writers.with(|(), line| {
            if line.is_empty() {
                // Relaxed as in `hand_over`.
                self.word.fetch_and(!QUEUED_WRITERS, Ordering::Relaxed);
            }
        });
        // Where something bars readers still, a writer is in or waits, and owes them.
        if self.word.load(Ordering::Relaxed) & QUEUED_READERS != 0
            && self.enter_as_reader()
            && !self.admit_readers(READER)
        {
            self.unlock_read();
        }
    }

    /// Changes the word and gives the one before.
    fn change(&self, success: Ordering, next: impl Fn(usize) -> usize) -> usize {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            match self.word.compare_exchange_weak(word, next(word), success, Ordering::Relaxed) {
                Ok(before) => return before,
                Err(current) => word = current,
            }
        }
    }
}
