//! Calls that block an OS thread, run on helper threads while their goroutines are parked
//! (`docs/decisions/03-blocking-and-the-monitor.md`).

mod withdrawal;

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use self::withdrawal::Ticket;
pub use self::withdrawal::Withdrawal;
use crate::base::order;
use crate::engine::current::with_shared;
use crate::engine::park::Wait;
use crate::engine::shared::Shared;
use crate::engine::unparker::Unparker;
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::Worker;

/// A helper without work ends after this long.
const IDLE: Duration = Duration::from_secs(10);
/// At most so many helpers; further calls wait for one. tokio's number.
const MAX_HELPERS: usize = 512;
/// At most so many of them look up names. A silent server holds each for many seconds, and nothing
/// ends such a call: the file system is not to wait for that.
const MAX_LOOK_UPS: usize = 256;

/// Runs `f` on a helper thread while this goroutine is parked, and returns its value.
///
/// For calls that would block the OS thread and with it every goroutine pinned there: file system,
/// name look-ups, locks of std, foreign code, long computations. `f` may borrow from the caller. On
/// an OS thread that is no worker it simply calls `f`.
///
/// ```
/// let path = String::from("/proc/self/status");
/// let text = goby::blocking(|| std::fs::read_to_string(&path))?;
/// assert!(text.contains("Name:"));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// The goroutine, until `f` has returned. At most 512 calls run at a time, and 256 of these at most
/// are look-ups of names.
///
/// # Panics
///
/// As `f` does.
pub fn blocking<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    blocking_as(WaitReason::Blocking, f)
}

/// Does as [`blocking`]; dumps show `reason`.
#[doc(hidden)]
pub fn blocking_as<R: Send>(reason: WaitReason, f: impl FnOnce() -> R + Send) -> R {
    run_blocking(reason, None, f).expect("nobody withdraws it")
}

/// Does as [`blocking_as`], unless the call is withdrawn before it has begun: then it is `None`,
/// and `f` was not called.
#[doc(hidden)]
pub fn blocking_unless<R: Send>(
    withdrawal: &Withdrawal,
    reason: WaitReason,
    f: impl FnOnce() -> R + Send,
) -> Option<R> {
    run_blocking(reason, Some(withdrawal.ticket()), f)
}

fn run_blocking<R: Send>(reason: WaitReason, ticket: Option<&Arc<Ticket>>, f: impl FnOnce() -> R + Send) -> Option<R> {
    let Some(worker) = Worker::current().filter(|worker| worker.in_goroutine()) else { return Some(f()) };
    let shared = worker.shared;
    if worker.is_checked() {
        worker.leave_check(&format!(
            "a call that blocks a thread [{reason}] inside a check, which cannot say when it ends: do it before the \
             check, or put a goroutine in its place that answers as it does"
        ));
    }
    let mut call = Call { f: Some(f), result: None };
    // SAFETY: this goroutine parks on the wait below once a helper has the job, and that helper, or
    // who withdraws the call, unparks it.
    let wait = unsafe { Wait::current() };
    if ticket.is_some_and(|ticket| !ticket.queue(&wait)) {
        return None;
    }
    let mut job = Job::new(&mut call, &wait, matches!(reason, WaitReason::LookUp));
    job.ticket = ticket.cloned();
    if let Err(error) = shared.helpers.submit(shared, job)
        && ticket.is_none_or(|ticket| ticket.begin())
    {
        // No helper at all could be started. Block this worker: nothing better is left, and the
        // monitor will report it.
        warning!("goby: no helper thread for a blocking call: {error}");
        return Some(call.f.take().expect("not submitted")());
    }
    wait.park(reason);
    if ticket.is_some_and(|ticket| ticket.is_withdrawn()) {
        return None;
    }
    order::follow(&raw const call);
    match call.result.take().expect("the helper has stored the result") {
        Ok(value) => Some(value),
        Err(payload) => panic::resume_unwind(payload),
    }
}

/// A call and its result, on the stack of the parked goroutine.
struct Call<F, R> {
    f: Option<F>,
    result: Option<Result<R, Box<dyn Any + Send>>>,
}

/// Runs the call at `call`.
///
/// # Safety
///
/// `call` is a `Call<F, R>` that nobody else touches.
unsafe fn run_call<F: FnOnce() -> R, R>(call: *mut ()) {
    // SAFETY: by contract.
    let call = unsafe { &mut *call.cast::<Call<F, R>>() };
    let f = call.f.take().expect("a call is run once");
    call.result = Some(panic::catch_unwind(AssertUnwindSafe(f)));
    order::precede(&raw const *call);
}

/// A call as the helpers see it.
struct Job {
    call: *mut (),
    run: unsafe fn(*mut ()),
    wait: *const Wait,
    is_look_up: bool,
    /// Of a call that may be withdrawn. Once it is, the pointers are not used any more.
    ticket: Option<Arc<Ticket>>,
}

// SAFETY: the closure and its result are Send, and the goroutine touches neither until it is
// unparked.
unsafe impl Send for Job {}

