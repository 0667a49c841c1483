//! The readers-writer lock with its value, and its guards. The unsafe code rests on one fact: a
//! read guard exists only while it is counted as a reader of `raw`, a write guard exists only while
//! it is the writer, and `raw` lets in either readers or one writer.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::mapped::{MappedRwLockReadGuard, MappedRwLockWriteGuard, ReadHold, WriteHold};
use super::queue::{Until, done_error};
use super::raw_rwlock::RawRwLock;
use crate::context::{Context, ContextError};

/// A lock that owns the value it guards and lets in many readers or one writer. Go: `sync.RWMutex`.
///
/// A goroutine that waits is parked, and its worker runs others meanwhile. As in Go, a waiting
/// writer keeps new readers out. When a writer leaves, all readers that wait go in before the next
/// writer. So neither side can starve the other. That is why a goroutine must not lock for reading
/// twice at a time: if a writer waits in between, the second read waits for the writer, and the
/// writer for the first read.
///
/// There is no poisoning: a panic unlocks.
///
/// ```
/// use goby::sync::RwLock;
///
/// static LIMITS: RwLock<Vec<u32>> = RwLock::new(Vec::new());
/// LIMITS.write().push(3);
/// let first = LIMITS.read();
/// let second = LIMITS.try_read().expect("readers share");
/// assert_eq!((first[0], second.len()), (3, 1));
/// ```
#[doc(alias("RWMutex", "sync.RWMutex"))]
pub struct RwLock<T: ?Sized> {
    pub(super) raw: RawRwLock,
    pub(super) value: UnsafeCell<T>,
}

// SAFETY: sharing the lock lets other threads have `&T` at the same time (T: Sync), or `&mut T` in
// turn (T: Send).
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    /// Makes an unlocked lock.
    ///
    /// ```
    /// let lock = goby::sync::RwLock::new(5);
    /// assert_eq!(*lock.read(), 5);
    /// ```
    pub const fn new(value: T) -> RwLock<T> {
        RwLock { raw: RawRwLock::new(), value: UnsafeCell::new(value) }
    }

    /// Takes the value out. It needs no lock, because nobody else has the lock.
    ///
    /// ```
    /// assert_eq!(goby::sync::RwLock::new(7).into_inner(), 7);
    /// ```
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until no writer is in or waiting, and locks for reading. The lock is held until the
    /// guard is dropped. Go: `RLock`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) while a writer is in or waits. To give up when a
    /// context is done use [`read_ctx`](RwLock::read_ctx).
    ///
    /// # Memory ordering
    ///
    /// What a writer did happens before a later `read` returns. What a reader did happens before a
    /// later `write` returns.
    ///
    /// ```
    /// let lock = goby::sync::RwLock::new("abc");
    /// assert_eq!(lock.read().len() + lock.read().len(), 6);
    /// ```
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.raw.read(Until::Forever);
        // SAFETY: `raw` was just locked for reading.
        unsafe { RwLockReadGuard::new(self) }
    }

    /// Locks for reading if that needs no waiting. Go: `TryRLock`.
    ///
    /// ```
    /// let lock = goby::sync::RwLock::new(());
    /// let writer = lock.write();
    /// assert!(lock.try_read().is_none());
    /// ```
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        // SAFETY: `raw` was just locked for reading.
        self.raw.try_read().then(|| unsafe { RwLockReadGuard::new(self) })
    }

    /// Waits to lock for reading until `ctx` is done.
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
    /// use goby::{Context, context::ContextError, sync::RwLock};
    ///
    /// let lock = RwLock::new(1);
    /// let writer = lock.write();
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// assert_eq!(lock.read_ctx(&ctx).unwrap_err(), ContextError::Canceled);
    /// ```
    pub fn read_ctx(&self, ctx: &Context) -> Result<RwLockReadGuard<'_, T>, ContextError> {
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        if !self.raw.read(Until::Done(ctx)) {
            return Err(done_error(ctx));
        }
        // SAFETY: `raw` was just locked for reading.
        Ok(unsafe { RwLockReadGuard::new(self) })
    }

    /// Waits until nobody is in, and locks for writing. The lock is held until the guard is
    /// dropped. Go: `Lock`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) while readers or another writer are in. New
    /// readers then wait behind it. To give up when a context is done use
    /// [`write_ctx`](RwLock::write_ctx).
    ///
    /// # Memory ordering
    ///
    /// What earlier readers and writers did happens before this returns.
    ///
    /// ```
    /// let lock = goby::sync::RwLock::new(String::new());
    /// lock.write().push_str("new");
    /// assert_eq!(&*lock.read(), "new");
    /// ```
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.raw.write(Until::Forever);
        // SAFETY: `raw` was just locked for writing.
        unsafe { RwLockWriteGuard::new(self) }
    }

    /// Locks for writing if nobody is in. Go: `TryLock`.
    ///
    /// ```
    /// let lock = goby::sync::RwLock::new(());
    /// let reader = lock.read();
    /// assert!(lock.try_write().is_none());
    /// ```
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        // SAFETY: `raw` was just locked for writing.
        self.raw.try_write().then(|| unsafe { RwLockWriteGuard::new(self) })
    }

    /// Waits to lock for writing until `ctx` is done.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done already or gets done before the lock was granted. Readers
    /// that waited behind this writer then go in.
    ///
    /// # Cancellation
    ///
    /// A lock granted at the moment of the cancellation is returned: it is never lost.
    ///
    /// ```
    /// use goby::{Context, context::ContextError, sync::RwLock};
    /// use std::time::Duration;
    ///
    /// let lock = RwLock::new(1);
    /// let reader = lock.read();
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// assert_eq!(lock.write_ctx(&ctx).unwrap_err(), ContextError::DeadlineExceeded);
    /// assert!(lock.try_read().is_some());
    /// ```
    pub fn write_ctx(&self, ctx: &Context) -> Result<RwLockWriteGuard<'_, T>, ContextError> {
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        if !self.raw.write(Until::Done(ctx)) {
            return Err(done_error(ctx));
        }
        // SAFETY: `raw` was just locked for writing.
        Ok(unsafe { RwLockWriteGuard::new(self) })
    }

    /// Returns the value. It needs no lock, because nobody else has the lock.
    ///
    /// ```
    /// let mut lock = goby::sync::RwLock::new(1);
    /// *lock.get_mut() += 1;
    /// assert_eq!(lock.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RwLock");
        match self.try_read() {
            Some(value) => out.field("value", &&*value),
            None => out.field("value", &format_args!("<locked>")),
        };
        out.finish_non_exhaustive()
    }
}

