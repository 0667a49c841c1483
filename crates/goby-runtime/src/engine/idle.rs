//! Which workers sleep, which one searches, and which one wakes another
//! (`docs/decisions/04-spin-before-sleep.md`).
//!
//! At most one worker searches at a time. A searcher that finds something wakes the next. So a
//! burst of work wakes the workers one after the other, and a trickle wakes none.
//!
//! Protocol to post work that any worker may run: *Queue* it, then *Look* (`wake_searcher`). If no
//! worker searches and some worker sleeps, take the right to search (0 → 1) and give it to a
//! sleeper: take the sleeper off the list, and wake it.
//!
//! Protocol to fall asleep: *Announce* (`announce`: onto the list), then *Recheck* all queues, and
//! sleep only if they are empty. Afterwards `retract`: a worker that finds itself off the list was
//! given the right to search.
//!
//! Proof sketch. Sleepers never leave behind a work item that was posted with the fence of `post`
//! (by an OS thread, which will not run it itself). The poster does Queue, fence, Look; the sleeper
//! does Announce, fence, Recheck. So either Look sees the sleeper, or Recheck sees the item. If
//! Look sees a searcher instead, that searcher has not yet finished. After it has given the right
//! back, it Looks itself, on behalf of everything that is still queued (`Worker::share`), or it
//! goes on to Announce and Recheck. A worker's own spawns skip the fence: the worker is awake and
//! runs them itself if no other does, and the monitor repeats Look every tick.

use std::sync::atomic::{AtomicUsize, Ordering, fence};

use crate::base::lock::Lock;
use crate::engine::worker::Remote;

/// The idle workers of one runtime.
pub(crate) struct Idle {
    /// Workers that search: 0 or 1.
    searching: AtomicUsize,
    /// Length of `sleepers`.
    n_sleeping: AtomicUsize,
    sleepers: Lock<Vec<&'static Remote>>,
    /// Counts changes of `sleepers`. The proof of a deadlock holds only if no worker came or went
    /// while it was made.
    changes: AtomicUsize,
}

impl Idle {
    pub(crate) fn new() -> Idle {
        Idle {
            searching: AtomicUsize::new(0),
            n_sleeping: AtomicUsize::new(0),
            sleepers: Lock::new(Vec::new()),
            changes: AtomicUsize::new(0),
        }
    }

    /// Forgets workers that have stopped.
    pub(crate) fn reset(&self) {
        let mut sleepers = self.sleepers.lock();
        sleepers.clear();
        self.note(&sleepers);
        self.finish_search();
    }

    pub(crate) fn changes(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }

    /// Records the list's new length, under its lock.
    fn note(&self, sleepers: &[&'static Remote]) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.n_sleeping.store(sleepers.len(), Ordering::SeqCst);
    }

    pub(crate) fn n_sleeping(&self) -> usize {
        self.n_sleeping.load(Ordering::SeqCst)
    }

    /// Tells the sleepers of work that the caller has queued and will not run itself.
    pub(crate) fn post(&self) {
        // Between Queue and Look.
        fence(Ordering::SeqCst);
        self.wake_searcher();
    }

    /// Returns whether a worker sleeps, and none searches.
    #[inline(always)]
    pub(crate) fn wants_searcher(&self) -> bool {
        self.n_sleeping.load(Ordering::Relaxed) != 0 && self.searching.load(Ordering::Relaxed) == 0
    }

    /// Wakes a sleeper to search, unless one searches already.
    #[inline]
    pub(crate) fn wake_searcher(&self) {
        if self.wants_searcher() {
            self.wake_searcher_slow();
        }
    }

    #[cold]
    fn wake_searcher_slow(&self) {
        if !self.start_search() {
            return;
        }
        let sleeper = {
            let mut sleepers = self.sleepers.lock();
            let sleeper = sleepers.pop();
            self.note(&sleepers);
            sleeper
        };
        match sleeper {
            Some(sleeper) => sleeper.notify(),
            None => self.searching.store(0, Ordering::SeqCst),
        }
    }

    /// Returns the sleeper for which `count` is least.
    pub(crate) fn sleeper_by(&self, count: impl Fn(&Remote) -> usize) -> Option<&'static Remote> {
        // Relaxed: a hint.
        if self.n_sleeping.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let sleepers = self.sleepers.lock();
        // No spare worker: what begins there would keep its thread in use.
        let wanted = sleepers.iter().copied().filter(|remote| remote.index < remote.shared.settings.workers);
        wanted.min_by_key(|remote| count(remote))
    }

    /// Takes the right to search. Returns false if another worker has it.
    pub(crate) fn start_search(&self) -> bool {
        self.searching.load(Ordering::Relaxed) == 0
            // SeqCst: part of the total order that the proof is about.
            && self.searching.compare_exchange(0, 1, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Gives the right to search back. The caller then looks whether there is more to find, for
    /// another worker.
    pub(crate) fn finish_search(&self) {
        self.searching.store(0, Ordering::SeqCst);
    }

    /// Puts a worker on the list of sleepers.
    pub(crate) fn announce(&self, remote: &'static Remote) {
        {
            let mut sleepers = self.sleepers.lock();
            sleepers.push(remote);
            self.note(&sleepers);
        }
        // Between Announce and Recheck.
        fence(Ordering::SeqCst);
    }

    /// Takes a worker off the list. If it is off already, it was woken to search, and gives that
    /// right back: it is about to look everywhere anyway, and takes the right again if it is still
    /// free. If its inbox has something to run first, it Looks (`wake_searcher`) for another
    /// worker.
    pub(crate) fn retract(&self, remote: &'static Remote) {
        let woken_to_search = {
            let mut sleepers = self.sleepers.lock();
            let place = sleepers.iter().position(|&sleeper| std::ptr::eq(sleeper, remote));
            if let Some(place) = place {
                sleepers.swap_remove(place);
            }
            self.note(&sleepers);
            place.is_none()
        };
        if woken_to_search {
            self.searching.store(0, Ordering::SeqCst);
            if !remote.mail.inbox.is_empty() {
                self.wake_searcher();
            }
        }
    }
}
