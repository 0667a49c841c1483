//! Futures: awaited by a goroutine ([`block_on`]), or run beside the goroutines on the same workers
//! ([`spawn`]).

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
use crate::base::tsan;
use crate::engine::current::current_shared;
use crate::engine::join_error::JoinError;
use crate::engine::park::{IsArmed, Wait, WaitReason, with_reach};
use crate::engine::park::{checkpoint, polled};
use crate::engine::run_queue::Fresh;
use crate::engine::shared::Shared;
use crate::engine::worker::Worker;

/// Runs a future to its end, parking the goroutine whenever it is pending.
///
/// On an OS thread it parks the thread. It may be nested: the future may itself call what parks.
///
/// ```
/// assert_eq!(goby::block_on(async { 6 * 7 }), 42);
/// ```
///
/// # Blocking
///
/// The goroutine, or the OS thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    block_on_with_reach(false, None, future)
}

/// The same, saying what [`with_reach`] does of its waits.
#[doc(hidden)]
pub fn block_on_with_reach<F: Future>(context: bool, timer: Option<IsArmed<'_>>, future: F) -> F::Output {
    let mut future = pin!(future);
    let signal = Arc::new(Signal { waiter: AtomicPtr::new(ptr::null_mut()) });
    let waker = Signal::waker(signal.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        checkpoint();
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        with_reach(context, timer, || signal.wait());
    }
}

/// Connects wakers, which may be used at any time and any number of times, with exactly one claim a
/// wait.
///
/// `waiter` is null (nothing has happened), `WOKEN` (a wake-up is due), or the [`Wait`] of the
/// parked goroutine.
struct Signal {
    waiter: AtomicPtr<Wait>,
}

const WOKEN: *mut Wait = ptr::without_provenance_mut(1);

impl Signal {
    /// Parks until woken; returns at once if that has happened since the last call.
    fn wait(&self) {
        // SAFETY: parked on if it is shown, to `wake_by_ref`, which unparks.
        let wait = unsafe { Wait::current() };
        let waiter = ptr::from_ref(&wait).cast_mut();
        // AcqRel: the release publishes the `Wait`; the acquire pairs with the swap in `wake`.
        if self.waiter.compare_exchange(ptr::null_mut(), waiter, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            wait.park(WaitReason::BlockOn);
        }
        // Acquire pairs with the swap in `wake`: the poll that follows sees what was done before
        // it. What a wake-up after that leaves is found next time.
        self.waiter.swap(ptr::null_mut(), Ordering::AcqRel);
    }
}

/// Known by its address to who asks whether a waker is one of goby's own (`errand.rs`).
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
    /// `data` is that of a waker from `waker`, for this function and those below.
    unsafe fn clone_raw(data: *const ()) -> RawWaker {
        // SAFETY: by contract; the waker that is cloned holds a reference.
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
            // SAFETY: the swap took the pointer out, so this is the one claim of that `Wait`, which
            // lives until the unpark.
            if let Some(unparker) = unsafe { &*waiter }.claim(0) {
                unparker.unpark();
            }
        }
    }
}

/// Runs a future on the workers, beside the goroutines; a few hundred bytes instead of a stack.
///
/// Like an unstarted goroutine it may run on any worker. It must not block: inside it, await.
///
/// ```
/// let task = goby::spawn(async { 6 * 7 });
/// assert_eq!(task.join().unwrap(), 42);
/// ```
///
/// # Panics
///
/// A panic of the future comes out of [`Task::join`], or of awaiting the task. So does a panic that
/// says so, if the future was to be polled and its runtime had been dropped.
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
        worker.slab.note_allocation();
    }
    let body = Body { future: Some(future), _live: Live { shared } };
    let (runnable, task) = async_task::spawn(body, move |runnable| schedule(shared, runnable));
    let runnable = publish(runnable);
    {
        // What async-task does to its counter after `schedule` is no edge from a future that has
        // ended by then.
        let _ignore = tsan::ignore();
        runnable.schedule();
    }
    Task { task: Some(task.fallible()) }
}

/// Counts a future until it has ended or was cancelled.
struct Live {
    shared: &'static Shared,
}

impl Drop for Live {
    fn drop(&mut self) {
        count(self.shared, -1);
    }
}

/// Counts one future more or less, each worker for itself: a counter that all write to would travel
/// between them.
fn count(shared: &Shared, change: isize) {
    // Two threads that start futures are not ordered by that.
    let _ignore = tsan::ignore();
    match Worker::current() {
        Some(worker) if ptr::eq(worker.shared, shared) => worker.count_task(change),
        // SeqCst: in one order with the deadlock detector's looks.
        _ => _ = shared.tasks_outside.fetch_add(change.cast_unsigned(), Ordering::SeqCst),
    }
}

