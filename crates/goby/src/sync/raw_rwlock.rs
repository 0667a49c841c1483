//! The readers-writer lock without its value: one word and two queues, and what upgradable readers
//! need. This is safe code; the guards use the exclusion for unsafe access.
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
//! The order is Go's. A waiting writer bars new readers. When a writer leaves, all readers that
//! wait by then go in before the next writer. When the last of them leaves, the next writer goes
//! in. So neither side starves. Grants are handed over: the granter puts the new holders into the
//! word and unparks them, and they need not try again.
//!
//! Why nobody waits forever, that is, which party owes the wake-up:
//! - A writer queues only while somebody is in (one compare-exchange sees that and sets
//!   QUEUED_WRITERS). The last one out sees the bit in the same change by which it leaves, and
//!   calls `hand_to_writer`. A newcomer that barges in before that takes the debt over: only a
//!   writer can barge in, and it leaves by the slow path.
//! - A reader queues only while WRITER, QUEUED_WRITERS or UPGRADING is set. The writer that is in
//!   sees QUEUED_READERS when it leaves, and calls `admit_readers`, or lets them in when it becomes
//!   a reader (`downgrade`). If no writer is in, one waits. That one is handed the lock and leaves
//!   in its turn; or it gives up, and then clears its bit and calls `admit_readers` itself
//!   (`let_readers_in`).
//! - A waiter that gave up may leave its bit behind. QUEUED_READERS then costs one slow unlock.
//!   QUEUED_WRITERS and UPGRADING would bar readers, so they are cleared.
//!
//! # Upgradable readers
//!
//! There is one upgradable reader at a time. It holds the mutex `upgrade.turn`, and is counted as a
//! reader besides. So no writer is in together with it, and when it becomes the writer nobody has
//! been one in between.
//!
//! To become the writer it waits until it is the only reader (one change sees others and sets
//! UPGRADING). The reader that leaves it alone sees the bit in the same change by which it leaves,
//! and calls `hand_to_upgrader`. That turns the reader that is left into WRITER, unless it has
//! given up and is in no line. Waiting writers stay where they are: the one that is in owes them,
//! and that is now a writer.
//!
//! Lock order: the queues' locks are never held together.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use goby_runtime::{Decision, WaitReason, checkpoint_on, gives_back, refused};
use once_cell::sync::OnceCell;

use super::queue::{Line, Outcome, Queue, Until};
use super::raw_mutex::RawMutex;

const WRITER: usize = 1;
const QUEUED_WRITERS: usize = 2;
const QUEUED_READERS: usize = 4;
const UPGRADING: usize = 8;
/// One reader. There is room for 2^60; a count cannot be brought there by leaking guards.
const READER: usize = 16;

/// Whether somebody is in.
const fn is_held(word: usize) -> bool {
    word & WRITER != 0 || word >= READER
}

/// Whether a reader may go in.
const fn bars_no_reader(word: usize) -> bool {
    word & (WRITER | QUEUED_WRITERS | UPGRADING) == 0
}

/// Whether exactly one reader is in.
const fn has_one_reader(word: usize) -> bool {
    word / READER == 1
}

/// The word in which the only reader has become the writer.
const fn made_writer(word: usize) -> usize {
    (word - READER) & !UPGRADING | WRITER
}

