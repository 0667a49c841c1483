//! State behind a short lock, with the FIFO of the waiters for a change of it: the safe way to
//! build a primitive.
//!
//! `sync` and sockets are built from it. Channels are not: they hand values over through the
//! waiters' slots.

use std::cell::Cell;
use std::fmt;
use std::time::Instant;

use crate::base::biased::BiasedLock;
use crate::engine::park::{TIMED_OUT, Wait};
use crate::engine::wait_queue::{WaitQueue, Waiter};
use crate::engine::wait_reason::WaitReason;
use crate::engine::wake_list::WakeList;

/// State, and the waiters for a change of it.
///
/// ```
/// use goby_runtime::{Decision, Gate, WaitReason, Waited};
///
/// let door = Gate::new(false);
/// let open = goby_runtime::scope(|s| {
///     let waiter = s.go(|| door.wait(WaitReason::CondWait, None, |open, _| Decision::ready_if(*open)));
///     door.with(|open, waiters| {
///         *open = true;
///         waiters.unpark_all(7);
///     });
///     waiter.join().unwrap()
/// });
/// assert!(matches!(open, Waited::Ready(()) | Waited::Unparked(7)));
/// ```
pub struct Gate<S> {
    inner: BiasedLock<Inner<S>>,
}

struct Inner<S> {
    state: S,
    queue: WaitQueue,
}

/// Whether the caller has to wait: the answer of the function that is given to [`Gate::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<R, W = usize> {
    /// There is no need to wait, with the result.
    Ready(R),
    /// The caller goes to the back of the queue, with this tag.
    Wait(W),
}

impl<W: Default> Decision<(), W> {
    /// Waits, with the default tag, unless `is_ready`.
    pub fn ready_if(is_ready: bool) -> Decision<(), W> {
        if is_ready { Decision::Ready(()) } else { Decision::Wait(W::default()) }
    }
}

/// How a [`Gate::wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited<R> {
    /// There was no need to wait.
    Ready(R),
    /// A notifier unparked the waiter, with this token.
    Unparked(usize),
    /// The deadline came first; no notifier has counted this waiter.
    TimedOut,
}

/// The waiters of a gate, while its lock is held.
pub struct Waiters<'a> {
    queue: &'a mut WaitQueue,
    wake: &'a mut WakeList,
}

impl fmt::Debug for Waiters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters").finish_non_exhaustive()
    }
}

/// A queue entry and the notifier's message. `waiter.slot` points to `message`.
struct Entry {
    waiter: Waiter,
    message: Cell<usize>,
}

impl Waiters<'_> {
    /// Returns the tag of the waiter that has waited longest.
    pub fn front_tag(&mut self) -> Option<usize> {
        if self.queue.has_waiter() { self.queue.front_token() } else { None }
    }

    /// Returns whether nobody waits.
    pub fn is_empty(&mut self) -> bool {
        !self.queue.has_waiter()
    }

    /// Ends the wait of the waiter that has waited longest; false if nobody waits. The waiter is
    /// unparked after the lock is released.
    pub fn unpark_one(&mut self, token: usize) -> bool {
        let Some((waiter, unparker)) = self.queue.pop() else { return false };
        // SAFETY: the entry is alive until the unparker is used; its slot is the `message` next to
        // it.
        unsafe { (*waiter.as_ref().slot().cast::<Cell<usize>>()).set(token) };
        self.wake.push(unparker);
        true
    }

    /// Ends all waits; returns how many.
    pub fn unpark_all(&mut self, token: usize) -> usize {
        let mut n = 0;
        while self.unpark_one(token) {
            n += 1;
        }
        n
    }
}

impl<S> Gate<S> {
    /// Makes a gate around `state`.
    #[cfg(not(loom))]
    pub const fn new(state: S) -> Gate<S> {
        Gate { inner: BiasedLock::new(Inner { state, queue: WaitQueue::new() }) }
    }

    /// Makes a gate around `state` (loom's atomics are not `const`).
    #[cfg(loom)]
    pub fn new(state: S) -> Gate<S> {
        Gate { inner: BiasedLock::new(Inner { state, queue: WaitQueue::new() }) }
    }

    /// Runs `f` under the lock. It must be a few instructions long: no user code, nothing that
    /// parks.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&mut S, &mut Waiters<'_>) -> R) -> R {
        let mut wake = WakeList::new();
        let result = {
            let mut inner = self.inner.lock();
            let Inner { state, queue } = &mut *inner;
            f(state, &mut Waiters { queue, wake: &mut wake })
        };
        wake.unpark_all();
        result
    }

    /// Asks `f` under the lock. [`Decision::Ready`] means that there is no need to wait;
    /// [`Decision::Wait`] means to wait with that tag until a notifier unparks, at most until
    /// `deadline`.
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread.
    pub fn wait<R>(
        &self,
        reason: WaitReason,
        deadline: Option<Instant>,
        f: impl FnOnce(&mut S, &mut Waiters<'_>) -> Decision<R>,
    ) -> Waited<R> {
        // SAFETY: this function parks on the wait below, if and only if it is queued. It is shown
        // to this gate's notifiers, and they unpark it.
        let wait = unsafe { Wait::current() };
        let entry = Entry { waiter: Waiter::new(0, std::ptr::null_mut()), message: Cell::new(0) };
        let mut wake = WakeList::new();
        let decision = {
            let mut inner = self.inner.lock();
            let Inner { state, queue } = &mut *inner;
            let decision = f(state, &mut Waiters { queue, wake: &mut wake });
            if let Decision::Wait(tag) = decision {
                entry.waiter.set(tag, (&raw const entry.message).cast_mut().cast());
                // SAFETY: `entry` and `wait` stay where they are until this function returns. It
                // returns after the unpark, or after the entry was taken out.
                unsafe { queue.push_back(&entry.waiter, &wait) };
            }
            decision
        };
        wake.unpark_all();
        match decision {
            Decision::Ready(ready) => Waited::Ready(ready),
            Decision::Wait(_) => {
                if wait.park_until(reason, deadline) == TIMED_OUT {
                    // SAFETY: the entry is in this gate's queue, or was dropped from it.
                    unsafe { self.inner.lock().queue.remove(&entry.waiter) };
                    Waited::TimedOut
                } else {
                    Waited::Unparked(entry.message.get())
                }
            }
        }
    }

    /// Returns the state, when nobody else can use the gate.
    pub fn into_inner(self) -> S
    where
        S: Default,
    {
        std::mem::take(&mut self.inner.lock().state)
    }
}

impl<S> fmt::Debug for Gate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}
