//! The readers-writer lock without its value: one word and two queues, and what upgradable readers
//! need. Safe code; what it excludes is for the guards to use.
//!
//! ```text
//! bits             meaning                             set under the lock of   cleared under the lock of
//! WRITER           a writer is in                      (any)                   (any)
//! QUEUED_WRITERS   writers wait; bars new readers      `writers`               `writers`
//! QUEUED_READERS   readers wait                        `readers`               `readers`
//! UPGRADING        a reader waits to become the        `upgrade.alone`         `upgrade.alone`
//!                  writer; bars new readers
//! the rest         how many readers are in, × READER
//! ```
//!
//! Go's order: a waiting writer bars new readers; when a writer leaves, all readers that wait by
//! then go in before the next writer; when the last of them leaves, the next writer goes in. So
//! neither side starves. Grants are handed over: whoever grants puts the new holders into the word
//! and unparks them, and they need not try again.
//!
//! Who owes the wake-up, that is, why nobody waits forever:
//! - A writer queues only while somebody is in (one compare-exchange sees that and sets
//!   QUEUED_WRITERS). The last one out sees the bit in the very change by which it leaves, and
//!   calls `hand_to_writer`. A newcomer who barges in before that takes the debt over: only a
//!   writer can, and its own way out is the slow one.
//! - A reader queues only while WRITER, QUEUED_WRITERS or UPGRADING is set. The writer that is in
//!   sees QUEUED_READERS when it leaves, or becomes a reader, and calls `admit_readers`. If no
//!   writer is in, one waits, is handed the lock, and leaves in its turn; or it gives up, and then
//!   clears its bit and calls `admit_readers` itself (`let_readers_in`).
//! - One who gave up may leave its bit behind. QUEUED_READERS then costs one slow unlock;
//!   QUEUED_WRITERS and UPGRADING would bar readers, so they are cleared.
//!
//! # Upgradable readers
//!
//! One at a time, who has the mutex `upgrade.turn`, and is counted as a reader besides. So no
//! writer is in before it, and when it becomes the writer nobody has been one in between. It waits
//! until it is the only reader (one change sees others and sets UPGRADING). The reader that leaves
//! it alone sees the bit in the very change by which it leaves, and calls `hand_to_upgrader`, which
//! makes WRITER of the reader that is left: unless that one has given up, and is in no line.
//! Writers that wait stay where they are: they are owed by whoever is in, which now is a writer.
//!
//! Lock order: the queues' locks are never held together.

use std::sync::atomic::{AtomicUsize, Ordering};

use goby_runtime::{Decision, WaitReason, checkpoint, refused};
use once_cell::sync::OnceCell;

use super::queue::{Line, Outcome, Queue, Until};
use super::raw_mutex::RawMutex;

const WRITER: usize = 1;
const QUEUED_WRITERS: usize = 2;
const QUEUED_READERS: usize = 4;
const UPGRADING: usize = 8;
/// One reader. There is room for 2^60; a count cannot be brought there by leaking guards.
const READER: usize = 16;

/// Somebody is in.
const fn is_held(word: usize) -> bool {
    word & WRITER != 0 || word >= READER
}

/// A reader may go in.
const fn bars_no_reader(word: usize) -> bool {
    word & (WRITER | QUEUED_WRITERS | UPGRADING) == 0
}

/// Exactly one reader is in.
const fn has_one_reader(word: usize) -> bool {
    word / READER == 1
}

/// The reader that is the only one becomes the writer.
const fn made_writer(word: usize) -> usize {
    (word - READER) & !UPGRADING | WRITER
}

/// What an unparked waiter is told: it is in, there is nothing to try again.
const GRANTED: usize = 0;

/// A readers-writer lock that guards nothing by itself.
#[derive(Debug)]
pub(super) struct RawRwLock {
    word: AtomicUsize,
    readers: Queue<()>,
    writers: Queue<()>,
    /// Made by the first upgradable reader: most locks have none.
    upgrade: OnceCell<Box<Upgrade>>,
}

