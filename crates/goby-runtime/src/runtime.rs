//! The runtime as a value, and which one the calling code belongs to. Its configuration is in `builder`, what its workers
//! share, from spawning to shutting down, in `shared`.

mod builder;
mod retired;
mod shared;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr;
use std::sync::OnceLock;
use std::thread;

use crate::dump::Dump;
use crate::family::Family;
use crate::go::JoinHandle;
use crate::goexit::{self, is_goexit};
use crate::inspect::{self, GoroutineInfo, Want};
use crate::park;
use crate::stall::Stall;
use crate::worker::Worker;
use crate::{leak, leak_check, overflow, threads, tsan};

pub use builder::{Builder, DeadlockPolicy, PanicPolicy};
pub(crate) use builder::{MAX_STACK, MIN_STACK};
pub(crate) use shared::Shared;

/// The workers and what they share: a value for tests and for embedding. Programs rarely need one, because the default
/// runtime starts when it is first used.
///
/// Dropping it ends its workers once their running goroutines park or yield, as any of goby's operations may. Goroutines that have
/// not ended then never do: what they own is leaked, whoever joins one waits for ever, their stacks stay mapped, and each worker that
/// has some keeps its thread, whose thread-locals they may have borrowed. Without such goroutines it leaves nothing behind: stacks are unmapped, descriptors closed,
/// threads ended, and a few KiB wait for the next runtime of the same configuration. One that drops its own runtime goes on until it
/// parks, or calls [`yield_now`](crate::yield_now).
///
/// Goroutines that have not begun never run. Their closures are dropped, and those who wait for them are told: a join fails, a scope
/// panics, and so do wait groups and the outputs of patterns; in a group the error [`NeverRan`](crate::NeverRan) stands in their place.
/// What was made in the runtime goes on without it: timers fire and contexts end at their deadlines, by a thread that is there for them; a
/// socket moves to the runtime of whoever waits for it; a blocking call goes on, and its result is lost.
///
/// ```
/// let runtime = goby_runtime::Runtime::builder().workers(2).build()?;
/// assert_eq!(runtime.run(|| goby_runtime::go(|| 6 * 7).join().unwrap()), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Runtime {
    shared: &'static Shared,
}

impl Runtime {
    /// Starts a configuration with the defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs `main` as a goroutine of this runtime and gives its value. Its stack has 8 MiB: see [`Builder::stack_size`].
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
        if !self.shared.report_leaks {
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
        unsafe { self.shared.spawn(f, Location::caller()) }
    }

    pub(crate) fn shared(&self) -> &'static Shared {
        self.shared
    }

    /// Counts the goroutines that have been started and have not ended.
    pub fn num_goroutines(&self) -> usize {
        self.shared.num_goroutines()
    }

    /// Looks at the goroutines of this runtime, one entry each, by their ids.
    ///
    /// See [`goroutines`](crate::goroutines).
    pub fn goroutines(&self) -> Vec<GoroutineInfo> {
        inspect::collect(&[self.shared], Want::ALL).goroutines
    }

    /// Gives the latest stalls, at most 64, the oldest first: see [`Builder::stall_limit`].
    pub fn stalls(&self) -> Vec<Stall> {
        self.shared.stalls.latest()
    }

    /// Gives the panics of goroutines that nobody joined, at most the latest 64, the oldest first: each as the line that was
    /// printed.
    ///
    /// ```
    /// let runtime = goby_runtime::Runtime::builder().workers(1).build()?;
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

    /// Looks at the goroutines of this runtime, as [`dump`](crate::dump) does at those of all.
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
        // By one of its own goroutines, that one would count as well.
        let by_itself = Worker::current().is_some_and(|worker| ptr::eq(worker.shared, self.shared));
        let is_checked = self.shared.leaks_are_fatal && !by_itself && !thread::panicking();
        let checked = if is_checked { leak_check::check(&[self.shared]) } else { Ok(()) };
        self.shared.shut_down();
        if let Err(leaks) = checked {
            panic!("{leaks}");
        }
    }
}

/// Runs `main` as the first goroutine of the default runtime and gives its value.
///
/// The goroutines that `main` leaves behind go on until the process ends, which is when Rust's `main` returns. The stack of
/// this one has 8 MiB, those of others what [`Builder::stack_size`] says.
///
/// ```
/// assert_eq!(goby_runtime::run(|| 6 * 7), 42);
/// ```
///
/// The result goes from a worker's thread to the caller's, so it is [`Send`]: an `Rc` in it could have a twin in a thread-local of that
/// worker. The attribute `#[goby::main]` reports a result where it was made, so there it need not be.
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
    // SAFETY: we wait for its end here, whatever happens, and take the result.
    let handle = unsafe { shared.spawn_main(main, at) };
    match threads::as_host(|| handle.join()) {
        Ok(value) => value,
        Err(payload) if is_goexit(&*payload) => {
            shared.note_main_exit();
            goexit::wait_for_ever()
        }
        Err(failed) => panic::resume_unwind(failed.into_payload()),
    }
}

/// Counts the goroutines of the current runtime that have been started and have not ended: the caller is one of them,
/// if it is one. Source: Go's `runtime.NumGoroutine`.
///
/// ```
/// let runtime = goby_runtime::Runtime::builder().workers(1).build()?;
/// assert_eq!(runtime.run(goby_runtime::num_goroutines), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn num_goroutines() -> usize {
    park::polled();
    current_shared().num_goroutines()
}

fn spawn_own(name: String, f: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(move || {
        let _own = threads::OwnThread::enter();
        let _stack = overflow::SignalStack::enter();
        if panic::catch_unwind(AssertUnwindSafe(f)).is_err() {
            crate::goroutine::report(format_args!("a panic inside the runtime; this is a bug in goby"));
            std::process::abort();
        }
    })
}

/// Starts a thread that counts as goby's own: it unparks nobody, so it is no hope for goroutines that are deadlocked.
pub fn spawn_own_thread(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<()> {
    spawn_own(name.into(), f).map(drop)
}

/// Runs `f` on a thread that counts as goby's own, and waits for it; none where there is no thread to be had.
pub(crate) fn run_on_own_thread<R: Send + 'static>(name: &str, f: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let (give, given) = std::sync::mpsc::sync_channel(1);
    spawn_own_thread(name, move || _ = give.send(f())).ok()?;
    given.recv().ok()
}

thread_local! {
    /// The runtime of a helper thread's caller.
    static ENTERED: Cell<Option<&'static Shared>> = const { Cell::new(None) };
}

/// Runs `f` on this thread as part of a runtime.
pub(crate) fn with_shared<R>(shared: &'static Shared, f: impl FnOnce() -> R) -> R {
    let before = ENTERED.replace(Some(shared));
    let result = f();
    ENTERED.set(before);
    result
}

/// The runtime that the calling code belongs to; the default one where there is none.
#[inline]
pub(crate) fn current_shared() -> &'static Shared {
    match Worker::current() {
        Some(worker) => worker.shared,
        None => ENTERED.try_with(Cell::get).ok().flatten().unwrap_or_else(default_shared),
    }
}

/// The default runtime, started now if it was not.
pub(crate) fn default_shared() -> &'static Shared {
    static DEFAULT: OnceLock<&'static Shared> = OnceLock::new();
    // ThreadSanitizer cannot see the edge inside std's cell.
    let _ignore = tsan::ignore();
    DEFAULT.get_or_init(|| match Shared::start(Runtime::builder()) {
        Ok(shared) => shared,
        Err(error) => panic!("goby's default runtime could not be started: {error}"),
    })
}
