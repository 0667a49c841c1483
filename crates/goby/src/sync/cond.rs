//! Condition variables: a queue. Its state is the lock that its waiters use.
//!
//! A waiter that has decided to join unlocks its lock while it holds the queue's lock. So a
//! notifier that changes the value after that unlock finds the waiter in the line. This is the one
//! place where a lock (that of the mutex's queue, or of the readers-writer lock's queues) is taken
//! under a queue's lock. The order is always the condition's lock first. No value of the user's is
//! dropped there: a guard that owns its lock leaves a reference with the waiter (`guard`).
//!
//! A waiter with another lock than those that wait already would be missed, so it panics. The noted
//! address counts only while somebody waits, and that waiter keeps the lock alive.

use std::fmt;
use std::ops::DerefMut;
use std::time::{Duration, Instant};

use goby_runtime::checked::{NO_OBJECT, without_points};
use goby_runtime::{Decision, WaitReason, checkpoint, gives_back};

use super::guard::CondGuard;
use super::queue::{Outcome, Queue, Until, done_error};
use crate::context::{Context, ContextError};

/// A place to wait until something about the value of a [`Mutex`](super::Mutex) or an
/// [`RwLock`](super::RwLock) changes. Go: `sync.Cond`.
///
/// Each [`signal`](Cond::signal) unparks exactly one waiter, the one that has waited longest, and
/// each [`broadcast`](Cond::broadcast) unparks all that wait at that moment. Nobody is unparked
/// otherwise. Between the unpark and the moment when the waiter has the lock again, others may have
/// changed the value. So check it in a loop, or use [`wait_while`](Cond::wait_while).
///
/// A wait takes any guard of the two locks, and gives back one of the same kind: waiters that are
/// readers of an [`RwLock`](super::RwLock) go on together.
///
/// # Panics
///
/// Every wait, if somebody waits with another lock at that moment: use one condition with one lock.
///
/// ```
/// use goby::sync::{Cond, Mutex};
///
/// let (queue, not_empty) = (Mutex::new(Vec::new()), Cond::new());
/// let taken = goby::scope(|s| {
///     let taker = s.go(|| not_empty.wait_while(queue.lock(), |queue| queue.is_empty()).pop());
///     queue.lock().push(7);
///     not_empty.signal();
///     taker.join().unwrap()
/// });
/// assert_eq!(taken, Some(7));
/// ```
#[doc(alias("sync.Cond", "NewCond", "Condvar", "Notify"))]
pub struct Cond {
    /// The address of the lock that the waiters use.
    queue: Queue<usize>,
}

impl Cond {
    /// Makes a condition that nobody waits for.
    ///
    /// ```
    /// static CHANGED: goby::sync::Cond = goby::sync::Cond::new();
    /// CHANGED.broadcast(); // Nobody waits: nothing happens.
    /// ```
    pub const fn new() -> Cond {
        Cond { queue: Queue::new(0) }
    }

    /// Unlocks, waits to be signaled, and locks again. Go: `Wait`.
    ///
    /// Unlocking and beginning to wait are one step: a signal that is given after it is not missed.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) until a `signal` or `broadcast`, then until it has
    /// the lock.
    ///
    /// ```
    /// use goby::sync::{Cond, Mutex};
    ///
    /// let (ready, changed) = (Mutex::new(false), Cond::new());
    /// goby::scope(|s| {
    ///     s.go(|| {
    ///         *ready.lock() = true;
    ///         changed.signal();
    ///     });
    ///     let mut guard = ready.lock();
    ///     while !*guard {
    ///         guard = changed.wait(guard);
    ///     }
    ///     assert!(*guard);
    /// });
    /// ```
    #[track_caller]
    pub fn wait<G: CondGuard>(&self, guard: G) -> G {
        self.wait_until(guard, Until::Forever).0
    }

