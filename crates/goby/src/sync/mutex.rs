//! The mutex with its value, and its guard. The unsafe code rests on one fact: a [`MutexGuard`]
//! exists only while `raw` is held for it, and there is one guard at a time.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::mapped::{MappedMutexGuard, MutexHold};
use super::queue::{Until, done_error};
use super::raw_mutex::RawMutex;
use crate::context::{Context, ContextError};

/// A lock that owns the value it guards: one goroutine (or OS thread) at a time has the value. Go:
/// `sync.Mutex`.
///
/// A goroutine that waits for the lock is parked, and its worker runs others meanwhile. The lock
/// may be held across anything that parks: a receive, a sleep, another lock. Waiting is fair in
/// Go's way: newcomers may overtake until a waiter has waited for 1 ms; then the lock is handed
/// over in turn.
///
/// There is no poisoning: a panic unlocks. Locking twice in one goroutine deadlocks, and the
/// deadlock report says `sync.Mutex.Lock`.
///
/// ```
/// use goby::sync::{Mutex, WaitGroup};
/// use std::sync::Arc;
///
/// let total = Arc::new(Mutex::new(0));
/// let wg = WaitGroup::new();
/// for i in 1..=10 {
///     let total = total.clone();
///     wg.go(move || *total.lock() += i);
/// }
/// wg.wait();
/// assert_eq!(*total.lock(), 55);
/// ```
#[doc(alias = "sync.Mutex")]
pub struct Mutex<T: ?Sized> {
    pub(super) raw: RawMutex,
    pub(super) value: UnsafeCell<T>,
}

// SAFETY: sharing the mutex lets another thread have the value, exclusively and for a time. That
// amounts to sending the value.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// Makes an unlocked mutex.
    ///
    /// ```
    /// use goby::sync::Mutex;
    ///
    /// static HITS: Mutex<u64> = Mutex::new(0);
    /// *HITS.lock() += 1;
    /// assert_eq!(*HITS.lock(), 1);
    /// ```
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { raw: RawMutex::new(), value: UnsafeCell::new(value) }
    }

    /// Takes the value out. It needs no lock, because nobody else has the mutex.
    ///
    /// ```
    /// assert_eq!(goby::sync::Mutex::new(7).into_inner(), 7);
    /// ```
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the lock is free and takes it. The lock is held until the guard is dropped. Go:
    /// `Lock`, with `defer Unlock`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) while somebody else holds the lock. To give up
    /// when a context is done use [`lock_ctx`](Mutex::lock_ctx).
    ///
    /// # Memory ordering
    ///
    /// What was done under the lock happens before the next `lock` returns.
    ///
    /// ```
    /// let names = goby::sync::Mutex::new(vec!["ada"]);
    /// names.lock().push("grace");
    /// assert_eq!(names.lock().len(), 2);
    /// ```
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.raw.lock();
        // SAFETY: `raw` was just locked.
        unsafe { MutexGuard::new(self) }
    }

    /// Takes the lock if it is free at this moment. Go: `TryLock`.
    ///
    /// ```
    /// let mutex = goby::sync::Mutex::new(());
    /// let guard = mutex.try_lock();
    /// assert!(guard.is_some());
    /// assert!(mutex.try_lock().is_none());
    /// ```
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let is_locked = self.raw.try_lock();
        if !is_locked {
            goby_runtime::refused();
        }
        // SAFETY: `raw` was just locked.
        is_locked.then(|| unsafe { MutexGuard::new(self) })
    }

    /// Waits for the lock until `ctx` is done. Go has no counterpart; the usual stand-in is a
    /// channel of capacity 1.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done already or gets done before the lock was granted.
    ///
    /// # Cancellation
    ///
    /// A lock granted at the moment of the cancellation is returned: it is never lost.
    ///
    /// ```
    /// use goby::{Context, context::ContextError, sync::Mutex};
    ///
    /// let mutex = Mutex::new(1);
    /// let held = mutex.lock();
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// assert_eq!(mutex.lock_ctx(&ctx).unwrap_err(), ContextError::Canceled);
    /// drop(held);
    /// assert_eq!(*mutex.lock_ctx(&Context::background())?, 1);
    /// # Ok::<(), ContextError>(())
    /// ```
    pub fn lock_ctx(&self, ctx: &Context) -> Result<MutexGuard<'_, T>, ContextError> {
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        self.lock_until(Until::Done(ctx)).ok_or_else(|| done_error(ctx))
    }

    /// Waits for the lock for at most `timeout`; returns `None` if it was not free in that time.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let mutex = goby::sync::Mutex::new(());
    /// let held = mutex.lock();
    /// assert!(mutex.lock_timeout(Duration::from_millis(1)).is_none());
    /// drop(held);
    /// assert!(mutex.lock_timeout(Duration::from_millis(1)).is_some());
    /// ```
    pub fn lock_timeout(&self, timeout: Duration) -> Option<MutexGuard<'_, T>> {
        match goby_runtime::now().checked_add(timeout) {
            Some(deadline) => self.lock_deadline(deadline),
            None => Some(self.lock()),
        }
    }

    /// Waits for the lock until `deadline`; returns `None` if it was not free by then.
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// let mutex = goby::sync::Mutex::new(());
    /// assert!(mutex.lock_deadline(Instant::now()).is_some());
    /// ```
    pub fn lock_deadline(&self, deadline: Instant) -> Option<MutexGuard<'_, T>> {
        self.lock_until(Until::Deadline(deadline))
    }

    /// Returns the value. It needs no lock, because nobody else has the mutex.
    ///
    /// ```
    /// let mut mutex = goby::sync::Mutex::new(1);
    /// *mutex.get_mut() = 2;
    /// assert_eq!(mutex.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn lock_until(&self, until: Until<'_>) -> Option<MutexGuard<'_, T>> {
        // SAFETY: `raw` was just locked.
        self.raw.lock_until(until).then(|| unsafe { MutexGuard::new(self) })
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Mutex");
        match self.try_lock() {
            Some(value) => out.field("value", &&*value),
            None => out.field("value", &format_args!("<locked>")),
        };
        out.finish_non_exhaustive()
    }
}

