//! The OS threads of the process, as far as goby knows them: its own, and those that wait in goby
//! without a deadline.
//!
//! The deadlock detector asks for them. Neither kind can by itself unpark a waiter. Goby's own
//! threads run goroutines and calls, and the detector looks at those directly. A thread that waits
//! goes on only when another thread unparks it. Every other thread may unpark a waiter. The list of
//! threads is read from `/proc`, by number, so one can also ask which threads have come since some
//! moment.
//!
//! A wait costs two stores here. [`changes`] goes up *after* a wait begins and *before* a wait
//! ends. So if the count is the same before and after a look at several threads, the look is true
//! for one instant.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use crate::base::report::report;
use crate::base::stack_trace::{Names, StackTrace};
use crate::base::unseen::UnseenMutex;
use crate::engine::overflow;
use crate::engine::parker::Parker;
use crate::engine::runtimes;
use crate::engine::wait_reason::WaitReason;

/// The number of a thread, as the kernel counts them.
pub(crate) type ThreadId = i32;

/// Threads of goby's runtimes.
static OWN: UnseenMutex<Vec<ThreadId>> = UnseenMutex::new(Vec::new());
/// All parkers: one per thread that has ever waited in goby.
static PARKERS: UnseenMutex<Vec<Weak<Parker>>> = UnseenMutex::new(Vec::new());
/// Counts begins and ends of waits.
static CHANGES: AtomicUsize = AtomicUsize::new(0);
/// Signals, one bit each, whose handlers do no more for a waiter than the default action does.
static IDLE_HANDLERS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The thread belongs to a runtime, and is counted so.
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
    /// The thread waits for the goroutine that stands for it in reports.
    static IS_HOST: Cell<bool> = const { Cell::new(false) };
}

fn this_thread() -> ThreadId {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }
}

/// Returns whether the calling thread belongs to a runtime.
pub(crate) fn is_own() -> bool {
    IS_OWN.get()
}

/// Counts a thread of a runtime.
pub(crate) struct OwnThread(ThreadId);

impl OwnThread {
    pub(crate) fn enter() -> OwnThread {
        let id = this_thread();
        let mut own = OWN.lock();
        own.push(id);
        IS_OWN.set(true);
        OwnThread(id)
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        let mut own = OWN.lock();
        IS_OWN.set(false);
        if let Some(place) = own.iter().position(|&id| id == self.0) {
            own.swap_remove(place);
        }
    }
}

/// Counts an OS thread that parks without a deadline, and returns whether it did. A thread of
/// goby's own is counted already, unless it is a worker that a future keeps (`is_kept`). The thread
/// may be the last one that could have unparked a waiter, so the detector looks again.
pub(crate) fn thread_parks(wait: &ThreadWait, reason: WaitReason, is_kept: bool) -> bool {
    if is_own() && !is_kept {
        return false;
    }
    wait.begin(reason);
    runtimes::look_again();
    true
}

pub(crate) fn spawn_own(name: String, f: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(move || {
        let _own = OwnThread::enter();
        let _stack = overflow::SignalStack::enter();
        if panic::catch_unwind(AssertUnwindSafe(f)).is_err() {
            report(format_args!("a panic inside the runtime; this is a bug in goby"));
            std::process::abort();
        }
    })
}

/// Starts a thread that counts as goby's own: it unparks nobody, so it cannot end a deadlock.
pub fn spawn_own_thread(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<()> {
    spawn_own(name.into(), f).map(drop)
}

/// Runs `f` on a thread that counts as goby's own, and waits for it; returns none if no thread can
/// be started.
pub(crate) fn run_on_own_thread<R: Send + 'static>(name: &str, f: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let (give, given) = std::sync::mpsc::sync_channel(1);
    spawn_own_thread(name, move || _ = give.send(f())).ok()?;
    given.recv().ok()
}

/// Makes a parker known. Those of threads that have ended are forgotten eventually.
pub(crate) fn add_parker(parker: &Arc<Parker>) {
    let mut parkers = PARKERS.lock();
    if parkers.len() == parkers.capacity() {
        parkers.retain(|parker| parker.strong_count() > 0);
    }
    parkers.push(Arc::downgrade(parker));
}

