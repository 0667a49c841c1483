//! The runtime as a value. Its configuration is in `builder`. What its workers share, from spawning
//! to shutting down, is in `shared`.

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{self, Location};
use std::ptr;
use std::thread;

use crate::builder::Builder;
use crate::engine::birth::{Birth, Joined};
use crate::engine::current::current_shared;
use crate::engine::go::JoinHandle;
use crate::engine::goexit::is_goexit;
use crate::engine::shared::Shared;
use crate::engine::worker::Worker;
use crate::engine::{checkpoint, goexit, threads};
use crate::look::Look;
use crate::look::dump::Dump;
use crate::look::family::Family;
use crate::look::inspect::{GoroutineInfo, Want};
use crate::look::sample::Running;
use crate::look::stall::Stall;
use crate::look::{inspect, leak, leak_check, sample};

/// The workers and what they share: a value for tests and for embedding. Programs rarely need one,
/// because the default runtime starts when it is first used.
///
/// Dropping it ends its workers once their running goroutines park or yield, as any of goby's
/// operations may. Goroutines that have not ended by then never end: their values are leaked, a
/// join of one waits forever, and their stacks stay mapped. Each worker that has such goroutines
/// keeps its thread, since they may have borrowed its thread-locals. Without such goroutines the
/// runtime leaves nothing behind: stacks are unmapped, descriptors closed, threads ended, and a few
/// KiB wait for the next runtime of the same configuration. A goroutine that drops its own runtime
/// goes on until it parks, or calls [`yield_now`](crate::yield_now).
///
/// Unstarted goroutines never run. Their closures are dropped, and their waiters are told: a join
/// fails, a scope panics, and so do wait groups and the outputs of patterns; in a group the error
/// [`NeverRan`](crate::NeverRan) stands in their place. Things that were made in the runtime go on
/// without it: a thread that exists for this fires timers, and ends contexts at their deadlines; a
/// socket moves to the runtime of the goroutine that waits for it; a blocking call goes on, and its
/// result is lost.
///
/// ```
/// let runtime = goby::Runtime::builder().workers(2).build()?;
/// assert_eq!(runtime.run(|| goby::go(|| 6 * 7).join().unwrap()), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Runtime {
    pub(crate) shared: &'static Shared,
}

impl Runtime {
    /// Starts a configuration with the defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs `main` as a goroutine of this runtime, and returns its value. Its stack has 8 MiB: see
    /// [`Builder::stack_size`].
    ///
    /// # Blocking
    ///
    /// Until `main` has returned; other goroutines may go on afterwards.
    ///
    /// # Panics
    ///
    /// As `main` does.
    #[track_caller]
    pub fn run<T: Send>(&self, main: impl FnOnce() -> T + Send) -> T {
        let at = Location::caller();
        if !self.shared.settings.report_leaks {
            return run_on(self.shared, main, at);
        }
        let family = Family::new();
        let value = run_on(self.shared, main, at);
        if let Err(leaks) = leak::find_leaks(|stacks| family.look(stacks), leak::LEAK_RETRIES, false) {
            eprintln!("goby: {leaks}");
        }
        value
    }

    /// Starts a goroutine of this runtime, from anywhere.
    #[track_caller]
    pub fn go<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: `F` and `T` borrow nothing.
        unsafe { Birth::<Joined>::at(Location::caller()).start(self.shared, f) }
    }

    pub(crate) fn shared(&self) -> &'static Shared {
        self.shared
    }

    /// Counts the goroutines that have been started and have not ended.
    pub fn num_goroutines(&self) -> usize {
        self.shared.num_goroutines()
    }

    /// Looks at the goroutines of this runtime. Returns one entry per goroutine, sorted by id.
    ///
    /// See [`goroutines`](crate::goroutines).
    pub fn goroutines(&self) -> Vec<GoroutineInfo> {
        inspect::collect(&[self.shared], Want::ALL).goroutines
    }

    /// Returns the latest stalls, at most 64, the oldest first: see [`Builder::stall_limit`].
    pub fn stalls(&self) -> Vec<Stall> {
        Look::of(self.shared).stalls.latest()
    }

    /// Returns the panics of goroutines that nobody joined, at most the latest 64, the oldest
    /// first: each as the line that was printed.
    ///
    /// ```
    /// let runtime = goby::Runtime::builder().workers(1).build()?;
    /// drop(runtime.go(|| panic!("nobody joins me")));
    /// while runtime.unjoined_panics().is_empty() {
    ///     std::thread::yield_now();
    /// }
    /// assert!(runtime.unjoined_panics()[0].ends_with("panicked and nobody joined it: nobody joins me"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn unjoined_panics(&self) -> Vec<String> {
        self.shared.unjoined.latest()
    }

    /// Looks at the goroutines of this runtime, as [`dump`](crate::dump) does at those of all
    /// runtimes.
    pub fn dump(&self) -> Dump {
        Dump::of(inspect::collect(&[self.shared], Want::ALL))
    }

    /// Counts the workers, spare ones included.
    pub fn num_workers(&self) -> usize {
        self.shared.n_workers()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("workers", &self.num_workers())
            .field("goroutines", &self.num_goroutines())
            .finish_non_exhaustive()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // No check if one of its own goroutines drops it: that one would count as a leak, too.
        let by_itself = Worker::current().is_some_and(|worker| ptr::eq(worker.shared, self.shared));
        let is_checked = self.shared.settings.leaks_are_fatal && !by_itself && !thread::panicking();
        let checked = if is_checked { leak_check::check(&[self.shared]) } else { Ok(()) };
        self.shared.shut_down();
        if let Err(leaks) = checked {
            panic!("{leaks}");
        }
    }
}

