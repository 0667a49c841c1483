//! An output: the channel that goroutines put results into, and what links them to the consumer.
//!
//! ```text
//! worker(s) --- Sender --> channel --> Receiver(s) --- consumer
//!      |                     | keeps
//!      '--- Arc<Output> -----'
//!               |
//!           Arc<Group>   all outputs of one pool or fan: a panic ends them all
//! ```
//!
//! - The last receiver is dropped: the channel calls `receivers_gone`, which cancels the output's
//!   context. Every worker ends, also one that waits for input.
//! - A worker panics: it keeps the payload in the group, cancels the group's context so that the
//!   others stop, and drops its sender. When the last sender is gone and the channel is empty, the
//!   channel calls `drained` from the consumer's receive, and the panic goes on there. If all
//!   receivers are dropped before the end is received, the panic ends as that of a goroutine that
//!   nobody joins.
//! - The user's context is done: so are the group's and the output's, which are below it.
//! - A job ends its goroutine by `goexit`: that is no panic. Its worker returns [`Ended::Exited`]
//!   and goes on in a new goroutine, so that a pool never has fewer workers than it was asked for.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe, Location};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goby_runtime::NeverRan;

use crate::chan::{self, Keeper, Receiver, Sender, TryRecvError, TrySendError};
use crate::context::{CancelGuard, Context};
use crate::select;
use crate::sync::FirstPanic;

/// How many results of a worker, and values of a merged output, may lie ready. With 1, as the Go
/// programs have it, each value costs one or two switches: 500 ns for a fan-out and fan-in of 8 on
/// one worker; with 16, 150 ns; with 64, 115 ns. But the results that lie ready were made in vain
/// if the consumer stops.
pub(super) const READY: usize = 16;

/// What the outputs of one pool or fan have in common.
#[derive(Debug)]
pub(super) struct Group {
    ctx: Context,
    cancel: CancelGuard,
    panic: FirstPanic,
    /// Whether a result is missing although the output would otherwise say that it had succeeded.
    /// Release and Acquire: the receiver that sees the output closed sees what was said before. The
    /// channel orders it too.
    misses_one: AtomicBool,
}

/// How guarded work has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was left when a job ended its goroutine is to be done by another"]
pub(super) enum Ended<V> {
    Returned(V),
    /// It panicked: the panic was kept, and the others stop.
    Panicked,
    /// It ended by `goexit`. Nothing was done about it.
    Exited,
}

/// What the workers and the channel of one output share.
#[derive(Debug)]
struct Output {
    group: Arc<Group>,
    ctx: Context,
    cancel: CancelGuard,
}

impl Group {
    /// Makes a group that ends with `ctx`.
    pub(super) fn new(ctx: &Context) -> Arc<Group> {
        let (ctx, cancel) = ctx.with_cancel();
        Arc::new(Group { ctx, cancel, panic: FirstPanic::default(), misses_one: AtomicBool::new(false) })
    }

    /// Makes an output with room for `capacity` results.
    pub(super) fn output<R: Send + 'static>(self: &Arc<Group>, capacity: usize) -> (Producer<R>, Receiver<R>) {
        let (ctx, cancel) = self.ctx.with_cancel();
        let output = Arc::new(Output { group: self.clone(), ctx, cancel });
        let (sender, receiver) = chan::bounded_kept(capacity, output.clone());
        (Producer { sender, output }, receiver)
    }
}

impl Keeper for Output {
    fn receivers_gone(&self) {
        self.cancel.end();
        if let Some(payload) = self.group.panic.take() {
            goby_runtime::go(|| panic::resume_unwind(payload));
        }
    }

    fn drained(&self) {
        self.group.panic.raise();
        if self.group.misses_one.load(Ordering::Acquire) && !goby_runtime::panicking() {
            panic!("pattern: a result is missing: its function ended the goroutine by goexit");
        }
    }
}

/// A worker's end of an output. When the last clone is dropped the output closes.
#[derive(Debug)]
pub(super) struct Producer<R> {
    sender: Sender<R>,
    output: Arc<Output>,
}