impl Job {
    fn new<F: FnOnce() -> R, R>(call: &mut Call<F, R>, wait: &Wait, is_look_up: bool) -> Job {
        Job { call: ptr::from_mut(call).cast(), run: run_call::<F, R>, wait, is_look_up, ticket: None }
    }

    /// Runs the call, unless it was withdrawn; the caller then unparks its goroutine.
    fn run(self, shared: &'static Shared) -> Option<Unparker> {
        if self.ticket.as_ref().is_some_and(|ticket| !ticket.begin()) {
            return None;
        }
        with_shared(shared, || {
            // SAFETY: the goroutine is parked until we unpark it. So the call and the wait are
            // alive, and only we touch them.
            unsafe {
                (self.run)(self.call);
                (*self.wait).claim(0)
            }
        })
    }
}

/// The helper threads of a runtime.
pub(crate) struct Helpers {
    state: Mutex<State>,
    work: Condvar,
    /// Calls submitted and not finished.
    in_progress: AtomicUsize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// How many look-ups are queued or run: not those that wait for their turn.
    look_ups: usize,
    later_look_ups: VecDeque<Job>,
    idle: usize,
    total: usize,
    started: usize,
    shut_down: bool,
}

impl Helpers {
    pub(crate) fn new() -> Helpers {
        Helpers { state: Mutex::default(), work: Condvar::new(), in_progress: AtomicUsize::new(0) }
    }

    /// Calls submitted and not finished.
    pub(crate) fn in_progress(&self) -> usize {
        self.in_progress.load(Ordering::SeqCst)
    }

    fn submit(&'static self, shared: &'static Shared, job: Job) -> std::io::Result<()> {
        self.in_progress.fetch_add(1, Ordering::SeqCst);
        let call = job.call;
        let mut state = self.state.lock();
        if job.is_look_up {
            if state.look_ups == MAX_LOOK_UPS {
                // The helper that ends a look-up takes it.
                state.later_look_ups.push_back(job);
                return Ok(());
            }
            state.look_ups += 1;
        }
        state.queue.push_back(job);
        // There is an idle helper for every queued job.
        if state.idle >= state.queue.len() {
            drop(state);
            self.work.notify_one();
            return Ok(());
        }
        if state.total < MAX_HELPERS {
            state.total += 1;
            state.started += 1;
            let name = format!("{}-helper-{}", shared.settings.thread_name, state.started);
            drop(state);
            if let Err(error) = shared.spawn_thread(name, move || self.help(shared)) {
                let mut state = self.state.lock();
                state.total -= 1;
                // If there are other helpers, one of them will take the job, or has taken it. An
                // earlier one of that address was withdrawn.
                if state.total == 0
                    && let Some(place) = state.queue.iter().rposition(|job| ptr::eq(job.call, call))
                {
                    state.queue.remove(place);
                    state.look_ups = 0;
                    self.in_progress.fetch_sub(1, Ordering::SeqCst);
                    // The helpers of other callers could not be started either, and those callers
                    // counted on ours. So run their jobs here.
                    let left = std::mem::take(&mut state.queue);
                    let later = std::mem::take(&mut state.later_look_ups);
                    drop(state);
                    left.into_iter().chain(later).for_each(|job| self.finish(job, shared));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn finish(&self, job: Job, shared: &'static Shared) {
        if let Some(unparker) = job.run(shared) {
            unparker.unpark();
        }
        // After the unpark: if this came first, the goroutine would seem to wait for nothing.
        self.in_progress.fetch_sub(1, Ordering::SeqCst);
        shared.forget_if_over();
    }

    /// Runs jobs until there has been none for [`IDLE`]: a helper thread's main function.
    fn help(&'static self, shared: &'static Shared) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                let is_look_up = job.is_look_up;
                self.finish(job, shared);
                state = self.state.lock();
                if is_look_up {
                    match state.later_look_ups.pop_front() {
                        Some(next) => state.queue.push_back(next),
                        None => state.look_ups -= 1,
                    }
                }
                continue;
            }
            if state.shut_down {
                break;
            }
            state.idle += 1;
            let timed_out = self.work.wait_for(&mut state, IDLE).timed_out();
            state.idle -= 1;
            if timed_out && state.queue.is_empty() {
                break;
            }
        }
        state.total -= 1;
    }

    /// Counts the calls that wait for a helper thread.
    pub(crate) fn n_queued(&self) -> usize {
        let state = self.state.lock();
        state.queue.len() + state.later_look_ups.len()
    }

    /// Returns the number of helper threads.
    pub(crate) fn n_threads(&self) -> usize {
        self.state.lock().total
    }

    /// Allows new helpers after a shutdown.
    pub(crate) fn reset(&self) {
        let mut state = self.state.lock();
        state.shut_down = false;
        state.started = 0;
    }

    pub(crate) fn shut_down(&self) {
        self.state.lock().shut_down = true;
        self.work.notify_all();
    }
}
