//! The watcher of a runtime: it sees what goroutines do, which are deadlocked, which keep a worker,
//! which are left behind.
//!
//! The engine knows it by one trait, [`Watch`]; a runtime is given a [`Look`]. The modules here
//! read the engine, and change nothing in it.

// Goroutines as data, and as text.
pub(crate) mod ask;
pub(crate) mod inspect;
pub(crate) mod sample;
pub(crate) mod dump;
pub(crate) mod census;
pub(crate) mod load;
pub(crate) mod family;
// Verdicts.
pub(crate) mod stall;
pub(crate) mod deadlock;
pub(crate) mod try_run;
pub(crate) mod leak;
pub(crate) mod leak_check;
pub(crate) mod mistakes;

use std::any::Any;
use std::time::Duration;

use self::stall::Stalls;
use self::try_run::Watchers;
use crate::engine::goroutine::Goroutine;
use crate::engine::settings::Settings;
use crate::engine::shared::Shared;
use crate::engine::wait_reason::WaitReason;
use crate::engine::watch::{Prospect, Watch};
use crate::engine::worker::{Remote, Worker};

/// Watches one runtime.
pub(crate) struct Look {
    pub(crate) stalls: Stalls,
    /// The calls of `try_run` that are to be told of a deadlock.
    pub(crate) watchers: Watchers,
}

impl Look {
    pub(crate) fn new(settings: &Settings) -> Look {
        Look { stalls: Stalls::new(settings.stalls_are_printed), watchers: Watchers::default() }
    }

    /// Returns the watcher of this runtime.
    pub(crate) fn of(shared: &Shared) -> &Look {
        let watch: &dyn Any = &*shared.watch;
        watch.downcast_ref().expect("a builder gives nothing else")
    }
}

impl Watch for Look {
    fn all_asleep(&self, shared: &'static Shared) -> Prospect {
        deadlock::judge(shared)
    }

    fn stalled(&self, remote: &Remote, lasted: Duration) -> bool {
        let is_known = self.stalls.report(remote, lasted);
        if remote.future_waits().is_some() {
            // Not all workers sleep, so nobody else asks. What is found out is reported there.
            deadlock::judge(remote.shared);
        }
        is_known
    }

    fn future_waits(&self, worker: &Worker, reason: WaitReason) {
        self.stalls.report_wait(worker, reason);
    }

    fn parks(&self, worker: &Worker, g: &Goroutine, reason: WaitReason) {
        // A check parks a million times a second, and its clock does not say how long a look takes.
        if !worker.is_checked() {
            mistakes::look_at_park(worker, g, reason);
        }
    }

    fn panicked(&self, g: &Goroutine, payload: &(dyn Any + Send)) {
        mistakes::look_at_panic(g, payload);
    }

    fn begin_anew(&self) {
        self.stalls.reset();
        self.watchers.reset();
    }
}
