//! The runtime as a value: its configuration, its workers and what they share.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use goby_switch::FiberTag;
use parking_lot::{Condvar, Mutex};

use crate::attributes::{self, Inherited};
use crate::blocking::Helpers;
use crate::deadlock::Verdict;
use crate::ending::Ending;
use crate::family::Family;
use crate::go::JoinHandle;
use crate::goexit::{self, is_goexit};
use crate::goroutine::{self, Birth, Goroutine, GoroutineId};
use crate::idle::Idle;
use crate::inspect::{self, GoroutineInfo, Want};
use crate::lock::Lock;
use crate::monitor::Monitor;
use crate::park::Wait;
use crate::run_queue::{Fresh, FreshQueue};
use crate::stack::{self, Exhausted, Pool};
use crate::stall::{self, Stall, Stalls};
use crate::try_run::Watchers;
use crate::worker::{Remote, Worker};
use crate::{biased, deadlock, leak, leak_check, overflow, tsan};

/// Address space of a stack, guard page included.
const DEFAULT_STACK: usize = 256 * 1024;
/// A stack has to hold a signal frame, a panic and `println!`.
const MIN_STACK: usize = 16 * 1024;
const MAX_STACK: usize = 1 << 30;
/// Workers beyond this would not be told apart by anybody's workload.
const MAX_WORKERS: usize = 1024;
/// Workers added for threads that are stuck in the kernel, at the most.
const MAX_SPARES: usize = 64;

/// What happens when a goroutine panics and nobody joins it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// Its id, where it was started and its message are printed; the others go on.
    #[default]
    Print,
    /// The same, and the process aborts.
    Abort,
}

/// What happens when no goroutine can ever run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadlockPolicy {
    /// The process ends with exit code 2 after "fatal error: all goroutines are asleep - deadlock!" and a list of the
    /// goroutines. Go's behaviour. A thread that waits alone, `main` say, is no goroutine, and brings no verdict:
    /// [`run`] makes `main` the first goroutine.
    #[default]
    Exit,
    /// Nothing; whoever waits goes on waiting.
    Ignore,
}

/// The workers and what they share: a value for tests and for embedding. Programs rarely need one, because the default
/// runtime starts when it is first used.
///
/// Dropping it ends its workers once their running goroutines park or yield. Goroutines that have not ended then never
/// do: what they own is leaked.
///
/// ```
/// let runtime = goby_runtime::Runtime::builder().workers(2).build()?;
/// assert_eq!(runtime.run(|| goby_runtime::go(|| 6 * 7).join().unwrap()), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Runtime {
    shared: &'static Shared,
}

/// Configures a [`Runtime`]. Everything is checked by [`build`](Builder::build).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    workers: Option<usize>,
    stack_size: usize,
    max_stacks: usize,
    max_goroutines: Option<usize>,
    thread_name: String,
    panic_policy: PanicPolicy,
    deadlock_policy: DeadlockPolicy,
    report_leaks: Option<bool>,
    stall_limit: Option<Duration>,
}

impl Builder {
    /// Sets the number of workers. Default: `GOBY_MAXPROCS` from the environment, else the processors that this
    /// process may use (its affinity and the tightest CPU limit of its cgroups).
    pub fn workers(mut self, n: usize) -> Builder {
        self.workers = Some(n);
        self
    }

