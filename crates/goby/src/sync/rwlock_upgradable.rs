//! The guard of a reader that may become the writer. The unsafe code rests on the same fact as that
//! of `rwlock`: the guard exists only while it is counted as a reader of `raw`.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use super::queue::{Until, done_error};
use super::rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::context::{Context, ContextError};

impl<T: ?Sized> RwLock<T> {
    /// Locks for reading, as [`read`](RwLock::read) does, as the one reader that may
    /// [upgrade](RwLockUpgradableReadGuard::upgrade).
    ///
    /// Plain readers may be in at the same time; writers and other upgradable readers may not.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) while another upgradable reader is in, or a writer
    /// is in or waits.
    ///
    /// ```
    /// use goby::sync::{RwLock, RwLockUpgradableReadGuard};
    ///
    /// let names = RwLock::new(vec!["ada"]);
    /// let guard = names.upgradable_read();
    /// assert!(names.try_read().is_some() && names.try_upgradable_read().is_none());
    /// if !guard.contains(&"grace") {
    ///     RwLockUpgradableReadGuard::upgrade(guard).push("grace"); // Nobody was in between.
    /// }
    /// assert_eq!(names.read().len(), 2);
    /// ```
    pub fn upgradable_read(&self) -> RwLockUpgradableReadGuard<'_, T> {
        self.raw.upgradable_read(Until::Forever);
        // SAFETY: `raw` was just locked for upgradable reading.
        unsafe { RwLockUpgradableReadGuard::new(self) }
    }

    /// Locks for upgradable reading if that needs no waiting.
    ///
    /// ```
    /// let lock = goby::sync::RwLock::new(());
    /// let writer = lock.write();
    /// assert!(lock.try_upgradable_read().is_none());
    /// ```
    pub fn try_upgradable_read(&self) -> Option<RwLockUpgradableReadGuard<'_, T>> {
        // SAFETY: `raw` was just locked for upgradable reading.
        self.raw.try_upgradable_read().then(|| unsafe { RwLockUpgradableReadGuard::new(self) })
    }

    /// Waits to lock for upgradable reading until `ctx` is done.
    ///
    /// # Errors
    ///
    /// As [`read_ctx`](RwLock::read_ctx).
    ///
    /// ```
    /// use goby::{Context, sync::RwLock};
    ///
    /// let lock = RwLock::new(1);
    /// assert_eq!(*lock.upgradable_read_ctx(&Context::background())?, 1);
    /// # Ok::<(), goby::context::ContextError>(())
    /// ```
    pub fn upgradable_read_ctx(&self, ctx: &Context) -> Result<RwLockUpgradableReadGuard<'_, T>, ContextError> {
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        if !self.raw.upgradable_read(Until::Done(ctx)) {
            return Err(done_error(ctx));
        }
        // SAFETY: `raw` was just locked for upgradable reading.
        Ok(unsafe { RwLockUpgradableReadGuard::new(self) })
    }
}

/// The right to read the value of an [`RwLock`], and to become its writer before any other;
/// dropping it unlocks.
///
/// It is Send and Sync if `T: Send + Sync`: like a `&T` that may become a `&mut T`.
#[must_use = "the lock is given up again at once if the guard is not kept"]
pub struct RwLockUpgradableReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// Keeps the auto traits off; see below.
    access: PhantomData<*mut T>,
}

