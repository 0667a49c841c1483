//! Looks at a thread that does not come to a scheduling point: a signal interrupts the thread, and
//! the handler collects the stack of the goroutine that it runs, or of the future that it polls.
//!
//! The handler runs on the thread's alternate stack and is async-signal-safe. It reads a
//! thread-local without destructor, atomics and the running goroutine's record, walks the stack,
//! and writes into memory that is already there. The unwinder finds its tables by glibc's
//! `_dl_find_object`, which takes no lock. Before glibc 2.35 the unwinder took a lock, so nothing
//! is collected there. If the thread is inside the switch itself, nothing is collected either: half
//! way between two stacks there is no stack to walk.
//!
//! The signal is SIGURG, as in Go: it is ignored by default, so a late one does no harm. The system
//! restarts interrupted system calls where it can; others fail with `EINTR`, as they may at any
//! time.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::panic::Location;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::stack_trace::{MAX_FRAMES, StackTrace};
use crate::base::{policy, stack_trace, tsan};
use crate::engine::goroutine::{GoroutineId, Reported};
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::{Remote, Worker};
use crate::engine::{overflow, threads};
use crate::look::inspect::{GoroutineInfo, Status};

const SIGNAL: libc::c_int = libc::SIGURG;
/// How long the thread may take to run the handler: other threads may have its processor.
const PATIENCE: Duration = Duration::from_millis(100);
/// The time between two checks whether the handler has run.
const NAP: Duration = Duration::from_micros(100);

/// `state`: nobody asks.
const IDLE: u32 = 0;
/// `state`: the thread `thread` is asked. Set by the asker.
const ASKED: u32 = 1;
/// `state`: the handler writes. Set by the handler.
const WRITING: u32 = 2;
/// `state`: the handler has written, and the asker may read. Set by the handler.
const WRITTEN: u32 = 3;

/// The memory that the handler writes: one goroutine or future at a time. `state` guards it; all
/// other accesses are Relaxed.
struct Sample {
    state: AtomicU32,
    thread: AtomicU32,
    id: AtomicU64,
    parent: AtomicU64,
    since: AtomicU64,
    /// Null: the thread runs no goroutine.
    started_at: AtomicPtr<Location<'static>>,
    /// What [`Worker::polls`] gives; zero: the thread polls no future.
    polls: AtomicUsize,
    n_frames: AtomicUsize,
    frames: [AtomicUsize; MAX_FRAMES],
}

static SAMPLE: Sample = Sample {
    state: AtomicU32::new(IDLE),
    thread: AtomicU32::new(0),
    id: AtomicU64::new(0),
    parent: AtomicU64::new(0),
    since: AtomicU64::new(0),
    started_at: AtomicPtr::new(ptr::null_mut()),
    polls: AtomicUsize::new(0),
    n_frames: AtomicUsize::new(0),
    frames: [const { AtomicUsize::new(0) }; MAX_FRAMES],
};

/// The handler that was there before.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// What a worker's thread runs.
pub(crate) enum Running {
    /// A goroutine, with its stack.
    Goroutine(GoroutineInfo),
    Future(RunningFuture),
}

/// A future that is polled.
#[derive(Clone, Debug)]
pub(crate) struct RunningFuture {
    /// What [`Worker::polls`] gives.
    pub(crate) kind: usize,
    pub(crate) stack: StackTrace,
}

impl Running {
    /// Returns the goroutine, if it is one.
    pub(crate) fn goroutine(self) -> Option<GoroutineInfo> {
        match self {
            Running::Goroutine(info) => Some(info),
            Running::Future(_) => None,
        }
    }
}

/// Returns what a worker's thread runs now; none if the thread runs nothing, or does not answer in
/// time.
pub(crate) fn running(remote: &Remote) -> Option<Running> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let thread = remote.thread.thread_id.load(Ordering::Relaxed);
    if thread == 0 || !is_possible() {
        return None;
    }
    let _one = ONE_AT_A_TIME.lock();
    install_handler();
    SAMPLE.thread.store(thread as u32, Ordering::Relaxed);
    // Release pairs with the Acquire of the handler's exchange.
    SAMPLE.state.store(ASKED, Ordering::Release);
    // SAFETY: the system call touches no memory. The thread is one of this process; if it has
    // ended, the call fails.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGNAL) };
    let start = policy::now();
    // Acquire pairs with the Release at the end of the handler.
    while SAMPLE.state.load(Ordering::Acquire) != WRITTEN {
        if start.elapsed() > PATIENCE
            && SAMPLE.state.compare_exchange(ASKED, IDLE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            return None;
        }
        thread::sleep(NAP);
    }
    let info = read();
    SAMPLE.state.store(IDLE, Ordering::Relaxed);
    info
}