    /// Sets the size of a goroutine's stack in bytes of address space, rounded up to whole pages; one page is the
    /// guard. Memory is used as it is touched. Default: 256 KiB.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = bytes;
        self
    }

    /// Sets how many stacks there may be; goroutines beyond that start when another has ended. Default: as many as the
    /// system gives.
    #[doc(hidden)]
    pub fn max_stacks(mut self, n: usize) -> Builder {
        self.max_stacks = n;
        self
    }

    /// Sets how many goroutines there may be before [`try_go`](crate::try_go) refuses. `go` is not limited.
    /// Default: no limit.
    pub fn max_goroutines(mut self, n: usize) -> Builder {
        self.max_goroutines = Some(n);
        self
    }

    /// Sets the name of the workers' threads; a number is appended. Default: "goby-worker".
    pub fn thread_name(mut self, name: impl Into<String>) -> Builder {
        self.thread_name = name.into();
        self
    }

    /// Sets what happens when a goroutine panics and nobody joins it. Default: [`PanicPolicy::Print`].
    pub fn on_panic(mut self, policy: PanicPolicy) -> Builder {
        self.panic_policy = policy;
        self
    }

    /// Sets what happens when no goroutine can ever run again. Default: [`DeadlockPolicy::Exit`].
    pub fn on_deadlock(mut self, policy: DeadlockPolicy) -> Builder {
        self.deadlock_policy = policy;
        self
    }

    /// Sets whether [`Runtime::run`] looks for goroutines that its main has left behind for good, and prints them to the
    /// standard error: as `goby::diag::leaks` does. It gives them half a second to end. Default: no.
    ///
    /// With `GOBY_LEAKS=fatal` in the environment every runtime is looked at, when it ends, but those for which this says
    /// no: dropping one with goroutines leaked then panics.
    pub fn report_leaks(mut self, yes: bool) -> Builder {
        self.report_leaks = Some(yes);
        self
    }

    /// Sets how long a goroutine may keep its worker from the others before it is reported with its stack, as a warning
    /// of `tracing` and by [`Runtime::stalls`]; none for never. The stack is taken by a signal (SIGURG) to the worker's
    /// thread, once a stall. Default: 100 ms.
    pub fn stall_limit(mut self, limit: impl Into<Option<Duration>>) -> Builder {
        self.stall_limit = limit.into();
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a value out of range, naming it; otherwise what the system says when threads or pollers
    /// cannot be had.
    pub fn build(self) -> io::Result<Runtime> {
        Ok(Runtime { shared: Shared::start(self)? })
    }

    fn check(&self) -> Result<(), String> {
        if let Some(n) = self.workers
            && !(1..=MAX_WORKERS).contains(&n)
        {
            return Err(format!("workers: {n} is not between 1 and {MAX_WORKERS}"));
        }
        if !(MIN_STACK..=MAX_STACK).contains(&self.stack_size) {
            return Err(format!("stack_size: {} is not between {MIN_STACK} and {MAX_STACK} bytes", self.stack_size));
        }
        if self.max_stacks == 0 {
            return Err("max_stacks: without a stack no goroutine can run".into());
        }
        if self.thread_name.contains('\0') {
            return Err(format!("thread_name: {:?} contains a zero byte", self.thread_name));
        }
        Ok(())
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Runtime::builder()
    }
}

impl Runtime {
    /// Starts a configuration with the defaults.
    pub fn builder() -> Builder {
        Builder {
            workers: None,
            stack_size: DEFAULT_STACK,
            max_stacks: usize::MAX,
            max_goroutines: None,
            thread_name: "goby-worker".into(),
            panic_policy: PanicPolicy::default(),
            deadlock_policy: DeadlockPolicy::default(),
            report_leaks: None,
            stall_limit: Some(stall::LIMIT),
        }
    }

