//! Guards that own a reference to their lock, so that they borrow from nobody. The unsafe code
//! rests on the same fact as that of the borrowing guards (`mutex`, `rwlock`): the guard exists
//! only while its lock is held for it.
//!
//! A guard unlocks before its reference is dropped, because that may drop the lock and its value.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::mutex::Mutex;
use super::queue::{Until, done_error};
use super::rwlock::RwLock;
use crate::context::{Context, ContextError};

/// What the three kinds have in common. `access` keeps the auto traits off: an `Arc` alone would
/// make a guard Sync for a value that is not.
macro_rules! owned_guard {
    ($(#[$doc:meta])* $name:ident of $lock:ident, $unlock:ident, if $($bound:ident)*) => {
        $(#[$doc])*
        #[must_use = "the lock is given up again at once if the guard is not kept"]
        pub struct $name<T: ?Sized> {
            lock: Arc<$lock<T>>,
            access: PhantomData<*mut T>,
        }

        // SAFETY: the thread that gets the guard gets access to the value, and may be the one that
        // drops the lock with the value.
        unsafe impl<T: ?Sized $(+ $bound)*> Send for $name<T> {}
        // SAFETY: a shared guard gives out `&T`, and clones of the `Arc`.
        unsafe impl<T: ?Sized + Send + Sync> Sync for $name<T> {}

        impl<T: ?Sized> $name<T> {
            /// # Safety
            ///
            /// The lock is held for the guard, and only the guard gives it up.
            pub(super) unsafe fn new(lock: Arc<$lock<T>>) -> $name<T> {
                $name { lock, access: PhantomData }
            }

            /// Returns the lock that the guard came from.
            pub fn lock(guard: &$name<T>) -> &Arc<$lock<T>> {
                &guard.lock
            }
        }

        impl<T: ?Sized> Deref for $name<T> {
            type Target = T;

            fn deref(&self) -> &T {
                // SAFETY: while the guard exists the lock is held for it, and a `&mut` is made only
                // through it.
                unsafe { &*self.lock.value.get() }
            }
        }

        impl<T: ?Sized> Drop for $name<T> {
            fn drop(&mut self) {
                self.lock.raw.$unlock();
            }
        }

        impl<T: ?Sized + fmt::Debug> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }

        impl<T: ?Sized + fmt::Display> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    };
}

owned_guard! {
    /// The right to use the value of a [`Mutex`] that the guard keeps alive; dropping it unlocks.
    /// From [`Mutex::lock_arc`].
    ///
    /// It is Send if `T: Send`, and Sync if `T: Sync` besides:
    ///
    /// ```compile_fail,E0277
    /// fn needs_sync<T: Sync>(_: T) {}
    /// let mutex = std::sync::Arc::new(goby::sync::Mutex::new(std::cell::Cell::new(1)));
    /// needs_sync(mutex.lock_arc());
    /// ```
    ArcMutexGuard of Mutex, unlock, if Send
}

owned_guard! {
    /// The right to read the value of an [`RwLock`] that the guard keeps alive; dropping it
    /// unlocks. From [`RwLock::read_arc`].
    ///
    /// It is Send and Sync if `T: Send + Sync`.
    ArcRwLockReadGuard of RwLock, unlock_read, if Send Sync
}

owned_guard! {
    /// The right to change the value of an [`RwLock`] that the guard keeps alive; dropping it
    /// unlocks. From [`RwLock::write_arc`].
    ///
    /// It is Send and Sync if `T: Send + Sync`.
    ArcRwLockWriteGuard of RwLock, unlock_write, if Send Sync
}

impl<T: ?Sized> DerefMut for ArcMutexGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the mutex is locked for the guard, which is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for ArcRwLockWriteGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard is the lock's one writer, and is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks as [`lock`](Mutex::lock) does, for a guard that keeps the mutex alive and borrows from
    /// nobody: it may be stored, returned, or sent to a goroutine.
    ///
    /// ```
    /// use goby::sync::Mutex;
    /// use std::sync::Arc;
    ///
    /// let total = Arc::new(Mutex::new(1));
    /// let mut guard = total.lock_arc();
    /// let adder = goby::go(move || *guard += 1);
    /// assert_eq!(*total.lock(), 2, "waits for the guard's end");
    /// adder.join().unwrap();
    /// ```
    pub fn lock_arc(self: &Arc<Self>) -> ArcMutexGuard<T> {
        self.raw.lock();
        // SAFETY: `raw` was just locked.
        unsafe { ArcMutexGuard::new(self.clone()) }
    }

    /// Locks as [`try_lock`](Mutex::try_lock) does, for a guard that keeps the mutex alive.
    ///
    /// ```
    /// let mutex = std::sync::Arc::new(goby::sync::Mutex::new(()));
    /// let guard = mutex.try_lock_arc();
    /// assert!(guard.is_some() && mutex.try_lock_arc().is_none());
    /// ```
    pub fn try_lock_arc(self: &Arc<Self>) -> Option<ArcMutexGuard<T>> {
        let is_locked = self.raw.try_lock();
        if !is_locked {
            goby_runtime::refused();
        }
        // SAFETY: `raw` was just locked.
        is_locked.then(|| unsafe { ArcMutexGuard::new(self.clone()) })
    }

    /// Locks as [`lock_ctx`](Mutex::lock_ctx) does, for a guard that keeps the mutex alive.
    ///
    /// # Errors
    ///
    /// As [`lock_ctx`](Mutex::lock_ctx).
    ///
    /// ```
    /// use goby::{Context, sync::Mutex};
    ///
    /// let mutex = std::sync::Arc::new(Mutex::new(1));
    /// assert_eq!(*mutex.lock_arc_ctx(&Context::background())?, 1);
    /// # Ok::<(), goby::context::ContextError>(())
    /// ```
    pub fn lock_arc_ctx(self: &Arc<Self>, ctx: &Context) -> Result<ArcMutexGuard<T>, ContextError> {
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        if !self.raw.lock_until(Until::Done(ctx)) {
            return Err(done_error(ctx));
        }
        // SAFETY: `raw` was just locked.
        Ok(unsafe { ArcMutexGuard::new(self.clone()) })
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Locks as [`read`](RwLock::read) does, for a guard that keeps the lock alive and borrows from
    /// nobody.
    ///
    /// ```
    /// use goby::sync::RwLock;
    /// use std::sync::Arc;
    ///
    /// let names = Arc::new(RwLock::new(vec!["ada"]));
    /// let guard = names.read_arc();
    /// let reader = goby::go(move || guard.len());
    /// assert_eq!(reader.join().unwrap(), 1);
    /// ```
    pub fn read_arc(self: &Arc<Self>) -> ArcRwLockReadGuard<T> {
        self.raw.read(Until::Forever);
        // SAFETY: `raw` was just locked for reading.
        unsafe { ArcRwLockReadGuard::new(self.clone()) }
    }

    /// Locks as [`try_read`](RwLock::try_read) does, for a guard that keeps the lock alive.
    ///
    /// ```
    /// let lock = std::sync::Arc::new(goby::sync::RwLock::new(1));
    /// assert_eq!(lock.try_read_arc().map(|guard| *guard), Some(1));
    /// ```
    pub fn try_read_arc(self: &Arc<Self>) -> Option<ArcRwLockReadGuard<T>> {
        // SAFETY: `raw` was just locked for reading.
        self.raw.try_read().then(|| unsafe { ArcRwLockReadGuard::new(self.clone()) })
    }

    /// Locks as [`read_ctx`](RwLock::read_ctx) does, for a guard that keeps the lock alive.
    ///
    /// # Errors
    ///
    /// As [`read_ctx`](RwLock::read_ctx).
    pub fn read_arc_ctx(self: &Arc<Self>, ctx: &Context) -> Result<ArcRwLockReadGuard<T>, ContextError> {
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        if !self.raw.read(Until::Done(ctx)) {
            return Err(done_error(ctx));
        }
        // SAFETY: `raw` was just locked for reading.
        Ok(unsafe { ArcRwLockReadGuard::new(self.clone()) })
    }

    /// Locks as [`write`](RwLock::write) does, for a guard that keeps the lock alive and borrows
    /// from nobody.
    ///
    /// ```
    /// use goby::sync::RwLock;
    /// use std::sync::Arc;
    ///
    /// let names = Arc::new(RwLock::new(vec!["ada"]));
    /// let mut guard = names.write_arc();
    /// goby::go(move || guard.push("grace")).join().unwrap();
    /// assert_eq!(names.read().len(), 2);
    /// ```
    pub fn write_arc(self: &Arc<Self>) -> ArcRwLockWriteGuard<T> {
        self.raw.write(Until::Forever);
        // SAFETY: `raw` was just locked for writing.
        unsafe { ArcRwLockWriteGuard::new(self.clone()) }
    }

    /// Locks as [`try_write`](RwLock::try_write) does, for a guard that keeps the lock alive.
    ///
    /// ```
    /// let lock = std::sync::Arc::new(goby::sync::RwLock::new(1));
    /// *lock.try_write_arc().expect("nobody is in") = 2;
    /// assert_eq!(*lock.read(), 2);
    /// ```
    pub fn try_write_arc(self: &Arc<Self>) -> Option<ArcRwLockWriteGuard<T>> {
        // SAFETY: `raw` was just locked for writing.
        self.raw.try_write().then(|| unsafe { ArcRwLockWriteGuard::new(self.clone()) })
    }

    /// Locks as [`write_ctx`](RwLock::write_ctx) does, for a guard that keeps the lock alive.
    ///
    /// # Errors
    ///
    /// As [`write_ctx`](RwLock::write_ctx).
    pub fn write_arc_ctx(self: &Arc<Self>, ctx: &Context) -> Result<ArcRwLockWriteGuard<T>, ContextError> {
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        if !self.raw.write(Until::Done(ctx)) {
            return Err(done_error(ctx));
        }
        // SAFETY: `raw` was just locked for writing.
        Ok(unsafe { ArcRwLockWriteGuard::new(self.clone()) })
    }
}
