//! Edges of readiness: the tellers count them, and the waiters for the next edge compare counts.
//!
//! An operation reads the count before it is tried. If it would block, it waits for an edge *since
//! then*. So an edge is there for all that had to wait for it. None takes it from another, as the
//! first would take a remembered edge.
//!
//! Proof sketch. A teller: *Count*, then *Look* whether there may be waiters; if so, it takes the
//! waiters' lock and wakes them all. The waiter, under that lock: *Announce*, then *Compare*. Each
//! has a full fence between its two steps, and one of the fences comes first. If it is the
//! waiter's, Look sees the announcement, and the teller takes the lock after the waiter, which it
//! finds. If it is the teller's, Compare sees the new count, and the waiter does not wait.
//! `loom_tell_or_wait` below checks this.

use crate::base::primitive::{AtomicBool, AtomicUsize, Ordering, fence};

pub(crate) struct Edges {
    count: AtomicUsize,
    /// There may be a waiter. Set and cleared under the waiters' lock.
    is_awaited: AtomicBool,
}

impl Edges {
    pub(crate) fn new() -> Edges {
        Edges { count: AtomicUsize::new(0), is_awaited: AtomicBool::new(false) }
    }

    /// Returns how many edges there have been.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        // Acquire pairs with the store in `tell`: an operation that sees the count sees what the
        // teller knew by then.
        self.count.load(Ordering::Acquire)
    }

    /// Counts one more edge, and returns whether there may be waiters for it. If so, the caller
    /// takes the waiters' lock, calls [`nobody_waits`](Edges::nobody_waits) and wakes all.
    #[must_use]
    pub(crate) fn tell(&self) -> bool {
        // Release: see `count`. The fence pairs with the one in `awaits`.
        self.count.fetch_add(1, Ordering::Release);
        fence(Ordering::SeqCst);
        self.is_awaited.load(Ordering::Relaxed)
    }

    /// Returns whether there was no edge since `seen`, so that the caller waits. Under the waiters'
    /// lock.
    #[must_use]
    pub(crate) fn awaits(&self, seen: usize) -> bool {
        self.is_awaited.store(true, Ordering::Relaxed);
        // Pairs with the fence in `tell`.
        fence(Ordering::SeqCst);
        self.count() == seen
    }

    /// Records that all waiters are being woken. Under the waiters' lock.
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

    /// Two waiters, each of which reads the count before it waits, and two edges: in the end only a
    /// waiter that has seen both waits.
    #[test]
    fn loom_tell_or_wait() {
        loom::model(|| {
            let model = Model::default();
            let waiters = [(); 2].map(|()| model.spawn(Model::wait));
            model.tell();
            model.tell();
            model.check(waiters);
        });
    }

    /// As above, with one waiter, and edges from two threads.
    #[test]
    fn loom_two_tell() {
        loom::model(|| {
            let model = Model::default();
            let others = [model.spawn(Model::wait), model.spawn(Model::tell)];
            model.tell();
            model.check(others);
        });
    }

    #[derive(Clone)]
    struct Model {
        edges: Arc<Edges>,
        waiting: Arc<Mutex<Vec<usize>>>,
    }

    impl Default for Model {
        fn default() -> Model {
            Model { edges: Arc::new(Edges::new()), waiting: Arc::new(Mutex::new(Vec::new())) }
        }
    }

    impl Model {
        fn spawn(&self, f: fn(&Model)) -> thread::JoinHandle<()> {
            let model = self.clone();
            thread::spawn(move || f(&model))
        }

        fn wait(&self) {
            let seen = self.edges.count();
            let mut waiting = self.waiting.lock().unwrap();
            if self.edges.awaits(seen) {
                waiting.push(seen);
            }
        }

        fn tell(&self) {
            if self.edges.tell() {
                let mut waiting = self.waiting.lock().unwrap();
                self.edges.nobody_waits();
                waiting.clear();
            }
        }

        fn check(&self, others: [thread::JoinHandle<()>; 2]) {
            others.into_iter().for_each(|other| other.join().unwrap());
            assert!(self.waiting.lock().unwrap().iter().all(|&seen| seen == 2), "an edge was lost");
        }
    }
}