// SAFETY: the guard gives out `&T` (T: Sync), and becomes one that gives out `&mut T` (T: Send).
// `raw` lets any thread leave.
unsafe impl<T: ?Sized + Send + Sync> Send for RwLockUpgradableReadGuard<'_, T> {}
// SAFETY: a shared guard gives out `&T` and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwLockUpgradableReadGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockUpgradableReadGuard<'a, T> {
    /// # Safety
    ///
    /// The caller is the upgradable reader of `lock.raw`, and leaves unlocking it to the guard.
    unsafe fn new(lock: &'a RwLock<T>) -> RwLockUpgradableReadGuard<'a, T> {
        RwLockUpgradableReadGuard { lock, access: PhantomData }
    }

    /// Returns the lock, which stays locked.
    fn keep(self) -> &'a RwLock<T> {
        ManuallyDrop::new(self).lock
    }

    /// Waits until the other readers have left, and becomes the writer. No writer was in between.
    ///
    /// New readers wait behind it.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) while other readers are in. It deadlocks if this
    /// goroutine is one of them.
    ///
    /// ```
    /// use goby::sync::{RwLock, RwLockUpgradableReadGuard};
    ///
    /// let lock = RwLock::new(1);
    /// *RwLockUpgradableReadGuard::upgrade(lock.upgradable_read()) += 1;
    /// assert_eq!(*lock.read(), 2);
    /// ```
    pub fn upgrade(guard: RwLockUpgradableReadGuard<'a, T>) -> RwLockWriteGuard<'a, T> {
        let lock = guard.keep();
        lock.raw.become_writer(Until::Forever);
        // SAFETY: `raw` has just made it the writer.
        unsafe { RwLockWriteGuard::new(lock) }
    }

    /// Becomes the writer if no other reader is in.
    ///
    /// # Errors
    ///
    /// The guard itself, if another reader is in.
    ///
    /// ```
    /// use goby::sync::{RwLock, RwLockUpgradableReadGuard};
    ///
    /// let lock = RwLock::new(1);
    /// let reader = lock.read();
    /// let guard = RwLockUpgradableReadGuard::try_upgrade(lock.upgradable_read()).unwrap_err();
    /// drop(reader);
    /// assert!(RwLockUpgradableReadGuard::try_upgrade(guard).is_ok());
    /// ```
    pub fn try_upgrade(
        guard: RwLockUpgradableReadGuard<'a, T>,
    ) -> Result<RwLockWriteGuard<'a, T>, RwLockUpgradableReadGuard<'a, T>> {
        if !guard.lock.raw.try_become_writer() {
            return Err(guard);
        }
        // SAFETY: `raw` has just made it the writer.
        Ok(unsafe { RwLockWriteGuard::new(guard.keep()) })
    }

    /// Waits to become the writer until `ctx` is done.
    ///
    /// # Errors
    ///
    /// The guard itself and the context's error, if it is done already or gets done before the
    /// others have left.
    ///
    /// # Cancellation
    ///
    /// A grant at the moment of the cancellation is returned: it is never lost. Readers that waited
    /// behind it then go in.
    ///
    /// ```
    /// use goby::{Context, context::ContextError, sync::{RwLock, RwLockUpgradableReadGuard}};
    /// use std::time::Duration;
    ///
    /// let lock = RwLock::new(1);
    /// let reader = lock.read();
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// let (guard, error) = RwLockUpgradableReadGuard::upgrade_ctx(lock.upgradable_read(), &ctx).unwrap_err();
    /// assert_eq!((*guard, error), (1, ContextError::DeadlineExceeded));
    /// ```
    pub fn upgrade_ctx(
        guard: RwLockUpgradableReadGuard<'a, T>,
        ctx: &Context,
    ) -> Result<RwLockWriteGuard<'a, T>, (RwLockUpgradableReadGuard<'a, T>, ContextError)> {
        if let Some(error) = ctx.err() {
            return Err((guard, error));
        }
        if !guard.lock.raw.become_writer(Until::Done(ctx)) {
            return Err((guard, done_error(ctx)));
        }
        // SAFETY: `raw` has just made it the writer.
        Ok(unsafe { RwLockWriteGuard::new(guard.keep()) })
    }

    /// Gives up the right to upgrade, and goes on as a plain reader.
    ///
    /// ```
    /// use goby::sync::{RwLock, RwLockUpgradableReadGuard};
    ///
    /// let lock = RwLock::new(1);
    /// let reader = RwLockUpgradableReadGuard::downgrade(lock.upgradable_read());
    /// assert!(lock.try_upgradable_read().is_some());
    /// assert_eq!(*reader, 1);
    /// ```
    pub fn downgrade(guard: RwLockUpgradableReadGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let lock = guard.keep();
        lock.raw.forgo_upgrade();
        // SAFETY: it is counted as a reader still.
        unsafe { RwLockReadGuard::new(lock) }
    }
}

impl<T: ?Sized> Deref for RwLockUpgradableReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: while the guard is counted as a reader no writer is in, so there is no `&mut` to
        // the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockUpgradableReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw.unlock_upgradable();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockUpgradableReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockUpgradableReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
