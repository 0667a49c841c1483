//! What the engine knows of its watcher: one trait, whose implementation is given when a runtime is
//! built. What the watcher does is in `look`.

use std::any::Any;
use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::engine::goroutine::Goroutine;
use crate::engine::shared::Shared;
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::{Remote, Worker};

/// Whether [`Watch::parks`] and [`Watch::panicked`] are called: a walk over a stack costs some
/// microseconds, a park 5 ns.
pub(crate) const SEES_PARKS: bool = cfg!(any(debug_assertions, goby_tsan));

/// Watches a runtime.
pub(crate) trait Watch: Any + Send + Sync {
    /// All workers of the runtime sleep. Called by its monitor.
    fn all_asleep(&self, shared: &'static Shared) -> Prospect;

    /// A worker has not come back to its other goroutines for `lasted`. Returns whether the
    /// goroutine that it runs is known. Called by the monitor.
    fn stalled(&self, remote: &Remote, lasted: Duration) -> bool;

    /// The future that the worker polls is about to wait in goby, and keeps the worker meanwhile.
    /// Called by the worker, in that poll.
    fn future_waits(&self, worker: &Worker, reason: WaitReason);

    /// A goroutine is about to park. Called by that goroutine.
    fn parks(&self, worker: &Worker, g: &Goroutine, reason: WaitReason);

    /// A goroutine has panicked. Called by that goroutine, before it ends.
    fn panicked(&self, g: &Goroutine, payload: &(dyn Any + Send));

    /// The runtime was dropped, and begins a new life.
    fn begin_anew(&self);
}

/// What is to be expected of a runtime whose workers all sleep.
pub(crate) enum Prospect {
    /// Something will make a goroutine runnable, or nobody waits.
    Wake,
    /// Only something outside can do that, and nothing tells when it no longer will; or something
    /// moved during the look.
    Unclear,
    /// Nothing can ever run again. If a watcher or the policy asks for a report, it has been made.
    Never,
}

/// How many of a worker's parks were looked at, and when the next look is due.
pub(crate) type NextLook = Cell<(u32, Option<Instant>)>;