/// The right to use the value of a [`Mutex`]; dropping it unlocks.
///
/// A guard may be sent to another goroutine or thread if `T: Send`, and shared if `T: Sync`. (std's
/// may not be sent: the thread that locked a pthread mutex has to unlock it. goby's lock belongs to
/// the owner of the guard.)
///
/// ```
/// let mutex = goby::sync::Mutex::new(1);
/// let mut guard = mutex.lock();
/// goby::scope(|s| {
///     s.go(move || *guard += 1);
/// });
/// assert_eq!(*mutex.lock(), 2);
/// ```
///
/// A guard of a value that is not `Sync` cannot be shared:
///
/// ```compile_fail,E0277
/// fn needs_sync<T: Sync>(_: T) {}
/// let mutex = goby::sync::Mutex::new(std::cell::Cell::new(1));
/// needs_sync(mutex.lock());
/// ```
#[must_use = "the mutex is unlocked again at once if the guard is not kept"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// Owns the access: Send if `T: Send`; see below for Sync.
    access: PhantomData<&'a mut T>,
}

// SAFETY: a shared guard gives out `&T` and nothing else. (Without this, the field `mutex` would
// ask for T: Send too.)
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// # Safety
    ///
    /// The caller holds `mutex.raw` and leaves unlocking it to the guard.
    #[inline]
    unsafe fn new(mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        MutexGuard { mutex, access: PhantomData }
    }

    /// The mutex that `guard` came from.
    pub(super) fn mutex(guard: &MutexGuard<'a, T>) -> &'a Mutex<T> {
        guard.mutex
    }

    /// Narrows the guard to a part of the value.
    ///
    /// ```
    /// use goby::sync::{Mutex, MutexGuard};
    ///
    /// let pair = Mutex::new((1, "two"));
    /// let mut first = MutexGuard::map(pair.lock(), |pair| &mut pair.0);
    /// *first = 3;
    /// drop(first);
    /// assert_eq!(*pair.lock(), (3, "two"));
    /// ```
    pub fn map<U: ?Sized>(mut guard: MutexGuard<'a, T>, f: impl FnOnce(&mut T) -> &mut U) -> MappedMutexGuard<'a, U> {
        let part = NonNull::from(f(&mut guard));
        let hold = MutexHold(&guard.keep().raw);
        // SAFETY: it is a part of what the guard may change. The lock stays held, as it was for the
        // guard.
        unsafe { MappedMutexGuard::new(part, hold) }
    }

    /// Narrows the guard to a part of the value, if there is one.
    ///
    /// # Errors
    ///
    /// The guard, if `f` returned `None`.
    ///
    /// ```
    /// use goby::sync::{Mutex, MutexGuard};
    ///
    /// let list = Mutex::new(vec![1]);
    /// let guard = MutexGuard::try_map(list.lock(), |list| list.get_mut(7)).unwrap_err();
    /// assert_eq!(*MutexGuard::try_map(guard, |list| list.last_mut()).unwrap(), 1);
    /// ```
    pub fn try_map<U: ?Sized>(
        mut guard: MutexGuard<'a, T>,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedMutexGuard<'a, U>, MutexGuard<'a, T>> {
        match f(&mut guard).map(NonNull::from) {
            // SAFETY: as in `map`.
            Some(part) => Ok(unsafe { MappedMutexGuard::new(part, MutexHold(&guard.keep().raw)) }),
            None => Err(guard),
        }
    }

    /// Returns the lock, which stays locked.
    fn keep(self) -> &'a Mutex<T> {
        ManuallyDrop::new(self).mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard says that the mutex is locked for it, and the only `&mut` to the value
        // is made through it.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard says that the mutex is locked for it, and it is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
