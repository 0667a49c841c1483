//! What a worker does with a goroutine that one of its own has started, or with a future: it queues
//! it where any worker may begin it, and wakes one if one should come.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::{Remote, Worker, current_goroutine};
use crate::base::primitive::bump;
use crate::base::slab::Slab;
use crate::base::tsan;
use crate::engine::goroutine::{Goroutine, GoroutineId};
use crate::engine::run_queue::Unstarted;
use crate::engine::tuning::{ID_BATCH, SPREAD_SLACK, WAKES_PER_TICK};

/// Says that the next goroutine that the calling one starts will live for a while, and has little
/// to do with its neighbors. So it may begin on a worker that sleeps, if fewer such goroutines live
/// there.
///
/// ```
/// goby_runtime::spread_next();
/// assert_eq!(goby_runtime::go(|| 7).join().unwrap(), 7);
/// ```
pub fn spread_next() {
    let _ignore = tsan::ignore();
    if let Some(g) = current_goroutine() {
        // SAFETY: it is running, here, so its record is alive.
        unsafe { g.as_ref() }.notes.flags.spread_next();
    }
}

/// What a worker gives to the goroutines that are born on it.
pub(super) struct OwnBirths {
    /// The next goroutine id of this worker's share, and its end.
    ids: Cell<(u64, u64)>,
    /// The first of the ids that a check's worker uses again in each execution; otherwise zero.
    first_in_check: Cell<u64>,
    /// Their records.
    pub(super) slab: Slab,
    /// The monitor's tick, and how often our unstarted goroutines have made us wake another worker
    /// in it.
    wakes: Cell<(usize, usize)>,
}

impl OwnBirths {
    pub(super) fn new(remote: &'static Remote) -> OwnBirths {
        OwnBirths {
            ids: Cell::new((0, 0)),
            first_in_check: Cell::new(0),
            slab: Slab::new(&remote.tally.grown),
            wakes: Cell::new((0, 0)),
        }
    }

    /// Begins the ids of a check's execution, of which there are `n`; returns the first. They are
    /// `new` ones if goroutines are left that have the former ones.
    pub(super) fn begin_ids(&self, n: u64, new: bool) -> u64 {
        if new || self.first_in_check.get() == 0 {
            self.first_in_check.set(GoroutineId::reserve(n));
        }
        let first = self.first_in_check.get();
        self.ids.set((first, first + n));
        first
    }
}

impl Worker {
    /// Returns the memory for the records of goroutines that are born here, or freed here.
    #[inline]
    pub(crate) fn slab(&self) -> &Slab {
        &self.births.slab
    }

    /// Returns the next goroutine id, from this worker's share.
    #[inline]
    pub(crate) fn next_id(&self) -> u64 {
        let (next, end) = self.births.ids.get();
        if next < end {
            self.births.ids.set((next + 1, end));
            return next;
        }
        let first = GoroutineId::reserve(ID_BATCH);
        self.births.ids.set((first + 1, first + ID_BATCH));
        first
    }

    /// Counts a future that has been started, or has ended.
    #[inline]
    pub(crate) fn count_task(&self, change: isize) {
        let tasks = &self.remote.tally.tasks;
        // No read-modify-write: one writer. Release pairs with the Acquire in `n_tasks`: a thread
        // that sees the change sees that we were awake.
        tasks.store(tasks.load(Ordering::Relaxed).wrapping_add_signed(change), Ordering::Release);
    }

    /// Queues a goroutine that the running one spawned.
    #[inline]
    pub(crate) fn spawn(&self, g: NonNull<Goroutine>) {
        bump(&self.remote.tally.spawned);
        if self.running().is_some_and(|parent| parent.notes.flags.take_spread_next()) {
            return self.spread(g);
        }
        self.push_unstarted(Unstarted::Goroutine(g));
    }

    /// Gives it to a worker that sleeps, if fewer such goroutines live there: a worker that sleeps
    /// comes to it at once.
    #[cold]
    fn spread(&self, g: NonNull<Goroutine>) {
        // SAFETY: unstarted, and in no queue, so no other thread knows it.
        unsafe { g.as_ref() }.notes.flags.set_spread();
        let sleeper = self.shared.idle.sleeper_by(Remote::n_spread);
        if let Some(sleeper) = sleeper.filter(|sleeper| sleeper.n_spread() + SPREAD_SLACK < self.remote.n_spread())
            // SAFETY: as above.
            && unsafe { sleeper.mail.inbox.push_to_sleeper(g.as_ptr()) }
        {
            sleeper.poller.wake();
            return self.shared.monitor.hurry();
        }
        self.push_unstarted(Unstarted::Goroutine(g));
    }

    /// Queues an item that any worker may begin, and wakes a worker if one should come.
    #[inline]
    pub(crate) fn push_unstarted(&self, item: Unstarted) {
        let len = self.remote.stealable.unstarted.push(item);
        if self.shared.idle.wants_searcher() {
            self.offer_unstarted(len);
        }
        self.shared.monitor.hurry();
    }

    /// Wakes a worker to look at our unstarted goroutines, though not for every one. A lone one
    /// will most likely run as soon as the running goroutine parks; but if that computes instead,
    /// another worker should take it. Where thieves are patient (`theft`) that is left to the
    /// monitor. No fence:
    /// should the sleeper be missed, we are awake, and the monitor looks too.
    #[cold]
    fn offer_unstarted(&self, len: usize) {
        if self.remote.stealable.patience.is_long() {
            return;
        }
        let tick = self.shared.monitor.tick();
        let used = match self.births.wakes.get() {
            (t, used) if t == tick => used,
            _ => 0,
        };
        if used < if len > 1 { WAKES_PER_TICK } else { 1 } {
            self.births.wakes.set((tick, used + 1));
            self.shared.idle.wake_searcher();
        }
    }
}
