//! Futures: a goroutine awaits one ([`block_on`]), or a future runs as a task, alongside the
//! goroutines, on the same workers ([`spawn`]).

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::{ptr, thread};

use async_task::{FallibleTask, Runnable};

use crate::base::report::{payload_text, report};
use crate::base::{order, tsan};
use crate::engine::checkpoint::{checkpoint, polled};
use crate::engine::current::current_shared;
use crate::engine::io::reactor::{resume_from_task, tell_cure_of_task, with_cure};
use crate::engine::join_error::JoinError;
use crate::engine::park::Wait;
use crate::engine::reach::{IsArmed, with_reach};
use crate::engine::run_queue::Unstarted;
use crate::engine::shared::Shared;
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::Worker;

/// Runs a future to its end, parking the goroutine whenever it is pending.
///
/// On an OS thread it parks the thread. It may be nested: the future may itself call functions that
/// park. The future must not need another runtime: tokio's sockets and timers panic without its
/// reactor (its channels, locks and `select!` do not). They run by `goby_tokio::block_on`: the page
/// `goby::guide::other_crates` has more.
///
/// ```
/// assert_eq!(goby::block_on(async { 6 * 7 }), 42);
/// ```
///
/// # Blocking
///
/// The goroutine, or the OS thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    block_on_for(WaitReason::BlockOn, || false, None, future)
}

/// Does as [`block_on`]; reports show this reason of its waits, and what [`with_reach`] says.
/// `has_context` is asked before each wait.
#[doc(hidden)]
pub fn block_on_for<F: Future>(
    reason: WaitReason,
    has_context: impl Fn() -> bool,
    timer: Option<IsArmed<'_>>,
    future: F,
) -> F::Output {
    let mut future = pin!(future);
    let signal = Arc::new(Signal { waiter: AtomicPtr::new(ptr::null_mut()) });
    let waker = Signal::waker(signal.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        checkpoint();
        if let Poll::Ready(output) = with_cure(|| future.as_mut().poll(&mut cx)) {
            return output;
        }
        with_reach(has_context(), timer, || signal.wait(reason));
    }
}

/// Connects wakers with waits. A waker may be used at any time and any number of times; a wait has
/// exactly one claim.
///
/// `waiter` is null (nothing has happened), `WOKEN` (a wake-up is due), or the [`Wait`] of the
/// parked goroutine.
struct Signal {
    waiter: AtomicPtr<Wait>,
}

const WOKEN: *mut Wait = ptr::without_provenance_mut(1);

impl Signal {
    /// Parks until woken; returns at once if that has happened since the last call.
    fn wait(&self, reason: WaitReason) {
        // SAFETY: this waiter parks on the wait if it is shown. It is shown to `wake`, which
        // unparks it.
        let wait = unsafe { Wait::current() };
        let waiter = ptr::from_ref(&wait).cast_mut();
        // AcqRel: the release publishes the `Wait`; the acquire pairs with the swap in `wake`.
        if self.waiter.compare_exchange(ptr::null_mut(), waiter, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            wait.park(reason);
        }
        // Acquire pairs with the swap in `wake`: the next poll sees what was done before the
        // wake-up. A wake-up after this swap leaves `WOKEN`, for the next call.
        self.waiter.swap(ptr::null_mut(), Ordering::AcqRel);
    }
}

/// The address of this table tells whether a waker is one of goby's own (`errand.rs`).
pub(crate) static SIGNAL: RawWakerVTable =
    RawWakerVTable::new(Signal::clone_raw, Signal::wake_raw, Signal::wake_raw_by_ref, Signal::drop_raw);

impl Signal {
    fn waker(self: Arc<Self>) -> Waker {
        // SAFETY: the table's functions keep the contract of a waker, whose data is an
        // `Arc<Signal>` out of `into_raw`.
        unsafe { Waker::from_raw(RawWaker::new(Arc::into_raw(self).cast(), &SIGNAL)) }
    }

    /// # Safety
    ///
    /// For this function and those below: `data` is that of a waker from `waker`.
    unsafe fn clone_raw(data: *const ()) -> RawWaker {
        // SAFETY: by contract; the cloned waker holds a reference.
        unsafe { Arc::increment_strong_count(data.cast::<Signal>()) };
        RawWaker::new(data, &SIGNAL)
    }

    unsafe fn wake_raw(data: *const ()) {
        // SAFETY: by contract; the waker, which is used up, held a reference.
        unsafe { Arc::from_raw(data.cast::<Signal>()) }.wake();
    }

