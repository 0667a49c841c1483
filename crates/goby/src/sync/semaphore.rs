//! A weighted semaphore: a number of free permits, and a first-in first-out line of requests.
//!
//! The call that makes a grant possible also makes it, under the queue's lock: an acquire that
//! finds the line empty, a release, or a request that leaves the front of the line because its
//! context is done. Nobody overtakes, so small requests do not starve a large one.

use std::fmt;
use std::ptr;
use std::sync::Arc;

use goby_runtime::{Decision, WaitReason, checkpoint, gives_back, polled, refused};

use super::queue::{Line, Outcome, Queue, done_error};
use crate::context::{Context, ContextError};

/// Lends out a fixed number of permits, any number at a time. Go:
/// `golang.org/x/sync/semaphore.Weighted`.
///
/// It is a handle: clones lend out the same permits. Requests are served strictly in turn. If a
/// [`Runtime`](crate::Runtime) is dropped while a goroutine of its own waits for permits, those
/// that this one is given are lost: nobody comes for them.
///
/// ```
/// use goby::sync::{Semaphore, WaitGroup};
///
/// let at_most_2 = Semaphore::new(2);
/// let wg = WaitGroup::new();
/// for _ in 0..10 {
///     let permit = at_most_2.take(1);
///     wg.go(move || {
///         // Work; no more than two of these at a time.
///         drop(permit);
///     });
/// }
/// wg.wait();
/// assert_eq!(at_most_2.available(), 2);
/// ```
#[doc(alias("semaphore.Weighted", "NewWeighted"))]
#[derive(Clone)]
pub struct Semaphore {
    inner: Arc<Inner>,
}

struct Inner {
    size: usize,
    /// The state is how many permits are free. The info of each request is how many it wants.
    queue: Queue<usize, usize>,
}

/// The token that a granted request gets.
const GRANTED: usize = 0;

impl Semaphore {
    /// Makes a semaphore of `size` permits. Go: `NewWeighted`.
    ///
    /// ```
    /// assert_eq!(goby::sync::Semaphore::new(3).available(), 3);
    /// ```
    pub fn new(size: usize) -> Semaphore {
        Semaphore { inner: Arc::new(Inner { size, queue: Queue::new(size) }) }
    }

    /// Waits until `n` permits are free and no earlier request waits, and takes them until the
    /// [`Permit`] is dropped. Go: `Acquire`.
    ///
    /// `n` may be zero: such a request waits its turn and takes nothing.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps). A request for more than the semaphore's size can
    /// never be granted: it hinders nobody, and waits until `ctx` is done.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done already, even where permits are free, or gets done before
    /// the grant.
    ///
    /// # Cancellation
    ///
    /// Permits granted at the moment of the cancellation go back: none is ever lost. A request that
    /// gives up lets those behind it go on.
    ///
    /// ```
    /// use goby::{Context, sync::Semaphore};
    ///
    /// let semaphore = Semaphore::new(5);
    /// let permit = semaphore.acquire(&Context::background(), 3)?;
    /// assert_eq!(semaphore.available(), 2);
    /// drop(permit);
    /// assert_eq!(semaphore.available(), 5);
    /// # Ok::<(), goby::context::ContextError>(())
    /// ```
    #[doc(alias("acquire_owned", "acquire_many"))]
    pub fn acquire(&self, ctx: &Context, n: usize) -> Result<Permit, ContextError> {
        checkpoint();
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        if n > self.inner.size {
            self.wait_in_vain(ctx);
            return Err(done_error(ctx));
        }
        if let Some(permit) = self.take_free(n) {
            return Ok(permit);
        }
        let outcome = self.inner.queue.wait_ctx(
            WaitReason::SemaphoreAcquire,
            ctx,
            n,
            |free, line| Decision::ready_if(take_free(free, line, n)),
            serve,
        );
        if outcome == Outcome::GaveUp {
            return Err(done_error(ctx));
        }
        let permit = self.permit(n);
        // The holder of the permits may hear of the context's end sooner than this request, and
        // give the permits back because of it. Then the grant came too late.
        ctx.err().map_or(Ok(permit), Err)
    }

    /// Waits as [`acquire`](Semaphore::acquire) does, without a context that could end it.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) until the permits are granted.
    ///
    /// # Panics
    ///
    /// If `n` is more than the semaphore's size: that could never be granted.
    ///
    /// ```
    /// let semaphore = goby::sync::Semaphore::new(5);
    /// let permit = semaphore.take(3);
    /// assert_eq!((permit.count(), semaphore.available()), (3, 2));
    /// ```
    #[track_caller]
    pub fn take(&self, n: usize) -> Permit {
        let size = self.inner.size;
        assert!(n <= size, "semaphore: {n} permits of a semaphore of {size} are never granted");
        self.acquire(&Context::background(), n).expect("the background is never done")
    }

    /// Takes `n` permits if they are free and nobody waits. Go: `TryAcquire`.
    ///
    /// ```
    /// let semaphore = goby::sync::Semaphore::new(1);
    /// let permit = semaphore.try_acquire(1);
    /// assert!(permit.is_some());
    /// assert!(semaphore.try_acquire(1).is_none());
    /// ```
    pub fn try_acquire(&self, n: usize) -> Option<Permit> {
        checkpoint();
        let permit = self.take_free(n);
        if permit.is_none() {
            refused();
        }
        permit
    }

