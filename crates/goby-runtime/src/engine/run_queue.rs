//! The queues of runnable goroutines.
//!
//! - [`LocalQueue`]: pinned goroutines of one worker, touched by it alone: no atomics.
//! - [`UnstartedQueue`]: unstarted goroutines, and futures, behind a short lock that is biased to
//!   the owner. The owner takes the newest, so that a tree of goroutines finishes what it started
//!   before it starts more, and lives on few warm stacks. Thieves take the oldest, and half of
//!   them. With the bias the owner needs no atomic update and no fence, which a lock-free deque
//!   would need.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_task::Runnable;

use crate::base::biased::BiasedLock;
use crate::base::ring::Ring;
use crate::engine::goroutine::Goroutine;

/// Something that any worker may begin: a goroutine that has not run, or a `Send` future.
pub(crate) enum Unstarted {
    Goroutine(NonNull<Goroutine>),
    Future(Runnable),
}

// SAFETY: a goroutine's closure is Send, and until its first run nothing else of it exists.
unsafe impl Send for Unstarted {}

/// How far behind the front are the goroutines whose stack (`SOON`), and whose record (`LATER`), is
/// prefetched.
const SOON: usize = 2;
const LATER: usize = 4;

/// Room that a local queue always has.
const LOCAL_CAPACITY: usize = 256;

/// A worker's own queue. `!Sync`: only its worker uses it.
pub(crate) struct LocalQueue {
    ring: Ring<NonNull<Goroutine>>,
}

impl LocalQueue {
    pub(crate) fn new() -> LocalQueue {
        LocalQueue { ring: Ring::with_capacity(LOCAL_CAPACITY) }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn push_back(&self, g: NonNull<Goroutine>) {
        self.ring.push_back(g);
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn pop_front(&self) -> Option<NonNull<Goroutine>> {
        let first = self.ring.pop_front()?;
        if let Some(later) = self.ring.get(LATER)
            && let Some(soon) = self.ring.get(SOON)
        {
            // SAFETY: a queued goroutine is alive.
            unsafe { soon.as_ref() }.prefetch_stack();
            Goroutine::prefetch(later);
        }
        Some(first)
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Takes a goroutine out, wherever it is. Returns false if it is not queued.
    pub(crate) fn remove(&self, g: NonNull<Goroutine>) -> bool {
        let mut found = false;
        for _ in 0..self.len() {
            match self.ring.pop_front() {
                Some(other) if other == g && !found => found = true,
                Some(other) => self.ring.push_back(other),
                None => {}
            }
        }
        found
    }

    /// Gives memory back that a crowd has needed.
    pub(crate) fn shrink(&self) {
        self.ring.shrink_to(LOCAL_CAPACITY);
    }

    /// Returns the goroutines that are in it now, for inspection.
    pub(crate) fn all(&self) -> Vec<NonNull<Goroutine>> {
        self.ring.to_vec()
    }
}

/// What a thief remembers of a queue: see [`UnstartedQueue`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) changes: usize,
    pub(crate) emptied: usize,
}

/// Unstarted goroutines and futures, which may be stolen.
pub(crate) struct UnstartedQueue {
    queue: BiasedLock<VecDeque<Unstarted>>,
    len: AtomicUsize,
    /// Grows whenever items come or leave: a thief that sees the same count twice knows that the
    /// owner has been busy with something else in between.
    changes: AtomicUsize,
    /// Grows whenever the last item leaves.
    emptied: AtomicUsize,
}

impl UnstartedQueue {
    pub(crate) fn new() -> UnstartedQueue {
        UnstartedQueue {
            queue: BiasedLock::of_a_worker(VecDeque::new()),
            len: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            emptied: AtomicUsize::new(0),
        }
    }

    /// Returns its state, as far as a thief's patience depends on it.
    pub(crate) fn sight(&self) -> Sight {
        Sight { changes: self.changes.load(Ordering::Relaxed), emptied: self.emptied.load(Ordering::Relaxed) }
    }

    /// Returns its length, which is out of date at once.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds an item, and returns the new length.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn push(&self, item: Unstarted) -> usize {
        let mut queue = self.queue.lock();
        queue.push_back(item);
        self.note_len(&queue)
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn pop_newest(&self) -> Option<Unstarted> {
        self.take(|queue| queue.pop_back())
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn pop_oldest(&self) -> Option<Unstarted> {
        self.take(|queue| queue.pop_front())
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn take(&self, pop: impl FnOnce(&mut VecDeque<Unstarted>) -> Option<Unstarted>) -> Option<Unstarted> {
        if self.len() == 0 {
            return None;
        }
        let mut queue = self.queue.lock();
        let item = pop(&mut queue);
        self.note_len(&queue);
        item
    }

    /// Moves the older half (at least one, at most `max`) to `to`, except for the oldest, which it
    /// returns to run at once.
    pub(crate) fn steal_into(&self, to: &UnstartedQueue, max: usize) -> Option<Unstarted> {
        let mut stolen: VecDeque<Unstarted> = {
            let mut queue = self.queue.lock();
            let n = queue.len().div_ceil(2).min(max);
            let stolen = queue.drain(..n).collect();
            self.note_len(&queue);
            stolen
        };
        let first = stolen.pop_front()?;
        if !stolen.is_empty() {
            let mut queue = to.queue.lock();
            // Older than anything that `to` will get, so they go in front, in their order.
            stolen.append(&mut queue);
            *queue = stolen;
            to.note_len(&queue);
        }
        Some(first)
    }

    /// Calls `f` with every item, under the lock: no user code.
    pub(crate) fn for_each(&self, f: impl FnMut(&Unstarted)) {
        self.queue.lock().iter().for_each(f);
    }

    /// Gives memory back that a crowd has needed.
    pub(crate) fn shrink(&self) {
        self.queue.lock().shrink_to_fit();
    }

    /// Takes everything.
    pub(crate) fn drain(&self) -> VecDeque<Unstarted> {
        let mut queue = self.queue.lock();
        let all = std::mem::take(&mut *queue);
        self.note_len(&queue);
        all
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn note_len(&self, queue: &VecDeque<Unstarted>) -> usize {
        // Relaxed: a hint. Where a wake-up depends on it, the reader takes part in the idle
        // protocol's fences.
        self.len.store(queue.len(), Ordering::Relaxed);
        // Relaxed, and no read-modify-write: written under the lock, read as a hint.
        self.changes.store(self.changes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if queue.is_empty() {
            self.emptied.store(self.emptied.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        queue.len()
    }
}