    /// Runs `main` as a goroutine of this runtime and gives its value.
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
/// The goroutines that `main` leaves behind go on until the process ends, which is when Rust's `main` returns.
///
/// ```
/// assert_eq!(goby_runtime::run(|| 6 * 7), 42);
/// ```
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
    let handle = unsafe { shared.spawn(main, at) };
    match handle.join() {
        Ok(value) => value,
        Err(payload) if is_goexit(&*payload) => {
            shared.note_main_exit();
            goexit::wait_for_ever()
        }
        Err(payload) => panic::resume_unwind(payload),
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
    current_shared().num_goroutines()
}

fn spawn_own(name: String, f: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(move || {
        let _own = deadlock::OwnThread::enter();
        overflow::use_signal_stack();
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

/// The number of workers where nobody says it.
fn default_workers() -> io::Result<usize> {
    match std::env::var("GOBY_MAXPROCS") {
        Ok(text) => match text.parse() {
            Ok(n) if (1..=MAX_WORKERS).contains(&n) => Ok(n),
            _ => Err(invalid(format!(
                "GOBY_MAXPROCS={text:?} is no number between 1 and {MAX_WORKERS}: change or unset it"
            ))),
        },
        Err(_) => Ok(thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS)),
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// What the workers of a runtime share. It lives for ever: parked goroutines, timers and sockets point to it.
pub(crate) struct Shared {
    remotes: Box<[OnceLock<&'static Remote>]>,
    n_workers: AtomicUsize,
    /// Workers that were asked for; those beyond are spares.
    pub(crate) n_wanted: usize,
    pub(crate) idle: Idle,
    /// Goroutines and futures from outside the workers.
    pub(crate) inject: FreshQueue,
    pub(crate) pool: Pool,
    starved: Lock<Starved>,
    n_starved: AtomicUsize,
    pub(crate) helpers: Helpers,
    pub(crate) monitor: Monitor,
    spawned_outside: AtomicU64,
    /// Futures that have not ended.
    pub(crate) n_tasks: AtomicUsize,
    max_goroutines: Option<usize>,
    /// A main goroutine has ended by `goexit`.
    main_exited: AtomicBool,
    /// Who wants to be told of a deadlock.
    pub(crate) watchers: Watchers,
    /// Goroutines in existence; counted only where there is a limit.
    limited: AtomicUsize,
    shut_down: AtomicBool,
    next_remote: AtomicUsize,
    monitor_thread: Mutex<Option<thread::JoinHandle<()>>>,
    /// Workers that have stopped.
    exited: Mutex<usize>,
    exit: Condvar,
    pub(crate) thread_name: String,
    pub(crate) panic_policy: PanicPolicy,
    pub(crate) deadlock_policy: DeadlockPolicy,
    report_leaks: bool,
    leaks_are_fatal: bool,
    pub(crate) stall_limit: Option<Duration>,
    pub(crate) stalls: Stalls,
}

/// Goroutines that wait for a stack, and why there is none.
#[derive(Default)]
struct Starved {
    queue: VecDeque<Fresh>,
    why: Option<Exhausted>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("thread_name", &self.thread_name).finish_non_exhaustive()
    }
}

impl Shared {
    fn start(builder: Builder) -> io::Result<&'static Shared> {
        builder.check().map_err(invalid)?;
        let n = match builder.workers {
            Some(n) => n,
            None => default_workers()?,
        };
        let stack_size = builder.stack_size.next_multiple_of(stack::PAGE);
        let leaks_are_fatal = leak_check::is_asked_for()? && builder.report_leaks != Some(false);
        overflow::install_handler();
        // Before there are workers: in a process of several threads the kernel takes some 10 ms to say so, once.
        biased::fences_are_there();
        let shared: &'static Shared = Box::leak(Box::new(Shared {
            remotes: (0..n + MAX_SPARES).map(|_| OnceLock::new()).collect(),
            n_workers: AtomicUsize::new(0),
            n_wanted: n,
            idle: Idle::new(),
            inject: FreshQueue::new(),
            pool: Pool::new(stack_size, builder.max_stacks),
            starved: Lock::new(Starved::default()),
            n_starved: AtomicUsize::new(0),
            helpers: Helpers::new(),
            monitor: Monitor::new(),
            spawned_outside: AtomicU64::new(0),
            n_tasks: AtomicUsize::new(0),
            max_goroutines: builder.max_goroutines,
            main_exited: AtomicBool::new(false),
            watchers: Watchers::default(),
            limited: AtomicUsize::new(0),
            shut_down: AtomicBool::new(false),
            next_remote: AtomicUsize::new(0),
            monitor_thread: Mutex::new(None),
            exited: Mutex::new(0),
            exit: Condvar::new(),
            thread_name: builder.thread_name,
            panic_policy: builder.panic_policy,
            deadlock_policy: builder.deadlock_policy,
            report_leaks: builder.report_leaks == Some(true),
            leaks_are_fatal,
            stall_limit: builder.stall_limit,
            stalls: Stalls::default(),
        }));
        deadlock::register(shared);
        let started = (0..n).try_for_each(|_| shared.add_worker()).and_then(|()| {
            let monitor = shared.spawn_thread("goby-monitor".into(), move || shared.monitor.run(shared))?;
            *shared.monitor_thread.lock() = Some(monitor);
            Ok(())
        });
        if let Err(error) = started {
            shared.shut_down();
            return Err(error);
        }
        Ok(shared)
    }

    /// Starts one more worker.
    pub(crate) fn add_worker(&'static self) -> io::Result<()> {
        let index = self.n_workers.load(Ordering::Acquire);
        let Some(place) = self.remotes.get(index) else {
            return Err(io::Error::other("no room for a further spare worker"));
        };
        // One thread at a time adds workers. A place that is filled already is left from a thread that did not start.
        let remote = match place.get() {
            Some(remote) => *remote,
            None => {
                let remote: &'static Remote = Box::leak(Box::new(Remote::new(index, self)?));
                place.get_or_init(|| remote)
            }
        };
        let name = format!("{}-{index}", self.thread_name);
        // Not joined: see `note_exit`.
        drop(self.spawn_thread(name, move || Worker::run(remote))?);
        // Release pairs with the Acquire in `n_workers`: the place is filled.
        self.n_workers.store(index + 1, Ordering::Release);
        Ok(())
    }

    /// Starts a thread of the runtime's own. A panic in it is a bug of goby's.
    pub(crate) fn spawn_thread(
        &self,
        name: String,
        f: impl FnOnce() + Send + 'static,
    ) -> io::Result<thread::JoinHandle<()>> {
        spawn_own(name, f)
    }

    #[inline]
    pub(crate) fn n_workers(&self) -> usize {
        // Acquire pairs with the Release in `add_worker`.
        self.n_workers.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn remote(&self, index: usize) -> &'static Remote {
        self.remotes[index].get().expect("workers below the count are there")
    }

    pub(crate) fn remotes(&self) -> impl Iterator<Item = &'static Remote> + '_ {
        (0..self.n_workers()).map(|i| self.remote(i))
    }

    /// Some worker, each in turn, for what belongs to none.
    pub(crate) fn any_remote(&self) -> &'static Remote {
        self.remote(self.next_remote.fetch_add(1, Ordering::Relaxed) % self.n_workers())
    }