    unsafe fn wake_raw_by_ref(data: *const ()) {
        // SAFETY: by contract; the waker holds a reference.
        unsafe { &*data.cast::<Signal>() }.wake();
    }

    unsafe fn drop_raw(data: *const ()) {
        // SAFETY: as in `wake_raw`.
        drop(unsafe { Arc::from_raw(data.cast::<Signal>()) });
    }

    fn wake(&self) {
        // AcqRel: the release publishes what the waker's owner did; the acquire pairs with `wait`.
        let waiter = self.waiter.swap(WOKEN, Ordering::AcqRel);
        if !waiter.is_null() && waiter != WOKEN {
            // SAFETY: the swap took the pointer out, so this is the only claim of that `Wait`,
            // which lives until the unpark.
            if let Some(unparker) = unsafe { &*waiter }.claim(0) {
                unparker.unpark();
            }
        }
    }
}

/// Runs a future as a task, on the workers, alongside the goroutines. It needs a few hundred bytes
/// instead of a stack.
///
/// Like an unstarted goroutine, it may run on any worker. It must not need another runtime, as for
/// [`block_on`]: what needs tokio runs by `goby_tokio::spawn`.
///
/// ```
/// let task = goby::spawn(async { 6 * 7 });
/// assert_eq!(task.join().unwrap(), 42);
/// ```
///
/// # Blocking
///
/// The caller does not wait. The future must not wait inside its poll: it has no stack to park, so
/// a lock, a `recv`, a `sleep` or a `block_on` there keeps the worker's thread. No goroutine of
/// that worker runs meanwhile, not even one that would end the wait, and then it never ends. goby
/// reports such a wait when it begins, once for each kind of future and wait. Inside a future
///
/// - await: `recv_async`, `send_async`, `select_async`, a [`Task`];
/// - only try: `try_lock`, `try_recv`;
/// - or run the future by [`block_on`] in a goroutine, which parks.
///
/// # Panics
///
/// A panic of the future comes out of [`Task::join`], or of awaiting the task. If the future was to
/// be polled after its runtime had been dropped, join fails, and awaiting the task panics, with a
/// text that says so.
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    checkpoint();
    let shared = current_shared();
    count(shared, 1);
    if let Some(worker) = Worker::current() {
        let _ignore = tsan::ignore();
        worker.slab().note_allocation();
    }
    let body = Body { future: Some(future), _live: Live { shared } };
    let (runnable, task) = async_task::spawn(body, move |runnable| schedule(shared, runnable));
    let runnable = publish(runnable);
    {
        // No edges: async-task updates its counter after `schedule`, and the future may have ended
        // by then. That update is not ordered after the future.
        let _ignore = tsan::ignore();
        runnable.schedule();
    }
    Task { task: Some(task.fallible()) }
}

/// Counts a future until it has ended or was canceled.
struct Live {
    shared: &'static Shared,
}

impl Drop for Live {
    fn drop(&mut self) {
        count(self.shared, -1);
    }
}

/// Counts one future more or less, per worker: a counter that all workers write would move from
/// cache to cache.
fn count(shared: &Shared, change: isize) {
    // This count does not order two threads that start futures.
    let _ignore = tsan::ignore();
    match Worker::current() {
        Some(worker) if ptr::eq(worker.shared, shared) => worker.count_task(change),
        // SeqCst: one order with the deadlock detector's looks.
        _ => _ = shared.births.tasks.fetch_add(change.cast_unsigned(), Ordering::SeqCst),
    }
}

/// Tells ThreadSanitizer that the caller's actions so far come before the next poll.
fn publish(runnable: Runnable) -> Runnable {
    let raw = runnable.into_raw();
    order::precede(raw.as_ptr());
    // SAFETY: it came from `into_raw` just now.
    unsafe { Runnable::from_raw(raw) }
}

fn schedule(shared: &'static Shared, runnable: Runnable) {
    let runnable = publish(runnable);
    let _ignore = tsan::ignore();
    match Worker::current() {
        Some(worker) if ptr::eq(worker.shared, shared) => worker.push_unstarted(Unstarted::Future(runnable)),
        _ => shared.inject(Unstarted::Future(runnable)),
    }
}

