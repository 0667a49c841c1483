//! An output: the channel that goroutines put results into, and what links them to whoever receives.
//!
//! ```text
//! worker(s) --- Sender --> channel --> Receiver(s) --- consumer
//!      |                     | keeps
//!      '--- Arc<Output> -----'
//!               |
//!           Arc<Group>   all outputs of one pool or fan: a panic ends them all
//! ```
//!
//! - The last receiver is dropped: the channel calls `receivers_gone`, which cancels the output's context, and every
//!   worker ends, also one that waits for input.
//! - A worker panics: it keeps the payload in the group, cancels the group's context so that the others stop, and drops
//!   its sender. When the last sender is gone and the channel is empty, the channel calls `drained` from the consumer's
//!   receive, which goes on with the panic. If all receivers go without receiving to the end, the panic goes the way of
//!   a goroutine that nobody joins.
//! - The user's context is done: so are the group's and the output's, being below it.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use crate::chan::{self, Keeper, Receiver, Sender, TryRecvError, TrySendError};
use crate::context::{CancelGuard, Context};
use crate::select;
use crate::sync::FirstPanic;

/// What the outputs of one pool or fan have in common.
#[derive(Debug)]
pub(super) struct Group {
    ctx: Context,
    cancel: CancelGuard,
    panic: FirstPanic,
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
        Arc::new(Group { ctx, cancel, panic: FirstPanic::default() })
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
        self.cancel.cancel();
        if let Some(payload) = self.group.panic.take() {
            goby_runtime::go(|| panic::resume_unwind(payload));
        }
    }

    fn drained(&self) {
        self.group.panic.raise();
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
    /// Puts `f` of everything from `input` into the output, until the input closes, the context is done or nobody
    /// receives. A panic of `f`, or one that the input comes with, is kept for the consumer.
    pub(super) fn run<T>(self, input: &Receiver<T>, f: impl Fn(T) -> R) {
        let work = || while self.next(input).is_some_and(|value| self.put(f(value))) {};
        // Unwind safe: after a panic only the output is used, and what `f` shared is behind its own locks.
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(work)) {
            self.output.group.panic.keep(payload);
            self.output.group.cancel.cancel();
            // The receivers may have gone in between, without seeing it.
            if self.sender.is_closed() {
                self.output.receivers_gone();
            }
        }
    }

    fn next<T>(&self, input: &Receiver<T>) -> Option<T> {
        let ctx = &self.output.ctx;
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

    /// Tells whether the result was put in, that is, whether there is a point in going on.
    fn put(&self, result: R) -> bool {
        let ctx = &self.output.ctx;
        match self.sender.try_send(result) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(result)) => select! {
                send(self.sender, result) -> sent => sent.is_ok(),
                recv(ctx.done()) -> _ => false,
            },
        }
    }
}
