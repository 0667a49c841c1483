//! The short lock: one byte, for critical sections of a few instructions that never park, allocate
//! little and run no user code.
//!
//! Acquiring is one compare-and-swap, and releasing is one plain store. That is why it is not a
//! mutex of the system: a channel operation takes one such lock, and 2.6 ns for a second atomic
//! update would be a quarter of it. Contention can only come from another *thread* inside the
//! section, never from a goroutine (no lock is held across a switch), so a short spin nearly always
//! suffices. Where the holder lost its processor, the waiter gives its own up, and then sleeps.

use std::cell::UnsafeCell;
use std::fmt;
use std::hint;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::base::primitive::{AtomicBool, Ordering};
#[cfg(not(loom))]
use crate::base::unseen::UnseenOnce;

/// Spins of the first round, and how often they double before the processor is given up: 0.2 to 3
/// µs, some 6 in all. They are that long because the line of a contended lock is worth more where
/// it is. The other thread goes through ten sections while we leave it alone, at a tenth of what
/// they cost if the line travels after each (chan_mpmc apart: 240 ns before, 55 now).
const FIRST_SPINS: u32 = 8;
const DOUBLINGS: u32 = 5;
/// Times the processor is given up before sleeping.
const YIELDS: u32 = 20;
/// How long to sleep then: the holder has lost its processor, perhaps for a time slice of the
/// system's.
const NAP: Duration = Duration::from_micros(50);

/// Whether the caller may spin until another thread has done something. Installed by the workers,
/// which know what else there is to run. Without them every caller may.
#[cfg(not(loom))]
static MAY_SPIN: UnseenOnce<fn() -> bool> = UnseenOnce::new();

/// Installs the function that [`Backoff::spin`] asks.
#[cfg(not(loom))]
pub(crate) fn ask_before_spinning(may_spin: fn() -> bool) {
    MAY_SPIN.get_or_init(|| may_spin);
}

#[cfg(not(loom))]
fn may_spin() -> bool {
    MAY_SPIN.get().is_none_or(|may_spin| may_spin())
}

/// A value behind a short lock.
pub struct Lock<T: ?Sized> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives out one reference at a time, so sharing it at most moves the value between
// threads.
unsafe impl<T: ?Sized + Send> Sync for Lock<T> {}
// SAFETY: the lock owns its value.
unsafe impl<T: ?Sized + Send> Send for Lock<T> {}

impl<T> Lock<T> {
    /// Puts `value` behind a lock.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Lock<T> {
        Lock { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Puts `value` behind a lock (loom's atomics are not `const`).
    #[cfg(loom)]
    pub fn new(value: T) -> Lock<T> {
        Lock { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }
}

impl<T: ?Sized> Lock<T> {
    /// Waits until no other thread is inside, and enters.
    #[inline]
    pub fn lock(&self) -> LockGuard<'_, T> {
        if !self.try_enter() {
            self.lock_slow();
        }
        LockGuard { lock: self, value: PhantomData }
    }

    /// Enters without a guard; [`unlock`](Lock::unlock) leaves. For code that holds several locks
    /// at once.
    #[inline]
    pub fn lock_raw(&self) {
        if !self.try_enter() {
            self.lock_slow();
        }
    }

    /// Returns the value, for the thread that is inside by [`lock_raw`](Lock::lock_raw).
    #[inline]
    pub fn get(&self) -> *mut T {
        self.value.get()
    }

    /// Leaves.
    ///
    /// # Safety
    ///
    /// This thread is inside, by [`lock_raw`](Lock::lock_raw), and no longer uses what
    /// [`get`](Lock::get) gave.
    #[inline]
    pub unsafe fn unlock(&self) {
        // Release pairs with the Acquire of the next holder: it sees all that was done inside.
        self.locked.store(false, Ordering::Release);
    }

    #[inline]
    fn try_enter(&self) -> bool {
        // Acquire pairs with the Release store in `unlock`.
        self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn lock_slow(&self) {
        let mut backoff = Backoff::new();
        loop {
            if looks_free(&self.locked) && self.try_enter() {
                return;
            }
            backoff.step();
        }
    }
}

/// Returns whether the lock looks free. A failed compare-and-swap moves the cache line for nothing,
/// so look first.
#[cfg(not(loom))]
fn looks_free(locked: &AtomicBool) -> bool {
    !locked.load(Ordering::Relaxed)
}

/// Returns true: loom may give a relaxed load the old value forever.
#[cfg(loom)]
fn looks_free(_: &AtomicBool) -> bool {
    true
}

/// Waits for a running thread: spins ever longer, then gives up the processor, then sleeps.
#[derive(Debug, Default)]
pub struct Backoff {
    rounds: u32,
}

impl Backoff {
    /// Begins with the shortest pause.
    pub fn new() -> Backoff {
        Backoff { rounds: 0 }
    }

    /// Spins, twice as long each time. Returns false, without spinning, if it has spun often
    /// enough, or if the worker has other goroutines to run.
    #[cfg(not(loom))]
    pub fn spin(&mut self) -> bool {
        let may_spin = self.rounds < DOUBLINGS && may_spin();
        if may_spin {
            self.step();
        }
        may_spin
    }

    /// One step.
    #[cfg(not(loom))]
    pub(crate) fn step(&mut self) {
        if self.rounds < DOUBLINGS {
            for _ in 0..FIRST_SPINS << self.rounds {
                hint::spin_loop();
            }
        } else if self.rounds < DOUBLINGS + YIELDS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(NAP);
        }
        self.rounds += 1;
    }

    /// One step.
    #[cfg(loom)]
    pub(crate) fn step(&mut self) {
        let _ = (FIRST_SPINS, DOUBLINGS, YIELDS, NAP, self.rounds, hint::spin_loop);
        loom::thread::yield_now();
    }
}

impl<T: ?Sized> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

/// The right to use the value; dropping it leaves.
pub struct LockGuard<'a, T: ?Sized> {
    lock: &'a Lock<T>,
    /// As good as an exclusive borrow of the value: shared between threads only if the value may
    /// be.
    value: PhantomData<&'a mut T>,
}

// SAFETY: `&LockGuard<T>` gives `&T` and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for LockGuard<'_, T> {}

impl<T: ?Sized> Deref for LockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard's thread is the only one inside.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for LockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard's thread is the only one inside, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard says that this thread is inside, and it is the last use.
        unsafe { self.lock.unlock() };
    }
}

impl<T: ?Sized> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn excludes() {
        let counter = Lock::new(0u64);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..50_000 {
                        *counter.lock() += 1;
                    }
                });
            }
        });
        assert_eq!(*counter.lock(), 200_000);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    /// Entering and leaving publish what was done inside: loom's cell reports any two accesses that
    /// are not ordered. The slow path only repeats the first step, which loom would explore without
    /// end.
    #[test]
    fn loom_lock_excludes_and_publishes() {
        fn add_one(counter: &Lock<UnsafeCell<u32>>) -> u32 {
            if !counter.try_enter() {
                return 0;
            }
            let guard = LockGuard { lock: counter, value: PhantomData };
            // SAFETY: inside.
            guard.with_mut(|n| unsafe { *n += 1 });
            1
        }
        loom::model(|| {
            let counter = Arc::new(Lock::new(UnsafeCell::new(0)));
            let other = counter.clone();
            let thread = loom::thread::spawn(move || add_one(&other) + add_one(&other));
            let added = add_one(&counter) + thread.join().unwrap();
            // SAFETY: inside.
            assert_eq!(counter.lock().with(|n| unsafe { *n }), added);
        });
    }
}