/// Polls a future that a worker took from a queue.
pub(crate) fn run(worker: &Worker, runnable: Runnable) {
    let raw = runnable.into_raw();
    order::follow(raw.as_ptr());
    // SAFETY: it came from `into_raw` just now.
    let runnable = unsafe { Runnable::<()>::from_raw(raw) };
    // Not a future's waker, but not null: what runs is user code, even if it is a future's
    // destructor.
    worker.set_polled(Waker::noop().vtable());
    // This does not panic: the payload of a poll's panic is kept for the task's owner, and a
    // destructor's panic is reported.
    runnable.run();
    worker.set_polled(ptr::null());
}

fn report_drop(payload: Box<dyn Any + Send>) {
    report(format_args!("a spawned future, or its output, panicked when it was dropped: {}", payload_text(&*payload)));
    std::mem::forget(payload);
}

/// The future that async-task runs: it polls the user's future, and keeps a panic as the result. It
/// is not an `async` block, since there the future would lie twice: once captured, once awaited.
struct Body<F> {
    /// None once it has ended. [`end`](Body::end) drops it, since async-task aborts the process if
    /// a destructor panics.
    future: Option<F>,
    _live: Live,
}

impl<F> Body<F> {
    /// Drops the future in place. A panic of its destructor is reported.
    fn end(self: Pin<&mut Self>) {
        // SAFETY: the field is pinned if the whole is.
        let mut future = unsafe { self.map_unchecked_mut(|this| &mut this.future) };
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| future.set(None))) {
            report_drop(payload);
        }
    }
}

/// Drops a future that was canceled. The count of futures goes down after this.
impl<F> Drop for Body<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            // SAFETY: the body is dropped where it was polled, and is not moved after this.
            unsafe { Pin::new_unchecked(self) }.end();
        }
    }
}

impl<F: Future> Future for Body<F> {
    type Output = Outcome<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(worker) = Worker::current() {
            worker.set_polled(cx.waker().vtable());
        }
        // SAFETY: the field is pinned if the whole is: the `Drop` of the whole does not move it,
        // and the whole is `Unpin` only if the field is.
        let mut future = unsafe { self.as_mut().map_unchecked_mut(|this| &mut this.future) };
        let poll = || future.as_mut().as_pin_mut().expect("polled until it has ended").poll(cx);
        let result = match panic::catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => {
                tell_cure_of_task(&*payload);
                Err(payload)
            }
        };
        self.end();
        Poll::Ready(Outcome(ManuallyDrop::new(result)))
    }
}

/// The result of a future. If nobody takes it, it is dropped as the future is, and for the same
/// reason.
struct Outcome<T>(ManuallyDrop<thread::Result<T>>);

impl<T> Outcome<T> {
    fn into_inner(self) -> thread::Result<T> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken only once, since `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T> Drop for Outcome<T> {
    fn drop(&mut self) {
        // SAFETY: dropped only here; `into_inner` never drops `self`.
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| unsafe { ManuallyDrop::drop(&mut self.0) })) {
            report_drop(payload);
        }
    }
}

/// The text for a future that was canceled.
const CANCELED: &str = "the runtime was shut down before the future ended";

/// A spawned future. Awaiting it returns its output; dropping it detaches it.
#[must_use = "dropping a task detaches it; call `detach` to say so"]
pub struct Task<T> {
    /// Its output is none if the future was canceled.
    task: Option<FallibleTask<Outcome<T>>>,
}

impl<T> Task<T> {
    /// Waits until the future has ended, and returns its output.
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread.
    ///
    /// # Errors
    ///
    /// [`JoinError`] with the payload of its panic. If the future was canceled, because its
    /// runtime was dropped, the error has a text that says so.
    pub fn join(mut self) -> Result<T, JoinError> {
        match block_on(self.task.take().expect("joined once")) {
            Some(outcome) => outcome.into_inner().map_err(JoinError::new),
            None => Err(JoinError::new(Box::new(CANCELED))),
        }
    }

    /// Lets the future go on without a handle.
    pub fn detach(self) {
        drop(self);
    }

    /// Returns whether it has ended.
    pub fn is_finished(&self) -> bool {
        polled();
        self.task.as_ref().is_none_or(FallibleTask::is_finished)
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let task = self.task.as_mut().expect("polled after it was joined");
        Pin::new(task).poll(cx).map(|outcome| match outcome.map(Outcome::into_inner) {
            Some(Ok(output)) => output,
            Some(Err(payload)) => resume_from_task(payload),
            None => panic!("{CANCELED}"),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        // If there is an output already, this drops it.
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("finished", &self.is_finished()).finish()
    }
}
