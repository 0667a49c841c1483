//! Goroutines that keep their worker: reported by the monitor, with their stack.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;

use crate::inspect::GoroutineInfo;
use crate::runtime::{current_shared, spawn_own_thread};
use crate::sample;
use crate::stack_trace::Names;
use crate::worker::Remote;

/// From when on a goroutine is reported: long enough to be felt, and ten time slices.
pub(crate) const LIMIT: Duration = Duration::from_millis(100);
/// Stalls that are kept.
const KEPT: usize = 64;

/// A worker that did not come back to its other goroutines for longer than the limit. Its `Display` is the report.
#[derive(Clone, Debug)]
pub struct Stall {
    worker: usize,
    lasted: Duration,
    goroutine: Option<GoroutineInfo>,
}

impl Stall {
    /// The worker's number in its runtime.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// How long it had lasted when it was reported.
    pub fn lasted(&self) -> Duration {
        self.lasted
    }

    /// The goroutine that ran, with its stack at that moment. None if it was a future, or the thread could not tell: then
    /// another report follows when the stall has lasted twice as long.
    pub fn goroutine(&self) -> Option<&GoroutineInfo> {
        self.goroutine.as_ref()
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (worker, ms) = (self.worker, self.lasted.as_millis());
        let Some(g) = &self.goroutine else {
            return write!(f, "worker {worker} has not come back for {ms} ms");
        };
        writeln!(
            f,
            "goroutine {}, started at {}, has kept worker {worker} for {ms} ms: run what blocks or computes in \
             `blocking`, or call `yield_now` now and then",
            g.id, g.started_at
        )?;
        g.stack.as_ref().map_or(Ok(()), |stack| Names::default().write(stack, f))
    }
}

/// The latest stalls of one runtime.
#[derive(Default)]
pub(crate) struct Stalls {
    latest: Mutex<VecDeque<Stall>>,
}

impl Stalls {
    /// Looks at what the worker runs, notes it and tells it; whether the goroutine is known. Called by the monitor.
    pub(crate) fn report(&self, remote: &Remote, lasted: Duration) -> bool {
        let stall = Stall { worker: remote.index, lasted, goroutine: sample::running(remote) };
        let is_known = stall.goroutine.is_some();
        {
            let mut latest = self.latest.lock();
            if latest.len() == KEPT {
                latest.pop_front();
            }
            latest.push_back(stall.clone());
        }
        if tracing::enabled!(tracing::Level::WARN) {
            // Not here: looking names up takes long, and the monitor has others to look after.
            let told = spawn_own_thread("goby-report", move || tracing::warn!("goby: {stall}"));
            if let Err(error) = told {
                tracing::warn!("goby: worker {} stalls, and no thread to tell more: {error}", remote.index);
            }
        }
        is_known
    }

    pub(crate) fn latest(&self) -> Vec<Stall> {
        self.latest.lock().iter().cloned().collect()
    }
}

/// Gives the latest stalls of the caller's runtime: see [`Runtime::stalls`](crate::Runtime::stalls).
pub fn stalls() -> Vec<Stall> {
    current_shared().stalls.latest()
}
