//! What a worker does with a goroutine that one of its own has started, or with a future: it queues
//! it where any worker may begin it, and wakes one if one should come.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::{ID_BATCH, Remote, SPREAD_SLACK, WAKES_PER_TICK, Worker, current_goroutine};
use crate::base::primitive::bump;
use crate::base::tsan;
use crate::engine::goroutine::{Goroutine, GoroutineId};
use crate::engine::park::{SPREAD, SPREADS};
use crate::engine::run_queue::Fresh;

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
        let flags = unsafe { &g.as_ref().flags };
        flags.set(flags.get() | SPREADS);
    }
}

impl Worker {
    /// Returns the next goroutine id, from this worker's share.
    #[inline]
    pub(crate) fn next_id(&self) -> u64 {
        let (next, end) = self.ids.get();
        if next < end {
            self.ids.set((next + 1, end));
            return next;
        }
        let first = GoroutineId::reserve(ID_BATCH);
        self.ids.set((first + 1, first + ID_BATCH));
        first
    }

    /// Counts a future that has been started, or has ended.
    #[inline]
    pub(crate) fn count_task(&self, change: isize) {
        let tasks = &self.remote.tasks;
        // No read-modify-write: one writer. Release pairs with the Acquire in `n_tasks`: a thread
        // that sees the change sees that we were awake.
        tasks.store(tasks.load(Ordering::Relaxed).wrapping_add_signed(change), Ordering::Release);
    }

    /// Queues a goroutine that the running one spawned.
    #[inline]
    pub(crate) fn spawn(&self, g: NonNull<Goroutine>) {
        bump(&self.remote.spawned);
        // SAFETY: it is running, so its record is alive.
        if let Some(flags) = self.current.get().map(|parent| unsafe { &(*parent.as_ptr()).flags })
            && flags.get() & SPREADS != 0
        {
            flags.set(flags.get() & !SPREADS);
            return self.spread(g);
        }
        self.push_fresh(Fresh::Goroutine(g));
    }

    /// Gives it to a worker that sleeps, if fewer such goroutines live there: a worker that sleeps
    /// comes to it at once.
    #[cold]
    fn spread(&self, g: NonNull<Goroutine>) {
        // SAFETY: unstarted, and in no queue, so no other thread knows it.
        let flags = unsafe { &g.as_ref().flags };
        flags.set(flags.get() | SPREAD);
        let sleeper = self.shared.idle.sleeper_by(Remote::n_spread);
        if let Some(sleeper) = sleeper.filter(|sleeper| sleeper.n_spread() + SPREAD_SLACK < self.remote.n_spread())
            // SAFETY: as above.
            && unsafe { sleeper.inbox.push_to_sleeper(g.as_ptr()) }
        {
            sleeper.poller.wake();
            return self.shared.monitor.hurry();
        }
        self.push_fresh(Fresh::Goroutine(g));
    }

    /// Queues an item that any worker may begin, and wakes a worker if one should come.
    #[inline]
    pub(crate) fn push_fresh(&self, item: Fresh) {
        let len = self.remote.fresh.push(item);
        if self.shared.idle.wants_searcher() {
            self.offer_fresh(len);
        }
        self.shared.monitor.hurry();
    }

    /// Wakes a worker to look at our unstarted goroutines, though not for every one. A lone one
    /// will most likely run as soon as the running goroutine parks; but if that computes instead,
    /// another worker should take it. In a truce (`theft`) that is left to the monitor. No fence:
    /// should the sleeper be missed, we are awake, and the monitor looks too.
    #[cold]
    fn offer_fresh(&self, len: usize) {
        let tick = self.shared.monitor.tick();
        if self.remote.truce.holds(tick) {
            return;
        }
        let used = match self.wakes.get() {
            (t, used) if t == tick => used,
            _ => 0,
        };
        if used < if len > 1 { WAKES_PER_TICK } else { 1 } {
            self.wakes.set((tick, used + 1));
            self.shared.idle.wake_searcher();
        }
    }
}