    // Spawning.

    /// Starts a goroutine.
    ///
    /// # Safety
    ///
    /// What `f` and its result borrow lives until the goroutine has ended and its result is gone.
    #[inline]
    pub(crate) unsafe fn spawn<F, T>(&'static self, f: F, at: &'static Location<'static>) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // SAFETY: by contract.
        unsafe { self.spawn_with(f, at, attributes::to_inherit, None) }
    }

    /// Starts a goroutine that nobody joins.
    ///
    /// # Safety
    ///
    /// As for [`spawn`](Shared::spawn).
    #[inline]
    pub(crate) unsafe fn spawn_detached<F>(&'static self, f: F, at: &'static Location<'static>)
    where
        F: FnOnce() + Send,
    {
        // SAFETY: by contract.
        unsafe { self.launch(f, at, Ending::detached(), attributes::to_inherit, None) };
    }

    /// Starts a goroutine, saying what it inherits from the goroutine that starts it, and its name.
    ///
    /// # Safety
    ///
    /// As for [`spawn`](Shared::spawn).
    #[inline]
    pub(crate) unsafe fn spawn_with<F, T>(
        &'static self,
        f: F,
        at: &'static Location<'static>,
        inherit: impl FnOnce(Option<&Worker>) -> Option<Arc<Inherited>>,
        name: Option<Arc<str>>,
    ) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // SAFETY: by contract.
        JoinHandle::new(unsafe { self.launch(f, at, Ending::joined(), inherit, name) })
    }

