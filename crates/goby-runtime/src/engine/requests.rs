//! Questions to a worker about its goroutines, which only its own thread may look at. The asker
//! posts a question; the scheduler answers between two goroutines. The questions are in
//! `look/inspect.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::engine::worker::Worker;

/// A question to a worker.
pub(crate) trait Question: Send {
    /// Answers it, on the scheduler's stack. Its drops must not run the program's code there.
    fn answer(self: Box<Self>, worker: &Worker);
}

/// The questions that a worker has yet to answer.
pub(crate) struct Requests {
    posted: Mutex<Vec<Box<dyn Question>>>,
    /// Length of `posted`.
    n: AtomicUsize,
}

impl Requests {
    pub(crate) fn new() -> Requests {
        Requests { posted: Mutex::new(Vec::new()), n: AtomicUsize::new(0) }
    }

    pub(crate) fn post(&self, request: Box<dyn Question>) {
        let mut posted = self.posted.lock();
        posted.push(request);
        // SeqCst: one order with `slice_over` and the worker's announcement of its sleep. The asker
        // posts, sets `slice_over`, and wakes. So either the worker finds the request before it
        // sleeps, or it is woken and finds `slice_over`.
        self.n.store(posted.len(), Ordering::SeqCst);
    }

    pub(crate) fn are_pending(&self) -> bool {
        self.n.load(Ordering::SeqCst) != 0
    }

    fn take(&self) -> Vec<Box<dyn Question>> {
        let mut posted = self.posted.lock();
        self.n.store(0, Ordering::SeqCst);
        std::mem::take(&mut *posted)
    }
}

impl Worker {
    /// Answers all questions. Called by the scheduler.
    #[cold]
    pub(crate) fn answer_requests(&self) {
        for question in self.remote.mail.requests.take() {
            question.answer(self);
        }
    }
}