/// Returns the parkers whose threads wait.
pub(crate) fn waiting() -> Vec<Arc<Parker>> {
    let parkers = PARKERS.lock();
    parkers.iter().filter_map(Weak::upgrade).filter(|parker| parker.wait().thread().is_some()).collect()
}

/// Counts begins and ends of waits.
pub(crate) fn changes() -> usize {
    CHANGES.load(Ordering::SeqCst)
}

/// Counts another kind of change: something that a thread does, and that may let others go on after
/// the thread has ended.
pub(crate) fn note_change() {
    CHANGES.fetch_add(1, Ordering::SeqCst);
}

/// A wait without a deadline of one thread, if it is in one. Changed under its parker's lock.
#[derive(Debug, Default)]
pub(crate) struct ThreadWait {
    /// The thread that waits, otherwise zero.
    thread: AtomicI32,
    reason: AtomicU8,
    is_host: AtomicBool,
}

impl ThreadWait {
    /// Begins a wait of the calling thread.
    pub(crate) fn begin(&self, reason: WaitReason) {
        // Relaxed: the store below publishes them.
        self.reason.store(reason as u8, Ordering::Relaxed);
        self.is_host.store(IS_HOST.get(), Ordering::Relaxed);
        // SeqCst, here and in `end`: one order of this store and the change; see the head of this
        // file.
        self.thread.store(this_thread(), Ordering::SeqCst);
        CHANGES.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn end(&self) {
        // The count first: see the head of this file.
        CHANGES.fetch_add(1, Ordering::SeqCst);
        self.thread.store(0, Ordering::SeqCst);
    }

    /// Returns the thread, if it waits.
    pub(crate) fn thread(&self) -> Option<ThreadId> {
        // SeqCst: as in `begin`.
        let thread = self.thread.load(Ordering::SeqCst);
        (thread != 0).then_some(thread)
    }

    /// Returns whether reports leave the thread out, since they show the goroutine that it waits
    /// for.
    pub(crate) fn is_host(&self) -> bool {
        self.is_host.load(Ordering::Relaxed)
    }

    fn reason(&self) -> WaitReason {
        WaitReason::from_number(self.reason.load(Ordering::Relaxed))
    }
}

/// Runs `f`, in which the calling thread waits for a goroutine that does its work. Reports show
/// only the goroutine.
pub(crate) fn as_host<R>(f: impl FnOnce() -> R) -> R {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            IS_HOST.set(self.0);
        }
    }
    let _reset = Reset(IS_HOST.replace(true));
    f()
}

/// Threads that wait for the goroutine of an isolated runtime which does their work.
static HOSTS: UnseenMutex<Vec<ThreadId>> = UnseenMutex::new(Vec::new());

/// Marks the calling thread, until this is dropped, as one that does nothing for others: it starts,
/// runs and ends an isolated runtime.
#[doc(hidden)]
#[derive(Debug)]
pub struct IsolatedHost(ThreadId);

impl IsolatedHost {
    /// Marks the calling thread.
    #[allow(clippy::new_without_default)]
    pub fn new() -> IsolatedHost {
        let id = this_thread();
        HOSTS.lock().push(id);
        IsolatedHost(id)
    }
}

impl Drop for IsolatedHost {
    fn drop(&mut self) {
        HOSTS.lock().retain(|&id| id != self.0);
    }
}

/// Returns whether a thread can do nothing for the goroutines of an isolated runtime. It is the
/// host of some test, or the first thread of the process, which in a test harness waits for the
/// tests, in std.
pub(crate) fn is_bystander(id: ThreadId) -> bool {
    id.unsigned_abs() == std::process::id() || HOSTS.lock().contains(&id)
}

