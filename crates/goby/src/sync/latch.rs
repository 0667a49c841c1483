//! A latch: whether it is open, and the line of those that wait for that.
//!
//! `open` repeats the state in an atomic, for the fast path only. The state under the queue's lock
//! decides whether a caller waits.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use goby_runtime::{Decision, WaitReason, checkpoint, polled};

use super::queue::{Outcome, Queue, Until, done_error};
use crate::context::{Context, ContextError};

/// An event that happens once. Until then callers wait for it; from then on nobody waits.
///
/// Go has no counterpart; the usual stand-in is a channel that is closed and carries nothing. goby
/// has that too, and it can be a case of [`select!`](crate::select!). A latch may be a `static`,
/// and any owner of a reference may open it.
///
/// ```
/// use goby::sync::Latch;
///
/// static READY: Latch = Latch::new();
/// let server = goby::go(|| {
///     READY.wait();
///     "serving"
/// });
/// READY.open();
/// assert_eq!(server.join().unwrap(), "serving");
/// READY.wait(); // Open is open.
/// ```
#[doc(alias = "Notify")]
pub struct Latch {
    open: AtomicBool,
    queue: Queue<bool>,
}

/// The token that waiters get when the latch opens.
const OPENED: usize = 0;

impl Latch {
    /// Makes a latch that is not open.
    ///
    /// ```
    /// assert!(!goby::sync::Latch::new().is_open());
    /// ```
    pub const fn new() -> Latch {
        Latch { open: AtomicBool::new(false), queue: Queue::new(false) }
    }

    /// Opens the latch and unparks all that wait; returns whether this call was the first to do so.
    ///
    /// # Memory ordering
    ///
    /// What was done before the first `open` happens before any `wait` returns.
    ///
    /// ```
    /// let latch = goby::sync::Latch::new();
    /// assert_eq!((latch.open(), latch.open()), (true, false));
    /// ```
    pub fn open(&self) -> bool {
        checkpoint();
        self.queue.with(|is_open, line| {
            let is_first = !*is_open;
            if is_first {
                *is_open = true;
                // Release pairs with the Acquire in `is_open`: a caller that finds it open sees
                // what was done before.
                self.open.store(true, Ordering::Release);
                line.unpark_all(OPENED);
            }
            is_first
        })
    }

    /// Returns whether it is open.
    ///
    /// ```
    /// let latch = goby::sync::Latch::new();
    /// latch.open();
    /// assert!(latch.is_open());
    /// ```
    pub fn is_open(&self) -> bool {
        // Acquire pairs with the Release in `open`.
        let is_open = self.open.load(Ordering::Acquire);
        if !is_open {
            polled();
        }
        is_open
    }

    /// Waits until it is open.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) until somebody calls [`open`](Latch::open).
    ///
    /// ```
    /// let latch = goby::sync::Latch::new();
    /// goby::scope(|s| {
    ///     s.go(|| latch.open());
    ///     latch.wait();
    /// });
    /// ```
    pub fn wait(&self) {
        self.wait_until(Until::Forever);
    }

    /// Waits until it is open or `ctx` is done.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done and the latch was not open before.
    ///
    /// ```
    /// use goby::{Context, context::ContextError, sync::Latch};
    ///
    /// let (latch, (ctx, cancel)) = (Latch::new(), Context::background().with_cancel());
    /// cancel.cancel();
    /// assert_eq!(latch.wait_ctx(&ctx), Err(ContextError::Canceled));
    /// latch.open();
    /// assert_eq!(latch.wait_ctx(&ctx), Ok(()));
    /// ```
    pub fn wait_ctx(&self, ctx: &Context) -> Result<(), ContextError> {
        if self.wait_until(Until::Done(ctx)) { Ok(()) } else { Err(done_error(ctx)) }
    }

    /// Waits until it is open, for at most `timeout`; returns whether it is.
    ///
    /// ```
    /// let latch = goby::sync::Latch::new();
    /// assert!(!latch.wait_timeout(std::time::Duration::from_millis(1)));
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = goby_runtime::now().checked_add(timeout);
        self.wait_until(deadline.map_or(Until::Forever, Until::Deadline))
    }

    /// Waits until it is open, until `deadline`; returns whether it is.
    ///
    /// ```
    /// let latch = goby::sync::Latch::new();
    /// assert!(!latch.wait_deadline(std::time::Instant::now()));
    /// ```
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.wait_until(Until::Deadline(deadline))
    }

    fn wait_until(&self, until: Until<'_>) -> bool {
        checkpoint();
        // Acquire as in `is_open`.
        if self.open.load(Ordering::Acquire) {
            return true;
        }
        let outcome = self.queue.wait_until(WaitReason::LatchWait, until, |is_open, _| Decision::ready_if(*is_open));
        outcome != Outcome::GaveUp
    }
}

impl Default for Latch {
    fn default() -> Latch {
        Latch::new()
    }
}

impl fmt::Debug for Latch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latch").field("open", &self.open.load(Ordering::Relaxed)).finish()
    }
}
