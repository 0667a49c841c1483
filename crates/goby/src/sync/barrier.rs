//! A barrier: how many have come, and the line of those that wait for the rest.

use std::fmt;

use goby_runtime::{Decision, WaitReason, checkpoint};

use super::queue::{Line, Outcome, Queue, done_error};
use crate::context::{Context, ContextError};

/// Lets `n` goroutines go on once all of them have come, again and again.
///
/// Go has no counterpart; std's is `std::sync::Barrier`.
///
/// ```
/// use goby::sync::{Barrier, Mutex};
///
/// let (barrier, log) = (Barrier::new(2), Mutex::new(vec![]));
/// goby::scope(|s| {
///     for _ in 0..2 {
///         s.go(|| {
///             log.lock().push("before");
///             barrier.wait();
///             log.lock().push("after");
///         });
///     }
/// });
/// assert_eq!(*log.lock(), ["before", "before", "after", "after"]);
/// ```
pub struct Barrier {
    n: usize,
    /// The state is how many have come and wait.
    queue: Queue<usize>,
}

/// The token that waiters get when the last one has come.
const ALL_HERE: usize = 0;

impl Barrier {
    /// Makes a barrier for `n` goroutines. A barrier for 0 or 1 holds nobody up.
    ///
    /// ```
    /// assert!(goby::sync::Barrier::new(1).wait().is_leader());
    /// ```
    pub const fn new(n: usize) -> Barrier {
        Barrier { n, queue: Queue::new(0) }
    }

    /// Waits until `n` have come.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) until the last of them calls this.
    ///
    /// ```
    /// let barrier = goby::sync::Barrier::new(2);
    /// let leaders = goby::scope(|s| {
    ///     let other = s.go(|| barrier.wait().is_leader());
    ///     [barrier.wait().is_leader(), other.join().unwrap()]
    /// });
    /// assert_ne!(leaders[0], leaders[1]);
    /// ```
    pub fn wait(&self) -> BarrierWaitResult {
        checkpoint();
        let outcome = self.queue.wait(WaitReason::BarrierWait, None, |here, line| self.come(here, line));
        BarrierWaitResult { is_leader: outcome == Outcome::Ready(()) }
    }

    /// Waits until `n` have come or `ctx` is done.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done already or gets done before the last has come. A
    /// goroutine that gives up no longer counts as here.
    ///
    /// ```
    /// use goby::{Context, context::ContextError, sync::Barrier};
    /// use std::time::Duration;
    ///
    /// let barrier = Barrier::new(2);
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// assert_eq!(barrier.wait_ctx(&ctx), Err(ContextError::DeadlineExceeded));
    /// ```
    pub fn wait_ctx(&self, ctx: &Context) -> Result<BarrierWaitResult, ContextError> {
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        let outcome = self.queue.wait_ctx(
            WaitReason::BarrierWait,
            ctx,
            (),
            |here, line| self.come(here, line),
            |here, _| *here -= 1,
        );
        match outcome {
            Outcome::GaveUp => Err(done_error(ctx)),
            outcome => Ok(BarrierWaitResult { is_leader: outcome == Outcome::Ready(()) }),
        }
    }

    /// Counts one more as here. `Ready` means that it was the last, and all go on.
    fn come(&self, here: &mut usize, line: &mut Line<'_, '_>) -> Decision<(), ()> {
        *here += 1;
        if *here < self.n {
            return Decision::Wait(());
        }
        *here = 0;
        line.unpark_all(ALL_HERE);
        Decision::Ready(())
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("n", &self.n).finish_non_exhaustive()
    }
}

/// Says which of the goroutines that met at a [`Barrier`] came last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Whether this goroutine came last: true for one per round.
    ///
    /// ```
    /// assert!(goby::sync::Barrier::new(1).wait().is_leader());
    /// ```
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
}