    /// Waits for as long as `condition` holds of the value.
    ///
    /// # Blocking
    ///
    /// As [`wait`](Cond::wait); not at all if `condition` does not hold. The guard must be one that
    /// may write, since the condition may write. A reader writes the loop by hand, around `wait`.
    ///
    /// ```
    /// use goby::sync::{Cond, Mutex};
    ///
    /// let (count, changed) = (Mutex::new(3), Cond::new());
    /// let guard = changed.wait_while(count.lock(), |count| *count == 0);
    /// assert_eq!(*guard, 3);
    /// ```
    #[track_caller]
    pub fn wait_while<G>(&self, mut guard: G, mut condition: impl FnMut(&mut G::Target) -> bool) -> G
    where
        G: CondGuard + DerefMut,
    {
        while condition(&mut guard) {
            guard = self.wait(guard);
        }
        guard
    }

    /// Waits to be signaled for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`wait`](Cond::wait): after the time-out too it must have the lock before it returns.
    ///
    /// ```
    /// use goby::sync::{Cond, Mutex};
    /// use std::time::Duration;
    ///
    /// let (mutex, cond) = (Mutex::new(()), Cond::new());
    /// let (_guard, result) = cond.wait_timeout(mutex.lock(), Duration::from_millis(1));
    /// assert!(result.timed_out());
    /// ```
    #[track_caller]
    pub fn wait_timeout<G: CondGuard>(&self, guard: G, timeout: Duration) -> (G, WaitTimeoutResult) {
        match goby_runtime::now().checked_add(timeout) {
            Some(deadline) => self.wait_deadline(guard, deadline),
            None => (self.wait(guard), WaitTimeoutResult { timed_out: false }),
        }
    }

    /// Waits to be signaled until `deadline`.
    ///
    /// # Blocking
    ///
    /// As [`wait_timeout`](Cond::wait_timeout).
    ///
    /// ```
    /// use goby::sync::{Cond, Mutex};
    /// use std::time::Instant;
    ///
    /// let (mutex, cond) = (Mutex::new(()), Cond::new());
    /// assert!(cond.wait_deadline(mutex.lock(), Instant::now()).1.timed_out());
    /// ```
    #[track_caller]
    pub fn wait_deadline<G: CondGuard>(&self, guard: G, deadline: Instant) -> (G, WaitTimeoutResult) {
        let (guard, signaled) = self.wait_until(guard, Until::Deadline(deadline));
        (guard, WaitTimeoutResult { timed_out: !signaled })
    }

    /// Waits to be signaled until `ctx` is done. The guard comes back in either case.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done already (then it does not even unlock) or gets done
    /// before a signal chose this waiter.
    ///
    /// # Cancellation
    ///
    /// No signal is lost: a waiter that a signal chose returns `Ok`, even if the context is done by
    /// then.
    ///
    /// ```
    /// use goby::{Context, context::ContextError, sync::{Cond, Mutex}};
    /// use std::time::Duration;
    ///
    /// let (mutex, cond) = (Mutex::new(1), Cond::new());
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// let (guard, result) = cond.wait_ctx(mutex.lock(), &ctx);
    /// assert_eq!((*guard, result), (1, Err(ContextError::DeadlineExceeded)));
    /// ```
    #[track_caller]
    pub fn wait_ctx<G: CondGuard>(&self, guard: G, ctx: &Context) -> (G, Result<(), ContextError>) {
        if let Some(error) = ctx.err() {
            return (guard, Err(error));
        }
        let (guard, signaled) = self.wait_until(guard, Until::Done(ctx));
        (guard, if signaled { Ok(()) } else { Err(done_error(ctx)) })
    }

