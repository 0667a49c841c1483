//! Blocking calls that the end of a context takes back while they wait for a helper thread.

use goby_runtime::{WaitReason, Withdrawal, blocking_as, blocking_unless};

use super::{Context, ContextError};

/// Runs `f` on a helper thread, unless `ctx` is done before it has begun. Once it has begun nothing
/// ends it.
pub(crate) fn blocking_ctx<R: Send>(
    ctx: &Context,
    reason: WaitReason,
    f: impl FnOnce() -> R + Send,
) -> Result<R, ContextError> {
    if let Some(error) = ctx.err() {
        return Err(error);
    }
    if !ctx.can_end() {
        return Ok(blocking_as(reason, f));
    }
    let withdrawal = Withdrawal::new();
    let withdraws = withdrawal.clone();
    let _watch = ctx.on_done(move || withdraws.withdraw());
    blocking_unless(&withdrawal, reason, f).ok_or_else(|| ctx.err().expect("it is done"))
}