/// Orders what the caller has done before the next poll.
fn publish(runnable: Runnable) -> Runnable {
    let raw = runnable.into_raw();
    tsan::release(raw.as_ptr());
    // SAFETY: out of `into_raw` just now.
    unsafe { Runnable::from_raw(raw) }
}

fn schedule(shared: &'static Shared, runnable: Runnable) {
    let runnable = publish(runnable);
    let _ignore = tsan::ignore();
    match Worker::current() {
        Some(worker) if ptr::eq(worker.shared, shared) => worker.push_fresh(Fresh::Future(runnable)),
        _ => shared.inject(Fresh::Future(runnable)),
    }
}

/// Polls a future that a worker took from a queue.
pub(crate) fn run(worker: &Worker, runnable: Runnable) {
    let raw = runnable.into_raw();
    tsan::acquire(raw.as_ptr());
    // SAFETY: out of `into_raw` just now.
    let runnable = unsafe { Runnable::<()>::from_raw(raw) };
    // No future's, but not null: this is the user's code, be it a future's destructor.
    worker.set_polled(Waker::noop().vtable());
    // It does not panic: what a poll panics with is kept for the task's owner, and what a
    // destructor panics with is reported.
    runnable.run();
    worker.set_polled(ptr::null());
}

fn report_drop(payload: Box<dyn Any + Send>) {
    report(format_args!("a spawned future, or its output, panicked when it was dropped: {}", payload_text(&*payload)));
    std::mem::forget(payload);
}

/// What runs: the future, its panic kept as its result. Not an `async` block, in which the future
/// would lie twice: once captured, once awaited.
struct Body<F> {
    /// None once it has ended: dropped by [`end`](Body::end), since async-task aborts the process
    /// for a destructor that panics.
    future: Option<F>,
    _live: Live,
}

impl<F> Body<F> {
    /// Drops the future where it lies, whatever its destructor does.
    fn end(self: Pin<&mut Self>) {
        // SAFETY: the field is pinned with the whole.
        let mut future = unsafe { self.map_unchecked_mut(|this| &mut this.future) };
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| future.set(None))) {
            report_drop(payload);
        }
    }
}

/// Of one that is cancelled. The count of futures goes down after this.
impl<F> Drop for Body<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            // SAFETY: it is dropped where it was polled, and not moved after this.
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
        // SAFETY: the field is pinned with the whole, whose `Drop` does not move it, and which is
        // not `Unpin` unless the field is.
        let mut future = unsafe { self.as_mut().map_unchecked_mut(|this| &mut this.future) };
        let poll = || future.as_mut().as_pin_mut().expect("polled until it has ended").poll(cx);
        let result = match panic::catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(payload),
        };
        self.end();
        Poll::Ready(Outcome(ManuallyDrop::new(result)))
    }
}

/// What a future has come to. Dropped here where nobody takes it, as the future is, and for the
/// same reason.
struct Outcome<T>(ManuallyDrop<thread::Result<T>>);

impl<T> Outcome<T> {
    fn into_inner(self) -> thread::Result<T> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken once, since `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T> Drop for Outcome<T> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here; `into_inner` leaves none to drop.
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| unsafe { ManuallyDrop::drop(&mut self.0) })) {
            report_drop(payload);
        }
    }
}

/// What comes of a future that was cancelled.
const CANCELLED: &str = "the runtime was shut down before the future ended";

/// A spawned future. Awaiting it gives its output; dropping it detaches it.
#[must_use = "dropping a task detaches it; call `detach` to say so"]
pub struct Task<T> {
    /// Gives nothing if the future was cancelled.
    task: Option<FallibleTask<Outcome<T>>>,
}

impl<T> Task<T> {
    /// Waits until the future has ended and gives its output.
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread.
    ///
    /// # Errors
    ///
    /// [`JoinError`] with the payload of its panic, or with a text that says so if it was
    /// cancelled, because its runtime was dropped.
    pub fn join(mut self) -> Result<T, JoinError> {
        match block_on(self.task.take().expect("joined once")) {
            Some(outcome) => outcome.into_inner().map_err(JoinError::new),
            None => Err(JoinError::new(Box::new(CANCELLED))),
        }
    }

    /// Lets it go on without a handle.
    pub fn detach(self) {
        drop(self);
    }

    /// Whether it has ended.
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
            Some(Err(payload)) => panic::resume_unwind(payload),
            None => panic!("{CANCELLED}"),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        // An output that is there already is dropped now.
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
