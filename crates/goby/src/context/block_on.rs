//! Awaiting a future until a context is done.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use goby_runtime::{IsArmed, WaitReason};

use super::{Context, ContextError};

/// Runs a future as [`block_on`](crate::block_on) does, until `ctx` is done: then the future is
/// dropped.
///
/// The future must need no other runtime, as tokio's timers and sockets do. Those run by
/// `goby_tokio::block_on_ctx`: [more of it](crate::guide::other_crates#futures-that-need-tokio).
///
/// ```
/// use goby::{Context, block_on_ctx, chan, context::ContextError};
/// use std::time::Duration;
/// let ctx = Context::background();
/// assert_eq!(block_on_ctx(&ctx, async { 6 * 7 }), Ok(42));
/// let (ctx, _cancel) = ctx.with_timeout(Duration::from_millis(5));
/// let (_tx, rx) = chan::bounded::<u8>(0);
/// assert_eq!(block_on_ctx(&ctx, rx.recv_async()), Err(ContextError::DeadlineExceeded));
/// ```
///
/// # Blocking
///
/// Parks the goroutine, or puts the OS thread to sleep.
///
/// # Errors
///
/// The context's error, if `ctx` was done before the future; at once if it is done already.
///
/// # Cancellation
///
/// The future is dropped while it is pending, so this is as good as the future's own cancellation.
/// A `&mut` of a future keeps the future.
pub fn block_on_ctx<F: Future>(ctx: &Context, future: F) -> Result<F::Output, ContextError> {
    block_on_ctx_for(WaitReason::BlockOn, ctx, None, future)
}

/// Does as [`block_on_ctx`]; dumps show this reason of its waits, and that a timer ends them if the
/// context has a deadline, or `timer` says so.
pub(crate) fn block_on_ctx_for<F: Future>(
    reason: WaitReason,
    ctx: &Context,
    timer: Option<IsArmed<'_>>,
    future: F,
) -> Result<F::Output, ContextError> {
    if let Some(error) = ctx.err() {
        return Err(error);
    }
    let (mut future, mut done) = (pin!(future), pin!(ctx.done().recv_async()));
    let always: IsArmed<'_> = &|| true;
    let timer = if ctx.deadline().is_some() { Some(always) } else { timer };
    goby_runtime::block_on_for(
        reason,
        || ctx.can_end(),
        timer,
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let ended = |_| Err(ctx.err().expect("a context whose done channel is closed has an error"));
            done.as_mut().poll(cx).map(ended)
        }),
    )
}