/// Tells an unparked waiter that it is in, and that it need not try again.
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
    /// Where the upgradable reader waits until it is the only reader.
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

    /// Goes in as a reader; returns whether it did before `until`. The caller calls `unlock_read`
    /// once.
    #[inline]
    pub(super) fn read(&self, until: Until<'_>) -> bool {
        checkpoint_on(ptr::from_ref(self).addr());
        self.enter_as_reader() || self.read_slow(until)
    }

    /// Goes in as a reader if that needs no waiting.
    pub(super) fn try_read(&self) -> bool {
        checkpoint_on(ptr::from_ref(self).addr());
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
            // Acquire as in `enter_as_reader`. One change decides: the reader is in, or
            // QUEUED_READERS is set while something bars it.
            let before = self.change(Ordering::Acquire, |word| {
                if bars_no_reader(word) { word + READER } else { word | QUEUED_READERS }
            });
            Decision::ready_if(bars_no_reader(before))
        });
        outcome != Outcome::GaveUp
    }

    /// Leaves, as a reader.
    #[inline]
    pub(super) fn unlock_read(&self) {
        gives_back(ptr::from_ref(self).addr());
        // Release pairs with the Acquire of the writer that goes in next, or of the one that goes
        // in for it in `hand_to_writer`: the writer sees that this reader has finished.
        let before = self.word.fetch_sub(READER, Ordering::Release);
        debug_assert!(before >= READER, "read unlock of a lock that is not read-locked");
        if before & (QUEUED_WRITERS | UPGRADING) != 0 {
            self.left_by_reader(before);
        }
    }

    /// Does the duty of a reader that has left while somebody waited for that.
    #[cold]
    fn left_by_reader(&self, before: usize) {
        if before & !QUEUED_READERS == READER | QUEUED_WRITERS {
            // It was the last one in, and writers wait.
            self.hand_to_writer();
        } else if before & UPGRADING != 0 && before / READER == 2 {
            // Only the upgradable reader is left.
            self.hand_to_upgrader();
        }
    }

    /// Goes in as the writer; returns whether it did before `until`. The caller calls
    /// `unlock_write` once.
    #[inline]
    pub(super) fn write(&self, until: Until<'_>) -> bool {
        checkpoint_on(ptr::from_ref(self).addr());
        // Acquire pairs with the Release by which readers and writers leave.
        self.word.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok() || self.write_slow(until)
    }

    /// Goes in as the writer if nobody is in.
    pub(super) fn try_write(&self) -> bool {
        checkpoint_on(ptr::from_ref(self).addr());
        let is_in = self.enter_as_writer();
        if !is_in {
            refused();
        }
        is_in
    }

    /// Leaves, as the writer.
    #[inline]
    pub(super) fn unlock_write(&self) {
        gives_back(ptr::from_ref(self).addr());
        // Release pairs with the Acquire of the next one that goes in.
        if self.word.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_write_slow();
        }
    }

    /// Turns the writer into a reader; readers that wait go in with it. The caller calls
    /// `unlock_read` once, and `unlock_write` no more.
    pub(super) fn downgrade(&self) {
        gives_back(ptr::from_ref(self).addr());
        // Release pairs with the Acquire of readers that go in. Those that `admit_readers` lets in
        // are ordered by the unpark.
        if self.word.compare_exchange(WRITER, READER, Ordering::Release, Ordering::Relaxed).is_err() {
            self.readers.with(|(), line| {
                let n_readers = line.unpark_all(GRANTED);
                // Release as above. It is one change, so no writer comes between.
                self.change(Ordering::Release, |word| (word & !QUEUED_READERS) - WRITER + (n_readers + 1) * READER);
            });
        }
    }

    fn upgrade(&self) -> &Upgrade {
        self.upgrade.get_or_init(|| Box::new(Upgrade { turn: RawMutex::new(), alone: Queue::new(()) }))
    }

    /// Goes in as the upgradable reader; returns whether it did before `until`. The caller calls
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

    /// Leaves, as the upgradable reader.
    pub(super) fn unlock_upgradable(&self) {
        self.unlock_read();
        self.forgo_upgrade();
    }

    /// Turns the upgradable reader into a plain one.
    pub(super) fn forgo_upgrade(&self) {
        self.upgrade().turn.unlock();
    }

    /// Turns the upgradable reader into the writer; returns whether it did before `until`.
    /// Otherwise the caller stays the upgradable reader.
    pub(super) fn become_writer(&self, until: Until<'_>) -> bool {
        checkpoint_on(ptr::from_ref(self).addr());
        let Upgrade { turn, alone } = self.upgrade();
        let outcome =
            alone.wait_until(WaitReason::RwLockWrite, until, |(), _| {
                // Acquire pairs with the Release by which readers leave. One change decides: this
                // reader is the writer, or UPGRADING is set while others are in.
                let before = self.change(Ordering::Acquire, |word| {
                    if has_one_reader(word) { made_writer(word) } else { word | UPGRADING }
                });
                Decision::ready_if(has_one_reader(before))
            });
        if outcome == Outcome::GaveUp {
            alone.with(|(), _| {
                // Relaxed: the bit guards no data. Nobody else sets it before this reader gives up
                // its turn.
                self.word.fetch_and(!UPGRADING, Ordering::Relaxed);
            });
            self.let_readers_in();
            return false;
        }
        // A writer excludes the other upgradable readers, too.
        turn.unlock();
        true
    }

    /// Turns the upgradable reader into the writer if nobody else is in.
    pub(super) fn try_become_writer(&self) -> bool {
        checkpoint_on(ptr::from_ref(self).addr());
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

    /// Makes the upgradable reader, which is the only one left, the writer. This is the duty of the
    /// reader that left it alone.
    #[cold]
    fn hand_to_upgrader(&self) {
        self.upgrade().alone.with(|(), line| {
            // Nobody is in the line if the upgrader has given up; then it stays a reader. Otherwise
            // it is parked, and bars all others. As long as the queue's lock is held, only this
            // changes it from a reader into the writer.
            let word = self.word.load(Ordering::Relaxed);
            if word & UPGRADING != 0 && has_one_reader(word) && line.unpark_one(GRANTED) {
                // Acquire pairs with the Release by which readers left. The upgrader is ordered by
                // the unpark.
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
            // Acquire as in `enter_as_writer`. One change decides: the writer is in, or
            // QUEUED_WRITERS is set while somebody else is in.
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
        // Each round that does not leave clears a stale bit, or meets one that was just set.
        loop {
            let word = self.word.load(Ordering::Relaxed);
            debug_assert!(word & WRITER != 0, "unlock of a lock that is not write-locked");
            let left = if word & QUEUED_READERS != 0 {
                self.admit_readers(WRITER)
            } else if word & QUEUED_WRITERS != 0 {
                self.writers.with(|(), line| self.hand_over(line))
            } else {
                // Release pairs with the Acquire of the next one that goes in.
                self.word.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed).is_ok()
            };
            if left {
                return;
            }
        }
    }

    /// Lets all waiting readers in; returns whether the caller has left. The caller is in. If
    /// readers waited, it leaves in the same change (`leaving` is its WRITER or READER); otherwise
    /// it has not left.
    fn admit_readers(&self, leaving: usize) -> bool {
        self.readers.with(|(), line| {
            let n_readers = line.unpark_all(GRANTED);
            let leaving = if n_readers > 0 { leaving } else { 0 };
            // Release pairs with the Acquire of the next one that goes in. The readers let in are
            // ordered by the unpark. It happens after this lock is released, when the word counts
            // them already.
            self.change(Ordering::Release, |word| (word & !QUEUED_READERS) - leaving + n_readers * READER);
            n_readers > 0
        })
    }

    /// Passes the WRITER bit, which is set already, to the first waiting writer; `false` if none
    /// waits.
    fn hand_over(&self, line: &mut Line<'_, '_>) -> bool {
        let handed = line.unpark_one(GRANTED);
        if line.is_empty() {
            // Relaxed: the bit guards no data. The next holder is ordered by the unpark.
            self.word.fetch_and(!QUEUED_WRITERS, Ordering::Relaxed);
        }
        handed
    }

    /// Goes in for the first waiting writer and passes the lock to it. This is the duty of the last
    /// reader that left while QUEUED_WRITERS was set.
    #[cold]
    fn hand_to_writer(&self) {
        // If somebody is in already, it owes the wake-up now: a barging writer, or readers let in
        // because the waiting writers gave up.
        let settled = self.writers.with(|(), line| !self.enter_as_writer() || self.hand_over(line));
        // This is in as the writer, but no writer waits any more: leave again.
        if !settled {
            self.unlock_write();
        }
    }

    /// Clears up behind a writer that no longer waits. If it was the last, the readers that it
    /// barred may go in.
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

    /// Lets readers in that wait although nothing bars them any more. Called by the one that has
    /// cleared the bit that barred them.
    fn let_readers_in(&self) {
        // If something still bars readers, a writer is in, or waits, and owes them the wake-up.
        // Otherwise this goes in as a reader itself, because `admit_readers` needs a caller that is
        // in, and leaves again.
        if self.word.load(Ordering::Relaxed) & QUEUED_READERS != 0
            && self.enter_as_reader()
            && !self.admit_readers(READER)
        {
            self.unlock_read();
        }
    }

    /// Changes the word and returns the word before.
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
