//! Looking for leaks, again and again while goroutines are on their way out. Source:
//! uber-go/goleak.

use std::collections::HashSet;

use goby_runtime::{GoroutineId, GoroutineInfo, LEAK_RETRIES, Leaks, leaked};

/// Returns the goroutines of the caller's runtime that are leaked at this moment. As far as goby
/// can tell they are parked forever, because no other goroutine of the runtime can go on by itself
/// (runs, will run, or is freed by a timer or a `blocking` call that ends), and all futures that
/// were [spawned](crate::spawn) there have ended. The caller is not counted.
///
/// This is one look; [`LeakFinder`] repeats it, and [`LeakGuard`](super::LeakGuard) asks for one
/// test alone.
///
/// ```
/// use goby::{Runtime, diag};
///
/// let runtime = Runtime::builder().workers(1).report_leaks(false).build()?;
/// runtime.run(|| {
///     goby::go(|| goby::chan::never::<u32>().recv());
///     // Until it has begun to wait.
///     while diag::leaks().is_empty() {
///         goby::yield_now();
///     }
///     assert_eq!(diag::leaks()[0].status().to_string(), "chan receive (nil chan)");
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn leaks() -> Vec<GoroutineInfo> {
    leaked(&others())
}

/// Returns the goroutines of the caller's runtime that provably never go on, whatever the others
/// do: a partial deadlock. They wait on a nil channel or in a select without cases, or join a
/// goroutine that does.
///
/// It proves no more than that: the holder of the other end may free a goroutine that waits for a
/// channel or a lock, and goby does not know the holder. When all goroutines wait, the runtime
/// itself reports that; see [`DeadlockPolicy`](crate::DeadlockPolicy).
///
/// ```
/// use goby::{Runtime, diag};
///
/// let runtime = Runtime::builder().workers(1).report_leaks(false).build()?;
/// runtime.run(|| {
///     let stuck = goby::go(|| goby::chan::never::<u32>().recv());
///     let joiner = goby::go(move || stuck.join());
///     // Until both have begun to wait.
///     while diag::deadlocked().len() < 2 {
///         goby::yield_now();
///     }
///     assert_eq!(diag::deadlocked()[1].id(), joiner.id());
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn deadlocked() -> Vec<GoroutineInfo> {
    goby_runtime::deadlocked(&goby_runtime::goroutines())
}

/// Returns the goroutines of the caller's runtime except the caller.
fn others() -> Vec<GoroutineInfo> {
    let me = goby_runtime::current_id();
    let mut infos = goby_runtime::goroutines();
    infos.retain(|info| Some(info.id()) != me);
    infos
}

/// Looks for leaked goroutines of the caller's runtime, and gives them time to end.
///
/// ```
/// use goby::{Runtime, diag::LeakFinder};
///
/// let runtime = Runtime::builder().workers(1).report_leaks(false).build()?;
/// runtime.run(|| {
///     goby::go(|| goby::chan::never::<u32>().recv());
///     // What is there already does not count.
///     let finder = LeakFinder::new().ignore_current();
///     goby::go(goby::yield_now);
///     assert!(finder.find().is_ok());
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a finder does nothing until it finds"]
pub struct LeakFinder {
    ignored: HashSet<GoroutineId>,
    retries: u32,
    live_too: bool,
}

impl LeakFinder {
    /// Makes a finder with the defaults: it ignores nothing, retries 20 times, and counts no live
    /// goroutines.
    pub fn new() -> LeakFinder {
        LeakFinder { ignored: HashSet::new(), retries: LEAK_RETRIES, live_too: false }
    }

    /// Ignores the goroutines that the caller's runtime has now. Source: goleak's `IgnoreCurrent`.
    pub fn ignore_current(mut self) -> LeakFinder {
        self.ignored.extend(goby_runtime::goroutines().iter().map(GoroutineInfo::id));
        self
    }

    /// Sets how often it looks again, after 1 µs, 2 µs, 4 µs and so on, at most 100 ms. Default:
    /// 20, which is 0.43 s.
    pub fn retries(mut self, n: u32) -> LeakFinder {
        self.retries = n;
        self
    }

    /// Counts live goroutines too: those that run, and those that a timer can still free. Default:
    /// only stuck ones.
    pub fn live_too(mut self, yes: bool) -> LeakFinder {
        self.live_too = yes;
        self
    }

    /// Looks until nothing is leaked, or the retries are used up.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep: for half a second with the default
    /// retries if there is a leak; two seconds longer if a goroutine is left that runs or is about
    /// to run.
    ///
    /// # Errors
    ///
    /// [`Leaks`], with the goroutines.
    pub fn find(&self) -> Result<(), Leaks> {
        self.find_among(|_| others())
    }

    /// Looks at the goroutines that `family` returns, with stacks or without.
    pub(super) fn find_among(&self, family: impl Fn(bool) -> Vec<GoroutineInfo>) -> Result<(), Leaks> {
        let remaining = |stacks| family(stacks).into_iter().filter(|info| !self.ignored.contains(&info.id())).collect();
        goby_runtime::find_leaks(remaining, self.retries, self.live_too)
    }
}

impl Default for LeakFinder {
    fn default() -> LeakFinder {
        LeakFinder::new()
    }
}
