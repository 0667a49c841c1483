//! A guard that fails a test that leaks.

use std::fmt;
use std::thread;

use goby_runtime::{Family, Leaks};

use super::LeakFinder;

/// Fails a test that leaves goroutines behind. When the guard is dropped it panics with a paragraph
/// per goroutine: where it was started, what it waits for and since when, where it is, and whether
/// a context reaches it.
///
/// Only goroutines that the guard's maker has started after it count, and those that these have
/// started, on any runtime. So tests may run in parallel in one process. Goroutines that a timer's
/// callback starts belong to nobody.
///
/// Goroutines get the time to end that [`LeakFinder`] gives. Of those that are left, the parked
/// ones are leaked, unless one of them is live (it runs, or a timer ends its wait) and so may still
/// free the others; [`live_too`](LeakGuard::live_too) counts all. Make the guard first, so that it
/// is dropped last.
///
/// *A context reaches* a goroutine if its wait ends when a context is done: see
/// [`is_reached_by_context`](goby_runtime::GoroutineInfo::is_reached_by_context).
///
/// ```
/// use goby::{chan, diag::LeakGuard, go};
///
/// let guard = LeakGuard::new();
/// let (tx, rx) = chan::bounded(1);
/// go(move || tx.send(7));
/// assert_eq!(rx.recv(), Ok(7));
/// // Dropping it would do the same, and panic.
/// assert!(guard.check().is_ok());
/// ```
///
/// # Panics
///
/// When dropped with goroutines leaked, unless the thread already panics.
#[doc(alias("goleak", "VerifyNone"))]
pub struct LeakGuard {
    family: Family,
    finder: LeakFinder,
    /// The verdict has been given.
    checked: bool,
}

impl LeakGuard {
    /// Starts to count.
    #[must_use = "dropped at once it guards nothing"]
    pub fn new() -> LeakGuard {
        LeakGuard { family: Family::new(), finder: LeakFinder::new(), checked: false }
    }

    /// Counts live goroutines too: every one that is still there after the retries. Default: only
    /// stuck ones.
    #[must_use = "dropped at once it guards nothing"]
    pub fn live_too(mut self) -> LeakGuard {
        self.finder = std::mem::take(&mut self.finder).live_too(true);
        self
    }

    /// Sets how often it looks again: see [`LeakFinder::retries`].
    #[must_use = "dropped at once it guards nothing"]
    pub fn retries(mut self, n: u32) -> LeakGuard {
        self.finder = std::mem::take(&mut self.finder).retries(n);
        self
    }

    /// Returns the verdict now instead of panicking.
    ///
    /// # Errors
    ///
    /// [`Leaks`], with the goroutines.
    pub fn check(mut self) -> Result<(), Leaks> {
        self.checked = true;
        self.finder.find_among(|stacks| self.family.look(stacks))
    }
}

impl Default for LeakGuard {
    fn default() -> LeakGuard {
        LeakGuard::new()
    }
}

impl Drop for LeakGuard {
    fn drop(&mut self) {
        if self.checked || thread::panicking() {
            return;
        }
        if let Err(leaks) = self.finder.find_among(|stacks| self.family.look(stacks)) {
            panic!("{leaks}");
        }
    }
}

impl fmt::Debug for LeakGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeakGuard").field("family", &self.family).finish_non_exhaustive()
    }
}
