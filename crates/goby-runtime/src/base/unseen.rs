//! What the runtime keeps for itself: ThreadSanitizer does not see it.
//!
//! A lock orders the threads that take it, one after the other. For the program's own locks that is
//! what ThreadSanitizer is to know. The runtime's locks are taken by whoever happens to call into
//! the runtime, and an order that comes from them would hide races of the program. These types
//! neither order the program's accesses nor have their own accesses looked at. Without
//! ThreadSanitizer each of them is the type inside it.

use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::tsan;

/// A mutex that orders nothing of the program. All that happens while it is locked is unseen, so no
/// user code runs under it.
#[derive(Debug, Default)]
pub(crate) struct UnseenMutex<T>(Mutex<T>);

impl<T> UnseenMutex<T> {
    pub(crate) const fn new(value: T) -> UnseenMutex<T> {
        UnseenMutex(Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> UnseenGuard<'_, T> {
        let ignore = tsan::ignore();
        UnseenGuard { guard: self.0.lock(), _ignore: ignore }
    }
}

/// Unlocks when it is dropped.
pub(crate) struct UnseenGuard<'a, T> {
    // In this order: unlocking is unseen, too.
    guard: MutexGuard<'a, T>,
    _ignore: tsan::Ignore,
}

impl<T> UnseenGuard<'_, T> {
    /// Unlocks, and puts the thread to sleep until `changed` is notified, for at most `nap`; then
    /// locks again. It may also wake for nothing.
    pub(crate) fn sleep(&mut self, changed: &Condvar, nap: Option<Duration>) {
        tsan::sleep(changed, &mut self.guard, nap);
    }

    /// The same until `deadline`; returns whether that came first.
    pub(crate) fn sleep_until(&mut self, changed: &Condvar, deadline: Instant) -> bool {
        changed.wait_until(&mut self.guard, deadline).timed_out()
    }

    /// Unlocks while `f` runs, which is unseen, too.
    pub(crate) fn unlocked<R>(&mut self, f: impl FnOnce() -> R) -> R {
        MutexGuard::unlocked(&mut self.guard, f)
    }

    /// Unlocks, then notifies one that sleeps.
    pub(crate) fn unlock_and_notify(self, changed: &Condvar) {
        let UnseenGuard { guard, _ignore } = self;
        drop(guard);
        changed.notify_one();
    }
}

impl<T> Deref for UnseenGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for UnseenGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A cell that is written once. ThreadSanitizer cannot see the edge inside std's cell.
pub(crate) struct UnseenOnce<T>(OnceLock<T>);

impl<T> UnseenOnce<T> {
    pub(crate) const fn new() -> UnseenOnce<T> {
        UnseenOnce(OnceLock::new())
    }

    #[cfg_attr(loom, expect(dead_code, reason = "the models ask nobody before they spin"))]
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        let _ignore = tsan::ignore();
        self.0.get()
    }

    #[inline]
    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        let _ignore = tsan::ignore();
        self.0.get_or_init(init)
    }
}

/// A value that has its own rules of who may use it when, by atomics that order nothing of the
/// program.
pub(crate) struct Unseen<T>(T);

impl<T> Unseen<T> {
    #[inline]
    pub(crate) const fn new(value: T) -> Unseen<T> {
        Unseen(value)
    }

    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        let _ignore = tsan::ignore();
        f(&self.0)
    }
}
