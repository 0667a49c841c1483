//! What a worker shows of its goroutines, and only its own thread may look at. Who asks, and what for, is in `inspect.rs`.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::Worker;
use crate::goroutine::Goroutine;
use crate::inspect;
use crate::stack_trace::StackTrace;

impl Worker {
    /// The goroutines that have started here and have not ended.
    pub(crate) fn started(&self) -> Vec<NonNull<Goroutine>> {
        self.registry.all()
    }

    /// Those of them that are queued to run. Called by the scheduler.
    pub(crate) fn runnable(&self) -> Vec<NonNull<Goroutine>> {
        self.open_inbox();
        self.run_next.get().into_iter().chain(self.local.all()).collect()
    }

    /// Takes the stack of a goroutine that is suspended here: resumed for a moment, it takes its own. Called by the
    /// scheduler.
    ///
    /// # Safety
    ///
    /// `g` has started here, has not ended and is not running.
    pub(crate) unsafe fn capture(&self, g: NonNull<Goroutine>) -> Option<StackTrace> {
        debug_assert!(!self.in_goroutine());
        // SAFETY: not ended, so alive; suspended, so inside `switch`, which finds the order and suspends again at once:
        // the goroutine runs none of its own code, and its wait, if it has one, goes on.
        unsafe {
            let header = g.as_ref();
            let reason = header.reason.swap(inspect::CAPTURE, Ordering::Relaxed);
            self.current.set(Some(g));
            let alive = (*header.fiber.get()).assume_init_mut().resume();
            self.current.set(None);
            debug_assert!(alive);
            header.reason.store(reason, Ordering::Relaxed);
        }
        self.captured.take()
    }

    /// Where a goroutine leaves the stack that [`capture`](Worker::capture) asked it for.
    pub(crate) fn leave_captured(&self, stack: Option<StackTrace>) {
        self.captured.set(stack);
    }
}
