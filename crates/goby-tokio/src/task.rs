//! Futures that run beside the goroutines, on goby's workers.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use crate::bridge::refuse_in_a_task;
use crate::entered::EnteredFuture;

/// What the task and its handle share.
#[derive(Default)]
struct Order {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_aborted: bool,
    /// Wakes the task; none before its first poll, and once it has ended.
    waker: Option<Waker>,
}

impl Order {
    /// Nothing panics under the lock, so what it guards is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the task is to stop; otherwise an order from now on wakes it. The waker is
    /// goby's own, so that to clone it under the lock runs no code of the program's.
    fn ask(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        let old = match &mut state.waker {
            Some(old) if old.will_wake(waker) => None,
            slot => slot.replace(waker.clone()),
        };
        let is_aborted = state.is_aborted;
        drop(state);
        drop(old);
        is_aborted
    }

    fn abort(&self) {
        let mut state = self.lock();
        state.is_aborted = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

pin_project! {
    /// What goby runs: the future, until it ends, panics or is aborted.
    struct Body<F> {
        // None once it has ended.
        #[pin]
        future: Option<EnteredFuture<F>>,
        order: Arc<Order>,
    }
}

impl<F: Future> Future for Body<F> {
    type Output = Result<F::Output, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = if this.order.ask(cx.waker()) {
            Err(JoinError(Kind::Aborted))
        } else {
            let future = this.future.as_mut().as_pin_mut().expect("polled until it has ended");
            match panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(output)) => Ok(output),
                Err(payload) => Err(JoinError(Kind::Panicked(payload))),
            }
        };
        // The destructor of an aborted future may panic. Its handle says so, as tokio's does. If
        // the future has panicked, that is the panic which counts.
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        let result = match (result, dropped) {
            (Err(JoinError(Kind::Aborted)), Err(payload)) => Err(JoinError(Kind::Panicked(payload))),
            (result, _) => result,
        };
        let waker = this.order.lock().waker.take();
        drop(waker);
        Poll::Ready(result)
    }
}

pub(crate) fn spawn<F>(future: EnteredFuture<F>) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let order = Arc::new(Order::default());
    let task = goby::spawn(Body { future: Some(future), order: order.clone() });
    JoinHandle { task, order }
}

/// The handle of a spawned future. Dropping it detaches the future.
///
/// It can be joined, which parks the goroutine, or awaited, with the same result.
#[must_use = "dropping a handle detaches the future; call `detach` to say so"]
pub struct JoinHandle<T> {
    task: goby::Task<Result<T, JoinError>>,
    order: Arc<Order>,
}

impl<T> JoinHandle<T> {
    /// Waits until the future has ended, and returns its output.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    ///
    /// # Errors
    ///
    /// [`JoinError`], if the future panicked or was aborted. A future whose destructor panics when
    /// it is aborted has panicked.
    ///
    /// # Panics
    ///
    /// If goby's runtime was dropped before the future had ended. In a task of tokio's, where the
    /// handle is to be awaited: with tokio's words "Cannot start a runtime from within a runtime".
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        refuse_in_a_task();
        goby::__tokio::block_on(self)
    }

    /// Tells the future to stop where it waits, as tokio's `abort` does: it is dropped, with tokio
    /// entered, and not polled again. Does nothing to a future that has ended.
    ///
    /// ```
    /// let waits = goby_tokio::spawn(std::future::pending::<()>());
    /// waits.abort();
    /// assert!(waits.join().unwrap_err().is_aborted());
    /// ```
    pub fn abort(&self) {
        self.order.abort();
    }

    /// Lets the future go on without a handle.
    pub fn detach(self) {
        self.task.detach();
    }

    /// Returns whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

/// Awaits the future's end. In a goroutine, await it in [`block_on`](crate::block_on): in goby's
/// own `block_on` the goroutine counts as one that only goroutines can unpark, and so may be
/// reported as a leak.
///
/// # Panics
///
/// If goby's runtime was dropped before the future had ended.
impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx)
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish()
    }
}

/// Why a spawned future gave no output: it panicked, or was aborted.
pub struct JoinError(Kind);

enum Kind {
    Aborted,
    Panicked(Box<dyn Any + Send>),
}

impl JoinError {
    /// Returns whether the future was aborted.
    pub fn is_aborted(&self) -> bool {
        matches!(self.0, Kind::Aborted)
    }

    /// Returns whether the future panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Kind::Panicked(_))
    }

    /// Returns the payload of the panic, for `std::panic::resume_unwind`; none if it was aborted.
    pub fn into_panic(self) -> Option<Box<dyn Any + Send>> {
        match self.0 {
            Kind::Aborted => None,
            Kind::Panicked(payload) => Some(payload),
        }
    }

    /// Returns the text of the panic, if it has one.
    pub fn message(&self) -> Option<&str> {
        let Kind::Panicked(payload) = &self.0 else { return None };
        payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied())
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.message()) {
            (Kind::Aborted, _) => f.write_str("aborted"),
            (Kind::Panicked(_), Some(message)) => write!(f, "panicked: {message}"),
            (Kind::Panicked(_), None) => f.write_str("panicked: (a panic payload that is no text)"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl Error for JoinError {}