/// Runs `main` as the first goroutine of the default runtime, and returns its value.
///
/// The goroutines that `main` leaves behind go on until the process ends, which is when Rust's
/// `main` returns. The stack of this goroutine has 8 MiB; those of others have the size that
/// [`Builder::stack_size`] says.
///
/// ```
/// assert_eq!(goby::run(|| 6 * 7), 42);
/// ```
///
/// The result goes from a worker's thread to the caller's, so it is [`Send`]: an `Rc` in it could
/// have a clone in a thread-local of that worker. The attribute `#[goby::main]` reports a result on
/// the thread where it was made, so there it need not be `Send`.
///
/// # Blocking
///
/// Until `main` has returned.
///
/// # Panics
///
/// As `main` does.
#[track_caller]
pub fn run<T: Send>(main: impl FnOnce() -> T + Send) -> T {
    run_on(current_shared(), main, Location::caller())
}

fn run_on<T: Send>(shared: &'static Shared, main: impl FnOnce() -> T + Send, at: &'static Location<'static>) -> T {
    // SAFETY: this function always waits for the goroutine's end, and takes the result.
    let handle = unsafe { Birth::<Joined>::at(at).on_main_stack(shared).start(shared, main) };
    match threads::as_host(|| handle.join()) {
        Ok(value) => value,
        Err(payload) if is_goexit(&*payload) => {
            shared.note_main_exit();
            goexit::wait_for_ever()
        }
        Err(failed) => panic::resume_unwind(failed.into_payload()),
    }
}

/// Counts the goroutines of the current runtime that have been started and have not ended. A
/// calling goroutine is one of them. Source: Go's `runtime.NumGoroutine`.
///
/// ```
/// let runtime = goby::Runtime::builder().workers(1).build()?;
/// assert_eq!(runtime.run(goby::num_goroutines), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn num_goroutines() -> usize {
    checkpoint::polled();
    current_shared().num_goroutines()
}

/// Interrupts every worker of a runtime: for tests of the interruption itself.
#[doc(hidden)]
pub fn sample_all(runtime: &Runtime) -> Vec<GoroutineInfo> {
    runtime.shared.remotes().filter_map(sample::running).filter_map(Running::goroutine).collect()
}

/// Starts the default runtime.
pub(crate) fn start_default() -> &'static Shared {
    match Runtime::builder().build() {
        Ok(runtime) => ManuallyDrop::new(runtime).shared,
        Err(error) => {
            let lacks_descriptors = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
            let advice = if lacks_descriptors { "; see ulimit -n" } else { "" };
            panic!("goby's default runtime could not be started: {error}{advice}")
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_a_worker_was_asked_too_late_the_next_one_looks_for() {
        let runtime = Builder::default().workers(1).thread_name("asked-late").build().unwrap();
        let shared = runtime.shared;
        runtime.run(|| ());
        drop(runtime);
        let found = inspect::collect(&[shared], Want::ALL);
        assert!(found.goroutines.is_empty() && found.silent.is_empty());
        let remote = shared.remote(0);
        assert!(remote.mail.requests.are_pending(), "nobody is there to answer");
        remote.reset();
        assert!(remote.orders.slice_over.load(Ordering::Relaxed));
    }
}
