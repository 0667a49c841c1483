//! What the maker of a context keeps: the guards that cancel it, and the handles of the functions
//! that run when it is done.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::entries::Entry;
use super::node::{Node, Outcome};
use super::{ContextError, IntoCause};

/// Cancels its context when told to, or when dropped.
///
/// Keep it as long as the work goes on: `let (ctx, _cancel) = …`, not `let (ctx, _) = …`.
///
/// ```
/// use goby::{Context, context::ContextError};
/// let (ctx, cancel) = Context::background().with_cancel();
/// {
///     let _cancel = cancel; // a deferred cancel
/// }
/// assert_eq!(ctx.err(), Some(ContextError::Canceled));
/// ```
///
/// Source: Go's `context.CancelFunc`.
#[doc(alias("CancelFunc", "context.CancelFunc", "DropGuard"))]
#[must_use = "the context is canceled when its guard is dropped"]
pub struct CancelGuard {
    /// `None` once disarmed.
    node: Option<Arc<Node>>,
}

impl CancelGuard {
    pub(super) fn new(node: Arc<Node>) -> CancelGuard {
        CancelGuard { node: Some(node) }
    }

    /// Cancels the context and all that are derived from it; does nothing if it is done.
    ///
    /// On return the context's `done` is closed, and so are those of its descendants, unless
    /// another goroutine is canceling them at this moment. The call does not wait for the work to
    /// stop.
    ///
    /// ```
    /// use goby::{Context, context::ContextError};
    /// let (parent, cancel) = Context::background().with_cancel();
    /// let (child, _cancel_child) = parent.with_cancel();
    /// cancel.cancel();
    /// assert_eq!(child.err(), Some(ContextError::Canceled));
    /// ```
    pub fn cancel(&self) {
        goby_runtime::checkpoint();
        self.end();
    }

    /// Does the same as [`cancel`](CancelGuard::cancel), for parts of goby, which may run in a
    /// destructor.
    pub(crate) fn end(&self) {
        if let Some(node) = &self.node {
            node.cancel(&Outcome { error: ContextError::Canceled, cause: None });
        }
    }

    /// Gives up the right to cancel: the context ends with its parent, or at its deadline, or
    /// never.
    ///
    /// ```
    /// let (ctx, cancel) = goby::Context::background().with_cancel();
    /// cancel.disarm();
    /// assert_eq!(ctx.err(), None);
    /// ```
    pub fn disarm(mut self) {
        self.node = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        goby_runtime::gives_back(self.node.as_ref().map_or(0, |node| Arc::as_ptr(node).addr()));
        self.end();
    }
}

impl fmt::Debug for CancelGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelGuard").finish_non_exhaustive()
    }
}

/// Cancels its context with a cause, or without one when dropped.
///
/// ```
/// use goby::{Context, context::ContextError};
/// let (ctx, cancel) = Context::background().with_cancel_cause();
/// drop(cancel);
/// assert_eq!(ctx.cause().unwrap().downcast_ref(), Some(&ContextError::Canceled));
/// ```
///
/// Source: Go's `context.CancelCauseFunc`.
#[doc(alias("CancelCauseFunc", "context.CancelCauseFunc"))]
#[must_use = "the context is canceled when its guard is dropped"]
#[derive(Debug)]
pub struct CancelCauseGuard {
    guard: CancelGuard,
}

impl CancelCauseGuard {
    pub(super) fn new(node: Arc<Node>) -> CancelCauseGuard {
        CancelCauseGuard { guard: CancelGuard::new(node) }
    }

    /// Cancels the context and all that are derived from it, for the given reason; does nothing if
    /// it is done.
    ///
    /// ```
    /// use goby::Context;
    /// use std::sync::Arc;
    /// let (ctx, cancel) = Context::background().with_cancel_cause();
    /// cancel.cancel(Arc::new(std::fmt::Error));
    /// cancel.cancel("too late");
    /// assert!(ctx.cause().unwrap().is::<std::fmt::Error>(), "the first cancellation wins");
    /// ```
    pub fn cancel(&self, cause: impl IntoCause) {
        goby_runtime::checkpoint();
        if let Some(node) = &self.guard.node {
            node.cancel(&Outcome { error: ContextError::Canceled, cause: Some(cause.into_cause()) });
        }
    }

    /// Gives up the right to cancel: the context ends with its parent, or never.
    ///
    /// ```
    /// let (ctx, cancel) = goby::Context::background().with_cancel_cause();
    /// cancel.disarm();
    /// assert_eq!(ctx.err(), None);
    /// ```
    pub fn disarm(self) {
        self.guard.disarm();
    }
}

/// The handle of a function that runs when a context is done, from
/// [`Context::after_func`](super::Context::after_func).
pub struct AfterFunc {
    on_done: OnDone,
    stopped: AtomicBool,
}

impl AfterFunc {
    pub(super) fn new(on_done: OnDone) -> AfterFunc {
        AfterFunc { on_done, stopped: AtomicBool::new(false) }
    }

    /// Makes sure that the function will not be started; returns true if this call did so.
    ///
    /// False means that the function was started, in its own goroutine, or that it was stopped
    /// before. The call does not wait for the function.
    ///
    /// ```
    /// let (ctx, cancel) = goby::Context::background().with_cancel();
    /// let cleanup = ctx.after_func(|| unreachable!());
    /// assert!(cleanup.stop());
    /// assert!(!cleanup.stop(), "only once");
    /// cancel.cancel();
    /// ```
    pub fn stop(&self) -> bool {
        goby_runtime::checkpoint();
        // Relaxed: it only decides which call may remove the entry. The entry itself is under the
        // node's lock. Without this a second call could remove an entry that has got the slot
        // since.
        !self.stopped.swap(true, Ordering::Relaxed) && self.on_done.remove()
    }
}

impl Drop for AfterFunc {
    fn drop(&mut self) {
        // The function stays registered: its entry is the node's.
        self.on_done.registered = Registered::Nowhere;
    }
}

impl fmt::Debug for AfterFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterFunc").finish_non_exhaustive()
    }
}

/// The registration of a callback that runs inside the cancellation. Dropping it takes the callback
/// back.
///
/// Dropping does not wait: a callback that has begun on another thread may still be running.
pub(crate) struct OnDone {
    registered: Registered,
}

enum Registered {
    At(Arc<Node>, u32),
    /// On a context that is never done.
    Never,
    /// It ran, or we can no longer take it back.
    Nowhere,
}

impl OnDone {
    pub(super) fn never() -> OnDone {
        OnDone { registered: Registered::Never }
    }

    pub(super) fn register(node: &Arc<Node>, f: impl FnOnce() + Send + 'static) -> OnDone {
        match node.register(Entry::Callback(Box::new(f))) {
            Ok(slot) => OnDone { registered: Registered::At(node.clone(), slot) },
            Err(entry) => {
                entry.run();
                OnDone { registered: Registered::Nowhere }
            }
        }
    }

    /// Takes the callback back; returns true if it will not run, false if it ran or is running.
    #[cfg(test)]
    pub(super) fn stop(mut self) -> bool {
        let removed = self.remove();
        self.registered = Registered::Nowhere;
        removed
    }

    /// Call it once: afterwards the slot may have another entry.
    fn remove(&self) -> bool {
        match &self.registered {
            Registered::At(node, slot) => node.unregister(*slot),
            Registered::Never => true,
            Registered::Nowhere => false,
        }
    }
}

impl Drop for OnDone {
    fn drop(&mut self) {
        self.remove();
    }
}

impl fmt::Debug for OnDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDone").finish_non_exhaustive()
    }
}