    /// Starts a goroutine; gives its record to make a handle of, unless it is [`Ending::detached`]: then it
    /// may be gone already.
    ///
    /// # Safety
    ///
    /// As for [`spawn`](Shared::spawn).
    #[inline]
    unsafe fn launch<F, T>(
        &'static self,
        f: F,
        at: &'static Location<'static>,
        ending: Ending<Wait>,
        inherit: impl FnOnce(Option<&Worker>) -> Option<Arc<Inherited>>,
        name: Option<Arc<str>>,
    ) -> NonNull<Goroutine>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // The spawn edge is made with the spawner's accesses counted.
        let tag = FiberTag::create();
        let _ignore = tsan::ignore();
        if self.max_goroutines.is_some() {
            self.limited.fetch_add(1, Ordering::Relaxed);
        }
        let worker = Worker::current();
        let parent = worker.and_then(Worker::running).map_or(0, |g| g.id.as_u64());
        let inherited = inherit(worker);
        let birth = |id| Birth { id, runtime: self, spawned_at: at, tag, ending, parent, inherited, name };
        match worker {
            Some(worker) if ptr::eq(worker.shared, self) => {
                // SAFETY: by contract.
                let g = unsafe { goroutine::create(f, birth(worker.next_id()), Some(&worker.slab)) };
                worker.spawn(g);
                g
            }
            _ => {
                // SAFETY: by contract.
                let g = unsafe { goroutine::create(f, birth(GoroutineId::reserve(1)), None) };
                self.spawned_outside.fetch_add(1, Ordering::SeqCst);
                self.inject(Fresh::Goroutine(g));
                g
            }
        }
    }

    /// Whether `try_go` may start a goroutine. It may be wrong by as many as ask at the same time.
    pub(crate) fn has_room(&self) -> bool {
        self.max_goroutines.is_none_or(|max| self.limited.load(Ordering::Relaxed) < max)
    }

    pub(crate) fn max_goroutines(&self) -> Option<usize> {
        self.max_goroutines
    }

    #[inline]
    pub(crate) fn note_end(&self) {
        if self.max_goroutines.is_some() {
            self.limited.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Queues something that any worker may begin, from outside the workers.
    pub(crate) fn inject(&'static self, item: Fresh) {
        if self.is_shut_down() {
            return never_run(item);
        }
        self.inject.push(item);
        self.idle.post();
        if self.is_shut_down() {
            // Nobody may be left to take it; whoever drains last finds the queue empty.
            self.drain();
        }
    }

    pub(crate) fn num_goroutines(&self) -> usize {
        // Ends first: a goroutine that is counted as ended has been counted as started.
        let ended = self.n_ended();
        usize::try_from(self.n_spawned().saturating_sub(ended)).unwrap_or(0)
    }

    pub(crate) fn n_spawned(&self) -> u64 {
        let inside: u64 = self.remotes().map(|r| r.spawned.load(Ordering::Acquire)).sum();
        inside + self.spawned_outside.load(Ordering::SeqCst)
    }

    pub(crate) fn n_ended(&self) -> u64 {
        self.remotes().map(|r| r.ended.load(Ordering::Acquire)).sum()
    }

    // Stacks that cannot be had.

    /// Keeps a goroutine that got no stack until one is free.
    #[cold]
    pub(crate) fn starve(&self, g: NonNull<Goroutine>, why: Exhausted) {
        let mut starved = self.starved.lock();
        starved.queue.push_back(Fresh::Goroutine(g));
        starved.why = Some(why);
        self.n_starved.store(starved.queue.len(), Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn has_starved(&self) -> bool {
        self.n_starved.load(Ordering::Relaxed) != 0
    }

    /// Queues one starved goroutine again: a stack has just become free.
    #[cold]
    pub(crate) fn feed_starved(&self, remote: &Remote) {
        let item = {
            let mut starved = self.starved.lock();
            let item = starved.queue.pop_front();
            self.n_starved.store(starved.queue.len(), Ordering::SeqCst);
            item
        };
        if let Some(item) = item {
            remote.fresh.push(item);
        }
    }

    /// Calls `f` with every unstarted goroutine that is in no worker's queue.
    pub(crate) fn for_each_homeless(&self, mut f: impl FnMut(&Fresh)) {
        self.inject.for_each(&mut f);
        self.starved.lock().queue.iter().for_each(f);
    }

    /// How many goroutines wait for a stack, and why they get none.
    pub(crate) fn starvation(&self) -> Option<(usize, String)> {
        let starved = self.starved.lock();
        let n = starved.queue.len();
        if n == 0 {
            return None;
        }
        let why = match &starved.why {
            Some(Exhausted::Limit(limit)) => {
                format!("the limit of {limit} stacks is reached: raise max_stacks of the builder")
            }
            Some(Exhausted::System(error)) if stack::guards_cost_mappings() => format!(
                "no further stack can be mapped ({error}): each costs two mappings on this kernel, so raise the limit \
                 with 'sysctl vm.max_map_count=N' (twice the number of goroutines and some)"
            ),
            Some(Exhausted::System(error)) => format!(
                "no further stack can be mapped ({error}): raise the limit on address space ('ulimit -v') or memory, \
                 or use a smaller stack_size of the builder (now {} KiB)",
                self.pool.stack_size() / 1024
            ),
            None => "unknown".into(),
        };
        Some((n, why))
    }

    // Sleeping and ending.

    /// The recheck before a worker sleeps: is there anything that it could take?
    pub(crate) fn has_shareable_work(&self, own: &Remote) -> bool {
        self.is_shut_down()
            || self.inject.len() > 0
            || own.fresh.len() > 0
            || own.requests.are_pending()
            || self.remotes().any(|r| r.fresh.len() > 1)
            || (self.has_starved() && self.pool.has_free())
    }

    #[inline]
    pub(crate) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Relaxed)
    }

    fn shut_down(&'static self) {
        deadlock::forget(self);
        // SeqCst: `inject` and the workers' rechecks are ordered against it.
        self.shut_down.store(true, Ordering::SeqCst);
        for remote in self.remotes() {
            remote.notify();
        }
        self.monitor.wake();
        self.helpers.shut_down();
        if Worker::current().is_some_and(|worker| ptr::eq(worker.shared, self)) {
            // Dropped by one of its own goroutines: the rest has to wait until that has ended.
            let name = format!("{}-shutdown", self.thread_name);
            if let Err(error) = self.spawn_thread(name, || self.finish_shut_down()) {
                tracing::warn!("goby: a runtime that was dropped by its own goroutine is not cleaned up: {error}");
            }
        } else {
            self.finish_shut_down();
        }
    }

    /// Waits until the workers have stopped, and cleans up behind them.
    fn finish_shut_down(&self) {
        // The monitor first: it may be adding a worker.
        let monitor = self.monitor_thread.lock().take();
        if let Some(monitor) = monitor {
            let _ = monitor.join();
        }
        {
            let n = self.n_workers();
            let mut exited = self.exited.lock();
            while *exited < n {
                self.exit.wait(&mut exited);
            }
        }
        for remote in self.remotes() {
            // SAFETY: its worker has stopped, so nobody waits.
            unsafe { remote.poller.close() };
        }
        self.drain();
        // The memory of free stacks goes back now. Twice: what was given back last counts as unwanted the second time.
        let _ = self.pool.trim() || self.pool.trim();
    }

    /// Says that a worker has stopped. Its thread may stay, see `Worker::run`.
    pub(crate) fn note_exit(&self) {
        *self.exited.lock() += 1;
        self.exit.notify_all();
    }

    /// Ends what never ran.
    fn drain(&self) {
        let starved = std::mem::take(&mut self.starved.lock().queue);
        let queues = self.remotes().map(|r| r.fresh.drain()).chain([self.inject.drain(), starved]);
        for item in queues.flatten().collect::<Vec<_>>() {
            never_run(item);
        }
    }

    pub(crate) fn leaks_are_fatal(&self) -> bool {
        self.leaks_are_fatal
    }

    pub(crate) fn note_main_exit(&self) {
        self.main_exited.store(true, Ordering::SeqCst);
    }

    pub(crate) fn main_exited(&self) -> bool {
        self.main_exited.load(Ordering::SeqCst)
    }

    /// Whether nothing inside the runtime can ever make a goroutine runnable again.
    pub(crate) fn is_stuck(&self) -> Verdict {
        deadlock::check(self)
    }
}

fn never_run(item: Fresh) {
    match item {
        // SAFETY: it came out of a queue, so it is unstarted and in none.
        Fresh::Goroutine(g) => unsafe { goroutine::never_run(g) },
        // Dropping it cancels the future, whose destructor is the user's code: the others are ended whatever that does.
        Fresh::Future(runnable) => {
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(runnable))) {
                goroutine::report(format_args!(
                    "a future panicked when its runtime was shut down: {}",
                    goroutine::payload_text(&*payload)
                ));
                std::mem::forget(payload);
            }
        }
    }
}