fn read() -> Option<Running> {
    let n = SAMPLE.n_frames.load(Ordering::Relaxed);
    let frames: Vec<usize> = SAMPLE.frames[..n].iter().map(|frame| frame.load(Ordering::Relaxed)).collect();
    let stack = StackTrace::new(&frames);
    // SAFETY: null, or a `&'static` that the handler has read from a record.
    let Some(started_at) = (unsafe { SAMPLE.started_at.load(Ordering::Relaxed).as_ref() }) else {
        let kind = SAMPLE.polls.load(Ordering::Relaxed);
        return (kind != 0).then_some(Running::Future(RunningFuture { kind, stack }));
    };
    let since = SAMPLE.since.load(Ordering::Relaxed);
    Some(Running::Goroutine(GoroutineInfo {
        id: GoroutineId::from_u64(SAMPLE.id.load(Ordering::Relaxed)),
        status: Status::Running,
        flags: Reported::default(),
        joins: 0,
        home: 0,
        parent: SAMPLE.parent.load(Ordering::Relaxed),
        age: Duration::from_nanos(policy::nanos(policy::now()).saturating_sub(since)),
        started_at,
        name: None,
        inherited: None,
        beside_futures: false,
        stack: Some(stack),
    }))
}

/// Returns whether the unwinder can be used in a signal handler.
fn is_possible() -> bool {
    // SAFETY: this looks a name up; the string ends with a zero.
    tsan::SIGNALS_INTERRUPT && !unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) }.is_null()
}

fn install_handler() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // The unwinder's first use sets things up, which must not happen in a handler: so use it
        // here once.
        stack_trace::walk(&(0..usize::MAX), |_| false);
        // SAFETY: the structures are initialized as sigaction(2) asks; the handler is
        // async-signal-safe, see above.
        unsafe {
            let mut old = MaybeUninit::<libc::sigaction>::zeroed();
            if libc::sigaction(SIGNAL, ptr::null(), old.as_mut_ptr()) == 0 {
                // Release pairs with the Acquire in `handler`.
                PREVIOUS.store(Box::into_raw(Box::new(old.assume_init())), Ordering::Release);
            }
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(SIGNAL, &action, ptr::null_mut());
        }
        let previous = PREVIOUS.load(Ordering::Relaxed);
        // SAFETY: null, or the pointer stored above, which stays valid.
        let previous = unsafe { previous.as_ref() }.map(|action| action.sa_sigaction);
        threads::set_handler_idle(SIGNAL, matches!(previous, Some(libc::SIG_DFL | libc::SIG_IGN)));
    });
}

extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: no preconditions; the pointer is this thread's `errno`.
    let (errno, thread) = unsafe { (libc::__errno_location(), libc::syscall(libc::SYS_gettid)) };
    // SAFETY: as above.
    let saved = unsafe { *errno };
    let is_ours = SAMPLE.thread.load(Ordering::Relaxed) == thread as u32
        // Acquire pairs with the Release store of the asker.
        && SAMPLE.state.compare_exchange(ASKED, WRITING, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if is_ours {
        write();
        // Release pairs with the Acquire load of the asker.
        SAMPLE.state.store(WRITTEN, Ordering::Release);
    } else {
        forward(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
}

fn write() {
    SAMPLE.started_at.store(ptr::null_mut(), Ordering::Relaxed);
    SAMPLE.polls.store(0, Ordering::Relaxed);
    SAMPLE.n_frames.store(0, Ordering::Relaxed);
    let Some(worker) = Worker::current() else { return };
    if let Some(kind) = worker.polls() {
        // A poll runs on the thread's own stack, down to where the thread began: nothing switches
        // there. The frames of this handler are left out when names are looked up.
        SAMPLE.polls.store(kind, Ordering::Relaxed);
        return write_stack(&(0..usize::MAX));
    }
    let Some(g) = worker.running_or_held() else { return };
    if g.notes.reason.load(Ordering::Relaxed) != WaitReason::None as u8 {
        // In the switch, or about to be.
        return;
    }
    let Some(usable) = g.usable_stack() else { return };
    SAMPLE.id.store(g.id.as_u64(), Ordering::Relaxed);
    SAMPLE.parent.store(g.origin.parent, Ordering::Relaxed);
    SAMPLE.since.store(g.notes.since.get(), Ordering::Relaxed);
    SAMPLE.started_at.store(ptr::from_ref(g.origin.spawned_at).cast_mut(), Ordering::Relaxed);
    write_stack(&usable);
}

/// Writes the return addresses on this part of the stack.
fn write_stack(within: &Range<usize>) {
    let mut n = 0;
    stack_trace::walk(within, |address| {
        SAMPLE.frames[n].store(address, Ordering::Relaxed);
        n += 1;
        n < MAX_FRAMES
    });
    SAMPLE.n_frames.store(n, Ordering::Relaxed);
}

/// Passes a signal that is not for us to the handler that was there before.
fn forward(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // Acquire pairs with the Release in `install_handler`.
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: the kernel gave us the former action, and it is called as the kernel would call it.
    unsafe {
        let Some(previous) = previous.as_ref() else { return };
        match previous.sa_sigaction {
            // SIGURG is ignored by default.
            libc::SIG_DFL | libc::SIG_IGN => {}
            _ => overflow::call(previous, signal, info, context),
        }
    }
}
