//! Locks, conditions, one-time work, wait groups, semaphores and barriers that park the goroutine and not its worker:
//! Go's package `sync`, with `golang.org/x/sync/semaphore`.
//!
//! Every type here works between goroutines, between OS threads, and between the two: a goroutine that has to wait is
//! parked and its worker runs others, an OS thread sleeps.
//!
//! | Go | goby |
//! |---|---|
//! | `sync.Mutex`, `sync.RWMutex` | [`Mutex<T>`](Mutex), [`RwLock<T>`](RwLock): the lock owns what it guards, a guard unlocks when dropped |
//! | `sync.Cond` | [`Cond`] |
//! | `sync.Once`, `sync.OnceFunc`, `sync.OnceValue` | [`Once`], [`once_func`], [`once_value`], and [`OnceCell`] |
//! | `sync.WaitGroup` | [`WaitGroup`] |
//! | `semaphore.Weighted` | [`Semaphore`] |
//! | (no counterpart) | [`Barrier`] |
//!
//! # Contexts
//!
//! Every call that may wait has a form that takes a [`Context`](crate::Context) and gives up when that is done. Calls
//! that take something (a lock, permits) look at the context first, so with a context that is already done they fail
//! even where nothing would have to be waited for. Calls that only wait for an event report the event when both have
//! happened. A cancellation that races with a grant never loses what was granted: the call then succeeds.
//!
//! # No poisoning
//!
//! A panic while a lock is held unlocks it, as a deferred `Unlock` does in Go; the next holder sees the value as the
//! panic left it. The panic itself is not lost: it comes out of `join`, [`scope`](crate::scope) or
//! [`WaitGroup::wait`]. A [`Once`] whose function panicked counts as not done.
//!
//! # Inside
//!
//! Read in this order: `queue` over `places` (where one waits), `raw_mutex` and `raw_rwlock` (the lock words, safe code), `mutex`
//! and `rwlock` (the guards: the only unsafe code), then the rest, each of which is a few lines over `queue`.

mod places;
mod queue;

mod mutex;
mod raw_mutex;

mod raw_rwlock;
mod rwlock;

mod barrier;
mod cond;
mod first_panic;
mod once;
mod semaphore;
mod wait_group;

pub use barrier::{Barrier, BarrierWaitResult};
pub use cond::{Cond, WaitTimeoutResult};
pub(crate) use first_panic::FirstPanic;
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceCell, once_func, once_value};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use wait_group::WaitGroup;
