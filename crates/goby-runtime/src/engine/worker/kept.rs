//! A future that waits in goby inside its poll keeps its worker: it has no stack to park, so its
//! thread sleeps, and nothing else of the worker runs. That may be forever, since what would end
//! the wait may be a goroutine at home there.
//!
//! It cannot be prevented. Its worker's goroutines could run on top of the poll, but not the
//! futures that only this worker can poll: a future that waits there would keep the first one, too.
//! So the runtime's watcher is told before the thread sleeps, and reports it.

use std::sync::atomic::Ordering;

use super::Worker;
use crate::engine::wait_reason::WaitReason;

/// The future that is polled keeps the worker, as long as this lives.
pub(in crate::engine) struct Kept(&'static Worker);

impl Kept {
    /// Notes that the future that the calling worker polls is about to wait, and tells the watcher.
    #[cold]
    pub(in crate::engine) fn begin(worker: &'static Worker, reason: WaitReason) -> Kept {
        // Relaxed, here and below: see `Remote::future_waits`.
        worker.remote.thread.waits.store(reason as u8, Ordering::Relaxed);
        worker.shared.watch.future_waits(worker, reason);
        Kept(worker)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.remote.thread.waits.store(WaitReason::None as u8, Ordering::Relaxed);
    }
}