    /// Gives back `n` permits that were taken and [forgotten](Permit::forget). Go: `Release`.
    ///
    /// # Panics
    ///
    /// If fewer than `n` are taken: "semaphore: released more than held".
    ///
    /// ```
    /// let semaphore = goby::sync::Semaphore::new(2);
    /// semaphore.try_acquire(2).unwrap().forget();
    /// semaphore.release(1);
    /// assert_eq!(semaphore.available(), 1);
    /// ```
    #[track_caller]
    pub fn release(&self, n: usize) {
        gives_back(ptr::from_ref(&*self.inner).addr());
        let size = self.inner.size;
        let released = self.inner.queue.with(|free, line| {
            let is_held = size - *free >= n;
            if is_held {
                *free += n;
                serve(free, line);
            }
            is_held
        });
        assert!(released, "semaphore: released more than held");
    }

    /// Returns how many permits are free at this moment, for statistics.
    ///
    /// ```
    /// let semaphore = goby::sync::Semaphore::new(2);
    /// let _permit = semaphore.try_acquire(1);
    /// assert_eq!(semaphore.available(), 1);
    /// ```
    pub fn available(&self) -> usize {
        polled();
        self.inner.queue.with(|free, _| *free)
    }

    fn take_free(&self, n: usize) -> Option<Permit> {
        self.inner.queue.with(|free, line| take_free(free, line, n)).then(|| self.permit(n))
    }

    /// Wraps `n` permits that were just taken.
    fn permit(&self, n: usize) -> Permit {
        Permit { semaphore: self.clone(), n }
    }

    /// Waits until `ctx` is done, without a place in the line.
    fn wait_in_vain(&self, ctx: &Context) {
        let nowhere: Queue<()> = Queue::new(());
        let _: Outcome<()> =
            nowhere.wait_ctx(WaitReason::SemaphoreAcquire, ctx, (), |_, _| Decision::Wait(()), |_, _| ());
    }
}

/// Takes `n` permits unless too few are free or an earlier request waits.
fn take_free(free: &mut usize, line: &mut Line<'_, '_, usize>, n: usize) -> bool {
    let takes = *free >= n && line.is_empty();
    if takes {
        *free -= n;
    }
    takes
}

/// Grants requests from the front of the line as long as permits are left for them.
fn serve(free: &mut usize, line: &mut Line<'_, '_, usize>) {
    while let Some(&n) = line.front_info().filter(|n| **n <= *free) {
        *free -= n;
        line.unpark_one(GRANTED);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("size", &self.inner.size).field("available", &self.available()).finish()
    }
}

/// Permits taken from a [`Semaphore`]; dropping it gives them back.
///
/// It may be sent to the goroutine that does the work.
///
/// ```
/// use goby::{Context, sync::Semaphore};
///
/// let semaphore = Semaphore::new(1);
/// let permit = semaphore.acquire(&Context::background(), 1)?;
/// goby::go(move || drop(permit)).join().unwrap();
/// assert_eq!(semaphore.available(), 1);
/// # Ok::<(), goby::context::ContextError>(())
/// ```
#[doc(alias("SemaphorePermit", "OwnedSemaphorePermit"))]
#[must_use = "the permits are given back at once if this is not kept"]
pub struct Permit {
    semaphore: Semaphore,
    n: usize,
}

impl Permit {
    /// Returns how many permits these are.
    ///
    /// ```
    /// assert_eq!(goby::sync::Semaphore::new(2).try_acquire(2).unwrap().count(), 2);
    /// ```
    pub fn count(&self) -> usize {
        self.n
    }

    /// Keeps the permits taken. [`Semaphore::release`] gives them back by number, as in Go.
    ///
    /// ```
    /// let semaphore = goby::sync::Semaphore::new(1);
    /// semaphore.try_acquire(1).unwrap().forget();
    /// assert_eq!(semaphore.available(), 0);
    /// ```
    pub fn forget(mut self) {
        self.n = 0;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.n > 0 {
            self.semaphore.release(self.n);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("count", &self.n).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The holder hears of the end first, and gives its permit back for it, before the waiter
    /// hears.
    #[test]
    fn a_grant_after_the_end_goes_back() {
        let runtime = goby_runtime::Runtime::builder().workers(2).build().unwrap();
        runtime.run(|| {
            let semaphore = Semaphore::new(1);
            let held = semaphore.try_acquire(1);
            let (ctx, cancel) = Context::background().with_cancel();
            let _hook = ctx.on_done(move || drop(held));
            let waiter = goby_runtime::go({
                let semaphore = semaphore.clone();
                move || semaphore.acquire(&ctx, 1).map(drop)
            });
            while !goby_runtime::goroutines().iter().any(|info| info.waited().is_some()) {
                goby_runtime::yield_now();
            }
            cancel.cancel();
            assert_eq!(waiter.join().unwrap(), Err(ContextError::Canceled));
            assert_eq!(semaphore.available(), 1);
        });
    }
}
