//! What the engine knows of those who watch it: one trait, given when a runtime is built. What they
//! make of it is in `look`.

use std::any::Any;
use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::engine::goroutine::Goroutine;
use crate::engine::park::WaitReason;
use crate::engine::shared::Shared;
use crate::engine::worker::{Remote, Worker};

/// Whether [`Watch::parks`] and [`Watch::panicked`] are called: a walk over a stack costs some
/// microseconds, a park 5 ns.
pub(crate) const SEES_PARKS: bool = cfg!(any(debug_assertions, goby_tsan));

/// Watches a runtime.
pub(crate) trait Watch: Any + Send + Sync {
    /// All of its workers sleep. Called by its monitor.
    fn all_asleep(&self, shared: &'static Shared) -> Prospect;

    /// A worker has not come back to its other goroutines for `lasted`; says whether it could be
    /// told which goroutine it runs. Called by the monitor.
    fn stalled(&self, remote: &Remote, lasted: Duration) -> bool;

    /// A goroutine is about to park. Called by itself.
    fn parks(&self, worker: &Worker, g: &Goroutine, reason: WaitReason);

    /// A goroutine has panicked. Called by itself, before it ends.
    fn panicked(&self, g: &Goroutine, payload: &(dyn Any + Send));

    /// The runtime was dropped, and is another one now.
    fn begin_anew(&self);
}

/// What is to be expected of a runtime whose workers all sleep.
pub(crate) enum Prospect {
    /// Something will make a goroutine runnable, or nobody waits.
    Wake,
    /// Only others can do that, or something moved during the look. They do not tell when they will
    /// not.
    Unclear,
    /// Nobody can ever run again. Whoever was to be told has been told.
    Never,
}

/// How often a worker's parks were looked at, and when that is done next.
pub(crate) type NextLook = Cell<(u32, Option<Instant>)>;
