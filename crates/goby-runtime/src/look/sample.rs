//! What a thread is doing that does not come to a scheduling point: a signal interrupts it, and the
//! handler collects the stack of the goroutine that it runs.
//!
//! The handler runs on the thread's alternate stack and is async-signal-safe: it reads a
//! thread-local without destructor, atomics, the running goroutine's record, and walks the stack,
//! into memory that is there already. The unwinder finds its tables by glibc's `_dl_find_object`,
//! which takes no lock; before glibc 2.35 it took one, so nothing is collected there. A thread
//! inside the switch itself is left alone: half way between two stacks there is none to walk.
//!
//! The signal is SIGURG, as in Go: ignored by default, so one that comes late does no harm. System
//! calls that it interrupts are restarted where the system can; others fail with `EINTR`, as they
//! may at any time.

use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::stack_trace::{MAX_FRAMES, StackTrace};
use crate::base::{policy, stack_trace, tsan};
use crate::engine::goroutine::GoroutineId;
use crate::engine::park::WaitReason;
use crate::engine::worker::{Remote, Worker};
use crate::engine::{overflow, threads};
use crate::look::inspect::{GoroutineInfo, Status};

const SIGNAL: libc::c_int = libc::SIGURG;
/// How long the thread may take to run the handler: it may have lost its processor to others.
const PATIENCE: Duration = Duration::from_millis(100);
/// Between two looks whether it has.
const NAP: Duration = Duration::from_micros(100);

/// `state`: nobody asks.
const IDLE: u32 = 0;
/// `state`: the thread `thread` is asked. Set by who asks.
const ASKED: u32 = 1;
/// `state`: the handler writes. Set by it.
const WRITING: u32 = 2;
/// `state`: the handler has written, and who asked may read. Set by the handler.
const WRITTEN: u32 = 3;

/// Where the handler writes: one goroutine at a time. Guarded by `state`; everything else Relaxed.
struct Sample {
    state: AtomicU32,
    thread: AtomicU32,
    /// Zero: the thread runs no goroutine.
    id: AtomicU64,
    parent: AtomicU64,
    since: AtomicU64,
    started_at: AtomicPtr<Location<'static>>,
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
    n_frames: AtomicUsize::new(0),
    frames: [const { AtomicUsize::new(0) }; MAX_FRAMES],
};

/// Who handled the signal before.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// The goroutine that a worker's thread runs now, with its stack; none if it runs none, or does not
/// tell in time.
pub(crate) fn running(remote: &Remote) -> Option<GoroutineInfo> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let thread = remote.thread_id.load(Ordering::Relaxed);
    if thread == 0 || !is_possible() {
        return None;
    }
    let _one = ONE_AT_A_TIME.lock();
    install_handler();
    SAMPLE.thread.store(thread as u32, Ordering::Relaxed);
    // Release pairs with the Acquire of the handler's exchange.
    SAMPLE.state.store(ASKED, Ordering::Release);
    // SAFETY: the system call touches no memory; a thread of this process, or one that has ended,
    // which fails.
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

fn read() -> Option<GoroutineInfo> {
    let id = SAMPLE.id.load(Ordering::Relaxed);
    // SAFETY: null, or what the handler has read out of a record: a `&'static`.
    let started_at = unsafe { SAMPLE.started_at.load(Ordering::Relaxed).as_ref() }?;
    let n = SAMPLE.n_frames.load(Ordering::Relaxed);
    let frames: Vec<usize> = SAMPLE.frames[..n].iter().map(|frame| frame.load(Ordering::Relaxed)).collect();
    let since = SAMPLE.since.load(Ordering::Relaxed);
    Some(GoroutineInfo {
        id: GoroutineId::from_u64(id),
        status: Status::Running,
        flags: 0,
        joins: 0,
        home: 0,
        parent: SAMPLE.parent.load(Ordering::Relaxed),
        age: Duration::from_nanos(policy::nanos(policy::now()).saturating_sub(since)),
        started_at,
        name: None,
        inherited: None,
        stack: Some(StackTrace::new(&frames)),
    })
}

/// Whether the unwinder can be used in a signal handler.
fn is_possible() -> bool {
    // SAFETY: looks a name up; the string ends with a zero.
    tsan::SIGNALS_INTERRUPT && !unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) }.is_null()
}

fn install_handler() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // What the unwinder sets up when it is first used, it should not set up in a handler.
        stack_trace::walk(&(0..usize::MAX), |_| false);
        // SAFETY: the structures are initialised as sigaction(2) asks; the handler is
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
        // SAFETY: null, or what was stored above, which stays.
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
        // Acquire pairs with the Release store of who asks.
        && SAMPLE.state.compare_exchange(ASKED, WRITING, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if is_ours {
        write();
        // Release pairs with the Acquire load of who asks.
        SAMPLE.state.store(WRITTEN, Ordering::Release);
    } else {
        forward(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
}

fn write() {
    SAMPLE.started_at.store(ptr::null_mut(), Ordering::Relaxed);
    let Some(g) = Worker::current().and_then(Worker::running_or_held) else { return };
    if g.reason.load(Ordering::Relaxed) != WaitReason::None as u8 {
        // In the switch, or about to be.
        return;
    }
    let Some(usable) = g.usable_stack() else { return };
    SAMPLE.id.store(g.id.as_u64(), Ordering::Relaxed);
    SAMPLE.parent.store(g.parent, Ordering::Relaxed);
    SAMPLE.since.store(g.since.get(), Ordering::Relaxed);
    SAMPLE.started_at.store(ptr::from_ref(g.spawned_at).cast_mut(), Ordering::Relaxed);
    let mut n = 0;
    stack_trace::walk(&usable, |address| {
        SAMPLE.frames[n].store(address, Ordering::Relaxed);
        n += 1;
        n < MAX_FRAMES
    });
    SAMPLE.n_frames.store(n, Ordering::Relaxed);
}

/// A signal that is not for us goes to whoever handled it before.
fn forward(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // Acquire pairs with the Release in `install_handler`.
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: what the kernel gave us as the former action is called as the kernel would have
    // called it.
    unsafe {
        let Some(previous) = previous.as_ref() else { return };
        match previous.sa_sigaction {
            // SIGURG is ignored by default.
            libc::SIG_DFL | libc::SIG_IGN => {}
            _ => overflow::call(previous, signal, info, context),
        }
    }
}