/// What upgradable readers need.
#[derive(Debug)]
struct Upgrade {
    /// Held by the upgradable reader.
    turn: RawMutex,
    /// Where that one waits until it is the only reader.
    alone: Queue<()>,
}

impl RawRwLock {
    pub(super) const fn new() -> RawRwLock {
        RawRwLock {
            word: AtomicUsize::new(0),
            readers: Queue::new(()),
            writers: Queue::new(()),
            upgrade: OnceCell::new(),
        }
    }

    /// Goes in as a reader; tells whether it did before `until`. The caller calls `unlock_read`
    /// once.
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
            // Acquire as in `enter_as_reader`. One change decides: in, or QUEUED_READERS set while
            // something bars.
            let before = self.change(Ordering::Acquire, |word| {
                if bars_no_reader(word) { word + READER } else { word | QUEUED_READERS }
            });
            Decision::ready_if(bars_no_reader(before))
        });
        outcome != Outcome::GaveUp
    }

    /// Leaves, of a reader.
    #[inline]
    pub(super) fn unlock_read(&self) {
        // Release pairs with the Acquire of the writer who goes in next, or of the one who goes in
        // for it in `hand_to_writer`: it sees that this reader has finished.
        let before = self.word.fetch_sub(READER, Ordering::Release);
        debug_assert!(before >= READER, "read unlock of a lock that is not read-locked");
        if before & (QUEUED_WRITERS | UPGRADING) != 0 {
            self.left_by_reader(before);
        }
    }

    /// Pays what a reader owes that has left while somebody waited for that.
    #[cold]
    fn left_by_reader(&self, before: usize) {
        if before & !QUEUED_READERS == READER | QUEUED_WRITERS {
            self.hand_to_writer();
        } else if before & UPGRADING != 0 && before / READER == 2 {
            self.hand_to_upgrader();
        }
    }

    /// Goes in as the writer; tells whether it did before `until`. The caller calls `unlock_write`
    /// once.
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

    /// Becomes a reader, of the writer; readers that wait go in with it. The caller calls
    /// `unlock_read` once, and `unlock_write` no more.
    pub(super) fn downgrade(&self) {
        // Release pairs with the Acquire of readers that go in, and of those in `admit_readers`.
        if self.word.compare_exchange(WRITER, READER, Ordering::Release, Ordering::Relaxed).is_err() {
            self.readers.with(|(), line| {
                let n_readers = line.unpark_all(GRANTED);
                // Release as above. One change: no writer is between.
                self.change(Ordering::Release, |word| (word & !QUEUED_READERS) - WRITER + (n_readers + 1) * READER);
            });
        }
    }

    fn upgrade(&self) -> &Upgrade {
        self.upgrade.get_or_init(|| Box::new(Upgrade { turn: RawMutex::new(), alone: Queue::new(()) }))
    }

    /// Goes in as the upgradable reader; tells whether it did before `until`. The caller calls
    /// `unlock_upgradable` once, or `unlock_read` after a `forgo_upgrade`, or `unlock_write` after
    /// an upgrade.
    pub(super) fn upgradable_read(&self, until: Until<'_>) -> bool {
        let turn = &self.upgrade().turn;
        if !turn.lock_until(until) {
            return false;
        }
        let is_in = self.read(until);
        if !is_in {
            turn.unlock();
        }
        is_in
    }

    /// Goes in as the upgradable reader if that needs no waiting.
    pub(super) fn try_upgradable_read(&self) -> bool {
        let turn = &self.upgrade().turn;
        let has_turn = turn.try_lock();
        let is_in = has_turn && self.enter_as_reader();
        if has_turn && !is_in {
            turn.unlock();
        }
        if !is_in {
            refused();
        }
        is_in
    }

    /// Leaves, of the upgradable reader.
    pub(super) fn unlock_upgradable(&self) {
        self.unlock_read();
        self.forgo_upgrade();
    }

    /// Becomes a plain reader, of the upgradable one.
    pub(super) fn forgo_upgrade(&self) {
        self.upgrade().turn.unlock();
    }

    /// Becomes the writer, of the upgradable reader; tells whether it did before `until`. If not it
    /// is what it was.
    pub(super) fn become_writer(&self, until: Until<'_>) -> bool {
        checkpoint();
        let Upgrade { turn, alone } = self.upgrade();
        let outcome =
            alone.wait_until(WaitReason::RwLockWrite, until, |(), _| {
                // Acquire pairs with the Release by which readers leave. One change decides: the
                // writer, or UPGRADING set while others are in.
                let before = self.change(Ordering::Acquire, |word| {
                    if has_one_reader(word) { made_writer(word) } else { word | UPGRADING }
                });
                Decision::ready_if(has_one_reader(before))
            });
        if outcome == Outcome::GaveUp {
            alone.with(|(), _| {
                // Relaxed: the bit guards no data. Nobody else sets it before this reader's turn is
                // over.
                self.word.fetch_and(!UPGRADING, Ordering::Relaxed);
            });
            self.let_readers_in();
            return false;
        }
        // A writer excludes the other upgradable readers, too.
        turn.unlock();
        true
    }

    /// Becomes the writer, of the upgradable reader, if it is the only one in.
    pub(super) fn try_become_writer(&self) -> bool {
        checkpoint();
        // Acquire pairs with the Release by which readers leave.
        let is_writer = self
            .word
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |word| has_one_reader(word).then(|| made_writer(word)))
            .is_ok();
        if is_writer {
            self.forgo_upgrade();
        } else {
            refused();
        }
        is_writer
    }

    /// Makes the upgradable reader, which is the only one left, the writer: the duty of the reader
    /// that left it alone.
    #[cold]
    fn hand_to_upgrader(&self) {
        self.upgrade().alone.with(|(), line| {
            // Nobody is in the line if it has given up, and then it stays a reader. Otherwise it is
            // parked, and bars all others: what it is only this changes, as long as the lock is
            // held.
            let word = self.word.load(Ordering::Relaxed);
            if word & UPGRADING != 0 && has_one_reader(word) && line.unpark_one(GRANTED) {
                // Acquire pairs with the Release by which readers left; the upgrader is ordered by
                // being unparked.
                self.change(Ordering::Acquire, made_writer);
            }
        });
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
            // Acquire as in `enter_as_writer`. One change decides: in, or QUEUED_WRITERS set while
            // somebody is in.
            let before = self
                .change(Ordering::Acquire, |word| if is_held(word) { word | QUEUED_WRITERS } else { word | WRITER });
            Decision::ready_if(!is_held(before))
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

    /// Lets all waiting readers in. If there were any, the caller, who is in, leaves in the same
    /// change (`leaving` is its WRITER or READER); otherwise it has not left. Tells whether it has.
    fn admit_readers(&self, leaving: usize) -> bool {
        self.readers.with(|(), line| {
            let n_readers = line.unpark_all(GRANTED);
            let leaving = if n_readers > 0 { leaving } else { 0 };
            // Release pairs with the Acquire of whoever goes in next. Those let in are ordered by
            // being unparked, which happens after this lock is released: the word counts them by
            // then.
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

    /// Goes in for the first waiting writer and passes the lock to it: the duty of the last reader
    /// that left while QUEUED_WRITERS was set.
    #[cold]
    fn hand_to_writer(&self) {
        // Somebody in already: a barging writer, or readers let in because the waiting writers gave
        // up. They owe it now.
        let settled = self.writers.with(|(), line| !self.enter_as_writer() || self.hand_over(line));
        if !settled {
            self.unlock_write();
        }
    }

    /// Clears up behind a writer that no longer waits: if it was the last, the readers it barred
    /// may go in.
    #[cold]
    fn writer_gave_up(&self) {
        self.writers.with(|(), line| {
            if line.is_empty() {
                // Relaxed as in `hand_over`.
                self.word.fetch_and(!QUEUED_WRITERS, Ordering::Relaxed);
            }
        });
        self.let_readers_in();
    }

    /// Lets readers in that wait though nothing bars them any more: for who has cleared what did.
    fn let_readers_in(&self) {
        // Where something bars readers still, a writer is in, or waits, and owes them.
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