impl<R> Clone for Producer<R> {
    fn clone(&self) -> Producer<R> {
        Producer { sender: self.sender.clone(), output: self.output.clone() }
    }
}

impl<R> Producer<R> {
    /// The context of this output. It is done when the user's is, when a worker has panicked, or
    /// when nobody receives.
    pub(super) fn ctx(&self) -> &Context {
        &self.output.ctx
    }

    /// Puts `f` of each value from `input` into the output, until the input closes, the context is
    /// done or nobody receives.
    pub(super) fn run<T>(&self, input: &Receiver<T>, f: impl Fn(T) -> R) -> Ended<()> {
        self.guard(|| while self.next(input).is_some_and(|value| self.put(f(value))) {})
    }

    /// Runs a worker. A panic of the worker, or one that comes from its input, is kept for the
    /// consumer and stops the others.
    pub(super) fn guard<V>(&self, work: impl FnOnce() -> V) -> Ended<V> {
        // Unwind safe: after a panic only the output is used, and what `work` shared is behind its
        // own locks.
        match panic::catch_unwind(AssertUnwindSafe(work)) {
            Ok(value) => Ended::Returned(value),
            Err(payload) if goby_runtime::is_goexit(&*payload) => Ended::Exited,
            Err(payload) => {
                self.fail(payload);
                Ended::Panicked
            }
        }
    }

    /// Keeps a panic for the consumer, and stops the whole group.
    pub(super) fn fail(&self, payload: Box<dyn Any + Send>) {
        self.output.group.panic.keep(payload);
        self.output.group.cancel.cancel();
        // The receivers may have gone in between, without seeing it.
        if self.sender.is_refused() {
            self.output.receivers_gone();
        }
    }

    /// Makes the output end with a panic: one of its goroutines never ran, because its runtime was
    /// dropped.
    pub(super) fn never_ran(&self) {
        self.output.group.panic.keep_message(NeverRan::MESSAGE.into(), None);
        self.output.group.cancel.cancel();
    }

    /// Starts a goroutine that works for this output.
    pub(super) fn start(self, started_at: &'static Location<'static>, work: impl FnOnce(Producer<R>) + Send + 'static)
    where
        R: Send + 'static,
    {
        goby_runtime::go_owing(started_at, self, work, |output| output.never_ran());
    }

    /// Ends the output after what is in it now.
    pub(super) fn finish(&self) {
        self.output.cancel.cancel();
    }

    /// Sets whether the end of the output reports that a result is missing.
    pub(super) fn miss(&self, one: bool) {
        self.output.group.misses_one.store(one, Ordering::Release);
    }

    /// Waits for a value from the input. `None` when the input has closed, the context is done or
    /// nobody receives.
    #[inline]
    pub(super) fn next<T>(&self, input: &Receiver<T>) -> Option<T> {
        let ctx = self.ctx();
        if ctx.is_done() {
            return None;
        }
        match input.try_recv() {
            Ok(value) => Some(value),
            Err(TryRecvError::Closed) => None,
            Err(TryRecvError::Empty) => select! {
                recv(input) -> value => value.ok(),
                recv(ctx.done()) -> _ => None,
            },
        }
    }

    /// Returns a value from the input if there is one and the context is not done.
    #[inline]
    pub(super) fn try_next<T>(&self, input: &Receiver<T>) -> Option<T> {
        if self.ctx().is_done() { None } else { input.try_recv().ok() }
    }

    /// Puts a result in; returns whether it did, that is, whether the worker has a reason to go on.
    #[inline]
    pub(super) fn put(&self, result: R) -> bool {
        match self.sender.try_send(result) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(result)) => select! {
                send(self.sender, result) -> sent => sent.is_ok(),
                recv(self.ctx().done()) -> _ => false,
            },
        }
    }

    /// The output's sending end, for a caller that has more to wait for.
    pub(super) fn sender(&self) -> &Sender<R> {
        &self.sender
    }
}
