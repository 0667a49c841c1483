//! What a worker shows of its goroutines, and only its own thread may look at. The questions, and
//! their purposes, are in `look/inspect.rs`.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::Worker;
use crate::base::stack_trace::StackTrace;
use crate::engine::goroutine::Goroutine;

/// `reason` of a goroutine that is resumed to take its own stack.
pub(crate) const CAPTURE: u8 = u8::MAX;

impl Worker {
    /// Returns the goroutines that have started here and have not ended.
    pub(crate) fn started(&self) -> Vec<NonNull<Goroutine>> {
        self.registry.all()
    }

    /// Returns those of them that are queued to run. Called by the scheduler.
    pub(crate) fn runnable(&self) -> Vec<NonNull<Goroutine>> {
        self.open_inbox();
        self.run_next.get().into_iter().chain(self.local.all()).chain(self.gathered()).collect()
    }

    /// Takes the stack of a goroutine that is suspended here: the goroutine is resumed for a moment
    /// and takes its own. Called by the scheduler.
    ///
    /// # Safety
    ///
    /// `g` has started here, has not ended and is not running.
    pub(crate) unsafe fn capture(&self, g: NonNull<Goroutine>) -> Option<StackTrace> {
        debug_assert!(!self.in_goroutine());
        // SAFETY: not ended, so alive. Suspended, so inside `switch`, which finds the order and
        // suspends again at once. The goroutine runs none of its own code, and its wait, if it has
        // one, goes on.
        unsafe {
            let header = g.as_ref();
            let reason = header.notes.reason.swap(CAPTURE, Ordering::Relaxed);
            self.running.current.set(Some(g));
            let alive = (*header.stack.fiber.get()).assume_init_mut().resume();
            self.running.current.set(None);
            debug_assert!(alive);
            header.notes.reason.store(reason, Ordering::Relaxed);
        }
        self.running.captured.take()
    }

    /// Stores the stack that [`capture`](Worker::capture) has asked a goroutine for.
    pub(crate) fn leave_captured(&self, stack: Option<StackTrace>) {
        self.running.captured.set(stack);
    }
}

/// Collects the stack of the calling goroutine, which has been resumed for that.
#[cold]
#[inline(never)]
pub(crate) fn capture_self(header: &Goroutine) {
    let worker = Worker::current().expect("a goroutine is resumed by its worker");
    let usable = header.usable_stack().expect("it runs on a stack");
    worker.leave_captured(StackTrace::of_goroutine(&usable));
}