/// The right to read the value of an [`RwLock`]; dropping it unlocks.
///
/// It is Send and Sync if `T: Sync`: like a `&T`. (Leaving is a change of the lock's word that any
/// thread may make.)
///
/// ```compile_fail,E0277
/// fn needs_send<T: Send>(_: T) {}
/// let lock = goby::sync::RwLock::new(std::cell::Cell::new(1));
/// needs_send(lock.read());
/// ```
#[must_use = "the lock is given up again at once if the guard is not kept"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// Owns shared access: Send and Sync if `T: Sync`; see below.
    access: PhantomData<&'a T>,
}

// SAFETY: the guard gives out `&T` and nothing else, which T: Sync lets another thread have; `raw`
// lets any thread leave. (Without this, the field `lock` would ask for T: Send too.)
unsafe impl<T: ?Sized + Sync> Send for RwLockReadGuard<'_, T> {}
// SAFETY: a shared guard gives out `&T` and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// # Safety
    ///
    /// The caller is counted as a reader of `lock.raw`, and leaves unlocking it to the guard.
    #[inline]
    pub(super) unsafe fn new(lock: &'a RwLock<T>) -> RwLockReadGuard<'a, T> {
        RwLockReadGuard { lock, access: PhantomData }
    }

    /// The lock that `guard` came from.
    pub(super) fn lock(guard: &RwLockReadGuard<'a, T>) -> &'a RwLock<T> {
        guard.lock
    }

    /// Narrows the guard to a part of the value.
    ///
    /// ```
    /// use goby::sync::{RwLock, RwLockReadGuard};
    ///
    /// let pair = RwLock::new((1, "two"));
    /// let second = RwLockReadGuard::map(pair.read(), |pair| pair.1);
    /// assert_eq!(&*second, "two");
    /// ```
    pub fn map<U: ?Sized>(guard: RwLockReadGuard<'a, T>, f: impl FnOnce(&T) -> &U) -> MappedRwLockReadGuard<'a, U> {
        let part = NonNull::from(f(&guard));
        let hold = ReadHold(&guard.keep().raw);
        // SAFETY: it is a part of what the guard may read. The lock stays held, as it was for the
        // guard.
        unsafe { MappedRwLockReadGuard::new(part, hold) }
    }

    /// Narrows the guard to a part of the value, if there is one.
    ///
    /// # Errors
    ///
    /// The guard, if `f` returned `None`.
    ///
    /// ```
    /// use goby::sync::{RwLock, RwLockReadGuard};
    ///
    /// let list = RwLock::new(vec![1]);
    /// let guard = RwLockReadGuard::try_map(list.read(), |list| list.get(7)).unwrap_err();
    /// assert_eq!(*RwLockReadGuard::try_map(guard, |list| list.last()).unwrap(), 1);
    /// ```
    pub fn try_map<U: ?Sized>(
        guard: RwLockReadGuard<'a, T>,
        f: impl FnOnce(&T) -> Option<&U>,
    ) -> Result<MappedRwLockReadGuard<'a, U>, RwLockReadGuard<'a, T>> {
        match f(&guard).map(NonNull::from) {
            // SAFETY: as in `map`.
            Some(part) => Ok(unsafe { MappedRwLockReadGuard::new(part, ReadHold(&guard.keep().raw)) }),
            None => Err(guard),
        }
    }

    /// Returns the lock, which stays locked.
    fn keep(self) -> &'a RwLock<T> {
        ManuallyDrop::new(self).lock
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while the guard is counted as a reader no writer is in, so there is no `&mut` to
        // the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.unlock_read();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The right to change the value of an [`RwLock`]; dropping it unlocks.
///
/// It is Send if `T: Send` and Sync if `T: Sync`: like a `&mut T`.
#[must_use = "the lock is given up again at once if the guard is not kept"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// Owns the access, exclusively; see below.
    access: PhantomData<&'a mut T>,
}

// SAFETY: the guard gives out `&mut T`, which T: Send lets another thread have. While it exists
// nobody else has the value; afterwards the lock is as its other owners share it. `raw` lets any
// thread leave.
unsafe impl<T: ?Sized + Send> Send for RwLockWriteGuard<'_, T> {}
// SAFETY: a shared guard gives out `&T` and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// # Safety
    ///
    /// The caller is the writer of `lock.raw`, and leaves unlocking it to the guard.
    #[inline]
    pub(super) unsafe fn new(lock: &'a RwLock<T>) -> RwLockWriteGuard<'a, T> {
        RwLockWriteGuard { lock, access: PhantomData }
    }

    /// The lock that `guard` came from.
    pub(super) fn lock(guard: &RwLockWriteGuard<'a, T>) -> &'a RwLock<T> {
        guard.lock
    }

    /// Turns the writer into a reader. No writer is in between, and readers that wait go in with
    /// it.
    ///
    /// ```
    /// use goby::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(1);
    /// let mut writer = lock.write();
    /// *writer = 2;
    /// let reader = RwLockWriteGuard::downgrade(writer);
    /// assert_eq!((*reader, *lock.read()), (2, 2));
    /// ```
    pub fn downgrade(guard: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let lock = guard.keep();
        lock.raw.downgrade();
        // SAFETY: `raw` has just made the writer a reader.
        unsafe { RwLockReadGuard::new(lock) }
    }

    /// Narrows the guard to a part of the value.
    ///
    /// ```
    /// use goby::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let pair = RwLock::new((1, "two"));
    /// let mut first = RwLockWriteGuard::map(pair.write(), |pair| &mut pair.0);
    /// *first = 3;
    /// drop(first);
    /// assert_eq!(*pair.write(), (3, "two"));
    /// ```
    pub fn map<U: ?Sized>(
        mut guard: RwLockWriteGuard<'a, T>,
        f: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedRwLockWriteGuard<'a, U> {
        let part = NonNull::from(f(&mut guard));
        let hold = WriteHold(&guard.keep().raw);
        // SAFETY: it is a part of what the guard may change. The lock stays held, as it was for the
        // guard.
        unsafe { MappedRwLockWriteGuard::new(part, hold) }
    }

    /// Narrows the guard to a part of the value, if there is one.
    ///
    /// # Errors
    ///
    /// The guard, if `f` returned `None`.
    ///
    /// ```
    /// use goby::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let list = RwLock::new(vec![1]);
    /// let guard = RwLockWriteGuard::try_map(list.write(), |list| list.get_mut(7)).unwrap_err();
    /// assert_eq!(*RwLockWriteGuard::try_map(guard, |list| list.last_mut()).unwrap(), 1);
    /// ```
    pub fn try_map<U: ?Sized>(
        mut guard: RwLockWriteGuard<'a, T>,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedRwLockWriteGuard<'a, U>, RwLockWriteGuard<'a, T>> {
        match f(&mut guard).map(NonNull::from) {
            // SAFETY: as in `map`.
            Some(part) => Ok(unsafe { MappedRwLockWriteGuard::new(part, WriteHold(&guard.keep().raw)) }),
            None => Err(guard),
        }
    }

    /// Returns the lock, which stays locked.
    fn keep(self) -> &'a RwLock<T> {
        ManuallyDrop::new(self).lock
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard is the only way to the value while it exists, and is borrowed.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard is the only way to the value while it exists, and is borrowed
        // exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.unlock_write();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