/// Returns the threads of the process; none if the system does not tell.
fn all() -> Option<HashSet<ThreadId>> {
    let entries = fs::read_dir("/proc/self/task").inspect_err(tell_if_out_of_files).ok()?;
    Some(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Reports once that no verdict can come, so that a deadlock is not silent.
fn tell_if_out_of_files(error: &io::Error) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let is_out = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    // Relaxed: a flag by itself.
    if is_out && !TOLD.swap(true, Ordering::Relaxed) {
        report(format_args!(
            "whether everybody waits forever cannot be seen, since no file can be opened ({error}): close some, or raise the \
             limit with ulimit -n"
        ));
    }
}

/// What is in the process besides goby.
pub(crate) struct Outside {
    /// Threads that are not goby's own and do not wait in goby.
    pub(crate) strangers: HashSet<ThreadId>,
    /// Signals have handlers, which may do anything.
    pub(crate) has_handlers: bool,
}

impl Outside {
    /// Looks; returns none if threads came or went meanwhile, or the system does not tell.
    pub(crate) fn look() -> Option<Outside> {
        let all = all()?;
        // Read after the list: a thread that is no longer in the list may have left a signal
        // handler behind.
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let value = |name| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
        let n_threads: usize = value("Threads:")?.parse().ok()?;
        let caught = u64::from_str_radix(value("SigCgt:")?, 16).ok()?;
        // The list is not made at one instant: the count checks it.
        if all.len() != n_threads {
            return None;
        }
        let mut strangers = all;
        OWN.lock().iter().for_each(|id| _ = strangers.remove(id));
        waiting().iter().filter_map(|parker| parker.wait().thread()).for_each(|id| _ = strangers.remove(&id));
        let has_handlers = caught & !(HARMLESS | IDLE_HANDLERS.load(Ordering::SeqCst)) != 0;
        Some(Outside { strangers, has_handlers })
    }
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Signals that a thread raises by its own fault, and the two that glibc keeps for itself.
const HARMLESS: u64 = bit(libc::SIGILL)
    | bit(libc::SIGTRAP)
    | bit(libc::SIGABRT)
    | bit(libc::SIGBUS)
    | bit(libc::SIGFPE)
    | bit(libc::SIGSEGV)
    | bit(libc::SIGSYS)
    | bit(32)
    | bit(33);

/// Sets whether a signal's handler is idle: it can do nothing for a goroutine or thread that waits,
/// because it only does what the default action would. Other handlers keep the deadlock detector
/// from a verdict.
#[doc(hidden)]
pub fn set_handler_idle(signal: i32, is_idle: bool) {
    if !(1..=64).contains(&signal) {
        return;
    }
    // SeqCst: once a handler is no longer idle, no verdict comes after this.
    if is_idle {
        IDLE_HANDLERS.fetch_or(bit(signal), Ordering::SeqCst);
    } else {
        IDLE_HANDLERS.fetch_and(!bit(signal), Ordering::SeqCst);
    }
}

/// Returns the name of a thread, from the kernel: `main`, or the name that it was given, otherwise
/// its number.
fn name_of(id: ThreadId) -> String {
    let kernels = |id: u32| fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
    let process = std::process::id();
    let number = id.unsigned_abs();
    if number == process {
        return "main".into();
    }
    // A thread without a name of its own has inherited the program's.
    let name = kernels(number);
    if name.is_empty() || name == kernels(process) { id.to_string() } else { name.trim_end().into() }
}

/// An OS thread that waits in goby without a deadline, in the report of a deadlock.
#[derive(Clone, Debug)]
pub struct WaitingThread {
    name: String,
    reason: WaitReason,
    stack: Option<StackTrace>,
}

impl WaitingThread {
    /// Returns what `parker`'s thread does, with its stack.
    pub(crate) fn of(parker: &Parker) -> Option<WaitingThread> {
        let wait = parker.wait();
        let (id, reason) = (wait.thread()?, wait.reason());
        Some(WaitingThread { name: name_of(id), reason, stack: parker.stack() })
    }

    /// Returns its name, as far as the system keeps it (15 bytes): `main`, or the name that its
    /// builder was given. A thread without a name has its number here.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns why it waits.
    pub fn reason(&self) -> WaitReason {
        self.reason
    }

    /// Returns where it waits.
    pub fn stack(&self) -> Option<&StackTrace> {
        self.stack.as_ref()
    }

    pub(crate) fn write(&self, names: &mut Names, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "thread {} [{}]:", self.name, self.reason)?;
        match &self.stack {
            Some(stack) => names.write(stack, f),
            None => writeln!(f, "(its stack was not collected)"),
        }
    }
}
