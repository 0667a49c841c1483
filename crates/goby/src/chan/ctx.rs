//! Sends and receives that give up when a context is done: each is a select of two cases, under a
//! name.

use std::error::Error;
use std::fmt;

use super::err::CLOSED;
use super::{Receiver, Sender};
use crate::context::{Context, ContextError};

/// A send that was not carried out before its context was done, or that can never succeed; with the
/// value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendCtxError<T> {
    /// The context was done first, in this way.
    Done(T, ContextError),
    /// The channel is closed, or its receivers are gone.
    Closed(T),
}

/// A receive that got nothing before its context was done, or that can never succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvCtxError {
    /// The context was done first, in this way.
    Done(ContextError),
    /// The channel is closed and drained.
    Closed,
}

impl<T: Send> Sender<T> {
    /// Sends a value; waits as [`send`](Sender::send) does, until `ctx` is done.
    ///
    /// ```
    /// use goby::{Context, chan::{self, SendCtxError}, context::ContextError};
    /// use std::time::Duration;
    /// let (tx, rx) = chan::bounded(1);
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// assert_eq!(tx.send_ctx(&Context::background(), "a"), Ok(()));
    /// assert_eq!(tx.send_ctx(&ctx, "b"), Err(SendCtxError::Done("b", ContextError::DeadlineExceeded)));
    /// assert_eq!(rx.recv(), Ok("a"));
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    ///
    /// # Errors
    ///
    /// [`SendCtxError`] with the value. If `ctx` is done already, nothing is sent, even if there is
    /// room.
    ///
    /// # Cancellation
    ///
    /// The value is either received (or buffered), or comes back.
    ///
    /// Source: Go's `select { case ch <- v: case <-ctx.Done(): }`.
    pub fn send_ctx(&self, ctx: &Context, value: T) -> Result<(), SendCtxError<T>> {
        if let Some(error) = ctx.err() {
            return Err(SendCtxError::Done(value, error));
        }
        let mut unsent = Some(value);
        crate::select! {
            send(self, ref unsent) -> sent => sent.map_err(|refused| SendCtxError::Closed(refused.into_inner())),
            recv(ctx.done()) -> _ => {
                let value = unsent.expect("the value of a case that was not taken is left");
                Err(SendCtxError::Done(value, how_it_ended(ctx)))
            }
        }
    }
}

impl<T: Send> Receiver<T> {
    /// Receives a value; waits until `ctx` is done.
    ///
    /// ```
    /// use goby::{Context, chan::{self, RecvCtxError}, context::ContextError};
    /// let (tx, rx) = chan::bounded(1);
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// tx.send(1).unwrap();
    /// assert_eq!(rx.recv_ctx(&ctx), Ok(1));
    /// goby::go(move || cancel.cancel());
    /// assert_eq!(rx.recv_ctx(&ctx), Err(RecvCtxError::Done(ContextError::Canceled)));
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    ///
    /// # Errors
    ///
    /// [`RecvCtxError`]. If `ctx` is done already, nothing is received, even if a value is there.
    ///
    /// # Cancellation
    ///
    /// No value is lost: a value that is not returned is still in the channel.
    ///
    /// Source: Go's `select { case v, ok := <-ch: case <-ctx.Done(): }`.
    pub fn recv_ctx(&self, ctx: &Context) -> Result<T, RecvCtxError> {
        if let Some(error) = ctx.err() {
            return Err(RecvCtxError::Done(error));
        }
        crate::select! {
            recv(self) -> value => value.map_err(|_| RecvCtxError::Closed),
            recv(ctx.done()) -> _ => Err(RecvCtxError::Done(how_it_ended(ctx))),
        }
    }
}

fn how_it_ended(ctx: &Context) -> ContextError {
    ctx.err().expect("a context whose done channel is closed has an error")
}

impl<T> SendCtxError<T> {
    /// Gives the value back.
    pub fn into_inner(self) -> T {
        match self {
            SendCtxError::Done(value, _) | SendCtxError::Closed(value) => value,
        }
    }

    /// Drops the value, as [`SendError::without_value`](super::SendError::without_value) does.
    ///
    /// ```
    /// use goby::{Context, chan::{self, SendCtxError}};
    /// let (tx, _) = chan::bounded(1);
    /// let error = tx.send_ctx(&Context::background(), 1).unwrap_err();
    /// assert_eq!(error.without_value(), SendCtxError::Closed(()));
    /// ```
    pub fn without_value(self) -> SendCtxError<()> {
        match self {
            SendCtxError::Done(_, error) => SendCtxError::Done((), error),
            SendCtxError::Closed(_) => SendCtxError::Closed(()),
        }
    }

    /// Whether every further try fails.
    pub fn is_closed(&self) -> bool {
        matches!(self, SendCtxError::Closed(_))
    }
}

impl RecvCtxError {
    /// Whether every further try fails.
    pub fn is_closed(&self) -> bool {
        matches!(self, RecvCtxError::Closed)
    }
}

impl<T> fmt::Debug for SendCtxError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendCtxError::Done(_, error) => write!(f, "Done({:?})", error.to_string()),
            SendCtxError::Closed(_) => f.write_str("Closed(\"channel closed\")"),
        }
    }
}

impl<T> fmt::Display for SendCtxError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendCtxError::Done(_, error) => write!(f, "sending: {error}"),
            SendCtxError::Closed(_) => f.write_str(CLOSED),
        }
    }
}

impl fmt::Display for RecvCtxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvCtxError::Done(error) => write!(f, "receiving: {error}"),
            RecvCtxError::Closed => f.write_str("receiving on an empty, closed channel"),
        }
    }
}

impl<T> Error for SendCtxError<T> {}
impl Error for RecvCtxError {}