    /// Waits for as long as `condition` holds of the value, until `ctx` is done. The guard comes
    /// back in either case.
    ///
    /// # Errors
    ///
    /// The context's error, if the condition still holds when it is done.
    ///
    /// ```
    /// use goby::{Context, context::ContextError, sync::{Cond, Mutex}};
    /// use std::time::Duration;
    ///
    /// let (count, changed) = (Mutex::new(0), Cond::new());
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// let (guard, result) = changed.wait_while_ctx(count.lock(), &ctx, |count| *count == 0);
    /// assert_eq!(result, Err(ContextError::DeadlineExceeded));
    /// let (guard, result) = changed.wait_while_ctx(guard, &ctx, |count| *count != 0);
    /// assert_eq!((*guard, result), (0, Ok(())));
    /// ```
    #[track_caller]
    pub fn wait_while_ctx<G>(
        &self,
        mut guard: G,
        ctx: &Context,
        mut condition: impl FnMut(&mut G::Target) -> bool,
    ) -> (G, Result<(), ContextError>)
    where
        G: CondGuard + DerefMut,
    {
        let mut result = Ok(());
        while condition(&mut guard) {
            if result.is_err() {
                return (guard, result);
            }
            // The loop looks at the condition once more after the end of the context: the condition
            // may no longer hold.
            (guard, result) = self.wait_ctx(guard, ctx);
        }
        (guard, Ok(()))
    }

    /// Unparks the waiter that has waited longest; returns whether anybody waited. Go: `Signal`.
    ///
    /// The caller may hold the lock, or not.
    ///
    /// ```
    /// assert!(!goby::sync::Cond::new().signal(), "nobody waits");
    /// ```
    #[doc(alias = "notify_one")]
    pub fn signal(&self) -> bool {
        checkpoint();
        self.queue.with(|_, line| line.unpark_one(SIGNALED))
    }

    /// The same as [`signal`](Cond::signal), by the name that std uses.
    ///
    /// ```
    /// goby::sync::Cond::new().notify_one();
    /// ```
    pub fn notify_one(&self) -> bool {
        self.signal()
    }

    /// Unparks all waiters; returns how many there were. Go: `Broadcast`.
    ///
    /// The caller may hold the lock, or not.
    ///
    /// ```
    /// assert_eq!(goby::sync::Cond::new().broadcast(), 0);
    /// ```
    #[doc(alias("notify_all", "notify_waiters"))]
    pub fn broadcast(&self) -> usize {
        checkpoint();
        self.queue.with(|_, line| line.unpark_all(SIGNALED))
    }

    /// The same as [`broadcast`](Cond::broadcast), by the name that std uses.
    ///
    /// ```
    /// goby::sync::Cond::new().notify_all();
    /// ```
    pub fn notify_all(&self) -> usize {
        self.broadcast()
    }

    /// Waits, and returns whether a signal ended the wait.
    #[track_caller]
    fn wait_until<G: CondGuard>(&self, guard: G, until: Until<'_>) -> (G, bool) {
        let lock = G::lock_of(&guard);
        let mine = G::address(&lock);
        let mut guard = Some(guard);
        // The point of the unlock below, where there must be none: it is under the queue's lock.
        gives_back(NO_OBJECT);
        let outcome = self.queue.wait_until(WaitReason::CondWait, until, |theirs, line| {
            if !line.is_empty() && *theirs != mine {
                return Decision::Ready(());
            }
            *theirs = mine;
            // See the head of the file: the queue's lock is held until this waiter is in the line.
            without_points(|| drop(guard.take()));
            Decision::Wait(())
        });
        assert!(outcome != Outcome::Ready(()), "sync: a Cond is waited for with more than one lock");
        (G::relock(lock), outcome != Outcome::GaveUp)
    }
}

/// The token that an unparked waiter gets.
const SIGNALED: usize = 0;

impl Default for Cond {
    fn default() -> Cond {
        Cond::new()
    }
}

impl fmt::Debug for Cond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cond").finish_non_exhaustive()
    }
}

/// Says whether a wait ended by its time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult {
    timed_out: bool,
}

impl WaitTimeoutResult {
    /// Whether the time-out came before a signal chose this waiter.
    ///
    /// ```
    /// use goby::sync::{Cond, Mutex};
    /// use std::time::Duration;
    ///
    /// let mutex = Mutex::new(());
    /// let (_guard, result) = Cond::new().wait_timeout(mutex.lock(), Duration::ZERO);
    /// assert!(result.timed_out());
    /// ```
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }
}
