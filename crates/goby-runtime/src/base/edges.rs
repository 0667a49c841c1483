//! Edges of readiness: counted by whoever is told of them, compared by those who wait for the next
//! one.
//!
//! An operation reads the count before it is tried. If it would block, it waits for an edge *since
//! then*. So an edge is there for all who had to wait for it: none takes it from another, as a
//! remembered edge would be taken by the first.
//!
//! Proof sketch. The teller: *Count*, then *Look* whether anybody may wait; if so, it takes the
//! waiters' lock and wakes them all. The waiter, under that lock: *Announce*, then *Compare*. Each
//! has a full fence between its two steps, and one of the fences comes first. The waiter's: Look
//! sees the announcement, and the teller takes the lock, after the waiter, which it finds. The
//! teller's: Compare sees the new count, and the waiter does not wait. `loom_tell_or_wait` below
//! checks this.

use crate::base::primitive::{AtomicBool, AtomicUsize, Ordering, fence};

pub(crate) struct Edges {
    /// Written by one teller at a time.
    count: AtomicUsize,
    /// Somebody may wait. Set and cleared under the waiters' lock.
    is_awaited: AtomicBool,
}

impl Edges {
    pub(crate) fn new() -> Edges {
        Edges { count: AtomicUsize::new(0), is_awaited: AtomicBool::new(false) }
    }

    /// Counts those so far.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        // Acquire pairs with the store in `tell`: whoever sees the count sees what the teller knew
        // by then.
        self.count.load(Ordering::Acquire)
    }

    /// Counts one more; says whether somebody may wait for it: then the caller takes the waiters'
    /// lock, calls [`nobody_waits`](Edges::nobody_waits) and wakes all.
    #[must_use]
    pub(crate) fn tell(&self) -> bool {
        // Relaxed, the load: one teller. Release: see `count`. The fence pairs with the one in
        // `awaits`.
        self.count.store(self.count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        fence(Ordering::SeqCst);
        self.is_awaited.load(Ordering::Relaxed)
    }

    /// Whether there was none since `seen`, so that the caller waits. Under the waiters' lock.
    #[must_use]
    pub(crate) fn awaits(&self, seen: usize) -> bool {
        self.is_awaited.store(true, Ordering::Relaxed);
        // Pairs with the one in `tell`.
        fence(Ordering::SeqCst);
        self.count() == seen
    }

    /// All who waited are being woken. Under the waiters' lock.
    pub(crate) fn nobody_waits(&self) {
        // Relaxed: the lock orders it with `awaits`, and a teller that still reads true takes the
        // lock for nothing.
        self.is_awaited.store(false, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    use super::*;

    /// Two waiters that have seen nothing, and two edges: none of them waits in the end, though
    /// each edge may be told while only one is there.
    #[test]
    fn loom_tell_or_wait() {
        loom::model(|| {
            let edges = Arc::new(Edges::new());
            let waiting = Arc::new(Mutex::new(0));
            let waiters = [(); 2].map(|()| {
                let (edges, waiting) = (edges.clone(), waiting.clone());
                thread::spawn(move || {
                    let mut waiting = waiting.lock().unwrap();
                    if edges.awaits(0) {
                        *waiting += 1;
                    }
                })
            });
            if edges.tell() {
                let mut waiting = waiting.lock().unwrap();
                edges.nobody_waits();
                *waiting = 0;
            }
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            assert_eq!(*waiting.lock().unwrap(), 0, "an edge was lost");
        });
    }
}
