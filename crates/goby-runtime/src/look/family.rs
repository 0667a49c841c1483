//! Families of goroutines: a family is the goroutines that its maker started, those that they
//! started, and so on.
//!
//! A leak is attributed by family when tests run in parallel in one process. The mark is inherited
//! as labels are, over all runtimes. Goroutines that a timer's callback or a future starts belong
//! to no family.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::attributes::Changed;
use crate::engine::runtimes;
use crate::engine::worker;
use crate::look::inspect;
use crate::look::inspect::{GoroutineInfo, Want};

/// A mark on all goroutines that its maker starts while the mark lives, and on all that those
/// start, at any time.
///
/// The goroutine or thread that made it must drop it, in the reverse order of making.
///
/// ```
/// use goby_runtime::{Decision, Family, Gate, WaitReason, go};
/// use std::sync::Arc;
///
/// let family = Family::new();
/// let gate = Arc::new(Gate::new(()));
/// let waits = gate.clone();
/// let handle = go(move || { gate.wait::<()>(WaitReason::CondWait, None, |(), _| Decision::Wait(0)); });
/// assert_eq!(family.goroutines()[0].id(), handle.id());
/// waits.with(|(), waiters| while !waiters.unpark_one(0) {});
/// handle.join().unwrap();
/// assert!(family.goroutines().is_empty());
/// ```
pub struct Family {
    id: u64,
    _mark: Changed,
}

impl Family {
    /// Marks the goroutines that the caller starts from now on.
    pub fn new() -> Family {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only distinctness matters.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Family { id, _mark: Changed::new(|inherited| inherited.scopes.push(id)) }
    }

    /// Returns its goroutines that have not ended, sorted by id. The maker is none of them.
    ///
    /// # Blocking
    ///
    /// As [`goroutines`](crate::goroutines).
    pub fn goroutines(&self) -> Vec<GoroutineInfo> {
        self.look(true)
    }

    /// Does as [`goroutines`](Family::goroutines), with or without stacks; without them it takes
    /// less time.
    pub fn look(&self, stacks: bool) -> Vec<GoroutineInfo> {
        let want = Want { family: Some(self.id), stacks, patient: true };
        let mut infos = inspect::collect(&runtimes::alive(), want).goroutines;
        let maker = worker::current_id();
        infos.retain(|info| Some(info.id()) != maker);
        infos
    }
}

impl Default for Family {
    fn default() -> Family {
        Family::new()
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family").field("id", &self.id).finish_non_exhaustive()
    }
}
