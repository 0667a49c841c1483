//! A goroutine that would wait inside a panic hook keeps its worker instead, as a plain thread
//! would keep itself.
//!
//! std counts panics per thread, and takes a second one for a panic of the hook, which aborts the
//! process. If another goroutine of the worker ran meanwhile, its ordinary panic would end the
//! process. So none runs: the thread looks after its timers, sockets and inbox, until the goroutine
//! that waits is unparked. Other workers begin the unstarted ones. If there is no other worker, the
//! monitor adds a spare one, as for every worker whose thread is blocked.
//!
//! What the hook waits for may need a goroutine that is pinned here. So after [`PATIENCE`], and at
//! the runtime's end, it parks as every goroutine does. That is late, and from then on a neighbor's
//! panic aborts; but the hook does not wait forever for something that it holds up itself.
//!
//! A goroutine keeps its worker in the same way inside some calls of a subscriber of `tracing`
//! (`per_goroutine/notes.rs`).

use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Worker;
use crate::base::{policy, tsan};
use crate::engine::frames;
use crate::engine::frames::Function;
use crate::engine::goroutine::Goroutine;
use crate::engine::io::timer::NEVER;
use crate::engine::wait_reason::WaitReason;

/// How long a goroutine may keep its worker. That is long enough for a report over the network, but
/// the worker's goroutines feel it.
const PATIENCE: Duration = Duration::from_secs(1);

impl Worker {
    /// Does as [`hold`](Worker::hold) for a goroutine whose thread panics, if it is in the panic
    /// hook. Returns false if it is not.
    #[cold]
    pub(in crate::engine) fn hold_hook(&self, g: NonNull<Goroutine>) -> bool {
        // SAFETY: it is running, here, now and afterwards, so its record is alive.
        frames::is_inside(unsafe { g.as_ref() }, Function::PanicHook) && self.hold(g)
    }

    /// Waits in place for the running goroutine, which is about to be switched away from. Returns
    /// false if it must be switched away from all the same.
    #[cold]
    pub(in crate::engine) fn hold(&self, g: NonNull<Goroutine>) -> bool {
        let _ignore = tsan::ignore();
        // SAFETY: it is running, here, now and afterwards, so its record is alive.
        let header = unsafe { g.as_ref() };
        // It runs no code but ours, outside the switch: a signal may walk its stack.
        let reason = header.notes.reason.swap(WaitReason::None as u8, Ordering::Relaxed);
        self.running.held.set(Some(g));
        self.remote.thread.is_held.store(true, Ordering::Relaxed);
        // With no current goroutine, a goroutine that is woken is queued, as by the scheduler.
        self.running.current.set(None);
        let is_unparked = self.serve_until_queued(g);
        self.running.current.set(Some(g));
        self.remote.thread.is_held.store(false, Ordering::Relaxed);
        self.running.held.set(None);
        if !is_unparked {
            header.notes.reason.store(reason, Ordering::Relaxed);
        }
        is_unparked
    }

    /// Looks after timers, sockets and inbox until `g` is queued, and takes it out of the queue.
    /// Returns false if `g` was not queued in time.
    fn serve_until_queued(&self, g: NonNull<Goroutine>) -> bool {
        let end = policy::now() + PATIENCE;
        loop {
            self.maintain();
            if self.local.remove(g) {
                return true;
            }
            // Other workers can have the unstarted goroutines at once.
            self.share();
            let now = policy::now();
            if now >= end || self.shared.is_shut_down() {
                return false;
            }
            if !self.remote.mail.inbox.start_sleep() {
                continue;
            }
            // Not announced: a worker that looks for a sleeper wants one that runs what it finds.
            let due = match self.remote.timers.next_due() {
                NEVER => Duration::MAX,
                due => Duration::from_nanos(due.saturating_sub(policy::nanos(now))),
            };
            self.poll(Some(due.min(end.saturating_duration_since(now))));
            self.remote.mail.inbox.finish_sleep();
        }
    }
}
